//! The facts of an estimate, for text and JSON alike.

use jiff::civil::Date;

use super::experience::Learnt;
use super::question::Question;
use crate::estimate::{Counted, Forecast, Interval, Lane, Load, Wall};
use crate::words::money::Usd;
use crate::words::price::Price;
use crate::words::tokens::Tokens;

/// Everything that the estimate says.
pub struct Report<'a> {
    pub question: &'a Question,
    pub learnt: &'a Learnt,
    pub items: u64,
    /// Bad lines that were left out.
    pub left_out: u64,
    pub answers: Answers<'a>,
    /// The items as they are, and as other models would take them; cheapest first.
    pub choices: Vec<Choice<'a>>,
    /// The models that the lines name, where there are several.
    pub parts: Vec<Choice<'a>>,
    pub walls: Walls,
    pub repeated: Repeated,
    /// The length of answers by which models are compared, where their own limits differ.
    pub alike: Option<Tokens>,
}

/// What the length of answers rests on.
#[derive(Clone, Copy)]
pub enum Answers<'a> {
    /// The user's word.
    Said { each: Tokens, all: Tokens },
    /// A pilot or an earlier run.
    Forecast(&'a Forecast),
    /// Nothing but limits; `unbounded` items have none.
    Bound { all: Tokens, unbounded: u64 },
}

/// One way to have all items answered.
pub struct Choice<'a> {
    pub name: &'a str,
    pub lanes: Vec<&'a Lane>,
    pub is_own: bool,
    pub prompt: Tokens,
    /// Items whose prompt is counted as the provider will.
    pub exact: u64,
    pub items: u64,
    pub input: Option<Usd>,
    pub output: Option<Usd>,
    pub real_time: Option<Cost>,
    pub batch: Option<Cost>,
    /// The cost by which it is set beside the others: as it is, or, where answers are only
    /// bounded, with answers as long as every model can give them.
    pub beside: Option<Usd>,
    /// How many times the cheapest one's cost.
    pub ratio: Option<f64>,
    pub retires: Option<Date>,
}

/// A cost, and what it lies between in nine of ten cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    pub usd: Usd,
    pub range: Option<(Usd, Usd)>,
}

/// The least time that the items take.
pub struct Walls {
    pub low: Wall,
    pub usual: Wall,
    /// `None` where nothing bounds it.
    pub high: Option<Wall>,
}

/// Items that equal an earlier one.
pub struct Repeated {
    pub items: u64,
    pub prompt: Tokens,
    /// What they cost; without their answers where those are only bounded.
    pub usd: Option<Usd>,
}

impl<'a> Report<'a> {
    pub fn new(
        question: &'a Question,
        counted: &'a Counted,
        learnt: &'a Learnt,
        forecast: Option<&'a Forecast>,
        lines: u64,
    ) -> Self {
        let own: Vec<&Lane> = counted.own.values().collect();
        let answers = answers(question, &own, forecast);
        let whole = match own[..] {
            [lane] => &*lane.model.name,
            _ => "as the lines say",
        };
        let mut choices = vec![Choice::new(question, whole, own.clone(), answers, None)];
        for (at, lane) in counted.compared.iter().enumerate() {
            if *lane.model.name != *whole {
                choices.push(Choice::new(
                    question,
                    &lane.model.name,
                    vec![lane],
                    answers,
                    Some(at),
                ));
            }
        }
        rank(&mut choices);
        let part = |lane: &'a Lane| Choice::part(question, lane, answers);
        let parts = match own.len() {
            0 | 1 => Vec::new(),
            _ => own.iter().map(|lane| part(lane)).collect(),
        };
        Report {
            question,
            learnt,
            items: counted.items,
            left_out: question.limit.map_or(lines, |limit| lines.min(limit)) - counted.items,
            walls: walls(question, counted.items, &own, answers),
            repeated: repeated(&own, answers),
            alike: alike(question, counted, &choices, answers),
            answers,
            choices,
            parts,
        }
    }

