//! Limits: requests and tokens per minute, enforced by the second.
//!
//! Each limit is a bucket that refills continuously and holds only a burst's worth. A request
//! heavier than a full bucket is let through when the bucket is full and leaves a debt, so that
//! the rate still holds. A request that is refused takes nothing. Time is passed in.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Refills are computed in floating point: a wait that was just long enough must be.
const ROUNDING: f64 = 1e-6;

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Requests,
    Tokens,
}

/// Why a request is not let in.
#[derive(Debug, PartialEq)]
pub(super) enum Throttle {
    /// The limit is used up for the moment.
    Wait {
        unit: Unit,
        limit: u64,
        used: u64,
        requested: u64,
        wait: Duration,
    },
    /// The request exceeds a whole minute's tokens and can never be let in.
    TooLarge { limit: u64, requested: u64 },
}

/// Where a limit stands: what the `x-ratelimit-*` headers say.
#[derive(Debug, PartialEq)]
pub(super) struct Standing {
    pub(super) limit: u64,
    /// What would be let in at this moment.
    pub(super) remaining: u64,
    /// Time until the bucket is full again.
    pub(super) reset: Duration,
}

/// The limits of one endpoint. Requests and tokens stand behind one lock: a request takes from
/// both or from neither.
pub(super) struct Limits {
    /// `None` where nothing is limited, so that nothing is locked.
    buckets: Option<Mutex<Buckets>>,
}

struct Buckets {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

impl Limits {
    pub(super) fn new(rpm: Option<u64>, tpm: Option<u64>, burst: Duration, now: Instant) -> Limits {
        let bucket = |limit| Bucket::new(limit, burst, now);
        let limited = rpm.is_some() || tpm.is_some();
        let buckets = limited.then(|| {
            Mutex::new(Buckets {
                requests: rpm.map(bucket),
                tokens: tpm.map(bucket),
            })
        });
        Limits { buckets }
    }

    /// Takes one request of this many tokens, or tells what is in its way.
    pub(super) fn take(&self, tokens: u64, now: Instant) -> Result<(), Throttle> {
        match self.lock() {
            Some(mut buckets) => buckets.take(tokens, now),
            None => Ok(()),
        }
    }

    /// Returns where each limit stands.
    pub(super) fn standings(&self, now: Instant) -> Vec<(Unit, Standing)> {
        let Some(mut buckets) = self.lock() else {
            return Vec::new();
        };
        let requests = buckets.requests.as_mut().map(|b| b.standing(now));
        let tokens = buckets.tokens.as_mut().map(|b| b.standing(now));
        let requests = requests.map(|standing| (Unit::Requests, standing));
        let tokens = tokens.map(|standing| (Unit::Tokens, standing));
        requests.into_iter().chain(tokens).collect()
    }

