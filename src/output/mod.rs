//! The door that answers leave by: which files there are, who may write them, what they hold.
//!
//! For output `out.jsonl`: errors in `out.errors.jsonl`, checkpoint in `out.checkpoint.json`,
//! lock in `out.lock`, torn bytes set aside in `out.torn`, and rows that the disk did not take in
//! `out.rescue-1.jsonl` until the next run takes them in.

mod answered;
pub mod checkpoint;
mod disk;
mod finished;
mod journal;
mod known;
mod lock;
mod recorder;
mod recovery;
mod rescue;
mod rows;
mod spent;
mod syncer;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

pub use answered::{Answered, each_row, read_answered, read_failed};
pub use disk::{Change, Disk, Witness};
pub use finished::{FinalRow, Finished};
pub use recorder::{Failed, Recorder, RecorderSettings, Sink, first_room};
pub use recovery::{OpenError, Opened, Request, StartMode, open, refuse_existing};
pub use rescue::Rescue;
pub use rows::Format;
pub use spent::Spent;

/// The files of one output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// `None` for standard output.
    pub results: Option<PathBuf>,
    pub errors: PathBuf,
    pub checkpoint: PathBuf,
    pub lock: PathBuf,
    pub torn: PathBuf,
    stem: PathBuf,
    /// The stem of rescue files among temporary ones, where outputs of all folders meet. Found when
    /// the run begins: its folder may go away under it.
    elsewhere: PathBuf,
}

impl Paths {
    /// Names the files beside a results file.
    pub fn beside(results: &Path) -> Self {
        let stem = without_ending(results);
        Paths {
            results: Some(results.to_owned()),
            ..Self::from_stem(&stem)
        }
    }

    /// Names the files of a run whose results go to standard output. They do not collide with
    /// those of a run with a results file.
    pub fn for_stdout(input: &Path) -> Self {
        let mut stem = Self::stem_of(input).into_os_string();
        stem.push(".stdout");
        Self::from_stem(Path::new(&stem))
    }

    /// Returns an input's name without its ending.
    fn stem_of(input: &Path) -> PathBuf {
        match input == Path::new("-") {
            true => PathBuf::from("stdin"),
            false => without_ending(input),
        }
    }

    fn from_stem(stem: &Path) -> Self {
        let with = |suffix: &str| with_suffix(stem, suffix);
        Paths {
            stem: stem.to_owned(),
            elsewhere: stem_elsewhere(stem),
            results: None,
            errors: with(".errors.jsonl"),
            checkpoint: with(".checkpoint.json"),
            lock: with(".lock"),
            torn: with(".torn"),
        }
    }

    /// Returns all files that a run of this output may write, replace or remove.
    pub fn all(&self) -> Vec<PathBuf> {
        let beside = [&self.errors, &self.checkpoint, &self.lock, &self.torn];
        let mut all: Vec<_> = self.results.iter().chain(beside).cloned().collect();
        all.extend(rescue::files(self));
        all
    }

    /// Names the file for rows that the output did not take, by its number.
    pub fn rescue(&self, number: u32) -> PathBuf {
        with_suffix(&self.stem, &rescue_suffix(number))
    }

    /// Names such a file in the system's folder for temporary files.
    pub fn rescue_elsewhere(&self, number: u32) -> PathBuf {
        with_suffix(&self.elsewhere, &rescue_suffix(number))
    }

    /// Returns the results file for an input that names none: `input.jsonl` gives
    /// `input.results.jsonl`, standard input gives `stdin.results.jsonl`.
    pub fn default_results(input: &Path) -> PathBuf {
        let mut name = Self::stem_of(input).into_os_string();
        name.push(".results.jsonl");
        name.into()
    }
}

/// Returns a name that no output of another folder has.
fn stem_elsewhere(stem: &Path) -> PathBuf {
    let folder = disk::folder(stem);
    let folder = std::fs::canonicalize(folder).or_else(|_| std::path::absolute(folder));
    let name = stem.file_name().unwrap_or_default();
    let place = folder.unwrap_or_default().join(name);
    let hash = xxh3_64(place.as_os_str().as_bytes());
    std::env::temp_dir().join(with_suffix(Path::new(name), &format!("-{hash:016x}")))
}

fn rescue_suffix(number: u32) -> String {
    format!(".rescue-{number}.jsonl")
}

fn with_suffix(stem: &Path, suffix: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Takes a line file's ending off. Any other ending is part of the name: `a.x` and `a.y` are two
/// outputs, and must not share an errors file.
fn without_ending(path: &Path) -> PathBuf {
    let known = ["jsonl", "ndjson", "json"];
    let ending = path.extension().and_then(|ending| ending.to_str());
    match ending.is_some_and(|ending| known.contains(&ending)) {
        true => path.with_extension(""),
        false => path.to_owned(),
    }
}

#[cfg(test)]
mod tests;