    /// Returns the items as they are.
    pub fn own(&self) -> &Choice<'a> {
        let own = self.choices.iter().find(|choice| choice.is_own);
        own.expect("it is put in first")
    }
}

fn alike(
    question: &Question,
    counted: &Counted,
    choices: &[Choice<'_>],
    answers: Answers<'_>,
) -> Option<Tokens> {
    let lanes = || choices.iter().flat_map(|choice| &choice.lanes);
    let differ = lanes().any(|lane| lane.all.sums().bound != lane.all.sums().alike);
    let is_bound = matches!(answers, Answers::Bound { .. });
    let alike = question.alike(counted.own.keys());
    alike.filter(|_| is_bound && differ && choices.len() > 1)
}

fn answers<'a>(question: &Question, own: &[&Lane], forecast: Option<&'a Forecast>) -> Answers<'a> {
    let sum = |part: fn(&Load) -> Tokens| own.iter().map(|lane| part(&lane.all)).sum::<Tokens>();
    match (question.said, forecast) {
        (Some(each), _) => Answers::Said {
            each,
            all: sum(|load| load.sums().said),
        },
        (None, Some(forecast)) => Answers::Forecast(forecast),
        (None, None) => Answers::Bound {
            all: sum(|load| load.sums().bound),
            unbounded: own.iter().map(|lane| lane.all.sums().unbounded).sum(),
        },
    }
}

