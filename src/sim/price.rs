//! Prices: what each model charges, and money as whole numbers, so that no sum drifts.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{AddAssign, Sub};

use serde::{Serialize, Serializer};

use super::answer::Usage;
use super::settings::{SpecError, unknown_key};

/// Pico-dollars in a dollar.
const DOLLAR: u128 = 1_000_000_000_000;

/// How many decimals a price in USD per 1M tokens has at most: the last one is one pico-dollar
/// per token.
const DECIMALS: usize = 6;

/// The highest price, in USD per 1M tokens.
const MAX_DOLLARS: u64 = 1_000_000;

/// An amount of money in pico-dollars; as JSON a string, because readers of numbers round them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PicoDollars(pub u128);

impl PicoDollars {
    /// Writes the amount in dollars, with as many decimals as it has.
    pub fn usd(self) -> String {
        let (dollars, rest) = (self.0 / DOLLAR, self.0 % DOLLAR);
        let decimals = format!("{rest:012}");
        match decimals.trim_end_matches('0') {
            "" => dollars.to_string(),
            decimals => format!("{dollars}.{decimals}"),
        }
    }
}

impl AddAssign for PicoDollars {
    fn add_assign(&mut self, other: PicoDollars) {
        self.0 += other.0;
    }
}

impl Sub for PicoDollars {
    type Output = PicoDollars;

    fn sub(self, other: PicoDollars) -> PicoDollars {
        PicoDollars(self.0 - other.0)
    }
}

impl fmt::Display for PicoDollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for PicoDollars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What one model charges, in pico-dollars per token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    pub input: u64,
    pub output: u64,
    /// For the part of the prompt that was cached.
    pub cached: u64,
}

impl Price {
    fn cost(&self, usage: Usage) -> PicoDollars {
        let cost = |tokens: u64, price: u64| u128::from(tokens) * u128::from(price);
        PicoDollars(
            cost(usage.prompt - usage.cached, self.input)
                + cost(usage.cached, self.cached)
                + cost(usage.completion, self.output),
        )
    }
}

/// The price list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prices {
    /// For models without a price of their own; without it they are free.
    pub general: Option<Price>,
    /// By the name that requests use.
    pub models: BTreeMap<String, Price>,
}

impl Prices {
    /// Returns what this use of a model costs.
    pub(super) fn cost(&self, model: &str, usage: Usage) -> PicoDollars {
        let price = self.models.get(model).or(self.general.as_ref());
        price.map_or_else(PicoDollars::default, |price| price.cost(usage))
    }

    /// Reads those pairs of a spec whose keys start with `price`.
    pub(super) fn read(pairs: &[(&str, &str)]) -> Result<Prices, SpecError> {
        let mut quotes: BTreeMap<Option<&str>, Quote> = BTreeMap::new();
        for &(key, value) in pairs {
            let (model, part) = place(key).ok_or_else(|| unknown_key(key))?;
            let price = per_token(value).ok_or_else(|| not_a_price(key, value))?;
            quotes.entry(model).or_default().set(part, price);
        }
        let mut prices = Prices::default();
        for (model, quote) in quotes {
            let price = quote.price(model)?;
            match model {
                None => prices.general = Some(price),
                Some(model) => {
                    prices.models.insert(model.to_owned(), price);
                }
            }
        }
        Ok(prices)
    }
}

/// Which tokens a price is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Input,
    Output,
    Cached,
}

impl Part {
    const ALL: [Part; 3] = [Part::Input, Part::Output, Part::Cached];

    fn name(self) -> &'static str {
        match self {
            Part::Input => "in",
            Part::Output => "out",
            Part::Cached => "cached",
        }
    }

    fn named(name: &str) -> Option<Part> {
        Part::ALL.into_iter().find(|part| part.name() == name)
    }

    /// Returns the key that sets it.
    fn key(self, model: Option<&str>) -> String {
        let name = self.name();
        match model {
            None => format!("price-{name}"),
            Some(model) => format!("price.{model}.{name}"),
        }
    }
}

/// Returns what a key such as `price-in` or `price.openai/gpt-4.1.in` sets. The model's name
/// is what stands between the first dot and the last.
fn place(key: &str) -> Option<(Option<&str>, Part)> {
    if let Some(name) = key.strip_prefix("price-") {
        return Some((None, Part::named(name)?));
    }
    let (model, name) = key.strip_prefix("price.")?.rsplit_once('.')?;
    let part = Part::named(name)?;
    (!model.is_empty()).then_some((Some(model), part))
}

/// Reads decimal text in USD per 1M tokens, of which the sixth decimal is one pico-dollar per
/// token.
fn per_token(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) {
        return None;
    }
    let decimals = decimals.trim_end_matches('0');
    if decimals.len() > DECIMALS {
        return None;
    }
    let one = 10_u64.pow(DECIMALS as u32);
    let whole: u64 = whole.parse().ok().filter(|whole| *whole <= MAX_DOLLARS)?;
    let decimals: u64 = format!("{decimals:0<DECIMALS$}").parse().ok()?;
    Some(whole * one + decimals).filter(|price| *price <= MAX_DOLLARS * one)
}

