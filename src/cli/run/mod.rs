//! `llmbatch run`: makes the rooms and connects them.
//!
//! A thread of its own reads the input, the engine runs on the async runtime, and a third thread
//! hears the events: it records, counts and shows them.

mod closing;
mod feeder;
mod hub;
mod opening;
mod portion;
mod purse;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::args::RunArgs;
use super::descriptors;
use super::progress::{Progress, Purse, Style};
use super::refusal::Refusal;
use super::settings::{RunSettings, Target, is_loopback};
use super::signals::Signals;
use super::summary::Tally;
use super::{Exit, terminal};
use crate::engine::budget::Budget;
use crate::engine::{Ending, Engine, Stop};
use crate::input::Census;
use crate::output::checkpoint::InputIdentity;
use crate::output::{self, Opened, Recorder, RecorderSettings, StartMode};
use crate::provider::Provider;
use crate::provider::openai::OpenAi;
use crate::provider::preset::Preset;
use crate::sim::Simulator;
use crate::transport::{Http, HttpSettings};
use crate::words::event::Gauges;
use crate::words::human::{count, thousands};
use closing::Closing;
use feeder::{Fed, Job, feed};
use hub::Hub;
pub use opening::{SHOWN_FINDINGS, is_stdin, look_at_input, refuse_bad_lines};
use opening::{explain, open, place, take_census};
pub use portion::{Chosen, Portion, Reservoir};
use purse::{check_budget, open_budget};

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
    look_at_input(&args.input)?;
    let mut settings = RunSettings::from_args(args)?;
    if settings.mode == StartMode::New {
        output::refuse_existing(&settings.paths)
            .map_err(|error| explain(error, &settings.paths))?;
    }
    let wanted = settings.engine.concurrency;
    // The simulator answers from this process, at the other end of each connection.
    let ends = match settings.target {
        Target::Endpoint { .. } => 1,
        Target::Simulator(_) => 2,
    };
    settings.engine.concurrency = (descriptors::allow(wanted * ends) / ends).max(1);
    let census = take_census(&settings)?;
    check_budget(&settings, census.as_ref())?;
    let http = network(&settings)?;
    let style = Style::choose(args.progress, args.quiet);
    let opened = open(&settings, census.as_ref())?;
    let budget = open_budget(&settings, census.as_ref(), &opened);
    let Opened {
        sink,
        mut finished,
        spent_before,
        notes,
        ..
    } = opened;
    if !args.quiet {
        notes
            .iter()
            .for_each(|note| terminal::line(&format!("note: {note}")));
    }
    if let Some(census) = &census {
        place(&settings, census, &mut finished)?;
    }
    let chosen = portion.choose(&settings, census.as_ref(), &finished)?;
    let total = match chosen.count() {
        Some(count) => Some(count),
        None => census
            .as_ref()
            .map(|census| limited(census.lines, settings.limit)),
    };
    let before = match chosen.count() {
        // Nothing of it was done before.
        Some(_) => Before::default(),
        None => Before {
            results: total.map_or(0, |total| finished.results_before(total)),
            errors: finished.errors(),
        },
    };
    let done_before = before.results + before.errors;
    let gauges = Arc::new(Gauges::default());
    let recorder = Recorder::start(
        sink,
        RecorderSettings {
            format: settings.identity.format,
            lean: settings.identity.lean,
            checkpoint_every: settings.checkpoint_every,
            run: settings.identity.clone(),
            input: census.as_ref().map(identify),
            finished: census.as_ref().map(|_| finished.positions().clone()),
            spent_before,
            ceiling: budget.as_ref().and_then(|budget| budget.wanted_ceiling()),
            in_flight: settings.engine.concurrency as u64,
            gauges: gauges.clone(),
        },
    )
    .with_context(|| format!("failed to write beside {}", settings.paths.errors.display()))?;
    let to_do = total.map(|total| total.saturating_sub(done_before));
    if let (Some(budget), Some(ceiling)) = (&budget, recorder.ceiling()) {
        budget.grant(ceiling);
    }
    let purse = Purse {
        spent_before: spent_before.cost,
        limit: settings.budget.as_ref().map(|budget| budget.limit),
    };
    let progress = Progress::new(style, args.verbose, to_do, purse, gauges.clone());
    if settings.engine.concurrency < wanted {
        progress.sink().note(&format!(
            "note: at most {} in flight, as many as `ulimit -n` allows",
            count(settings.engine.concurrency as u64, "request")
        ));
    }
    progress
        .sink()
        .note(&opening_line(&settings, total, done_before));
    let job = Arc::new(Job {
        census,
        settings,
        finished,
        chosen,
        fed: Mutex::default(),
    });
    let outcome = drive(&job, http, recorder, progress, &budget, gauges.clone())?;
    let closing = Closing {
        args,
        job: &job,
        outcome: &outcome,
        total,
        before,
        spent_before,
        budget: budget.as_deref(),
    };
    let exit = closing.conclude(gauges.sent.value(), started)?;
    Ok((exit, job.chosen.clone()))
}

