//! What an output has cost so far, over all of its runs, also where a run was killed.

use serde::{Deserialize, Serialize};

use super::checkpoint::State;
use crate::words::human::{count, usd};
use crate::words::money::Usd;
use crate::words::tariff::{Bill, Charge};
use crate::words::tokens::Tokens;

/// What was used so far, over all runs of this output. Amounts are decimal text in dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spent {
    pub requests: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub cached_tokens: u64,
    /// What answers are known to have cost.
    pub cost: Usd,
    /// The most that attempts without an answer may have cost.
    pub at_risk: Usd,
    /// Attempts that were, or may have been, charged at a price that nobody knows.
    pub unpriced: u64,
    /// With a budget: what the run may have spent by the time of the next snapshot, at most. In
    /// an orderly end nothing is left of it.
    pub ceiling: Option<Usd>,
}

impl Spent {
    /// Takes in what one attempt used and cost.
    pub fn add(&mut self, bill: &Bill) {
        if let Some(usage) = bill.usage {
            let add = |sum: &mut u64, tokens: Tokens| *sum = sum.saturating_add(tokens.0);
            add(&mut self.prompt_tokens, usage.prompt);
            add(&mut self.completion_tokens, usage.completion);
            add(&mut self.cached_tokens, usage.cached.unwrap_or_default());
        }
        match bill.charge {
            Charge::Nothing => {}
            Charge::Known(cost) => self.cost += cost,
            Charge::AtMost(cost) => self.at_risk += cost,
            Charge::Unpriced => self.unpriced += 1,
        }
    }
}

/// What rows cost that were read again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCosts {
    pub known: Usd,
    /// Rows of answers that do not say what they cost.
    pub unpriced: u64,
    /// Those of them whose form never does, so that even the price does not tell.
    pub silent: u64,
    /// Only rows behind the checkpoint were read; else all.
    pub behind_checkpoint: bool,
}

/// What earlier runs of an output spent, as its files tell.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Spending {
    pub spent: Spent,
    /// What the user should know of it.
    pub notes: Vec<String>,
}

impl Spending {
    /// Adds a checkpoint and the cost of the rows that were read up. Rows alone know nothing of
    /// attempts that failed.
    pub fn read(state: Option<&State>, rows: RowCosts) -> Self {
        let Some(state) = state else {
            return Self::by_rows(rows);
        };
        let before = state.spent;
        let spent = match rows.behind_checkpoint {
            true => Spent {
                cost: before.cost + rows.known,
                unpriced: before.unpriced + rows.unpriced,
                ..before
            },
            false => Spent {
                cost: before.cost.max(rows.known),
                unpriced: before.unpriced.max(rows.unpriced),
                ..before
            },
        };
        let mut spending = match state.clean {
            true => Spending {
                spent,
                notes: Vec::new(),
            },
            false => Self::after_a_kill(spent, state.in_flight),
        };
        spending.notes.extend(unknown_costs(rows));
        spending
    }

    fn by_rows(rows: RowCosts) -> Self {
        let note = format!(
            "by its rows {} was spent; attempts without a row are not in that",
            usd(rows.known)
        );
        Spending {
            spent: Spent {
                cost: rows.known,
                unpriced: rows.unpriced,
                ..Spent::default()
            },
            notes: (rows.known > Usd::ZERO)
                .then_some(note)
                .into_iter()
                .chain(unknown_costs(rows))
                .collect(),
        }
    }

    fn after_a_kill(before: Spent, in_flight: u64) -> Self {
        let Some(ceiling) = before.ceiling else {
            // Nobody reckoned with what was on its way.
            return Spending {
                spent: Spent {
                    unpriced: before.unpriced + in_flight,
                    ..before
                },
                notes: Vec::new(),
            };
        };
        // Whatever it was allowed to spend and does not account for may have been spent.
        let spent = Spent {
            at_risk: before.at_risk.max(ceiling.less(before.cost)),
            ceiling: None,
            ..before
        };
        let lost = spent.at_risk.less(before.at_risk);
        let note = format!(
            "up to {} of the budget is not accounted for, and counts as spent",
            usd(lost)
        );
        Spending {
            spent,
            notes: (lost > Usd::ZERO).then_some(note).into_iter().collect(),
        }
    }
}

