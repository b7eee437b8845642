//! One model and everything that is summed for it.

use std::collections::BTreeSet;

use super::Model;
use super::load::{Load, Sums};
use crate::tokenizer::Chat;
use crate::words::item::Item;
use crate::words::price::Price;
use crate::words::tokens::Tokens;

/// Places that are listed; more are only counted.
const LISTED: usize = 20;

/// What the items ask of one model.
#[derive(Debug, Clone)]
pub struct Lane {
    pub model: Model,
    pub all: Load,
    /// Those of them whose results are there already.
    pub settled: Load,
    /// Those of them that equal an earlier one.
    pub repeated: Load,
    /// Items whose prompt is counted exactly.
    pub exact: u64,
    /// Items whose prompt is longer than the model takes.
    pub too_long: Places,
    /// Items whose prompt fits, but not together with the answer that they allow. Some models
    /// have one window for both, others do not.
    pub tight: Places,
}

/// What is known of an item beside its prompt.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standing {
    pub is_settled: bool,
    pub is_repeated: bool,
    /// What the user says that each answer will have.
    pub said: Option<Tokens>,
    /// The longest answer that every model in question can give.
    pub alike: Option<Tokens>,
}

impl Lane {
    pub fn new(model: Model) -> Self {
        Lane {
            model,
            all: Load::default(),
            settled: Load::default(),
            repeated: Load::default(),
            exact: 0,
            too_long: Places::default(),
            tight: Places::default(),
        }
    }

    /// Adds an item whose chat is counted. Returns its prompt tokens.
    pub fn add(&mut self, item: &Item, chat: &Chat, standing: Standing) -> Tokens {
        let model = &self.model;
        let prompt = model.counter.tokens(chat);
        self.exact += u64::from(model.counter.is_exact(chat));
        let bound = item
            .bounds
            .output
            .or_else(|| Some(model.max_output?.times(item.bounds.choices)));
        let within = |each: Option<Tokens>, bound: Option<Tokens>| {
            let all = each.map(|each| each.times(item.bounds.choices));
            all.into_iter().chain(bound).min().unwrap_or_default()
        };
        let sums = Sums {
            items: 1,
            prompt,
            bound: bound.unwrap_or_default(),
            unbounded: u64::from(bound.is_none()),
            said: match standing.said {
                Some(_) => within(standing.said, bound),
                None => Tokens(0),
            },
            alike: within(standing.alike, item.bounds.output),
        };
        let above = model.price.as_ref().and_then(|price| tier(price, prompt));
        let service = item.bounds.service;
        self.all.add(service, above, sums);
        if standing.is_settled {
            self.settled.add(service, above, sums);
        }
        if standing.is_repeated {
            self.repeated.add(service, above, sums);
        }
        if let Some(window) = model.max_input {
            if prompt > window {
                self.too_long.add(item.line);
            } else if item
                .bounds
                .output
                .is_some_and(|answer| prompt + answer > window)
            {
                self.tight.add(item.line);
            }
        }
        prompt
    }

    /// Takes the sums of another lane of the same model in.
    pub fn merge(&mut self, other: Lane) {
        self.all.merge(&other.all);
        self.settled.merge(&other.settled);
        self.repeated.merge(&other.repeated);
        self.exact += other.exact;
        self.too_long.merge(&other.too_long);
        self.tight.merge(&other.tight);
    }
}

/// Returns the border of the highest tier, of any service, that a prompt passes.
fn tier(price: &Price, prompt: Tokens) -> Option<Tokens> {
    let services = [
        Some(&price.standard),
        price.batch.as_ref(),
        price.flex.as_ref(),
        price.priority.as_ref(),
    ];
    let borders = services
        .into_iter()
        .flatten()
        .flat_map(|tiers| tiers.above());
    borders
        .map(|(border, _)| *border)
        .filter(|border| prompt > *border)
        .max()
}

/// Line numbers: all counted, the first ones kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    pub count: u64,
    first: BTreeSet<u64>,
}

impl Places {
    fn add(&mut self, line: u64) {
        self.count += 1;
        self.keep(line);
    }

    fn keep(&mut self, line: u64) {
        self.first.insert(line);
        if self.first.len() > LISTED {
            self.first.pop_last();
        }
    }

    /// Takes other places in.
    pub fn merge(&mut self, other: &Places) {
        self.count += other.count;
        other.lines().for_each(|line| self.keep(line));
    }

    /// Returns the first line numbers, ascending.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = u64> {
        self.first.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_places_are_kept_in_whatever_order_they_come() {
        let (mut one, mut other) = (Places::default(), Places::default());
        (1..=60)
            .rev()
            .filter(|line| line % 2 == 0)
            .for_each(|line| one.add(line));
        (1..=60)
            .filter(|line| line % 2 == 1)
            .for_each(|line| other.add(line));
        one.merge(&other);
        assert_eq!(one.count, 60);
        assert_eq!(
            one.lines().collect::<Vec<_>>(),
            (1..=20).collect::<Vec<_>>()
        );
    }
}
