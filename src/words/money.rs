//! Money: exact integers, never a float.
//!
//! The unit is a trillionth of a dollar, so that the cheapest cached token on the market, and a
//! thousandth of it, is still a whole number.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::tokens::Tokens;

/// Decimals of a dollar that an amount holds.
const DECIMALS: usize = 12;
const PICODOLLARS: u128 = 10u128.pow(DECIMALS as u32);

/// An amount of US dollars. Sums that no wallet could hold stop at the largest amount.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(u128);

impl Usd {
    pub const ZERO: Usd = Usd(0);

    pub const fn from_picodollars(amount: u128) -> Self {
        Usd(amount)
    }

    pub const fn picodollars(self) -> u128 {
        self.0
    }

    /// Reads an amount in dollars, such as `12.50`, `0.0001` or `1e-3`.
    pub fn parse(text: &str) -> Result<Self, NotMoney> {
        scaled(text, DECIMALS as i32).map(Usd)
    }

    /// Returns the difference, or nothing where `other` is more.
    pub fn less(self, other: Usd) -> Usd {
        Usd(self.0.saturating_sub(other.0))
    }

    pub fn times(self, factor: u64) -> Usd {
        Usd(self.0.saturating_mul(u128::from(factor)))
    }

    /// Returns `numerator` of `denominator` equal parts, rounded down.
    pub fn share(self, numerator: u64, denominator: u64) -> Usd {
        let (numerator, denominator) = (u128::from(numerator), u128::from(denominator.max(1)));
        // The two halves of the product keep amounts near the largest from overflowing.
        let whole = (self.0 / denominator).saturating_mul(numerator);
        let rest = (self.0 % denominator) * numerator / denominator;
        Usd(whole.saturating_add(rest))
    }

    /// Returns the amount in dollars for statistics, where exactness has no meaning.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / PICODOLLARS as f64
    }

    /// Returns the nearest amount to a statistic; nothing for what is no amount.
    pub fn nearest(dollars: f64) -> Usd {
        Usd((dollars * PICODOLLARS as f64).round().max(0.0) as u128)
    }

    /// Returns the amount as a JSON number with every decimal.
    pub fn to_json(self) -> Box<RawValue> {
        RawValue::from_string(self.to_string()).expect("a decimal is JSON")
    }
}

/// The exact decimal, without zeros at its end: `0.00003585`.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / PICODOLLARS, self.0 % PICODOLLARS);
        if part == 0 {
            return write!(f, "{whole}");
        }
        let decimals = format!("{part:0DECIMALS$}");
        write!(f, "{whole}.{}", decimals.trim_end_matches('0'))
    }
}

impl fmt::Debug for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${self}")
    }
}

impl Add for Usd {
    type Output = Usd;
    fn add(self, other: Usd) -> Usd {
        Usd(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Usd) {
        *self = *self + other;
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Usd>>(amounts: I) -> Usd {
        amounts.fold(Usd::ZERO, Add::add)
    }
}

/// On disk an amount is its decimal text: JSON numbers pass through floats in many readers.
impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Usd::parse(&text).map_err(D::Error::custom)
    }
}

/// The price of one token, in trillionths of a dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

impl Rate {
    /// Reads a price in dollars per million tokens, such as `0.15`.
    pub fn per_million(text: &str) -> Result<Self, NotMoney> {
        Self::of(scaled(text, DECIMALS as i32 - 6)?)
    }

    /// Reads a price in dollars per token, such as `1.5e-07`.
    pub fn per_token(text: &str) -> Result<Self, NotMoney> {
        Self::of(scaled(text, DECIMALS as i32)?)
    }

    fn of(picodollars: u128) -> Result<Self, NotMoney> {
        u64::try_from(picodollars)
            .map(Rate)
            .map_err(|_| NotMoney::TooLarge)
    }

    /// Returns the price of a million tokens.
    pub fn million(self) -> Usd {
        self.times(Tokens(1_000_000))
    }

    pub fn times(self, tokens: Tokens) -> Usd {
        Usd(u128::from(self.0) * u128::from(tokens.0))
    }
}

/// Why a text is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotMoney {
    NoNumber,
    Negative,
    TooLarge,
}

impl fmt::Display for NotMoney {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotMoney::NoNumber => "it is not a number",
            NotMoney::Negative => "it is negative",
            NotMoney::TooLarge => "it is too large",
        })
    }
}

