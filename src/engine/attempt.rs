//! The life of one item, from its turn to its outcome.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Shared;
use super::admission::{Permit, Slot, Spent};
use super::backoff;
use super::bill::bill;
use super::funding::{Funded, Limiting, fund};
use super::route::PushBack;
use super::stop::Phase;
use crate::transport::Transport;
use crate::words::event::Event;
use crate::words::item::Item;
use crate::words::record::{ErrorStatus, Outcome, Record};
use crate::words::tariff::{Bill, Charge};
use crate::words::tokens::Tokens;
use crate::words::verdict::{Failure, FailureKind, Verdict};
use crate::words::wire::{Exchange, TransportError, TransportErrorKind};

/// Answers that cannot be used, and timeouts, may both have been paid for: one more try each.
const TRIES_AT_A_PRICE: u32 = 2;

/// How a life ended.
pub enum End {
    /// The slot is free when the record is written.
    Settled(Box<Record>, Slot),
    /// As before, but for an item that was given up without a request.
    Unasked(Box<Record>),
    /// The item alone is more than the budget; why.
    Unaffordable(Failure),
    /// The run stopped first; the item stays pending and `--resume` asks it.
    Pending,
    /// Every later request would fail the same way.
    Halted(Failure),
}

/// A request that may go out, with all that it holds.
struct Admitted<'i> {
    permit: Permit,
    funded: Funded<'i>,
}

/// What an attempt leaves to be done.
enum Next {
    End(Outcome),
    /// Wait for this long, then ask again.
    Again(Duration),
    Halt(Failure),
}

/// What has happened to the item so far.
#[derive(Default)]
struct History {
    /// Requests of any fate.
    requests: u32,
    /// Attempts that count against its retries.
    attempts: u32,
    malformed: u32,
    /// Its answer was cut by the budget.
    cut: bool,
    timeouts: u32,
    push_backs: u32,
    pushed_back_since: Option<Instant>,
}

impl History {
    /// An answer of another kind shows that the route takes this item.
    fn forget_push_backs(&mut self) {
        (self.push_backs, self.pushed_back_since) = (0, None);
    }
}

/// Lives an item's life: asks, judges, waits, asks again, until there is an outcome or the run
/// stops.
pub async fn live<T: Transport>(shared: &Shared<T>, mut item: Item) -> End {
    let mut history = History::default();
    loop {
        let admitted = match admit(shared, &mut item, &history).await {
            Ok(admitted) => admitted,
            Err(End::Unaffordable(failure)) => {
                let outcome = Outcome::Error {
                    status: ErrorStatus::Failed,
                    failure,
                    kept: None,
                };
                let bill = Bill::default();
                let record = record(item, history.attempts, Duration::ZERO, bill, outcome);
                return End::Unasked(Box::new(record));
            }
            Err(end) => return stopped(shared, end),
        };
        let sent = Instant::now();
        let exchange = send(shared, shared.provider.request(&admitted.funded.asked)).await;
        let latency = sent.elapsed();
        let verdict = shared.provider.verdict(&exchange);
        let bill = bill(
            &*shared.provider,
            &admitted.funded.asked,
            &verdict,
            &exchange,
        );
        let verdict = demand_whole(&admitted, verdict);
        let verdict = demand_json(shared, &admitted.funded.asked, verdict, &exchange);
        let slot = settle(shared, admitted, &verdict, &exchange, &bill);
        history.requests += 1;
        history.attempts += 1;
        match judge(shared, &item, &mut history, verdict, exchange, sent, bill).await {
            Next::End(outcome) => {
                let record = record(item, history.attempts, latency, bill, outcome);
                return End::Settled(Box::new(record), slot);
            }
            Next::Halt(failure) => {
                let end = stopped(shared, End::Halted(failure));
                if bill.charge != Charge::Nothing {
                    shared.emit(Event::Unanswered(bill)).await;
                }
                return end;
            }
            Next::Again(delay) => {
                drop(slot);
                if !sleep(shared, delay).await {
                    return End::Pending;
                }
            }
        }
    }
}

/// Ends a life without an outcome. A halt takes effect at once: the dispatcher may be waiting for
/// a slow listener, and every free slot would ask in vain.
fn stopped<T>(shared: &Shared<T>, end: End) -> End {
    if let End::Halted(_) = end {
        shared.stop.advance(Phase::Draining);
    }
    end
}

