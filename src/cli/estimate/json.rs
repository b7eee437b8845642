//! The estimate as scripts read it: stable names, exact decimals, `null` for what is not known.

use serde::Serialize;
use serde_json::value::RawValue;

use super::experience::Origin;
use super::report::{Answers, Choice, Cost, Report};
use crate::estimate::{Interval, Places, Wall};
use crate::words::money::Usd;
use crate::words::tokens::Tokens;

type Money = Option<Box<RawValue>>;

#[derive(Serialize)]
struct Object<'a> {
    input: &'a str,
    items: u64,
    bad_lines_left_out: u64,
    prompt_tokens: Tokens,
    prompt_tokens_exact: bool,
    output: Output,
    /// Cheapest first.
    models: Vec<Row<'a>>,
    /// The models that the lines name, where there are several.
    of_which: Vec<Row<'a>>,
    time: Time,
    duplicates: Duplicates,
    pilot: Option<Pilot>,
}

#[derive(Serialize)]
struct Output {
    /// `bound`, `given`, `pilot` or `results`.
    basis: &'static str,
    /// `null` where nothing bounds it.
    tokens: Option<u64>,
    tokens_low: Option<u64>,
    tokens_high: Option<u64>,
    per_item: Option<f64>,
    per_item_low: Option<f64>,
    per_item_high: Option<f64>,
    answers: Option<u64>,
    items_without_bound: u64,
}

#[derive(Serialize)]
struct Row<'a> {
    model: &'a str,
    /// The items as they are, not a comparison.
    own: bool,
    items: u64,
    prompt_tokens: Tokens,
    exact_items: u64,
    counted_by: Vec<String>,
    input_usd: Money,
    output_usd: Money,
    cost_usd: Money,
    cost_low_usd: Money,
    cost_high_usd: Money,
    /// `cost_usd` is an upper bound.
    is_bound: bool,
    batch_usd: Money,
    batch_low_usd: Money,
    batch_high_usd: Money,
    ratio: Option<f64>,
    too_long: Lines,
    too_long_with_answer: Lines,
    retires: Option<String>,
}

#[derive(Serialize)]
struct Lines {
    items: u64,
    first_lines: Vec<u64>,
}

#[derive(Serialize)]
struct Time {
    rpm: Option<u32>,
    tpm: Option<u32>,
    concurrency: u64,
    /// `null` where nothing that is known binds.
    seconds: Option<f64>,
    seconds_low: Option<f64>,
    seconds_high: Option<f64>,
    bound_by: Option<&'static str>,
    by_requests: Option<f64>,
    by_tokens: Option<f64>,
    by_concurrency: Option<f64>,
    latency_seconds: Option<f64>,
}

#[derive(Serialize)]
struct Duplicates {
    items: u64,
    prompt_tokens: Tokens,
    cost_usd: Money,
}

#[derive(Serialize)]
struct Pilot {
    items: u64,
    failed: u64,
    results: String,
}

/// Writes the estimate.
pub fn write(report: &Report<'_>) -> String {
    let own = report.own();
    let object = Object {
        input: &report.question.input,
        items: report.items,
        bad_lines_left_out: report.left_out,
        prompt_tokens: own.prompt,
        prompt_tokens_exact: own.exact == own.items,
        output: output(report),
        models: report
            .choices
            .iter()
            .map(|choice| row(report, choice))
            .collect(),
        of_which: report.parts.iter().map(|part| row(report, part)).collect(),
        time: time(report),
        duplicates: Duplicates {
            items: report.repeated.items,
            prompt_tokens: report.repeated.prompt,
            cost_usd: report.repeated.usd.map(Usd::to_json),
        },
        pilot: match &report.learnt.origin {
            Origin::Pilot {
                results,
                asked,
                failed,
            } => Some(Pilot {
                items: *asked,
                failed: *failed,
                results: results.display().to_string(),
            }),
            _ => None,
        },
    };
    serde_json::to_string(&object).expect("plain values always serialize")
}

