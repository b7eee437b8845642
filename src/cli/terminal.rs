//! The one way to standard error and standard output for human text.
//!
//! A closed or full stream is not worth a panic, and text from servers and files must not steer
//! the terminal.

use std::io::{self, Write};

use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

use crate::words::human::printable;

/// Writes a line to standard error.
pub fn line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(text));
}

/// Writes a line of JSON to standard error. What would steer a terminal is escaped as JSON does.
pub fn json(value: &serde_json::Value) {
    let mut line = String::new();
    for c in value.to_string().chars() {
        // Outside strings JSON holds no such character, so the escape always stands in one.
        match printable(c.encode_utf8(&mut [0; 4])).starts_with("\\u{") {
            true => line.push_str(&format!("\\u{:04x}", c as u32)),
            false => line.push(c),
        }
    }
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes an error with the way out.
pub fn error(what: &str, hint: Option<&str>) {
    line(&format!("error: {what}"));
    if let Some(hint) = hint {
        line(&format!("hint: {hint}"));
    }
}

/// Writes a line that a command was asked to print to standard output. Tells whether it arrived;
/// whoever reads the first lines only, has read what was wanted.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let printed = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    printed.or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })
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
