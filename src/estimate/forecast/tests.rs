use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;

use super::*;
use crate::estimate::{Asked, Job, Model, count};
use crate::tokenizer::Counter;
use crate::words::item::Item;
use crate::words::money::Rate;
use crate::words::price::{Price, Tiers};
use crate::words::tariff::Bounds;

fn model(name: &Arc<str>) -> Model {
    let rate = |text| Rate::per_million(text).unwrap();
    let mut price = Price::simple(rate("1"), rate("10"));
    price.batch = Some(Tiers::flat(
        *Price::simple(rate("0.5"), rate("5")).standard.base(),
    ));
    Model {
        name: name.clone(),
        counter: Counter::of(name),
        price: (**name != *"unknown").then(|| Arc::new(price)),
        max_input: None,
        max_output: None,
    }
}

fn asked(number: u64, name: &str) -> Asked {
    let body = format!(r#"{{"messages":[{{"role":"user","content":"question {number}"}}]}}"#);
    let item = Item {
        id: format!("t-{number}").into(),
        index: number,
        line: number + 1,
        model: name.into(),
        model_is_shared: true,
        body: body.into(),
        metadata: None,
        prompt_tokens: None,
        bounds: Bounds::default(),
        expects_json: false,
        tariff: None,
    };
    Asked {
        item,
        is_repeated: false,
    }
}

fn counted(items: u64, name: &str, settled: &HashSet<u128>) -> Counted {
    let compared = [model(&"gpt-4o".into()), model(&"unknown".into())];
    let job = Job {
        model: &model,
        compared: &compared,
        said: None,
        alike: None,
        settled,
        sampled: settled,
        threads: 2,
    };
    let mut numbers = 0..items;
    let source = || Ok::<_, Infallible>(numbers.next().map(|number| asked(number, name)));
    count(&job, source, |_| {}).unwrap()
}

/// An answer to each of these items, whose prompts come to 20 tokens.
fn experience(items: u64, output: impl Fn(u64) -> u64) -> Experience {
    let sample: Vec<Seen> = (0..items)
        .map(|number| Seen {
            id: crate::words::item::fingerprint(&format!("t-{number}")),
            usage: Usage {
                prompt: Tokens(20),
                completion: Tokens(output(number)),
                ..Usage::default()
            },
            cost: None,
            latency: Some(Duration::from_millis(500)),
        })
        .collect();
    let outputs = (0..items).map(output).sum();
    Experience {
        sample,
        settled: Settled {
            items,
            prompt: Tokens(20 * items),
            output: Tokens(outputs),
            cost: Usd::from_picodollars(u128::from(20 * items * 1_000_000 + outputs * 10_000_000)),
            without_cost: 0,
        },
    }
}

fn ids(experience: &Experience) -> HashSet<u128> {
    experience.sample.iter().map(|seen| seen.id).collect()
}

#[test]
fn equal_answers_make_a_certain_forecast() {
    let known = experience(20, |_| 7);
    let forecast = forecast(&counted(1000, "gpt-4o-mini", &ids(&known)), &known, 1).unwrap();
    assert_eq!(forecast.rest, 980);
    assert_eq!(forecast.output, Interval::certain(7000.0));
    assert_eq!(forecast.prompt.round(), 20_000.0);
    let real = forecast.own.real_time.unwrap();
    assert!(
        (real.mean - 0.09).abs() < 1e-9 && (real.high - real.low).abs() < 1e-9,
        "{real:?}"
    );
    let batch = forecast.own.batch.unwrap();
    assert!((batch.mean - 0.045).abs() < 1e-4, "{batch:?}");
    assert_eq!(forecast.latency, Some(Interval::certain(0.5)));
    // The same vocabulary, so the same correction.
    let other = forecast.compared[0].real_time.unwrap();
    assert!((other.mean - 0.09).abs() < 1e-4, "{other:?}");
    assert!(forecast.compared[1].real_time.is_none());
}

#[test]
fn an_unknown_price_leaves_the_tokens_known() {
    let known = experience(20, |number| number);
    let forecast = forecast(&counted(100, "unknown", &ids(&known)), &known, 1).unwrap();
    assert!(forecast.own.real_time.is_none());
    assert!(forecast.output.low < forecast.output.mean);
}

#[test]
fn answers_of_other_items_tell_of_lengths_only() {
    let known = Experience {
        settled: Settled::default(),
        ..experience(20, |_| 7)
    };
    let forecast = forecast(&counted(100, "gpt-4o", &HashSet::new()), &known, 1).unwrap();
    assert_eq!((forecast.rest, forecast.prompt_ratio), (100, 1.0));
    let real = forecast.own.real_time.unwrap();
    let prompts = forecast.prompt * 1e-6;
    assert!((real.mean - prompts - 0.007).abs() < 1e-9, "{real:?}");
}

#[test]
fn everything_settled_is_certain() {
    let known = experience(20, |number| number);
    let forecast = forecast(&counted(20, "gpt-4o", &ids(&known)), &known, 1).unwrap();
    assert_eq!(forecast.rest, 0);
    let real = forecast.own.real_time.unwrap();
    let cost = known.settled.cost.as_f64();
    assert!((real.low - cost).abs() < 1e-12 && (real.high - cost).abs() < 1e-12);
}

#[test]
fn one_answer_says_nothing() {
    let known = experience(1, |_| 7);
    assert!(forecast(&counted(20, "gpt-4o", &ids(&known)), &known, 1).is_none());
}
