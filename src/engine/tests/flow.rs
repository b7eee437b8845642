//! Slots, memory and the listener: how much goes on at a time.

use std::time::Duration;

use super::super::{Phase, window};
use super::scene::{Scene, bad_line, ms, seconds};
use super::script::{Ask, Say};
use crate::words::record::ErrorStatus;

/// Fails each item's first request.
fn fails_first(ask: Ask) -> Say {
    match ask.request {
        1 => Say::Failed,
        _ => Say::Done,
    }
}

#[tokio::test(start_paused = true)]
async fn the_ideal_rate_is_reached_and_concurrency_never_exceeded() {
    let seen = Scene::new(10_000, ms(50), |_| Say::Done)
        .concurrency(100)
        .play()
        .await;
    seen.assert_all_ok();
    assert_eq!(seen.peak, 100);
    assert!(seen.took >= seconds(5), "{:?}", seen.took);
    assert!(seen.took < ms(5250), "{:?}", seen.took);
}

#[tokio::test(start_paused = true)]
async fn one_slot_sends_one_at_a_time() {
    let seen = Scene::new(20, ms(50), fails_first)
        .concurrency(1)
        .play()
        .await;
    seen.assert_all_ok();
    assert_eq!(seen.peak, 1);
}

#[tokio::test(start_paused = true)]
async fn bad_lines_settle_beside_the_items() {
    let mut scene = Scene::new(50, ms(50), |_| Say::Done);
    for index in (0..50).step_by(10) {
        scene.entries[index as usize] = bad_line(index);
    }
    let seen = scene.play().await;
    assert_eq!(seen.records().len(), 50);
    assert_eq!(seen.status(10).unwrap().0, ErrorStatus::InvalidInput);
    assert_eq!(seen.sent.len(), 45);
    assert!(seen.ending.complete);
}

#[tokio::test(start_paused = true)]
async fn an_empty_input_is_complete_at_once() {
    let seen = Scene::new(0, ms(50), |_| Say::Done).play().await;
    assert!(seen.ending.complete);
    assert_eq!(seen.took, Duration::ZERO);
}

/// 800 requests of 50 ms over 4 slots take 10 s. Were the slots held through the mean backoff of
/// half a second, they would take 60 s.
#[tokio::test(start_paused = true)]
async fn the_slot_goes_back_before_backing_off() {
    let seen = Scene::new(400, ms(50), fails_first)
        .concurrency(4)
        .without_breaker()
        .play()
        .await;
    seen.assert_all_ok();
    assert_eq!(seen.peak, 4);
    assert!(seen.took < seconds(13), "{:?}", seen.took);
}

#[tokio::test(start_paused = true)]
async fn items_that_all_sleep_in_backoff_still_fill_only_the_window() {
    let seen = Scene::new(1000, ms(1), |_| Say::Failed)
        .concurrency(4)
        .without_breaker()
        .max_retries(u32::MAX)
        .stop_at(seconds(300), Phase::Draining)
        .play()
        .await;
    assert_eq!(seen.most_open, window(4));
}

#[tokio::test(start_paused = true)]
async fn items_that_wait_out_a_throttling_server_fill_only_the_window() {
    let seen = Scene::new(1000, ms(1), |_| Say::Throttled(None))
        .concurrency(4)
        .stop_at(seconds(300), Phase::Draining)
        .play()
        .await;
    assert_eq!(seen.most_open, window(4));
}

/// 500 events at 20 ms each are 10 s of listening; the endpoint alone would need half a second.
#[tokio::test(start_paused = true)]
async fn a_slow_listener_slows_the_run_and_loses_nothing() {
    let mut scene = Scene::new(500, ms(10), |_| Say::Done).concurrency(10);
    (scene.event_queue, scene.listening) = (2, ms(20));
    let seen = scene.play().await;
    seen.assert_all_ok();
    assert!(seen.took > seconds(9), "{:?}", seen.took);
    // What the listener's queue holds, and the event in its hands, come on top of the window.
    assert!(seen.most_open <= window(10) + 3, "{}", seen.most_open);
}

/// So a killed process has at most as many answers in memory only as it has slots.
#[tokio::test(start_paused = true)]
async fn a_slot_stays_taken_until_the_answer_is_written() {
    let mut scene = Scene::new(10, ms(50), |_| Say::Done).concurrency(1);
    scene.listening = seconds(1);
    let seen = scene.play().await;
    seen.assert_all_ok();
    let starts: Vec<Duration> = seen.sent.iter().map(|sent| sent.start).collect();
    assert!(
        starts.is_sorted_by(|a, b| *b >= *a + ms(1050)),
        "{starts:?}"
    );
}
