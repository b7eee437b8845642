//! What a model's tokens cost, and what an answer cost.
//!
//! A price that is not known is no price at all, never zero: whoever has no [`Price`] has no cost.

use super::money::{Rate, Usd};
use super::tokens::{Tokens, Usage};

/// How a request is served, which decides the price. The answer says what it really was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Service {
    #[default]
    Standard,
    /// By a batch API.
    Batch,
    /// Slower and cheaper.
    Flex,
    /// Faster and dearer.
    Priority,
}

impl Service {
    /// Reads a `service_tier`. Words that say nothing of the price mean the standard.
    pub fn of_tier(word: &str) -> Self {
        match word {
            "flex" => Service::Flex,
            "priority" | "fast" => Service::Priority,
            "batch" => Service::Batch,
            _ => Service::Standard,
        }
    }
}

/// Prices of one kind of service, for prompts up to a length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    pub input: Rate,
    pub output: Rate,
    /// Prompt tokens that were found in a cache; as `input` where it is not known.
    pub cached: Option<Rate>,
    /// Prompt tokens that were put into a cache, for its usual time and for a longer one.
    pub cache_write: Option<Rate>,
    pub cache_write_long: Option<Rate>,
    /// Only where hidden reasoning costs something else than visible output.
    pub reasoning: Option<Rate>,
}

impl Rates {
    fn dearest_input(&self) -> Rate {
        let others = [self.cache_write, self.cache_write_long, self.cached];
        others.into_iter().flatten().fold(self.input, Rate::max)
    }

    fn dearest_output(&self) -> Rate {
        self.reasoning
            .map_or(self.output, |rate| rate.max(self.output))
    }

    fn cost(&self, usage: &Usage) -> Usd {
        let part = |tokens: Option<Tokens>, most: Tokens| tokens.unwrap_or_default().min(most);
        let cached = part(usage.cached, usage.prompt);
        let written = part(usage.cache_write, usage.prompt.less(cached));
        let written_long = part(usage.cache_write_long, usage.prompt.less(cached + written));
        let plain = usage.prompt.less(cached + written + written_long);
        let output = usage.billed_output();
        let reasoning = part(usage.reasoning, output);
        let write = self.cache_write.unwrap_or(self.input);
        self.input.times(plain)
            + self.cached.unwrap_or(self.input).times(cached)
            + write.times(written)
            + self.cache_write_long.unwrap_or(write).times(written_long)
            + self.reasoning.unwrap_or(self.output).times(reasoning)
            + self.output.times(output.less(reasoning))
    }
}

/// Prices that depend on the prompt's length: a prompt above a border pays the higher rates for
/// all of its tokens and for its answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tiers {
    base: Rates,
    /// Borders and the rates above them, ascending.
    above: Vec<(Tokens, Rates)>,
}

impl Tiers {
    pub fn flat(base: Rates) -> Self {
        Self::new(base, Vec::new())
    }

    pub fn new(base: Rates, mut above: Vec<(Tokens, Rates)>) -> Self {
        above.sort_by_key(|(border, _)| *border);
        Tiers { base, above }
    }

    /// Returns the rates for a prompt of this length.
    pub fn rates(&self, prompt: Tokens) -> &Rates {
        let passed = self.above.iter().rev().find(|(border, _)| prompt > *border);
        passed.map_or(&self.base, |(_, rates)| rates)
    }

    pub fn base(&self) -> &Rates {
        &self.base
    }

    /// Returns the borders and the rates above them, ascending.
    pub fn above(&self) -> &[(Tokens, Rates)] {
        &self.above
    }

    fn most(&self, prompt: Tokens, output: Tokens) -> Usd {
        let reached = self.above.iter().filter(|(border, _)| prompt > *border);
        std::iter::once(&self.base)
            .chain(reached.map(|(_, rates)| rates))
            .map(|rates| rates.dearest_input().times(prompt) + rates.dearest_output().times(output))
            .max()
            .unwrap_or_default()
    }
}

/// What one model costs at one provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Price {
    pub standard: Tiers,
    /// `None` where the batch price is not known.
    pub batch: Option<Tiers>,
    /// `None` where it is not known; then flex costs what the standard does.
    pub flex: Option<Tiers>,
    /// `None` where it is not known; then a priority answer's cost is not known either.
    pub priority: Option<Tiers>,
}

impl Price {
    /// Returns a price with nothing but input and output.
    pub fn simple(input: Rate, output: Rate) -> Self {
        let rates = Rates {
            input,
            output,
            ..Rates::default()
        };
        Price {
            standard: Tiers::flat(rates),
            ..Price::default()
        }
    }

    /// Returns a price that is the same however a request is served.
    pub fn at_every_service(input: Rate, output: Rate) -> Self {
        let simple = Self::simple(input, output);
        let tiers = Some(simple.standard.clone());
        Price {
            batch: tiers.clone(),
            flex: tiers.clone(),
            priority: tiers,
            ..simple
        }
    }

    /// Returns the prices of a kind of service, if they are known.
    pub fn tiers(&self, service: Service) -> Option<&Tiers> {
        match service {
            Service::Standard => Some(&self.standard),
            Service::Batch => self.batch.as_ref(),
            Service::Flex => self.flex.as_ref().or(Some(&self.standard)),
            Service::Priority => self.priority.as_ref(),
        }
    }

    /// Returns what an answer cost, unless it was more than text.
    pub fn cost(&self, usage: &Usage) -> Option<Usd> {
        if usage.audio > Tokens(0) {
            return None;
        }
        let tiers = self.tiers(usage.service)?;
        Some(tiers.rates(usage.prompt).cost(usage))
    }

