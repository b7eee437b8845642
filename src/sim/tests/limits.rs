//! Limits: who is turned away, and what they are told.

use super::*;

#[tokio::test]
async fn request_beyond_the_limit_is_told_when_to_return() {
    let bench = Bench::start("latency=0,rpm=1".parse().unwrap()).await;
    let first = bench.ask("q").await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("1"));
    assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("0"));
    assert!(first.header("x-ratelimit-reset-requests").is_some());
    let second = bench.ask("q").await;
    assert_eq!(second.status, 429);
    assert_eq!(second.error()["type"], "requests");
    assert_eq!(second.error()["code"], "rate_limit_exceeded");
    let message = second.error()["message"].to_string();
    assert!(message.contains("Limit 1, Used 1, Requested 1. Please try again in "));
    let milliseconds: u64 = second.header("retry-after-ms").unwrap().parse().unwrap();
    let seconds: u64 = second.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(seconds, milliseconds.div_ceil(1000));
    assert_eq!(bench.stats.counts().throttled_requests, 1);
}

#[tokio::test]
async fn request_beyond_a_whole_minute_is_too_large() {
    let bench = Bench::start("latency=0,tpm=30".parse().unwrap()).await;
    let reply = bench.ask("q").await;
    assert_eq!(reply.status, 429);
    assert_eq!(reply.error()["type"], "tokens");
    let message = reply.error()["message"].to_string();
    assert!(message.contains("Request too large for gpt-4o-mini"));
    assert_eq!(reply.header("x-ratelimit-remaining-tokens"), Some("1"));
    assert_eq!(bench.stats.counts().throttled_tokens, 1);
}

#[tokio::test]
async fn crowd_is_turned_away() {
    let settings = SimSettings {
        max_in_flight: Some(1),
        ..always(Fault::Stall)
    };
    let bench = Bench::start(settings).await;
    let line = "POST /v1/chat/completions";
    let _first = bench.send(line, "", &body("first")).await;
    until(|| bench.struck(Fault::Stall) == 1).await;
    let second = bench.ask("second").await;
    assert_eq!(second.status, 503);
    assert_eq!(second.error()["code"], "server_is_overloaded");
    let counts = bench.stats.counts();
    assert_eq!((counts.crowded, counts.peak_in_flight), (1, 2));
}
