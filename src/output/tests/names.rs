//! The names of the files beside an output.

use std::path::Path;

use super::super::Paths;

#[test]
fn files_stand_beside_each_other() {
    let paths = Paths::beside(Path::new("a/out.jsonl"));
    assert_eq!(paths.errors, Path::new("a/out.errors.jsonl"));
    assert_eq!(paths.checkpoint, Path::new("a/out.checkpoint.json"));
    assert_eq!(paths.lock, Path::new("a/out.lock"));
    assert_eq!(paths.rescue(2), Path::new("a/out.rescue-2.jsonl"));
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
