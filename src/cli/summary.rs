//! The closing summary: a fold over events, then text or JSON with the same facts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Exit;
use crate::engine::budget::Accounts;
use crate::output::Paths;
use crate::output::Spent;
use crate::words::event::Event;
use crate::words::human::{count, duration, thousands, usd};
use crate::words::money::Usd;
use crate::words::record::{ErrorStatus, Outcome, Record};
use crate::words::tariff::{Bill, Charge};
use crate::words::verdict::{Failure, FailureKind};

/// What a run has done so far.
#[derive(Debug, Default)]
pub struct Tally {
    pub ok: u64,
    pub errors: BTreeMap<ErrorStatus, u64>,
    pub kinds: BTreeMap<FailureKind, u64>,
    pub retries: u64,
    pub push_backs: u64,
    /// Attempts that failed in an outage.
    pub spared: u64,
    /// Requests that may have been charged although no usable answer came of them.
    pub uncertain: u64,
    /// Requests that were dropped while their answer was on its way.
    pub dropped: u64,
    /// Answers that ended at the token limit.
    pub cut_by_length: u64,
    /// Tokens and money of all attempts.
    pub spent: Spent,
    /// The part of the cost that went into attempts without a result.
    pub lost: Usd,
    /// Answers that did not say what they used, and the most that they can have cost.
    pub without_usage: u64,
    pub untold: Usd,
}

impl Tally {
    /// Takes an event in.
    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::Settled(record, _) => self.settle(record),
            Event::Retried { bill, .. } => {
                self.retries += 1;
                self.lose(bill);
            }
            Event::Throttled { bill, .. } => {
                self.push_backs += 1;
                self.lose(bill);
            }
            Event::Spared { bill, .. } => {
                self.spared += 1;
                self.lose(bill);
            }
            Event::Unanswered(bill) => self.lose(bill),
            Event::Dropped(requests) => self.dropped += requests,
            Event::Paused { .. }
            | Event::OutageBegan(_)
            | Event::OutageEnded { .. }
            | Event::BudgetLow { .. }
            | Event::CeilingWanted
            | Event::Halted(_) => {}
        }
    }

    fn settle(&mut self, record: &Record) {
        match &record.outcome {
            Outcome::Ok { answer, .. } => {
                self.ok += 1;
                self.cut_by_length += u64::from(answer.was_cut);
                self.without_usage += u64::from(answer.usage.is_none());
                self.spent.add(&record.bill);
                if let Charge::AtMost(most) = record.bill.charge {
                    self.untold += most;
                }
            }
            Outcome::Error {
                status, failure, ..
            } => {
                *self.errors.entry(*status).or_default() += 1;
                *self.kinds.entry(failure.kind).or_default() += 1;
                self.lose(&record.bill);
            }
        }
    }

    /// Takes in an attempt that brought no result.
    fn lose(&mut self, bill: &Bill) {
        self.spent.add(bill);
        self.uncertain += u64::from(bill.charge.is_uncertain());
        self.lost += bill.charge.known().unwrap_or_default();
    }

    /// Returns what an item costs on average, as far as it is known.
    pub fn cost_per_item(&self) -> Option<Usd> {
        (self.settled() > 0 && self.spent.cost > Usd::ZERO)
            .then(|| self.spent.cost.share(1, self.settled()))
    }

    /// Items with a row from this run.
    pub fn settled(&self) -> u64 {
        self.ok + self.failed()
    }

    /// Items with a row in the errors file from this run.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// Where a budget stands in the end.
#[derive(Debug, Clone, Copy)]
pub struct BudgetReport<'a> {
    pub limit: Usd,
    /// Over all runs of the output.
    pub accounts: Accounts,
    /// The model that items went to once the budget ran low.
    pub downgrade: Option<&'a str>,
}

/// Everything that the closing lines speak of.
pub struct Summary<'a> {
    pub tally: &'a Tally,
    pub exit: Exit,
    pub halted: Option<&'a Failure>,
    /// Items that this run was about, as far as they were read.
    pub items: u64,
    /// Items that had a result, or an error row that stays, before this run.
    pub results_before: u64,
    pub errors_before: u64,
    pub requests: u64,
    pub spent_before: Spent,
    pub budget: Option<BudgetReport<'a>>,
    pub wall: Duration,
    pub paths: &'a Paths,
    /// The command that goes on where this run ended.
    pub resume: Option<String>,
}

