//! From the answers of a pilot, or of an earlier run, to those of all items.
//!
//! The items of the sample are known exactly. For the others, prompts are those counted, corrected
//! by what the sample's prompts really came to, and everything else (the answers, discounts for
//! cached tokens) is predicted from what the sample paid above its corrected prompts.

use std::time::Duration;

use fastrand::Rng;

use super::counting::Counted;
use super::interval::{Interval, sum};
use super::lane::Lane;
use crate::words::money::Usd;
use crate::words::tokens::{Tokens, Usage};

/// An answered item.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The fingerprint of its id.
    pub id: u128,
    pub usage: Usage,
    /// What it cost, where that is on record.
    pub cost: Option<Usd>,
    pub latency: Option<Duration>,
}

/// What the results that are there already come to, those of the sample among them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settled {
    pub items: u64,
    pub prompt: Tokens,
    pub output: Tokens,
    pub cost: Usd,
    /// Items whose cost is not on record.
    pub without_cost: u64,
}

/// What is known of answers.
#[derive(Debug, Clone, Default)]
pub struct Experience {
    /// Chosen at random.
    pub sample: Vec<Seen>,
    /// Nothing, where the items are to be asked all anew.
    pub settled: Settled,
}

/// What is to be expected of the whole.
#[derive(Debug, Clone)]
pub struct Forecast {
    /// Answers that it rests on.
    pub answers: u64,
    /// Items that are to be asked still.
    pub rest: u64,
    /// Tokens of an answer, on average over the rest.
    pub output_each: Interval,
    /// Tokens of all answers.
    pub output: Interval,
    /// What prompts really came to, for each token counted, and in all.
    pub prompt_ratio: f64,
    pub prompt: f64,
    /// Seconds of an answer, on average.
    pub latency: Option<Interval>,
    /// As the items themselves ask, and by the batch API.
    pub own: Costs,
    /// As compared models would take them, answering at the same length.
    pub compared: Vec<Costs>,
    /// Which of them count prompts as the items' own model does, so that the ratio holds there too.
    pub counted_alike: Vec<bool>,
}

/// The cost of everything in dollars; `None` where a price is not known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Costs {
    pub real_time: Option<Interval>,
    pub batch: Option<Interval>,
}

/// Makes a forecast. Fewer than two answers say nothing.
pub fn forecast(counted: &Counted, experience: &Experience, seed: u64) -> Option<Forecast> {
    let basis = Basis::new(counted, experience)?;
    let mut rng = Rng::with_seed(seed);
    let outputs: Vec<f64> = experience.sample.iter().map(output).collect();
    let of_rest = sum(&outputs, basis.rest, &mut rng)?;
    let output = of_rest.plus(experience.settled.output.0 as f64);
    let latencies = experience.sample.iter().filter_map(|seen| seen.latency);
    let latencies: Vec<f64> = latencies.map(|latency| latency.as_secs_f64()).collect();
    let items = counted.items.max(1);
    let latency = sum(&latencies, items, &mut rng);
    let own = Costs {
        real_time: basis
            .real_time(&mut rng)
            .or_else(|| basis.elsewhere(&basis.lanes, output, false)),
        batch: basis.elsewhere(&basis.lanes, output, true),
    };
    let compared = counted.compared.iter().map(|lane| Costs {
        real_time: basis.elsewhere(&[lane], output, false),
        batch: basis.elsewhere(&[lane], output, true),
    });
    Some(Forecast {
        answers: outputs.len() as u64,
        rest: basis.rest,
        output_each: match basis.rest {
            0 => Interval::certain(outputs.iter().sum::<f64>() / outputs.len() as f64),
            rest => of_rest.map(|tokens| (tokens / rest as f64).max(0.0)),
        },
        output: output.map(|tokens| tokens.max(0.0)),
        prompt_ratio: basis.ratio,
        prompt: basis.prompt(),
        latency: latency.map(|total| total.map(|seconds| (seconds / items as f64).max(0.0))),
        own,
        compared: compared.collect(),
        counted_alike: counted
            .compared
            .iter()
            .map(|lane| basis.counts_alike(lane))
            .collect(),
    })
}

