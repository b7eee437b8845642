//! The one gate in front of the network: slots, requests a minute, tokens a minute and pauses.
//!
//! Requests pass in the order in which they came, so a heavy one is never starved by light ones.
//! Only the first in the queue waits on a timer, so ten thousand waiters cost nothing. A slot is
//! held only while a request is on its way, never while anything sleeps.

use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Settings;
use super::limiter::Bucket;
use super::route::{Probe, Route, Wait};
use crate::words::event::{Gauges, WaitReason, Waiting};
use crate::words::item::ItemId;
use crate::words::tokens::Tokens;

/// Hands out permits to send.
pub struct Admission {
    queue: tokio::sync::Mutex<()>,
    slots: Arc<Semaphore>,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    route: Arc<Route>,
    /// Wakes the first in the queue when tokens came back or there is news of the route.
    changed: Arc<Notify>,
    gauges: Arc<Gauges>,
}

/// The first place in the queue. What depends on the past is best asked now: it changes while
/// requests wait.
pub struct Turn<'a> {
    admission: &'a Arc<Admission>,
    _queue: tokio::sync::MutexGuard<'a, ()>,
}

impl Turn<'_> {
    /// Waits for a slot, the route, and room for one request, and takes all of it together.
    pub async fn acquire(self, id: &ItemId, weight: Tokens) -> Permit {
        let admission = self.admission;
        let (slot, probe) = loop {
            let slots = admission.slots.clone();
            let slot = slots.acquire_owned().await.expect("it is never closed");
            match admission.admit(weight) {
                Ok(probe) => break (slot, probe),
                Err(wait) => {
                    drop(slot);
                    admission.wait(wait).await;
                }
            }
        };
        admission.gauges.sent.add(1);
        admission.gauges.tokens.add(weight.0);
        Permit {
            admission: admission.clone(),
            reserved: weight,
            slot: Some(Slot(slot)),
            probe,
            number: admission
                .gauges
                .begin_request(id.clone(), Instant::now().into_std()),
        }
    }
}

/// What a request turned out to cost, as far as limits are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// The answer said how many tokens.
    Tokens(Tokens),
    /// An error answer: the request counted, its tokens did not.
    RequestOnly,
    /// Nothing reached the server.
    Nothing,
    /// Nobody knows: the reservation stands.
    Unknown,
}

/// The right to have one request on its way.
pub struct Permit {
    admission: Arc<Admission>,
    reserved: Tokens,
    slot: Option<Slot>,
    probe: Option<Probe>,
    number: u64,
}

/// One of the places for requests; free again when it is dropped.
pub struct Slot(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Admission {
    pub fn new(settings: &Settings, gauges: Arc<Gauges>) -> Self {
        let changed = Arc::new(Notify::new());
        Admission {
            queue: tokio::sync::Mutex::new(()),
            slots: Arc::new(Semaphore::new(settings.concurrency)),
            requests: settings.rpm.map(Bucket::of_requests),
            tokens: settings.tpm.map(Bucket::of_tokens),
            route: Arc::new(Route::new(settings, changed.clone(), gauges.clone())),
            changed,
            gauges,
        }
    }

    /// Returns what is known of the endpoint.
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Waits to be the first in the queue.
    pub async fn turn(self: &Arc<Self>) -> Turn<'_> {
        Turn {
            admission: self,
            _queue: self.queue.lock().await,
        }
    }

    fn admit(&self, weight: Tokens) -> Result<Option<Probe>, Wait> {
        self.route.look()?;
        let full = |until, reason| Wait {
            until: Some(until),
            reason: Some(reason),
        };
        if let Some(bucket) = &self.requests {
            bucket
                .take(1)
                .map_err(|until| full(until, WaitReason::RequestsPerMinute))?;
        }
        if let Some(bucket) = &self.tokens
            && let Err(until) = bucket.take(weight.0)
        {
            self.requests
                .iter()
                .for_each(|requests| requests.give_back(1));
            return Err(full(until, WaitReason::TokensPerMinute));
        }
        Ok(self.route.send())
    }

    async fn wait(&self, Wait { until, reason }: Wait) {
        let _shown = until.zip(reason).map(|(until, reason)| {
            let until = until.into_std();
            ShownWait::start(&self.gauges, Waiting { reason, until })
        });
        let time = async {
            match until {
                Some(until) => {
                    tokio::time::sleep_until(until).await;
                    self.route.rang(until);
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = time => {}
            () = self.changed.notified() => {}
        }
    }
}

/// What the next request waits for, shown for as long as it does, even if the wait is given up.
struct ShownWait<'a>(&'a Gauges);

impl<'a> ShownWait<'a> {
    fn start(gauges: &'a Gauges, waiting: Waiting) -> Self {
        gauges.set_waiting(Some(waiting));
        ShownWait(gauges)
    }
}

impl Drop for ShownWait<'_> {
    fn drop(&mut self) {
        self.0.set_waiting(None);
    }
}

impl Permit {
    /// Tells how its request went to the route, if it was the probe of an outage.
    pub fn take_probe(&mut self) -> Option<Probe> {
        self.probe.take()
    }