impl std::error::Error for NotMoney {}

/// Reads a decimal number times ten to the power of `scale`, rounded to the nearest whole; what
/// is above zero never becomes zero.
fn scaled(text: &str, scale: i32) -> Result<u128, NotMoney> {
    let text = text.trim();
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            let exponent: i32 = exponent.parse().map_err(|_| NotMoney::NoNumber)?;
            (mantissa, exponent)
        }
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{part}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NotMoney::NoNumber);
    }
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    if negative {
        return Err(NotMoney::Negative);
    }
    let shift = i64::from(exponent) + i64::from(scale) - part.len() as i64;
    shifted(digits, shift)
}

/// Multiplies a whole number above zero by ten to the power of `shift`.
fn shifted(digits: &str, shift: i64) -> Result<u128, NotMoney> {
    let length = digits.len() as i64 + shift;
    if length > 38 {
        return Err(NotMoney::TooLarge);
    }
    if length < 0 {
        return Ok(1);
    }
    let kept = &digits[..digits.len().min(length as usize)];
    let padding = length as usize - kept.len();
    let number: u128 = match kept {
        "" => 0,
        _ => kept.parse().map_err(|_| NotMoney::TooLarge)?,
    };
    let rounds_up = digits
        .as_bytes()
        .get(kept.len())
        .is_some_and(|next| *next >= b'5');
    let number = number * 10u128.pow(padding as u32) + u128::from(rounds_up);
    Ok(number.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(text: &str) -> Usd {
        Usd::parse(text).unwrap()
    }

    #[test]
    fn amounts_read_and_print_exactly() {
        for (text, printed) in [
            ("0", "0"),
            ("-0.0", "0"),
            ("12.50", "12.5"),
            ("+.5", "0.5"),
            ("7.", "7"),
            ("0.00003585", "0.00003585"),
            ("3.585e-5", "0.00003585"),
            ("1E3", "1000"),
            ("0.000000000001", "0.000000000001"),
            ("0.0000000000015", "0.000000000002"),
            ("1e-300", "0.000000000001"),
            ("99999999999999999999999", "99999999999999999999999"),
        ] {
            assert_eq!(usd(text).to_string(), printed, "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for (text, why) in [
            ("", NotMoney::NoNumber),
            ("NaN", NotMoney::NoNumber),
            ("inf", NotMoney::NoNumber),
            ("1,000", NotMoney::NoNumber),
            ("$5", NotMoney::NoNumber),
            ("1e", NotMoney::NoNumber),
            ("--1", NotMoney::NoNumber),
            ("-1", NotMoney::Negative),
            ("-1e-400", NotMoney::Negative),
            ("1e99", NotMoney::TooLarge),
            ("1e999999999999", NotMoney::NoNumber),
        ] {
            assert_eq!(Usd::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_price_is_the_same_by_token_and_by_million() {
        for (token, million) in [
            ("1.5e-07", "0.15"),
            ("3.75e-08", "0.0375"),
            ("0.00001", "10"),
            ("2.7500000000000004e-06", "2.75"),
        ] {
            assert_eq!(Rate::per_token(token), Rate::per_million(million));
        }
        assert_eq!(
            Rate::per_million("0.0375").unwrap().million(),
            usd("0.0375")
        );
    }

    #[test]
    fn a_million_small_amounts_sum_up_without_drift() {
        let sum: Usd = (0..1_000_000).map(|_| usd("0.0000001")).sum();
        assert_eq!(sum, usd("0.1"));
    }

    #[test]
    fn the_largest_amounts_saturate() {
        let most = Usd::from_picodollars(u128::MAX);
        assert_eq!(most + usd("1"), most);
        assert_eq!(most.times(2), most);
        assert_eq!(most.share(1, 1), most);
        assert_eq!(usd("5").share(80, 100), usd("4"));
        assert_eq!(usd("1").less(usd("2")), Usd::ZERO);
    }

    #[test]
    fn an_amount_on_disk_is_its_decimal_text() {
        let text = serde_json::to_string(&usd("0.1")).unwrap();
        assert_eq!(text, r#""0.1""#);
        assert_eq!(serde_json::from_str::<Usd>(&text).unwrap(), usd("0.1"));
        assert!(serde_json::from_str::<Usd>(r#""-1""#).is_err());
        assert_eq!(usd("0.1").to_json().get(), "0.1");
    }
}
