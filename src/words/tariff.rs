//! The money of one request: what it can cost at most before it goes out, and what it came to.

use std::sync::Arc;

use super::money::Usd;
use super::price::{Price, Service};
use super::tokens::{Tokens, Usage};

/// What is known of a model's money before it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tariff {
    pub model: Arc<str>,
    pub price: Arc<Price>,
    /// The longest prompt that the model takes.
    pub max_input: Option<Tokens>,
    /// The longest answer that the model gives.
    pub max_output: Option<Tokens>,
}

/// What a request can use at most, by its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub prompt: Tokens,
    /// Tokens of the answer, over all its choices, if the request limits them.
    pub output: Option<Tokens>,
    /// Answers that the request asks for at once.
    pub choices: u64,
    /// How it asks to be served.
    pub service: Service,
    /// It asks for what no price of text tokens covers: sound, or a search.
    pub has_extras: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            prompt: Tokens(0),
            output: None,
            choices: 1,
            service: Service::Standard,
            has_extras: false,
        }
    }
}

/// Why nothing bounds the cost of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundless {
    /// The price is not known, at least not of the service that is asked for.
    Price,
    /// Neither the request nor the model limits the answer.
    Output,
    /// It asks for what is not priced by text tokens.
    Extras,
}

impl Tariff {
    /// Returns the most tokens that an answer may have, by the request or else by the model.
    pub fn output_bound(&self, bounds: &Bounds) -> Option<Tokens> {
        let by_model = || Some(self.max_output?.times(bounds.choices));
        bounds.output.or_else(by_model)
    }

    /// Returns the most that one attempt can cost.
    pub fn worst_case(&self, bounds: &Bounds) -> Result<Usd, Boundless> {
        if let Some(output) = self.output_bound(bounds) {
            return self.most(bounds, output);
        }
        // Answers that cost nothing need no limit.
        let prompt_alone = self.most(bounds, Tokens(0))?;
        match self.most(bounds, Tokens(1_000_000))? == prompt_alone {
            true => Ok(prompt_alone),
            false => Err(Boundless::Output),
        }
    }

    /// Returns the most that an answer of at most so many tokens can cost.
    pub fn most(&self, bounds: &Bounds, output: Tokens) -> Result<Usd, Boundless> {
        if bounds.has_extras {
            return Err(Boundless::Extras);
        }
        // Who asks for less than the usual service may be served with it all the same.
        let service = match bounds.service {
            Service::Priority => Service::Priority,
            Service::Standard | Service::Flex | Service::Batch => Service::Standard,
        };
        let window = self.max_input.unwrap_or(bounds.prompt);
        let most = self.price.most(bounds.prompt.min(window), output, service);
        most.ok_or(Boundless::Price)
    }
}

/// What one attempt used and what it cost, as far as anybody can tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bill {
    pub usage: Option<Usage>,
    pub charge: Charge,
}

impl Bill {
    /// A bill of which nothing is known but that there may be one.
    pub const UNKNOWN: Bill = Bill {
        usage: None,
        charge: Charge::Unpriced,
    };
}

/// What was charged for one attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Charge {
    #[default]
    Nothing,
    Known(Usd),
    /// It may have been charged, and this is the most that it can be.
    AtMost(Usd),
    /// It was, or may have been, charged, and nobody knows how much.
    Unpriced,
}

impl Charge {
    /// Returns the cost that is certain.
    pub fn known(self) -> Option<Usd> {
        match self {
            Charge::Known(cost) => Some(cost),
            Charge::Nothing | Charge::AtMost(_) | Charge::Unpriced => None,
        }
    }

    /// Tells that nobody knows what was charged, if anything.
    pub fn is_uncertain(self) -> bool {
        matches!(self, Charge::AtMost(_) | Charge::Unpriced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::money::Rate;

    fn tariff() -> Tariff {
        let rate = |text| Rate::per_million(text).unwrap();
        Tariff {
            model: "m".into(),
            price: Arc::new(Price::simple(rate("1"), rate("10"))),
            max_input: Some(Tokens(10_000)),
            max_output: Some(Tokens(1_000)),
        }
    }

    fn bounds(prompt: u64) -> Bounds {
        Bounds {
            prompt: Tokens(prompt),
            ..Bounds::default()
        }
    }

    fn worst(tariff: &Tariff, bounds: &Bounds) -> String {
        tariff.worst_case(bounds).unwrap().to_string()
    }

    #[test]
    fn the_worst_case_is_the_whole_prompt_and_the_longest_answer() {
        let mut asked = bounds(1000);
        assert_eq!(worst(&tariff(), &asked), "0.011");
        asked.choices = 3;
        assert_eq!(worst(&tariff(), &asked), "0.031");
        asked.output = Some(Tokens(100));
        assert_eq!(worst(&tariff(), &asked), "0.002");
    }

    #[test]
    fn the_models_window_bounds_every_prompt() {
        assert_eq!(worst(&tariff(), &bounds(50_000)), "0.02");
    }

    #[test]
    fn what_is_not_known_bounds_nothing() {
        let endless = Tariff {
            max_output: None,
            ..tariff()
        };
        assert_eq!(endless.worst_case(&bounds(1)), Err(Boundless::Output));
        let urgent = Bounds {
            service: Service::Priority,
            ..bounds(1)
        };
        assert_eq!(tariff().worst_case(&urgent), Err(Boundless::Price));
        let spoken = Bounds {
            has_extras: true,
            ..bounds(1)
        };
        assert_eq!(tariff().worst_case(&spoken), Err(Boundless::Extras));
    }

    #[test]
    fn a_cheaper_service_is_never_counted_on() {
        let mut price = Price::clone(&tariff().price);
        price.flex = Some(Price::simple(Rate::default(), Rate::default()).standard);
        let cheaper = Tariff {
            price: Arc::new(price),
            ..tariff()
        };
        let flexible = Bounds {
            service: Service::Flex,
            ..bounds(1000)
        };
        assert_eq!(worst(&cheaper, &flexible), "0.011");
    }
}
