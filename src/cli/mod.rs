//! The shell: one function for each subcommand, which makes the rooms and connects them.
//!
//! The only composer: every room gets its own settings from here, and knows no flags.

mod args;
mod crash;
mod descriptors;
mod estimate;
mod models;
mod pricing;
mod progress;
mod refusal;
mod run;
mod settings;
mod signals;
mod simulate;
mod spool;
mod summary;
mod terminal;
mod validate;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::FromArgMatches;

use crate::words::human::one_line;
use args::{Cli, Command};
use refusal::Refusal;

/// How the program ends, as scripts see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Every item has a result.
    Done,
    /// Internal error, or the output could not be written.
    Failed,
    /// Usage, configuration or input error; no request was made.
    Refused,
    /// Finished; some items are in the errors file.
    SomeErrors,
    /// Stopped early by a guard; `--resume` continues.
    Guarded,
    /// Interrupted by this signal; `--resume` continues.
    Interrupted { signal: u8 },
}

impl Exit {
    /// Returns the number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Refused => 2,
            Exit::SomeErrors => 3,
            Exit::Guarded => 4,
            Exit::Interrupted { signal } => 128 + signal,
        }
    }
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    crash::prepare();
    let cli = match parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return decline(error).code().into(),
    };
    let outcome = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Validate(args) => validate::validate(&args),
        Command::Estimate(args) => estimate::estimate(*args),
        Command::Models(args) => models::models(&args),
        Command::Simulate(args) => simulate::simulate(&args),
    };
    outcome.unwrap_or_else(|error| report(&error)).code().into()
}

fn parse(typed: impl Iterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let matches = args::command().try_get_matches_from(typed)?;
    Cli::from_arg_matches(&matches)
}

/// Prints help or the version, which are no errors, or else what is wrong with the flags.
fn decline(error: clap::Error) -> Exit {
    if !error.use_stderr() {
        // A closed pipe is no reason to panic.
        let _ = error.print();
        return Exit::Done;
    }
    // The library quotes what was typed as it is. So it reads once more, what can be shown.
    let shown = std::env::args_os().map(|word| one_line(&word.to_string_lossy()).into());
    let error = parse(shown).err().unwrap_or(error);
    terminal::line(error.render().to_string().trim_end());
    Exit::Refused
}

/// Prints an error as a person wants to read it, and says which exit it means.
fn report(error: &anyhow::Error) -> Exit {
    match error.downcast_ref::<Refusal>() {
        Some(refusal) => {
            terminal::error(&refusal.what, refusal.hint.as_deref());
            Exit::Refused
        }
        None => {
            terminal::error(&format!("{error:#}"), None);
            Exit::Failed
        }
    }
}
