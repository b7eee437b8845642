//! Settings of the simulator, and the one-line spec that people type for them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::faults::{Fault, Faults};
use super::price::Prices;
use super::span;

/// The default 99th percentile of the latency, in medians.
const P99_MEDIANS: u32 = 4;

/// The longest answer anyone can ask for by median, in tokens.
const MAX_OUTPUT_TOKENS: u64 = 100_000;

/// The largest output limit and the longest reasoning, in tokens: more than any model has.
const MAX_LIMIT: u64 = 1_000_000;

/// The widest spread: at 5, one answer in six is 148 times the median or longer.
const MAX_SPREAD: f64 = 5.0;

/// The keys of a spec that are not fault names.
const KEYS: &str = "seed, latency, latency-p99, rpm, tpm, max-in-flight, output-tokens, \
    output-spread, max-output, reasoning, price-in, price-out, price-cached, price.MODEL.in, \
    price.MODEL.out, price.MODEL.cached, cached, ledger";

/// Everything that shapes the simulator's behavior.
#[derive(Clone, PartialEq)]
pub struct SimSettings {
    /// Decides which requests meet a fault and how long each one takes.
    pub seed: u64,
    /// Median time until an answer; zero answers at once, whatever `latency_p99` says.
    pub latency: Duration,
    /// 99th percentile of that time; the law between the two is log-normal.
    pub latency_p99: Duration,
    /// Requests per minute.
    pub rpm: Option<u64>,
    /// Tokens per minute: estimated prompt plus the longest allowed answer.
    pub tpm: Option<u64>,
    /// How much of a limit can be used at one moment, as time: one second's worth by default,
    /// because providers enforce a limit of 60,000 a minute as 1,000 a second.
    pub burst: Duration,
    /// Requests served at a time; one more is answered 503.
    pub max_in_flight: Option<u32>,
    /// Median length of an answer, in tokens.
    pub output_tokens: u64,
    /// Spread of the answer's length: the standard deviation of its logarithm.
    pub output_spread: f64,
    /// The longest answer of any model, in tokens, whatever the request allows.
    pub max_output: u64,
    /// Hidden tokens that each choice costs beside its visible ones.
    pub reasoning: u64,
    /// Share of requests of whose prompt half was at hand from an earlier one.
    pub cached: f64,
    /// What answers cost; without prices they are free.
    pub prices: Prices,
    pub faults: Faults,
    /// Keeps every charge, about 150 bytes each, for `GET /sim/ledger`.
    pub ledger: bool,
    /// The only bearer key that is let in; without it every caller is.
    pub api_key: Option<String>,
    /// The models on offer; an empty list takes any name.
    pub models: Vec<String>,
}

impl Default for SimSettings {
    fn default() -> SimSettings {
        let latency = Duration::from_millis(200);
        SimSettings {
            seed: 0,
            latency,
            latency_p99: latency * P99_MEDIANS,
            rpm: None,
            tpm: None,
            burst: Duration::from_secs(1),
            max_in_flight: None,
            output_tokens: 40,
            output_spread: 0.5,
            max_output: 16_384,
            reasoning: 0,
            cached: 0.0,
            prices: Prices::default(),
            faults: Faults::default(),
            ledger: false,
            api_key: None,
            models: Vec::new(),
        }
    }
}

/// Written by hand for the key's sake: someone will pass a real one.
impl fmt::Debug for SimSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimSettings")
            .field("seed", &self.seed)
            .field("latency", &self.latency)
            .field("latency_p99", &self.latency_p99)
            .field("rpm", &self.rpm)
            .field("tpm", &self.tpm)
            .field("burst", &self.burst)
            .field("max_in_flight", &self.max_in_flight)
            .field("output_tokens", &self.output_tokens)
            .field("output_spread", &self.output_spread)
            .field("max_output", &self.max_output)
            .field("reasoning", &self.reasoning)
            .field("cached", &self.cached)
            .field("prices", &self.prices)
            .field("faults", &self.faults)
            .field("ledger", &self.ledger)
            .field("api_key", &self.api_key.as_ref().map(|_| "(redacted)"))
            .field("models", &self.models)
            .finish()
    }
}

/// What is wrong with a spec, in words that name the bad piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError(pub(super) String);

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SpecError {}

