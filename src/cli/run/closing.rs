//! After the last event: the exit code, the closing summary, and how to go on.

use std::io::{self, ErrorKind};
use std::time::Instant;

use anyhow::{Context, Result};

use super::feeder::Job;
use super::{Before, Outcome};
use crate::cli::args::RunArgs;
use crate::cli::progress::Style;
use crate::cli::settings::Target;
use crate::cli::summary::{BudgetReport, Summary};
use crate::cli::{Exit, terminal};
use crate::engine::budget::Budget;
use crate::output::{Failed, Rescue, Spent};
use crate::words::human::{count, thousands};
use crate::words::money::Usd;
use crate::words::verdict::{Failure, FailureKind};

/// The end of a run, in words and as an exit code.
pub struct Closing<'a> {
    pub args: &'a RunArgs,
    pub job: &'a Job,
    pub outcome: &'a Outcome,
    pub total: Option<u64>,
    pub before: Before,
    pub spent_before: Spent,
    pub budget: Option<&'a Budget>,
}

impl Closing<'_> {
    pub fn conclude(&self, requests: u64, started: Instant) -> Result<Exit> {
        let Outcome {
            ending, tally, fed, ..
        } = self.outcome;
        let exit = self.exit();
        let before = self.before();
        // Where all items were done already, there was nothing to stop.
        let halted = ending.halted.as_ref();
        let halted = halted.filter(|_| !matches!(exit, Exit::Done | Exit::SomeErrors));
        let summary = Summary {
            tally,
            exit,
            halted,
            items: self.total.unwrap_or(fed.entries),
            results_before: before.results,
            errors_before: before.errors,
            requests,
            spent_before: self.spent_before,
            budget: self.budget.map(|budget| BudgetReport {
                limit: budget.limits().limit,
                accounts: budget.accounts(),
                downgrade: budget
                    .limits()
                    .downgrade
                    .as_ref()
                    .map(|other| &*other.model),
            }),
            wall: started.elapsed(),
            paths: &self.job.settings.paths,
            resume: self.resume_command(exit),
        };
        let silent = self.args.quiet;
        match Style::choose(self.args.progress, silent) {
            Style::Json => terminal::json(&summary.json()),
            _ if silent => {}
            _ => terminal::line(&summary.text()),
        }
        if let Err(error) = &self.outcome.read {
            terminal::error(
                &format!("{error:#}"),
                Some("--resume goes on once the input can be read again"),
            );
        }
        if let Err(failed) = &self.outcome.files {
            let (what, hint) = self.explain_failed(failed);
            terminal::error(&what, Some(&hint));
        } else if let Some(words) = &ending.panicked {
            terminal::error(
                &format!("a bug in llmbatch ended the run early: {words}"),
                Some(self.bug_advice()),
            );
        } else if let Some(failure) = halted {
            let (what, hint) = self.explain_halt(failure, requests);
            terminal::error(&what, Some(&hint));
        }
        if self.args.json {
            terminal::print(&summary.json().to_string()).context("failed to print the summary")?;
        }
        Ok(exit)
    }

    /// Returns what was done before: as counted on the way where the whole input was read, else
    /// as known at the start.
    fn before(&self) -> Before {
        let Outcome { ending, fed, .. } = self.outcome;
        match ending.complete || self.total.is_none() {
            true => Before {
                results: fed.results_before,
                errors: fed.errors_before,
            },
            false => self.before,
        }
    }

    /// Says what the output could not take, where it is now, and how to go on.
    fn explain_failed(&self, failed: &Failed) -> (String, String) {
        let Failed { error, rescue } = failed;
        let mut what = format!("the output cannot be written: {error}");
        match rescue {
            Rescue::NotNeeded => {}
            Rescue::Saved { rows, file } => what.push_str(&format!(
                "\n{} saved in {} instead",
                count(*rows, "row"),
                file.display()
            )),
            Rescue::Lost { rows } => what.push_str(&format!(
                "\n{} could not be saved anywhere, and will be asked again",
                count(*rows, "row")
            )),
        }
        let paths = &self.job.settings.paths;
        if paths.results.is_none() {
            let hint = "with -o FILE, --resume goes on where a run was stopped";
            return (what, hint.to_owned());
        }
        let cure = cure(error);
        let hint = match rescue {
            Rescue::Saved { .. } => {
                format!("{cure}, then --resume takes the saved rows in and goes on")
            }
            Rescue::NotNeeded | Rescue::Lost { .. } => format!("{cure}, then --resume goes on"),
        };
        (what, hint)
    }

    fn bug_advice(&self) -> &'static str {
        match self.job.settings.paths.results {
            Some(_) => "every answer that came is stored, and --resume goes on; please report it",
            None => "every answer that came is printed; please report it",
        }
    }

    fn exit(&self) -> Exit {
        let Outcome {
            ending,
            tally,
            fed,
            signal,
            read,
            files,
        } = self.outcome;
        // What the reader has not passed cannot be complete.
        let settled = tally.settled() + fed.results_before + fed.errors_before;
        let complete = ending.complete || self.total.is_some_and(|total| settled >= total);
        match signal {
            _ if read.is_err() || files.is_err() || ending.panicked.is_some() => Exit::Failed,
            _ if complete && tally.failed() + fed.errors_before == 0 => Exit::Done,
            _ if complete => Exit::SomeErrors,
            Some(signal) => Exit::Interrupted { signal: *signal },
            None if ending.halted.is_some() => Exit::Guarded,
            // Nothing else stops a run.
            None => Exit::Failed,
        }
    }

    /// Returns the command that goes on, where going on would do anything.
    fn resume_command(&self, exit: Exit) -> Option<String> {
        self.job.settings.paths.results.as_ref()?;
        // The rest of a portion goes on by another command.
        if self.job.chosen.count().is_some() {
            return None;
        }
        let errors = &self.outcome.tally.errors;
        let some_would_be_retried = errors.keys().any(|status| !status.is_kept_on_resume());
        let useful = match exit {
            Exit::Done => false,
            Exit::SomeErrors => some_would_be_retried,
            _ => true,
        };
        useful.then(|| {
            let typed = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
            let mut command = resume_command(typed, self.enough().as_deref());
            let halted = self.outcome.ending.halted.as_ref();
            if halted.is_some_and(|halted| halted.kind == FailureKind::SameRejection) {
                // They are final otherwise.
                command.push_str(" --retry rejected");
            }
            command
        })
    }

    /// Returns a budget that the rest should fit into, where the one there was is used up.
    fn enough(&self) -> Option<String> {
        let halted = self.outcome.ending.halted.as_ref()?;
        let budget = self.budget.filter(|_| halted.kind == FailureKind::Budget)?;
        let done = self.outcome.tally.settled();
        let before = self.before();
        let left = self
            .total?
            .saturating_sub(done + before.results + before.errors);
        let accounts = budget.accounts();
        let tally = &self.outcome.tally;
        // With what was lost on the way, or, where nothing is known, by the worst case.
        let each = match tally.cost_per_item() {
            Some(_) => (tally.spent.cost + tally.spent.at_risk).share(1, done),
            None => accounts.refused,
        };
        let rest = each.times(left);
        let enough = accounts.committed() + rest + rest.share(1, 10) + accounts.refused;
        let enough = enough.max(budget.limits().limit);
        Some(two_digits_up(enough))
    }

    fn explain_halt(&self, failure: &Failure, requests: u64) -> (String, String) {
        let detail = match (failure.http_status, &failure.code) {
            (Some(status), Some(code)) => format!(" ({status} {code})"),
            (Some(status), None) => format!(" ({status})"),
            (None, _) => String::new(),
        };
        let (what, cure) = self.cause_and_cure(failure.kind);
        let asked = count(requests, "request");
        // A list begins on its own line.
        let gap = if failure.message.starts_with('\n') {
            ""
        } else {
            " "
        };
        let what = format!(
            "{what}{detail}, stopped after {asked}:{gap}{}",
            failure.message
        );
        let before = self.before();
        let done = self.outcome.tally.settled() + before.results + before.errors;
        let of = self
            .total
            .map_or(String::new(), |total| format!(" of {}", thousands(total)));
        (
            what,
            match self.job.settings.paths.results {
                Some(_) => format!(
                    "{cure}; {}{of} done; then --resume goes on",
                    thousands(done)
                ),
                None => format!("{cure}; {}{of} done", thousands(done)),
            },
        )
    }

    /// Says why a run stopped itself, and what helps.
    fn cause_and_cure(&self, kind: FailureKind) -> (&'static str, String) {
        match kind {
            FailureKind::Auth => ("the provider refuses the key", self.key_advice()),
            FailureKind::Quota => (
                "the provider says that the quota is used up",
                "add credit".to_owned(),
            ),
            FailureKind::Budget => (
                "the budget is used up",
                "a larger --budget goes further".to_owned(),
            ),
            FailureKind::Boundless => (
                "an item's cost has no bound, and the run has a budget",
                "give the price or the limit that is missing".to_owned(),
            ),
            FailureKind::NotFound => (
                "the endpoint does not know this address or model",
                "check --base-url and --model".to_owned(),
            ),
            FailureKind::BadCertificate => (
                "the server's certificate is not trusted",
                format!(
                    "check {} and the clock, or --ca-file FILE trusts an authority of your own",
                    self.base_url()
                ),
            ),
            FailureKind::Unreachable => (
                "the server cannot be reached",
                format!("check that {} is right and up", self.base_url()),
            ),
            FailureKind::LongWait => (
                "the server asks for too long a wait",
                "try again later, or wait with a larger --max-outage".to_owned(),
            ),
            FailureKind::Outage => (
                "the server has been away for too long",
                "try again later; a larger --max-outage waits longer".to_owned(),
            ),
            FailureKind::ErrorRate => (
                "too many items have no result (--max-error-rate)",
                "mend what fails, or allow more".to_owned(),
            ),
            FailureKind::SameRejection => (
                "the first items were all rejected in the same way",
                "mend the request; --retry rejected asks these again too".to_owned(),
            ),
            _ => (
                "the server has been pushing back for too long",
                "try again later; a larger --max-outage waits longer".to_owned(),
            ),
        }
    }

    fn key_advice(&self) -> String {
        match &self.job.settings.target {
            Target::Endpoint {
                key: Some(key),
                key_origin,
                ..
            } => match key.ending() {
                Some(ending) => format!("the key of {key_origin} ends in …{ending}; mend it"),
                None => format!("mend the key of {key_origin}"),
            },
            _ => "no key was sent; set one".to_owned(),
        }
    }

    fn base_url(&self) -> String {
        match &self.job.settings.target {
            Target::Endpoint { base_url, .. } => base_url.to_string(),
            Target::Simulator(_) => "the simulator".to_owned(),
        }
    }
}

