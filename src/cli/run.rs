//! `llmbatch run`: makes the rooms and connects them.
//!
//! A thread of its own reads the input, the engine runs on the async runtime, and a third thread
//! hears the events: it records, counts and shows them.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::args::RunArgs;
use super::progress::{Progress, Style};
use super::refusal::Refusal;
use super::settings::{RunSettings, Target, is_loopback};
use super::signals::Signals;
use super::summary::{Summary, Tally};
use super::validate::{check, listing, unreadable};
use super::{Exit, terminal};
use crate::engine::{Ending, Engine, Phase, Stop};
use crate::input::{Census, Reader, Repeats};
use crate::output::checkpoint::InputIdentity;
use crate::output::{
    self, FinalRow, Finished, OpenError, Opened, Recorder, RecorderSettings, Request, StartMode,
};
use crate::provider::Provider;
use crate::provider::openai::OpenAi;
use crate::provider::preset::Preset;
use crate::sim::Simulator;
use crate::tokenizer::Encoding;
use crate::transport::{Http, HttpSettings};
use crate::words::event::{Event, Gauges};
use crate::words::human::{count, thousands};
use crate::words::item::Entry;
use crate::words::verdict::{Failure, FailureKind};

/// Findings shown where a run is refused.
const SHOWN_FINDINGS: usize = 20;
/// Entries that the reader hands over at a time, at most.
const BATCH: usize = 32;
/// Batches read ahead of the engine's window: just enough that it never waits for the reader.
const READ_AHEAD: usize = 2;
/// Events between the engine and the disk; when it is full, the engine waits.
const EVENT_QUEUE: usize = 1024;
/// How long events gather before they are heard. Answers are in memory only for this time.
const GATHERING: Duration = Duration::from_millis(1);

/// Runs a file.
pub fn run(args: &RunArgs) -> Result<Exit> {
    let started = Instant::now();
    look_at_input(&args.input)?;
    let settings = RunSettings::from_args(args)?;
    if settings.mode == StartMode::New {
        output::refuse_existing(&settings.paths).map_err(explain)?;
    }
    let census = take_census(&settings)?;
    let http = network(&settings.target)?;
    let style = Style::choose(args.progress, args.quiet);
    let Opened {
        sink,
        mut finished,
        spent_before,
        notes,
        ..
    } = open(&settings, census.as_ref())?;
    if !args.quiet {
        notes
            .iter()
            .for_each(|note| terminal::line(&format!("note: {note}")));
    }
    if let Some(census) = &census {
        place(&settings, census, &mut finished)?;
    }
    let total = census
        .as_ref()
        .map(|census| limited(census.lines, settings.limit));
    let to_do = total.map(|total| total.saturating_sub(finished.positions().len()));
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
            in_flight: settings.engine.concurrency as u64,
            gauges: gauges.clone(),
        },
    )
    .with_context(|| format!("failed to write beside {}", settings.paths.errors.display()))?;
    let progress = Progress::new(style, args.verbose, to_do, gauges.clone());
    let job = Arc::new(Job {
        repeats: census.map(|census| census.repeats),
        settings,
        finished,
        fed: Mutex::default(),
    });
    let outcome = drive(&job, http, recorder, progress, gauges.clone())?;
    let closing = Closing {
        args,
        job: &job,
        outcome: &outcome,
        total,
    };
    closing.conclude(gauges.sent.value(), started)
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

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Refuses an input that cannot be one before anything else is asked of the user.
fn look_at_input(input: &Path) -> Result<()> {
    if !is_stdin(input) {
        let metadata = std::fs::metadata(input).map_err(|error| unreadable(input, &error))?;
        if metadata.is_dir() {
            return Err(Refusal::new(format!("the input {} is a folder", input.display())).into());
        }
    }
    Ok(())
}

/// Checks a regular file whole; anything else can be read only once, so its bad lines are found
/// on the way.
fn take_census(settings: &RunSettings) -> Result<Option<Census>> {
    let input = &settings.input;
    if is_stdin(input) || !input.is_file() {
        return Ok(None);
    }
    let census = check(input, &settings.defaults, SHOWN_FINDINGS)?;
    if census.bad > 0 && !settings.skip_invalid {
        return Err(refuse_bad_lines(input, &census).into());
    }
    Ok(Some(census))
}

fn refuse_bad_lines(input: &Path, census: &Census) -> Refusal {
    let mut what = format!(
        "{} has {}; nothing was sent",
        input.display(),
        count(census.bad, "bad line")
    );
    for line in listing(census) {
        what.push('\n');
        what.push_str(&line);
    }
    let good = census.lines - census.bad;
    let hint = if census.lacking_model == census.bad {
        "--model NAME gives every line that names none a model".to_owned()
    } else if good == 0 {
        "llmbatch run --help shows the forms of a line".to_owned()
    } else {
        format!(
            "--skip-invalid runs the other {} and puts these into the errors file",
            thousands(good)
        )
    };
    Refusal::new(what).hint(hint)
}

