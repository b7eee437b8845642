//! The endpoint goes away and comes back: what that costs in requests, and that it costs no item.

use std::time::Duration;

use super::super::Phase;
use super::scene::{Scene, Seen, ms, seconds};
use super::script::{Ask, Say};
use crate::words::event::Event;
use crate::words::record::ErrorStatus;
use crate::words::verdict::FailureKind;

const LATENCY: Duration = Duration::from_millis(50);
const SLOTS: usize = 64;
/// Failures in a row that open the breaker.
const BREAKER: usize = 8;
/// When the endpoint goes away, and when it is back.
const FROM: Duration = Duration::from_secs(2);
const UNTIL: Duration = Duration::from_secs(602);
/// Probes that fit into ten minutes if each fails at once: the shortest waits are half of 1, 2, 4,
/// 8, 16 and 32 s, and then of 60 s.
const PROBES: usize = 6 + 569 / 30 + 1;
/// What goes out before the breaker opens fails in it, too: all slots, and the requests that took
/// the places of its first failures.
const BOUND: usize = SLOTS + BREAKER - 1 + PROBES;

/// Plays ten minutes in which every request ends like this after so much time.
fn away(latency: Duration, says: fn(Ask) -> Say) -> Scene {
    let script = move |ask: Ask| match FROM <= ask.at && ask.at < UNTIL {
        true => (latency, says(ask)),
        false => (LATENCY, Say::Done),
    };
    let scene = Scene::new(10_000, LATENCY, |_| Say::Done);
    scene.timed(script).concurrency(SLOTS)
}

/// Asserts that nothing was lost and little was sent.
async fn survives(scene: Scene, bound: usize) -> Seen {
    let seen = scene.play().await;
    let sent = seen.started(FROM, UNTIL);
    println!(
        "ten minutes away: {sent} requests, bound {bound}, back at {:?}",
        seen.took
    );
    seen.assert_all_ok();
    assert!(sent <= bound, "{sent} requests");
    // The last probe may have failed just before the end; then the rest takes six seconds.
    assert!(seen.took < UNTIL + seconds(60 + 20), "{:?}", seen.took);
    let attempts = seen
        .records()
        .values()
        .map(|record| record.attempts)
        .sum::<u32>() as usize;
    assert!(
        attempts < seen.records().len() + BREAKER,
        "{attempts} attempts"
    );
    seen
}

fn count(seen: &Seen, is_it: fn(&Event) -> bool) -> usize {
    seen.events.iter().filter(|(_, event)| is_it(event)).count()
}

/// Negative control: with `is_probing` never set, the bound breaks.
#[tokio::test(start_paused = true)]
async fn ten_minutes_of_503_at_once_cost_tens_of_requests_and_no_item() {
    let seen = survives(away(ms(1), |_| Say::Overloaded), BOUND).await;
    assert_eq!(count(&seen, |it| matches!(it, Event::OutageBegan(_))), 1);
    assert_eq!(
        count(&seen, |it| matches!(it, Event::OutageEnded { .. })),
        1
    );
}

