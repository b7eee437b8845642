//! What is counted and charged, whatever becomes of the answer.

use serde_json::{Value, json};

use super::{Bench, Fault, Reply, always, body, prompt, until};
use crate::sim::{Counts, PicoDollars, Price, Prices, SimSettings, echo_tag};

const CHAT: &str = "POST /v1/chat/completions";

const PRICE: Price = Price {
    input: 150_000,
    output: 600_000,
    cached: 75_000,
};

fn priced(settings: SimSettings) -> SimSettings {
    let prices = Prices {
        general: Some(PRICE),
        ..Prices::default()
    };
    SimSettings { prices, ..settings }
}

/// What an answer says it used, and what that costs.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Use {
    prompt: u64,
    cached: u64,
    completion: u64,
}

impl Use {
    fn stated(reply: &Reply) -> Use {
        let usage = &reply.json()["usage"];
        let tokens = |value: &Value| value.as_u64().unwrap();
        Use {
            prompt: tokens(&usage["prompt_tokens"]),
            cached: tokens(&usage["prompt_tokens_details"]["cached_tokens"]),
            completion: tokens(&usage["completion_tokens"]),
        }
    }

    /// Returns what the answer to this text says it used where nothing goes wrong.
    async fn of(text: &str) -> Use {
        Use::stated(&Bench::start(prompt()).await.ask(text).await)
    }

    fn cost(&self, price: Price) -> u128 {
        let input = (self.prompt - self.cached) * price.input + self.cached * price.cached;
        u128::from(input + self.completion * price.output)
    }
}

/// Asks until the fault, which may have two faces, shows the one with this status. Returns what
/// was asked, and what was counted for it alone.
async fn struck(fault: Fault, status: u16) -> (String, Counts) {
    for number in 0..20 {
        let text = number.to_string();
        let bench = Bench::start(priced(always(fault))).await;
        if bench.ask(&text).await.status == status {
            return (text, bench.stats.counts());
        }
    }
    panic!("{fault} never answers {status}");
}

fn assert_uncharged(counts: &Counts) {
    assert_eq!(counts.charged_answers, 0);
    assert_eq!(counts.charged_picodollars, PicoDollars(0));
    assert_eq!(counts.charged_undelivered_picodollars, PicoDollars(0));
    assert_eq!((counts.prompt_tokens, counts.completion_tokens), (0, 0));
}

fn assert_charged(counts: &Counts, used: Use) {
    assert_eq!(counts.charged_answers, 1);
    assert_eq!(counts.charged_picodollars.0, used.cost(PRICE));
    assert_eq!(counts.prompt_tokens, used.prompt);
    assert_eq!(counts.completion_tokens, used.completion);
}

fn assert_delivered(counts: &Counts) {
    assert_eq!(counts.charged_undelivered_picodollars, PicoDollars(0));
}

fn assert_undelivered(counts: &Counts) {
    assert_ne!(counts.charged_picodollars, PicoDollars(0));
    assert_eq!(
        counts.charged_undelivered_picodollars,
        counts.charged_picodollars
    );
}

#[tokio::test]
async fn answer_is_charged_at_its_usage() {
    let bench = Bench::start(priced(prompt())).await;
    let used = Use::stated(&bench.ask("q").await);
    assert_charged(&bench.stats.counts(), used);
    assert_delivered(&bench.stats.counts());
    let stats = bench.get("/sim/stats").await.json();
    assert_eq!(stats["charged_answers"], 1);
    let cost = used.cost(PRICE).to_string();
    assert_eq!(stats["charged_picodollars"], cost);
    assert_eq!(stats["charged_usd"], bench.stats.counts().charged_usd);
    assert_eq!(stats["charged_undelivered_picodollars"], "0");
}

#[tokio::test]
async fn without_prices_answers_are_counted_but_free() {
    let bench = Bench::start(prompt()).await;
    bench.ask("q").await;
    let stats = bench.get("/sim/stats").await.json();
    assert_eq!(stats["charged_answers"], 1);
    assert_eq!(stats["charged_picodollars"], "0");
    assert_eq!(stats["charged_usd"], "0");
}

