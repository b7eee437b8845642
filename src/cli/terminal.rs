//! The one way to standard error and standard output for human text.
//!
//! A closed or full stream is not worth a panic, and text from servers and files must not steer
//! the terminal.

use std::io::{self, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::words::human::printable;

/// Writes a line to standard error.
pub fn line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(text));
}

/// Writes an error with the way out.
pub fn error(what: &str, hint: Option<&str>) {
    line(&format!("error: {what}"));
    if let Some(hint) = hint {
        line(&format!("hint: {hint}"));
    }
}

/// Writes a line that a command was asked to print to standard output. Tells whether it arrived.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// Keeps the terminal from writing `^C` into the progress bar, which would tear it. The setting
/// goes back to what it was in the end; a killed process leaves nothing worse than an unseen `^C`.
pub struct QuietEcho {
    before: Termios,
}

impl QuietEcho {
    /// Starts, where standard error is a terminal.
    pub fn start() -> Option<Self> {
        let before = tcgetattr(io::stderr()).ok()?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHOCTL);
        tcsetattr(io::stderr(), OptionalActions::Now, &quiet).ok()?;
        Some(QuietEcho { before })
    }
}

impl Drop for QuietEcho {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stderr(), OptionalActions::Now, &self.before);
    }
}
