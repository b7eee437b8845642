//! What a verdict means for its item: an outcome, another attempt, or the end of the run.
//!
//! Nothing here waits: limits, pauses and outages take effect at once, and what the listeners
//! should hear is handed back.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::breaker::{Asked, Blame, Recovery};
use super::route::{Probe, PushBack};
use super::trouble::{Tally, Trouble};
use super::{Settings, Shared, backoff};
use crate::words::event::Event;
use crate::words::human::count;
use crate::words::item::Item;
use crate::words::record::{ErrorStatus, Outcome};
use crate::words::tariff::Bill;
use crate::words::verdict::{Failure, FailureKind, Verdict};
use crate::words::wire::{Exchange, TransportError};

/// Less time than this is no attempt, nor is less than a twentieth of the item's whole time: it may
/// be paid for and ends without an answer.
const LEAST_TIME: Duration = Duration::from_secs(1);
/// Answers that cannot be used, and timeouts, may both have been paid for: one more try each.
const TRIES_AT_A_PRICE: u32 = 2;

/// What an attempt leaves to be done.
pub enum Next {
    End(Outcome),
    /// Wait for this long, then ask again.
    Again(Duration),
    Halt(Failure),
}

/// One request that came back, or not.
pub struct Attempt {
    pub sent: Instant,
    /// What all items had got when it went out.
    pub before: Tally,
    pub latency: Duration,
    pub exchange: Exchange,
    pub bill: Bill,
    /// It was sent to see whether an outage is over.
    pub probe: Option<Probe>,
}

/// What was decided, and what the listeners should hear of it.
pub struct Judged {
    pub next: Next,
    pub events: Vec<Event>,
}

/// What has happened to the item so far.
#[derive(Default)]
pub struct History {
    /// Requests of any fate.
    requests: u32,
    /// Attempts that count against its retries.
    attempts: u32,
    malformed: u32,
    timeouts: u32,
    /// Its answer was cut by the budget.
    cut: bool,
    /// The time of the attempts that count, and of its own waits.
    time: Duration,
    trouble: Trouble,
}

impl History {
    /// Returns how many attempts count against its retries.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    pub fn is_unasked(&self) -> bool {
        self.requests == 0
    }

    pub fn was_cut(&self) -> bool {
        self.cut
    }

    /// Returns how long the next attempt may take.
    pub fn time_for_attempt(&self, settings: &Settings) -> Duration {
        let left = settings
            .item_timeout
            .map(|limit| limit.saturating_sub(self.time));
        left.map_or(settings.timeout, |left| left.min(settings.timeout))
    }
}

/// Turns a verdict into the next step.
pub fn judge<T>(
    shared: &Shared<T>,
    item: &Item,
    history: &mut History,
    attempt: Attempt,
    verdict: Verdict,
) -> Judged {
    history.requests += 1;
    history.attempts += 1;
    let mut case = Case {
        shared,
        item,
        history,
        sent: attempt.sent,
        before: attempt.before,
        latency: attempt.latency,
        bill: attempt.bill,
        events: Vec::new(),
    };
    let next = match route_failure(&verdict).cloned() {
        None => {
            case.hear_of_life(&verdict, attempt.probe);
            case.decide(verdict, attempt.exchange)
        }
        Some(failure) => match case.blame(&failure, attempt.probe) {
            Blame::Item => case.decide(verdict, attempt.exchange),
            Blame::Route => case.keep(failure),
            Blame::Opened => {
                case.events.push(Event::OutageBegan(failure.clone()));
                case.keep(failure)
            }
            Blame::TooLong(failure) => Next::Halt(failure),
        },
    };
    Judged {
        next,
        events: case.events,
    }
}

struct Case<'a, T> {
    shared: &'a Shared<T>,
    item: &'a Item,
    history: &'a mut History,
    sent: Instant,
    before: Tally,
    latency: Duration,
    bill: Bill,
    events: Vec<Event>,
}

