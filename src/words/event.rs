//! What a run tells its listeners, and the gauges that they may read between events.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::item::ItemId;
use super::money::Usd;
use super::record::Record;
use super::tariff::Bill;
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
    Throttled {
        id: ItemId,
        failure: Failure,
        /// What the attempt used and cost all the same.
        bill: Bill,
    },
    /// An attempt failed in an outage; the item keeps its attempts.
    Spared {
        id: ItemId,
        failure: Failure,
        /// What the attempt used and cost all the same.
        bill: Bill,
    },
    /// An attempt came to nothing, and its item stays pending; it cost something all the same.
    Unanswered(Bill),
    /// All requests wait.
    Paused { wait: Duration, failure: Failure },
    /// So many requests failed in a row that only single probes go out from now on.
    OutageBegan(Failure),
    /// A probe was answered, and requests go out again.
    OutageEnded { lasted: Duration, probes: u32 },
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

/// An outage of the endpoint, as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    pub since: Instant,
    /// What the last failure was.
    pub why: String,
    /// `None` while a probe is on its way.
    pub next_probe: Option<Instant>,
    /// Probes so far.
    pub probes: u32,
}

/// A request whose answer is awaited.
#[derive(Debug, Clone)]
pub struct AwaitedRequest {
    pub id: ItemId,
    pub since: Instant,
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
    outage: Mutex<Option<Outage>>,
    awaited: Mutex<Awaited>,
}

/// Requests whose answer is awaited, in the order of their start.
#[derive(Debug, Default)]
struct Awaited {
    started: u64,
    requests: BTreeMap<u64, AwaitedRequest>,
}

impl Gauges {
    /// Notes that a request goes out, and returns what `end_request` wants to hear.
    pub fn begin_request(&self, id: ItemId, since: Instant) -> u64 {
        self.in_flight.add(1);
        let mut awaited = locked(&self.awaited);
        awaited.started += 1;
        let number = awaited.started;
        awaited
            .requests
            .insert(number, AwaitedRequest { id, since });
        number
    }

    /// Notes that a request is no longer on its way.
    pub fn end_request(&self, number: u64) {
        self.in_flight.subtract(1);
        locked(&self.awaited).requests.remove(&number);
    }

    /// Returns the request whose answer has been awaited for longest.
    pub fn oldest(&self) -> Option<AwaitedRequest> {
        let awaited = locked(&self.awaited);
        let (_, oldest) = awaited.requests.first_key_value()?;
        Some(oldest.clone())
    }

    /// Says how an outage stands; `None` where there is none.
    pub fn set_outage(&self, outage: Option<Outage>) {
        *locked(&self.outage) = outage;
    }

    /// Returns how an outage stands.
    pub fn outage(&self) -> Option<Outage> {
        locked(&self.outage).clone()
    }

    /// Says what the next request waits for; `None` when it goes out.
    pub fn set_waiting(&self, waiting: Option<Waiting>) {
        *locked(&self.waiting) = waiting;
    }

    /// Returns what the next request waits for.
    pub fn waiting(&self) -> Option<Waiting> {
        locked(&self.waiting).clone()
    }
}

fn locked<T>(gauge: &Mutex<T>) -> MutexGuard<'_, T> {
    gauge
        .lock()
        .expect("no code panics while it holds this lock")
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
