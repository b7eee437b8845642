//! Before a request goes out: which model it goes to, and what is set aside for it.

use std::borrow::Cow;
use std::sync::Arc;

use super::Shared;
use super::attempt::End;
use super::budget::{Budget, Exhausted, Fit, Reservation};
use crate::words::event::Event;
use crate::words::human::usd;
use crate::words::item::Item;
use crate::words::price::Charge;
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

/// Sets aside what the item can cost. Where its worst case has no room at the moment, its answer
/// is limited to a length that hardly any answer exceeds; where even that never will have room,
/// the run is at its end.
pub async fn fund<'i, T>(
    shared: &Shared<T>,
    item: &'i mut Item,
    unasked: bool,
) -> Result<Funded<'i>, End> {
    let Some(budget) = &shared.budget else {
        return Ok(Funded {
            asked: Cow::Borrowed(item),
            reservation: None,
            limited: None,
            downgraded: false,
        });
    };
    warn_of_budget(shared).await;
    let downgraded = unasked && downgrade(budget, item);
    let Some(worst) = item.worst_case() else {
        return Err(End::Halted(unbounded(item)));
    };
    let limit = learned_limit(shared, item);
    let tight = limit.and_then(|limit| item.most(of_all_choices(item, limit)));
    match budget.reserve(worst, tight, &shared.events).await {
        Ok((reservation, fit)) => {
            let limited = limit.filter(|_| fit == Fit::Tight);
            Ok(Funded {
                asked: limited.map_or(Cow::Borrowed(item), |limit| {
                    let field = shared.provider.output_limit_field(&item.model);
                    let mut limited = item.clone();
                    limited.cap_output(field, limit);
                    Cow::Owned(limited)
                }),
                reservation: Some(reservation),
                limited,
                downgraded,
            })
        }
        Err(exhausted) => Err(End::Halted(used_up(budget, exhausted))),
    }
}

/// Tells the listeners, once, that the budget runs low.
pub async fn warn_of_budget<T>(shared: &Shared<T>) {
    let Some(budget) = &shared.budget else {
        return;
    };
    if let Some(spent) = budget.take_warning() {
        let limits = budget.limits();
        let event = Event::BudgetLow {
            spent,
            limit: limits.limit,
            downgrade: limits.downgrade.as_ref().map(|other| other.model.clone()),
        };
        shared.emit(event).await;
    }
}

/// Gives an item that was never asked the cheaper model, if it is time.
fn downgrade(budget: &Arc<Budget>, item: &mut Item) -> bool {
    let other = budget.downgrade(&item.model);
    if let Some(other) = &other {
        item.switch_model(other);
    }
    other.is_some()
}

/// Returns a limit that real answers hardly reach, for requests that set none themselves. What
/// the user asked for is never cut shorter.
fn learned_limit<T>(shared: &Shared<T>, item: &Item) -> Option<Tokens> {
    let bound = item.output_bound()?;
    let limit = shared.outputs.high().filter(|_| item.max_output.is_none());
    limit.filter(|limit| of_all_choices(item, *limit) < bound)
}

fn of_all_choices(item: &Item, limit: Tokens) -> Tokens {
    Tokens(limit.0.saturating_mul(item.choices))
}

fn used_up(budget: &Budget, exhausted: Exhausted) -> Failure {
    failure(format!(
        "{} of {} is left, and the next request can cost {}",
        usd(exhausted.left),
        usd(budget.limits().limit),
        usd(exhausted.needed),
    ))
}

/// Where a whole file could be checked, this was refused before the first request.
fn unbounded(item: &Item) -> Failure {
    let what = match &item.tariff {
        None => "the price of model",
        Some(_) => "the longest answer of model",
    };
    failure(format!(
        "line {}: {what} {} is not known",
        item.line, item.model
    ))
}

fn failure(message: String) -> Failure {
    Failure {
        kind: FailureKind::Budget,
        message,
        http_status: None,
        code: None,
    }
}
