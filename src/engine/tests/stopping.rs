//! Ends before the end: halts, mismatches, and the switch.

use std::num::NonZeroU32;
use std::time::Duration;

use super::super::Phase;
use super::scene::{Scene, Seen, bad_line, ms, seconds};
use super::script::{Ask, Say};
use crate::words::event::Event;
use crate::words::record::ErrorStatus;
use crate::words::verdict::FailureKind;

fn answered(seen: &Seen) -> usize {
    seen.records().len() - seen.failed()
}

/// Refuses the key on item 20; the others take a second more.
fn refuses_the_key(ask: Ask) -> (Duration, Say) {
    match ask.item {
        20 => (ms(100), Say::Denied),
        _ => (ms(1100), Say::Done),
    }
}

#[tokio::test(start_paused = true)]
async fn a_halt_keeps_what_is_in_flight_and_starts_nothing_new() {
    let scene = Scene::new(500, ms(0), |_| Say::Done).timed(refuses_the_key);
    let seen = scene.concurrency(32).play().await;
    assert_eq!(seen.sent.len(), 32);
    assert_eq!(answered(&seen), 31);
    assert_eq!(seen.records().len(), 31);
    assert_eq!(seen.ending.halted.as_ref().unwrap().kind, FailureKind::Auth);
    assert!(seen.ending.left_pending && !seen.ending.complete);
}

#[tokio::test(start_paused = true)]
async fn a_halt_is_told_once() {
    let seen = Scene::new(500, ms(100), |_| Say::Denied)
        .concurrency(32)
        .play()
        .await;
    assert_eq!(seen.halts(), 1);
    assert_eq!(seen.sent.len(), 32);
}

/// The dispatcher is busy with the listener while the refusal arrives.
#[tokio::test(start_paused = true)]
async fn a_halt_does_not_wait_for_a_slow_listener() {
    let mut scene = Scene::new(200, ms(100), |_| Say::Denied).concurrency(4);
    (scene.event_queue, scene.listening) = (1, seconds(10));
    for index in 8..28 {
        scene.entries[index as usize] = bad_line(index);
    }
    let seen = scene.play().await;
    assert!(seen.sent.len() <= 4, "{} requests", seen.sent.len());
}

#[tokio::test(start_paused = true)]
async fn a_wrong_model_of_the_run_halts_it() {
    let seen = Scene::new(500, ms(100), |_| Say::Mismatched)
        .with_items(|item| item.model_is_shared = true)
        .concurrency(32)
        .play()
        .await;
    assert_eq!(seen.sent.len(), 32);
    assert!(seen.records().is_empty());
    assert_eq!(
        seen.ending.halted.as_ref().unwrap().kind,
        FailureKind::NotFound
    );
}