/// Says what to do about an output that cannot be written.
pub fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space",
        ErrorKind::FileTooLarge => "raise `ulimit -f`",
        _ => "see that the disk is well",
    }
}

/// Writes an amount with two digits that count, rounded up.
fn two_digits_up(amount: Usd) -> String {
    let picodollars = amount.picodollars();
    let digits = picodollars.checked_ilog10().unwrap_or(0);
    let unit = 10u128.pow(digits.saturating_sub(1));
    Usd::from_picodollars(picodollars.div_ceil(unit) * unit).to_string()
}

/// Repeats the command line with `--resume`, and with another budget where that one is used up,
/// quoted for a shell.
fn resume_command(args: impl Iterator<Item = String>, budget: Option<&str>) -> String {
    let mut words: Vec<String> = args.filter(|word| word != "--overwrite").collect();
    if let Some(budget) = budget {
        for at in 1..words.len() {
            if words[at - 1] == "--budget" {
                words[at] = budget.to_owned();
            } else if words[at].starts_with("--budget=") {
                words[at] = format!("--budget={budget}");
            }
        }
    }
    if let Some(program) = words.first_mut() {
        *program = "llmbatch".to_owned();
    }
    if !words.iter().any(|word| word == "--resume") {
        words.push("--resume".to_owned());
    }
    let quoted: Vec<_> = words.iter().map(|word| shell_quoted(word)).collect();
    quoted.join(" ")
}