impl FromStr for SimSettings {
    type Err = SpecError;

    /// Reads `latency=50ms,rpm=600,500=0.01`; the empty text means the defaults.
    fn from_str(spec: &str) -> Result<SimSettings, SpecError> {
        let mut settings = SimSettings::default();
        let mut latency_p99 = None;
        let mut prices = Vec::new();
        for (key, value) in pairs(spec)? {
            match key {
                "seed" => settings.seed = number(key, value, 0, u64::MAX)?,
                "latency" => settings.latency = duration(key, value)?,
                "latency-p99" => latency_p99 = Some(duration(key, value)?),
                "rpm" => settings.rpm = Some(number(key, value, 1, u64::MAX)?),
                "tpm" => settings.tpm = Some(number(key, value, 1, u64::MAX)?),
                "max-in-flight" => settings.max_in_flight = Some(number(key, value, 1, u32::MAX)?),
                "output-tokens" => {
                    settings.output_tokens = number(key, value, 1, MAX_OUTPUT_TOKENS)?
                }
                "output-spread" => settings.output_spread = spread(key, value)?,
                "max-output" => settings.max_output = number(key, value, 1, MAX_LIMIT)?,
                "reasoning" => settings.reasoning = number(key, value, 0, MAX_LIMIT)?,
                "cached" => settings.cached = rate(key, value)?,
                "ledger" => settings.ledger = switch(key, value)?,
                _ if key.starts_with("price") => prices.push((key, value)),
                _ => settings.faults.absorb(fault(key)?, value)?,
            }
        }
        settings.prices = Prices::read(&prices)?;
        settings.latency_p99 = latency_p99.unwrap_or(settings.latency.saturating_mul(P99_MEDIANS));
        settings.check()?;
        Ok(settings)
    }
}

impl SimSettings {
    fn check(&self) -> Result<(), SpecError> {
        if self.latency_p99 < self.latency {
            return Err(SpecError(format!(
                "`latency-p99` of {:?} is below the median `latency` of {:?}",
                self.latency_p99, self.latency
            )));
        }
        self.faults.check()
    }
}

/// Splits `a=1,b=2` and refuses what is not a pair or comes twice.
pub(super) fn pairs(spec: &str) -> Result<Vec<(&str, &str)>, SpecError> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for piece in spec.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (key, value) = piece
            .split_once('=')
            .ok_or_else(|| SpecError(format!("`{piece}` is not of the form key=value")))?;
        let (key, value) = (key.trim(), value.trim());
        if pairs.iter().any(|(known, _)| *known == key) {
            return Err(SpecError(format!("`{key}` is given twice")));
        }
        pairs.push((key, value));
    }
    Ok(pairs)
}

fn number<N>(key: &str, value: &str, least: N, most: N) -> Result<N, SpecError>
where
    N: FromStr + PartialOrd + fmt::Display,
{
    value
        .parse()
        .ok()
        .filter(|number| *number >= least && *number <= most)
        .ok_or_else(|| {
            SpecError(format!(
                "`{key}={value}`: `{value}` is not a whole number from {least} to {most}"
            ))
        })
}

fn switch(key: &str, value: &str) -> Result<bool, SpecError> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(SpecError(format!(
            "`{key}={value}`: `{value}` is neither `on` nor `off`"
        ))),
    }
}

fn spread(key: &str, value: &str) -> Result<f64, SpecError> {
    value
        .parse()
        .ok()
        .filter(|spread| (0.0..=MAX_SPREAD).contains(spread))
        .ok_or_else(|| {
            SpecError(format!(
                "`{key}={value}`: `{value}` is not a number from 0 to {MAX_SPREAD}"
            ))
        })
}

pub(super) fn rate(key: &str, value: &str) -> Result<f64, SpecError> {
    value
        .parse()
        .ok()
        .filter(|rate| (0.0..=1.0).contains(rate))
        .ok_or_else(|| {
            SpecError(format!(
                "`{key}={value}`: `{value}` is not a rate from 0 to 1"
            ))
        })
}

fn duration(key: &str, value: &str) -> Result<Duration, SpecError> {
    span::read(value).ok_or_else(|| {
        SpecError(format!(
            "`{key}={value}`: `{value}` is not a duration such as 50ms, 2s or 200 (milliseconds)"
        ))
    })
}

