//! The recorder: hears how items end and makes it durable.
//!
//! Order: rows are appended as soon as they are heard, synced in groups, and only then does a
//! checkpoint speak of them. So a killed process loses nothing that was appended, a power cut at
//! most the last group, and the checkpoint never claims more than the results file holds.

mod ending;
mod error_log;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use roaring::RoaringTreemap;

use super::Paths;
use super::checkpoint::{InputIdentity, RunIdentity, State};
use super::journal::{Journal, tail_hash};
use super::lock::Lock;
use super::recovery::no_room;
use super::rows::{self, Format};
use super::spent::Spent;
use super::syncer::{SyncError, Syncer};
pub use ending::Failed;
pub use error_log::ErrorLog;

use crate::words::event::Gauges;
use crate::words::lengths::Lengths;
use crate::words::money::Usd;
use crate::words::record::{Outcome, Record};
use crate::words::tariff::{Bill, Charge};
use crate::words::tokens::Tokens;

/// A group of rows is synced at this age or size.
const GROUP_AGE: Duration = Duration::from_millis(50);
const GROUP_BYTES: u64 = 256 << 10;
/// How often a sync on its way is looked after.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// What is not durable is in memory too; beyond this, the disk is waited for.
const MOST_UNSYNCED: u64 = 16 << 20;
/// The room that an answer is thought to need as long as none was larger.
const USUAL_ROW: u64 = 2 << 10;
/// A snapshot holds a bit for every item, so a fast run does not take one at every turn.
const CHECKPOINT_GAP: Duration = Duration::from_secs(1);

/// Where rows go, open for this process alone.
pub struct Sink {
    paths: Paths,
    /// `None` for standard output.
    results: Option<Journal>,
    errors: ErrorLog,
    _lock: Lock,
}

impl Sink {
    pub fn new(paths: Paths, results: Option<Journal>, errors: ErrorLog, lock: Lock) -> Self {
        Sink {
            paths,
            results,
            errors,
            _lock: lock,
        }
    }
}

/// How rows are written and what the checkpoint says of the run.
pub struct RecorderSettings {
    pub format: Format,
    pub lean: bool,
    pub checkpoint_every: u64,
    pub run: RunIdentity,
    pub input: Option<InputIdentity>,
    /// Positions of items with results, if positions are known.
    pub finished: Option<RoaringTreemap>,
    pub spent_before: Spent,
    pub lengths_before: Lengths,
    /// With a budget: what may be spent until the next snapshot.
    pub ceiling: Option<Usd>,
    /// Requests that may be on their way at a time.
    pub in_flight: u64,
    pub gauges: Arc<Gauges>,
}

/// Writes rows, errors and checkpoints.
pub struct Recorder {
    sink: Sink,
    settings: RecorderSettings,
    spent: Spent,
    lengths: Lengths,
    results_buffer: Vec<u8>,
    errors_buffer: Vec<u8>,
    largest_row: u64,
    syncer: Syncer,
    /// The lengths that the sync on its way makes durable.
    syncing: FileLengths,
    /// The ceiling of the newest snapshot, and of the newest one that is durable.
    syncing_ceiling: Option<Usd>,
    durable_ceiling: Option<Usd>,
    /// When the first row was appended that no sync covers yet.
    group_since: Option<Instant>,
    since_checkpoint: u64,
    last_checkpoint: Instant,
    /// Attempts without a row cost something, or may have, since the newest snapshot.
    has_unsaved_bills: bool,
}