#[tokio::test]
async fn answer_is_charged_though_its_client_leaves_early() {
    let settings = "latency=60m,latency-p99=60m".parse().unwrap();
    let bench = Bench::start(priced(settings)).await;
    let stream = bench.send(CHAT, "", &body("q")).await;
    until(|| bench.stats.counts().charged_answers == 1).await;
    drop(stream);
    until(|| bench.stats.counts().in_flight == 0).await;
    let counts = bench.stats.counts();
    assert_charged(&counts, Use::of("q").await);
    assert_undelivered(&counts);
    assert_eq!(counts.answered, 0);
}

#[tokio::test]
async fn reset_answer_is_charged() {
    let bench = Bench::start(priced(always(Fault::Reset))).await;
    assert!(bench.exchange(CHAT, "", &body("q")).await.is_err());
    let counts = bench.stats.counts();
    assert_charged(&counts, Use::of("q").await);
    assert_undelivered(&counts);
}

#[tokio::test]
async fn stalled_answer_is_charged() {
    let bench = Bench::start(priced(always(Fault::Stall))).await;
    let _stream = bench.send(CHAT, "", &body("q")).await;
    until(|| bench.stats.counts().charged_answers == 1).await;
    let counts = bench.stats.counts();
    assert_charged(&counts, Use::of("q").await);
    assert_undelivered(&counts);
}

#[tokio::test]
async fn truncated_answer_is_charged() {
    let bench = Bench::start(priced(always(Fault::Truncated))).await;
    bench.ask("q").await;
    let counts = bench.stats.counts();
    assert_charged(&counts, Use::of("q").await);
    assert_undelivered(&counts);
}

#[tokio::test]
async fn answer_that_cannot_be_read_is_charged() {
    for fault in [Fault::BadJson, Fault::NoUsage, Fault::Html] {
        let (text, counts) = struck(fault, 200).await;
        assert_charged(&counts, Use::of(&text).await);
        assert_delivered(&counts);
    }
}

#[tokio::test]
async fn answer_without_content_is_charged_for_its_prompt() {
    for fault in [Fault::EmptyChoices, Fault::ContentFilter] {
        let (text, counts) = struck(fault, 200).await;
        let used = Use {
            completion: 0,
            ..Use::of(&text).await
        };
        assert_charged(&counts, used);
        assert_delivered(&counts);
    }
}

#[tokio::test]
async fn failure_is_not_charged() {
    let faults = [
        (Fault::RateLimit, 429),
        (Fault::ServerError, 500),
        (Fault::Overloaded, 503),
        (Fault::Html, 502),
        (Fault::ContentFilter, 400),
    ];
    for (fault, status) in faults {
        let (_, counts) = struck(fault, status).await;
        assert_uncharged(&counts);
    }
}

#[tokio::test]
async fn refused_request_is_not_charged() {
    let settings = SimSettings {
        api_key: Some("right".to_owned()),
        models: vec!["other".to_owned()],
        ..priced(prompt())
    };
    let bench = Bench::start(settings).await;
    assert_eq!(bench.ask("q").await.status, 401);
    let right = "authorization: Bearer right\r\n";
    for (body, status) in [(body("q"), 404), ("{".to_owned(), 400)] {
        let refused = bench.exchange(CHAT, right, &body).await.unwrap();
        assert_eq!(refused.status, status);
    }
    assert_uncharged(&bench.stats.counts());
    let limited = Bench::start(priced("latency=0,tpm=30".parse().unwrap())).await;
    assert_eq!(limited.ask("q").await.status, 429);
    assert_uncharged(&limited.stats.counts());
}

