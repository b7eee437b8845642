//! The one way to standard error and standard output for human text.
//!
//! A closed or full stream is not worth a panic, and text from servers and files must not steer
//! the terminal.

use std::io::{self, Write};

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
