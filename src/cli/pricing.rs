//! Prices of a run.

use std::sync::Arc;

use anyhow::Result;

use super::args::PriceArgs;
use super::refusal::Refusal;
use crate::words::money::Rate;
use crate::words::price::Price;
use crate::words::tokens::Tokens;

pub struct Pricing {
    typed: Option<Arc<Price>>,
}

#[derive(Debug, Default)]
pub struct Quote {
    pub price: Option<Arc<Price>>,
    pub max_input: Option<Tokens>,
    pub max_output: Option<Tokens>,
}

impl Pricing {
    pub fn from_args(args: &PriceArgs) -> Result<Self> {
        let rate = |text: &str| {
            Rate::per_million(text).map_err(|why| Refusal::new(format!("--price-in {text}: {why}")))
        };
        let typed = match (&args.price_in, &args.price_out) {
            (Some(input), Some(output)) => {
                Some(Arc::new(Price::simple(rate(input)?, rate(output)?)))
            }
            _ => None,
        };
        Ok(Pricing { typed })
    }

    pub fn quote(&self, _provider: Option<&str>, _model: &str) -> Quote {
        Quote {
            price: self.typed.clone(),
            ..Quote::default()
        }
    }
}
