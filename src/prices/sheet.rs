//! Prices as a list states them, and the rules for what it leaves out.
//!
//! Every rule errs towards the dearer side: a cost that is shown may be too high, never too low.

use std::collections::{BTreeMap, BTreeSet};

use crate::words::money::Rate;
use crate::words::price::{Price, Rates, Tiers};
use crate::words::tokens::Tokens;

/// The rates of one kind of service, for prompts of one length.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stated {
    pub input: Option<Rate>,
    pub output: Option<Rate>,
    pub cached: Option<Rate>,
    pub cache_write: Option<Rate>,
    pub cache_write_long: Option<Rate>,
    pub reasoning: Option<Rate>,
}

/// The rates of one kind of service, for prompts of every length.
#[derive(Debug, Default)]
pub(super) struct Ladder {
    pub base: Stated,
    /// By the border above which they hold.
    pub above: BTreeMap<Tokens, Stated>,
}

/// Everything that a list states of one model's prices.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    pub standard: Ladder,
    pub batch: Ladder,
    pub flex: Ladder,
    pub priority: Ladder,
}

impl Sheet {
    /// Returns the price. Without an input and an output at the standard service there is none.
    pub fn price(&self) -> Option<Price> {
        let usual = Rates {
            input: self.standard.base.input?,
            output: self.standard.base.output?,
            ..Rates::default()
        };
        let base = self.standard.base.over(&usual);
        let above = self.standard.above.iter();
        let above = above.map(|(border, stated)| (*border, stated.over(&base)));
        let standard = Tiers::new(base, above.collect());
        Some(Price {
            batch: self.batch.beside(&standard),
            flex: self.flex.beside(&standard),
            priority: self.priority.beside(&standard),
            standard,
        })
    }
}

impl Ladder {
    /// Returns the tiers of a service, if its input is stated. A long prompt of which it says
    /// nothing costs what the service usually does or what a long prompt does at the standard
    /// service, whichever is dearer.
    fn beside(&self, standard: &Tiers) -> Option<Tiers> {
        self.base.input?;
        let base = self.base.over(standard.base());
        let long: BTreeMap<_, _> = standard.above().iter().copied().collect();
        let borders: BTreeSet<_> = long.keys().chain(self.above.keys()).copied().collect();
        let rates = |border: Tokens| {
            let usual = match long.get(&border) {
                Some(long) => dearer(&base, long),
                None => base,
            };
            let stated = self.above.get(&border).copied().unwrap_or_default();
            (border, stated.over(&usual))
        };
        Some(Tiers::new(base, borders.into_iter().map(rates).collect()))
    }
}

impl Stated {
    /// Completes the rates from the usual ones.
    ///
    /// A cached token of which nothing is said costs what any other does. Writing a cache and
    /// reasoning cost at least what they usually do: discounts need not hold for them.
    fn over(&self, usual: &Rates) -> Rates {
        let input = self.input.unwrap_or(usual.input);
        let output = self.output.unwrap_or(usual.output);
        let at_least = |stated: Option<Rate>, usual: Option<Rate>, plain: Rate| {
            stated.or_else(|| usual.map(|usual| usual.max(plain)))
        };
        let usual_cached = usual.cached.filter(|_| self.input.is_none());
        let reasoning = at_least(self.reasoning, usual.reasoning, output);
        let write = at_least(self.cache_write, usual.cache_write, input);
        Rates {
            input,
            output,
            cached: self.cached.or(usual_cached),
            cache_write: write,
            cache_write_long: at_least(
                self.cache_write_long,
                usual.cache_write_long,
                write.unwrap_or(input),
            ),
            reasoning: reasoning.filter(|rate| *rate != output),
        }
    }
}

