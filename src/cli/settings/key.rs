//! Where the key comes from: the environment, a file or a command, never an argument.
//!
//! What is said of it names the source and shows nothing of the key, also where somebody typed the
//! key itself in place of its source.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::cli::args::RunArgs;
use crate::cli::refusal::Refusal;
use crate::cli::terminal;
use crate::provider::key::ApiKey;

/// More than this is no key; a device that never ends must not fill the memory.
const MOST: u64 = 64 << 10;
/// Read permission of others than the owner.
const OTHERS_READ: u32 = 0o044;
/// A longer word without any mark in it may be the key itself.
const SHORT_NAME: usize = 20;

/// What was found, and where.
pub struct Found {
    pub key: Option<ApiKey>,
    /// The source, in words for people.
    pub origin: String,
}

/// Reads the key. Without a source of its own the run takes it from the provider's `variable`; where
/// that one is not set, the run goes without a key unless it is `needed`.
pub fn find(args: &RunArgs, variable: Option<&str>, needed: bool) -> Result<Found> {
    if let Some(command) = &args.api_key_command {
        return of_command(command);
    }
    if let Some(path) = &args.api_key_file {
        return of_file(path, args.quiet);
    }
    match (&args.api_key_env, variable) {
        (Some(name), _) => of_variable(name, true),
        (None, Some(name)) => of_variable(name, needed),
        (None, None) => Ok(Found {
            key: None,
            origin: String::new(),
        }),
    }
}

fn of_command(command: &str) -> Result<Found> {
    let origin = "--api-key-command";
    let refuse = |what: &str| {
        Refusal::new(format!("{origin} {what}"))
            .hint("run by `sh -c`, it must print the key and nothing else")
    };
    let (output, status) =
        run(command).map_err(|error| refuse(&format!("cannot be run: {error}")))?;
    if !status.success() {
        return Err(refuse(&format!("failed ({status})")).into());
    }
    let text = String::from_utf8_lossy(&output);
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(refuse("printed nothing").into());
    }
    checked(line, origin.to_owned())
}

/// Runs a command of the shell; its complaints go where ours go.
fn run(command: &str) -> io::Result<(Vec<u8>, std::process::ExitStatus)> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = Vec::new();
    if let Some(pipe) = child.stdout.take() {
        pipe.take(MOST).read_to_end(&mut output)?;
    }
    Ok((output, child.wait()?))
}

fn of_file(path: &Path, quiet: bool) -> Result<Found> {
    let origin = match is_telling(&path.to_string_lossy()) {
        true => path.display().to_string(),
        false => "the key file".to_owned(),
    };
    let (text, others_read) = read(path).map_err(|error| {
        Refusal::new(format!("--api-key-file {origin} cannot be read: {error}"))
    })?;
    if text.trim().is_empty() {
        return Err(Refusal::new(format!("no API key: {origin} is empty"))
            .hint("put the key into that file")
            .into());
    }
    if others_read && !quiet {
        terminal::line(&format!(
            "note: {origin} can be read by other users of this machine; chmod 600 keeps it yours"
        ));
    }
    checked(text.trim(), origin)
}

/// Reads a file's text, and whether others can read it too.
fn read(path: &Path) -> io::Result<(String, bool)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut text = Vec::new();
    file.take(MOST).read_to_end(&mut text)?;
    let others_read = metadata.is_file() && metadata.permissions().mode() & OTHERS_READ != 0;
    Ok((String::from_utf8_lossy(&text).into_owned(), others_read))
}

fn of_variable(name: &str, needed: bool) -> Result<Found> {
    if !is_name(name) {
        return Err(
            Refusal::new("--api-key-env takes the name of a variable, and this is none")
                .hint("export OPENAI_API_KEY=…, then --api-key-env OPENAI_API_KEY")
                .into(),
        );
    }
    let origin = match is_telling(name) {
        true => name.to_owned(),
        false => "the variable of --api-key-env".to_owned(),
    };
    let text = match std::env::var(name) {
        Ok(text) => text,
        Err(std::env::VarError::NotPresent) => String::new(),
        Err(std::env::VarError::NotUnicode(_)) => {
            return Err(Refusal::new(format!("{origin} is not text")).into());
        }
    };
    match text.trim() {
        "" if needed => Err(
            Refusal::new(format!("no API key: {origin} is not set or empty"))
                .hint(format!(
                    "export {origin}=…, or --api-key-file FILE; --simulate needs none"
                ))
                .into(),
        ),
        "" => Ok(Found { key: None, origin }),
        text => checked(text, origin),
    }
}

fn checked(text: &str, origin: String) -> Result<Found> {
    let key = ApiKey::new(text).map_err(|why| Refusal::new(format!("{origin}: {why}")))?;
    Ok(Found {
        key: Some(key),
        origin,
    })
}

fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !text.is_empty() && text.bytes().all(is_part) && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// Tells whether a source is a name and not perhaps the key itself, typed in its place.
fn is_telling(source: &str) -> bool {
    source.len() <= SHORT_NAME && !source.starts_with("sk-") || source.contains(['_', '/', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    // Turned red by: naming every source.
    #[test]
    fn a_key_in_place_of_its_source_is_not_shown() {
        for key in [
            "sk-0123456789",
            "sk-proj-0123456789abcdef",
            "gsk0123456789abcdefghijk",
            "abcdefabcdefabcdefabcdefabcdef01",
        ] {
            for found in [of_variable(key, true), of_file(Path::new(key), true)] {
                let Err(error) = found else {
                    panic!("{key}");
                };
                let refusal = error.downcast::<Refusal>().unwrap();
                let hint = refusal.hint.unwrap_or_default();
                assert!(!format!("{} {hint}", refusal.what).contains(key), "{key}");
            }
        }
    }

    #[test]
    fn names_of_variables_and_files_are_shown() {
        for source in [
            "KEY",
            "OPENAI_API_KEY",
            "key.txt",
            "/run/secrets/openai",
            "openai-key",
        ] {
            assert!(is_telling(source), "{source}");
        }
    }
}
