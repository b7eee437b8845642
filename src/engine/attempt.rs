//! The life of one item, from its turn to its outcome.

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::admission::{Permit, Slot, Spent};
use super::bill::bill;
use super::funding::{Funded, Limiting, fund};
use super::judge::{Attempt, History, Judged, Next, judge};
use super::patience::overslept;
use super::stop::Phase;
use crate::transport::Transport;
use crate::words::event::Event;
use crate::words::item::Item;
use crate::words::record::{ErrorStatus, Outcome, Record};
use crate::words::tariff::{Bill, Charge};
use crate::words::tokens::Tokens;
use crate::words::verdict::{Failure, FailureKind, Verdict};
use crate::words::wire::{Exchange, Request, TransportError, TransportErrorKind};

/// What an answer that came meanwhile has to be read in.
const GRACE: Duration = Duration::from_secs(5);

/// A life that is over.
pub struct Life {
    /// What the listeners should hear before its end. The dispatcher tells them, since a life that
    /// waits for a slow listener may be dropped, and with it an answer.
    pub events: Vec<Event>,
    pub end: End,
}

impl Life {
    fn of(end: End) -> Self {
        let events = Vec::new();
        Life { events, end }
    }
}

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

/// Lives an item's life: asks, judges, waits, asks again, until there is an outcome or the run
/// stops.
pub async fn live<T: Transport>(shared: &Shared<T>, mut item: Item) -> Life {
    let mut history = History::default();
    loop {
        let admitted = match admit(shared, &mut item, &history).await {
            Ok(admitted) => admitted,
            Err(End::Unaffordable(failure)) => {
                return Life::of(End::Unasked(unaffordable(item, &history, failure)));
            }
            Err(end) => return Life::of(stopped(shared, end)),
        };
        let (attempt, verdict, slot) = ask(shared, admitted, &history).await;
        let (latency, bill) = (attempt.latency, attempt.bill);
        // Acts before it tells: a slow listener must not let others through in the meantime.
        let Judged { next, mut events } = judge(shared, &item, &mut history, attempt, verdict);
        let end = match next {
            Next::End(outcome) => {
                let record = record(item, history.attempts(), latency, bill, outcome);
                End::Settled(Box::new(record), slot)
            }
            Next::Halt(failure) => {
                if bill.charge != Charge::Nothing {
                    events.push(Event::Unanswered(bill));
                }
                stopped(shared, End::Halted(failure))
            }
            Next::Again(delay) => {
                shared.emit_all(events).await;
                drop(slot);
                if !sleep(shared, delay).await {
                    return Life::of(End::Pending);
                }
                continue;
            }
        };
        return Life { events, end };
    }
}

/// Sends a request and takes in what comes back.
async fn ask<T: Transport>(
    shared: &Shared<T>,
    mut admitted: Admitted<'_>,
    history: &History,
) -> (Attempt, Verdict, Slot) {
    let asked = &*admitted.funded.asked;
    let (sent, before) = (Instant::now(), shared.route().tally());
    let time = history.time_for_attempt(&shared.settings);
    let exchange = send(shared, shared.provider.request(asked), time).await;
    let latency = sent.elapsed();
    let verdict = shared.provider.verdict(&exchange);
    let bill = bill(&*shared.provider, asked, &verdict, &exchange);
    let verdict = demand_whole(&admitted, verdict);
    let verdict = demand_json(shared, asked, verdict, &exchange);
    let probe = admitted.permit.take_probe();
    let slot = settle(shared, admitted, &verdict, &exchange, &bill);
    let attempt = Attempt {
        sent,
        before,
        latency,
        exchange,
        bill,
        probe,
    };
    (attempt, verdict, slot)
}

fn unaffordable(item: Item, history: &History, failure: Failure) -> Box<Record> {
    let outcome = Outcome::Error {
        status: ErrorStatus::Failed,
        failure,
        kept: None,
    };
    let bill = Bill::default();
    Box::new(record(
        item,
        history.attempts(),
        Duration::ZERO,
        bill,
        outcome,
    ))
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
        let limiting = match history.was_cut() {
            true => Limiting::Forbidden,
            false => Limiting::Allowed,
        };
        let funded = fund(shared, item, history.is_unasked(), limiting).await?;
        let weight = weight(shared, &funded.asked);
        let permit = turn.acquire(&funded.asked.id, weight).await;
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
async fn send<T: Transport>(shared: &Shared<T>, request: Request, time: Duration) -> Exchange {
    let deadline = Instant::now() + time;
    let mut exchange = pin!(shared.transport.send(request));
    let in_time = tokio::time::timeout_at(deadline, &mut exchange).await;
    shared.route().rang(deadline);
    if let Ok(exchange) = in_time {
        return exchange;
    }
    // A process that was stopped, or a machine that slept, finds the answer in the socket.
    if overslept(deadline).is_some()
        && let Ok(exchange) = tokio::time::timeout(GRACE, exchange).await
    {
        return exchange;
    }
    Err(TransportError {
        kind: TransportErrorKind::Timeout,
        message: format!("no answer within {}", crate::words::human::seconds(time)),
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

/// Sleeps without a slot; false where the run stops first.
async fn sleep<T: Transport>(shared: &Shared<T>, delay: Duration) -> bool {
    let due = Instant::now() + delay;
    shared.gauges.backing_off.add(1);
    let slept = tokio::select! {
        biased;
        () = shared.stop.reached(Phase::Draining) => false,
        () = tokio::time::sleep_until(due) => true,
    };
    shared.route().rang(due);
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