    /// Returns the most that a request can cost, whatever is cached and however the answer is
    /// reasoned about.
    pub fn most(&self, prompt: Tokens, output: Tokens, service: Service) -> Option<Usd> {
        Some(self.tiers(service)?.most(prompt, output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_million: &str) -> Rate {
        Rate::per_million(per_million).unwrap()
    }

    fn rates(input: &str, output: &str) -> Rates {
        Rates {
            input: rate(input),
            output: rate(output),
            ..Rates::default()
        }
    }

    fn usage(prompt: u64, cached: u64, completion: u64) -> Usage {
        Usage {
            prompt: Tokens(prompt),
            completion: Tokens(completion),
            total: Tokens(prompt + completion),
            cached: Some(Tokens(cached)),
            ..Usage::default()
        }
    }

    fn cost(price: &Price, usage: Usage, service: Service) -> String {
        let usage = Usage { service, ..usage };
        price.cost(&usage).unwrap().to_string()
    }

    fn gpt_4o() -> Price {
        let standard = Rates {
            cached: Some(rate("1.25")),
            ..rates("2.5", "10")
        };
        Price {
            standard: Tiers::flat(standard),
            batch: Some(Tiers::flat(rates("1.25", "5"))),
            ..Price::default()
        }
    }

    #[test]
    fn cached_tokens_cost_less() {
        assert_eq!(
            cost(&gpt_4o(), usage(10_000, 4_000, 500), Service::Standard),
            "0.025"
        );
    }

    #[test]
    fn a_batch_without_cache_hits_costs_half() {
        assert_eq!(
            cost(&gpt_4o(), usage(10_000, 0, 500), Service::Batch),
            "0.015"
        );
    }

    #[test]
    fn cached_tokens_without_a_price_of_their_own_cost_as_input() {
        assert_eq!(
            cost(&gpt_4o(), usage(10_000, 4_000, 500), Service::Batch),
            "0.015"
        );
    }

    #[test]
    fn a_long_prompt_pays_more_for_all_of_it() {
        let price = Price {
            standard: Tiers::new(rates("5", "30"), vec![(Tokens(272_000), rates("10", "45"))]),
            ..Price::default()
        };
        assert_eq!(
            cost(&price, usage(300_000, 0, 1_000), Service::Standard),
            "3.045"
        );
        assert_eq!(
            cost(&price, usage(272_000, 0, 1_000), Service::Standard),
            "1.39"
        );
        let most = |prompt| price.most(Tokens(prompt), Tokens(1_000), Service::Standard);
        assert_eq!(most(300_000).unwrap().to_string(), "3.045");
        assert_eq!(most(272_000).unwrap().to_string(), "1.39");
    }

    #[test]
    fn writing_and_reading_a_cache_are_priced_apart() {
        let sonnet = Rates {
            cached: Some(rate("0.3")),
            cache_write: Some(rate("3.75")),
            cache_write_long: Some(rate("6")),
            ..rates("3", "15")
        };
        let price = Price {
            standard: Tiers::flat(sonnet),
            ..Price::default()
        };
        // input 1,000 beside 2,000 written and 10,000 read, which the prompt includes here.
        let mut used = usage(13_000, 10_000, 500);
        used.cache_write = Some(Tokens(2_000));
        assert_eq!(cost(&price, used, Service::Standard), "0.021");
        (used.cache_write, used.cache_write_long) = (None, Some(Tokens(2_000)));
        assert_eq!(cost(&price, used, Service::Standard), "0.0255");
        let most = price.most(Tokens(1_000), Tokens(0), Service::Standard);
        assert_eq!(most.unwrap().to_string(), "0.006");
    }

    #[test]
    fn reasoning_is_part_of_the_output_and_never_counted_twice() {
        let mut used = usage(0, 0, 500);
        used.reasoning = Some(Tokens(400));
        assert_eq!(cost(&gpt_4o(), used, Service::Standard), "0.005");
        let mut dear = gpt_4o();
        let thinks = Rates {
            reasoning: Some(rate("20")),
            ..*dear.standard.base()
        };
        dear.standard = Tiers::flat(thinks);
        assert_eq!(cost(&dear, used, Service::Standard), "0.009");
    }

    #[test]
    fn reasoning_that_only_the_total_shows_is_paid_for() {
        let mut used = usage(100, 0, 50);
        used.total = Tokens(450);
        assert_eq!(used.billed_output(), Tokens(350));
        assert_eq!(cost(&gpt_4o(), used, Service::Standard), "0.00375");
    }

    #[test]
    fn parts_larger_than_their_whole_never_cost_less_than_nothing() {
        let mut used = usage(10, 1_000_000, 0);
        used.cache_write = Some(Tokens(u64::MAX));
        used.reasoning = Some(Tokens(u64::MAX));
        assert_eq!(cost(&gpt_4o(), used, Service::Standard), "0.0000125");
    }

    #[test]
    fn sound_has_no_price_here() {
        let mut used = usage(10, 0, 10);
        used.audio = Tokens(1);
        assert_eq!(gpt_4o().cost(&used), None);
    }

    #[test]
    fn an_unknown_service_price_is_unknown_not_zero() {
        let simple = Price::simple(rate("1"), rate("2"));
        let used = usage(1, 0, 1);
        for service in [Service::Batch, Service::Priority] {
            assert_eq!(simple.cost(&Usage { service, ..used }), None);
        }
        assert_eq!(cost(&simple, used, Service::Flex), "0.000003");
    }
}
