//! Opening an output: refused, fresh, or taken up where it ended.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use roaring::RoaringTreemap;

use super::Paths;
use super::checkpoint::{InputIdentity, RunIdentity, State};
use super::journal::{Journal, Tail, replace, tail_hash};
use super::lock::Lock;
use super::recorder::{ErrorLog, Sink};
use super::spent::{RowCosts, Spending, Spent};
use crate::words::human::{count, thousands};
use crate::words::item::ItemId;
use crate::words::lengths::Lengths;
use crate::words::record::ErrorStatus;

/// What to do with an output that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartMode {
    /// Nothing may be in the way.
    New,
    Resume,
    Overwrite,
}

/// What a run wants to write, and where.
#[derive(Debug)]
pub struct Request<'a> {
    pub paths: &'a Paths,
    pub mode: StartMode,
    /// The input file, which must not be one of the outputs.
    pub input_path: &'a Path,
    pub input: Option<InputIdentity>,
    pub run: &'a RunIdentity,
    pub allow_changes: bool,
    /// Error rows of these statuses are asked again, beside those that always are.
    pub retry: &'a [ErrorStatus],
}

/// Why an output cannot be opened. Nothing was sent.
#[derive(Debug)]
pub enum OpenError {
    /// A file stands in the way.
    Exists {
        path: PathBuf,
        results: u64,
    },
    /// Another process is at work on this output.
    Locked {
        path: PathBuf,
    },
    /// The checkpoint is of another run.
    Changed {
        path: PathBuf,
        differences: Vec<String>,
    },
    /// The output would overwrite the input.
    IsInput {
        path: PathBuf,
    },
    Io {
        path: PathBuf,
        error: io::Error,
    },
}

/// What need not be asked.
#[derive(Debug, Default)]
pub struct Finished {
    /// Positions of items with a result, as far as they are known.
    positions: RoaringTreemap,
    /// Fingerprints of results whose position is not known.
    unplaced: HashSet<u128>,
    /// Fingerprints of error rows that stay.
    errors: HashSet<u128>,
    old_errors: OldErrors,
}

/// The rows that stood in the errors file at the start, and those of them that gave way since.
#[derive(Debug, Clone, Default)]
pub struct OldErrors {
    ids: Arc<HashSet<u128>>,
    superseded: Arc<Mutex<HashSet<u128>>>,
}

impl OldErrors {
    fn of(ids: HashSet<u128>) -> Self {
        OldErrors {
            ids: Arc::new(ids),
            superseded: Arc::default(),
        }
    }

    /// Notes that another row speaks of an item now.
    pub fn supersede(&self, fingerprint: u128) {
        if self.ids.contains(&fingerprint) {
            self.lock().insert(fingerprint);
        }
    }

    /// Returns the items whose old row gave way.
    pub fn superseded(&self) -> HashSet<u128> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<u128>> {
        self.superseded
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

/// The final row that an item has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalRow {
    Result,
    Error,
}

impl Finished {
    /// Tells whether an item has its final row already.
    pub fn row(&self, index: u64, id: &ItemId) -> Option<FinalRow> {
        if self.has_result(index, id) {
            // A crash can leave both rows behind; the result is the one that counts.
            self.old_errors.supersede(id.fingerprint());
            return Some(FinalRow::Result);
        }
        let is_error = !self.errors.is_empty() && self.errors.contains(&id.fingerprint());
        is_error.then_some(FinalRow::Error)
    }

    fn has_result(&self, index: u64, id: &ItemId) -> bool {
        self.positions.contains(index)
            || !self.unplaced.is_empty() && self.unplaced.contains(&id.fingerprint())
    }

    /// Tells whether one reading of the input would put results in their positions.
    pub fn lacks_positions(&self) -> bool {
        !self.unplaced.is_empty()
    }

    /// Puts an item of the input in its position.
    pub fn place(&mut self, index: u64, id: &ItemId) {
        if self.unplaced.contains(&id.fingerprint()) {
            self.positions.insert(index);
        }
    }

    /// Ends the placing: results of items that are not in the input have no position.
    pub fn all_placed(&mut self) {
        self.unplaced = HashSet::new();
    }

    /// Returns how many of the first items of the input have a result.
    pub fn results_before(&self, end: u64) -> u64 {
        end.checked_sub(1)
            .map_or(0, |last| self.positions.rank(last))
    }

    /// Returns how many error rows stay.
    pub fn errors(&self) -> u64 {
        self.errors.len() as u64
    }

