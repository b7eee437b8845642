//! `llmbatch estimate`: what a file will cost and how long it will take, before it is asked.
//!
//! Nothing is sent, unless a pilot is asked for by name: then some random items are run as `run`
//! would, into the same output.

mod experience;
mod json;
mod question;
mod report;
mod text;

use std::collections::HashSet;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};

use super::args::EstimateArgs;
use super::progress::{CountingProgress, Style};
use super::refusal::Refusal;
use super::run::{self, Chosen, Portion, SHOWN_FINDINGS, refuse_bad_lines};
use super::spool::Spool;
use super::validate::unreadable;
use super::{Exit, terminal};
use crate::estimate::{Asked, Counted, Job, count, forecast};
use crate::input::{self, Census, Reader, Repeats};
use crate::words::human::printable;
use experience::{Learnt, of_pilot, of_results};
use question::Question;
use report::Report;

/// Estimates a file.
pub fn estimate(mut args: EstimateArgs) -> Result<Exit> {
    if args.run.confirm_above.is_some() || args.run.yes {
        let refusal =
            Refusal::new("--confirm-above and --yes belong to run: a pilot is asked for by name");
        return Err(refusal.hint("--budget bounds what a pilot spends").into());
    }
    run::look_at_input(&args.run.input)?;
    // The pilot's own summary is not what was asked for.
    let as_json = std::mem::take(&mut args.run.json);
    let question = Question::from_args(&args)?;
    if args.pilot.is_some() && args.run.output.as_deref() == Some(Path::new("-")) {
        let refusal =
            Refusal::new("the estimate and the pilot's answers both want standard output");
        return Err(refusal.hint("-o FILE keeps the answers").into());
    }
    let spool = spool(&args)?;
    let input = spool
        .as_ref()
        .map_or(&*args.run.input, |spool| spool.path());
    let (exit, chosen) = match args.pilot {
        Some(items) => ask_some(&args, items)?,
        None => (Exit::Done, None),
    };
    if !matches!(exit, Exit::Done | Exit::SomeErrors) {
        return Ok(exit);
    }
    let (census, bodies) = check(input, &args, &question)?;
    let learnt = learn(&args, &question, chosen.as_ref())?;
    let style = Style::choose(args.run.progress, args.run.quiet);
    let items = question
        .limit
        .map_or(census.lines, |limit| census.lines.min(limit));
    let mut progress = CountingProgress::new(style, items);
    let counted = count_all(input, &census, &bodies, &question, &learnt, |done| {
        progress.tell(done);
    });
    progress.finish();
    let counted = counted.map_err(|error| unreadable(&args.run.input, &error))?;
    let forecast = forecast(&counted, &learnt.experience, args.seed);
    let report = Report::new(
        &question,
        &counted,
        &learnt,
        forecast.as_ref(),
        census.lines,
    );
    let text = match as_json {
        true => json::write(&report),
        false => printable(&text::write(&report)),
    };
    terminal::print(&text).context("failed to print the estimate")?;
    Ok(exit)
}

/// Copies what can be read only once into a file of its own, since it is read twice.
fn spool(args: &EstimateArgs) -> Result<Option<Spool>> {
    let input = &args.run.input;
    // A copy is made for nothing where the pilot cannot be.
    if args.pilot.is_some() && !input.is_file() {
        let refusal = Refusal::new("--pilot needs a file: its items are chosen all over the input");
        return Err(refusal.hint("write the input to a file first").into());
    }
    Ok(Spool::of(input).map_err(|error| unreadable(input, &error))?)
}

/// Runs the pilot, and says which items it was.
fn ask_some(args: &EstimateArgs, items: u64) -> Result<(Exit, Option<Chosen>)> {
    let portion = Portion::Random {
        items,
        seed: args.seed,
    };
    let (exit, chosen) = run::run_portion(&args.run, portion)?;
    Ok((exit, Some(chosen)))
}

/// Checks the file whole, as `run` does, and finds requests that stand in it more than once.
fn check(input: &Path, args: &EstimateArgs, question: &Question) -> Result<(Census, Repeats)> {
    let mut bodies = Vec::new();
    let end = question.limit.unwrap_or(u64::MAX);
    let census = input::check_each(
        input,
        &question.defaults,
        SHOWN_FINDINGS,
        |index, shaped| {
            if index < end {
                bodies.push(body_hash(&shaped.body));
            }
        },
    );
    let census = census.map_err(|error| unreadable(&args.run.input, &error))?;
    if census.bad > 0 && !args.run.skip_invalid {
        return Err(refuse_bad_lines(&args.run.input, &census).into());
    }
    Ok((census, Repeats::among(bodies)))
}

fn body_hash(body: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(body)
}

fn learn(args: &EstimateArgs, question: &Question, chosen: Option<&Chosen>) -> Result<Learnt> {
    match (chosen, &args.from) {
        (Some(chosen), _) => of_pilot(args, question, chosen),
        (None, Some(results)) => of_results(results, args.seed),
        (None, None) => Ok(Learnt::default()),
    }
}

fn count_all(
    input: &Path,
    census: &Census,
    bodies: &Repeats,
    question: &Question,
    learnt: &Learnt,
    tell: impl FnMut(u64),
) -> io::Result<Counted> {
    let sampled: HashSet<u128> = learnt
        .experience
        .sample
        .iter()
        .map(|seen| seen.id)
        .collect();
    let job = Job {
        model: &|name| question.own_model(name),
        compared: &question.compared,
        said: question.said,
        alike: question.alike(census.models.keys()),
        settled: &learnt.settled,
        sampled: &sampled,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let mut reader = Reader::open(input, &question.defaults, census)?;
    let mut seen = HashSet::new();
    let end = question.limit.unwrap_or(u64::MAX);
    let source = || {
        let Some(item) = reader.next_item(end)? else {
            return Ok(None);
        };
        let is_repeated = !bodies.is_empty() && {
            let hash = body_hash(&item.body);
            bodies.contains(hash) && !seen.insert(hash)
        };
        Ok(Some(Asked { item, is_repeated }))
    };
    count(&job, source, tell)
}