fn output(report: &Report<'_>) -> Output {
    let whole = |figure: f64| Some(figure.round().max(0.0) as u64);
    let mut output = Output {
        basis: "bound",
        tokens: None,
        tokens_low: None,
        tokens_high: None,
        per_item: None,
        per_item_low: None,
        per_item_high: None,
        answers: None,
        items_without_bound: 0,
    };
    match report.answers {
        Answers::Said { each, all } => {
            output.basis = "given";
            output.tokens = Some(all.0);
            output.per_item = Some(each.0 as f64);
        }
        Answers::Bound { all, unbounded } => {
            output.tokens = (unbounded == 0).then_some(all.0);
            output.items_without_bound = unbounded;
        }
        Answers::Forecast(forecast) => {
            output.basis = match report.learnt.origin {
                Origin::Results { .. } => "results",
                _ => "pilot",
            };
            let Interval { mean, low, high } = forecast.output;
            output.tokens = whole(mean);
            (output.tokens_low, output.tokens_high) = (whole(low), whole(high));
            let Interval { mean, low, high } = forecast.output_each;
            output.per_item = Some(mean);
            (output.per_item_low, output.per_item_high) = (Some(low), Some(high));
            output.answers = Some(forecast.answers);
        }
    }
    output
}

fn row<'a>(report: &Report<'_>, choice: &Choice<'a>) -> Row<'a> {
    let usd = |cost: Option<Cost>| cost.map(|cost| cost.usd.to_json());
    let low = |cost: Option<Cost>| Some(cost?.range?.0.to_json());
    let high = |cost: Option<Cost>| Some(cost?.range?.1.to_json());
    let mut counted_by: Vec<_> = choice
        .lanes
        .iter()
        .map(|lane| lane.model.counter.words())
        .collect();
    counted_by.sort();
    counted_by.dedup();
    let lines = |pick: fn(&crate::estimate::Lane) -> &Places| {
        let mut merged = Places::default();
        choice
            .lanes
            .iter()
            .for_each(|lane| merged.merge(pick(lane)));
        Lines {
            items: merged.count,
            first_lines: merged.lines().collect(),
        }
    };
    Row {
        model: choice.name,
        own: choice.is_own,
        items: choice.items,
        prompt_tokens: choice.prompt,
        exact_items: choice.exact,
        counted_by,
        input_usd: choice.input.map(Usd::to_json),
        output_usd: choice.output.map(Usd::to_json),
        cost_usd: usd(choice.real_time),
        cost_low_usd: low(choice.real_time),
        cost_high_usd: high(choice.real_time),
        is_bound: matches!(report.answers, Answers::Bound { .. }),
        batch_usd: usd(choice.batch),
        batch_low_usd: low(choice.batch),
        batch_high_usd: high(choice.batch),
        ratio: choice.ratio,
        too_long: lines(|lane| &lane.too_long),
        too_long_with_answer: lines(|lane| &lane.tight),
        retires: choice.retires.map(|day| day.to_string()),
    }
}

fn time(report: &Report<'_>) -> Time {
    let pace = &report.question.pace;
    let walls = &report.walls;
    let longest = |wall: &Wall| Some(wall.longest()?.0.as_secs_f64());
    let seconds = |time: Option<std::time::Duration>| time.map(|time| time.as_secs_f64());
    Time {
        rpm: pace.rpm,
        tpm: pace.tpm,
        concurrency: pace.concurrency,
        seconds: longest(&walls.usual),
        seconds_low: longest(&walls.low),
        seconds_high: walls.high.as_ref().and_then(longest),
        bound_by: walls.usual.longest().map(|(_, binds)| binds.name()),
        by_requests: seconds(walls.usual.requests),
        by_tokens: seconds(walls.usual.tokens),
        by_concurrency: seconds(walls.usual.concurrency),
        latency_seconds: match report.answers {
            Answers::Forecast(forecast) => forecast.latency.map(|latency| latency.mean),
            _ => None,
        },
    }
}
