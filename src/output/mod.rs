//! The door that answers leave by: which files there are, who may write them, what they hold.
//!
//! For output `out.jsonl`: errors in `out.errors.jsonl`, checkpoint in `out.checkpoint.json`,
//! lock in `out.lock`, and torn bytes set aside in `out.torn`.

mod answered;
pub mod checkpoint;
mod journal;
mod lock;
mod recorder;
mod recovery;
mod rows;
mod spent;
mod syncer;

use std::path::{Path, PathBuf};

pub use answered::{Answered, each_row, read_answered, read_failed};
pub use recorder::{Recorder, RecorderSettings, Sink};
pub use recovery::{
    FinalRow, Finished, OpenError, Opened, Request, StartMode, open, refuse_existing,
};
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
        let with = |suffix: &str| {
            let mut name = stem.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        Paths {
            results: None,
            errors: with(".errors.jsonl"),
            checkpoint: with(".checkpoint.json"),
            lock: with(".lock"),
            torn: with(".torn"),
        }
    }

    /// Returns the results file for an input that names none: `input.jsonl` gives
    /// `input.results.jsonl`, standard input gives `stdin.results.jsonl`.
    pub fn default_results(input: &Path) -> PathBuf {
        let mut name = Self::stem_of(input).into_os_string();
        name.push(".results.jsonl");
        name.into()
    }
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
mod tests {
    use super::*;

    #[test]
    fn files_stand_beside_each_other() {
        let paths = Paths::beside(Path::new("a/out.jsonl"));
        assert_eq!(paths.errors, Path::new("a/out.errors.jsonl"));
        assert_eq!(paths.checkpoint, Path::new("a/out.checkpoint.json"));
        assert_eq!(paths.lock, Path::new("a/out.lock"));
    }

    #[test]
    fn outputs_that_differ_in_their_ending_share_nothing() {
        let lock = |name: &str| Paths::beside(Path::new(name)).lock;
        assert_ne!(lock("run.a"), lock("run.b"));
        assert_ne!(lock("x.lock"), Path::new("x.lock"));
        assert_eq!(lock("run.ndjson"), Path::new("run.lock"));
    }

    #[test]
    fn an_input_gives_its_name_to_the_output() {
        let results = Paths::default_results(Path::new("a/in.jsonl"));
        assert_eq!(results, Path::new("a/in.results.jsonl"));
        assert_eq!(
            Paths::beside(&results).errors,
            Path::new("a/in.results.errors.jsonl")
        );
        let stdin = Paths::for_stdout(Path::new("-"));
        assert_eq!(stdin.errors, Path::new("stdin.stdout.errors.jsonl"));
        assert_eq!(stdin.results, None);
    }
}