/// Waits for the item's turn, for its money and for a permit, or says how the life ends.
async fn admit<'i, T: Transport>(
    shared: &Shared<T>,
    item: &'i mut Item,
    history: &History,
) -> Result<Admitted<'i>, End> {
    let in_turn = async {
        let turn = shared.admission.turn().await;
        let limiting = match history.cut {
            true => Limiting::Forbidden,
            false => Limiting::Allowed,
        };
        let funded = fund(shared, item, history.requests == 0, limiting).await?;
        let permit = turn.acquire(weight(shared, &funded.asked)).await;
        Ok(Admitted {
            permit,
            funded: funded.sent(),
        })
    };
    tokio::select! {
        biased;
        () = shared.stop.reached(Phase::Draining) => Err(End::Pending),
        admitted = in_turn => admitted,
    }
}

/// Returns what a request weighs against a limit of tokens.
fn weight<T>(shared: &Shared<T>, item: &Item) -> Tokens {
    match item.prompt_tokens {
        Some(prompt) => {
            prompt
                + item
                    .bounds
                    .output
                    .unwrap_or_else(|| shared.outputs.expected())
        }
        None => Tokens(0),
    }
}

/// Sends one request, bounded as a whole by the attempt's time.
async fn send<T: Transport>(shared: &Shared<T>, request: crate::words::wire::Request) -> Exchange {
    let time = shared.settings.timeout;
    tokio::time::timeout(time, shared.transport.send(request))
        .await
        .unwrap_or_else(|_| {
            Err(TransportError {
                kind: TransportErrorKind::Timeout,
                message: format!("no answer within {} s", time.as_secs_f64()),
            })
        })
}

/// An answer that was cut because the budget had no room for a longer one is not the item's answer:
/// it is asked again, in full, when there is room.
fn demand_whole(admitted: &Admitted<'_>, verdict: Verdict) -> Verdict {
    match (&verdict, admitted.funded.limited) {
        (Verdict::Done(answer), Some(limit)) if answer.was_cut => Verdict::Malformed(Failure {
            kind: FailureKind::Cut,
            message: format!(
                "the answer was cut at {} tokens, for which the budget had room",
                limit.0
            ),
            http_status: None,
            code: None,
        }),
        _ => verdict,
    }
}

/// An answer that is not the JSON that was asked for cannot be used.
fn demand_json<T>(
    shared: &Shared<T>,
    item: &Item,
    verdict: Verdict,
    exchange: &Exchange,
) -> Verdict {
    let Verdict::Done(answer) = &verdict else {
        return verdict;
    };
    let Some(content) = answer.content.as_deref().filter(|_| item.expects_json) else {
        return verdict;
    };
    let Some(complaint) = shared.schemas.complaint(&item.body, content) else {
        return verdict;
    };
    let why = if answer.was_cut {
        " (it was cut at the token limit)"
    } else {
        ""
    };
    Verdict::Malformed(Failure {
        kind: FailureKind::Malformed,
        message: format!("JSON was asked for, and the answer {complaint}{why}"),
        http_status: exchange.as_ref().ok().map(|reply| reply.status.as_u16()),
        code: None,
    })
}

/// Corrects the limits and the budget by what was really used. The slot goes back before anything
/// sleeps.
fn settle<T: Transport>(
    shared: &Shared<T>,
    admitted: Admitted<'_>,
    verdict: &Verdict,
    exchange: &Exchange,
    bill: &Bill,
) -> Slot {
    admitted.funded.settle(bill.charge);
    let spent = match (bill.usage, exchange) {
        (Some(usage), _) => {
            // Of answers that were cut, too: the next limit must leave them room.
            if matches!(verdict, Verdict::Done(_) | Verdict::Malformed(_)) {
                shared.outputs.learn(usage.completion);
            }
            Spent::Tokens(usage.total.max(usage.prompt + usage.completion))
        }
        (None, Ok(reply)) if !reply.status.is_success() => Spent::RequestOnly,
        (None, Err(error)) if !error.kind.may_be_charged() => Spent::Nothing,
        (None, _) => Spent::Unknown,
    };
    admitted.permit.settle(spent)
}

