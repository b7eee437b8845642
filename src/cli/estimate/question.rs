//! What the estimate is asked: which models, at which prices and limits.

use std::sync::Arc;

use anyhow::Result;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::cli::args::{EstimateArgs, RunArgs};
use crate::cli::pricing::{Pricing, Quote};
use crate::cli::refusal::Refusal;
use crate::cli::settings;
use crate::estimate::{Model, Pace};
use crate::input::Defaults;
use crate::provider::preset::Preset;
use crate::tokenizer::Counter;
use crate::words::tokens::Tokens;

/// The question, checked.
pub struct Question {
    /// The input as the user named it.
    pub input: String,
    pub defaults: Defaults,
    pub limit: Option<u64>,
    pub pace: Pace,
    pub compared: Vec<Model>,
    /// Tokens of an answer, where the user knows them.
    pub said: Option<Tokens>,
    pub today: Date,
    /// `None` where the name of a model decides alone.
    provider: Option<&'static str>,
    /// The user named the endpoint, so that prices elsewhere say nothing of it.
    is_at_provider: bool,
    pricing: Pricing,
}

impl Question {
    pub fn from_args(args: &EstimateArgs) -> Result<Self> {
        let run = &args.run;
        let mut defaults = settings::defaults(&run.shape)?;
        let preset = match run.simulate {
            Some(_) => Preset::GENERIC,
            None => settings::preset(run)?,
        };
        let mut question = Question {
            input: match super::run::is_stdin(&run.input) {
                true => "standard input".to_owned(),
                false => run.input.display().to_string(),
            },
            limit: run.limit,
            pace: pace(run, preset),
            compared: Vec::new(),
            said: args.output_tokens.map(Tokens),
            today: Timestamp::now().to_zoned(TimeZone::UTC).date(),
            provider: run.simulate.is_none().then_some(preset.name),
            is_at_provider: run.provider.is_some()
                || run.base_url.is_some()
                || settings::environment().is_some(),
            pricing: Pricing::from_args(&run.prices)?,
            defaults: Defaults::default(),
        };
        let names = question.compared_names(&args.compare)?;
        if defaults.model.is_none() {
            // A pilot is a run, and has its own mind of what a line without a model is.
            defaults.model = match run.simulate {
                Some(_) => Some(settings::SIMULATED_MODEL.into()),
                None => names.first().filter(|_| args.pilot.is_none()).cloned(),
            };
        }
        question.compared = names
            .iter()
            .map(|name| question.compared_model(name))
            .collect();
        question.defaults = defaults;
        Ok(question)
    }

    /// Returns what is known of a model that items are sent to.
    pub fn own_model(&self, name: &Arc<str>) -> Model {
        let quote = self.pricing.quote(self.provider, name);
        match quote.price.is_none() && !self.is_at_provider {
            true => model(name, self.pricing.quote(None, name)),
            false => model(name, quote),
        }
    }

    fn compared_model(&self, name: &Arc<str>) -> Model {
        let quote = self.pricing.quote(self.provider, name);
        match quote.price.is_none() {
            true => model(name, self.pricing.quote(None, name)),
            false => model(name, quote),
        }
    }

    /// Returns the longest answer that every model in question can give.
    pub fn alike<'n>(&self, names: impl Iterator<Item = &'n Arc<str>>) -> Option<Tokens> {
        let own = names.filter_map(|name| self.own_model(name).max_output);
        let compared = self.compared.iter().filter_map(|model| model.max_output);
        own.chain(compared).min()
    }

    /// Returns the last day of a model that is not served for ever.
    pub fn retires(&self, name: &str) -> Option<Date> {
        let at = self.pricing.quote(self.provider, name).retires;
        at.or_else(|| self.pricing.quote(None, name).retires)
    }

    /// Returns the models to compare, each once: by their names, or all of a provider.
    fn compared_names(&self, typed: &[String]) -> Result<Vec<Arc<str>>> {
        let mut names: Vec<Arc<str>> = Vec::new();
        for word in typed
            .iter()
            .map(|word| word.trim())
            .filter(|word| !word.is_empty())
        {
            let found = match word.strip_prefix("all-") {
                Some(provider) => self.all_of(provider)?,
                None => vec![word.into()],
            };
            for name in found {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        Ok(names)
    }

    /// Returns all models of a provider that have a price and are still served.
    fn all_of(&self, provider: &str) -> Result<Vec<Arc<str>>> {
        let book = self.pricing.book();
        let is_its = |own: Option<&str>| own.is_some_and(|own| own.eq_ignore_ascii_case(provider));
        let served = |retires: Option<Date>| retires.is_none_or(|day| self.today < day);
        let names: Vec<Arc<str>> = book
            .models()
            .filter(|model| is_its(model.provider.as_deref()) && served(model.retires))
            .filter(|model| model.price.is_some() && !model.name.starts_with("ft:"))
            .filter(|model| !model.name.contains("embedding"))
            .map(|model| model.name.as_str().into())
            .collect();
        if names.is_empty() {
            let mut known: Vec<_> = book
                .models()
                .filter_map(|model| model.provider.as_deref())
                .collect();
            known.sort_unstable();
            known.dedup();
            let refusal = Refusal::new(format!(
                "--compare all-{provider}: no such provider has prices"
            ));
            return Err(refusal
                .hint(format!("known are {}", known.join(", ")))
                .into());
        }
        Ok(names)
    }
}

fn model(name: &Arc<str>, quote: Quote) -> Model {
    Model {
        name: name.clone(),
        counter: Counter::of(name),
        price: quote.price,
        max_input: quote.max_input,
        max_output: quote.max_output,
    }
}

fn pace(run: &RunArgs, preset: &Preset) -> Pace {
    Pace {
        rpm: run.rpm,
        tpm: run.tpm,
        concurrency: run.concurrency.map_or(preset.concurrency as u64, u64::from),
    }
}