impl<T> Case<'_, T> {
    /// Lets the route know of a failure that may be its own.
    fn blame(&mut self, failure: &Failure, probe: Option<Probe>) -> Blame {
        let route = self.shared.route();
        let is_probe = probe.is_some();
        let trouble = &mut self.history.trouble;
        let others_answered = trouble.failed(self.before, route.tally(), is_probe);
        // Silence is news only where others have not been answered for long.
        let is_slow = failure.kind == FailureKind::Timeout
            && route.answered_since(self.sent + self.latency / 2);
        let is_worn_out = is_probe && self.is_worn_out(failure);
        let asked = self.asked(others_answered || is_slow || is_worn_out);
        let blame = route.failed(asked, probe, failure, self.shared.random());
        if blame == Blame::Item && is_worn_out {
            let all = self.shared.settings.max_retries.saturating_add(1);
            self.history.attempts = self.history.attempts.max(all);
        }
        blame
    }

    /// Tells whether a server at work has failed on the item as a probe for so often that it need
    /// not be an outage. Else a few items that it always fails on, and nothing else to ask, would
    /// be asked until the longest outage is over, by every run anew.
    fn is_worn_out(&self, failure: &Failure) -> bool {
        let is_complete = failure.http_status.is_some() && failure.kind != FailureKind::Overloaded;
        is_complete && self.history.trouble.probes() > self.shared.settings.max_retries.max(1)
    }

    /// Lets the route know of any other answer.
    fn hear_of_life(&mut self, verdict: &Verdict, probe: Option<Probe>) {
        let route = self.shared.route();
        if let Some(Recovery { lasted, probes }) = route.alive(probe) {
            self.events.push(Event::OutageEnded { lasted, probes });
        }
        if !matches!(verdict, Verdict::Throttle { .. }) {
            route.answered();
            self.history.trouble = Trouble::default();
        }
    }

    fn asked(&self, is_own: bool) -> Asked {
        Asked {
            item: self.item.index,
            sent: self.sent,
            is_own,
        }
    }

    /// The route's failure: the item keeps its attempts and waits behind all others.
    fn keep(&mut self, failure: Failure) -> Next {
        self.history.attempts -= 1;
        self.events.push(Event::Spared {
            id: self.item.id.clone(),
            failure,
            bill: self.bill,
        });
        Next::Again(Duration::ZERO)
    }

    fn decide(&mut self, verdict: Verdict, exchange: Exchange) -> Next {
        match verdict {
            Verdict::Done(answer) => match exchange {
                Ok(reply) => {
                    self.shared.route().served();
                    Next::End(Outcome::Ok {
                        answer,
                        http_status: reply.status.as_u16(),
                        body: reply.body,
                    })
                }
                Err(error) => error_outcome(ErrorStatus::Failed, internal(error), None),
            },
            Verdict::Reject(failure) => error_outcome(ErrorStatus::Rejected, failure, None),
            Verdict::Fail(failure) => error_outcome(ErrorStatus::Failed, failure, None),
            Verdict::Filter(failure) => {
                error_outcome(ErrorStatus::Filtered, failure, paid_body(exchange))
            }
            Verdict::Halt(failure) => Next::Halt(failure),
            Verdict::Mismatch(failure) => self.mismatched(failure),
            Verdict::Malformed(failure) if failure.kind == FailureKind::Cut => {
                // The budget's doing, not the item's.
                self.history.attempts -= 1;
                self.history.cut = true;
                let delay = self.backoff(self.history.attempts);
                self.retry(failure, delay)
            }
            Verdict::Malformed(failure) | Verdict::Foreign(failure) => {
                self.malformed(failure, exchange)
            }
            Verdict::Retry(failure) => self.failed(failure),
            Verdict::Throttle { failure, wait } => self.pushed_back(failure, wait),
        }
    }

    fn mismatched(&self, failure: Failure) -> Next {
        match self.item.model_is_shared || self.shared.route().nothing_found() {
            true => Next::Halt(failure),
            false => error_outcome(ErrorStatus::Failed, failure, None),
        }
    }

    fn malformed(&mut self, failure: Failure, exchange: Exchange) -> Next {
        self.history.malformed += 1;
        self.history.time += self.latency;
        let delay = self.backoff(self.history.attempts);
        if self.is_spent(self.history.malformed) || self.is_late(delay) {
            return error_outcome(ErrorStatus::Invalid, failure, paid_body(exchange));
        }
        self.retry(failure, delay)
    }

    fn failed(&mut self, failure: Failure) -> Next {
        let timed_out = failure.kind == FailureKind::Timeout;
        self.history.timeouts += u32::from(timed_out);
        self.history.time += self.latency;
        let tries = if timed_out { self.history.timeouts } else { 0 };
        let delay = self.backoff(self.history.attempts);
        let is_over = self.is_over();
        match self.is_spent(tries) {
            true if !is_over => error_outcome(ErrorStatus::Failed, failure, None),
            false if !self.is_late(delay) => self.retry(failure, delay),
            _ => error_outcome(ErrorStatus::Failed, self.late(&failure), None),
        }
    }

    /// Tells whether nothing is left of the retries, or of the tries that may be paid for.
    fn is_spent(&self, tries_at_a_price: u32) -> bool {
        self.history.attempts > self.shared.settings.max_retries
            || tries_at_a_price >= TRIES_AT_A_PRICE
    }

    /// Tells whether the item's own time is over.
    fn is_over(&self) -> bool {
        let limit = self.shared.settings.item_timeout;
        limit.is_some_and(|limit| self.history.time >= limit)
    }

    /// Tells whether too little of the item's own time is left after another wait.
    fn is_late(&self, delay: Duration) -> bool {
        let limit = self.shared.settings.item_timeout;
        limit.is_some_and(|limit| self.history.time + delay + LEAST_TIME.min(limit / 20) > limit)
    }

    fn late(&self, last: &Failure) -> Failure {
        let limit = self.shared.settings.item_timeout.unwrap_or_default();
        let attempts = count(self.history.attempts.into(), "attempt");
        Failure {
            kind: FailureKind::Timeout,
            message: format!(
                "no result within {} (--item-timeout) after {attempts}; the last: {}",
                crate::words::human::seconds(limit),
                last.message
            ),
            ..last.clone()
        }
    }

    fn backoff(&self, failures: u32) -> Duration {
        backoff::delay(failures, self.shared.random())
    }

    fn retry(&mut self, failure: Failure, delay: Duration) -> Next {
        self.history.time += delay;
        self.events.push(Event::Retried {
            id: self.item.id.clone(),
            failure,
            delay,
            bill: self.bill,
        });
        Next::Again(delay)
    }

    /// News about the route: the attempt is not the item's.
    fn pushed_back(&mut self, failure: Failure, wait: Option<Duration>) -> Next {
        self.history.attempts -= 1;
        let tally = self.shared.route().count_push_back();
        let is_alone = self.history.trouble.pushed_back(tally);
        let push_back = match may_open_breaker(&failure, wait) {
            // The route was asked already.
            true => PushBack::ItemOnly(Duration::ZERO),
            false => self.ask_route(&failure, wait, is_alone),
        };
        let (delay, pause) = match push_back {
            // Where nobody is answered, the run ends and its items stay pending.
            PushBack::GiveUp(failure) => return Next::Halt(failure),
            PushBack::ItemEnds(failure) => {
                return error_outcome(ErrorStatus::Failed, failure, None);
            }
            PushBack::ItemOnly(wait) => {
                let backoff = self.backoff(self.history.trouble.push_backs());
                (backoff.max(wait), None)
            }
            // The gate makes everybody wait, this item included.
            PushBack::Known => (Duration::ZERO, None),
            PushBack::Paused(wait) => (Duration::ZERO, Some(wait)),
        };
        if self.history.trouble.is_given_up() {
            return error_outcome(ErrorStatus::Failed, failure, None);
        }
        self.events.push(Event::Throttled {
            id: self.item.id.clone(),
            failure: failure.clone(),
            bill: self.bill,
        });
        if let Some(wait) = pause {
            self.events.push(Event::Paused { wait, failure });
        }
        Next::Again(delay)
    }

    fn ask_route(&self, failure: &Failure, wait: Option<Duration>, is_alone: bool) -> PushBack {
        let random = self.shared.random();
        self.shared
            .route()
            .pushed_back(self.asked(is_alone), failure, wait, random)
    }
}

