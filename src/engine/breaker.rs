//! The circuit breaker: after so many failures of the route in a row, single probes go out instead
//! of requests, until one of them is answered.
//!
//! While it is open, no failure is an item's own. Time and chance come in from outside, so nothing
//! here waits.

use std::time::Duration;

use tokio::time::Instant;

use super::backoff;
use crate::words::event::Outage;
use crate::words::human::{count, duration};
use crate::words::verdict::{Failure, FailureKind};

/// One request, as far as its failure says something about the route.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub item: u64,
    pub sent: Instant,
    pub is_probe: bool,
    /// Others were answered meanwhile, so the trouble may be the item's own.
    pub is_suspect: bool,
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
    failures: u32,
    max_outage: Duration,
    state: State,
    /// Requests sent before this were on their way during an outage that is over.
    over: Option<Instant>,
}

enum State {
    Closed(Row),
    Open(Open),
}

/// Failures without an answer between them.
#[derive(Default)]
struct Row {
    failures: u32,
    first_item: u64,
    /// One item alone may be what the server fails on.
    several_items: bool,
}

struct Open {
    since: Instant,
    failure: Failure,
    probes: u32,
    next: Instant,
    is_probing: bool,
}

impl Breaker {
    pub fn new(failures: u32, max_outage: Duration) -> Self {
        Breaker {
            failures,
            max_outage,
            state: State::Closed(Row::default()),
            over: None,
        }
    }

    /// Takes in a failure of the route. Nobody was answered since `since`.
    pub fn failed(
        &mut self,
        asked: Asked,
        failure: &Failure,
        since: Instant,
        random: f64,
    ) -> Blame {
        let now = Instant::now();
        match &mut self.state {
            State::Open(open) if asked.is_probe => {
                open.failure = failure.clone();
                if now >= open.since + self.max_outage {
                    open.is_probing = false;
                    return Blame::TooLong(open.summary(now));
                }
                open.schedule(now, self.max_outage, random);
                Blame::Route
            }
            State::Open(_) => Blame::Route,
            State::Closed(_) if self.over.is_some_and(|over| asked.sent < over) => Blame::Route,
            State::Closed(_) if asked.is_suspect => Blame::Item,
            State::Closed(row) => {
                row.add(asked.item);
                if row.failures < self.failures || !row.several_items {
                    return Blame::Item;
                }
                let mut open = Open {
                    since,
                    failure: failure.clone(),
                    probes: 0,
                    next: now,
                    is_probing: false,
                };
                open.schedule(now, self.max_outage, random);
                self.state = State::Open(open);
                Blame::Opened
            }
        }
    }

    /// Takes in a sign of life. Silence is disproved by any answer, a refusal only by a probe's: what
    /// was taken in before it says nothing about now.
    pub fn alive(&mut self, is_probe: bool) -> Option<Recovery> {
        let now = Instant::now();
        match &mut self.state {
            State::Closed(row) => {
                *row = Row::default();
                None
            }
            State::Open(open) if is_probe || open.failure.kind == FailureKind::Timeout => {
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
            State::Open(open) if open.is_probing => Err(ProbeUnderWay),
            State::Open(open) => Ok(Some(open.next)),
        }
    }

    /// Notes that a request goes out, and tells whether it is a probe.
    pub fn send(&mut self) -> bool {
        match &mut self.state {
            State::Open(open) if !open.is_probing => {
                open.is_probing = true;
                open.probes += 1;
                true
            }
            _ => false,
        }
    }

    /// Notes that nobody will ever know what came of the probe.
    pub fn lose_probe(&mut self) {
        if let State::Open(open) = &mut self.state {
            open.is_probing = false;
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
            next_probe: (!open.is_probing).then(|| open.next.into_std()),
            probes: open.probes,
        })
    }
}

/// A probe is on its way.
#[derive(Debug, PartialEq, Eq)]
pub struct ProbeUnderWay;

impl Row {
    fn add(&mut self, item: u64) {
        match self.failures {
            0 => self.first_item = item,
            _ => self.several_items |= item != self.first_item,
        }
        self.failures += 1;
    }
}

impl Open {
    /// Sets the time of the next probe; the last one goes out when the outage may last no longer.
    fn schedule(&mut self, now: Instant, max_outage: Duration, random: f64) {
        self.is_probing = false;
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
            is_probe: false,
            is_suspect: false,
        }
    }

    fn fail(breaker: &mut Breaker, asked: Asked) -> Blame {
        breaker.failed(asked, &failure(), Instant::now(), 0.5)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(2, MAX_OUTAGE);
        fail(&mut breaker, asked(1));
        assert_eq!(fail(&mut breaker, asked(2)), Blame::Opened);
        breaker
    }

    fn probe(item: u64) -> Asked {
        Asked {
            is_probe: true,
            ..asked(item)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_failures_in_a_row_open_it() {
        let mut breaker = Breaker::new(8, MAX_OUTAGE);
        for item in 0..7 {
            assert_eq!(fail(&mut breaker, asked(item)), Blame::Item);
        }
        assert_eq!(breaker.alive(false), None);
        for item in 0..7 {
            assert_eq!(fail(&mut breaker, asked(item)), Blame::Item);
        }
        assert_eq!(fail(&mut breaker, asked(7)), Blame::Opened);
        assert_eq!(fail(&mut breaker, asked(8)), Blame::Route);
    }

    #[tokio::test(start_paused = true)]
    async fn one_item_alone_never_opens_it() {
        let mut breaker = Breaker::new(8, MAX_OUTAGE);
        for _ in 0..100 {
            assert_eq!(fail(&mut breaker, asked(1)), Blame::Item);
        }
        assert_eq!(fail(&mut breaker, asked(2)), Blame::Opened);
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_that_failed_while_others_were_answered_says_nothing_about_the_route() {
        let mut breaker = Breaker::new(2, MAX_OUTAGE);
        for item in 0..100 {
            let suspect = Asked {
                is_suspect: true,
                ..asked(item)
            };
            assert_eq!(fail(&mut breaker, suspect), Blame::Item);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_goes_out_at_a_time() {
        let mut breaker = opened();
        assert!(breaker.next_probe().unwrap().is_some());
        assert!(breaker.send());
        assert_eq!(breaker.next_probe(), Err(ProbeUnderWay));
        assert!(!breaker.send());
        assert_eq!(fail(&mut breaker, probe(3)), Blame::Route);
        assert!(breaker.next_probe().unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_probe_leaves_room_for_another() {
        let mut breaker = opened();
        breaker.send();
        breaker.lose_probe();
        assert!(breaker.next_probe().unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_probes_answer_closes_it() {
        let mut breaker = opened();
        breaker.send();
        assert_eq!(breaker.alive(false), None);
        assert_eq!(breaker.alive(true).unwrap().probes, 1);
        assert_eq!(breaker.next_probe(), Ok(None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_on_its_way_during_an_outage_is_forgiven_afterwards() {
        let mut breaker = Breaker::new(2, MAX_OUTAGE);
        let before = asked(9);
        fail(&mut breaker, asked(1));
        fail(&mut breaker, asked(2));
        breaker.send();
        tokio::time::advance(Duration::from_secs(1)).await;
        breaker.alive(true);
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
            breaker.send();
            match fail(&mut breaker, probe(1)) {
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