    fn lock(&self) -> Option<MutexGuard<'_, Buckets>> {
        let buckets = self.buckets.as_ref()?;
        Some(buckets.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Buckets {
    fn take(&mut self, tokens: u64, now: Instant) -> Result<(), Throttle> {
        if let Some(bucket) = &mut self.requests {
            bucket.check(Unit::Requests, 1, now)?;
        }
        if let Some(bucket) = &mut self.tokens {
            bucket.check(Unit::Tokens, tokens, now)?;
            bucket.level -= tokens as f64;
        }
        if let Some(bucket) = &mut self.requests {
            bucket.level -= 1.0;
        }
        Ok(())
    }
}

/// One limit, refilled continuously up to a burst's worth.
struct Bucket {
    limit: u64,
    capacity: f64,
    /// Below zero after a request that was heavier than the bucket.
    level: f64,
    updated: Instant,
}

impl Bucket {
    fn new(limit: u64, burst: Duration, now: Instant) -> Bucket {
        let limit = limit.max(1);
        let capacity = (limit as f64 / 60.0 * burst.as_secs_f64()).max(1.0);
        Bucket {
            limit,
            capacity,
            level: capacity,
            updated: now,
        }
    }

    /// Tells whether this much may be taken now.
    fn check(&mut self, unit: Unit, requested: u64, now: Instant) -> Result<(), Throttle> {
        self.refill(now);
        if requested > self.limit {
            let limit = self.limit;
            return Err(Throttle::TooLarge { limit, requested });
        }
        let needed = (requested as f64).min(self.capacity);
        if self.level + ROUNDING >= needed {
            return Ok(());
        }
        Err(Throttle::Wait {
            unit,
            limit: self.limit,
            used: self.limit - self.remaining(),
            requested,
            wait: self.time_to(needed),
        })
    }

    fn standing(&mut self, now: Instant) -> Standing {
        self.refill(now);
        Standing {
            limit: self.limit,
            remaining: self.remaining(),
            reset: self.time_to(self.capacity),
        }
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.updated).as_secs_f64();
        self.level = (self.level + elapsed * self.per_second()).min(self.capacity);
        self.updated = self.updated.max(now);
    }

    fn remaining(&self) -> u64 {
        // The cast turns a debt into zero.
        ((self.level + ROUNDING) as u64).min(self.limit)
    }

    fn time_to(&self, level: f64) -> Duration {
        Duration::from_secs_f64((level - self.level).max(0.0) / self.per_second())
    }

    fn per_second(&self) -> f64 {
        self.limit as f64 / 60.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(rpm: Option<u64>, tpm: Option<u64>) -> (Limits, Instant) {
        let now = Instant::now();
        (Limits::new(rpm, tpm, SECOND, now), now)
    }

    fn wait(result: Result<(), Throttle>) -> Duration {
        match result {
            Err(Throttle::Wait { wait, .. }) => wait,
            other => panic!("expected a wait, not {other:?}"),
        }
    }

    #[test]
    fn one_second_of_requests_is_let_in_at_once() {
        let (limits, now) = limits(Some(600), None);
        for _ in 0..10 {
            assert_eq!(limits.take(1, now), Ok(()));
        }
        let refused = limits.take(1, now);
        assert_eq!(
            refused,
            Err(Throttle::Wait {
                unit: Unit::Requests,
                limit: 600,
                used: 600,
                requested: 1,
                wait: Duration::from_millis(100),
            })
        );
    }

    #[test]
    fn named_wait_is_long_enough() {
        let (limits, now) = limits(Some(7), None);
        assert_eq!(limits.take(1, now), Ok(()));
        let wait = wait(limits.take(1, now));
        assert_eq!(limits.take(1, now + wait), Ok(()));
    }

    #[test]
    fn a_minute_never_lets_in_more_than_the_limit_and_one_burst() {
        let (limits, start) = limits(Some(600), None);
        let admitted = (0..60_000)
            .filter(|ms| limits.take(1, start + Duration::from_millis(*ms)).is_ok())
            .count();
        assert!((600..=610).contains(&admitted), "{admitted}");
    }

    #[test]
    fn heavy_request_leaves_a_debt() {
        let (limits, now) = limits(None, Some(60));
        assert_eq!(limits.take(30, now), Ok(()));
        assert_eq!(wait(limits.take(1, now)), 30 * SECOND);
        assert!(limits.take(1, now + 29 * SECOND).is_err());
        assert_eq!(limits.take(1, now + 30 * SECOND), Ok(()));
    }

    #[test]
    fn request_beyond_the_whole_minute_is_too_large() {
        let (limits, now) = limits(Some(60), Some(60));
        let refused = limits.take(61, now);
        let too_large = Throttle::TooLarge {
            limit: 60,
            requested: 61,
        };
        assert_eq!(refused, Err(too_large));
    }

    #[test]
    fn refused_by_tokens_keeps_its_request() {
        let (limits, now) = limits(Some(120), Some(60));
        assert_eq!(limits.take(60, now), Ok(()));
        assert!(limits.take(60, now).is_err());
        assert_eq!(limits.standings(now)[0].1.remaining, 1);
    }

    #[test]
    fn standings_tell_the_truth() {
        let (limits, now) = limits(Some(600), None);
        limits.take(1, now).unwrap();
        let expected = Standing {
            limit: 600,
            remaining: 9,
            reset: Duration::from_millis(100),
        };
        assert_eq!(limits.standings(now), [(Unit::Requests, expected)]);
        assert_eq!(limits.standings(now + SECOND)[0].1.reset, Duration::ZERO);
    }

    #[test]
    fn no_limits_let_everything_in() {
        let (limits, now) = limits(None, None);
        assert_eq!(limits.take(u64::MAX, now), Ok(()));
        assert_eq!(limits.standings(now), []);
    }
}