    pub fn positions(&self) -> &RoaringTreemap {
        &self.positions
    }
}

/// An output that is open for this process alone.
pub struct Opened {
    pub sink: Sink,
    pub finished: Finished,
    pub spent_before: Spent,
    /// Requests of earlier runs that were, or may have been, charged and whose cost nobody knows.
    pub unaccounted: u64,
    /// How long the answers of earlier runs were.
    pub lengths_before: Lengths,
    /// What the user should know about the files as they were found.
    pub notes: Vec<String>,
}

/// Opens the output as asked.
pub fn open(request: &Request<'_>) -> Result<Opened, OpenError> {
    let paths = request.paths;
    refuse_input_as_output(request)?;
    let lock = Lock::take(&paths.lock).map_err(at(&paths.lock))?;
    let lock = lock.ok_or_else(|| OpenError::Locked {
        path: paths.lock.clone(),
    })?;
    // Under the lock: another run may have ended since anybody looked.
    if request.mode == StartMode::New {
        refuse_existing(paths)?;
    }
    match request.mode {
        StartMode::Resume => resume(request, lock),
        StartMode::New | StartMode::Overwrite => fresh(request, lock),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |error| OpenError::Io { path, error }
}

/// Refuses before anything is touched where a file of an earlier run is in the way.
pub fn refuse_existing(paths: &Paths) -> Result<(), OpenError> {
    // An empty errors file beside no results is what a refused or piped run leaves at most.
    let errors = Some(&paths.errors)
        .filter(|path| std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0));
    let mut files = paths.results.iter().chain(errors);
    match files.find(|path| path.exists()) {
        None => Ok(()),
        Some(path) => Err(OpenError::Exists {
            path: path.clone(),
            results: count_lines(path).unwrap_or(0),
        }),
    }
}

fn count_lines(path: &Path) -> io::Result<u64> {
    use io::Read;
    let mut file = File::open(path)?;
    let (mut chunk, mut lines) = (vec![0; 256 << 10], 0);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(lines),
            n => lines += memchr::memchr_iter(b'\n', &chunk[..n]).count() as u64,
        }
    }
}

fn refuse_input_as_output(request: &Request<'_>) -> Result<(), OpenError> {
    let Ok(input) = std::fs::metadata(request.input_path) else {
        return Ok(());
    };
    let paths = request.paths;
    for path in
        paths
            .results
            .iter()
            .chain([&paths.errors, &paths.checkpoint, &paths.lock, &paths.torn])
    {
        if let Ok(output) = std::fs::metadata(path)
            && (input.dev(), input.ino()) == (output.dev(), output.ino())
        {
            return Err(OpenError::IsInput { path: path.clone() });
        }
    }
    Ok(())
}

fn fresh(request: &Request<'_>, lock: Lock) -> Result<Opened, OpenError> {
    let paths = request.paths;
    match std::fs::remove_file(&paths.checkpoint) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(at(&paths.checkpoint)(error));
        }
        _ => {}
    }
    let results = match &paths.results {
        Some(path) => Some(Journal::create(path).map_err(at(path))?),
        None => None,
    };
    let errors = Journal::create(&paths.errors).map_err(at(&paths.errors))?;
    Ok(Opened {
        sink: Sink::new(paths.clone(), results, ErrorLog::fresh(errors), lock),
        finished: Finished::default(),
        spent_before: Spent::default(),
        unaccounted: 0,
        lengths_before: Lengths::default(),
        notes: Vec::new(),
    })
}

fn resume(request: &Request<'_>, lock: Lock) -> Result<Opened, OpenError> {
    let paths = request.paths;
    let mut notes = Vec::new();
    let state = match State::load(&paths.checkpoint) {
        Ok(state) => Some(state),
        Err(why) => {
            let anything = paths.results.iter().any(|path| path.exists());
            if anything {
                notes.push(format!(
                    "the checkpoint {} {why}: reading the results instead",
                    paths.checkpoint.display()
                ));
            }
            None
        }
    };
    if let Some(state) = &state {
        refuse_changes(request, state)?;
        notes.extend(abrupt_end(state));
    }
    let path = paths
        .results
        .as_ref()
        .expect("standard output is not resumed");
    let results = reopen(path, &paths.torn, &mut notes)?;
    let known = known_results(request, state.as_ref(), &results, &mut notes).map_err(at(path))?;
    let spending = Spending::read(state.as_ref(), known.rows);
    notes.extend(spending.notes);
    let errors = reopen(&paths.errors, &paths.torn, &mut notes)?;
    let mut finished = known.finished;
    let errors = take_up_errors(request, errors, &mut finished)?;
    Ok(Opened {
        sink: Sink::new(paths.clone(), Some(results), errors, lock),
        finished,
        spent_before: spending.spent,
        unaccounted: spending.unaccounted,
        lengths_before: state.map(|state| state.lengths).unwrap_or_default(),
        notes,
    })
}

fn refuse_changes(request: &Request<'_>, state: &State) -> Result<(), OpenError> {
    let differences = state.run.differences(request.run);
    if request.allow_changes || differences.is_empty() {
        return Ok(());
    }
    Err(OpenError::Changed {
        path: request.paths.checkpoint.clone(),
        differences,
    })
}

fn abrupt_end(state: &State) -> Option<String> {
    (!state.clean && state.in_flight > 0).then(|| {
        format!(
            "the run before ended abruptly: up to {} may have been on their way, and are asked again",
            count(state.in_flight, "request")
        )
    })
}

