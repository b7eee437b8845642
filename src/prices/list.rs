//! A list of models with its index, and the search in it.

use std::cmp::Reverse;
use std::collections::HashMap;

use jiff::civil::Date;

use super::Model;
use super::names::{self, Place};
use crate::words::money::Usd;

/// Models of one origin.
#[derive(Debug, Default)]
pub struct List {
    /// The day of the figures, as the list states it.
    pub date: Option<Date>,
    /// Where the figures are from, as the list states it.
    pub source: Option<String>,
    models: Vec<Model>,
    /// Positions of the models by their name in lower case.
    index: HashMap<String, Vec<usize>>,
}

impl List {
    pub(super) fn new(models: Vec<Model>) -> Self {
        let mut index: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, model) in models.iter().enumerate() {
            index
                .entry(model.name.to_ascii_lowercase())
                .or_default()
                .push(at);
        }
        List {
            models,
            index,
            ..List::default()
        }
    }

    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// Finds a model by one spelling of its name. Where several providers have it and none is
    /// asked for, they are all returned, the dearest first.
    pub(super) fn find(&self, provider: Option<&str>, spelling: &str) -> Vec<&Model> {
        let mut places = names::places(provider, spelling).into_iter();
        let found = places.find_map(|place| Some(self.at(&place)).filter(|at| !at.is_empty()));
        found.unwrap_or_default()
    }

    /// Returns the models at a place: those of the closest spelling, the dearest first.
    fn at(&self, place: &Place) -> Vec<&Model> {
        let Some(positions) = self.index.get(&place.name.to_ascii_lowercase()) else {
            return Vec::new();
        };
        let rank = |model: &Model| {
            let named = place.provider.is_some() && model.provider.is_some();
            (named, model.name == place.name)
        };
        let models = positions.iter().map(|at| &self.models[*at]);
        let mut models: Vec<_> = models
            .filter(|model| is_served_by(model, place.provider.as_deref()))
            .collect();
        let closest = models.iter().map(|model| rank(model)).max();
        models.retain(|model| Some(rank(model)) == closest);
        models.sort_by_key(|model| Reverse(weight(model)));
        models
    }
}

/// Tells whether a model is at a provider. A price at a local server says nothing of the price
/// at an endpoint of which nothing is known.
fn is_served_by(model: &Model, provider: Option<&str>) -> bool {
    match (&model.provider, provider) {
        (None, _) => true,
        (Some(own), Some(wanted)) => own.eq_ignore_ascii_case(wanted),
        (Some(own), None) => !names::is_local(own),
    }
}

/// Returns a figure that is higher for dearer models, and none where the price is not known.
pub(super) fn weight(model: &Model) -> Option<Usd> {
    let rates = model.price.as_ref()?.standard.base();
    Some(rates.input.million() + rates.output.million())
}
