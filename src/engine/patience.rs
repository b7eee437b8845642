//! How long a run goes on without an answer, and what it says when that is over.

use std::time::Duration;

use tokio::time::Instant;

use crate::words::human::duration;
use crate::words::verdict::{Failure, FailureKind};

/// So much later than due, a timer shows that the whole process stood still.
const OVERSLEPT: Duration = Duration::from_millis(100);

/// A time in which the server pushes back and answers nobody.
pub struct Refusing {
    since: Instant,
    /// The longest wait that the server asked for is no part of it; else a run that kept to it
    /// would be over when it comes back.
    longest_wait: Duration,
}

impl Refusing {
    pub fn begin() -> Self {
        Refusing {
            since: Instant::now(),
            longest_wait: Duration::ZERO,
        }
    }

    /// Notes a wait that the server asked for.
    pub fn asked_for(&mut self, wait: Duration) {
        self.longest_wait = self.longest_wait.max(wait);
    }

    /// Notes that the whole process stood still for so long.
    pub fn stood_still(&mut self, time: Duration) {
        self.since = later(self.since, time);
    }

    /// Returns how long it has lasted, where that is too long.
    pub fn beyond(&self, most: Duration) -> Option<Duration> {
        let time = self.since.elapsed();
        (time > most + self.longest_wait).then_some(time)
    }
}

/// Returns how long the process stood still when a timer rang, if it did.
pub fn overslept(due: Instant) -> Option<Duration> {
    let late = Instant::now().saturating_duration_since(due);
    (late >= OVERSLEPT).then_some(late)
}

/// Moves a moment of the past by a time in which the process stood still.
pub fn later(moment: Instant, time: Duration) -> Instant {
    (moment + time).min(Instant::now())
}

/// Says how long a failure has been all that came back.
pub fn unanswered(failure: &Failure, time: Duration) -> Failure {
    Failure {
        message: format!(
            "nobody was answered for {}: {}",
            duration(time),
            failure.message
        ),
        ..failure.clone()
    }
}

/// Says that a wait is longer than any outage may be.
pub fn absurd(failure: &Failure, wait: Duration, most: Duration) -> Failure {
    Failure {
        kind: FailureKind::LongWait,
        message: format!(
            "it asks for {}, and {} is the most that this run waits: {}",
            duration(wait),
            duration(most),
            failure.message
        ),
        ..failure.clone()
    }
}