    /// Corrects what was reserved, and hands out the slot, which is free when that is dropped.
    pub fn settle(mut self, spent: Spent) -> Slot {
        let slot = self
            .slot
            .take()
            .expect("a permit has its slot until it is settled");
        let Permit {
            admission,
            reserved,
            ..
        } = &self;
        if spent == Spent::Nothing {
            admission.gauges.sent.subtract(1);
            admission
                .requests
                .iter()
                .for_each(|bucket| bucket.give_back(1));
        }
        let used = match spent {
            Spent::Tokens(used) => used,
            Spent::RequestOnly | Spent::Nothing => Tokens(0),
            Spent::Unknown => *reserved,
        };
        if used < *reserved {
            let unused = reserved.0 - used.0;
            admission.gauges.tokens.subtract(unused);
            admission
                .tokens
                .iter()
                .for_each(|bucket| bucket.give_back(unused));
            admission.changed.notify_one();
        } else if used > *reserved {
            let beyond = used.0 - reserved.0;
            admission.gauges.tokens.add(beyond);
            admission
                .tokens
                .iter()
                .for_each(|bucket| bucket.charge(beyond));
        }
        slot
    }
}

/// A request is no longer in flight when its permit is gone, also when its task is dropped.
impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.gauges.end_request(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::super::breaker::Asked;
    use super::*;
    use crate::words::verdict::{Failure, FailureKind};

    async fn acquire(admission: &Arc<Admission>, weight: Tokens) -> Permit {
        let turn = admission.turn().await;
        turn.acquire(&"any".into(), weight).await
    }

    fn admission(slots: usize, rpm: u32, tpm: u32) -> Arc<Admission> {
        let settings = Settings {
            concurrency: slots,
            rpm: NonZeroU32::new(rpm),
            tpm: NonZeroU32::new(tpm),
            ..Settings::default()
        };
        Arc::new(Admission::new(&settings, Arc::default()))
    }

    fn pause(admission: &Admission, seconds: u64) {
        let asked = Asked {
            item: 0,
            sent: Instant::now(),
            is_own: false,
        };
        let failure = Failure {
            kind: FailureKind::RateLimit,
            message: String::new(),
            http_status: Some(429),
            code: None,
        };
        let wait = Some(Duration::from_secs(seconds));
        admission.route.pushed_back(asked, &failure, wait, 0.0);
    }

    fn assert_about(time: Duration, seconds: f64) {
        assert!(
            (time.as_secs_f64() - seconds).abs() < 0.1,
            "{time:?} is not {seconds} s"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn requests_and_tokens_bind_together() {
        let start = Instant::now();
        let by_requests = admission(1, 60, 600_000);
        for _ in 0..11 {
            acquire(&by_requests, Tokens(100))
                .await
                .settle(Spent::Tokens(Tokens(100)));
        }
        assert_about(start.elapsed(), 10.0);
        let start = Instant::now();
        let by_tokens = admission(1, 60_000, 6_000);
        for _ in 0..11 {
            acquire(&by_tokens, Tokens(100))
                .await
                .settle(Spent::Tokens(Tokens(100)));
        }
        assert_about(start.elapsed(), 10.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_heavy_request_is_not_starved_by_light_ones() {
        let admission = admission(300, 0, 60_000);
        let start = Instant::now();
        let mut light = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let admission = admission.clone();
            light.spawn(async move {
                loop {
                    acquire(&admission, Tokens(10)).await.settle(Spent::Unknown);
                }
            });
        }
        tokio::task::yield_now().await;
        acquire(&admission, Tokens(900))
            .await
            .settle(Spent::Unknown);
        assert!(
            start.elapsed() < Duration::from_secs(4),
            "{:?}",
            start.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_heavier_than_the_whole_limit_passes_alone_and_is_paid_off() {
        let admission = admission(4, 0, 6_000);
        let start = Instant::now();
        acquire(&admission, Tokens(60_000))
            .await
            .settle(Spent::Unknown);
        assert_about(start.elapsed(), 0.0);
        acquire(&admission, Tokens(1)).await.settle(Spent::Unknown);
        let (least, most) = (Duration::from_secs(599), Duration::from_secs(601));
        assert!(
            (least..most).contains(&start.elapsed()),
            "{:?}",
            start.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_shorter_than_reserved_lets_the_waiting_one_go_early() {
        let admission = admission(4, 0, 6_000);
        let first = acquire(&admission, Tokens(6_000)).await;
        let waiting = tokio::spawn({
            let admission = admission.clone();
            async move {
                acquire(&admission, Tokens(100))
                    .await
                    .settle(Spent::Unknown)
            }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        let settled = Instant::now();
        first.settle(Spent::Tokens(Tokens(50)));
        waiting.await.unwrap();
        assert_about(settled.elapsed(), 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_slot_is_held_while_the_first_in_the_queue_waits() {
        let admission = admission(2, 1, 0);
        acquire(&admission, Tokens(0)).await.settle(Spent::Unknown);
        let waiting = tokio::spawn({
            let admission = admission.clone();
            async move { acquire(&admission, Tokens(0)).await.settle(Spent::Unknown) }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(admission.slots.available_permits(), 2);
        let waits = admission.gauges.waiting().unwrap();
        assert_eq!(waits.reason, WaitReason::RequestsPerMinute);
        waiting.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_pause_requests_return_spread_out_and_then_freely() {
        let admission = admission(100, 0, 0);
        let start = Instant::now();
        pause(&admission, 10);
        pause(&admission, 1);
        let mut passed = Vec::new();
        for _ in 0..300 {
            acquire(&admission, Tokens(0)).await.settle(Spent::Unknown);
            passed.push(start.elapsed());
        }
        assert_about(passed[0], 10.0);
        assert_about(passed[50], 10.5);
        assert_about(passed[299], 11.0);
    }
}