/// Returns the failure of which the route should hear: one that may be its own.
fn route_failure(verdict: &Verdict) -> Option<&Failure> {
    let (failure, wait) = match verdict {
        Verdict::Foreign(failure) => return Some(failure),
        Verdict::Retry(failure) | Verdict::Fail(failure) => (failure, None),
        Verdict::Throttle { failure, wait } => (failure, *wait),
        _ => return None,
    };
    may_open_breaker(failure, wait).then_some(failure)
}

/// A server that says how long to wait is at work; a wait of nothing is none.
fn may_open_breaker(failure: &Failure, wait: Option<Duration>) -> bool {
    failure.may_be_of_route() && wait.is_none_or(|wait| wait.is_zero())
}

fn error_outcome(status: ErrorStatus, failure: Failure, kept: Option<Bytes>) -> Next {
    Next::End(Outcome::Error {
        status,
        failure,
        kept,
    })
}

/// A provider that calls a failed exchange done is broken; the item must not be lost over it.
fn internal(error: TransportError) -> Failure {
    Failure {
        kind: FailureKind::Network,
        message: error.message,
        http_status: None,
        code: None,
    }
}

/// Returns the answer of an exchange that was paid for.
fn paid_body(exchange: Exchange) -> Option<Bytes> {
    exchange
        .ok()
        .filter(|reply| reply.status.is_success())
        .map(|reply| reply.body)
}
