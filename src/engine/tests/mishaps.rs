//! What should not happen and does: a bug of ours, and a process that stood still.

use std::time::Duration;

use super::money;
use super::scene::{Scene, ms, seconds};
use super::script::{Ask, Say};
use crate::words::tokens::Tokens;

/// Negative control: with `resume_unwind` instead of `give_up`, the test panics.
#[tokio::test(start_paused = true)]
async fn a_panic_keeps_what_is_in_flight_and_leaves_its_item_pending() {
    for (says, words) in [
        (Say::PanicInTransport, "a bug on the way"),
        (Say::PanicInProvider, "a bug in reading"),
    ] {
        let scene = Scene::new(500, ms(0), |_| Say::Done).timed(move |ask: Ask| match ask.item {
            20 => (ms(100), says),
            _ => (ms(1100), Say::Done),
        });
        let seen = scene.concurrency(32).play().await;
        assert_eq!(seen.ending.panicked.as_deref(), Some(words));
        assert!(seen.ending.left_pending && !seen.ending.complete);
        assert_eq!(seen.sent.len(), 32);
        assert_eq!((seen.records().len(), seen.failed()), (31, 0));
        assert!(!seen.records().contains_key(&20));
        assert_eq!(seen.dropped(), 1);
    }
}

/// All slots and all money come back, or this would never end.
#[tokio::test(start_paused = true)]
async fn a_panic_leaks_neither_slots_nor_money() {
    let mut scene = Scene::new(40, ms(50), |ask| match ask.item {
        3 => Say::PanicInProvider,
        _ => Say::Done,
    })
    .concurrency(2)
    .with_items(money::priced);
    let budget = money::budget("100", None);
    scene.budget = Some(budget.clone());
    let seen = scene.play().await;
    assert!(seen.ending.panicked.is_some());
    assert_eq!(budget.accounts().reserved, Default::default());
    assert!(budget.accounts().at_risk > Default::default());
    assert!(seen.sent.iter().all(|sent| sent.end.is_some()));
}

/// A panic while only one request goes out at a time, and on that one.
#[tokio::test(start_paused = true)]
async fn a_panic_of_a_probe_ends_the_run() {
    let seen = Scene::new(200, ms(50), |ask| match ask.at < seconds(20) {
        true => Say::Overloaded,
        false => Say::PanicInTransport,
    })
    .concurrency(4)
    .play()
    .await;
    assert!(seen.ending.panicked.is_some());
    assert_eq!(seen.started(seconds(20), seconds(3600)), 1);
}

/// The answers came while the process stood still; the sockets hold them, and the task that reads
/// them needs a moment.
///
/// Negative control: without the grace, every one of them is asked twice.
#[tokio::test(start_paused = true)]
async fn an_answer_that_came_while_the_process_stood_still_is_read() {
    let mut scene = Scene::new(32, seconds(30), |_| Say::Done).concurrency(32);
    scene.sleeps = vec![(seconds(10), seconds(3600))];
    scene.hops = 10;
    let seen = scene.play().await;
    seen.assert_all_ok();
    assert_eq!(seen.sent.len(), 32);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_still_times_out_after_standing_still() {
    let mut scene = Scene::new(1, ms(0), |ask| match ask.request {
        1 => Say::Silence,
        _ => Say::Done,
    });
    scene.sleeps = vec![(seconds(10), seconds(3600))];
    let seen = scene.play().await;
    seen.assert_all_ok();
    assert_eq!(seen.sent.len(), 2);
    assert!(seen.took < seconds(3620), "{:?}", seen.took);
}

/// A tenth of a second's worth of requests is all that a limit ever lets through at once.
#[tokio::test(start_paused = true)]
async fn no_burst_follows_an_hour_of_standing_still() {
    let mut by_requests = Scene::new(1200, ms(50), |_| Say::Done).rpm(600);
    let mut by_tokens = Scene::new(1200, ms(50), |_| Say::Used(99))
        .tpm(60_000)
        .with_items(|item| {
            item.prompt_tokens = Some(Tokens(1));
            item.bounds.output = Some(Tokens(99));
        });
    for scene in [&mut by_requests, &mut by_tokens] {
        scene.sleeps = vec![(seconds(30), seconds(3600))];
    }
    for scene in [by_requests, by_tokens] {
        let seen = scene.play().await;
        seen.assert_all_ok();
        let woken = seconds(3630);
        let first = seen.started(woken, woken + ms(100));
        let second = seen.started(woken, woken + Duration::from_secs(1));
        println!("after an hour: {first} requests in 0.1 s, {second} in 1 s");
        assert!(first <= 7 && second <= 16, "{first} and {second}");
    }
}