/// Opens a file for appending and mends its end, or creates it.
fn reopen(path: &Path, torn: &Path, notes: &mut Vec<String>) -> Result<Journal, OpenError> {
    if !path.exists() {
        return Journal::create(path).map_err(at(path));
    }
    let (journal, tail) = Journal::open(path, torn).map_err(at(path))?;
    match tail {
        Tail::Whole => {}
        Tail::Completed => notes.push(format!("{}: the last row was kept", path.display())),
        Tail::Torn(bytes) => notes.push(format!(
            "{}: the last row was torn; its {} are set aside in {}",
            path.display(),
            count(bytes, "byte"),
            torn.display()
        )),
    }
    Ok(journal)
}

/// What the results file and its checkpoint tell.
struct Known {
    finished: Finished,
    /// What the rows that were read cost.
    rows: RowCosts,
}

/// Finds out which items have results: from the checkpoint and the rows after it, else from all
/// rows.
fn known_results(
    request: &Request<'_>,
    state: Option<&State>,
    results: &Journal,
    notes: &mut Vec<String>,
) -> io::Result<Known> {
    let mut finished = Finished::default();
    let (mut from, mut rows) = (0, RowCosts::default());
    if let Some(state) = state.filter(|state| is_true_of(state, request, results))
        && let Some(positions) = state.finished()
    {
        finished.positions = positions;
        from = state.results_bytes;
        rows.behind_checkpoint = true;
    }
    // A row's own position counts only where the checkpoint vouches for the input.
    let positions_hold = from > 0;
    let mut damaged = Vec::new();
    results.scan(from, |line| {
        let Some(head) = line.head else {
            damaged.push(line.number + 1);
            return Ok(());
        };
        rows.add(head.cost);
        match head.index.filter(|_| positions_hold) {
            Some(index) => drop(finished.positions.insert(index)),
            None => drop(finished.unplaced.insert(head.id.fingerprint())),
        }
        Ok(())
    })?;
    if !damaged.is_empty() {
        notes.push(format!(
            "{}: {} hold no row (the first is line {}{}); their items are asked again",
            results.path().display(),
            count(damaged.len() as u64, "line"),
            thousands(damaged[0]),
            if from > 0 {
                " behind the checkpoint"
            } else {
                ""
            },
        ));
    }
    Ok(Known { finished, rows })
}

/// Tells whether a checkpoint speaks of this input and of this very results file.
fn is_true_of(state: &State, request: &Request<'_>, results: &Journal) -> bool {
    state.input.is_some()
        && state.input == request.input
        && state.results_bytes <= results.length()
        && tail_hash(results.path(), state.results_bytes)
            .is_ok_and(|tail| tail == state.results_tail)
}

/// Reads the errors file: which rows stay, which items are asked again. Rows of which a later one
/// speaks are dropped here; a row's own position is not believed, since it may be of another input.
fn take_up_errors(
    request: &Request<'_>,
    errors: Journal,
    finished: &mut Finished,
) -> Result<ErrorLog, OpenError> {
    let path = errors.path().to_owned();
    let mut last = HashMap::new();
    let (mut lines, mut foreign) = (0, 0);
    let scan = errors.scan(0, |line| {
        lines += 1;
        let Some(head) = line.head else {
            foreign += 1;
            return Ok(());
        };
        // Bad lines are found anew by each run, under the name that they then have.
        let status = head
            .error
            .filter(|status| *status != ErrorStatus::InvalidInput);
        let fingerprint = head.id.fingerprint();
        if let Some(status) = status
            && !finished.unplaced.contains(&fingerprint)
        {
            last.insert(fingerprint, (line.number, status));
        }
        Ok(())
    });
    scan.map_err(at(&path))?;
    let stay = last.len() as u64 + foreign;
    let errors = if lines > stay {
        let keep: HashSet<u64> = last.values().map(|(row, _)| *row).collect();
        compact(errors, |row, _| keep.contains(&row)).map_err(at(&path))?
    } else {
        errors
    };
    for (fingerprint, (_, status)) in &last {
        if status.is_kept_on_resume() && !request.retry.contains(status) {
            finished.errors.insert(*fingerprint);
        }
    }
    finished.old_errors = OldErrors::of(last.into_keys().collect());
    Ok(ErrorLog::resumed(errors, finished.old_errors.clone(), stay))
}

/// Rewrites a file with only those rows that `keep` says, by line number from 0 and fingerprint.
/// Lines that are no rows of ours stay.
pub fn compact(journal: Journal, keep: impl Fn(u64, u128) -> bool) -> io::Result<Journal> {
    let path = journal.path().to_owned();
    replace(&path, |out| {
        journal.scan(0, |line| match line.head {
            Some(head) if !keep(line.number, head.id.fingerprint()) => Ok(()),
            _ => out.write_all(line.text),
        })
    })?;
    Journal::open_whole(&path)
}
