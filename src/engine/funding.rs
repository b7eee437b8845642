//! Before a request goes out: which model it goes to, and what is set aside for it.

use std::borrow::Cow;
use std::sync::Arc;

use super::Shared;
use super::attempt::End;
use super::budget::{Budget, Exhausted, Fit, Reservation, Try};
use crate::words::event::Event;
use crate::words::human::usd;
use crate::words::item::Item;
use crate::words::tariff::{Boundless, Charge, Tariff};
use crate::words::tokens::Tokens;
use crate::words::verdict::{Failure, FailureKind};

/// An item whose money is there.
pub struct Funded<'i> {
    /// The item as it is to be asked.
    pub asked: Cow<'i, Item>,
    /// `None` where the run has no budget.
    pub reservation: Option<Reservation>,
    /// The limit on the answer's tokens that the budget itself sets.
    pub limited: Option<Tokens>,
    /// It goes to the cheaper model, for the first time.
    pub downgraded: bool,
}

impl Funded<'_> {
    /// Notes that the request goes out: from here on it may be charged.
    pub fn sent(mut self) -> Self {
        self.reservation = self.reservation.map(Reservation::sent);
        if let Some(reservation) = self.reservation.as_ref().filter(|_| self.downgraded) {
            reservation.count_downgrade();
        }
        self
    }

    /// Books what the request came to.
    pub fn settle(self, charge: Charge) {
        if let Some(reservation) = self.reservation {
            reservation.settle(charge);
        }
    }
}

/// Whether a request may go out with a limit on its answer that the budget sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limiting {
    Allowed,
    /// An answer was cut by such a limit already.
    Forbidden,
}

/// Sets aside what the item can cost. Where the worst cases of all slots have no room, its answer is
/// limited to a length that hardly any answer exceeds; where even that never will have room, the
/// run is at its end.
pub async fn fund<'i, T>(
    shared: &Shared<T>,
    item: &'i mut Item,
    unasked: bool,
    limiting: Limiting,
) -> Result<Funded<'i>, End> {
    let Some(budget) = &shared.budget else {
        return Ok(Funded {
            asked: Cow::Borrowed(item),
            reservation: None,
            limited: None,
            downgraded: false,
        });
    };
    let mut downgraded = false;
    let (reservation, limited) = loop {
        warn_of_budget(shared, false).await;
        if unasked && !downgraded {
            let other = budget.downgrade();
            downgraded = other.is_some_and(|other| switch_to(other, item));
        }
        let worst = match item.worst_case() {
            Ok(worst) => worst,
            Err(boundless) => return Err(End::Halted(unbounded(item, boundless))),
        };
        let limit = learned_limit(shared, item).filter(|_| limiting == Limiting::Allowed);
        let tight = limit.and_then(|limit| item.most(limit.times(item.bounds.choices)).ok());
        match budget.try_reserve(worst, tight) {
            Ok(Try::Taken(reservation, fit)) => {
                break (reservation, limit.filter(|_| fit == Fit::Tight));
            }
            Ok(Try::Above) => shared.emit(Event::CeilingWanted).await,
            Ok(Try::Busy) => {}
            Err(exhausted) => {
                let other = budget.limits().downgrade.as_ref();
                let switches = unasked && !downgraded;
                downgraded = switches && other.is_some_and(|other| switch_to(other, item));
                if downgraded {
                    warn_of_budget(shared, true).await;
                    continue;
                }
                return Err(refused(budget, exhausted));
            }
        }
        budget.changed().await;
    };
    let asked = limited.map_or(Cow::Borrowed(&*item), |limit| {
        let field = shared.provider.output_limit_field(&item.model);
        let mut limited = item.clone();
        limited.cap_output(field, limit);
        Cow::Owned(limited)
    });
    Ok(Funded {
        asked,
        reservation: Some(reservation),
        limited,
        downgraded,
    })
}

/// Tells the listeners, once, that the budget runs low.
async fn warn_of_budget<T>(shared: &Shared<T>, early: bool) {
    let Some(budget) = &shared.budget else {
        return;
    };
    if let Some(spent) = budget.take_warning(early) {
        let limits = budget.limits();
        let event = Event::BudgetLow {
            spent,
            limit: limits.limit,
            downgrade: limits.downgrade.as_ref().map(|other| other.model.clone()),
        };
        shared.emit(event).await;
    }
}

/// Gives an item that was never asked the other model, if that is cheaper for it.
fn switch_to(other: &Arc<Tariff>, item: &mut Item) -> bool {
    // Both at the same length: another limit of its answers says nothing of the price.
    let output = item.bounds.output.unwrap_or(Tokens(1000));
    let cheaper = match (other.most(&item.bounds, output), item.most(output)) {
        (Ok(there), Ok(here)) => there < here,
        _ => false,
    };
    let switches = cheaper && other.worst_case(&item.bounds).is_ok();
    if switches {
        item.switch_model(other);
    }
    switches
}

/// Returns a limit that real answers hardly reach, for requests that set none themselves. What
/// the user asked for is never cut shorter.
fn learned_limit<T>(shared: &Shared<T>, item: &Item) -> Option<Tokens> {
    let bound = item.tariff.as_ref()?.output_bound(&item.bounds)?;
    let limit = shared
        .outputs
        .high()
        .filter(|_| item.bounds.output.is_none());
    limit.filter(|limit| limit.times(item.bounds.choices) < bound)
}

/// Says how the life of an item ends that finds no room.
fn refused(budget: &Budget, exhausted: Exhausted) -> End {
    let limit = usd(budget.limits().limit);
    let needed = usd(exhausted.needed);
    if exhausted.never {
        let message = format!("it can cost {needed}, more than the whole budget of {limit}");
        return End::Unaffordable(failure(FailureKind::Budget, message));
    }
    let mut message = format!(
        "{} of {limit} is left, and the next request can cost {needed}",
        usd(exhausted.left)
    );
    if let Some(strain) = budget.strain() {
        message.push_str(&format!(
            " (answers of this server cost up to {}.{} times what their limits and prices allow)",
            strain / 1000,
            strain % 1000 / 100
        ));
    }
    End::Halted(failure(FailureKind::Budget, message))
}

/// Where a whole file could be checked, this was refused before the first request.
fn unbounded(item: &Item, boundless: Boundless) -> Failure {
    let model = &item.model;
    let what = match boundless {
        Boundless::Price => format!("the price of the model {model} is not known"),
        Boundless::Output => format!("nothing limits the answers of the model {model}"),
        Boundless::Extras => "it asks for sound or a search, whose price is not known".to_owned(),
    };
    failure(
        FailureKind::Boundless,
        format!("line {}: {what}", item.line),
    )
}

fn failure(kind: FailureKind, message: String) -> Failure {
    Failure {
        kind,
        message,
        http_status: None,
        code: None,
    }
}
