//! The circuit breaker: after so many failures of the route in a row, single probes go out instead
//! of requests, until one of them is answered.
//!
//! While it is open, no failure is an item's own. Time and chance come in from outside, so nothing
//! here waits.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff;
use super::patience::{later, unanswered};
use crate::words::event::Outage;
use crate::words::human::{count, duration};
use crate::words::verdict::{Failure, FailureKind};

/// One request, as far as its failure says something about the route.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub item: u64,
    pub sent: Instant,
    /// Others were treated better meanwhile, so the trouble is the item's own.
    pub is_own: bool,
}

/// Whose failure it is.
#[derive(Debug, PartialEq, Eq)]
pub enum Blame {
    Item,
    /// The route's; the item keeps its attempts and waits with all others.
    Route,
    /// The route's, and with this one the breaker opens.
    Opened,
    /// The route's, for longer than an outage may last.
    TooLong(Failure),
}

/// An outage that is over.
#[derive(Debug, PartialEq, Eq)]
pub struct Recovery {
    pub lasted: Duration,
    pub probes: u32,
}

/// Opens after so many failures in a row.
pub struct Breaker {
    /// `None` where it never opens.
    failures: Option<NonZeroU32>,
    max_outage: Duration,
    state: State,
    /// Probes of all outages, so that each has a number of its own.
    probes: u64,
    /// Requests sent before this were on their way during an outage that is over.
    over: Option<Instant>,
}

enum State {
    Closed(Row),
    Open(Open),
}

/// Failures without a sign of life between them.
#[derive(Default)]
struct Row {
    failures: u32,
    /// The item that failed first, and when it did.
    first: Option<(u64, Instant)>,
    /// One item alone may be what the server fails on.
    several_items: bool,
}

struct Open {
    since: Instant,
    failure: Failure,
    probes: u32,
    next: Instant,
    /// The number of the probe that is on its way.
    probing: Option<u64>,
}

impl Breaker {
    pub fn new(failures: Option<NonZeroU32>, max_outage: Duration) -> Self {
        Breaker {
            failures,
            max_outage,
            state: State::Closed(Row::default()),
            probes: 0,
            over: None,
        }
    }

    /// Takes in a failure that may be the route's; `probe` is the number that `send` gave.
    pub fn failed(
        &mut self,
        asked: Asked,
        probe: Option<u64>,
        failure: &Failure,
        random: f64,
    ) -> Blame {
        let now = Instant::now();
        match &mut self.state {
            State::Open(open) if open.is_probing(probe) => {
                open.failure = failure.clone();
                if now >= open.since + self.max_outage {
                    open.probing = None;
                    return Blame::TooLong(open.summary(now));
                }
                open.schedule(now, self.max_outage, random);
                match asked.is_own {
                    true => Blame::Item,
                    false => Blame::Route,
                }
            }
            State::Open(_) => Blame::Route,
            State::Closed(_) if self.over.is_some_and(|over| asked.sent < over) => Blame::Route,
            State::Closed(_) if asked.is_own => Blame::Item,
            State::Closed(row) => {
                let since = row.add(asked.item, now);
                if !row.is_outage(self.failures) {
                    return match now - since > self.max_outage {
                        true => Blame::TooLong(unanswered(failure, now - since)),
                        false => Blame::Item,
                    };
                }
                let mut open = Open {
                    since,
                    failure: failure.clone(),
                    probes: 0,
                    next: now,
                    probing: None,
                };
                open.schedule(now, self.max_outage, random);
                self.state = State::Open(open);
                Blame::Opened
            }
        }
    }

    /// Takes in a sign of life. Silence is disproved by any answer, a refusal only by a probe's: what
    /// was taken in before it says nothing about now.
    pub fn alive(&mut self, probe: Option<u64>) -> Option<Recovery> {
        let now = Instant::now();
        match &mut self.state {
            State::Closed(row) => {
                *row = Row::default();
                None
            }
            State::Open(open)
                if open.is_probing(probe) || open.failure.kind == FailureKind::Timeout =>
            {
                let recovery = Recovery {
                    lasted: now - open.since,
                    probes: open.probes,
                };
                self.state = State::Closed(Row::default());
                self.over = Some(now);
                Some(recovery)
            }
            State::Open(_) => None,
        }
    }

    /// Tells when the next probe may go out: `Ok(None)` where none is needed, an error where one
    /// is on its way.
    pub fn next_probe(&self) -> Result<Option<Instant>, ProbeUnderWay> {
        match &self.state {
            State::Closed(_) => Ok(None),
            State::Open(open) if open.probing.is_some() => Err(ProbeUnderWay),
            State::Open(open) => Ok(Some(open.next)),
        }
    }

