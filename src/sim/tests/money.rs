//! What is counted and charged, whatever becomes of the answer.

use serde_json::Value;

use super::{Bench, body, prompt, until};
use crate::sim::SimSettings;

const CHAT: &str = "POST /v1/chat/completions";

/// Asks one question of an endpoint without faults, and returns what it says it used.
async fn usage_of(text: &str, settings: SimSettings) -> Value {
    Bench::start(settings).await.ask(text).await.json()["usage"].clone()
}

#[tokio::test]
async fn answer_is_counted_though_its_client_leaves_early() {
    let bench = Bench::start("latency=60m,latency-p99=60m".parse().unwrap()).await;
    let stream = bench.send(CHAT, "", &body("q")).await;
    until(|| bench.stats.counts().completion_tokens > 0).await;
    drop(stream);
    until(|| bench.stats.counts().in_flight == 0).await;
    let counts = bench.stats.counts();
    let usage = usage_of("q", prompt()).await;
    assert_eq!(usage["prompt_tokens"], counts.prompt_tokens);
    assert_eq!(usage["completion_tokens"], counts.completion_tokens);
    assert_eq!(counts.answered, 0);
}