fn shell_quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(words: &[&str]) -> String {
        resume_command(words.iter().map(|word| (*word).to_owned()), None)
    }

    #[test]
    fn a_used_up_budget_is_raised_in_the_command() {
        for (typed, shown) in [
            (&["--budget", "2"][..], "--budget 3.1"),
            (&["--budget=2"], "--budget=3.1"),
        ] {
            let words = [&["llmbatch", "run", "in.jsonl"][..], typed].concat();
            let again = resume_command(words.iter().map(|word| (*word).to_owned()), Some("3.1"));
            assert_eq!(again, format!("llmbatch run in.jsonl {shown} --resume"));
        }
        let up = |amount: &str| two_digits_up(Usd::parse(amount).unwrap());
        assert_eq!([up("3.01"), up("0.0123"), up("0")], ["3.1", "0.013", "0"]);
    }

    #[test]
    fn the_resume_command_can_be_pasted() {
        assert_eq!(
            again(&[
                "target/x/llmbatch",
                "run",
                "in.jsonl",
                "--overwrite",
                "--prompt",
                "it's {{ a }}"
            ]),
            r"llmbatch run in.jsonl --prompt 'it'\''s {{ a }}' --resume"
        );
        assert_eq!(
            again(&["llmbatch", "run", "a b", "--resume"]),
            "llmbatch run 'a b' --resume"
        );
    }
}
