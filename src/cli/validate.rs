//! `llmbatch validate`: the whole-file check alone.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::args::ValidateArgs;
use super::refusal::Refusal;
use super::spool::Spool;
use super::{Exit, settings, terminal};
use crate::input::{self, Census, Defaults, Finding};
use crate::words::human::{count, one_line, printable, thousands};

/// How many findings are listed, so that a file of ten million bad lines stays readable.
const LISTED: usize = 10_000;

/// Checks a file and lists what is wrong with it.
pub fn validate(args: &ValidateArgs) -> Result<Exit> {
    let defaults = settings::defaults(&args.shape)?;
    let spool = Spool::of(&args.input).map_err(|error| unreadable(&args.input, &error))?;
    let input = spool.as_ref().map_or(&*args.input, Spool::path);
    let mut census = check(input, &defaults, LISTED)?;
    // A model can come from the run's own flag: a file in which no line names one is no bad file.
    let none_names_a_model = census.lacking_model > 0 && census.models.is_empty();
    if none_names_a_model {
        let model = Some("any".into());
        census = check(input, &Defaults { model, ..defaults }, LISTED)?;
    }
    if args.json {
        terminal::print(&report(&args.input, &census, none_names_a_model))?;
    } else {
        let text = describe(&args.input, &census, none_names_a_model);
        terminal::print(&printable(&text))?;
    }
    Ok(if census.bad == 0 {
        Exit::Done
    } else {
        Exit::Refused
    })
}

/// Checks a file whole, or says why it cannot be read.
pub fn check(input: &Path, defaults: &Defaults, keep: usize) -> Result<Census> {
    let census = input::check(input, defaults, keep).map_err(|error| unreadable(input, &error))?;
    Ok(census)
}

/// Says that an input cannot be read.
pub fn unreadable(input: &Path, error: &std::io::Error) -> Refusal {
    Refusal::new(format!("{} cannot be read: {error}", input.display()))
}

fn describe(input: &Path, census: &Census, none_names_a_model: bool) -> String {
    let name = input.display();
    let items = count(census.lines, "item");
    let mut text = match census.bad {
        0 => format!("{name}: {items}, no bad line"),
        bad => format!("{name}: {items}, {}", count(bad, "bad line")),
    };
    for line in listing(census) {
        text.push('\n');
        text.push_str(&line);
    }
    if none_names_a_model {
        text.push_str("\nnote: no line names a model: run needs --model NAME");
    }
    text
}

/// Lists the findings, a line each, with their numbers in one column.
pub fn listing(census: &Census) -> Vec<String> {
    let width = census
        .findings
        .last()
        .map_or(0, |last| thousands(last.line).len());
    let row = |finding: &Finding| {
        format!(
            "  line {:<width$}  {}",
            thousands(finding.line),
            one_line(&finding.problem)
        )
    };
    let mut lines: Vec<String> = census.findings.iter().map(row).collect();
    let more = census.bad - census.findings.len() as u64;
    if more > 0 {
        lines.push(format!("  and {} more", thousands(more)));
    }
    lines
}

fn report(input: &Path, census: &Census, none_names_a_model: bool) -> String {
    let findings: Vec<_> = census
        .findings
        .iter()
        .map(|finding| json!({"line": finding.line, "problem": finding.problem}))
        .collect();
    json!({
        "input": input.display().to_string(),
        "items": census.lines,
        "bytes": census.bytes,
        "bad": census.bad,
        "findings": findings,
        "needs_model": none_names_a_model,
    })
    .to_string()
}
