//! Opening an output: refused, fresh, or taken up where it ended.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Paths;
use super::checkpoint::{InputIdentity, RunIdentity, State};
use super::disk::{Disk, DiskFile, largest_file};
use super::finished::{Finished, OldErrors};
use super::journal::{Journal, Tail};
use super::known::known_results;
use super::lock::{Lock, holder};
use super::recorder::{ErrorLog, Sink};
use super::rescue;
use super::rows::read_head;
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
    /// Bytes that each file must have room for.
    pub room: u64,
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
    /// The file holds something else than results.
    Foreign {
        path: PathBuf,
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
    let made = paths.results.iter().chain([&paths.errors]);
    let made: Vec<_> = made.filter(|path| !path.exists()).collect();
    let opened = match request.mode {
        StartMode::Resume => resume(request, lock),
        StartMode::New | StartMode::Overwrite => fresh(request, lock),
    };
    opened.inspect_err(|_| {
        made.iter()
            .for_each(|path| request.disk.remove_if_empty(path))
    })
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
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
    let is_input = |path: &PathBuf| {
        std::fs::metadata(path)
            .is_ok_and(|output| (input.dev(), input.ino()) == (output.dev(), output.ino()))
    };
    match request.paths.all().into_iter().find(is_input) {
        Some(path) => Err(OpenError::IsInput { path }),
        None => Ok(()),
    }
}

fn fresh(request: &Request<'_>, lock: Lock) -> Result<Opened, OpenError> {
    let Request { paths, disk, .. } = request;
    let results = paths.results.as_ref().map(|path| hold(disk, path));
    let results = results.transpose()?;
    let errors = disk.open_or_create(&paths.errors);
    let errors = errors.map_err(at(&paths.errors))?;
    // All that can be refused comes before anything of the old output goes.
    for file in results.iter().chain([&errors]) {
        refuse_small_disk(file, request.room).map_err(at(file.path()))?;
    }
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
        notes: left_behind(paths),
    })
}

/// Says that an earlier run's rows did not reach standard output.
fn left_behind(paths: &Paths) -> Vec<String> {
    let files = match paths.results {
        Some(_) => Vec::new(),
        None => rescue::files(paths),
    };
    let note = |path: PathBuf| format!("{} holds results of an earlier run", path.display());
    files.into_iter().map(note).collect()
}

/// Refuses a disk that has no room for the first answers, even with the old ones gone.
fn refuse_small_disk(file: &DiskFile, room: u64) -> io::Result<()> {
    let there = file.free()?.saturating_add(file.length()?);
    if largest_file() < room {
        return Err(no_room(room, io::ErrorKind::FileTooLarge));
    }
    match there < room {
        true => Err(no_room(room, io::ErrorKind::StorageFull)),
        false => Ok(()),
    }
}

/// Says that the answers on their way would have no room.
pub fn no_room(bytes: u64, kind: io::ErrorKind) -> io::Error {
    let what = format!(
        "no room for {} of answers on their way",
        human::bytes(bytes)
    );
    io::Error::new(kind, what)
}

/// Opens the results for this process alone. The lock beside them goes by their name, this one by
/// the file itself, which may have another name too.
fn hold(disk: &Disk, path: &Path) -> Result<DiskFile, OpenError> {
    let file = disk.open_or_create(path).map_err(at(path))?;
    refuse_held(&file)?;
    Ok(file)
}

/// Refuses a file that another process has, under whatever name.
pub(super) fn refuse_held(file: &DiskFile) -> Result<(), OpenError> {
    match file.lock().map_err(at(file.path()))? {
        true => Ok(()),
        false => Err(OpenError::Locked {
            path: file.path().to_owned(),
            holder: None,
        }),
    }
}

fn resume(request: &Request<'_>, lock: Lock) -> Result<Opened, OpenError> {
    let paths = request.paths;
    let path = paths.results.as_ref();
    let path = path.expect("standard output is not resumed");
    let mut notes = Vec::new();
    refuse_foreign(path)?;
    let state = load(request, path, &mut notes)?;
    let mut results = reopen(hold(&request.disk, path)?, &paths.torn, &mut notes)?;
    let errors = request.disk.open_or_create(&paths.errors);
    let errors = errors.map_err(at(&paths.errors))?;
    let mut errors = reopen(errors, &paths.torn, &mut notes)?;
    let rescued = rescue::take_in(paths, &mut results, &mut errors).map_err(at(path))?;
    notes.extend(rescued);
    let known = known_results(request, state.as_ref(), &mut results, &mut notes)?;
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

/// Refuses a file that is no output of ours, before it is taken for a damaged one.
fn refuse_foreign(path: &Path) -> Result<(), OpenError> {
    let Ok(file) = File::open(path) else {
        return Ok(());
    };
    let mut is_foreign = false;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).map_err(at(path))? > 0 {
        if read_head(&line).is_some() {
            return Ok(());
        }
        // NUL bytes are what a power cut leaves, and half a row has no end.
        let is_damage = line.iter().all(|byte| matches!(byte, 0 | b'\n'));
        let is_torn = !line.ends_with(b"\n") && line.starts_with(b"{");
        is_foreign |= !(is_damage || is_torn);
        line.clear();
    }
    match is_foreign {
        true => Err(OpenError::Foreign {
            path: path.to_owned(),
        }),
        false => Ok(()),
    }
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
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let rescued: u64 = rescue::files(request.paths)
        .iter()
        .map(|path| size(path))
        .sum();
    let is_gone = !results.exists() && rescued < state.results_bytes;
    if is_gone && !request.allow_changes {
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
