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
/// How providers let their keys begin, in any case.
const KEY_STARTS: [&str; 11] = [
    "sk-", "sk_", "pk-", "pk_", "gsk_", "hf_", "xai-", "aiza", "r8_", "key-", "nvapi-",
];
/// Names that people choose are shorter than keys, and hold fewer digits.
const SHORT_NAME: usize = 20;
const FEW_DIGITS: usize = 4;

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
    let origin = match is_path(path) {
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
    let (origin, shown) = match is_variable(name) {
        true => (name.to_owned(), name),
        false => ("the variable of --api-key-env".to_owned(), "NAME"),
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
                    "export {shown}=…, or --api-key-file FILE; --simulate needs none"
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

/// Tells whether a name is one of a variable, and not perhaps the key itself, typed in its place: no
/// key does without small letters.
fn is_variable(name: &str) -> bool {
    let is_shouted = !name.contains(|c: char| c.is_ascii_lowercase());
    has_few_digits(name) && (is_shouted || is_short_name(name))
}

/// Tells whether a path is one of a file, and not perhaps the key itself, which may hold a slash too.
fn is_path(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let stands_somewhere = || {
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        path.is_absolute() || path.exists() || folder.is_some_and(Path::is_dir)
    };
    !begins_like_key(&text) && (is_short_name(&text) && has_few_digits(&text) || stands_somewhere())
}

fn is_short_name(text: &str) -> bool {
    text.len() <= SHORT_NAME && !begins_like_key(text)
}

fn has_few_digits(text: &str) -> bool {
    text.bytes().filter(u8::is_ascii_digit).count() <= FEW_DIGITS
}

fn begins_like_key(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    KEY_STARTS.iter().any(|start| text.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Negative control: naming every source; leaving out `begins_like_key` or `has_few_digits`.
    #[test]
    fn a_key_in_place_of_its_source_is_not_shown() {
        for key in [
            "sk-0123456789",
            "sk-proj-0123456789abcdef",
            "sk-proj-AbCd_EfGh.IjKl/MnOpQrStUvWx",
            "SK_live_abcdef",
            "gsk0123456789abcdefghijk",
            "gsk_0123456789abcdefghijkABCDEF",
            "hf_abcdefghij",
            "AIzaSyabcdefgh",
            "xai-abcdefgh",
            "r8_abcdefgh",
            "key-abcdefgh",
            "a1b2c3d4e5f60718",
            "A1B2C3D4E5F60718293A4B5C6D7E8F90",
            "abcdefabcdefabcdefabcdefabcdef01",
            "abcd_efghijklmnop_qrstuvwxyz",
            "abcdefghijkl.mnopqrstuvwxyz",
            "abcdefghijkl/mnopqrstuvwxyz+=",
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
        for name in [
            "KEY",
            "OPENAI_API_KEY",
            "HF_TOKEN",
            "my_key",
            "THE_KEY_OF_OUR_TEAM_FOR_AZURE_OPENAI_2",
        ] {
            assert!(is_variable(name), "{name}");
        }
        for path in [
            "key.txt",
            "/run/secrets/openai",
            "/run/secrets/of-our-team/openai-2026-11-22",
            "openai-key",
            "src/a-file-that-is-not-there-yet.txt",
            "Cargo.toml",
        ] {
            assert!(is_path(Path::new(path)), "{path}");
        }
    }
}
