//! What a run tells its listeners, and the gauges that they may read between events.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::item::ItemId;
use super::money::Usd;
use super::price::Bill;
use super::record::Record;
use super::verdict::Failure;

/// Something that happened. The order of events is the order of their happening.
#[derive(Debug)]
pub enum Event {
    /// An item's outcome is final for this run. The listener drops the event when the record is
    /// written, which lets go of what the engine holds for it.
    Settled(Box<Record>, Hold),
    /// An attempt failed and the item will be tried again.
    Retried {
        id: ItemId,
        failure: Failure,
        delay: Duration,
        /// What the attempt used and cost all the same.
        bill: Bill,
    },
    /// The route pushed back; the item keeps its attempts.
    Throttled { id: ItemId, failure: Failure },
    /// All requests wait.
    Paused { wait: Duration, failure: Failure },
    /// So much of the budget is spent that the user should know; items that have not started go
    /// to the other model from now on, if there is one.
    BudgetLow {
        spent: Usd,
        limit: Usd,
        downgrade: Option<Arc<str>>,
    },
    /// A request waits until more of the budget may be used.
    CeilingWanted,
    /// So many requests were dropped on their way; they may have been charged.
    Dropped(u64),
    /// The run will start nothing new because every later request would fail the same way.
    Halted(Failure),
}

/// Something of the engine's that is let go when this is dropped: the slot of a request whose
/// answer is not written yet. So no more answers than slots are ever in memory only.
#[derive(Debug, Default)]
pub struct Hold(
    #[expect(dead_code, reason = "held for its drop")] Option<Box<dyn Any + Send + Sync>>,
);

impl Hold {
    pub fn of(held: impl Any + Send + Sync) -> Self {
        Hold(Some(Box::new(held)))
    }
}

/// What a request is waiting for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitReason {
    RequestsPerMinute,
    TokensPerMinute,
    /// The server pushed back; the words say how.
    Paused(String),
}

/// A wait and its end.
#[derive(Debug, Clone)]
pub struct Waiting {
    pub reason: WaitReason,
    pub until: Instant,
}

/// Counters that change too often for events.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Requests sent so far, retries included.
    pub sent: Counter,
    /// Requests whose answer is awaited.
    pub in_flight: Counter,
    /// Tokens booked against the limit: used ones where the answer said so, else reserved ones.
    pub tokens: Counter,
    /// Items that wait for their next attempt.
    pub backing_off: Counter,
    waiting: Mutex<Option<Waiting>>,
}

impl Gauges {
    /// Says what the next request waits for; `None` when it goes out.
    pub fn set_waiting(&self, waiting: Option<Waiting>) {
        *self
            .waiting
            .lock()
            .expect("no code panics while it holds this lock") = waiting;
    }

    /// Returns what the next request waits for.
    pub fn waiting(&self) -> Option<Waiting> {
        self.waiting
            .lock()
            .expect("no code panics while it holds this lock")
            .clone()
    }
}

/// A number that many tasks change and a listener reads now and then.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub fn subtract(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