/// Returns the dearer of two rates for every kind of token.
fn dearer(one: &Rates, other: &Rates) -> Rates {
    let most = |rate: fn(&Rates) -> Option<Rate>, plain: fn(&Rates) -> Rate| {
        rate(one).or(rate(other))?;
        let cost = |rates: &Rates| rate(rates).unwrap_or(plain(rates));
        Some(cost(one).max(cost(other)))
    };
    Rates {
        input: one.input.max(other.input),
        output: one.output.max(other.output),
        cached: most(|rates| rates.cached, |rates| rates.input),
        cache_write: most(|rates| rates.cache_write, |rates| rates.input),
        cache_write_long: most(
            |rates| rates.cache_write_long.or(rates.cache_write),
            |rates| rates.input,
        ),
        reasoning: most(|rates| rates.reasoning, |rates| rates.output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_million: &str) -> Rate {
        Rate::per_million(per_million).unwrap()
    }

    fn stated(input: &str, output: &str) -> Stated {
        Stated {
            input: Some(rate(input)),
            output: Some(rate(output)),
            ..Stated::default()
        }
    }

    fn flat(base: Stated) -> Ladder {
        Ladder {
            base,
            above: BTreeMap::new(),
        }
    }

    #[test]
    fn without_input_or_output_there_is_no_price() {
        for base in [
            Stated::default(),
            Stated {
                output: None,
                ..stated("1", "2")
            },
            Stated {
                input: None,
                ..stated("1", "2")
            },
        ] {
            let sheet = Sheet {
                standard: flat(base),
                ..Sheet::default()
            };
            assert_eq!(sheet.price(), None);
        }
    }

    #[test]
    fn an_explicit_zero_is_free() {
        let sheet = Sheet {
            standard: flat(stated("0", "0")),
            ..Sheet::default()
        };
        assert_eq!(sheet.price(), Some(Price::simple(rate("0"), rate("0"))));
    }

    #[test]
    fn a_service_of_which_nothing_is_said_stays_unknown() {
        let sheet = Sheet {
            standard: flat(stated("1", "2")),
            ..Sheet::default()
        };
        let price = sheet.price().unwrap();
        assert_eq!(
            (price.batch, price.flex, price.priority),
            (None, None, None)
        );
    }

    #[test]
    fn a_discount_is_not_assumed_for_what_it_does_not_name() {
        let base = Stated {
            cached: Some(rate("0.2")),
            cache_write: Some(rate("2.5")),
            cache_write_long: Some(rate("4")),
            reasoning: Some(rate("20")),
            ..stated("2", "10")
        };
        let sheet = Sheet {
            standard: flat(base),
            batch: flat(stated("1", "5")),
            priority: flat(stated("5", "30")),
            ..Sheet::default()
        };
        let price = sheet.price().unwrap();
        let batch = *price.batch.unwrap().base();
        assert_eq!(batch.cached, None);
        assert_eq!(batch.cache_write, Some(rate("2.5")));
        assert_eq!(batch.cache_write_long, Some(rate("4")));
        assert_eq!(batch.reasoning, Some(rate("20")));
        let priority = *price.priority.unwrap().base();
        assert_eq!(priority.cache_write, Some(rate("5")));
        assert_eq!(priority.cache_write_long, Some(rate("5")));
        assert_eq!(priority.reasoning, None);
    }

    #[test]
    fn a_long_prompt_without_a_price_of_its_own_takes_the_dearer_one() {
        let mut sheet = Sheet {
            standard: flat(Stated {
                cached: Some(rate("0.2")),
                ..stated("2", "10")
            }),
            batch: flat(Stated {
                cached: Some(rate("0.1")),
                ..stated("1", "5")
            }),
            ..Sheet::default()
        };
        let long = Stated {
            cached: Some(rate("0.4")),
            ..stated("4", "8")
        };
        sheet.standard.above.insert(Tokens(200), long);
        let batch = sheet.price().unwrap().batch.unwrap();
        assert_eq!(batch.rates(Tokens(200)).input, rate("1"));
        let long = batch.rates(Tokens(201));
        assert_eq!((long.input, long.output), (rate("4"), rate("8")));
        assert_eq!(long.cached, Some(rate("0.4")));
    }

    #[test]
    fn a_long_prompt_that_changes_only_the_output_keeps_the_input() {
        let mut sheet = Sheet {
            standard: flat(Stated {
                cached: Some(rate("0.2")),
                ..stated("2", "10")
            }),
            ..Sheet::default()
        };
        let long = Stated {
            output: Some(rate("15")),
            ..Stated::default()
        };
        sheet.standard.above.insert(Tokens(200), long);
        let price = sheet.price().unwrap();
        let long = price.standard.rates(Tokens(201));
        assert_eq!((long.input, long.output), (rate("2"), rate("15")));
        assert_eq!(long.cached, Some(rate("0.2")));
    }
}
