//! What a crash leaves behind: one short line and no copy of the memory, which holds the key.

use std::panic::{self, PanicHookInfo};

#[cfg(target_os = "linux")]
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::terminal;

/// A message of a panic can quote what it stumbled over, such as an answer.
const LONGEST_MESSAGE: usize = 200;

/// Prepares for a crash; the first thing that the program does.
pub fn prepare() {
    leave_no_core();
    panic::set_hook(Box::new(|info| terminal::line(&words(info))));
}

/// Forbids a core file, and other processes of the same user to read this one's memory. Where the
/// system does not know these limits, there is nothing to be done.
fn leave_no_core() {
    let nothing = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, nothing);
    #[cfg(target_os = "linux")]
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Says where a panic came from and what it says, in one line.
fn words(info: &PanicHookInfo<'_>) -> String {
    let message = info.payload_as_str().unwrap_or("no message");
    let message = first_words(message);
    match info.location() {
        Some(place) => format!("error: internal error at {place}: {message}"),
        None => format!("error: internal error: {message}"),
    }
}

fn first_words(message: &str) -> String {
    let mut words: String = message
        .chars()
        .take(LONGEST_MESSAGE)
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .collect();
    if words.len() < message.len() {
        words.push('…');
    }
    words
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;
    use crate::transport::Secret;

    const CHILD: &str = "LLMBATCH_TEST_CHILD";
    const KEY: &str = "sk-c4nary-0123456789";

    // Negative control: leaving `set_hook` or `leave_no_core` out, or keeping the limits of
    // `first_words`.
    #[test]
    fn a_panic_says_one_printable_line_without_secrets() {
        if std::env::var_os(CHILD).is_some() {
            return crash();
        }
        let name = "cli::crash::tests::a_panic_says_one_printable_line_without_secrets";
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(child.status.success());
        let said = String::from_utf8(child.stderr).unwrap();
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 1, "{said}");
        assert!(lines[0].starts_with("error: internal error at src/cli/crash.rs:"));
        assert!(lines[0].contains("key [redacted], \\u{1b}[31m two lines"));
        assert!(lines[0].ends_with('…') && lines[0].len() < 300, "{said}");
    }

    fn crash() {
        prepare();
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        terminal::conceal(Secret::new(KEY));
        let answer = "x".repeat(10_000);
        let thread = std::thread::spawn(move || panic!("key {KEY}, \x1b[31m two\nlines {answer}"));
        assert!(thread.join().is_err());
    }
}