#[tokio::test]
async fn sum_of_charges_is_that_of_the_usages() {
    let spec = "latency=0,price-in=0.000001,price-out=0.333333,reasoning=7,max-output=60";
    let bench = Bench::start(spec.parse().unwrap()).await;
    let price = Price {
        input: 1,
        output: 333_333,
        cached: 1,
    };
    let mut sum = 0;
    for number in 0..200 {
        sum += Use::stated(&bench.ask(&number.to_string()).await).cost(price);
    }
    assert_eq!(bench.stats.counts().charged_picodollars, PicoDollars(sum));
}

#[tokio::test]
async fn each_model_is_charged_its_own_price() {
    let spec = "latency=0,price-in=2,price-out=8,price.small/v1.5.in=0.1,price.small/v1.5.out=0.4";
    let bench = Bench::start(spec.parse().unwrap()).await;
    let mut costs = Vec::new();
    for model in ["large", "small/v1.5"] {
        let messages = json!([{ "role": "user", "content": "q" }]);
        let before = bench.stats.counts().charged_picodollars;
        let body = json!({ "model": model, "messages": messages });
        bench.post(&body.to_string()).await;
        costs.push((bench.stats.counts().charged_picodollars - before).0);
    }
    assert_eq!(costs[0], 20 * costs[1]);
    assert_ne!(costs[1], 0);
}

#[tokio::test]
async fn cached_half_of_a_prompt_has_its_price() {
    let settings = SimSettings {
        cached: 1.0,
        ..priced(prompt())
    };
    let bench = Bench::start(settings).await;
    let reply = bench.ask("longer").await;
    let used = Use::stated(&reply);
    assert_eq!((used.prompt, used.cached), (6, 3));
    assert_charged(&bench.stats.counts(), used);
    let plain = Use::of("longer").await;
    assert!(used.cost(PRICE) < plain.cost(PRICE));
    assert_eq!(plain.cached, 0);
}

#[tokio::test]
async fn same_seed_finds_the_same_prompts_cached() {
    let mut runs = Vec::new();
    for seed in [5, 5, 6] {
        let spec = format!("latency=0,seed={seed},cached=0.5");
        let bench = Bench::start(spec.parse().unwrap()).await;
        let mut cached = Vec::new();
        for number in 0..40 {
            cached.push(Use::stated(&bench.ask(&number.to_string()).await).cached > 0);
        }
        runs.push(cached);
    }
    let hits = runs[0].iter().filter(|cached| **cached).count();
    assert!((8..32).contains(&hits), "{hits}");
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

// Turned red by: entering the answer's bytes before the fault has cut them.
#[tokio::test]
async fn the_ledger_has_a_line_for_each_charge_with_what_was_sent() {
    let hash = |bytes: &[u8]| format!("{:032x}", xxhash_rust::xxh3::xxh3_128(bytes));
    for (fault, is_sent, is_whole) in [
        (None, true, true),
        (Some(Fault::BadJson), true, true),
        (Some(Fault::Truncated), true, false),
        (Some(Fault::Reset), false, false),
    ] {
        let faults = fault.map_or_else(prompt, always);
        let bench = Bench::start(SimSettings {
            ledger: true,
            ..faults
        })
        .await;
        let sent = bench.exchange(CHAT, "", &body("q")).await;
        let line = bench.get("/sim/ledger").await.json();
        assert_eq!(line["question"], echo_tag("q"), "{fault:?}");
        assert_eq!(line["answer"].is_string(), is_sent, "{fault:?}");
        assert_eq!(line["whole"], is_whole, "{fault:?}");
        if is_whole {
            assert_eq!(line["answer"], hash(&sent.unwrap().body), "{fault:?}");
        }
    }
}

#[tokio::test]
async fn what_is_not_charged_is_not_in_the_ledger() {
    let bench = Bench::start(SimSettings {
        ledger: true,
        ..always(Fault::ServerError)
    })
    .await;
    bench.ask("q").await;
    assert_eq!(bench.get("/sim/ledger").await.body, b"");
    assert_eq!(
        Bench::start(prompt()).await.get("/sim/ledger").await.status,
        404
    );
}
