//! Limits and guards as typed, checked.

use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::Result;

use crate::cli::args::RunArgs;
use crate::cli::refusal::Refusal;
use crate::engine;
use crate::words::human::typed;

/// Returns what the engine is told to keep to.
pub fn engine_settings(args: &RunArgs, usual_concurrency: usize) -> Result<engine::Settings> {
    Ok(engine::Settings {
        concurrency: args
            .concurrency
            .map_or(usual_concurrency, |typed| typed as usize),
        rpm: args.rpm.and_then(NonZeroU32::new),
        tpm: args.tpm.and_then(NonZeroU32::new),
        max_retries: args.max_retries,
        timeout: seconds("--timeout", args.timeout)?,
        item_timeout: args
            .item_timeout
            .map(|time| seconds("--item-timeout", time))
            .transpose()?,
        breaker: NonZeroU32::new(args.breaker),
        max_outage: seconds("--max-outage", args.max_outage)?,
        max_error_rate: args.max_error_rate.as_deref().map(error_rate).transpose()?,
        seed: fastrand::u64(..),
        ..engine::Settings::default()
    })
}

fn seconds(flag: &str, number: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(number)
        .ok()
        .filter(|time| !time.is_zero() && *time <= Duration::from_secs(86_400))
        .ok_or_else(|| {
            Refusal::new(format!("{flag} {} is not a time in seconds", typed(number)))
                .hint("more than 0 and at most 86400")
                .into()
        })
}

/// Reads a part of the whole: `5%`, `0.05`, or a number of percent above 1.
fn error_rate(typed: &str) -> Result<f64> {
    let refusal = |why: &str| {
        Refusal::new(format!("--max-error-rate {typed}: {why}"))
            .hint("a part of all items, such as 5% or 0.05")
    };
    let (number, percent) = match typed.trim().strip_suffix('%') {
        Some(number) => (number, true),
        None => (typed, false),
    };
    let number: f64 = number
        .trim()
        .parse()
        .map_err(|_| refusal("it is not a number"))?;
    if number == 1.0 && !percent {
        return Err(refusal("is that 1% or all of them?")
            .hint("1% or 100%")
            .into());
    }
    let rate = match percent || number > 1.0 {
        true => number / 100.0,
        false => number,
    };
    // Not a number is neither.
    if !(rate > 0.0 && rate <= 1.0) {
        return Err(refusal("it must be above 0 and at most 100%").into());
    }
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T>(result: Result<T>) -> String {
        match result {
            Ok(_) => panic!("it was not refused"),
            Err(error) => error.downcast::<Refusal>().unwrap().what,
        }
    }

    #[test]
    fn an_error_rate_is_a_percentage_or_a_part() {
        for (typed, rate) in [
            ("5%", 0.05),
            ("5", 0.05),
            ("0.05", 0.05),
            (" 2.5 %", 0.025),
            ("1%", 0.01),
            ("100%", 1.0),
            ("100", 1.0),
        ] {
            assert!((error_rate(typed).unwrap() - rate).abs() < 1e-12, "{typed}");
        }
        for typed in [
            "0", "0%", "-1", "-5%", "nan", "inf", "100.1", "101%", "five", "", "%",
        ] {
            assert!(
                refused(error_rate(typed)).contains("--max-error-rate"),
                "{typed}"
            );
        }
        assert!(refused(error_rate("1")).contains("1% or all"));
    }

    #[test]
    fn a_time_is_more_than_nothing_and_at_most_a_day() {
        assert_eq!(
            seconds("--timeout", 0.5).unwrap(),
            Duration::from_millis(500)
        );
        for typed in [0.0, -1.0, f64::NAN, f64::INFINITY, 86_401.0] {
            assert!(refused(seconds("--max-outage", typed)).starts_with("--max-outage"));
        }
        for (typed, shown) in [(1e300, "1e300"), (-1e-300, "-1e-300")] {
            let what = refused(seconds("--timeout", typed));
            assert_eq!(what, format!("--timeout {shown} is not a time in seconds"));
        }
    }
}
