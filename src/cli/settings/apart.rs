//! No file that a run reads is one that it writes, under whatever name.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Result;

use crate::cli::args::RunArgs;
use crate::cli::refusal::Refusal;
use crate::output::Paths;

/// A file on a device, whatever its name.
#[derive(PartialEq, Eq)]
struct Identity(u64, u64);

/// Refuses an output that is one of the files that tell the run what to do; the lines themselves
/// are compared where the output is opened.
pub fn keep_apart(args: &RunArgs, paths: &Paths) -> Result<()> {
    let written = written(paths);
    for (what, read) in read(args) {
        if let Some((name, _)) = written.iter().find(|(_, file)| *file == read) {
            return Err(
                Refusal::new(format!("{name} is {what}, which the run reads"))
                    .hint("-o FILE names another output")
                    .into(),
            );
        }
    }
    Ok(())
}

fn read(args: &RunArgs) -> Vec<(&'static str, Identity)> {
    let named = [
        ("the --prompt-file", &args.shape.prompt_file),
        ("the --api-key-file", &args.api_key_file),
        ("the --ca-file", &args.ca_file),
        ("the --prices", &args.prices.prices),
    ];
    let named = named.into_iter().filter_map(|(what, path)| {
        let identity = of_path(path.as_deref()?)?;
        Some((what, identity))
    });
    let input = match args.input == Path::new("-") {
        true => of_stream(io::stdin()),
        // Only standard output is not compared later.
        false => of_path(&args.input).filter(|_| args.output.as_deref() == Some(Path::new("-"))),
    };
    named
        .chain(input.map(|input| ("the input", input)))
        .collect()
}

fn written(paths: &Paths) -> Vec<(String, Identity)> {
    let beside = [&paths.errors, &paths.checkpoint, &paths.lock, &paths.torn];
    let named = paths.results.iter().chain(beside).filter_map(|path| {
        let identity = of_path(path)?;
        Some((path.display().to_string(), identity))
    });
    let stdout = match paths.results {
        Some(_) => None,
        None => of_stream(io::stdout()),
    };
    let stdout = stdout.map(|stdout| ("standard output".to_owned(), stdout));
    named.chain(stdout).collect()
}

fn of_path(path: &Path) -> Option<Identity> {
    identity(std::fs::metadata(path))
}

fn of_stream(stream: impl AsFd) -> Option<Identity> {
    let copy = stream.as_fd().try_clone_to_owned().ok()?;
    identity(File::from(copy).metadata())
}

/// Devices and pipes may be read and written at once.
fn identity(metadata: io::Result<Metadata>) -> Option<Identity> {
    let file = metadata.ok().filter(Metadata::is_file)?;
    Some(Identity(file.dev(), file.ino()))
}
