//! Everything that a run needs, made in the order in which it may fail: first what touches no file,
//! then the output.

use std::sync::{Arc, Mutex};

use anyhow::Result;

use super::confirm::confirm;
use super::endpoint::Wire;
use super::feeder::Job;
use super::opening::{
    cannot_be_written, explain, is_stdin, look_at_input, open, place, take_census,
};
use super::portion::{Chosen, Portion};
use super::purse::{check_budget, open_budget};
use super::{Before, Parts};
use crate::cli::args::RunArgs;
use crate::cli::progress::{Progress, Purse, Style, Verbosity};
use crate::cli::settings::{RunSettings, Target};
use crate::cli::{descriptors, terminal};
use crate::engine::budget::Budget;
use crate::input::Census;
use crate::output::checkpoint::InputIdentity;
use crate::output::{self, Finished, Opened, Recorder, RecorderSettings, Sink, Spent, StartMode};
use crate::words::event::Gauges;
use crate::words::human::{count, thousands};

/// A run that may begin; nothing is touched yet.
pub struct Checked {
    pub settings: RunSettings,
    /// `None` for an input that can be read only once.
    pub census: Option<Census>,
    wire: Wire,
    /// Requests in flight that were asked for, before descriptors had their say.
    wanted: usize,
}

impl Checked {
    pub fn from_args(args: &RunArgs) -> Result<Self> {
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
        settings.engine.concurrency = (descriptors::allow(wanted * ends)? / ends).max(1);
        let census = take_census(&settings)?;
        check_budget(&settings, census.as_ref())?;
        let wire = Wire::set_up(&settings)?;
        Ok(Checked {
            settings,
            census,
            wire,
            wanted,
        })
    }
}

/// A run whose output is open for it alone.
pub struct Ready {
    pub job: Arc<Job>,
    pub(super) parts: Parts,
    /// Items that the run is about, done ones included, if the input can be counted.
    pub total: Option<u64>,
    pub(super) before: Before,
    pub spent_before: Spent,
    pub budget: Option<Arc<Budget>>,
    pub gauges: Arc<Gauges>,
}

impl Ready {
    pub fn open(args: &RunArgs, checked: Checked, portion: Portion) -> Result<Self> {
        let Checked {
            mut settings,
            census,
            wire,
            wanted,
        } = checked;
        let asks = matches!(portion, Portion::Whole);
        let resumes = settings.mode == StartMode::Resume;
        if asks && !resumes {
            // Before the output is made, or the old one is lost.
            confirm(args, &settings, census.as_ref(), &Finished::default())?;
        }
        let mut opened = open(&settings, census.as_ref())?;
        let budget = open_budget(&settings, census.as_ref(), &mut opened)?;
        let Opened {
            sink,
            mut finished,
            spent_before,
            lengths_before,
            notes,
            ..
        } = opened;
        settings.engine.lengths = lengths_before;
        if !args.quiet {
            let notes = notes.iter().map(|note| format!("note: {note}"));
            notes.for_each(|note| terminal::line(&note));
        }
        if let Some(census) = &census {
            place(&settings, census, &mut finished)?;
        }
        if asks && resumes {
            confirm(args, &settings, census.as_ref(), &finished)?;
        }
        let chosen = portion.choose(&settings, census.as_ref(), &finished)?;
        let (total, before) = extent(&settings, census.as_ref(), &finished, &chosen);
        let gauges = Arc::new(Gauges::default());
        let recorder = Recording {
            settings: &settings,
            census: census.as_ref(),
            finished: &finished,
            spent_before,
            budget: budget.as_deref(),
        }
        .start(sink, &gauges)?;
        let done_before = before.results + before.errors;
        let to_do = total.map(|total| total.saturating_sub(done_before));
        let progress = progress(args, &settings, to_do, spent_before, &gauges);
        introduce(&progress, &settings, wanted, total, done_before);
        Ok(Ready {
            parts: Parts {
                wire,
                recorder,
                progress,
                budget: budget.clone(),
                gauges: gauges.clone(),
            },
            job: Arc::new(Job {
                census,
                settings,
                finished,
                chosen,
                fed: Mutex::default(),
            }),
            total,
            before,
            spent_before,
            budget,
            gauges,
        })
    }
}

fn progress(
    args: &RunArgs,
    settings: &RunSettings,
    to_do: Option<u64>,
    spent_before: Spent,
    gauges: &Arc<Gauges>,
) -> Progress {
    let verbosity = match (args.quiet, args.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, false) => Verbosity::Usual,
        (false, true) => Verbosity::Verbose,
    };
    let purse = Purse {
        spent_before: spent_before.cost,
        limit: settings.budget.as_ref().map(|budget| budget.limit),
    };
    let style = Style::choose(args.progress, args.quiet);
    Progress::new(style, verbosity, to_do, purse, gauges.clone())
}

/// Returns how many items the run is about, and how many of them have their final row.
fn extent(
    settings: &RunSettings,
    census: Option<&Census>,
    finished: &Finished,
    chosen: &Chosen,
) -> (Option<u64>, Before) {
    if let Some(count) = chosen.count() {
        // Nothing of it was done before.
        return (Some(count), Before::default());
    }
    let limit = settings.limit.unwrap_or(u64::MAX);
    let total = census.map(|census| census.lines.min(limit));
    let before = Before {
        results: total.map_or(0, |total| finished.results_before(total)),
        errors: finished.errors(),
    };
    (total, before)
}

/// What the recorder is told.
struct Recording<'a> {
    settings: &'a RunSettings,
    census: Option<&'a Census>,
    finished: &'a Finished,
    spent_before: Spent,
    budget: Option<&'a Budget>,
}

impl Recording<'_> {
    /// Starts the recorder, which writes down what may be spent, and lets the budget know.
    fn start(self, sink: Sink, gauges: &Arc<Gauges>) -> Result<Recorder> {
        let settings = self.settings;
        let recorder = Recorder::start(
            sink,
            RecorderSettings {
                format: settings.identity.format,
                lean: settings.identity.lean,
                checkpoint_every: settings.checkpoint_every,
                run: settings.identity.clone(),
                input: self.census.map(identify),
                finished: self.census.map(|_| self.finished.positions().clone()),
                spent_before: self.spent_before,
                lengths_before: settings.engine.lengths.clone(),
                ceiling: self.budget.and_then(Budget::wanted_ceiling),
                in_flight: settings.engine.concurrency as u64,
                gauges: gauges.clone(),
            },
        );
        let recorder = recorder
            .map_err(|error| cannot_be_written(&error.to_string(), &error, settings.mode))?;
        if let (Some(budget), Some(ceiling)) = (self.budget, recorder.ceiling()) {
            budget.grant(ceiling);
        }
        Ok(recorder)
    }
}

/// Says what is about to happen.
fn introduce(
    progress: &Progress,
    settings: &RunSettings,
    wanted: usize,
    total: Option<u64>,
    done_before: u64,
) {
    let sink = progress.sink();
    if settings.engine.concurrency < wanted {
        sink.note(&format!(
            "note: at most {} in flight, as many as `ulimit -n` allows",
            count(settings.engine.concurrency as u64, "request")
        ));
    }
    sink.note(&opening_line(settings, total, done_before));
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
    match &settings.defaults.model {
        Some(model) => format!("{line}, asking {model} at {base_url}"),
        None => format!("{line}, asking {base_url}"),
    }
}

/// Returns what makes positions in an input true.
pub fn identify(census: &Census) -> InputIdentity {
    InputIdentity {
        bytes: census.bytes,
        hash: census.hash,
    }
}
