//! What a run's models cost, by its flags: `--price-in` and `--price-out`, then the file of
//! `--prices`, then the built-in table.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use jiff::civil::Date;

use super::args::PriceArgs;
use super::refusal::Refusal;
use crate::prices::{Book, Model, Unusable};
use crate::words::money::Rate;
use crate::words::price::Price;
use crate::words::tokens::Tokens;

/// The prices of a run.
pub struct Pricing {
    book: Cow<'static, Book>,
    /// What every model costs, where the user said so.
    fixed: Option<Arc<Price>>,
}

/// What is known of a model before it is asked. Nothing of it is ever a guess.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Quote {
    /// `None` where it is not known, which is not zero.
    pub price: Option<Arc<Price>>,
    pub max_input: Option<Tokens>,
    pub max_output: Option<Tokens>,
    pub retires: Option<Date>,
}

impl Pricing {
    pub fn from_args(args: &PriceArgs) -> Result<Self> {
        let fixed = match (&args.price_in, &args.price_out) {
            (Some(input), Some(output)) => {
                let (input, output) = (rate("--price-in", input)?, rate("--price-out", output)?);
                Some(Arc::new(Price::at_every_service(input, output)))
            }
            _ => None,
        };
        Ok(Pricing {
            book: book(args.prices.as_deref())?,
            fixed,
        })
    }

    /// Returns what is known of a model at a provider; without one, by the model's name alone.
    pub fn quote(&self, provider: Option<&str>, model: &str) -> Quote {
        let known = self.book.find(provider, model);
        let limits = self.book.limits(provider, model);
        // Another provider may serve the same model for longer, or not as long.
        let is_served_there = |known: &&Model| match (provider, &known.provider) {
            (Some(asked), Some(own)) => own.eq_ignore_ascii_case(asked),
            _ => true,
        };
        let price = || known.and_then(|known| known.price.clone());
        Quote {
            price: self.fixed.clone().or_else(price),
            max_input: limits.input,
            max_output: limits.output,
            retires: known
                .filter(is_served_there)
                .and_then(|known| known.retires),
        }
    }

    /// Returns the book, for all that it lists.
    pub fn book(&self) -> &Book {
        &self.book
    }
}

/// Opens the price file, or takes the built-in table.
pub fn book(file: Option<&Path>) -> Result<Cow<'static, Book>> {
    let Some(path) = file else {
        return Ok(Cow::Borrowed(Book::builtin()));
    };
    let book = Book::with_file(path);
    let book = book.map_err(|unusable| Refusal::new(unusable.what).hint(Unusable::HINT))?;
    Ok(Cow::Owned(book))
}

fn rate(flag: &str, typed: &str) -> Result<Rate> {
    let refuse = |why| {
        Refusal::new(format!("{flag} {typed}: {why}"))
            .hint(format!("{flag} 0.15 is 0.15 USD per 1M tokens"))
    };
    Ok(Rate::per_million(typed).map_err(refuse)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::price::Service;
    use crate::words::tokens::Usage;

    fn fixed(input: &str, output: &str) -> Result<Pricing> {
        Pricing::from_args(&PriceArgs {
            prices: None,
            price_in: Some(input.to_owned()),
            price_out: Some(output.to_owned()),
        })
    }

    fn refusal(input: &str, output: &str) -> String {
        let error = fixed(input, output).err().expect("it is refused");
        error.downcast::<Refusal>().unwrap().what
    }

    #[test]
    fn what_is_no_price_is_refused_by_its_flag() {
        assert_eq!(refusal("-1", "2"), "--price-in -1: it is negative");
        assert_eq!(refusal("1", "-0.5"), "--price-out -0.5: it is negative");
        for odd in ["NaN", "inf", "1,5", "$1", "", "--price-out"] {
            let said = refusal(odd, "2");
            assert_eq!(said, format!("--price-in {odd}: it is not a number"));
        }
        assert_eq!(refusal("1e30", "2"), "--price-in 1e30: it is too large");
    }

    #[test]
    fn a_stated_price_holds_for_every_model_and_every_service() {
        let pricing = fixed("1", "2").unwrap();
        for model in ["gpt-4o", "unheard-of"] {
            let price = pricing.quote(Some("openai"), model).price.unwrap();
            for service in [Service::Standard, Service::Batch, Service::Priority] {
                let used = Usage {
                    prompt: Tokens(1_000_000),
                    completion: Tokens(1_000_000),
                    service,
                    ..Usage::default()
                };
                assert_eq!(price.cost(&used).unwrap().to_string(), "3");
            }
        }
    }

    #[test]
    fn limits_stay_those_of_the_table() {
        let quote = fixed("1", "2").unwrap().quote(Some("openai"), "gpt-4o");
        assert_eq!(quote.max_input, Some(Tokens(128_000)));
        assert_eq!(quote.max_output, Some(Tokens(16_384)));
    }

    #[test]
    fn nothing_is_known_of_an_unknown_model() {
        let pricing = Pricing::from_args(&PriceArgs::default()).unwrap();
        assert_eq!(pricing.quote(None, "unheard-of"), Quote::default());
        assert_eq!(pricing.quote(Some("vllm"), "gpt-4o"), Quote::default());
    }

    #[test]
    fn a_last_day_holds_for_its_own_provider() {
        let pricing = Pricing::from_args(&PriceArgs::default()).unwrap();
        let last_day = |provider| pricing.quote(provider, "gpt-5").retires;
        assert!(last_day(Some("openai")).is_some());
        assert!(last_day(None).is_some());
        assert_eq!(last_day(Some("azure")), None);
        assert!(pricing.quote(Some("azure"), "gpt-5").price.is_some());
    }
}
