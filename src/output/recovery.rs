//! Opening an output: refused, fresh, or taken up where it ended.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;

use super::Paths;
use super::checkpoint::{InputIdentity, RunIdentity, State};
use super::disk::{Disk, DiskFile};
use super::finished::{Finished, OldErrors};
use super::journal::{Journal, Tail, set_aside, tail_hash};
use super::lock::{Lock, holder};
use super::recorder::{ErrorLog, Sink};
use super::rescue;
use super::spent::{RowCosts, Spending, Spent};
use crate::words::human::{self, count};
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
    pub disk: Disk,
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
        /// The other process, where it is known.
        holder: Option<u32>,
    },
    /// The results are gone, though the checkpoint knows of some.
    Gone {
        path: PathBuf,
        bytes: u64,
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

/// An output that is open for this process alone.
pub struct Opened {
    pub sink: Sink,
    pub finished: Finished,
    pub spent_before: Spent,
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
        holder: holder(&paths.lock),
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
    // Rows that standard output did not take are nobody's but the user's.
    let rescued = paths.results.iter().flat_map(|_| rescue::files(paths));
    let mut files = paths.results.iter().chain(errors).cloned().chain(rescued);
    match files.find(|path| path.exists()) {
        None => Ok(()),
        Some(path) => Err(OpenError::Exists {
            results: count_lines(&path).unwrap_or(0),
            path,
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
    let Request { paths, disk, .. } = request;
    // All that can be refused comes before anything of the old output goes.
    let results = paths.results.as_ref().map(|path| hold(disk, path));
    let results = results.transpose()?;
    let errors = disk.open_or_create(&paths.errors);
    let errors = errors.map_err(at(&paths.errors))?;
    disk.remove_if_any(&paths.checkpoint)
        .map_err(at(&paths.checkpoint))?;
    if results.is_some() {
        rescue::remove_all(paths, disk).map_err(at(&paths.rescue(1)))?;
    }
    let results = results.map(Journal::emptied).transpose();
    let results = results.map_err(at(paths.results.as_deref().unwrap_or(&paths.errors)))?;
    let errors = Journal::emptied(errors).map_err(at(&paths.errors))?;
    Ok(Opened {
        sink: Sink::new((*paths).clone(), results, ErrorLog::fresh(errors), lock),
        finished: Finished::default(),
        spent_before: Spent::default(),
        lengths_before: Lengths::default(),
        notes: Vec::new(),
    })
}

/// Opens the results for this process alone. The lock beside them goes by their name, this one by
/// the file itself, which may have another name too.
fn hold(disk: &Disk, path: &Path) -> Result<DiskFile, OpenError> {
    let file = disk.open_or_create(path).map_err(at(path))?;
    match file.lock() {
        Ok(true) => Ok(file),
        Ok(false) => Err(OpenError::Locked {
            path: path.to_owned(),
            holder: None,
        }),
        // Not every file system knows locks; the one beside has been taken.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(error) => Err(at(path)(error)),
    }
}

fn resume(request: &Request<'_>, lock: Lock) -> Result<Opened, OpenError> {
    let paths = request.paths;
    let path = paths.results.as_ref();
    let path = path.expect("standard output is not resumed");
    let mut notes = Vec::new();
    let state = load(request, path, &mut notes)?;
    let mut results = reopen(hold(&request.disk, path)?, &paths.torn, &mut notes)?;
    let errors = request.disk.open_or_create(&paths.errors);
    let errors = errors.map_err(at(&paths.errors))?;
    let mut errors = reopen(errors, &paths.torn, &mut notes)?;
    let rescued = rescue::take_in(paths, &mut results, &mut errors).map_err(at(path))?;
    notes.extend(rescued);
    let known =
        known_results(request, state.as_ref(), &mut results, &mut notes).map_err(at(path))?;
    let (mut finished, mut rows) = (known.finished, known.rows);
    let counted = state.as_ref().filter(|_| rows.behind_checkpoint);
    let counted = counted.map_or(0, |state| state.errors_bytes);
    let errors = take_up_errors(request, errors, &mut finished, &mut rows, counted)?;
    let spending = Spending::read(state.as_ref(), rows);
    notes.extend(spending.notes);
    Ok(Opened {
        sink: Sink::new(paths.clone(), Some(results), errors, lock),
        finished,
        spent_before: spending.spent,
        lengths_before: state.map(|state| state.lengths).unwrap_or_default(),
        notes,
    })
}

/// Reads the checkpoint, and refuses where it tells of another run or of results that are gone.
fn load(
    request: &Request<'_>,
    results: &Path,
    notes: &mut Vec<String>,
) -> Result<Option<State>, OpenError> {
    let checkpoint = &request.paths.checkpoint;
    let state = match State::load(checkpoint) {
        Ok(state) => state,
        Err(why) => {
            if results.exists() {
                notes.push(format!(
                    "the checkpoint {} {why}: reading the results instead",
                    checkpoint.display()
                ));
            }
            return Ok(None);
        }
    };
    refuse_changes(request, &state)?;
    let is_gone = state.results_bytes > 0 && !results.exists();
    if is_gone && !request.allow_changes && rescue::files(request.paths).is_empty() {
        return Err(OpenError::Gone {
            path: results.to_owned(),
            bytes: state.results_bytes,
        });
    }
    notes.extend(abrupt_end(&state));
    Ok(Some(state))
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

/// Takes a file up and mends its end.
fn reopen(file: DiskFile, torn: &Path, notes: &mut Vec<String>) -> Result<Journal, OpenError> {
    let path = file.path().to_owned();
    let (journal, tail) = Journal::open(file, torn).map_err(at(&path))?;
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
    results: &mut Journal,
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
    } else if let Some(state) = state {
        notes.extend(missing(state, results));
        if state.input.is_some() && request.input.is_some() && state.input != request.input {
            let what = "the input is another than before: an id that has its result keeps it";
            notes.push(what.to_owned());
        }
    }
    // A row's own position counts only where the checkpoint vouches for the input.
    let positions_hold = from > 0;
    let mut strange = Strange::default();
    results.scan(from, |line| {
        let Some(head) = line.head else {
            strange.hear(line.offset, line.text);
            return Ok(());
        };
        // The other form of rows never says, and the checkpoint knew them.
        let is_news = rows.behind_checkpoint || head.index.is_some() || state.is_none();
        rows.known += head.cost.unwrap_or_default();
        rows.unpriced += u64::from(head.cost.is_none() && is_news);
        match head.index.filter(|_| positions_hold) {
            Some(index) => drop(finished.positions.insert(index)),
            None => strange.twice += u64::from(!finished.unplaced.insert(head.id.fingerprint())),
        }
        Ok(())
    })?;
    strange.put_aside(request.paths, results)?;
    notes.extend(strange.notes(results.path(), &request.paths.torn));
    Ok(Known { finished, rows })
}

/// Says that results were lost of which a checkpoint knows.
fn missing(state: &State, results: &Journal) -> Option<String> {
    let missing = state.results_bytes.checked_sub(results.length())?;
    (missing > 0).then(|| {
        format!(
            "{} is {} shorter than it was; what is missing is asked again",
            results.path().display(),
            human::bytes(missing)
        )
    })
}

/// What stands in a results file and should not.
#[derive(Default)]
struct Strange {
    /// Where lines begin that are not even JSON.
    damaged: HashSet<u64>,
    /// The bytes of those.
    bytes: Vec<u8>,
    /// Lines that are JSON and no rows.
    foreign: u64,
    /// Rows of items that have one already.
    twice: u64,
}

impl Strange {
    fn hear(&mut self, offset: u64, text: &[u8]) {
        match serde_json::from_slice::<IgnoredAny>(text) {
            Ok(_) => self.foreign += 1,
            Err(_) => {
                self.damaged.insert(offset);
                self.bytes.extend_from_slice(text);
            }
        }
    }

    /// Takes damaged lines out, so that the file can be read by others, and keeps their bytes.
    fn put_aside(&self, paths: &Paths, results: &mut Journal) -> io::Result<()> {
        if self.damaged.is_empty() {
            return Ok(());
        }
        set_aside(results.disk(), &paths.torn, &self.bytes)?;
        results.rewrite(|line| !self.damaged.contains(&line.offset))?;
        results.handle().lock().map(drop)
    }

    fn notes(&self, results: &Path, torn: &Path) -> Vec<String> {
        let path = results.display();
        let mut notes = Vec::new();
        if !self.damaged.is_empty() {
            let lines = count(self.damaged.len() as u64, "damaged line");
            notes.push(format!(
                "{path}: {lines} set aside in {}; what they held is asked again",
                torn.display()
            ));
        }
        if self.foreign > 0 {
            notes.push(format!(
                "{path}: {} without a row, left as found",
                count(self.foreign, "line")
            ));
        }
        if self.twice > 0 {
            notes.push(format!(
                "{path}: {} of items that have one already",
                count(self.twice, "row")
            ));
        }
        notes
    }
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
/// Costs of the rows behind the first `counted` bytes are added to the others.
fn take_up_errors(
    request: &Request<'_>,
    mut errors: Journal,
    finished: &mut Finished,
    rows: &mut RowCosts,
    counted: u64,
) -> Result<ErrorLog, OpenError> {
    let path = errors.path().to_owned();
    let mut last = HashMap::new();
    let (mut lines, mut foreign, mut bytes) = (0, 0, 0);
    let scan = errors.scan(0, |line| {
        lines += 1;
        bytes += line.text.len() as u64;
        let Some((head, status)) = line.error_row() else {
            foreign += 1;
            return Ok(());
        };
        if bytes > counted {
            let is_answer = status == ErrorStatus::Invalid;
            rows.known += head.cost.unwrap_or_default();
            rows.unpriced += u64::from(head.cost.is_none() && is_answer);
        }
        // Bad lines are found anew by each run, under the name that they then have.
        let fingerprint = head.id.fingerprint();
        if status != ErrorStatus::InvalidInput && !finished.unplaced.contains(&fingerprint) {
            last.insert(fingerprint, (line.number, status));
        }
        Ok(())
    });
    scan.map_err(at(&path))?;
    let stay = last.len() as u64 + foreign;
    if lines > stay {
        let keep: HashSet<u64> = last.values().map(|(row, _)| *row).collect();
        let rewritten =
            errors.rewrite(|line| line.error_row().is_none() || keep.contains(&line.number));
        rewritten.map_err(at(&path))?;
    }
    for (fingerprint, (_, status)) in &last {
        if status.is_kept_on_resume() && !request.retry.contains(status) {
            finished.errors.insert(*fingerprint);
        }
    }
    finished.old_errors = OldErrors::of(last.into_keys().collect());
    Ok(ErrorLog::resumed(errors, finished.old_errors.clone(), stay))
}
