//! Watches how items end, and tells when the rest is not worth asking.
//!
//! Pure: it hears of each item that was asked and has ended, and knows no requests.

use std::collections::VecDeque;

use crate::words::human::{count, one_line};
use crate::words::item::ItemId;
use crate::words::record::{ErrorStatus, Outcome, Record};
use crate::words::verdict::{Failure, FailureKind};

/// Items that the error rate is taken over.
const WINDOW: usize = 100;
/// So many must have ended before it says anything.
const ENOUGH: usize = 50;
/// So many first items that are rejected in the same way speak for all others.
const SAME_REJECTIONS: usize = 20;
/// What an error text shows at most: kinds of error, and ids of each.
const SHOWN_KINDS: usize = 5;
const SHOWN_IDS: usize = 3;
const SHOWN_ID_LENGTH: usize = 60;

/// Watches a run.
pub struct Guard {
    /// The part of items that may end without a result, from 0 to 1.
    max_error_rate: Option<f64>,
    /// How the last items ended, the newest last.
    window: VecDeque<Option<Ended>>,
    /// The first items, for as long as all of them are rejected in the same way.
    alike: Option<Vec<Ended>>,
}

/// An item that ended without a result.
#[derive(Clone)]
struct Ended {
    id: ItemId,
    status: ErrorStatus,
    failure: Failure,
}

impl Ended {
    fn of(record: &Record) -> Option<Self> {
        match &record.outcome {
            Outcome::Ok { .. } => None,
            Outcome::Error {
                status, failure, ..
            } => Some(Ended {
                id: record.id.clone(),
                status: *status,
                failure: failure.clone(),
            }),
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        let key = |ended: &Self| (ended.status, ended.failure.kind, ended.failure.http_status);
        key(self) == key(other) && self.failure.code == other.failure.code
    }

    /// Writes what happened to the item: `rejected, bad request (400 invalid_value)`.
    fn words(&self) -> String {
        let Failure {
            kind,
            http_status,
            code,
            ..
        } = &self.failure;
        let detail: Vec<String> = http_status
            .map(|status| status.to_string())
            .into_iter()
            .chain(code.clone())
            .collect();
        let detail = match detail.is_empty() {
            true => String::new(),
            false => format!(" ({})", detail.join(" ")),
        };
        format!("{}, {}{detail}", self.status.word(), kind.words())
    }
}

impl Guard {
    pub fn new(max_error_rate: Option<f64>) -> Self {
        Guard {
            max_error_rate,
            window: VecDeque::new(),
            alike: Some(Vec::new()),
        }
    }

    /// Takes in how an item ended, and returns why the run should stop, if it should.
    pub fn settled(&mut self, record: &Record) -> Option<Failure> {
        let ended = Ended::of(record);
        self.all_rejected(ended.as_ref())
            .or_else(|| self.too_many(ended))
    }

    fn all_rejected(&mut self, ended: Option<&Ended>) -> Option<Failure> {
        let alike = self.alike.as_mut()?;
        let first = alike.first().or(ended);
        let goes_on = ended.filter(|ended| {
            ended.status == ErrorStatus::Rejected && first.is_some_and(|first| ended.is_like(first))
        });
        let Some(ended) = goes_on else {
            self.alike = None;
            return None;
        };
        alike.push(ended.clone());
        if alike.len() < SAME_REJECTIONS {
            return None;
        }
        let alike = self.alike.take()?;
        Some(Failure {
            kind: FailureKind::SameRejection,
            message: describe(alike.iter()),
            http_status: alike[0].failure.http_status,
            code: alike[0].failure.code.clone(),
        })
    }

    fn too_many(&mut self, ended: Option<Ended>) -> Option<Failure> {
        let most = self.max_error_rate?;
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back(ended);
        let errors = self.window.iter().flatten().count();
        let items = self.window.len();
        if items < ENOUGH || errors as f64 / items as f64 <= most {
            return None;
        }
        Some(Failure {
            kind: FailureKind::ErrorRate,
            message: format!(
                "{errors} of the last {items} items have no result{}",
                describe(self.window.iter().flatten())
            ),
            http_status: None,
            code: None,
        })
    }
}

/// Lists the most frequent errors, a line for each, with some of the items.
fn describe<'a>(all: impl Iterator<Item = &'a Ended>) -> String {
    let mut kinds: Vec<Vec<&Ended>> = Vec::new();
    for ended in all {
        match kinds.iter_mut().find(|kind| kind[0].is_like(ended)) {
            Some(kind) => kind.push(ended),
            None => kinds.push(vec![ended]),
        }
    }
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.len()));
    let line = |kind: &Vec<&Ended>| {
        let ids: Vec<String> = kind
            .iter()
            .take(SHOWN_IDS)
            .map(|it| shown(&it.id))
            .collect();
        format!(
            "\n  {}  {}, e.g. {}: {}",
            kind.len(),
            kind[0].words(),
            ids.join(", "),
            one_line(&kind[0].failure.message)
        )
    };
    let mut lines: String = kinds.iter().take(SHOWN_KINDS).map(line).collect();
    if kinds.len() > SHOWN_KINDS {
        let others = count((kinds.len() - SHOWN_KINDS) as u64, "other kind");
        lines.push_str(&format!("\n  and {others} of error"));
    }
    lines
}