fn not_a_price(key: &str, value: &str) -> SpecError {
    SpecError(format!(
        "`{key}={value}`: `{value}` is not a price in USD per 1M tokens, such as 0.15, from 0 to \
         {MAX_DOLLARS} with {DECIMALS} decimals at most"
    ))
}

/// What a spec says of one price.
#[derive(Default)]
struct Quote([Option<u64>; Part::ALL.len()]);

impl Quote {
    fn set(&mut self, part: Part, price: u64) {
        self.0[part as usize] = Some(price);
    }

    /// Completes the price: a prompt and its answer both cost something, or the bill is wrong.
    fn price(&self, model: Option<&str>) -> Result<Price, SpecError> {
        let [input, output, cached] = self.0;
        let need = |part, price: Option<u64>| price.ok_or_else(|| self.lacks(part, model));
        let input = need(Part::Input, input)?;
        Ok(Price {
            input,
            output: need(Part::Output, output)?,
            cached: cached.unwrap_or(input),
        })
    }
    fn lacks(&self, part: Part, model: Option<&str>) -> SpecError {
        let mut parts = Part::ALL.into_iter();
        let given = parts.find(|part| self.0[*part as usize].is_some());
        let given = given.expect("a quote begins with a price").key(model);
        SpecError(format!("`{given}` needs `{}` beside it", part.key(model)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Prices {
        Prices::read(pairs).unwrap()
    }

    fn error(pairs: &[(&str, &str)]) -> String {
        Prices::read(pairs).unwrap_err().to_string()
    }

    fn usage(prompt: u64, cached: u64, completion: u64) -> Usage {
        Usage {
            prompt,
            cached,
            completion,
            reasoning: 0,
        }
    }

    #[test]
    fn prices_are_read_exactly() {
        let cases = [
            ("0", 0),
            ("0.15", 150_000),
            ("0.075", 75_000),
            ("2.50", 2_500_000),
            ("0.000001", 1),
            ("0.1500000000", 150_000),
            ("1000000", 1_000_000_000_000),
            ("999999.999999", 999_999_999_999),
        ];
        for (text, price) in cases {
            assert_eq!(per_token(text), Some(price), "{text}");
        }
    }

    #[test]
    fn what_is_no_price_is_named() {
        let cases = [
            "",
            "-1",
            "-0",
            "+1",
            "NaN",
            "inf",
            "1e3",
            "1.",
            ".5",
            "1.2.3",
            "0x1",
            "1_000",
            "$1",
            "1 000",
            "0.0000001",
            "1000000.000001",
            "99999999999999999999",
            "٣",
        ];
        for text in cases {
            let error = error(&[("price-in", text), ("price-out", "1")]);
            let start = format!("`price-in={text}`: `{text}` is not a price in USD per 1M tokens");
            assert!(error.starts_with(&start), "{error}");
        }
    }

    #[test]
    fn half_a_price_names_the_other_half() {
        assert_eq!(
            error(&[("price-in", "1")]),
            "`price-in` needs `price-out` beside it"
        );
        assert_eq!(
            error(&[("price-cached", "1")]),
            "`price-cached` needs `price-in` beside it"
        );
        assert_eq!(
            error(&[("price.a/b.c.out", "1"), ("price.x.in", "1")]),
            "`price.a/b.c.out` needs `price.a/b.c.in` beside it"
        );
    }

    #[test]
    fn keys_that_are_no_price_are_unknown() {
        for key in [
            "price",
            "price-total",
            "price.in",
            "price..in",
            "price.m.total",
        ] {
            let error = error(&[(key, "1")]);
            assert!(
                error.starts_with(&format!("unknown key `{key}`")),
                "{error}"
            );
        }
    }

    #[test]
    fn model_pays_its_own_price() {
        let prices = read(&[
            ("price-in", "2"),
            ("price-out", "8"),
            ("price.openai/gpt-4.1-mini.in", "0.4"),
            ("price.openai/gpt-4.1-mini.out", "1.6"),
        ]);
        let cost = |model| prices.cost(model, usage(10, 0, 1)).usd();
        assert_eq!(cost("openai/gpt-4.1-mini"), "0.0000056");
        assert_eq!(cost("openai/gpt-4.1"), "0.000028");
    }

    #[test]
    fn unpriced_model_is_free() {
        let prices = read(&[("price.a.in", "2"), ("price.a.out", "8")]);
        assert_eq!(prices.cost("b", usage(10, 0, 1)), PicoDollars(0));
    }

    #[test]
    fn cached_part_has_its_price() {
        let prices = read(&[("price-in", "4"), ("price-out", "8"), ("price-cached", "1")]);
        assert_eq!(prices.cost("m", usage(7, 3, 2)).usd(), "0.000035");
        let plain = read(&[("price-in", "4"), ("price-out", "8")]);
        assert_eq!(plain.cost("m", usage(7, 3, 2)).usd(), "0.000044");
    }

    #[test]
    fn dollars_have_the_decimals_they_need() {
        let cases = [
            (0, "0"),
            (1, "0.000000000001"),
            (150_000, "0.00000015"),
            (1_000_000_000_000, "1"),
            (12_340_000_000_000, "12.34"),
            (u128::MAX, "340282366920938463463374607.431768211455"),
        ];
        for (amount, text) in cases {
            assert_eq!(PicoDollars(amount).usd(), text);
        }
    }
}
