//! Before the first request: the input is checked, the output opened, and what is done is found.

use std::io;
use std::path::Path;

use anyhow::Result;

use super::closing::cure;
use super::setup::identify;
use crate::cli::refusal::Refusal;
use crate::cli::settings::RunSettings;
use crate::cli::validate::{check, listing, unreadable};
use crate::input::{Census, Reader};
use crate::output::{self, Finished, OpenError, Opened, Paths, Request, StartMode};
use crate::words::human::{self, count, thousands};

/// Findings shown where a run is refused.
pub const SHOWN_FINDINGS: usize = 20;

pub fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Refuses an input that cannot be one before anything else is asked of the user.
pub fn look_at_input(input: &Path) -> Result<()> {
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
pub fn take_census(settings: &RunSettings) -> Result<Option<Census>> {
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

/// Lists the bad lines, and says how to do without them.
pub fn refuse_bad_lines(input: &Path, census: &Census) -> Refusal {
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

pub fn open(settings: &RunSettings, census: Option<&Census>) -> Result<Opened> {
    let request = Request {
        paths: &settings.paths,
        mode: settings.mode,
        input_path: &settings.input,
        input: census.map(identify),
        run: &settings.identity,
        allow_changes: settings.allow_changes,
        retry: &settings.retry,
        disk: output::Disk::default(),
        room: output::first_room(settings.engine.concurrency as u64),
    };
    output::open(&request).map_err(|error| match error {
        OpenError::Io { path, error } => cannot_be_written(
            &format!("{}: {error}", path.display()),
            &error,
            settings.mode,
        )
        .into(),
        error => explain(error, &settings.paths).into(),
    })
}

/// Says why an output cannot be opened, and what to do.
pub fn explain(error: OpenError, paths: &Paths) -> Refusal {
    match error {
        OpenError::Exists { path, results } if paths.results.is_none() => Refusal::new(format!(
            "{} exists ({})",
            path.display(),
            count(results, "row")
        ))
        .hint("move it away, or --overwrite starts over"),
        OpenError::Exists { path, results } => Refusal::new(format!(
            "{} exists ({})",
            path.display(),
            count(results, "row")
        ))
        .hint("--resume goes on where it ended; --overwrite starts over"),
        OpenError::Locked { path, holder } => {
            let process = match holder {
                Some(number) => format!("process {number}"),
                None => "another process".to_owned(),
            };
            let path = path.display();
            Refusal::new(format!("{process} is writing this output ({path})"))
                .hint("wait for it, or choose another output with -o")
        }
        OpenError::Gone { path, bytes } => Refusal::new(format!(
            "{} is gone, though its checkpoint knows of {} of results",
            path.display(),
            human::bytes(bytes)
        ))
        .hint(
            "put it back where it was; --allow-changes asks everything again, and pays for it again",
        ),
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
            let what = format!("{}: {error}", path.display());
            cannot_be_written(&what, &error, StartMode::New)
        }
        OpenError::Foreign { path } => {
            Refusal::new(format!("{} holds no results of a run", path.display()))
                .hint("-o FILE names another output")
        }
    }
}

/// Says that nothing can be written, and what to do. Another output would pay for everything again
/// where this one is to be resumed.
pub fn cannot_be_written(what: &str, error: &io::Error, mode: StartMode) -> Refusal {
    let cure = cure(error);
    let hint = match mode {
        StartMode::Resume => format!("{cure}, then try again"),
        StartMode::New | StartMode::Overwrite => format!("{cure}, or -o FILE names another output"),
    };
    Refusal::new(format!("the output cannot be written: {what}")).hint(hint)
}

/// Reads the input once more where results are known by id only.
pub fn place(settings: &RunSettings, census: &Census, finished: &mut Finished) -> Result<()> {
    if !finished.lacks_positions() {
        return Ok(());
    }
    let input = &settings.input;
    let cannot = |error| unreadable(input, &error);
    let mut reader = Reader::open(input, &settings.defaults, census).map_err(cannot)?;
    while finished.lacks_positions()
        && let Some(entry) = reader.next_entry().map_err(cannot)?
    {
        finished.place(entry.index(), entry.id());
    }
    finished.all_placed();
    Ok(())
}
