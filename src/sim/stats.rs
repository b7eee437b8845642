//! Counters: what the simulator has seen and done, for tests and rehearsals.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::answer::Usage;
use super::faults::Fault;
use super::price::PicoDollars;

/// The live counters. Each is exact; together they are not one moment's picture, but the books
/// among them are.
#[derive(Debug, Default)]
pub struct Stats {
    connections: AtomicU64,
    requests: AtomicU64,
    answered: AtomicU64,
    rejected: AtomicU64,
    unauthorized: AtomicU64,
    crowded: AtomicU64,
    throttled_requests: AtomicU64,
    throttled_tokens: AtomicU64,
    faults: [AtomicU64; Fault::ALL.len()],
    in_flight: AtomicU32,
    peak_in_flight: AtomicU32,
    books: Mutex<Books>,
}

/// What was made and charged. Behind one lock, so that the tokens are those of the charges.
#[derive(Debug, Default)]
struct Books {
    answers: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    charged: PicoDollars,
    /// The part of the charges whose answer went out whole.
    delivered: PicoDollars,
}

/// A copy of the counters; the body of `GET /sim/stats`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Connections accepted.
    pub connections: u64,
    /// Chat requests that arrived, whatever became of them.
    pub requests: u64,
    /// Chat requests that got a usable answer; `no-usage` faults are among them.
    pub answered: u64,
    /// Chat requests that were wrong in themselves: 400, 404 and 413.
    pub rejected: u64,
    /// Requests with a wrong key, on any route.
    pub unauthorized: u64,
    /// Requests refused because of `max_in_flight`.
    pub crowded: u64,
    /// Requests refused by the limit of requests per minute.
    pub throttled_requests: u64,
    /// Requests refused by the limit of tokens per minute, those too large for it included.
    pub throttled_tokens: u64,
    /// Faults played, by name; every name is there.
    pub faults: BTreeMap<&'static str, u64>,
    /// Chat requests that are being served now.
    pub in_flight: u32,
    /// The most chat requests that were served at a time.
    pub peak_in_flight: u32,
    /// Prompt tokens of every answer that was made, even if it did not arrive, or not whole.
    pub prompt_tokens: u64,
    /// Completion tokens of the same answers.
    pub completion_tokens: u64,
    /// How many answers these are. Each one was charged, when its request was let in.
    pub charged_answers: u64,
    /// What they cost.
    pub charged_picodollars: PicoDollars,
    /// The same in dollars, as decimal text.
    pub charged_usd: String,
    /// The part of it whose answer did not go out whole, or has not yet: the connection was
    /// reset, stalled or cut, or the client left.
    pub charged_undelivered_picodollars: PicoDollars,
}

impl Stats {
    /// Copies the counters.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let books = self.books();
        Counts {
            connections: read(&self.connections),
            requests: read(&self.requests),
            answered: read(&self.answered),
            rejected: read(&self.rejected),
            unauthorized: read(&self.unauthorized),
            crowded: read(&self.crowded),
            throttled_requests: read(&self.throttled_requests),
            throttled_tokens: read(&self.throttled_tokens),
            faults: Fault::ALL
                .map(|fault| (fault.name(), read(&self.faults[fault as usize])))
                .into(),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            peak_in_flight: self.peak_in_flight.load(Ordering::Relaxed),
            prompt_tokens: books.prompt_tokens,
            completion_tokens: books.completion_tokens,
            charged_answers: books.answers,
            charged_picodollars: books.charged,
            charged_usd: books.charged.usd(),
            charged_undelivered_picodollars: books.charged - books.delivered,
        }
    }

    pub(super) fn connection(&self) {
        add(&self.connections, 1);
    }

    pub(super) fn answered(&self) {
        add(&self.answered, 1);
    }

    pub(super) fn rejected(&self) {
        add(&self.rejected, 1);
    }

    pub(super) fn unauthorized(&self) {
        add(&self.unauthorized, 1);
    }

    pub(super) fn crowded(&self) {
        add(&self.crowded, 1);
    }

    pub(super) fn throttled_requests(&self) {
        add(&self.throttled_requests, 1);
    }

    pub(super) fn throttled_tokens(&self) {
        add(&self.throttled_tokens, 1);
    }

    pub(super) fn fault(&self, fault: Fault) {
        add(&self.faults[fault as usize], 1);
    }

    /// Charges an answer, which is not delivered by that.
    pub(super) fn charged(&self, usage: Usage, cost: PicoDollars) {
        let mut books = self.books();
        books.answers += 1;
        books.prompt_tokens += usage.prompt;
        books.completion_tokens += usage.completion;
        books.charged += cost;
    }

    /// Notes that what was charged at this cost went out whole.
    pub(super) fn delivered(&self, cost: PicoDollars) {
        self.books().delivered += cost;
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a chat request in; it counts itself out when dropped.
    pub(super) fn enter(&self) -> Visit<'_> {
        add(&self.requests, 1);
        let present = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak_in_flight.fetch_max(present, Ordering::Relaxed);
        Visit {
            stats: self,
            present,
        }
    }
}

/// The presence of one chat request.
pub(super) struct Visit<'a> {
    stats: &'a Stats,
    /// How many were present when it came in, itself included.
    pub(super) present: u32,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.stats.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_leave_their_peak_behind() {
        let stats = Stats::default();
        let visits = [stats.enter(), stats.enter()];
        assert_eq!(visits[1].present, 2);
        drop(visits);
        let counts = stats.counts();
        assert_eq!((counts.in_flight, counts.peak_in_flight), (0, 2));
    }

    #[test]
    fn faults_are_counted_by_name() {
        let stats = Stats::default();
        stats.fault(Fault::BadJson);
        let counts = stats.counts();
        assert_eq!(counts.faults["bad-json"], 1);
        assert_eq!(counts.faults["429"], 0);
    }

    #[test]
    fn sums_of_charges_are_exact() {
        let stats = Stats::default();
        let usage = Usage {
            prompt: 1,
            ..Usage::default()
        };
        // A tenth of a dollar and one pico-dollar: in floating point, neither is exact.
        let cost = PicoDollars(100_000_000_001);
        for _ in 0..100_000 {
            stats.charged(usage, cost);
        }
        let counts = stats.counts();
        assert_eq!(counts.charged_answers, 100_000);
        assert_eq!(counts.prompt_tokens, 100_000);
        assert_eq!(
            counts.charged_picodollars,
            PicoDollars(10_000_000_000_100_000)
        );
        assert_eq!(counts.charged_usd, "10000.0000001");
    }

    #[test]
    fn money_is_text_that_no_reader_rounds() {
        let stats = Stats::default();
        let cost = PicoDollars(u128::from(u64::MAX) * 10);
        stats.charged(Usage::default(), cost);
        stats.charged(Usage::default(), PicoDollars(1));
        stats.delivered(cost);
        let shown = serde_json::to_value(stats.counts()).unwrap();
        assert_eq!(shown["charged_picodollars"], "184467440737095516151");
        assert_eq!(shown["charged_usd"], "184467440.737095516151");
        assert_eq!(shown["charged_undelivered_picodollars"], "1");
    }
}