/// Writes to standard output. After an error the buffer holds only what did not go out, so that
/// nothing is written twice.
fn write_out(buffer: &mut Vec<u8>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    while !buffer.is_empty() {
        // Whole lines pass the library's own buffer untouched; what is left in it is flushed.
        match stdout
            .write(buffer)
            .and_then(|written| stdout.flush().map(|()| written))
        {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => drop(buffer.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Appends a buffer, which keeps its lines where that fails.
fn append(journal: &mut Journal, buffer: &mut Vec<u8>) -> io::Result<()> {
    if buffer.is_empty() {
        return Ok(());
    }
    journal
        .append(std::mem::take(buffer))
        .map_err(|(error, lines)| {
            *buffer = lines;
            of_file(journal.path(), &error)
        })
}

/// Names the file in an error.
fn of_file(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Returns the bytes that each file should have room for before anything is asked.
pub fn first_room(in_flight: u64) -> u64 {
    room(in_flight, USUAL_ROW)
}

/// Returns the room for all answers on their way, which may be larger than the largest so far.
fn room(in_flight: u64, largest_row: u64) -> u64 {
    (in_flight + 1) * 2 * largest_row
}

/// Whether a snapshot is the last one of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    No,
    Orderly,
}

/// How long the two files were at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct FileLengths {
    results: u64,
    errors: u64,
}

impl Recorder {
    /// Takes over an open output and writes the first checkpoint, so that the run is known from
    /// its start.
    pub fn start(sink: Sink, settings: RecorderSettings) -> io::Result<Self> {
        let mut recorder = Recorder {
            spent: Spent {
                ceiling: settings.ceiling,
                ..settings.spent_before
            },
            lengths: settings.lengths_before.clone(),
            syncing: FileLengths::default(),
            syncing_ceiling: None,
            durable_ceiling: None,
            sink,
            settings,
            results_buffer: Vec::new(),
            errors_buffer: Vec::new(),
            largest_row: USUAL_ROW,
            syncer: Syncer::start()?,
            group_since: None,
            since_checkpoint: 0,
            last_checkpoint: Instant::now(),
            has_unsaved_bills: false,
        };
        recorder.begin().inspect_err(|_| {
            for journal in recorder.journals() {
                journal.disk().remove_if_empty(journal.path());
            }
        })?;
        Ok(recorder)
    }

    fn journals(&self) -> impl Iterator<Item = &Journal> {
        self.sink.results.iter().chain([&self.sink.errors.journal])
    }

    fn begin(&mut self) -> io::Result<()> {
        self.make_room()?;
        self.begin_sync(Some(Ended::No))?;
        self.finish_sync()
    }

    /// Takes a record in. It is on its way to the file with the next [`append`](Self::append).
    pub fn take(&mut self, record: &Record) {
        let buffer = match &record.outcome {
            Outcome::Ok { .. } => &mut self.results_buffer,
            Outcome::Error { .. } => &mut self.errors_buffer,
        };
        let before = buffer.len();
        rows::write(record, self.settings.format, self.settings.lean, buffer);
        self.largest_row = self.largest_row.max((buffer.len() - before) as u64);
        self.sink.errors.supersede(record.id.fingerprint());
        self.since_checkpoint += 1;
        self.book(&record.bill);
        if let Outcome::Ok { .. } = &record.outcome
            && let Some(finished) = &mut self.settings.finished
        {
            finished.insert(record.index);
        }
    }

    /// Takes in what an attempt cost that brought no row.
    pub fn take_bill(&mut self, bill: &Bill) {
        self.book(bill);
        self.has_unsaved_bills |= bill.charge != Charge::Nothing && self.sink.results.is_some();
    }

    fn book(&mut self, bill: &Bill) {
        self.spent.add(bill);
        if let Some(usage) = bill.usage.filter(|usage| usage.completion > Tokens(0)) {
            self.lengths.add(usage.completion);
        }
    }

    /// Wants a ceiling of spending written down; it stands once
    /// [`ceiling`](Self::ceiling) returns it.
    pub fn raise_ceiling(&mut self, ceiling: Usd) {
        self.spent.ceiling = self.spent.ceiling.max(Some(ceiling));
    }

    /// Returns the ceiling that is durable. Standard output is not resumed, so nothing needs to
    /// be written down for it.
    pub fn ceiling(&self) -> Option<Usd> {
        match self.sink.results {
            Some(_) => self.durable_ceiling,
            None => self.spent.ceiling,
        }
    }

    fn ceiling_is_due(&self) -> bool {
        self.sink.results.is_some() && self.spent.ceiling > self.syncing_ceiling
    }

    /// Appends what was taken in, whole lines in one write a file. After an error it stays with
    /// the recorder.
    pub fn append(&mut self) -> io::Result<()> {
        let appended = !(self.results_buffer.is_empty() && self.errors_buffer.is_empty());
        match &mut self.sink.results {
            Some(journal) => append(journal, &mut self.results_buffer)?,
            None => write_out(&mut self.results_buffer)?,
        }
        append(&mut self.sink.errors.journal, &mut self.errors_buffer)?;
        if appended {
            self.group_since.get_or_insert_with(Instant::now);
        }
        self.hold_back()
    }

    /// Waits for a disk that is slower than the answers come.
    fn hold_back(&mut self) -> io::Result<()> {
        while self.unsynced() > MOST_UNSYNCED {
            if !self.syncer.is_busy() {
                self.begin_sync(None)?;
            }
            self.finish_sync()?;
        }
        Ok(())
    }

    /// Sets space aside for all answers that may be on their way, such that none is paid for that
    /// has no room. An error means that no other should be asked for; what is on its way has room
    /// from before.
    pub fn make_room(&mut self) -> io::Result<()> {
        let bytes = room(self.settings.in_flight, self.largest_row);
        let Sink {
            results, errors, ..
        } = &mut self.sink;
        for journal in results.iter_mut().chain([&mut errors.journal]) {
            journal.reserve(bytes).map_err(|error| {
                let path = journal.path().display();
                let what = no_room(bytes, error.kind());
                io::Error::new(error.kind(), format!("{path}: {what}"))
            })?;
        }
        Ok(())
    }

    fn unsynced(&self) -> u64 {
        let results = self.sink.results.as_ref().map_or(0, Journal::unsynced);
        results + self.sink.errors.journal.unsynced()
    }

    /// Returns when to look again: at the end of a sync that is on its way, or when the group
    /// that is waiting is due.
    pub fn sync_due(&self) -> Option<Instant> {
        if self.syncer.is_busy() {
            return Some(Instant::now() + LOOK_AGAIN);
        }
        let full = self.unsynced() >= GROUP_BYTES;
        let group = self
            .group_since
            .map(|since| if full { since } else { since + GROUP_AGE });
        // No row tells of them, so only a snapshot does.
        let bills = self
            .has_unsaved_bills
            .then(|| self.last_checkpoint + CHECKPOINT_GAP);
        group.into_iter().chain(bills).min()
    }

    /// Begins to sync the waiting group if it is due, with a checkpoint if one is due. A sync
    /// that failed comes back as an error, once; what it left is never called durable.
    pub fn commit(&mut self) -> io::Result<()> {
        if let Some(outcome) = self.syncer.ended() {
            self.note_sync(outcome)?;
        }
        let now = Instant::now();
        let ceiling_is_due = self.ceiling_is_due();
        let group_is_due = self.sync_due().is_some_and(|due| due <= now);
        if self.syncer.is_busy() || !(ceiling_is_due || group_is_due) {
            return Ok(());
        }
        self.check_places()?;
        let is_wanted =
            self.has_unsaved_bills || self.since_checkpoint >= self.settings.checkpoint_every;
        let checkpoint = is_wanted && now - self.last_checkpoint >= CHECKPOINT_GAP;
        self.begin_sync((checkpoint || ceiling_is_due).then_some(Ended::No))
    }

    fn check_places(&self) -> io::Result<()> {
        self.sink
            .results
            .iter()
            .try_for_each(Journal::check_place)?;
        self.sink.errors.journal.check_place()
    }

    /// Hands what is appended to the syncing thread and, behind it, the snapshot that speaks
    /// of it.
    fn begin_sync(&mut self, checkpoint: Option<Ended>) -> io::Result<()> {
        let Sink {
            results,
            errors,
            paths,
            ..
        } = &self.sink;
        let results_path = paths.results.clone();
        let results_file = results.as_ref().map(Journal::handle);
        let errors_file = (errors.journal.unsynced() > 0).then(|| errors.journal.handle());
        self.syncing = FileLengths {
            results: results.as_ref().map_or(0, Journal::length),
            errors: errors.journal.length(),
        };
        // Standard output cannot be resumed.
        let state = checkpoint
            .filter(|_| results.is_some())
            .map(|ended| self.state(ended));
        let checkpoint_path = paths.checkpoint.clone();
        if let Some(state) = &state {
            self.since_checkpoint = 0;
            self.has_unsaved_bills = false;
            self.last_checkpoint = Instant::now();
            self.syncing_ceiling = state.spent.ceiling;
        }
        self.group_since = None;
        let disk = errors.journal.disk().clone();
        self.syncer.begin(Box::new(move || {
            for file in results_file.iter().chain(&errors_file) {
                let synced = file.sync().map_err(|error| of_file(file.path(), &error));
                synced.map_err(SyncError::Rows)?;
            }
            let (Some(mut state), Some(path)) = (state, results_path) else {
                return Ok(());
            };
            let saved = tail_hash(&path, state.results_bytes).and_then(|hash| {
                state.results_tail = hash;
                state.save(&disk, &checkpoint_path)
            });
            saved.map_err(|error| SyncError::Checkpoint(of_file(&checkpoint_path, &error)))
        }))
    }

    fn finish_sync(&mut self) -> io::Result<()> {
        match self.syncer.wait() {
            Some(outcome) => self.note_sync(outcome),
            None => Ok(()),
        }
    }

    fn note_sync(&mut self, outcome: Result<(), SyncError>) -> io::Result<()> {
        let Sink {
            results, errors, ..
        } = &mut self.sink;
        if let Err(SyncError::Rows(error)) = outcome {
            results.iter_mut().for_each(Journal::distrust);
            errors.journal.distrust();
            return Err(error);
        }
        if let Some(results) = results {
            results.mark_synced(self.syncing.results);
        }
        errors.journal.mark_synced(self.syncing.errors);
        if let Err(SyncError::Checkpoint(error)) = outcome {
            return Err(error);
        }
        self.durable_ceiling = self.syncing_ceiling;
        Ok(())
    }

    /// Returns the snapshot of the moment; its rows are the ones that are being synced.
    fn state(&self, ended: Ended) -> State {
        let settings = &self.settings;
        let mut state = State {
            run: settings.run.clone(),
            input: settings.input,
            results_bytes: self.syncing.results,
            errors_bytes: self.syncing.errors,
            spent: Spent {
                requests: settings.spent_before.requests + settings.gauges.sent.value(),
                ..self.spent
            },
            lengths: self.lengths.clone(),
            clean: ended == Ended::Orderly,
            in_flight: settings.in_flight,
            ..State::default()
        };
        if let Some(finished) = &settings.finished {
            state.set_finished(finished);
        }
        state
    }
}