/// Says what is about to be asked, and whom.
fn opening_line(settings: &RunSettings, total: Option<u64>, done_before: u64) -> String {
    let input = match is_stdin(&settings.input) {
        true => "standard input".to_owned(),
        false => settings.input.display().to_string(),
    };
    let mut line = match total {
        Some(total) => format!("{input}: {}", count(total, "item")),
        None => input,
    };
    if done_before > 0 {
        line.push_str(&format!(", {} done before", thousands(done_before)));
    }
    let Target::Endpoint { base_url, .. } = &settings.target else {
        return format!("{line}, asking a simulator inside this process");
    };
    // A query string can hold a key.
    let base_url = base_url.split('?').next().unwrap_or_default();
    match &settings.defaults.model {
        Some(model) => format!("{line}, asking {model} at {base_url}"),
        None => format!("{line}, asking {base_url}"),
    }
}

fn limited(items: u64, limit: Option<u64>) -> u64 {
    limit.map_or(items, |limit| items.min(limit))
}

fn identify(census: &Census) -> InputIdentity {
    InputIdentity {
        bytes: census.bytes,
        hash: census.hash,
    }
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
    /// Whether the input could be read and the output be written.
    files: Result<()>,
}

/// Connects reader, engine and recorder, and waits for all of them.
fn drive(
    job: &Arc<Job>,
    http: Http,
    recorder: Recorder,
    progress: Progress,
    budget: &Option<Arc<Budget>>,
    gauges: Arc<Gauges>,
) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let stop = Stop::default();
    let signals = Signals::watch(&stop, &gauges, progress.sink())?;
    let provider = provider(&job.settings, &runtime)?;
    let (entries_in, entries) = mpsc::channel(READ_AHEAD);
    let (events_in, events) = mpsc::channel(EVENT_QUEUE);
    let settings = job.settings.engine.clone();
    let engine = Engine::new(
        settings,
        provider,
        http,
        events_in,
        gauges,
        budget.clone(),
        stop.clone(),
    );
    let feeder = std::thread::spawn({
        let job = job.clone();
        move || feed(&job, &entries_in)
    });
    let hub = std::thread::spawn({
        let hub = Hub {
            recorder,
            progress,
            tally: Tally::default(),
            budget: budget.clone(),
            stop,
        };
        let clock = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .context("failed to start the runtime")?;
        move || clock.block_on(hub.listen(events))
    });
    let ending = runtime.block_on(engine.run(entries));
    let (tally, recorded) = hub.join().unwrap_or_else(|_| {
        (
            Tally::default(),
            Err(anyhow!("the recorder panicked, which is a bug")),
        )
    });
    let read = match ending.complete {
        // The reader has closed its channel, so it is at its end.
        true => feeder
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the reader panicked, which is a bug"))),
        false => Ok(()),
    };
    let fed = *job.fed.lock().unwrap_or_else(PoisonError::into_inner);
    let signal = signals.first();
    // A second reader of a dead server's socket is not worth waiting for.
    runtime.shutdown_background();
    Ok(Outcome {
        ending,
        tally,
        fed,
        signal,
        files: read.and(recorded),
    })
}

/// Sets the network up, before any file is touched.
fn network(settings: &RunSettings) -> Result<Http> {
    let attempt_time = settings.engine.timeout;
    let settings = match &settings.target {
        Target::Endpoint { base_url, key, .. } => HttpSettings {
            secret: key
                .as_ref()
                .map(|key| Bytes::copy_from_slice(key.reveal().as_bytes())),
            direct: is_loopback(base_url),
            plain: !base_url
                .trim_start()
                .to_ascii_lowercase()
                .starts_with("https"),
            attempt_time,
        },
        Target::Simulator(_) => HttpSettings {
            direct: true,
            plain: true,
            secret: None,
            attempt_time,
        },
    };
    Ok(Http::new(settings).map_err(|error| {
        Refusal::new(format!("the network cannot be set up: {error}"))
            .hint("install the system's CA certificates (Debian: apt-get install ca-certificates)")
    })?)
}

/// Makes the provider; with `--simulate`, also the server that it talks to.
fn provider(settings: &RunSettings, runtime: &Runtime) -> Result<Arc<dyn Provider>> {
    let (preset, base_url, key) = match &settings.target {
        Target::Endpoint {
            preset,
            base_url,
            key,
            ..
        } => (*preset, base_url.clone(), key.as_ref()),
        Target::Simulator(sim) => {
            let simulator = runtime
                .block_on(Simulator::bind(0, (**sim).clone()))
                .context("failed to start the simulator on a free port of 127.0.0.1")?;
            let base_url = format!("http://{}/v1", simulator.address());
            runtime.spawn(simulator.serve());
            (Preset::GENERIC, base_url, None)
        }
    };
    let provider = OpenAi::new(preset, &base_url, key)
        .map_err(|why| Refusal::new(format!("the base URL cannot be used: {why}")))?;
    Ok(Arc::new(provider))
}
