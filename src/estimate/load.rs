//! Sums of items, kept apart as far as their prices are.

use crate::words::money::Usd;
use crate::words::price::{Price, Rates, Service};
use crate::words::tokens::Tokens;

/// What a number of items asks of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Load {
    bands: Vec<Band>,
}

/// Items that are served alike and whose prompts have the same rates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Band {
    service: Service,
    /// A prompt length of this band.
    length: Tokens,
    sums: Sums,
}

/// What one item, or many of them, come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    pub items: u64,
    pub prompt: Tokens,
    /// The most that the answers can have, and the items whose answer nothing bounds.
    pub bound: Tokens,
    pub unbounded: u64,
    /// What the user says that the answers will have.
    pub said: Tokens,
    /// The most that the answers can have at every model in question.
    pub alike: Tokens,
}

impl Sums {
    fn add(&mut self, other: Sums) {
        self.items += other.items;
        self.prompt += other.prompt;
        self.bound += other.bound;
        self.unbounded += other.unbounded;
        self.said += other.said;
        self.alike += other.alike;
    }
}

impl Load {
    /// Adds an item. `above` is the border of the highest price tier that its prompt passes.
    pub fn add(&mut self, service: Service, above: Option<Tokens>, sums: Sums) {
        let length = above.map_or(Tokens(0), |border| border + Tokens(1));
        self.band(service, length).sums.add(sums);
    }

    /// Takes the sums of another load in.
    pub fn merge(&mut self, other: &Load) {
        for band in &other.bands {
            self.band(band.service, band.length).sums.add(band.sums);
        }
    }

    fn band(&mut self, service: Service, length: Tokens) -> &mut Band {
        let known = |band: &Band| band.service == service && band.length == length;
        let at = self.bands.iter().position(known).unwrap_or_else(|| {
            self.bands.push(Band {
                service,
                length,
                ..Band::default()
            });
            self.bands.len() - 1
        });
        &mut self.bands[at]
    }

    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        self.bands.iter().for_each(|band| sums.add(band.sums));
        sums
    }

    /// Returns what the prompts cost; by the batch API, or as the items themselves ask.
    pub fn input_cost(&self, price: &Price, by_batch: bool) -> Option<Usd> {
        self.cost(price, by_batch, |rates, sums| {
            rates.input.times(sums.prompt)
        })
    }

    /// Returns the most that the answers can cost; nothing where one of them has no bound.
    pub fn most_output_cost(&self, price: &Price, by_batch: bool) -> Option<Usd> {
        if self.sums().unbounded > 0 {
            return None;
        }
        self.cost(price, by_batch, |rates, sums| {
            let dearest = rates
                .reasoning
                .map_or(rates.output, |rate| rate.max(rates.output));
            dearest.times(sums.bound)
        })
    }

    /// Returns what the answers cost if they are as long as the user says.
    pub fn said_output_cost(&self, price: &Price, by_batch: bool) -> Option<Usd> {
        self.cost(price, by_batch, |rates, sums| rates.output.times(sums.said))
    }

    /// Returns what the answers cost at the length that every model in question can give them.
    pub fn alike_output_cost(&self, price: &Price) -> Option<Usd> {
        self.cost(price, false, |rates, sums| rates.output.times(sums.alike))
    }

    /// Returns what one token of an answer costs on average over the items.
    pub fn output_rate(&self, price: &Price, by_batch: bool) -> Option<f64> {
        let items = self.sums().items.max(1) as f64;
        let all = self.cost(price, by_batch, |rates, sums| {
            rates.output.times(Tokens(sums.items))
        })?;
        Some(all.as_f64() / items)
    }

    fn cost(
        &self,
        price: &Price,
        by_batch: bool,
        part: impl Fn(&Rates, &Sums) -> Usd,
    ) -> Option<Usd> {
        let cost = |band: &Band| {
            let service = match by_batch {
                true => Service::Batch,
                false => band.service,
            };
            Some(part(price.tiers(service)?.rates(band.length), &band.sums))
        };
        self.bands.iter().map(cost).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::money::Rate;
    use crate::words::price::Tiers;

    fn rates(input: &str, output: &str) -> Rates {
        Rates {
            input: Rate::per_million(input).unwrap(),
            output: Rate::per_million(output).unwrap(),
            ..Rates::default()
        }
    }

    fn item(prompt: u64, bound: Option<u64>) -> Sums {
        Sums {
            items: 1,
            prompt: Tokens(prompt),
            bound: Tokens(bound.unwrap_or(0)),
            unbounded: u64::from(bound.is_none()),
            said: Tokens(100),
            alike: Tokens(0),
        }
    }

    fn price() -> Price {
        let border = Tokens(1000);
        Price {
            standard: Tiers::new(rates("5", "30"), vec![(border, rates("10", "45"))]),
            ..Price::default()
        }
    }

    #[test]
    fn long_prompts_pay_their_own_rates() {
        let mut load = Load::default();
        load.add(Service::Standard, None, item(1000, Some(10)));
        load.add(Service::Standard, Some(Tokens(1000)), item(2000, Some(10)));
        let price = price();
        let dollars = |usd: Option<Usd>| usd.unwrap().to_string();
        assert_eq!(dollars(load.input_cost(&price, false)), "0.025");
        assert_eq!(dollars(load.most_output_cost(&price, false)), "0.00075");
        assert_eq!(dollars(load.said_output_cost(&price, false)), "0.0075");
        assert_eq!(load.output_rate(&price, false), Some(37.5e-6));
        assert_eq!(load.input_cost(&price, true), None);
    }

    #[test]
    fn one_answer_without_a_bound_leaves_no_bound_at_all() {
        let mut load = Load::default();
        load.add(Service::Standard, None, item(10, Some(10)));
        assert!(load.most_output_cost(&price(), false).is_some());
        load.add(Service::Standard, None, item(10, None));
        assert_eq!(load.most_output_cost(&price(), false), None);
        assert_eq!(load.sums().bound, Tokens(10));
    }

    #[test]
    fn loads_add_up() {
        let mut one = Load::default();
        one.add(Service::Standard, None, item(1, Some(2)));
        let mut sum = one.clone();
        sum.merge(&one);
        assert_eq!(sum.sums().prompt, Tokens(2));
        assert_eq!(sum.sums().items, 2);
    }
}
