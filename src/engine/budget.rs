//! The budget: the worst case of every request is set aside before it goes out, so what is spent
//! never passes the limit, whatever the answers turn out to cost.
//!
//! Three kinds of money count against the limit: what answers are known to have cost, what
//! attempts without an answer may have cost, and what is set aside for requests on their way. And
//! no more of it is used than the ceiling that was granted: whoever keeps the checkpoint writes a
//! ceiling down before it grants it, so that a killed process cannot have spent more than the
//! file says. This file knows no files itself.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::words::money::Usd;
use crate::words::tariff::{Charge, Tariff};

/// A ceiling is raised by this part of the budget at a time: so much may seem spent after a kill.
const SLICES: u64 = 100;

/// What a run may spend.
#[derive(Debug, Clone)]
pub struct Limits {
    pub limit: Usd,
    /// From here on the user is warned, and items that have not started go to `downgrade`.
    pub warn_at: Usd,
    /// Requests that may be on their way at a time.
    pub slots: u64,
    pub downgrade: Option<Arc<Tariff>>,
}

/// The accounts of a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accounts {
    /// What answers cost, with those of earlier runs.
    pub spent: Usd,
    /// What may have been charged without an answer that says so, at most.
    pub at_risk: Usd,
    /// Set aside for requests on their way.
    pub reserved: Usd,
    /// Items that went to the cheaper model.
    pub downgraded: u64,
    /// What the request can cost that found no room.
    pub refused: Usd,
}

impl Accounts {
    /// Returns the most that has been spent if nothing more is asked.
    pub fn committed(&self) -> Usd {
        self.spent + self.at_risk + self.reserved
    }
}

/// Keeps the accounts of a run with a budget.
pub struct Budget {
    limits: Limits,
    books: Mutex<Books>,
    /// Wakes the first in the queue when money came back or a ceiling was raised.
    changed: Notify,
}

#[derive(Default)]
struct Books {
    accounts: Accounts,
    /// As far as the accounts may go by what is written down.
    ceiling: Usd,
    /// What the first in the queue needs the ceiling to be, once it has asked for it.
    needed: Option<Usd>,
    warned: bool,
    /// How many thousandths of its worst case the dearest answer cost; above 1,000 where a
    /// server takes no notice of limits.
    strain: u64,
}

/// Why nothing can be set aside for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// What the request can cost.
    pub needed: Usd,
    /// What is left of the budget.
    pub left: Usd,
    /// It is more than the whole budget.
    pub never: bool,
}

/// What a request was let through with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Its own worst case is set aside.
    Whole,
    /// Only so much that its answer must be limited.
    Tight,
}

/// What came of trying to set money aside.
pub enum Try {
    Taken(Reservation, Fit),
    /// The ceiling must be raised first, which nobody has asked for yet.
    Above,
    /// Requests on their way, or a ceiling that was asked for, must be waited for.
    Busy,
}

