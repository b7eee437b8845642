//! News about the route: pauses, storms, outages, and when to give up.

use std::sync::Mutex;
use std::time::Duration;

use super::super::window;
use super::scene::{Scene, Seen, ms, seconds};
use super::script::{Ask, Say};
use crate::words::event::Event;
use crate::words::verdict::FailureKind;

const STORM: Duration = Duration::from_secs(60);
const LATENCY: Duration = Duration::from_millis(50);
const SLOTS: usize = 64;

/// What is sent in the first seconds of a ramp before the first refusal is back.
const PROBES: usize = SLOTS * 50 / 1000 + 2;

fn pauses(seen: &Seen) -> Vec<(Duration, Duration)> {
    let pause = |(at, event): &(Duration, Event)| match event {
        Event::Paused { wait, .. } => Some((*at, *wait)),
        _ => None,
    };
    seen.events.iter().filter_map(pause).collect()
}

fn assert_no_attempt_spent(seen: &Seen) {
    seen.assert_all_ok();
    assert!(seen.records().values().all(|record| record.attempts == 1));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_the_server_asks_for_pauses_everybody() {
    let scene = Scene::new(200, LATENCY, |_| Say::Done).timed(|ask| match ask.at {
        at if at < seconds(1) && ask.item == 5 => (ms(20), Say::Throttled(Some(10))),
        _ => (LATENCY, Say::Done),
    });
    let seen = scene.concurrency(SLOTS).play().await;
    assert_no_attempt_spent(&seen);
    let (at, wait) = pauses(&seen)[0];
    assert!(wait >= seconds(10) && wait <= seconds(11), "{wait:?}");
    assert_eq!(seen.started(at + ms(1), at + wait), 0);
    let in_flight = seen.sent.iter().filter(|sent| sent.start < at);
    assert!(in_flight.clone().count() > 60);
    assert!(
        in_flight
            .clone()
            .all(|sent| sent.end.unwrap() <= LATENCY + ms(2))
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_requests_come_spread_out() {
    let scene = Scene::new(300, seconds(5), |_| Say::Done).timed(|ask| match ask.request {
        1 if ask.item == 5 => (ms(20), Say::Throttled(Some(10))),
        _ => (seconds(5), Say::Done),
    });
    let seen = scene.concurrency(SLOTS).play().await;
    let (at, wait) = pauses(&seen)[0];
    let over = at + wait;
    // All slots are free, yet a tenth of a second sees about a tenth of them used.
    for tenth in 0..10 {
        let started = seen.started(over + ms(100 * tenth), over + ms(100 * (tenth + 1)));
        assert!((4..=8).contains(&started), "{started} in tenth {tenth}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_longer_wait_in_the_same_wave_wins() {
    let scene = Scene::new(100, LATENCY, |_| Say::Done).timed(|ask| match ask.request {
        1 => (
            ms(20 + ask.item),
            Say::Throttled(Some(if ask.item == 3 { 20 } else { 2 })),
        ),
        _ => (LATENCY, Say::Done),
    });
    let seen = scene.concurrency(10).play().await;
    assert_no_attempt_spent(&seen);
    assert_eq!(seen.started(ms(50), seconds(20)), 0);
}

/// Each pause lasts a second or more, and after it only a few requests go out before the first
/// refusal is back; on top come the requests that were in flight when the storm began.
#[tokio::test(start_paused = true)]
async fn a_storm_with_waits_is_met_with_few_requests() {
    let seen = storm(|ask| Say::Throttled(Some(1 + ask.item % 5))).await;
    let sent = seen.started(Duration::ZERO, STORM);
    println!("a storm with waits: {sent} requests in {STORM:?}");
    assert!(sent <= SLOTS + 60 * PROBES, "{sent}");
    assert!(seen.took < STORM + seconds(30), "{:?}", seen.took);
}

/// Pauses grow from one second to a minute, so a minute has room for seven rounds of probes.
#[tokio::test(start_paused = true)]
async fn a_storm_without_waits_is_met_with_few_requests() {
    let seen = storm(|_| Say::Throttled(None)).await;
    let sent = seen.started(Duration::ZERO, STORM);
    println!("a storm without waits: {sent} requests in {STORM:?}");
    assert!(sent <= SLOTS + 8 * PROBES, "{sent}");
    // The last pause may have begun just before the storm ended.
    assert!(seen.took < STORM + seconds(60 + 30), "{:?}", seen.took);
}

async fn storm(refuse: fn(Ask) -> Say) -> Seen {
    let script = move |ask: Ask| match ask.at < STORM {
        true => refuse(ask),
        false => Say::Done,
    };
    let seen = Scene::new(10_000, LATENCY, script)
        .concurrency(SLOTS)
        .max_retries(0)
        .play()
        .await;
    assert_no_attempt_spent(&seen);
    // Each request beyond one for each item was refused in the storm.
    let refused = seen.started(Duration::ZERO, STORM);
    assert!(seen.sent.len() <= 10_000 + refused);
    // Settled ones may still be on their way to the listener.
    assert!(seen.most_open <= window(SLOTS) + 64);
    seen
}

/// A server that names a wait of nothing is no reason to ask it ten times a second.
#[tokio::test(start_paused = true)]
async fn a_storm_of_zero_waits_is_met_with_few_requests() {
    let seen = storm(|_| Say::Throttled(Some(0))).await;
    let sent = seen.started(Duration::ZERO, STORM);
    println!("a storm with waits of zero: {sent} requests in {STORM:?}");
    assert!(sent <= SLOTS + 8 * PROBES, "{sent}");
}

#[tokio::test(start_paused = true)]
async fn lone_refusals_among_answers_slow_nobody_else() {
    let seen = Scene::new(2000, LATENCY, |ask| match ask.request {
        1 if ask.item % 20 == 0 => Say::Throttled(None),
        _ => Say::Done,
    })
    .concurrency(SLOTS)
    .play()
    .await;
    assert_no_attempt_spent(&seen);
    assert!(pauses(&seen).is_empty(), "{:?}", pauses(&seen));
    assert!(seen.took < seconds(4), "{:?}", seen.took);
}

/// A server's limit: so many requests a second, saved up to so many; the rest is pushed back.
struct TokenBucket {
    per_second: f64,
    most: f64,
    left: Mutex<(f64, Duration)>,
}

impl TokenBucket {
    fn new(per_second: f64, most: f64) -> Self {
        let left = Mutex::new((most, Duration::ZERO));
        TokenBucket {
            per_second,
            most,
            left,
        }
    }

    /// Takes a request in, or says after how many seconds there is room for it.
    fn take(&self, at: Duration) -> Result<(), u64> {
        let mut left = self.left.lock().unwrap();
        let filled = left.0 + (at - left.1).as_secs_f64() * self.per_second;
        *left = (filled.min(self.most), at);
        if left.0 < 1.0 {
            let wait = (1.0 - left.0) / self.per_second;
            return Err(wait.ceil().max(1.0) as u64);
        }
        left.0 -= 1.0;
        Ok(())
    }
}

/// An ordinary limit is nobody's failure, however unlucky an item is.
///
/// Negative control: with `pushed_back` true wherever others were answered, items fail.
#[tokio::test(start_paused = true)]
async fn a_limit_of_requests_loses_no_item() {
    for (slots, per_second, most, tells, items) in [
        (SLOTS, 1.0, 1.0, true, 600),
        (SLOTS, 0.5, 1.0, true, 600),
        (SLOTS, 0.05, 3.0, true, 300),
        (SLOTS, 1.0, 60.0, false, 1000),
        (SLOTS, 8.0, 60.0, false, 1000),
        (2, 1.0, 1.0, true, 600),
        (2, 1.0, 1.0, false, 600),
        (4, 0.5, 5.0, false, 600),
        (8, 1.0, 60.0, false, 1000),
    ] {
        let bucket = TokenBucket::new(per_second, most);
        let scene = Scene::new(items, ms(500), move |ask| match bucket.take(ask.at) {
            Ok(()) => Say::Done,
            Err(wait) => Say::Throttled(tells.then_some(wait)),
        });
        let seen = scene.concurrency(slots).play().await;
        println!(
            "{slots} slots, {per_second}/s: {} requests in {:?}",
            seen.sent.len(),
            seen.took
        );
        assert_no_attempt_spent(&seen);
    }
}

/// Negative control: with every wait that is too long taken for the run's end, the run stops.
#[tokio::test(start_paused = true)]
async fn an_absurd_wait_of_one_item_is_its_own() {
    let script = |ask: Ask| match ask.item {
        700 => Say::Throttled(Some(3600)),
        _ => Say::Done,
    };
    let seen = Scene::new(2000, LATENCY, script)
        .concurrency(8)
        .play()
        .await;
    assert!(seen.ending.complete);
    assert_eq!(seen.failed(), 1);
    assert_eq!(seen.status(700).unwrap().1, FailureKind::LongWait);
    assert_eq!(seen.requests_of(700).len(), 2);
    assert!(seen.took < seconds(15), "{:?}", seen.took);
}

/// A quota that ends while requests are in flight: some of them are answered after others were
/// sent that are not.
#[tokio::test(start_paused = true)]
async fn an_absurd_wait_of_everybody_fails_no_item() {
    let script = |ask: Ask| match ask.at < seconds(5) {
        true => (ms(500 + ask.item % 7 * 100), Say::Done),
        false => (LATENCY, Say::Throttled(Some(3600))),
    };
    let scene = Scene::new(2000, LATENCY, |_| Say::Done).timed(script);
    let seen = scene.concurrency(SLOTS).play().await;
    assert_eq!(
        seen.ending.halted.as_ref().unwrap().kind,
        FailureKind::LongWait
    );
    assert_eq!(seen.failed(), 0);
    assert!(seen.took < seconds(10), "{:?}", seen.took);
}

#[tokio::test(start_paused = true)]
async fn a_dead_endpoint_halts_after_a_few_requests() {
    for slots in [1, 4, SLOTS] {
        let seen = Scene::new(1000, ms(5), |_| Say::Unreachable)
            .concurrency(slots)
            .play()
            .await;
        assert!(seen.sent.len() <= slots + 3, "{} requests", seen.sent.len());
        assert!(seen.records().is_empty());
        let halted = seen.ending.halted.as_ref().unwrap();
        assert_eq!(halted.kind, FailureKind::Unreachable);
        assert!(!seen.ending.complete);
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_that_only_refuses_halts_when_patience_ends() {
    let mut scene = Scene::new(1000, LATENCY, |_| Say::Throttled(None)).concurrency(8);
    scene.settings.max_outage = seconds(600);
    let seen = scene.play().await;
    assert!(seen.took >= seconds(600), "{:?}", seen.took);
    assert!(seen.took < seconds(600 + 70), "{:?}", seen.took);
    assert_eq!(
        seen.ending.halted.as_ref().unwrap().kind,
        FailureKind::RateLimit
    );
    assert!(
        seen.records().is_empty(),
        "{} settled",
        seen.records().len()
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_item_among_answered_ones_fails_alone_when_patience_ends() {
    let mut scene = Scene::new(4000, seconds(1), |ask| match ask.item {
        7 => Say::Throttled(None),
        _ => Say::Done,
    })
    .concurrency(2);
    scene.settings.max_outage = seconds(600);
    let seen = scene.play().await;
    assert!(seen.ending.complete);
    assert_eq!(seen.status(7).unwrap().1, FailureKind::RateLimit);
    assert_eq!(seen.failed(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_absurd_wait_halts_at_once() {
    let seen = Scene::new(100, LATENCY, |_| Say::Throttled(Some(u64::MAX)))
        .concurrency(8)
        .play()
        .await;
    assert!(seen.ending.halted.is_some());
    assert!(seen.records().is_empty());
    assert!(seen.took < seconds(1), "{:?}", seen.took);
}

/// The pause begins with the refusal, not when the listener has heard of it.
#[tokio::test(start_paused = true)]
async fn a_pause_does_not_wait_for_a_slow_listener() {
    let mut scene = Scene::new(200, LATENCY, |ask| match ask.at < seconds(5) {
        true => Say::Throttled(Some(10)),
        false => Say::Done,
    })
    .concurrency(4);
    (scene.event_queue, scene.listening) = (1, ms(100));
    let seen = scene.play().await;
    assert_eq!(seen.started(LATENCY + ms(5), seconds(10)), 0);
}

/// All of them were refused before anybody's patience began.
#[tokio::test(start_paused = true)]
async fn an_outage_beyond_patience_leaves_its_first_items_pending() {
    let mut scene = Scene::new(8, LATENCY, |_| Say::Throttled(None)).concurrency(8);
    scene.settings.max_outage = seconds(600);
    let seen = scene.play().await;
    assert!(
        seen.records().is_empty(),
        "{} settled",
        seen.records().len()
    );
    assert!(seen.ending.halted.is_some());
}