fn open(settings: &RunSettings, census: Option<&Census>) -> Result<Opened> {
    let request = Request {
        paths: &settings.paths,
        mode: settings.mode,
        input_path: &settings.input,
        input: census.map(identify),
        run: &settings.identity,
        allow_changes: settings.allow_changes,
        retry: &settings.retry,
    };
    output::open(&request).map_err(|error| explain(error).into())
}

/// Says why an output cannot be opened, and what to do.
fn explain(error: OpenError) -> Refusal {
    match error {
        OpenError::Exists { path, results } => Refusal::new(format!(
            "{} exists ({})",
            path.display(),
            count(results, "row")
        ))
        .hint("--resume goes on where it ended; --overwrite starts over"),
        OpenError::Locked { path } => Refusal::new(format!(
            "another process is writing this output ({})",
            path.display()
        ))
        .hint("wait for it, or choose another output with -o"),
        OpenError::Changed { path, differences } => {
            let mut what = format!("this is not the run that {} tells of", path.display());
            for difference in differences {
                what.push_str(&format!("\n  {difference}"));
            }
            Refusal::new(what)
                .hint("--allow-changes goes on all the same; -o FILE starts another output")
        }
        OpenError::IsInput { path } => {
            Refusal::new(format!("{} is the input itself", path.display()))
                .hint("-o FILE names another output")
        }
        OpenError::Io { path, error } => {
            Refusal::new(format!("{} cannot be written: {error}", path.display()))
                .hint("-o FILE names another output")
        }
    }
}

/// Reads the input once more where results are known by id only.
fn place(settings: &RunSettings, census: &Census, finished: &mut Finished) -> Result<()> {
    if !finished.lacks_positions() {
        return Ok(());
    }
    let input = &settings.input;
    let cannot = |error| unreadable(input, &error);
    let mut reader =
        Reader::open(input, &settings.defaults, census.repeats.clone()).map_err(cannot)?;
    while let Some(entry) = reader.next_entry().map_err(cannot)? {
        finished.place(entry.index(), entry.id());
    }
    finished.all_placed();
    Ok(())
}

/// What the reader works on. It owns its share, since a read of standard input can outlive the
/// run.
struct Job {
    settings: RunSettings,
    /// `None` for an input that can be read only once.
    repeats: Option<Repeats>,
    finished: Finished,
    fed: Mutex<Fed>,
}