impl Summary<'_> {
    fn possibly_charged(&self) -> u64 {
        self.tally.uncertain + self.tally.dropped
    }

    fn pending(&self) -> u64 {
        let done = self.tally.settled() + self.results_before + self.errors_before;
        self.items.saturating_sub(done)
    }

    fn results_name(&self) -> String {
        match &self.paths.results {
            Some(path) => path.display().to_string(),
            None => "-".to_owned(),
        }
    }

    /// Writes the summary for people.
    pub fn text(&self) -> String {
        let mut lines = vec![self.headline(), self.token_line(), self.cost_line()];
        lines.extend(self.budget_line());
        lines.push(self.speed_line());
        lines.push(format!(
            "  results  {}{}",
            self.results_name(),
            match self.tally.failed() + self.errors_before {
                0 => String::new(),
                _ => format!("    errors  {}", self.paths.errors.display()),
            }
        ));
        lines.extend(self.remarks());
        lines.join("\n")
    }

    fn headline(&self) -> String {
        let took = duration(self.wall);
        let code = self.exit.code();
        let pending = self.pending();
        let mut parts = vec![
            count(self.items, "item"),
            format!("{} ok", thousands(self.tally.ok)),
        ];
        if self.results_before > 0 {
            parts.push(format!("{} ok before", thousands(self.results_before)));
        }
        for status in ErrorStatus::ALL {
            if let Some(number) = self.tally.errors.get(&status) {
                parts.push(format!("{} {}", thousands(*number), status.word()));
            }
        }
        if self.errors_before > 0 {
            parts.push(format!("{} kept as errors", thousands(self.errors_before)));
        }
        if pending > 0 {
            parts.push(format!("{} not done", thousands(pending)));
        }
        let how = match self.exit {
            Exit::Done | Exit::SomeErrors => "done in",
            _ => "stopped after",
        };
        format!("{how} {took}: {}        exit code {code}", parts.join(", "))
    }

    fn token_line(&self) -> String {
        let tally = self.tally;
        let cached = match tally.spent.cached_tokens {
            0 => String::new(),
            cached => format!(" ({} cached)", thousands(cached)),
        };
        let unknown = match tally.without_usage {
            0 => String::new(),
            answers => format!("   {} did not say", count(answers, "answer")),
        };
        format!(
            "  tokens   {} in{cached}   {} out{unknown}",
            thousands(tally.spent.prompt_tokens),
            thousands(tally.spent.completion_tokens)
        )
    }

    /// Returns this run's cost, if anything of it is known.
    fn cost(&self) -> Option<Usd> {
        let spent = &self.tally.spent;
        let nothing_else = spent.unpriced == 0 && spent.at_risk == Usd::ZERO;
        (nothing_else || spent.cost > Usd::ZERO).then_some(spent.cost)
    }

    fn cost_line(&self) -> String {
        let tally = self.tally;
        let mut line = match self.cost() {
            Some(cost) => format!("  cost     {}", usd(cost)),
            None if tally.spent.unpriced == 0 => "  cost     not known".to_owned(),
            None => {
                "  cost     not known: the model has no price (--price-in and --price-out give one)"
                    .to_owned()
            }
        };
        if let Some(each) = self.tally.cost_per_item() {
            line.push_str(&format!(" ({} per 1,000 items)", usd(each.times(1000))));
        }
        if self.tally.lost > Usd::ZERO {
            let lost = usd(self.tally.lost);
            line.push_str(&format!("   {lost} of it for attempts without a result"));
        }
        if self.tally.spent.unpriced > 0 && self.cost().is_some() {
            let answers = count(self.tally.spent.unpriced, "answer");
            line.push_str(&format!("   and {answers} of unknown price"));
        }
        if tally.untold > Usd::ZERO {
            let answers = count(tally.without_usage, "answer");
            let most = usd(tally.untold);
            line.push_str(&format!("   up to {most} for {answers} without usage"));
        }
        if self.spent_before.cost > Usd::ZERO {
            let all = usd(self.spent_before.cost + tally.spent.cost);
            line.push_str(&format!("   with earlier runs {all}"));
        }
        line
    }

    /// Returns what the items that are left will cost, if answers so far tell.
    fn rest(&self) -> Option<Usd> {
        let each = self.tally.cost_per_item()?;
        (self.pending() > 0).then(|| each.times(self.pending()))
    }

    fn budget_line(&self) -> Option<String> {
        let BudgetReport {
            limit, accounts, ..
        } = self.budget?;
        let mut line = format!("  budget   {} of {} spent", usd(accounts.spent), usd(limit));
        if accounts.at_risk > Usd::ZERO {
            let at_risk = usd(accounts.at_risk);
            line.push_str(&format!(", {at_risk} more may have been charged"));
        }
        Some(line)
    }

    fn money_remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(budget) = self.budget.filter(|budget| budget.accounts.downgraded > 0) {
            let items = count(budget.accounts.downgraded, "item");
            let model = budget.downgrade.unwrap_or_default();
            remarks.push(format!("  {items} went to {model}, as the budget ran low"));
        }
        if let Some(rest) = self.rest() {
            let items = count(self.pending(), "item");
            remarks.push(format!("  the other {items} may cost about {}", usd(rest)));
        }
        remarks
    }

    fn rate(&self) -> f64 {
        match self.wall.as_secs_f64() {
            0.0 => 0.0,
            seconds => self.tally.settled() as f64 / seconds,
        }
    }

    fn speed_line(&self) -> String {
        let mut line = format!(
            "  speed    {:.1} items/s   requests {}   retries {}   push-backs {}",
            self.rate(),
            thousands(self.requests),
            thousands(self.tally.retries),
            thousands(self.tally.push_backs),
        );
        if self.tally.spared > 0 {
            line.push_str(&format!("   in outages {}", thousands(self.tally.spared)));
        }
        line
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = self.money_remarks();
        if self.possibly_charged() > 0 {
            let most = match self.tally.spent.at_risk.less(self.tally.untold) {
                Usd::ZERO => String::new(),
                most => format!(" (up to {})", usd(most)),
            };
            remarks.push(format!(
                "  at most {}{most} may have been charged without a usable answer",
                count(self.possibly_charged(), "request")
            ));
        }
        if self.tally.cut_by_length > 0 {
            remarks.push(format!(
                "  {} cut by the token limit (finish_reason length)",
                count(self.tally.cut_by_length, "answer")
            ));
        }
        if !self.tally.kinds.is_empty() {
            let mut kinds: Vec<_> = self.tally.kinds.iter().collect();
            kinds.sort_by_key(|(_, number)| std::cmp::Reverse(**number));
            let kinds: Vec<_> = kinds
                .iter()
                .map(|(kind, number)| format!("{} {}", thousands(**number), kind.words()))
                .collect();
            remarks.push(format!("  errors: {}", kinds.join(", ")));
        }
        if let Some(command) = &self.resume {
            let word = match self.exit {
                Exit::SomeErrors => "Try the failed ones again",
                Exit::Failed => "Continue",
                _ => "Nothing done is lost. Continue",
            };
            remarks.push(format!("  {word}:  {command}"));
        }
        remarks
    }

    /// Writes the same facts under stable names.
    pub fn json(&self) -> Value {
        let tally = self.tally;
        let status = |status: ErrorStatus| tally.errors.get(&status).copied().unwrap_or(0);
        let kinds: serde_json::Map<String, Value> = tally
            .kinds
            .iter()
            .filter_map(|(kind, number)| {
                Some((
                    serde_json::to_value(kind).ok()?.as_str()?.to_owned(),
                    json!(number),
                ))
            })
            .collect();
        json!({
            "exit_code": self.exit.code(),
            "items": self.items,
            "ok": tally.ok,
            "ok_before": self.results_before,
            "filtered": status(ErrorStatus::Filtered),
            "rejected": status(ErrorStatus::Rejected),
            "failed": status(ErrorStatus::Failed),
            "invalid": status(ErrorStatus::Invalid),
            "invalid_input": status(ErrorStatus::InvalidInput),
            "errors_before": self.errors_before,
            "pending": self.pending(),
            "error_kinds": kinds,
            "requests": self.requests,
            "retries": tally.retries,
            "push_backs": tally.push_backs,
            "failed_in_outages": tally.spared,
            "possibly_charged": self.possibly_charged(),
            "cut_by_length": tally.cut_by_length,
            "tokens": {
                "prompt": tally.spent.prompt_tokens,
                "cached": tally.spent.cached_tokens,
                "completion": tally.spent.completion_tokens,
                "answers_without_usage": tally.without_usage,
            },
            "cost_usd": self.cost().map(Usd::as_f64),
            "cost_per_item_usd": tally.cost_per_item().map(Usd::as_f64),
            "cost_without_result_usd": tally.lost.as_f64(),
            "possibly_charged_usd": tally.spent.at_risk.as_f64(),
            "answers_of_unknown_price": tally.spent.unpriced,
            "cost_of_all_runs_usd": self.cost().map(|cost| (self.spent_before.cost + cost).as_f64()),
            "cost_of_the_rest_usd": self.rest().map(Usd::as_f64),
            "budget": self.budget.map(|budget| json!({
                "limit_usd": budget.limit.as_f64(),
                "spent_usd": budget.accounts.spent.as_f64(),
                "possibly_charged_usd": budget.accounts.at_risk.as_f64(),
                "downgraded_items": budget.accounts.downgraded,
                "downgrade": budget.downgrade,
            })),
            "seconds": self.wall.as_secs_f64(),
            "items_per_second": self.rate(),
            "results": self.results_name(),
            "errors": self.paths.errors.display().to_string(),
            "checkpoint": self.paths.results.is_some().then(|| self.paths.checkpoint.display().to_string()),
            "halted": self.halted.map(|failure| json!({
                "kind": failure.kind,
                "message": failure.message,
                "http_status": failure.http_status,
                "code": failure.code,
            })),
            "resume": self.resume,
        })
    }
}
