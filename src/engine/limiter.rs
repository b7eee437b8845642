//! One limit per minute: a bucket that refills evenly.               [the only governor]
//!
//! Providers enforce a limit by the second, so the bucket holds less than a second's worth: no burst
//! stands at the start. What governor lacks is done on its state, the theoretical
//! arrival time: what was taken too much goes back, what was taken too little becomes a debt that
//! delays the next taker, and an amount above the bucket is taken with the rest as debt.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

const MINUTE_NANOS: u64 = 60_000_000_000;
/// Parts of a minute whose amount may go out at once: a tenth of a second of requests, and half a
/// second of tokens, since refunds come in bunches and what finds the bucket full is lost.
const REQUEST_BURST: u64 = 600;
const TOKEN_BURST: u64 = 120;

/// A rate of so many units a minute.
pub struct Bucket {
    limiter: RateLimiter<NotKeyed, ArrivalTime, TokioClock, NoOpMiddleware<Nanos>>,
    state: ArrivalTime,
    clock: TokioClock,
    /// The time in which one unit refills, in nanoseconds.
    unit: u64,
    burst: NonZeroU32,
}

impl Bucket {
    /// Limits requests. The bucket is full at first.
    pub fn of_requests(per_minute: NonZeroU32) -> Self {
        Self::new(per_minute, REQUEST_BURST)
    }

    /// Limits tokens. The bucket is full at first.
    pub fn of_tokens(per_minute: NonZeroU32) -> Self {
        Self::new(per_minute, TOKEN_BURST)
    }

    fn new(per_minute: NonZeroU32, burst_share: u64) -> Self {
        let amount = u64::from(per_minute.get());
        // Rounded up: never faster than the limit.
        let unit = MINUTE_NANOS.div_ceil(amount);
        let burst = NonZeroU32::new((amount / burst_share) as u32).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(Duration::from_nanos(unit))
            .expect("a unit takes at least a nanosecond")
            .allow_burst(burst);
        let state = ArrivalTime::default();
        let clock = TokioClock {
            start: Instant::now(),
        };
        let limiter = RateLimiter::new(quota, state.clone(), clock.clone());
        Bucket {
            limiter,
            state,
            clock,
            unit,
            burst,
        }
    }

    /// Takes an amount, or says when to ask again. An amount above the bucket waits for a full
    /// one and leaves a debt, so it is neither refused for ever nor let through for free.
    pub fn take(&self, amount: u64) -> Result<(), Instant> {
        let within = amount.min(u64::from(self.burst.get()));
        let Some(cells) = NonZeroU32::new(within as u32) else {
            return Ok(());
        };
        match self
            .limiter
            .check_n(cells)
            .expect("the amount was cut to the bucket's size")
        {
            Ok(()) => {
                self.state
                    .update(|arrival| arrival.saturating_add(self.span(amount - within)));
                Ok(())
            }
            Err(refusal) => {
                Err(self.clock.start + Duration::from_nanos(refusal.earliest_possible().as_u64()))
            }
        }
    }

    /// Puts back what turned out not to be used.
    pub fn give_back(&self, amount: u64) {
        self.state
            .update(|arrival| arrival.saturating_sub(self.span(amount)));
    }

    /// Books what was used beyond what was taken.
    pub fn charge(&self, amount: u64) {
        let now = self.clock.now().as_u64();
        self.state
            .update(|arrival| arrival.max(now).saturating_add(self.span(amount)));
    }

    fn span(&self, amount: u64) -> u64 {
        self.unit.saturating_mul(amount)
    }
}

/// The theoretical arrival time, in nanoseconds since the bucket was made.
#[derive(Clone, Default)]
struct ArrivalTime(Arc<AtomicU64>);

impl ArrivalTime {
    fn update(&self, change: impl Fn(u64) -> u64) {
        // A debt beyond a century would overflow governor's own arithmetic.
        let change = |arrival| Some(change(arrival).min(u64::MAX / 4));
        let _ = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
    }
}

impl StateStore for ArrivalTime {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut known = self.0.load(Ordering::Acquire);
        loop {
            let (outcome, next) = decide(Some(Nanos::new(known)))?;
            let next = next.as_u64();
            match self
                .0
                .compare_exchange_weak(known, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Ok(outcome),
                Err(changed) => known = changed,
            }
        }
    }
}

/// Tokio's clock, so that paused time drives the limits in tests.
#[derive(Clone)]
struct TokioClock {
    start: Instant,
}

impl Clock for TokioClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(per_minute: u32) -> Bucket {
        Bucket::of_requests(NonZeroU32::new(per_minute).unwrap())
    }

    /// Takes amounts one after the other and returns when the last one went through.
    async fn take_all(bucket: &Bucket, amounts: impl IntoIterator<Item = u64>) -> Duration {
        let start = Instant::now();
        for amount in amounts {
            while let Err(until) = bucket.take(amount) {
                tokio::time::sleep_until(until).await;
            }
        }
        start.elapsed()
    }

    /// The bucket's tenth of a second of burst, and tokio's timer, set the tolerance.
    fn assert_about(time: Duration, seconds: f64) {
        assert!(
            (time.as_secs_f64() - seconds).abs() < 0.15,
            "{time:?} is not {seconds} s"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_paced_evenly_from_the_start() {
        let bucket = bucket(600);
        assert_about(take_all(&bucket, [1; 11]).await, 1.0);
        assert_about(take_all(&bucket, [1; 600]).await, 60.0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_amount_above_the_bucket_goes_through_and_delays_the_next() {
        let bucket = bucket(6000);
        assert_about(take_all(&bucket, [60_000]).await, 0.0);
        assert_about(take_all(&bucket, [1]).await, 600.0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_can_be_taken_at_once() {
        let bucket = bucket(6000);
        take_all(&bucket, [6000]).await;
        bucket.give_back(6000);
        assert_about(take_all(&bucket, [10]).await, 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refund_never_fills_beyond_the_bucket() {
        let bucket = bucket(6000);
        bucket.give_back(1_000_000);
        assert_about(take_all(&bucket, vec![10; 101]).await, 10.0);
    }

    #[tokio::test(start_paused = true)]
    async fn use_beyond_the_reservation_delays_the_next() {
        let bucket = bucket(6000);
        take_all(&bucket, [10]).await;
        bucket.charge(590);
        assert_about(take_all(&bucket, [10]).await, 6.0);
    }

    #[tokio::test(start_paused = true)]
    async fn absurd_amounts_neither_panic_nor_overflow() {
        let bucket = bucket(1);
        bucket.charge(u64::MAX);
        assert!(bucket.take(u64::MAX).is_err());
        bucket.give_back(u64::MAX);
        assert!(bucket.take(1).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_largest_limit_runs_at_its_rate() {
        let bucket = bucket(u32::MAX);
        let time = take_all(&bucket, vec![u64::from(u32::MAX) / 60; 11]).await;
        // A unit is 13.97 ns, rounded up to 14.
        assert_about(time, 9.9);
    }
}