fn output(seen: &Seen) -> f64 {
    seen.usage.billed_output().0 as f64
}

/// What every figure of a forecast starts from.
struct Basis<'a> {
    counted: &'a Counted,
    experience: &'a Experience,
    lanes: Vec<&'a Lane>,
    rest: u64,
    ratio: f64,
}

impl<'a> Basis<'a> {
    fn new(counted: &'a Counted, experience: &'a Experience) -> Option<Self> {
        if experience.sample.len() < 2 {
            return None;
        }
        let lanes: Vec<&Lane> = counted.own.values().collect();
        let settled: u64 = lanes.iter().map(|lane| lane.settled.sums().items).sum();
        let (mut real, mut estimated) = (0, 0);
        // What got no answer says nothing of how prompts are counted.
        let answered = experience
            .sample
            .iter()
            .filter(|seen| seen.usage.prompt.0 > 0);
        for seen in answered {
            if let Some((_, prompt)) = counted.sampled.get(&seen.id) {
                real += seen.usage.prompt.0;
                estimated += prompt.0;
            }
        }
        let ratio = match (real, estimated) {
            (0, _) | (_, 0) => 1.0,
            _ => real as f64 / estimated as f64,
        };
        Some(Basis {
            counted,
            experience,
            rest: counted.items - settled,
            lanes,
            ratio,
        })
    }

    /// Returns the prompt tokens of all items.
    fn prompt(&self) -> f64 {
        let rest = |lane: &&Lane| lane.all.sums().prompt.less(lane.settled.sums().prompt).0;
        let rest: u64 = self.lanes.iter().map(rest).sum();
        self.experience.settled.prompt.0 as f64 + self.ratio * rest as f64
    }

    /// Predicts what the items cost as they are, from what those of the sample did.
    fn real_time(&self, rng: &mut Rng) -> Option<Interval> {
        if self.experience.settled.without_cost > 0 {
            return None;
        }
        let mut prompts = 0.0;
        for lane in &self.lanes {
            let price = lane.model.price.as_ref()?;
            let [all, settled] =
                [&lane.all, &lane.settled].map(|load| load.input_cost(price, false));
            prompts += all?.less(settled?).as_f64();
        }
        let above: Option<Vec<f64>> = self
            .experience
            .sample
            .iter()
            .map(|seen| self.above_prompt(seen))
            .collect();
        let above = sum(&above?, self.rest, rng)?;
        let known = self.experience.settled.cost.as_f64();
        Some(
            above
                .plus(known + self.ratio * prompts)
                .map(|usd| usd.max(0.0)),
        )
    }

    /// Returns what an item cost above what its counted prompt lets expect.
    fn above_prompt(&self, seen: &Seen) -> Option<f64> {
        let (model, prompt) = self.counted.sampled.get(&seen.id)?;
        let price = self.counted.own.get(model)?.model.price.as_ref()?;
        let cost = seen.cost.or_else(|| price.cost(&seen.usage))?;
        let expected = price.standard.rates(*prompt).input.times(*prompt);
        Some(cost.as_f64() - self.ratio * expected.as_f64())
    }

    /// Predicts what the items cost elsewhere, with answers as long as here.
    fn elsewhere(&self, lanes: &[&Lane], output: Interval, by_batch: bool) -> Option<Interval> {
        let (mut input, mut rate) = (0.0, 0.0);
        for lane in lanes {
            let price = lane.model.price.as_ref()?;
            let ratio = if self.counts_alike(lane) {
                self.ratio
            } else {
                1.0
            };
            input += lane.all.input_cost(price, by_batch)?.as_f64() * ratio;
            let share = lane.all.sums().items as f64 / self.counted.items.max(1) as f64;
            rate += lane.all.output_rate(price, by_batch)? * share;
        }
        Some(output.map(|tokens| input + rate * tokens.max(0.0)))
    }

    /// Tells whether the correction of the sample's prompts says anything of this model's.
    fn counts_alike(&self, lane: &Lane) -> bool {
        let counter = |lane: &Lane| (lane.model.counter.encoding, lane.model.counter.percent);
        self.lanes.iter().all(|own| counter(own) == counter(lane))
    }
}

#[cfg(test)]
mod tests;
