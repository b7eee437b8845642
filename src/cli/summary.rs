//! The closing summary: a fold over events, then text or JSON with the same facts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Exit;
use crate::output::Paths;
use crate::words::event::Event;
use crate::words::human::{count, duration, thousands};
use crate::words::record::{ErrorStatus, Outcome};
use crate::words::verdict::{Failure, FailureKind};

/// What a run has done so far.
#[derive(Debug, Default)]
pub struct Tally {
    pub ok: u64,
    pub errors: BTreeMap<ErrorStatus, u64>,
    pub kinds: BTreeMap<FailureKind, u64>,
    pub retries: u64,
    pub push_backs: u64,
    /// Requests that may have been charged although no usable answer came of them.
    pub uncertain: u64,
    /// Answers that ended at the token limit.
    pub cut_by_length: u64,
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    pub completion_tokens: u64,
    /// Answers that did not say what they used.
    pub without_usage: u64,
}

impl Tally {
    /// Takes an event in.
    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::Settled(record, _) => self.settle(&record.outcome),
            Event::Retried { may_be_charged, .. } => {
                self.retries += 1;
                self.uncertain += u64::from(*may_be_charged);
            }
            Event::Throttled { .. } => self.push_backs += 1,
            Event::Paused { .. } | Event::Halted(_) => {}
        }
    }

    fn settle(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Ok { answer, .. } => {
                self.ok += 1;
                self.cut_by_length += u64::from(answer.finish_reason.as_deref() == Some("length"));
                let Some(usage) = answer.usage else {
                    self.without_usage += 1;
                    return;
                };
                self.prompt_tokens = self.prompt_tokens.saturating_add(usage.prompt.0);
                self.completion_tokens = self.completion_tokens.saturating_add(usage.completion.0);
                self.cached_tokens = self
                    .cached_tokens
                    .saturating_add(usage.cached.map_or(0, |cached| cached.0));
            }
            Outcome::Error {
                status,
                failure,
                kept,
            } => {
                *self.errors.entry(*status).or_default() += 1;
                *self.kinds.entry(failure.kind).or_default() += 1;
                // An answer that was kept was paid for; the others broke off on their way.
                let broke_off = failure.http_status.is_none()
                    && matches!(
                        failure.kind,
                        FailureKind::Timeout | FailureKind::Network | FailureKind::TooLarge
                    );
                self.uncertain += u64::from(kept.is_some() || broke_off);
            }
        }
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
    /// Requests that were dropped while their answer was on its way.
    pub dropped: u64,
    pub wall: Duration,
    pub paths: &'a Paths,
    /// The command that goes on where this run ended.
    pub resume: Option<String>,
}

impl Summary<'_> {
    fn possibly_charged(&self) -> u64 {
        self.tally.uncertain + self.dropped
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
        let mut lines = vec![self.headline(), self.token_line(), self.speed_line()];
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
        let cached = match tally.cached_tokens {
            0 => String::new(),
            cached => format!(" ({} cached)", thousands(cached)),
        };
        let unknown = match tally.without_usage {
            0 => String::new(),
            answers => format!("   {} did not say", count(answers, "answer")),
        };
        format!(
            "  tokens   {} in{cached}   {} out{unknown}",
            thousands(tally.prompt_tokens),
            thousands(tally.completion_tokens)
        )
    }

    fn rate(&self) -> f64 {
        match self.wall.as_secs_f64() {
            0.0 => 0.0,
            seconds => self.tally.settled() as f64 / seconds,
        }
    }

    fn speed_line(&self) -> String {
        format!(
            "  speed    {:.1} items/s   requests {}   retries {}   push-backs {}",
            self.rate(),
            thousands(self.requests),
            thousands(self.tally.retries),
            thousands(self.tally.push_backs),
        )
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.possibly_charged() > 0 {
            remarks.push(format!(
                "  at most {} may have been charged without a usable answer",
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
            "possibly_charged": self.possibly_charged(),
            "cut_by_length": tally.cut_by_length,
            "tokens": {
                "prompt": tally.prompt_tokens,
                "cached": tally.cached_tokens,
                "completion": tally.completion_tokens,
                "answers_without_usage": tally.without_usage,
            },
            "cost_usd": Value::Null,
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