fn fault(key: &str) -> Result<Fault, SpecError> {
    Fault::named(key).ok_or_else(|| unknown_key(key))
}

pub(super) fn unknown_key(key: &str) -> SpecError {
    SpecError(format!(
        "unknown key `{key}`; known keys: {KEYS}; known faults: {}",
        Fault::names()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Price;

    fn settings(spec: &str) -> SimSettings {
        spec.parse().unwrap()
    }

    fn error(spec: &str) -> String {
        spec.parse::<SimSettings>().unwrap_err().to_string()
    }

    #[test]
    fn empty_spec_means_the_defaults() {
        assert_eq!(settings(""), SimSettings::default());
    }

    #[test]
    fn spec_sets_every_key() {
        let spec = "seed=7,latency=50ms,latency-p99=2s,rpm=600,tpm=90000,max-in-flight=8,\
                    output-tokens=12,output-spread=1.25,max-output=900,reasoning=64,\
                    price-in=0.15,price-out=0.6,price-cached=0.075,price.a.b.in=3,price.a.b.out=9,\
                    cached=0.25,503=0.1,no-usage=0.2";
        let general = Price {
            input: 150_000,
            output: 600_000,
            cached: 75_000,
        };
        let own = Price {
            input: 3_000_000,
            output: 9_000_000,
            cached: 3_000_000,
        };
        let expected = SimSettings {
            seed: 7,
            latency: Duration::from_millis(50),
            latency_p99: Duration::from_secs(2),
            rpm: Some(600),
            tpm: Some(90_000),
            max_in_flight: Some(8),
            output_tokens: 12,
            output_spread: 1.25,
            max_output: 900,
            reasoning: 64,
            cached: 0.25,
            prices: Prices {
                general: Some(general),
                models: [("a.b".to_owned(), own)].into(),
            },
            faults: Faults::default()
                .with(Fault::Overloaded, 0.1)
                .with(Fault::NoUsage, 0.2),
            ..SimSettings::default()
        };
        assert_eq!(settings(spec), expected);
    }

    #[test]
    fn p99_follows_the_median() {
        assert_eq!(
            settings("latency=30").latency_p99,
            Duration::from_millis(120)
        );
    }

    #[test]
    fn bad_specs_name_the_bad_piece() {
        assert_eq!(
            error("latency=soon"),
            "`latency=soon`: `soon` is not a duration such as 50ms, 2s or 200 (milliseconds)"
        );
        assert_eq!(
            error("max-in-flight=0"),
            "`max-in-flight=0`: `0` is not a whole number from 1 to 4294967295"
        );
        for spread in ["-0.1", "5.1", "NaN", "inf", "wide"] {
            assert_eq!(
                error(&format!("output-spread={spread}")),
                format!("`output-spread={spread}`: `{spread}` is not a number from 0 to 5")
            );
        }
        assert!(error("max-output=0").contains("from 1 to 1000000"));
        assert!(error("reasoning=-1").contains("from 0 to 1000000"));
        assert_eq!(
            error("cached=NaN"),
            "`cached=NaN`: `NaN` is not a rate from 0 to 1"
        );
        assert!(error("price-in=free,price-out=1").starts_with("`price-in=free`: `free` is not"));
        assert_eq!(error("rpm"), "`rpm` is not of the form key=value");
        assert_eq!(error("rpm=1,rpm=2"), "`rpm` is given twice");
        assert!(error("500=1.5").contains("`1.5` is not a rate"));
        assert!(error("500=0.6,503=0.6").contains("sum to 1.200"));
        let unknown = error("speed=9");
        assert!(unknown.starts_with("unknown key `speed`; known keys: seed, latency,"));
        assert!(unknown.ends_with("content-filter, no-usage"));
        assert_eq!(
            error("latency=2s,latency-p99=1s"),
            "`latency-p99` of 1s is below the median `latency` of 2s"
        );
    }

    #[test]
    fn key_is_not_printed() {
        let settings = SimSettings {
            api_key: Some("sk-real".to_owned()),
            ..SimSettings::default()
        };
        assert!(!format!("{settings:?}").contains("sk-real"));
    }
}