    /// Notes that a request goes out, and returns its number if it is a probe.
    pub fn send(&mut self) -> Option<u64> {
        match &mut self.state {
            State::Open(open) if open.probing.is_none() => {
                self.probes += 1;
                open.probes += 1;
                open.probing = Some(self.probes);
                open.probing
            }
            _ => None,
        }
    }

    /// Notes that nobody will ever know what came of a probe.
    pub fn lose_probe(&mut self, probe: u64) {
        match &mut self.state {
            State::Open(open) if open.is_probing(Some(probe)) => open.probing = None,
            _ => {}
        }
    }

    /// Notes that the whole process stood still for so long, which is no part of an outage.
    pub fn stood_still(&mut self, time: Duration) {
        match &mut self.state {
            State::Closed(row) => {
                if let Some((_, since)) = &mut row.first {
                    *since = later(*since, time);
                }
            }
            State::Open(open) => open.since = later(open.since, time),
        }
    }

    /// Returns what people should know of an outage.
    pub fn outage(&self) -> Option<Outage> {
        let State::Open(open) = &self.state else {
            return None;
        };
        Some(Outage {
            since: open.since.into_std(),
            why: open.failure.cause(),
            next_probe: open.probing.is_none().then(|| open.next.into_std()),
            probes: open.probes,
        })
    }
}

/// A probe is on its way.
#[derive(Debug, PartialEq, Eq)]
pub struct ProbeUnderWay;

impl Row {
    /// Adds a failure, and returns when the first one was.
    fn add(&mut self, item: u64, now: Instant) -> Instant {
        let (first, since) = *self.first.get_or_insert((item, now));
        self.several_items |= item != first;
        self.failures += 1;
        since
    }

    fn is_outage(&self, failures: Option<NonZeroU32>) -> bool {
        self.several_items && failures.is_some_and(|failures| self.failures >= failures.get())
    }
}

impl Open {
    /// Tells whether this is the probe on its way, and not one of an outage before.
    fn is_probing(&self, probe: Option<u64>) -> bool {
        probe.is_some() && probe == self.probing
    }

    /// Sets the time of the next probe; the last one goes out when the outage may last no longer.
    fn schedule(&mut self, now: Instant, max_outage: Duration, random: f64) {
        self.probing = None;
        let wait = backoff::delay(self.probes + 1, 0.5 + random / 2.0);
        self.next = (now + wait).min(self.since + max_outage);
    }