#[tokio::test(start_paused = true)]
async fn a_wrong_model_of_one_line_fails_that_item_only() {
    let seen = Scene::new(100, ms(100), |ask| match ask.item {
        7 => Say::Mismatched,
        _ => Say::Done,
    })
    .play()
    .await;
    assert!(seen.ending.complete && seen.ending.halted.is_none());
    assert_eq!(
        seen.status(7),
        Some((ErrorStatus::Failed, FailureKind::NotFound))
    );
    assert_eq!(seen.requests_of(7).len(), 1);
    assert_eq!(answered(&seen), 99);
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_what_is_in_flight_and_starts_nothing() {
    let seen = Scene::new(500, seconds(4), |_| Say::Done)
        .concurrency(32)
        .stop_at(seconds(1), Phase::Draining)
        .play()
        .await;
    assert_eq!(seen.sent.len(), 32);
    assert_eq!(answered(&seen), 32);
    assert!(seen.took.abs_diff(seconds(4)) < ms(50), "{:?}", seen.took);
    assert!(!seen.ending.complete && seen.ending.left_pending);
}

#[tokio::test(start_paused = true)]
async fn draining_does_not_wait_for_a_pause_to_end() {
    let seen = Scene::new(10, ms(10), |_| Say::Throttled(Some(500)))
        .stop_at(seconds(2), Phase::Draining)
        .play()
        .await;
    assert!(seen.took < ms(2010), "{:?}", seen.took);
    assert!(seen.records().is_empty());
    assert!(!seen.ending.complete && seen.ending.left_pending);
}

/// After five seconds of failures, all of them sleep for long.
#[tokio::test(start_paused = true)]
async fn draining_does_not_wait_for_sleepers() {
    let seen = Scene::new(10, ms(10), |_| Say::Failed)
        .without_breaker()
        .stop_at(seconds(5), Phase::Draining)
        .play()
        .await;
    assert!(seen.took < ms(5_020), "{:?}", seen.took);
    assert!(seen.records().is_empty());
    assert!(!seen.ending.complete && seen.ending.left_pending);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_fails_while_draining_leaves_its_item_pending() {
    let seen = Scene::new(10, seconds(4), |_| Say::Failed)
        .stop_at(seconds(1), Phase::Draining)
        .play()
        .await;
    assert!(seen.took < ms(4010), "{:?}", seen.took);
    assert_eq!(seen.sent.len(), 10);
    assert!(seen.records().is_empty());
    assert!(!seen.ending.complete && seen.ending.left_pending);
}

#[tokio::test(start_paused = true)]
async fn aborting_drops_what_is_in_flight_at_once() {
    let seen = Scene::new(500, seconds(40), |_| Say::Done)
        .stop_at(seconds(1), Phase::Draining)
        .stop_at(seconds(2), Phase::Aborting)
        .play()
        .await;
    assert!(seen.took < ms(2010), "{:?}", seen.took);
    assert!(seen.records().is_empty());
    assert_eq!(seen.dropped(), 64);
    assert!(!seen.ending.complete);
}

/// The answers were there before the switch was thrown; only the listener was slow.
#[tokio::test(start_paused = true)]
async fn aborting_keeps_the_answers_that_have_arrived() {
    let mut scene = Scene::new(500, ms(100), |_| Say::Done)
        .concurrency(32)
        .stop_at(ms(150), Phase::Draining)
        .stop_at(seconds(2), Phase::Aborting);
    (scene.event_queue, scene.listening) = (1, seconds(1));
    let seen = scene.play().await;
    let arrived = seen.sent.iter().filter(|sent| sent.end < Some(seconds(1)));
    assert_eq!(seen.records().len(), arrived.count());
}

/// Lives that wait for a slow listener are dropped, and what they have to tell is not.
///
/// Negative control: without `Untold::drop`, requests are missing.
#[tokio::test(start_paused = true)]
async fn aborting_keeps_the_fate_of_every_request() {
    for says in [Say::Failed, Say::Broke, Say::Throttled(None), Say::Done] {
        let mut scene = Scene::new(500, ms(100), move |ask| match ask.request {
            1 => says,
            _ => Say::Done,
        })
        .concurrency(32)
        .stop_at(ms(550), Phase::Draining)
        .stop_at(seconds(2), Phase::Aborting);
        scene.settings.breaker = NonZeroU32::new(4);
        (scene.event_queue, scene.listening) = (1, ms(100));
        let seen = scene.play().await;
        let told = |(_, event): &&(Duration, Event)| {
            matches!(
                event,
                Event::Settled(..)
                    | Event::Retried { .. }
                    | Event::Throttled { .. }
                    | Event::Spared { .. }
            )
        };
        let told = seen.events.iter().filter(told).count() as u64;
        assert_eq!(told + seen.dropped(), seen.sent.len() as u64, "{says:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_the_last_answers_come_is_complete() {
    let seen = Scene::new(20, seconds(4), |_| Say::Done)
        .stop_at(seconds(1), Phase::Draining)
        .play()
        .await;
    seen.assert_all_ok();
    assert!(!seen.ending.left_pending);
}