/// What the reader passed on and what it left out.
#[derive(Debug, Default, Clone, Copy)]
struct Fed {
    /// Entries read, of all kinds.
    entries: u64,
    results_before: u64,
    errors_before: u64,
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
    gauges: Arc<Gauges>,
) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let stop = Stop::default();
    let signals = Signals::watch(&runtime, &stop, &gauges, progress.sink())?;
    let provider = provider(&job.settings, &runtime)?;
    let (entries_in, entries) = mpsc::channel(READ_AHEAD);
    let (events_in, events) = mpsc::channel(EVENT_QUEUE);
    let settings = job.settings.engine.clone();
    let engine = Engine::new(settings, provider, http, events_in, gauges, stop.clone());
    let feeder = std::thread::spawn({
        let job = job.clone();
        move || feed(&job, &entries_in)
    });
    let hub = std::thread::spawn({
        let hub = Hub {
            recorder,
            progress,
            tally: Tally::default(),
            stop,
        };
        let clock = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .context("failed to start the runtime")?;
        move || clock.block_on(hub.listen(events))
    });
    let ending = runtime.block_on(engine.run(entries));
    let (tally, recorded) = hub
        .join()
        .expect("a panic of the recorder ends the program");
    let read = match ending.complete {
        // The reader has closed its channel, so it is at its end.
        true => feeder
            .join()
            .expect("a panic of the reader ends the program"),
        false => Ok(()),
    };
    let fed = *job
        .fed
        .lock()
        .expect("a panic of the reader ends the program");
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
fn network(target: &Target) -> Result<Http> {
    let settings = match target {
        Target::Endpoint { base_url, key, .. } => HttpSettings {
            secret: key
                .as_ref()
                .map(|key| Bytes::copy_from_slice(key.reveal().as_bytes())),
            direct: is_loopback(base_url),
            plain: !base_url
                .trim_start()
                .to_ascii_lowercase()
                .starts_with("https"),
        },
        Target::Simulator(_) => HttpSettings {
            direct: true,
            plain: true,
            secret: None,
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

/// Reads the input and passes on what is not finished, until the end, the limit, or the engine
/// takes no more.
fn feed(job: &Job, entries: &mpsc::Sender<Vec<Entry>>) -> Result<()> {
    let Job {
        settings, repeats, ..
    } = job;
    let defaults = &settings.defaults;
    let result = match repeats {
        Some(repeats) => Reader::open(&settings.input, defaults, repeats.clone())
            .and_then(|reader| pass_on(reader, job, entries)),
        None if is_stdin(&settings.input) => {
            pass_on(Reader::streaming(std::io::stdin(), defaults), job, entries)
        }
        None => File::open(&settings.input)
            .and_then(|file| pass_on(Reader::streaming(file, defaults), job, entries)),
    };
    Ok(result.map_err(|error| unreadable(&settings.input, &error))?)
}

fn pass_on<R: Read>(
    mut reader: Reader<'_, R>,
    job: &Job,
    entries: &mpsc::Sender<Vec<Entry>>,
) -> std::io::Result<()> {
    let settings = &job.settings;
    let counts_tokens = settings.engine.tpm.is_some();
    let mut fed = Fed::default();
    let mut batch = Vec::with_capacity(BATCH);
    while settings.limit.is_none_or(|limit| fed.entries < limit)
        && let Some(mut entry) = reader.next_entry()?
    {
        fed.entries += 1;
        match job.finished.row(entry.index(), entry.id()) {
            Some(FinalRow::Result) => fed.results_before += 1,
            Some(FinalRow::Error) => fed.errors_before += 1,
            None => {
                if let (true, Entry::Item(item)) = (counts_tokens, &mut entry) {
                    item.prompt_tokens = Some(Encoding::of(&item.model).count_chat(&item.body));
                }
                batch.push(entry);
            }
        }
        // What is read must not wait for a line that is still being written.
        if (batch.len() == BATCH || reader.may_wait()) && !hand_over(&mut batch, entries, job, fed)
        {
            return Ok(());
        }
    }
    hand_over(&mut batch, entries, job, fed);
    Ok(())
}

/// Passes a batch to the engine; false where it takes no more.
fn hand_over(
    batch: &mut Vec<Entry>,
    entries: &mpsc::Sender<Vec<Entry>>,
    job: &Job,
    fed: Fed,
) -> bool {
    *job.fed
        .lock()
        .expect("no code panics while it holds this lock") = fed;
    if batch.is_empty() {
        return !entries.is_closed();
    }
    let full = std::mem::replace(batch, Vec::with_capacity(BATCH));
    entries.blocking_send(full).is_ok()
}

/// The listener: records, counts and shows events.
struct Hub {
    recorder: Recorder,
    progress: Progress,
    tally: Tally,
    stop: Stop,
}

impl Hub {
    async fn listen(mut self, mut events: mpsc::Receiver<Event>) -> (Tally, Result<()>) {
        let mut heard = Vec::with_capacity(EVENT_QUEUE);
        let mut failure = None;
        loop {
            let due = self
                .recorder
                .sync_due()
                .map_or(self.progress.due(), |sync| sync.min(self.progress.due()));
            let from = heard.len();
            let more =
                tokio::time::timeout_at(due.into(), events.recv_many(&mut heard, EVENT_QUEUE))
                    .await;
            heard[from..].iter().for_each(|event| self.hear(event));
            // After a failure, events are held until the end: what they tell is not stored.
            if failure.is_none() {
                match self.recorder.append().and_then(|()| self.recorder.commit()) {
                    Ok(()) => heard.drain(..).for_each(|event| self.tally.hear(&event)),
                    Err(error) => {
                        self.stop.advance(Phase::Draining);
                        failure = Some(error);
                    }
                }
            }
            if more == Ok(0) {
                break;
            }
            self.progress.show(&self.tally, Instant::now());
            // Let a few events gather: being woken for each one would cost more than hearing it.
            tokio::time::sleep(GATHERING).await;
        }
        self.progress.finish();
        match failure {
            None => (
                self.tally,
                self.recorder.finish().context("failed to write the output"),
            ),
            Some(error) => self.write_at_last(&heard, error),
        }
    }

    fn hear(&mut self, event: &Event) {
        self.progress.hear(event);
        if let Event::Settled(record) = event {
            self.recorder.take(record);
        }
    }

    /// Tries once more to append what could not be written, now that nothing else comes.
    fn write_at_last(mut self, held: &[Event], error: std::io::Error) -> (Tally, Result<()>) {
        let answers = held
            .iter()
            .filter(|event| matches!(event, Event::Settled(_)))
            .count();
        let mut what = "failed to write the output".to_owned();
        if self.recorder.append().is_ok() {
            held.iter().for_each(|event| self.tally.hear(event));
        } else if answers > 0 {
            what = format!(
                "{what} ({} could not be stored and will be asked again)",
                count(answers as u64, "answer")
            );
        }
        (self.tally, Err(error).context(what))
    }
}

/// The end of a run, in words and as an exit code.
struct Closing<'a> {
    args: &'a RunArgs,
    job: &'a Job,
    outcome: &'a Outcome,
    total: Option<u64>,
}

impl Closing<'_> {
    fn conclude(&self, requests: u64, started: Instant) -> Result<Exit> {
        let Outcome {
            ending, tally, fed, ..
        } = self.outcome;
        let exit = self.exit();
        let summary = Summary {
            tally,
            exit,
            halted: ending.halted.as_ref(),
            items: self.total.unwrap_or(fed.entries),
            results_before: fed.results_before,
            errors_before: fed.errors_before,
            requests,
            wall: started.elapsed(),
            paths: &self.job.settings.paths,
            resume: self.resume_command(exit),
        };
        let silent = self.args.quiet;
        match Style::choose(self.args.progress, silent) {
            Style::Json => terminal::line(&summary.json().to_string()),
            _ if silent => {}
            _ => terminal::line(&summary.text()),
        }
        if self.args.json {
            terminal::print(&summary.json().to_string()).context("failed to print the summary")?;
        }
        if let Err(error) = &self.outcome.files {
            terminal::error(&format!("{error:#}"), Some(self.storage_advice(error)));
        } else if let Some(failure) = &ending.halted {
            let (what, hint) = self.explain_halt(failure, requests);
            terminal::error(&what, Some(&hint));
        }
        Ok(exit)
    }

    fn storage_advice(&self, error: &anyhow::Error) -> &'static str {
        let kind = error.root_cause().downcast_ref().map(std::io::Error::kind);
        match kind {
            _ if self.job.settings.paths.results.is_none() => "-o FILE keeps what was paid for",
            Some(std::io::ErrorKind::StorageFull) => "free some space, then --resume goes on",
            _ => "--resume goes on once the files can be read and written again",
        }
    }

    fn exit(&self) -> Exit {
        let Outcome {
            ending,
            tally,
            fed,
            signal,
            files,
        } = self.outcome;
        let settled = tally.settled() + fed.results_before + fed.errors_before;
        let complete = ending.complete || self.total.is_some_and(|total| settled >= total);
        match signal {
            _ if files.is_err() => Exit::Failed,
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
        let errors = &self.outcome.tally.errors;
        let some_would_be_retried = errors.keys().any(|status| !status.is_kept_on_resume());
        let useful = match exit {
            Exit::Done => false,
            Exit::SomeErrors => some_would_be_retried,
            _ => true,
        };
        useful.then(|| resume_command(std::env::args()))
    }

    fn explain_halt(&self, failure: &Failure, requests: u64) -> (String, String) {
        let detail = match (failure.http_status, &failure.code) {
            (Some(status), Some(code)) => format!(" ({status} {code})"),
            (Some(status), None) => format!(" ({status})"),
            (None, _) => String::new(),
        };
        let (what, cure) = match failure.kind {
            FailureKind::Auth => ("the provider refuses the key", self.key_advice()),
            FailureKind::Quota => (
                "the provider says that the quota is used up",
                "add credit".to_owned(),
            ),
            FailureKind::NotFound => (
                "the endpoint does not know this address or model",
                "check --base-url and --model".to_owned(),
            ),
            FailureKind::Unreachable => (
                "the server cannot be reached",
                format!("check that {} is right and up", self.base_url()),
            ),
            _ => (
                "the server has been pushing back for too long",
                "try again later".to_owned(),
            ),
        };
        let asked = count(requests, "request");
        let what = format!("{what}{detail}, stopped after {asked}: {}", failure.message);
        let done = self.outcome.tally.settled() + self.outcome.fed.results_before;
        let of = self
            .total
            .map_or(String::new(), |total| format!(" of {}", thousands(total)));
        (
            what,
            format!(
                "{cure}; {}{of} done; then --resume goes on",
                thousands(done)
            ),
        )
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

    fn base_url(&self) -> &str {
        match &self.job.settings.target {
            Target::Endpoint { base_url, .. } => base_url,
            Target::Simulator(_) => "the simulator",
        }
    }
}

/// Repeats the command line with `--resume`, quoted for a shell.
fn resume_command(args: impl Iterator<Item = String>) -> String {
    let mut words: Vec<String> = args.filter(|word| word != "--overwrite").collect();
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
        resume_command(words.iter().map(|word| (*word).to_owned()))
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