    fn summary(&self, now: Instant) -> Failure {
        let last = &self.failure;
        Failure {
            kind: FailureKind::Outage,
            message: format!(
                "nobody was answered for {}, nor were {}; the last of them: {}",
                duration(now - self.since),
                count(self.probes.into(), "probe"),
                last.message
            ),
            http_status: last.http_status,
            code: last.code.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_OUTAGE: Duration = Duration::from_secs(1800);

    fn failure() -> Failure {
        Failure {
            kind: FailureKind::ServerError,
            message: "boom".into(),
            http_status: Some(500),
            code: None,
        }
    }

    fn asked(item: u64) -> Asked {
        Asked {
            item,
            sent: Instant::now(),
            is_own: false,
        }
    }

    fn fail(breaker: &mut Breaker, asked: Asked) -> Blame {
        breaker.failed(asked, None, &failure(), 0.5)
    }

    fn breaker(failures: u32) -> Breaker {
        Breaker::new(NonZeroU32::new(failures), MAX_OUTAGE)
    }

    fn opened() -> Breaker {
        let mut breaker = breaker(2);
        fail(&mut breaker, asked(1));
        assert_eq!(fail(&mut breaker, asked(2)), Blame::Opened);
        breaker
    }

    /// Fails as a probe.
    fn probe(breaker: &mut Breaker, asked: Asked) -> Blame {
        let probe = breaker.send();
        assert!(probe.is_some());
        breaker.failed(asked, probe, &failure(), 0.5)
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_failures_in_a_row_open_it() {
        let mut breaker = breaker(8);
        for item in 0..7 {
            assert_eq!(fail(&mut breaker, asked(item)), Blame::Item);
        }
        assert_eq!(breaker.alive(None), None);
        for item in 0..7 {
            assert_eq!(fail(&mut breaker, asked(item)), Blame::Item);
        }
        assert_eq!(fail(&mut breaker, asked(7)), Blame::Opened);
        assert_eq!(fail(&mut breaker, asked(8)), Blame::Route);
    }

    #[tokio::test(start_paused = true)]
    async fn one_item_alone_never_opens_it() {
        let mut breaker = breaker(8);
        for _ in 0..100 {
            assert_eq!(fail(&mut breaker, asked(1)), Blame::Item);
        }
        assert_eq!(fail(&mut breaker, asked(2)), Blame::Opened);
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_that_failed_while_others_were_answered_says_nothing_about_the_route() {
        let mut breaker = breaker(2);
        for item in 0..100 {
            let own = Asked {
                is_own: true,
                ..asked(item)
            };
            assert_eq!(fail(&mut breaker, own), Blame::Item);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_goes_out_at_a_time() {
        let mut breaker = opened();
        assert!(breaker.next_probe().unwrap().is_some());
        let first = breaker.send();
        assert_eq!(breaker.next_probe(), Err(ProbeUnderWay));
        assert!(breaker.send().is_none());
        assert_eq!(
            breaker.failed(asked(3), first, &failure(), 0.5),
            Blame::Route
        );
        assert!(breaker.next_probe().unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_probe_leaves_room_for_another() {
        let mut breaker = opened();
        let probe = breaker.send().unwrap();
        breaker.lose_probe(probe);
        assert!(breaker.next_probe().unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_probes_answer_closes_it() {
        let mut breaker = opened();
        let probe = breaker.send();
        assert_eq!(breaker.alive(None), None);
        assert_eq!(breaker.alive(probe).unwrap().probes, 1);
        assert_eq!(breaker.next_probe(), Ok(None));
    }

    /// Any answer ends an outage of timeouts, also while a probe is on its way.
    ///
    /// Negative control: with `is_probing` true for any number, the second assertion fails.
    #[tokio::test(start_paused = true)]
    async fn a_probe_of_an_outage_before_is_none_of_the_next() {
        let mut breaker = opened();
        let old = breaker.send();
        breaker.alive(old);
        tokio::time::advance(Duration::from_secs(1)).await;
        fail(&mut breaker, asked(1));
        fail(&mut breaker, asked(2));
        let new = breaker.send();
        assert_eq!(breaker.alive(old), None);
        breaker.lose_probe(old.unwrap());
        assert_eq!(breaker.next_probe(), Err(ProbeUnderWay));
        assert!(breaker.alive(new).is_some());
    }

    /// Negative control: with `stood_still` empty, the outage is over.
    #[tokio::test(start_paused = true)]
    async fn standing_still_is_no_part_of_an_outage() {
        let mut breaker = breaker(8);
        fail(&mut breaker, asked(1));
        tokio::time::advance(2 * MAX_OUTAGE).await;
        breaker.stood_still(2 * MAX_OUTAGE);
        assert_eq!(fail(&mut breaker, asked(2)), Blame::Item);
        tokio::time::advance(2 * MAX_OUTAGE).await;
        assert!(matches!(fail(&mut breaker, asked(1)), Blame::TooLong(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probes_failure_is_its_items_where_that_is_known() {
        let mut breaker = opened();
        let own = Asked {
            is_own: true,
            ..asked(1)
        };
        assert_eq!(probe(&mut breaker, own), Blame::Item);
        assert!(breaker.next_probe().unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_on_its_way_during_an_outage_is_forgiven_afterwards() {
        let mut breaker = breaker(2);
        let before = asked(9);
        fail(&mut breaker, asked(1));
        fail(&mut breaker, asked(2));
        let probe = breaker.send();
        tokio::time::advance(Duration::from_secs(1)).await;
        breaker.alive(probe);
        assert_eq!(fail(&mut breaker, before), Blame::Route);
        assert_eq!(fail(&mut breaker, asked(9)), Blame::Item);
    }

    #[tokio::test(start_paused = true)]
    async fn probes_come_after_doubling_waits_and_the_last_one_at_the_end() {
        let mut breaker = opened();
        let start = Instant::now();
        let mut waits = Vec::new();
        let over = loop {
            let next = breaker.next_probe().unwrap().unwrap();
            waits.push((next - Instant::now()).as_secs_f64());
            tokio::time::sleep_until(next).await;
            match probe(&mut breaker, asked(1)) {
                Blame::TooLong(failure) => break failure,
                blame => assert_eq!(blame, Blame::Route),
            }
        };
        assert_eq!(waits[..8], [0.75, 1.5, 3.0, 6.0, 12.0, 24.0, 45.0, 45.0]);
        assert_eq!(start.elapsed(), MAX_OUTAGE);
        assert_eq!(
            (over.kind, over.http_status),
            (FailureKind::Outage, Some(500))
        );
        assert_eq!(
            over.message,
            "nobody was answered for 30m 00s, nor were 45 probes; the last of them: boom"
        );
    }
}
