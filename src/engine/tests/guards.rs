//! Ends because the rest is not worth asking, and the time that an item may take.

use std::time::Duration;

use super::scene::{Scene, Seen, bad_line, ms, seconds};
use super::script::{Ask, Say};
use crate::words::record::{ErrorStatus, Outcome};
use crate::words::verdict::FailureKind;

const LATENCY: Duration = Duration::from_millis(50);

fn halted(seen: &Seen) -> FailureKind {
    seen.ending.halted.as_ref().unwrap().kind
}

#[tokio::test(start_paused = true)]
async fn too_many_failures_stop_the_run_and_keep_what_is_in_flight() {
    let script = |ask: Ask| match ask.item % 10 {
        0 => Say::Filtered,
        _ => Say::Done,
    };
    let mut scene = Scene::new(10_000, LATENCY, script).concurrency(8);
    scene.settings.max_error_rate = Some(0.05);
    let seen = scene.play().await;
    assert_eq!(halted(&seen), FailureKind::ErrorRate);
    assert_eq!(seen.halts(), 1);
    assert_eq!(seen.records().len(), seen.sent.len());
    assert!((50..=58).contains(&seen.sent.len()), "{}", seen.sent.len());
    assert!(!seen.ending.complete && seen.ending.left_pending);
}

#[tokio::test(start_paused = true)]
async fn bad_lines_are_no_errors_of_the_endpoint() {
    let mut scene = Scene::new(300, LATENCY, |_| Say::Done);
    scene.settings.max_error_rate = Some(0.05);
    for index in 0..100 {
        scene.entries[index as usize] = bad_line(index);
    }
    let seen = scene.play().await;
    assert!(seen.ending.complete && seen.ending.halted.is_none());
}

#[tokio::test(start_paused = true)]
async fn first_items_that_are_all_rejected_alike_stop_the_run() {
    let seen = Scene::new(10_000, LATENCY, |_| Say::Rejected)
        .concurrency(8)
        .play()
        .await;
    assert_eq!(halted(&seen), FailureKind::SameRejection);
    assert!((20..=28).contains(&seen.sent.len()), "{}", seen.sent.len());
    assert_eq!(seen.records().len(), seen.sent.len());
}

/// Plays one item that may take so many seconds with its retries.
async fn within(limit: u64, script: impl Fn(Ask) -> Say + Send + Sync + 'static) -> Seen {
    let mut scene = Scene::new(1, LATENCY, script);
    scene.settings.item_timeout = Some(seconds(limit));
    scene.settings.max_retries = 1000;
    scene.play().await
}

fn assert_late(seen: &Seen, attempts: u32, last: &str) {
    let expected = Some((ErrorStatus::Failed, FailureKind::Timeout));
    assert_eq!(seen.status(0), expected);
    assert_eq!(seen.record(0).attempts, attempts);
    let Outcome::Error { failure, .. } = &seen.record(0).outcome else {
        panic!()
    };
    let plural = if attempts == 1 { "" } else { "s" };
    assert_eq!(
        failure.message,
        format!(
            "no result within {} s (--item-timeout) after {attempts} attempt{plural}; the last: {last}",
            30
        )
    );
}

/// Negative control: without `is_late`, it is asked 1,001 times.
#[tokio::test(start_paused = true)]
async fn an_items_time_bounds_its_retries() {
    let seen = within(30, |_| Say::Failed).await;
    assert_late(&seen, seen.sent.len() as u32, "failed");
    assert!(seen.took <= seconds(30), "{:?}", seen.took);
    assert!(seen.sent.len() > 3, "{}", seen.sent.len());
}

/// Negative control: without `LEAST_TIME`, some of these have a request in the last second.
#[tokio::test(start_paused = true)]
async fn no_request_goes_out_with_hardly_any_time_left() {
    for seed in 0..100 {
        let mut scene = Scene::new(1, LATENCY, |_| Say::Failed).max_retries(1000);
        scene.settings.item_timeout = Some(seconds(30));
        scene.settings.seed = seed;
        let seen = scene.play().await;
        assert_eq!(seen.status(0).unwrap().1, FailureKind::Timeout);
        let last = seen.sent.last().unwrap().start;
        assert!(last <= seconds(29) + ms(20), "seed {seed}: {last:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_takes_no_longer_than_what_is_left_of_the_items_time() {
    let seen = within(30, |_| Say::Silence).await;
    assert_late(&seen, 1, "no answer within 30 s");
    assert!(seen.took.abs_diff(seconds(30)) < ms(10), "{:?}", seen.took);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_server_is_no_part_of_an_items_time() {
    let script = |ask: Ask| match ask.request {
        ..=3 => Say::Throttled(Some(100)),
        _ => Say::Done,
    };
    let seen = within(30, script).await;
    seen.assert_all_ok();
    assert!(seen.took > seconds(300), "{:?}", seen.took);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_no_part_of_an_items_time() {
    let script = |ask: Ask| match ask.at < seconds(600) {
        true => Say::Overloaded,
        false => Say::Done,
    };
    let mut scene = Scene::new(500, LATENCY, script).concurrency(16);
    scene.settings.item_timeout = Some(seconds(30));
    let seen = scene.play().await;
    seen.assert_all_ok();
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_limit_is_no_part_of_an_items_time() {
    let mut scene = Scene::new(100, LATENCY, |ask| match ask.request {
        1 if ask.item == 99 => Say::Failed,
        _ => Say::Done,
    })
    .rpm(60);
    scene.settings.item_timeout = Some(seconds(10));
    let seen = scene.play().await;
    seen.assert_all_ok();
    assert!(seen.took > seconds(90), "{:?}", seen.took);
}
