//! `llmbatch run`: makes the rooms and connects them.
//!
//! A thread of its own reads the input, the engine runs on the async runtime, and a third thread
//! hears the events: it records, counts and shows them.

mod closing;
mod confirm;
mod endpoint;
mod feeder;
mod hub;
mod opening;
mod portion;
mod purse;
mod setup;

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use anyhow::{Result, anyhow};
use tokio::sync::mpsc;

use super::Exit;
use super::args::RunArgs;
use super::progress::Progress;
use super::signals::{self, Signals};
use super::summary::Tally;
use crate::engine::budget::Budget;
use crate::engine::{Ending, Engine, Stop};
use crate::output::{Failed, Recorder};
use crate::words::event::Gauges;
use closing::Closing;
use endpoint::Wire;
use feeder::{Fed, Job, feed};
use hub::Hub;
pub use opening::{SHOWN_FINDINGS, is_stdin, look_at_input, refuse_bad_lines};
pub use portion::{Chosen, Portion, Reservoir};
use setup::{Checked, Ready};

/// Batches read ahead of the engine's window: just enough that it never waits for the reader.
const READ_AHEAD: usize = 2;
/// Events between the engine and the disk; when it is full, the engine waits.
const EVENT_QUEUE: usize = 1024;

/// Runs a file.
pub fn run(args: &RunArgs) -> Result<Exit> {
    let (exit, _) = run_portion(args, Portion::Whole)?;
    Ok(exit)
}

/// Runs a portion of a file, such that a later run goes on with the rest. Returns what was chosen.
pub fn run_portion(args: &RunArgs, portion: Portion) -> Result<(Exit, Chosen)> {
    let started = Instant::now();
    signals::outlive_file_limit()?;
    let checked = Checked::from_args(args)?;
    let ready = Ready::open(args, checked, portion)?;
    let outcome = drive(&ready.job, ready.parts)?;
    let closing = Closing {
        args,
        job: &ready.job,
        outcome: &outcome,
        total: ready.total,
        before: ready.before,
        spent_before: ready.spent_before,
        budget: ready.budget.as_deref(),
    };
    let exit = closing.conclude(ready.gauges.sent.value(), started)?;
    let mut chosen = ready.job.chosen.clone();
    chosen.spent = outcome.tally.spent.cost;
    Ok((exit, chosen))
}

/// Items that had their final row when the run began.
#[derive(Debug, Clone, Copy, Default)]
struct Before {
    results: u64,
    errors: u64,
}

/// What came of a run.
struct Outcome {
    ending: Ending,
    tally: Tally,
    fed: Fed,
    /// The signal that ended it.
    signal: Option<u8>,
    /// Whether the input could be read.
    read: Result<()>,
    /// Whether the output could be written; else what became of the rest.
    files: Result<(), Failed>,
}

/// What reader, engine and listener are made of.
struct Parts {
    wire: Wire,
    recorder: Recorder,
    progress: Progress,
    budget: Option<Arc<Budget>>,
    gauges: Arc<Gauges>,
}

/// Connects reader, engine and recorder, and waits for all of them.
fn drive(job: &Arc<Job>, parts: Parts) -> Result<Outcome> {
    let stop = Stop::default();
    let signals = Signals::watch(&stop, &parts.gauges, parts.progress.sink())?;
    let Wire {
        runtime,
        http,
        provider,
    } = parts.wire;
    let (entries_in, entries) = mpsc::channel(READ_AHEAD);
    let (events_in, events) = mpsc::channel(EVENT_QUEUE);
    let engine = Engine::new(
        job.settings.engine.clone(),
        provider,
        http,
        events_in,
        parts.gauges,
        parts.budget.clone(),
        stop.clone(),
    );
    let feeder = std::thread::spawn({
        let job = job.clone();
        move || feed(&job, &entries_in)
    });
    let hub = Hub {
        recorder: parts.recorder,
        progress: parts.progress,
        tally: Tally::default(),
        budget: parts.budget,
        stop,
    };
    let hub = hub.spawn(events)?;
    let ending = runtime.block_on(engine.run(entries));
    let heard = hub
        .join()
        .map_err(|_| anyhow!("the recorder panicked, which is a bug; --resume goes on"))?;
    let read = match ending.complete {
        // The reader has closed its channel, so it is at its end.
        true => feeder
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the reader panicked, which is a bug"))),
        false => Ok(()),
    };
    // A second reader of a dead server's socket is not worth waiting for.
    runtime.shutdown_background();
    Ok(Outcome {
        ending,
        tally: heard.tally,
        fed: *job.fed.lock().unwrap_or_else(PoisonError::into_inner),
        signal: signals.first(),
        read,
        files: heard.files,
    })
}
