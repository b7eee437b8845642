//! Faults: what can go wrong with a request, and how often.

use std::fmt;
use std::str::FromStr;

use super::settings::{self, SpecError, pairs};

/// Rates are typed by people: a sum of tenths may miss 1 by a few bits.
const ROUNDING: f64 = 1e-9;

/// One way in which a request goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 429 with a short `retry-after`.
    RateLimit,
    /// 500 with a JSON error.
    ServerError,
    /// 503 without `retry-after`.
    Overloaded,
    /// The connection is reset after the request was read.
    Reset,
    /// No answer, until the client goes away.
    Stall,
    /// Half of the announced body, then the end of the connection.
    Truncated,
    /// A proxy's HTML page, with status 502 or 200.
    Html,
    /// A complete response whose JSON breaks off.
    BadJson,
    /// 200 without any choice.
    EmptyChoices,
    /// Content refused: a 400 as at Azure, or a 200 without content.
    ContentFilter,
    /// A fine answer that does not say what it used.
    NoUsage,
}

impl Fault {
    /// Every kind, in the order in which rates are laid side by side.
    pub const ALL: [Fault; 11] = [
        Fault::RateLimit,
        Fault::ServerError,
        Fault::Overloaded,
        Fault::Reset,
        Fault::Stall,
        Fault::Truncated,
        Fault::Html,
        Fault::BadJson,
        Fault::EmptyChoices,
        Fault::ContentFilter,
        Fault::NoUsage,
    ];

    /// Returns the name by which specs and counters know it.
    pub fn name(self) -> &'static str {
        match self {
            Fault::RateLimit => "429",
            Fault::ServerError => "500",
            Fault::Overloaded => "503",
            Fault::Reset => "reset",
            Fault::Stall => "stall",
            Fault::Truncated => "truncated",
            Fault::Html => "html",
            Fault::BadJson => "bad-json",
            Fault::EmptyChoices => "empty-choices",
            Fault::ContentFilter => "content-filter",
            Fault::NoUsage => "no-usage",
        }
    }

    /// Tells whether asking again may bring something else. Filtered content stays filtered, and
    /// an answer without usage is an answer.
    pub fn passes(self) -> bool {
        !matches!(self, Fault::ContentFilter | Fault::NoUsage)
    }

    /// Finds the fault of this name.
    pub fn named(name: &str) -> Option<Fault> {
        Fault::ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// Lists every name, for messages.
    pub(super) fn names() -> String {
        Fault::ALL.map(Fault::name).join(", ")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How often each fault strikes, as a share of requests; the shares sum to 1 at most.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    rates: [f64; Fault::ALL.len()],
}

impl Faults {
    /// Returns the same rates but for this fault.
    pub fn with(mut self, fault: Fault, rate: f64) -> Faults {
        self.rates[fault as usize] = rate;
        self
    }

    /// Returns the share of requests that this fault strikes.
    pub fn rate(&self, fault: Fault) -> f64 {
        self.rates[fault as usize]
    }

    /// Tells whether nothing ever goes wrong.
    pub fn is_empty(&self) -> bool {
        self.rates.iter().all(|rate| *rate <= 0.0)
    }

    /// Returns the fault whose share holds this roll from [0, 1).
    pub(super) fn pick(&self, roll: f64) -> Option<Fault> {
        let mut edge = 0.0;
        Fault::ALL.into_iter().find(|fault| {
            edge += self.rate(*fault);
            roll < edge
        })
    }

    /// Sets one rate from a spec such as `500=0.01`.
    pub(super) fn absorb(&mut self, fault: Fault, value: &str) -> Result<(), SpecError> {
        self.rates[fault as usize] = settings::rate(fault.name(), value)?;
        Ok(())
    }

    /// Refuses rates that exceed the whole.
    pub(super) fn check(&self) -> Result<(), SpecError> {
        let sum: f64 = self.rates.iter().sum();
        if sum > 1.0 + ROUNDING {
            return Err(SpecError(format!(
                "the fault rates sum to {sum:.3}; they share the requests among them, so 1 at most"
            )));
        }
        Ok(())
    }
}

impl FromStr for Faults {
    type Err = SpecError;

    /// Reads `429=0.02,500=0.01,reset=0.01`; the empty text means no faults.
    fn from_str(spec: &str) -> Result<Faults, SpecError> {
        let mut faults = Faults::default();
        for (name, value) in pairs(spec)? {
            let fault = Fault::named(name).ok_or_else(|| {
                SpecError(format!(
                    "unknown fault `{name}`; known faults: {}",
                    Fault::names()
                ))
            })?;
            faults.absorb(fault, value)?;
        }
        faults.check()?;
        Ok(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(spec: &str) -> String {
        spec.parse::<Faults>().unwrap_err().to_string()
    }

    #[test]
    fn every_fault_is_found_by_its_name() {
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, index);
            assert_eq!(Fault::named(fault.name()), Some(fault));
        }
    }

    #[test]
    fn spec_sets_the_named_rates() {
        let faults: Faults = "429=0.02, bad-json=0.5,".parse().unwrap();
        let expected = Faults::default()
            .with(Fault::RateLimit, 0.02)
            .with(Fault::BadJson, 0.5);
        assert_eq!(faults, expected);
    }

    #[test]
    fn empty_spec_means_no_faults() {
        assert!("".parse::<Faults>().unwrap().is_empty());
    }

    #[test]
    fn tenths_may_sum_to_one() {
        let spec = "429=0.1,500=0.2,503=0.3,reset=0.1,stall=0.3";
        assert!(spec.parse::<Faults>().is_ok());
    }

    #[test]
    fn bad_specs_name_the_bad_piece() {
        assert_eq!(
            error("429=0.1,504=0.1"),
            "unknown fault `504`; known faults: 429, 500, 503, reset, stall, truncated, html, \
             bad-json, empty-choices, content-filter, no-usage"
        );
        assert_eq!(
            error("reset=often"),
            "`reset=often`: `often` is not a rate from 0 to 1"
        );
        assert_eq!(error("500=2"), "`500=2`: `2` is not a rate from 0 to 1");
        assert_eq!(error("500"), "`500` is not of the form key=value");
        assert_eq!(error("500=0.1,500=0.2"), "`500` is given twice");
        assert!(error("429=0.7,500=0.7").starts_with("the fault rates sum to 1.400"));
    }

    #[test]
    fn rolls_fall_into_the_shares_in_order() {
        let faults: Faults = "429=0.25,reset=0.25".parse().unwrap();
        assert_eq!(faults.pick(0.0), Some(Fault::RateLimit));
        assert_eq!(faults.pick(0.25), Some(Fault::Reset));
        assert_eq!(faults.pick(0.5), None);
    }
}