/// Says that rows do not tell what they cost: it is not known, and not nothing.
fn unknown_costs(rows: RowCosts) -> Option<String> {
    (rows.silent > 0).then(|| {
        let rows = count(rows.silent, "row");
        format!("what {rows} of earlier runs cost is not known, and stands in no sum")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd_of(text: &str) -> Usd {
        Usd::parse(text).unwrap()
    }

    fn state(cost: &str, at_risk: &str, ceiling: Option<&str>, clean: bool) -> State {
        State {
            spent: Spent {
                cost: usd_of(cost),
                at_risk: usd_of(at_risk),
                ceiling: ceiling.map(usd_of),
                ..Spent::default()
            },
            clean,
            in_flight: 7,
            ..State::default()
        }
    }

    fn rows(cost: &str, behind_checkpoint: bool) -> RowCosts {
        RowCosts {
            known: usd_of(cost),
            unpriced: 0,
            silent: 0,
            behind_checkpoint,
        }
    }

    fn read(state: &State, of_rows: &str, behind: bool) -> (String, String, u64) {
        let spending = Spending::read(Some(state), rows(of_rows, behind));
        let Spent { cost, at_risk, .. } = spending.spent;
        assert_eq!(
            spending.spent.ceiling,
            state.spent.ceiling.filter(|_| state.clean)
        );
        (
            cost.to_string(),
            at_risk.to_string(),
            spending.spent.unpriced,
        )
    }

    #[test]
    fn an_orderly_end_is_taken_at_its_word() {
        let state = state("1", "0.2", None, true);
        assert_eq!(read(&state, "0", true), ("1".into(), "0.2".into(), 0));
    }

    #[test]
    fn what_a_killed_run_was_allowed_counts_as_spent() {
        let state = state("1", "0.2", Some("3"), false);
        assert_eq!(read(&state, "0.5", true), ("1.5".into(), "1.5".into(), 0));
        let notes = Spending::read(Some(&state), rows("0.5", true)).notes;
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("$1.3000"), "{notes:?}");
    }

    #[test]
    fn a_killed_run_without_a_budget_leaves_requests_unaccounted() {
        let state = state("1", "0", None, false);
        assert_eq!(read(&state, "0.5", true), ("1.5".into(), "0".into(), 7));
    }

    #[test]
    fn what_was_charged_at_an_unknown_price_stays_unaccounted() {
        let mut state = state("1", "0", None, true);
        state.spent.unpriced = 5;
        assert_eq!(read(&state, "0", true).2, 5);
        state.clean = false;
        assert_eq!(read(&state, "0", true).2, 12);
        let mut rows = rows("0", true);
        (rows.unpriced, rows.silent) = (2, 2);
        let spending = Spending::read(Some(&state), rows);
        assert_eq!(spending.spent.unpriced, 14);
        assert!(spending.notes[0].contains("what 2 rows of earlier runs cost is not known"));
    }

    #[test]
    fn rows_that_the_checkpoint_counts_already_are_not_counted_twice() {
        let state = state("1", "0", None, true);
        assert_eq!(read(&state, "0.9", false).0, "1");
        assert_eq!(read(&state, "1.1", false).0, "1.1");
    }

    #[test]
    fn without_a_checkpoint_the_rows_say_what_was_spent() {
        let spending = Spending::read(None, rows("0.9", false));
        assert_eq!(spending.spent.cost, usd_of("0.9"));
        assert!(
            spending.notes[0].contains("$0.9000"),
            "{:?}",
            spending.notes
        );
        assert_eq!(
            Spending::read(None, RowCosts::default()),
            Spending::default()
        );
    }
}