/// Orders by cost, those of unknown cost last, and sets each beside the cheapest.
fn rank(choices: &mut [Choice<'_>]) {
    let cost = |choice: &Choice<'_>| choice.beside;
    choices.sort_by_key(|choice| (choice.beside.is_none(), cost(choice)));
    let cheapest = choices
        .first()
        .and_then(cost)
        .filter(|usd| *usd > Usd::ZERO);
    for choice in choices {
        choice.ratio = cheapest
            .zip(cost(choice))
            .map(|(least, usd)| usd.as_f64() / least.as_f64());
    }
}

impl<'a> Choice<'a> {
    /// `compared` is the place among the compared models; `None` for the items as they are.
    fn new(
        question: &Question,
        name: &'a str,
        lanes: Vec<&'a Lane>,
        answers: Answers<'_>,
        compared: Option<usize>,
    ) -> Self {
        let mut choice = Choice::counted(question, name, lanes);
        choice.is_own = compared.is_none();
        match answers {
            Answers::Forecast(forecast) => {
                let costs = compared.map_or(forecast.own, |at| forecast.compared[at]);
                choice.real_time = costs.real_time.map(Cost::within);
                choice.batch = costs.batch.map(Cost::within);
                let counted = choice.prompt.0.max(1) as f64;
                match compared {
                    None => choice.correct_prompt(forecast.prompt / counted),
                    Some(at) if forecast.counted_alike[at] => {
                        choice.correct_prompt(forecast.prompt_ratio);
                    }
                    Some(_) => {}
                }
                choice.output = choice
                    .real_time
                    .zip(choice.input)
                    .map(|(cost, input)| cost.usd.less(input));
            }
            _ => choice.add_answers(answers),
        }
        choice.beside = match answers {
            Answers::Bound { .. } => total(&choice.lanes, |load, price| {
                Some(load.input_cost(price, false)? + load.alike_output_cost(price)?)
            }),
            _ => choice.real_time.map(|cost| cost.usd),
        };
        choice
    }

    /// One of several models that the lines name.
    fn part(question: &Question, lane: &'a Lane, answers: Answers<'_>) -> Self {
        let mut choice = Choice::counted(question, &lane.model.name, vec![lane]);
        choice.add_answers(answers);
        choice
    }

    fn counted(question: &Question, name: &'a str, lanes: Vec<&'a Lane>) -> Self {
        Choice {
            name,
            is_own: false,
            prompt: lanes.iter().map(|lane| lane.all.sums().prompt).sum(),
            exact: lanes.iter().map(|lane| lane.exact).sum(),
            items: lanes.iter().map(|lane| lane.all.sums().items).sum(),
            input: total(&lanes, |load, price| load.input_cost(price, false)),
            output: None,
            real_time: None,
            batch: None,
            beside: None,
            ratio: None,
            retires: match lanes[..] {
                [lane] => question.retires(&lane.model.name),
                _ => None,
            },
            lanes,
        }
    }

    /// Takes prompts at what they really come to, by the sample.
    fn correct_prompt(&mut self, times: f64) {
        if (times - 1.0).abs() > 0.001 {
            self.exact = 0;
        }
        self.prompt = Tokens((self.prompt.0 as f64 * times).round() as u64);
        self.input = self.input.map(|input| Usd::nearest(input.as_f64() * times));
    }

    fn add_answers(&mut self, answers: Answers<'_>) {
        self.output = total(&self.lanes, |load, price| {
            output_cost(load, price, answers, false)
        });
        let known = |usd| Cost { usd, range: None };
        self.real_time = self
            .input
            .zip(self.output)
            .map(|(input, output)| known(input + output));
        let batch = total(&self.lanes, |load, price| {
            Some(load.input_cost(price, true)? + output_cost(load, price, answers, true)?)
        });
        self.batch = batch.map(known);
    }
}

impl Cost {
    fn within(interval: Interval) -> Self {
        Cost {
            usd: Usd::nearest(interval.mean),
            range: Some((Usd::nearest(interval.low), Usd::nearest(interval.high))),
        }
    }
}

/// Adds up over lanes; nothing where one price is not known.
fn total(lanes: &[&Lane], part: impl Fn(&Load, &Price) -> Option<Usd>) -> Option<Usd> {
    let cost = |lane: &&Lane| part(&lane.all, lane.model.price.as_ref()?);
    lanes.iter().map(cost).sum()
}

fn output_cost(load: &Load, price: &Price, answers: Answers<'_>, by_batch: bool) -> Option<Usd> {
    match answers {
        Answers::Said { .. } => load.said_output_cost(price, by_batch),
        Answers::Bound { .. } => load.most_output_cost(price, by_batch),
        Answers::Forecast(forecast) => {
            let tokens = forecast.output_each.mean * load.sums().items as f64;
            Some(Usd::nearest(load.output_rate(price, by_batch)? * tokens))
        }
    }
}

fn walls(question: &Question, items: u64, own: &[&Lane], answers: Answers<'_>) -> Walls {
    let counted: Tokens = own.iter().map(|lane| lane.all.sums().prompt).sum();
    let wall = |tokens: f64, latency: Option<f64>| {
        Wall::of(&question.pace, items as f64, Some(tokens), latency)
    };
    let prompt = counted.0 as f64;
    match answers {
        Answers::Said { all, .. } => {
            let same = wall(prompt + all.0 as f64, None);
            Walls {
                low: same,
                usual: same,
                high: Some(same),
            }
        }
        Answers::Bound { all, unbounded } => {
            let least = wall(prompt, None);
            Walls {
                low: least,
                usual: least,
                high: (unbounded == 0).then(|| wall(prompt + all.0 as f64, None)),
            }
        }
        Answers::Forecast(forecast) => {
            let part = |pick: fn(&Interval) -> f64| {
                let latency = forecast.latency.as_ref().map(pick);
                wall(forecast.prompt + pick(&forecast.output), latency)
            };
            Walls {
                low: part(|interval| interval.low),
                usual: part(|interval| interval.mean),
                high: Some(part(|interval| interval.high)),
            }
        }
    }
}

fn repeated(own: &[&Lane], answers: Answers<'_>) -> Repeated {
    let cost = |lane: &&Lane| {
        let price = lane.model.price.as_ref()?;
        let input = lane.repeated.input_cost(price, false)?;
        let output = match answers {
            Answers::Bound { .. } => Usd::ZERO,
            _ => output_cost(&lane.repeated, price, answers, false)?,
        };
        Some(input + output)
    };
    Repeated {
        items: own.iter().map(|lane| lane.repeated.sums().items).sum(),
        prompt: own.iter().map(|lane| lane.repeated.sums().prompt).sum(),
        usd: own.iter().map(cost).sum(),
    }
}