impl Budget {
    /// Opens the accounts with what earlier runs of the same output spent.
    pub fn open(limits: Limits, spent: Usd, at_risk: Usd) -> Arc<Self> {
        let accounts = Accounts {
            spent,
            at_risk,
            ..Accounts::default()
        };
        let books = Books {
            accounts,
            strain: 1000,
            ..Books::default()
        };
        Arc::new(Budget {
            limits,
            books: Mutex::new(books),
            changed: Notify::new(),
        })
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn accounts(&self) -> Accounts {
        self.books().accounts
    }

    /// Returns the ceiling that should be written down next, if the present one is nearly
    /// reached.
    pub fn wanted_ceiling(&self) -> Option<Usd> {
        let books = self.books();
        let slice = self.limits.limit.share(1, SLICES);
        let soon = books.accounts.committed() + slice.share(1, 2);
        let wanted = soon.max(books.needed.unwrap_or_default());
        let wanted = wanted.min(self.limits.limit);
        (wanted > books.ceiling).then(|| (wanted + slice).min(self.limits.limit))
    }

    /// Lets the accounts go up to a ceiling that is written down.
    pub fn grant(&self, ceiling: Usd) {
        let mut books = self.books();
        if ceiling > books.ceiling {
            books.ceiling = ceiling;
            books.needed = None;
            drop(books);
            self.changed.notify_one();
        }
    }

    /// Returns the model that items which have not started go to, if it is time.
    pub fn downgrade(&self) -> Option<&Arc<Tariff>> {
        let accounts = self.accounts();
        let low = accounts.spent + accounts.at_risk >= self.limits.warn_at;
        self.limits.downgrade.as_ref().filter(|_| low)
    }

    /// Returns how many thousandths of its worst case the dearest answer cost, where that is more
    /// than all of it.
    pub fn strain(&self) -> Option<u64> {
        Some(self.books().strain).filter(|strain| *strain > 1000)
    }

    /// Tells once that the budget runs low, and how much is spent: when the warning's level is
    /// reached, or when it must be said earlier.
    pub fn take_warning(&self, early: bool) -> Option<Usd> {
        let mut books = self.books();
        let spent = books.accounts.spent + books.accounts.at_risk;
        let now = !books.warned && (early || spent >= self.limits.warn_at);
        books.warned |= now;
        now.then_some(spent)
    }

    /// Tries to set a request's worst case aside, or, where the budget has no room for the worst
    /// cases of all slots, `tight`: the most that it can cost if its answer is limited.
    pub fn try_reserve(self: &Arc<Self>, worst: Usd, tight: Option<Usd>) -> Result<Try, Exhausted> {
        let mut books = self.books();
        let accounts = books.accounts;
        let committed = accounts.committed();
        let room = self.limits.limit.less(accounts.spent + accounts.at_risk);
        let is_scarce = worst.share(books.strain, 1000).times(self.limits.slots) > room;
        let (worst, fit) = match tight.filter(|_| is_scarce) {
            Some(tight) => (tight, Fit::Tight),
            None => (worst, Fit::Whole),
        };
        let amount = worst.share(books.strain, 1000);
        if committed + amount > self.limits.limit {
            if accounts.reserved > Usd::ZERO {
                return Ok(Try::Busy);
            }
            books.accounts.refused = amount;
            return Err(Exhausted {
                needed: amount,
                left: self.limits.limit.less(committed),
                never: amount > self.limits.limit,
            });
        }
        if committed + amount > books.ceiling {
            let first = books.needed.is_none();
            books.needed = Some(committed + amount);
            return Ok(if first { Try::Above } else { Try::Busy });
        }
        books.accounts.reserved += amount;
        let reservation = Reservation {
            budget: self.clone(),
            worst,
            amount,
            state: State::Unused,
        };
        Ok(Try::Taken(reservation, fit))
    }

    /// Waits until money came back or a ceiling was raised; what happened since the last wait
    /// counts. Only the first in the queue may wait here.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn settle(&self, worst: Usd, reserved: Usd, charge: Charge) {
        let mut books = self.books();
        let strain = books.strain;
        let accounts = &mut books.accounts;
        accounts.reserved = accounts.reserved.less(reserved);
        match charge {
            Charge::Nothing => {}
            Charge::Known(cost) => accounts.spent += cost,
            // Where worst cases have proved too low, so has this one.
            Charge::AtMost(cost) => accounts.at_risk += cost.share(strain, 1000),
            Charge::Unpriced => accounts.at_risk += reserved,
        }
        if let Charge::Known(cost) = charge
            && cost > worst
        {
            let times = cost.picodollars().saturating_mul(1000) / worst.picodollars().max(1);
            let times = u64::try_from(times.saturating_add(1)).unwrap_or(u64::MAX);
            books.strain = books.strain.max(times);
        }
        drop(books);
        self.changed.notify_one();
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

/// Money that is set aside for one request.
pub struct Reservation {
    budget: Arc<Budget>,
    /// What the request can cost by its own words.
    worst: Usd,
    /// What is set aside for it.
    amount: Usd,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unused,
    Sent,
    Settled,
}

impl Reservation {
    /// Notes that the request goes out: from here on it may be charged.
    pub fn sent(mut self) -> Self {
        self.state = State::Sent;
        self
    }

    /// Notes that the item went to the cheaper model.
    pub fn count_downgrade(&self) {
        self.budget.books().accounts.downgraded += 1;
    }

    /// Books what the request came to and gives the rest back.
    pub fn settle(mut self, charge: Charge) {
        self.state = State::Settled;
        self.budget.settle(self.worst, self.amount, charge);
    }
}

/// A request that is dropped on its way may have been charged in full.
impl Drop for Reservation {
    fn drop(&mut self) {
        match self.state {
            State::Unused => self.budget.settle(self.worst, self.amount, Charge::Nothing),
            State::Sent => self
                .budget
                .settle(self.worst, self.amount, Charge::Unpriced),
            State::Settled => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(text: &str) -> Usd {
        Usd::parse(text).unwrap()
    }

    fn limits(limit: &str) -> Limits {
        Limits {
            limit: usd(limit),
            warn_at: usd(limit).share(80, 100),
            slots: 2,
            downgrade: None,
        }
    }

    fn budget(limit: &str) -> Arc<Budget> {
        let budget = Budget::open(limits(limit), Usd::ZERO, Usd::ZERO);
        budget.grant(usd(limit));
        budget
    }

    fn take(budget: &Arc<Budget>, amount: &str) -> Option<Reservation> {
        match budget.try_reserve(usd(amount), None) {
            Ok(Try::Taken(reservation, _)) => Some(reservation.sent()),
            _ => None,
        }
    }

    #[test]
    fn what_is_set_aside_never_passes_the_limit() {
        let budget = budget("1");
        let first = take(&budget, "0.6").unwrap();
        assert!(take(&budget, "0.6").is_none());
        first.settle(Charge::Known(usd("0.1")));
        let second = take(&budget, "0.6").unwrap();
        assert_eq!(budget.accounts().committed(), usd("0.7"));
        second.settle(Charge::Nothing);
        assert_eq!(budget.accounts().committed(), usd("0.1"));
    }

    #[test]
    fn an_attempt_that_may_have_been_charged_stays_on_the_books() {
        let budget = budget("1");
        drop(take(&budget, "0.3").unwrap());
        take(&budget, "0.3")
            .unwrap()
            .settle(Charge::AtMost(usd("0.2")));
        assert_eq!(budget.accounts().at_risk, usd("0.5"));
        assert!(take(&budget, "0.6").is_none());
    }

    #[test]
    fn a_request_that_never_went_out_costs_nothing() {
        let budget = budget("1");
        let mut unused = take(&budget, "0.3").unwrap();
        unused.state = State::Unused;
        drop(unused);
        assert_eq!(budget.accounts(), Accounts::default());
    }

    #[test]
    fn with_nothing_on_its_way_and_no_room_the_budget_is_exhausted() {
        let budget = budget("1");
        take(&budget, "0.9")
            .unwrap()
            .settle(Charge::Known(usd("0.9")));
        let exhausted = budget.try_reserve(usd("0.5"), Some(usd("0.2")));
        assert_eq!(
            exhausted.err(),
            Some(Exhausted {
                needed: usd("0.2"),
                left: usd("0.1"),
                never: false,
            })
        );
    }

    #[test]
    fn answers_are_limited_only_where_not_all_slots_have_room() {
        let fit = |limit: &str| {
            let tried = budget(limit).try_reserve(usd("0.5"), Some(usd("0.1")));
            match tried.unwrap() {
                Try::Taken(reservation, fit) => (fit, reservation.amount),
                _ => panic!("it has room"),
            }
        };
        assert_eq!(fit("1"), (Fit::Whole, usd("0.5")));
        assert_eq!(fit("0.99"), (Fit::Tight, usd("0.1")));
    }

    #[test]
    fn nothing_is_used_above_the_ceiling_that_is_written_down() {
        let budget = Budget::open(limits("10"), Usd::ZERO, Usd::ZERO);
        assert!(take(&budget, "0.01").is_none());
        let ceiling = budget.wanted_ceiling().unwrap();
        assert_eq!(ceiling, usd("0.15"));
        budget.grant(ceiling);
        assert_eq!(budget.wanted_ceiling(), None);
        take(&budget, "0.01")
            .unwrap()
            .settle(Charge::Known(usd("0.01")));
        assert!(take(&budget, "5").is_none());
        assert_eq!(budget.wanted_ceiling(), Some(usd("5.11")));
        budget.grant(usd("5.11"));
        assert!(take(&budget, "5").is_some());
    }

    #[test]
    fn a_server_that_ignores_limits_is_reckoned_with() {
        let budget = budget("10");
        take(&budget, "1").unwrap().settle(Charge::Known(usd("3")));
        let next = take(&budget, "1").unwrap();
        assert!(next.amount >= usd("3"), "{:?}", next.amount);
    }

    #[test]
    fn the_strain_is_the_largest_seen_and_does_not_multiply() {
        let budget = budget("100");
        let held: Vec<_> = (0..8).map(|_| take(&budget, "1").unwrap()).collect();
        for reservation in held {
            reservation.settle(Charge::Known(usd("2")));
        }
        let next = take(&budget, "1").unwrap();
        assert!(next.amount < usd("2.1"), "{:?}", next.amount);
    }

    #[test]
    fn what_may_have_been_charged_is_strained_like_what_was() {
        let budget = budget("20");
        take(&budget, "1").unwrap().settle(Charge::Known(usd("3")));
        let lost = take(&budget, "1").unwrap();
        lost.settle(Charge::AtMost(usd("1")));
        assert!(
            budget.accounts().at_risk >= usd("3"),
            "{:?}",
            budget.accounts()
        );
    }

    #[test]
    fn what_is_above_the_whole_budget_never_fits() {
        let budget = budget("1");
        let exhausted = budget.try_reserve(usd("2"), None).err().unwrap();
        assert!(exhausted.never);
    }

    #[test]
    fn the_warning_comes_once() {
        let budget = budget("1");
        assert_eq!(budget.take_warning(false), None);
        take(&budget, "0.8")
            .unwrap()
            .settle(Charge::Known(usd("0.8")));
        assert_eq!(budget.take_warning(false), Some(usd("0.8")));
        assert_eq!(budget.take_warning(false), None);
    }
}