/// Negative control: with `Blame::Item` for what fails while the breaker is open, attempts are spent.
#[tokio::test(start_paused = true)]
async fn ten_minutes_of_500_at_once_cost_tens_of_requests_and_no_item() {
    survives(away(ms(1), |_| Say::Failed), BOUND).await;
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_of_500_that_are_called_final_cost_the_first_items_only() {
    let seen = away(ms(1), |_| Say::Hopeless).play().await;
    assert!(seen.ending.complete);
    assert!(seen.failed() < BREAKER, "{} failed", seen.failed());
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_of_slow_500_cost_tens_of_requests_and_no_item() {
    survives(away(seconds(5), |_| Say::Failed), BOUND).await;
}

/// Negative control: without `Verdict::Foreign` in `route_failure`, all items are invalid in five
/// seconds.
#[tokio::test(start_paused = true)]
async fn ten_minutes_of_a_page_that_is_called_a_success_cost_tens_of_requests_and_no_item() {
    survives(away(ms(1), |_| Say::Page), BOUND).await;
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_of_refused_connections_cost_tens_of_requests_and_no_item() {
    survives(away(ms(1), |_| Say::Unreachable), BOUND).await;
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_of_connections_that_come_about_too_late_cost_no_more() {
    survives(away(seconds(5), |_| Say::Unreachable), BOUND).await;
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_of_broken_connections_cost_tens_of_requests_and_no_item() {
    survives(away(ms(200), |_| Say::Broke), BOUND).await;
}

/// A stopped server: what was in flight when it stopped is lost, too. Each probe takes a minute.
#[tokio::test(start_paused = true)]
async fn ten_minutes_of_silence_cost_tens_of_requests_and_no_item() {
    let mut scene = away(ms(0), |_| Say::Silence);
    scene.settings.max_retries = 5;
    let seen = scene.play().await;
    let sent = seen.started(FROM, UNTIL);
    println!(
        "ten minutes of silence: {sent} requests, back at {:?}",
        seen.took
    );
    seen.assert_all_ok();
    assert!(sent <= SLOTS + BREAKER - 1 + 10, "{sent} requests");
    assert!(seen.took < UNTIL + seconds(60 + 60 + 20), "{:?}", seen.took);
}

/// The next probe is another item, so one that the server cannot bear does not keep it shut.
#[tokio::test(start_paused = true)]
async fn a_poisonous_item_does_not_keep_the_breaker_open() {
    let script = |ask: Ask| match ask.at < seconds(20) || ask.item == 0 {
        true => Say::Failed,
        false => Say::Done,
    };
    let seen = Scene::new(200, LATENCY, script).concurrency(4).play().await;
    assert!(seen.ending.complete);
    assert_eq!(seen.failed(), 1);
    assert_eq!(seen.status(0).unwrap().1, FailureKind::ServerError);
    assert!(seen.took < seconds(180), "{:?}", seen.took);
}

/// Negative control: with `several_items` taken for true, the run ends after half an hour instead.
#[tokio::test(start_paused = true)]
async fn one_item_that_always_fails_uses_up_its_attempts() {
    let scene = Scene::new(1, LATENCY, |_| Say::Failed).max_retries(20);
    let seen = scene.play().await;
    assert!(seen.ending.complete);
    assert_eq!(seen.sent.len(), 21);
}

/// They are all that is left in the end, so all that comes back is failures.
///
/// Negative control: with `is_suspect` never true, the run ends after half an hour with these
/// pending.
#[tokio::test(start_paused = true)]
async fn items_that_fail_while_others_are_answered_are_no_outage() {
    let script = |ask: Ask| match ask.item % 10 {
        0 => Say::Failed,
        _ => Say::Done,
    };
    let seen = Scene::new(1000, LATENCY, script)
        .concurrency(16)
        .play()
        .await;
    assert!(seen.ending.complete);
    assert_eq!(seen.failed(), 100);
    assert_eq!(count(&seen, |it| matches!(it, Event::OutageBegan(_))), 0);
    assert!(seen.records().values().all(|record| record.attempts <= 6));
}

/// Some items take longer than an attempt may, and so do the last four. Where as many as open the
/// breaker do, that cannot be told from a server that went away.
///
/// Negative control: with `began` taken when the first failure comes back, the run ends after half
/// an hour with some of them pending.
#[tokio::test(start_paused = true)]
async fn items_that_are_always_too_slow_are_no_outage_in_the_end() {
    let is_slow = |item: u64| item.is_multiple_of(100) || item >= 3996;
    let scene = Scene::new(4000, LATENCY, |_| Say::Done).timed(move |ask| {
        let latency = if is_slow(ask.item) { 100 } else { 5 };
        (seconds(latency), Say::Done)
    });
    let seen = scene.concurrency(SLOTS).play().await;
    println!("stragglers: {:?}, {} requests", seen.took, seen.sent.len());
    assert!(seen.ending.complete, "{:?}", seen.ending);
    assert_eq!(seen.failed(), 40 + 4);
    assert!(seen.sent.len() <= 4000 + 2 * 44, "{}", seen.sent.len());
}

/// Nothing else is left to ask, so nobody can be treated better.
///
/// Negative control: with `is_worn_out` never true, the run stops after half an hour, and so does
/// each that takes it up.
#[tokio::test(start_paused = true)]
async fn a_few_items_that_a_server_always_fails_on_end() {
    for items in [2, 3, 5] {
        for says in [Say::Failed, Say::Hopeless] {
            let scene = Scene::new(items, LATENCY, move |_| says);
            let seen = scene.concurrency(SLOTS).play().await;
            assert!(seen.ending.complete, "{items} items: {:?}", seen.ending);
            assert_eq!(seen.failed() as u64, items);
        }
    }
}

/// The last items of a run were on their way when the server fell silent.
///
/// Negative control: with the failures of probes left to items that timed out before, most of
/// these are lost.
#[tokio::test(start_paused = true)]
async fn ten_minutes_of_silence_in_the_end_cost_no_item() {
    for (items, timeout) in [(10, 10), (10, 60), (12, 30), (20, 10)] {
        let mut scene = Scene::new(items, LATENCY, |ask| match ask.at < UNTIL {
            true => Say::Silence,
            false => Say::Done,
        });
        scene.settings.timeout = seconds(timeout);
        let seen = scene.concurrency(SLOTS).play().await;
        seen.assert_all_ok();
        assert!(seen.sent.len() <= 54, "{} requests", seen.sent.len());
    }
}

/// A laptop's lid: the clock went on, and nobody was asked.
///
/// Negative control: without `stood_still`, the first broken connection ends the run.
#[tokio::test(start_paused = true)]
async fn standing_still_is_no_outage() {
    let mut scene = Scene::new(400, LATENCY, |_| Say::Done).timed(|ask| match ask.at {
        at if at < seconds(1) && ask.item == 0 => (ms(100), Say::Failed),
        at if at < seconds(1000) => (seconds(5), Say::Broke),
        _ => (LATENCY, Say::Done),
    });
    scene.sleeps = vec![(seconds(1), seconds(2400))];
    scene.concurrency(4).play().await.assert_all_ok();
}

/// The server is back when it said, and stumbles.
///
/// Negative control: without `longest_wait`, the push-backs end the run.
#[tokio::test(start_paused = true)]
async fn a_long_wait_that_was_asked_for_is_no_outage() {
    for says in [Say::Failed, Say::Throttled(Some(3)), Say::Throttled(None)] {
        let scene = Scene::new(400, LATENCY, move |ask| match ask.at {
            at if at < seconds(1) => Say::Throttled(Some(1795)),
            at if at < seconds(1900) => says,
            _ => Say::Done,
        });
        scene.concurrency(SLOTS).play().await.assert_all_ok();
    }
}

/// About a third of all requests fail, whichever item they are for.
#[tokio::test(start_paused = true)]
async fn a_flapping_server_is_worked_with() {
    let script = |ask: Ask| {
        let mix = (ask.item << 8 | u64::from(ask.request)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        match fastrand::Rng::with_seed(mix).f64() < 0.3 {
            true => Say::Failed,
            false => Say::Done,
        }
    };
    let seen = Scene::new(10_000, LATENCY, script)
        .concurrency(SLOTS)
        .play()
        .await;
    println!(
        "flapping: {} requests, {} failed, {:?}",
        seen.sent.len(),
        seen.failed(),
        seen.took
    );
    assert!(seen.ending.complete);
    // 0.3 to the sixth of ten thousand are seven.
    assert!(seen.failed() <= 20, "{} failed", seen.failed());
    assert!(seen.sent.len() <= 15_000, "{} requests", seen.sent.len());
    assert!(seen.records().values().all(|record| record.attempts <= 6));
    assert!(seen.took < seconds(90), "{:?}", seen.took);
}

#[tokio::test(start_paused = true)]
async fn an_outage_beyond_the_longest_one_stops_the_run_and_keeps_its_items() {
    let mut scene = Scene::new(1000, LATENCY, |_| Say::Overloaded).concurrency(8);
    scene.settings.max_outage = seconds(600);
    let seen = scene.play().await;
    let halted = seen.ending.halted.as_ref().unwrap();
    assert_eq!(
        (halted.kind, halted.http_status),
        (FailureKind::Outage, Some(503))
    );
    assert!(
        halted.message.contains("nobody was answered for 10m 00s"),
        "{}",
        halted.message
    );
    assert!(
        seen.took.abs_diff(seconds(600)) < seconds(1),
        "{:?}",
        seen.took
    );
    assert!(seen.records().is_empty());
    assert!(
        seen.sent.len() <= 8 + BREAKER - 1 + PROBES,
        "{}",
        seen.sent.len()
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_a_probe_shows_the_server_at_work_and_its_wait_is_kept() {
    let script = |ask: Ask| match ask.at {
        at if at < seconds(60) => Say::Overloaded,
        at if at < seconds(180) => Say::Throttled(Some(20)),
        _ => Say::Done,
    };
    let seen = Scene::new(500, LATENCY, script)
        .concurrency(SLOTS)
        .play()
        .await;
    seen.assert_all_ok();
    let ended =
        |(at, event): &(Duration, Event)| matches!(event, Event::OutageEnded { .. }).then_some(*at);
    let ended = seen.events.iter().find_map(ended).unwrap();
    assert!(ended < seconds(180), "{ended:?}");
    assert_eq!(seen.started(ended + ms(1), ended + seconds(20)), 0);
}

/// The key was withdrawn meanwhile.
#[tokio::test(start_paused = true)]
async fn a_probe_that_halts_the_run_ends_it_at_once() {
    let script = |ask: Ask| match ask.at < seconds(60) {
        true => Say::Overloaded,
        false => Say::Denied,
    };
    let seen = Scene::new(500, LATENCY, script)
        .concurrency(SLOTS)
        .play()
        .await;
    assert_eq!(seen.ending.halted.as_ref().unwrap().kind, FailureKind::Auth);
    assert_eq!(seen.started(seconds(60), seconds(3600)), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_the_end_of_an_outage() {
    let seen = away(ms(1), |_| Say::Overloaded)
        .stop_at(seconds(100), Phase::Draining)
        .play()
        .await;
    assert!(seen.took < seconds(101), "{:?}", seen.took);
    assert_eq!(seen.failed(), 0);
}

/// The probe is dropped on its way.
#[tokio::test(start_paused = true)]
async fn an_abort_during_a_probe_ends_the_run() {
    let seen = away(ms(0), |_| Say::Silence)
        .stop_at(seconds(100), Phase::Aborting)
        .play()
        .await;
    assert!(seen.took < seconds(101), "{:?}", seen.took);
    assert_eq!(seen.dropped(), 1);
}

/// Its waits were everybody's once, and it was asked for half an hour.
///
/// Negative control: without `PUSH_BACKS_ALONE`, it is asked until the longest outage is over.
#[tokio::test(start_paused = true)]
async fn an_item_that_alone_is_always_pushed_back_holds_up_nobody() {
    for says in [
        Say::Overloaded,
        Say::Throttled(None),
        Say::Throttled(Some(10)),
    ] {
        let script = move |ask: Ask| match ask.item {
            7 => says,
            _ => Say::Done,
        };
        let seen = Scene::new(40_000, seconds(1), script)
            .concurrency(32)
            .play()
            .await;
        assert!(seen.ending.complete);
        assert_eq!(seen.status(7).unwrap().0, ErrorStatus::Failed, "{says:?}");
        assert_eq!(seen.failed(), 1);
        let requests = seen.requests_of(7);
        let last = requests.last().unwrap().start;
        println!("{says:?}: {} requests until {last:?}", requests.len());
        assert_eq!(requests.len(), 21, "{says:?}");
        assert!(last < seconds(1200), "{says:?}: {last:?}");
        // One pause at most, of eleven seconds and a ramp.
        assert!(seen.took < seconds(1250 + 13), "{says:?}: {:?}", seen.took);
    }
}
