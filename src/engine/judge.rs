//! What a verdict means for its item: an outcome, another attempt, or the end of the run.
//!
//! Nothing here waits: limits, pauses and outages take effect at once, and what the listeners
//! should hear is handed back.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::breaker::{Asked, Blame, Recovery};
use super::route::{Probe, PushBack};
use super::{Settings, Shared, backoff};
use crate::words::event::Event;
use crate::words::human::count;
use crate::words::item::Item;
use crate::words::record::{ErrorStatus, Outcome};
use crate::words::tariff::Bill;
use crate::words::verdict::{Failure, FailureKind, Verdict};
use crate::words::wire::{Exchange, TransportError};

/// Answers that cannot be used, and timeouts, may both have been paid for: one more try each.
const TRIES_AT_A_PRICE: u32 = 2;
/// So many push-backs in a row, while others were answered, are the item's own failure.
const PUSH_BACKS_ALONE: u32 = 20;

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
    /// It timed out while others were answered, or as a probe: the next time is its own failure.
    is_straggler: bool,
    /// Its answer was cut by the budget.
    cut: bool,
    /// The time of the attempts that count, and of its own waits.
    time: Duration,
    /// Push-backs since it was last answered.
    push_backs: u32,
    trouble: Option<Trouble>,
}

/// Failures of an item that may be the route's, since it was last answered.
struct Trouble {
    since: Instant,
    /// How many requests of all items were answered when it began.
    answers: u64,
    /// How often it went on after others were answered.
    alone: u32,
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

    fn count_push_back(&mut self) -> u32 {
        self.push_backs += 1;
        self.push_backs
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
    latency: Duration,
    bill: Bill,
    events: Vec<Event>,
}

impl<T> Case<'_, T> {
    /// Lets the route know of a failure that may be its own.
    fn blame(&mut self, failure: &Failure, probe: Option<Probe>) -> Blame {
        let mut asked = self.asked(probe.is_some());
        if failure.kind == FailureKind::Timeout {
            let is_straggler = self.history.is_straggler;
            let others = self.shared.route().answered_since(self.sent);
            self.history.is_straggler |= others || probe.is_some();
            if is_straggler && probe.is_some() {
                // Tried at a price twice. Another item may be a better probe.
                self.history.timeouts = self.history.timeouts.max(1);
                return Blame::Item;
            }
            // Silence is news only where others have not been answered for long.
            asked.is_suspect |= self
                .shared
                .route()
                .answered_since(self.sent + self.latency / 2);
        }
        let random = self.shared.random();
        self.shared.route().failed(asked, probe, failure, random)
    }

    /// Lets the route know of any other answer.
    fn hear_of_life(&mut self, verdict: &Verdict, probe: Option<Probe>) {
        let route = self.shared.route();
        if let Some(Recovery { lasted, probes }) = route.alive(probe) {
            self.events.push(Event::OutageEnded { lasted, probes });
        }
        if !matches!(verdict, Verdict::Throttle { .. }) {
            route.answered();
            self.history.trouble = None;
            self.history.push_backs = 0;
        }
    }

    fn asked(&self, is_probe: bool) -> Asked {
        Asked {
            item: self.item.index,
            sent: self.sent,
            is_probe,
            is_suspect: self.is_suspect(),
        }
    }

    /// Tells whether others were answered since the item's troubles began. Then they may be its
    /// own: they neither open the breaker nor let others wait.
    fn is_suspect(&self) -> bool {
        let answers = self.shared.route().answers();
        let trouble = self.history.trouble.as_ref();
        trouble.is_some_and(|trouble| answers > trouble.answers)
    }

    /// The route's failure: the item keeps its attempts and waits behind all others.
    fn keep(&mut self, failure: Failure) -> Next {
        self.history.attempts -= 1;
        self.tell_push_back(failure);
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
            Verdict::Malformed(failure) => self.malformed(failure, exchange),
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
        self.note_trouble();
        let timed_out = failure.kind == FailureKind::Timeout;
        self.history.timeouts += u32::from(timed_out);
        self.history.time += self.latency;
        let tries = if timed_out { self.history.timeouts } else { 0 };
        let delay = self.backoff(self.history.attempts);
        let is_over = self.is_late(Duration::ZERO);
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

    /// Tells whether the item's own time is over after another wait.
    fn is_late(&self, delay: Duration) -> bool {
        let limit = self.shared.settings.item_timeout;
        limit.is_some_and(|limit| self.history.time + delay >= limit)
    }

    fn late(&self, last: &Failure) -> Failure {
        let limit = self.shared.settings.item_timeout.unwrap_or_default();
        let attempts = count(self.history.attempts.into(), "attempt");
        Failure {
            kind: FailureKind::Timeout,
            message: format!(
                "no result within {} s (--item-timeout) after {attempts}; the last: {}",
                limit.as_secs_f64(),
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
        self.note_trouble();
        let push_back = match may_open_breaker(&failure, wait) {
            // The route was asked already.
            true => PushBack::ItemOnly,
            false => self.ask_route(&failure, wait),
        };
        // Where nobody is answered, the run ends and its items stay pending.
        if let PushBack::GiveUp(failure) = push_back {
            return Next::Halt(failure);
        }
        let push_backs = self.history.count_push_back();
        if self.is_given_up() {
            return error_outcome(ErrorStatus::Failed, failure, None);
        }
        self.tell_push_back(failure.clone());
        match push_back {
            PushBack::ItemOnly => {
                Next::Again(self.backoff(push_backs).max(wait.unwrap_or_default()))
            }
            PushBack::Paused(wait) => {
                self.events.push(Event::Paused { wait, failure });
                Next::Again(Duration::ZERO)
            }
            // The gate makes everybody wait, this item included.
            _ => Next::Again(Duration::ZERO),
        }
    }

    fn ask_route(&self, failure: &Failure, wait: Option<Duration>) -> PushBack {
        let random = self.shared.random();
        let asked = self.asked(false);
        self.shared
            .route()
            .pushed_back(asked, failure, wait, random)
    }

    /// Tells whether an item was pushed back for so long that it is no news about the route.
    fn is_given_up(&self) -> bool {
        self.history.trouble.as_ref().is_some_and(|trouble| {
            trouble.alone >= PUSH_BACKS_ALONE
                || trouble.since.elapsed() > self.shared.settings.max_outage
        })
    }

    fn note_trouble(&mut self) {
        let answers = self.shared.route().answers();
        let trouble = self.history.trouble.get_or_insert_with(|| Trouble {
            since: Instant::now(),
            answers,
            alone: 0,
        });
        trouble.alone += u32::from(answers > trouble.answers);
    }

    fn tell_push_back(&mut self, failure: Failure) {
        self.events.push(Event::Throttled {
            id: self.item.id.clone(),
            failure,
            bill: self.bill,
        });
    }
}

/// Returns the failure of which the route should hear: one that may be its own.
fn route_failure(verdict: &Verdict) -> Option<&Failure> {
    let (failure, wait) = match verdict {
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