/// Turns a verdict into the next step.
async fn judge<T: Transport>(
    shared: &Shared<T>,
    item: &Item,
    history: &mut History,
    verdict: Verdict,
    exchange: Exchange,
    sent: Instant,
    bill: Bill,
) -> Next {
    if !matches!(verdict, Verdict::Throttle { .. }) {
        history.forget_push_backs();
        if exchange.is_ok() {
            shared.route.answered();
        }
    }
    match verdict {
        Verdict::Done(answer) => match exchange.inspect(|_| shared.route.served()) {
            Ok(reply) => Next::End(Outcome::Ok {
                answer,
                http_status: reply.status.as_u16(),
                body: reply.body,
            }),
            Err(error) => error_outcome(ErrorStatus::Failed, internal(error), None),
        },
        Verdict::Reject(failure) => error_outcome(ErrorStatus::Rejected, failure, None),
        Verdict::Fail(failure) => error_outcome(ErrorStatus::Failed, failure, None),
        Verdict::Filter(failure) => {
            error_outcome(ErrorStatus::Filtered, failure, paid_body(exchange))
        }
        Verdict::Halt(failure) => Next::Halt(failure),
        Verdict::Mismatch(failure) if item.model_is_shared || shared.route.nothing_found() => {
            Next::Halt(failure)
        }
        Verdict::Mismatch(failure) => error_outcome(ErrorStatus::Failed, failure, None),
        Verdict::Malformed(failure) if failure.kind == FailureKind::Cut => {
            // The budget's doing, not the item's.
            history.attempts -= 1;
            history.cut = true;
            retry(shared, item, history, failure, bill).await
        }
        Verdict::Malformed(failure) => {
            history.malformed += 1;
            let spent = history.attempts > shared.settings.max_retries
                || history.malformed >= TRIES_AT_A_PRICE;
            if !spent {
                return retry(shared, item, history, failure, bill).await;
            }
            error_outcome(ErrorStatus::Invalid, failure, paid_body(exchange))
        }
        Verdict::Retry(failure) => {
            let timed_out = failure.kind == FailureKind::Timeout;
            history.timeouts += u32::from(timed_out);
            let spent = history.attempts > shared.settings.max_retries
                || timed_out && history.timeouts >= TRIES_AT_A_PRICE;
            if spent {
                return error_outcome(ErrorStatus::Failed, failure, None);
            }
            retry(shared, item, history, failure, bill).await
        }
        Verdict::Throttle { failure, wait } => {
            // News about the route: the attempt is not the item's.
            history.attempts -= 1;
            throttled(shared, item, history, failure, wait, sent, bill).await
        }
    }
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

async fn retry<T: Transport>(
    shared: &Shared<T>,
    item: &Item,
    history: &History,
    failure: Failure,
    bill: Bill,
) -> Next {
    let delay = backoff::delay(history.attempts, shared.random());
    let id = item.id.clone();
    shared
        .emit(Event::Retried {
            id,
            failure,
            delay,
            bill,
        })
        .await;
    Next::Again(delay)
}

async fn throttled<T: Transport>(
    shared: &Shared<T>,
    item: &Item,
    history: &mut History,
    failure: Failure,
    wait: Option<Duration>,
    sent: Instant,
    bill: Bill,
) -> Next {
    history.push_backs += 1;
    let random = shared.random();
    // Acts before it tells: a slow listener must not let others through in the meantime.
    let mut push_back = shared.route.pushed_back(&failure, wait, sent, random);
    let delay = match push_back {
        PushBack::GiveUp => return Next::Halt(failure),
        PushBack::ItemOnly => backoff::delay(history.push_backs, shared.random()),
        PushBack::Pause(wait) => {
            let until = Instant::now() + wait;
            if !shared.admission.pause_until(until, reason(&failure)) {
                // Everybody waits longer than this already.
                push_back = PushBack::ItemOnly;
            }
            // The gate makes everybody wait, this item included.
            Duration::ZERO
        }
    };
    // Only after the route was asked: where nobody is answered, the run ends and its items stay
    // pending.
    let since = *history.pushed_back_since.get_or_insert_with(Instant::now);
    if shared.route.out_of_patience(since) {
        return error_outcome(ErrorStatus::Failed, failure, None);
    }
    tell_push_back(shared, item, failure, push_back, bill).await;
    Next::Again(delay)
}

fn reason(failure: &Failure) -> String {
    match failure.http_status {
        Some(status) => format!("the server asked for it ({status})"),
        None => failure.kind.words().to_owned(),
    }
}

async fn tell_push_back<T: Transport>(
    shared: &Shared<T>,
    item: &Item,
    failure: Failure,
    push_back: PushBack,
    bill: Bill,
) {
    let id = item.id.clone();
    let throttled = Event::Throttled {
        id,
        failure: failure.clone(),
        bill,
    };
    shared.emit(throttled).await;
    if let PushBack::Pause(wait) = push_back {
        shared.emit(Event::Paused { wait, failure }).await;
    }
}

/// Sleeps without a slot; false where the run stops first.
async fn sleep<T: Transport>(shared: &Shared<T>, delay: Duration) -> bool {
    shared.gauges.backing_off.add(1);
    let slept = tokio::select! {
        biased;
        () = shared.stop.reached(Phase::Draining) => false,
        () = tokio::time::sleep(delay) => true,
    };
    shared.gauges.backing_off.subtract(1);
    slept
}

fn record(item: Item, attempts: u32, latency: Duration, bill: Bill, outcome: Outcome) -> Record {
    // A throttled item that was given up has spent no attempt, yet it was asked.
    let attempts = attempts.max(1);
    Record {
        id: item.id,
        index: item.index,
        metadata: item.metadata,
        attempts,
        latency,
        model: item.model,
        bill,
        outcome,
    }
}