fn shown(id: &ItemId) -> String {
    one_line(id.as_str())
        .chars()
        .take(SHOWN_ID_LENGTH)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::words::tariff::Bill;

    fn record(id: &str, outcome: Outcome) -> Record {
        Record {
            id: id.into(),
            index: 0,
            metadata: None,
            attempts: 1,
            latency: Duration::ZERO,
            model: "m".into(),
            bill: Bill::default(),
            outcome,
        }
    }

    fn ok() -> Record {
        let outcome = Outcome::Ok {
            answer: Box::default(),
            http_status: 200,
            body: Default::default(),
        };
        record("ok", outcome)
    }

    fn error(id: &str, status: ErrorStatus, http_status: u16) -> Record {
        let outcome = Outcome::Error {
            status,
            failure: Failure {
                kind: FailureKind::BadRequest,
                message: "no\nsuch thing".into(),
                http_status: Some(http_status),
                code: Some("bad".into()),
            },
            kept: None,
        };
        record(id, outcome)
    }

    fn failed(id: usize) -> Record {
        error(&id.to_string(), ErrorStatus::Failed, 500)
    }

    fn rejected(id: usize) -> Record {
        error(&id.to_string(), ErrorStatus::Rejected, 400)
    }

    /// Returns after how many items the guard stopped the run.
    fn stopped(guard: &mut Guard, records: impl Iterator<Item = Record>) -> Option<usize> {
        records
            .enumerate()
            .find_map(|(at, record)| guard.settled(&record).map(|_| at + 1))
    }

    /// Negative control: without `ENOUGH`, the first failure stops the run.
    #[test]
    fn a_rate_is_judged_once_fifty_items_have_ended() {
        let mut guard = Guard::new(Some(0.05));
        assert_eq!(stopped(&mut guard, (0..200).map(failed)), Some(50));
    }

    #[test]
    fn the_rate_itself_is_allowed_and_more_is_not() {
        let of_twenty = |at: usize| {
            if at.is_multiple_of(20) {
                failed(at)
            } else {
                ok()
            }
        };
        let mut guard = Guard::new(Some(0.05));
        assert_eq!(stopped(&mut guard, (1..10_000).map(of_twenty)), None);
        // The first of these takes the place of one of the last hundred's five.
        assert_eq!(stopped(&mut guard, (0..2).map(failed)), Some(2));
    }

    /// Negative control: with `errors <= most * items`, 29 of 100 are more than 29 %.
    #[test]
    fn exactly_the_rate_is_allowed_at_every_whole_percent() {
        for percent in 1..100 {
            let mut guard = Guard::new(Some(f64::from(percent) / 100.0));
            let oks = (percent..100).map(|_| ok());
            let failures = (0..percent).map(|id| failed(id as usize));
            assert_eq!(
                stopped(&mut guard, oks.chain(failures)),
                None,
                "{percent} %"
            );
            let mut next = (0..2).map(failed);
            assert_eq!(stopped(&mut guard, &mut next), Some(1), "{percent} %");
        }
    }

    #[test]
    fn errors_of_long_ago_are_forgotten() {
        let mut guard = Guard::new(Some(0.3));
        let oks = || (0..100).map(|_| ok());
        let records = oks().chain((0..30).map(failed)).chain(oks());
        assert_eq!(stopped(&mut guard, records), None);
        assert_eq!(stopped(&mut guard, (0..100).map(failed)), Some(31));
    }

    #[test]
    fn without_a_rate_no_failures_stop_a_run() {
        let mut guard = Guard::new(None);
        assert_eq!(stopped(&mut guard, (0..1000).map(failed)), None);
    }

    #[test]
    fn twenty_first_items_rejected_alike_stop_a_run() {
        let mut guard = Guard::new(None);
        assert_eq!(stopped(&mut guard, (0..100).map(rejected)), Some(20));
    }

    /// Negative control: with `is_like` always true, the second and the last one stop.
    #[test]
    fn one_that_ends_otherwise_speaks_for_the_rest() {
        for other in [ok(), error("x", ErrorStatus::Rejected, 413), failed(1)] {
            let mut guard = Guard::new(None);
            let records = (0..19).map(rejected).chain([other]);
            assert_eq!(
                stopped(&mut guard, records.chain((0..100).map(rejected))),
                None
            );
        }
    }

    #[test]
    fn the_most_frequent_errors_are_named_with_some_of_their_items() {
        let mut guard = Guard::new(Some(0.1));
        let records = (0..49).map(|at| match at % 3 {
            0 => rejected(at),
            _ => failed(at),
        });
        assert_eq!(stopped(&mut guard, records), None);
        let failure = guard
            .settled(&error("a\nb", ErrorStatus::Invalid, 200))
            .unwrap();
        assert_eq!(
            failure.message,
            "50 of the last 50 items have no result\n  \
             32  failed, bad request (500 bad), e.g. 1, 2, 4: no such thing\n  \
             17  rejected, bad request (400 bad), e.g. 0, 3, 6: no such thing\n  \
             1  invalid, bad request (200 bad), e.g. a b: no such thing"
        );
    }
}
