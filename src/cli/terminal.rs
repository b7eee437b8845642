//! The one way to standard error and standard output for human text.
//!
//! A closed or full stream is not worth a panic, text from servers and files must not steer the
//! terminal, and no secret of the run is shown.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;

use rustix::process::getpgrp;
use rustix::termios::{
    LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr,
};

use crate::transport::Secret;
use crate::words::human::{printable, without_error_numbers};

const USUAL_WIDTH: usize = 80;

/// What is never shown. One program has one set of them: an error text can come from anywhere.
static CONCEALED: RwLock<Vec<Secret>> = RwLock::new(Vec::new());

/// Keeps secrets out of all that is written from here on.
pub fn conceal(secrets: impl IntoIterator<Item = Secret>) {
    let mut concealed = CONCEALED.write().unwrap_or_else(PoisonError::into_inner);
    concealed.extend(secrets);
}

/// Strikes what is concealed from a text.
fn without_secrets(text: &str) -> Cow<'_, str> {
    let concealed = CONCEALED.read().unwrap_or_else(PoisonError::into_inner);
    let stands = |secret: &&Secret| secret.stands_in(text.as_bytes());
    if !concealed.iter().any(|secret| stands(&secret)) {
        return Cow::Borrowed(text);
    }
    let text = Bytes::copy_from_slice(text.as_bytes());
    let clean = concealed
        .iter()
        .fold(text, |text, secret| secret.strike(text));
    Cow::Owned(String::from_utf8_lossy(&clean).into_owned())
}

/// Writes a line to standard error.
pub fn line(text: &str) {
    let text = without_error_numbers(&without_secrets(text));
    let _ = writeln!(io::stderr().lock(), "{}", printable(&text));
}

/// Writes a line of JSON to standard error.
pub fn json(value: &serde_json::Value) {
    let line = escaped(&value.to_string());
    let _ = writeln!(io::stderr().lock(), "{}", without_secrets(&line));
}

/// Escapes what would steer a terminal as JSON does. Outside strings JSON holds no such character, so
/// the escape always stands in one.
fn escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match printable(c.encode_utf8(&mut [0; 4])).starts_with("\\u{") {
            true => escaped.push_str(&format!("\\u{:04x}", c as u32)),
            false => escaped.push(c),
        }
    }
    escaped
}

/// Returns the columns of the terminal that standard error is.
pub fn width() -> usize {
    match tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        _ => USUAL_WIDTH,
    }
}

/// Writes an error with the way out.
pub fn error(what: &str, hint: Option<&str>) {
    line(&format!("error: {}", indented(what)));
    if let Some(hint) = hint {
        line(&format!("hint: {}", indented(hint)));
    }
}

/// Indents what follows the first line. What a server says is part of it, and must not pretend to be
/// an error or a hint of ours.
fn indented(text: &str) -> String {
    text.replace("\n  ", "\n").replace('\n', "\n  ")
}

/// Writes what a command was asked to print, text or JSON, to standard output. Tells whether it arrived;
/// whoever reads the first lines only, has read what was wanted.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let printed =
        writeln!(stdout, "{}", without_secrets(&escaped(text))).and_then(|()| stdout.flush());
    printed.or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })
}

/// Tells whether standard output was closed when the program began: the runtime then puts the null
/// device there, for reading too, as no redirection of a shell does.
pub fn stdout_is_gone() -> bool {
    let stdout = io::stdout();
    let flags = rustix::fs::fcntl_getfl(&stdout);
    let is_null = || {
        let null = rustix::fs::stat("/dev/null").map(|stat| stat.st_rdev);
        rustix::fs::fstat(&stdout).is_ok_and(|stat| Ok(stat.st_rdev) == null)
    };
    flags.is_ok_and(|flags| flags.contains(rustix::fs::OFlags::RDWR)) && is_null()
}

/// Keeps the terminal from writing `^C` into the progress bar, which would tear it. The setting
/// goes back to what it was in the end; a killed process leaves nothing worse than an unseen `^C`.
pub struct QuietEcho {
    before: Termios,
}

impl QuietEcho {
    /// Starts, where standard error is a terminal and this program in its foreground: one in the
    /// background would be stopped for touching it.
    pub fn start() -> Option<Self> {
        if !in_foreground() {
            return None;
        }
        let before = tcgetattr(io::stderr()).ok()?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHOCTL);
        tcsetattr(io::stderr(), OptionalActions::Now, &quiet).ok()?;
        Some(QuietEcho { before })
    }
}

fn in_foreground() -> bool {
    tcgetpgrp(io::stderr()).is_ok_and(|foreground| foreground == getpgrp())
}

impl Drop for QuietEcho {
    fn drop(&mut self) {
        if !in_foreground() {
            return;
        }
        let _ = tcsetattr(io::stderr(), OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Negative control: returning the text as it is.
    #[test]
    fn nothing_in_an_error_pretends_to_be_another() {
        assert_eq!(
            indented("two:\n  one\n    deeper\nerror: no\n\nhint: no"),
            "two:\n  one\n    deeper\n  error: no\n  \n  hint: no"
        );
    }
}
