//! What signals promise: the first lets what is in flight finish, the second does not.

mod support;

use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::server::Server;
use support::{Folder, Run, Running, ids, item_ids, items, signal, wait_until};

const SLOTS: u64 = 4;

/// Starts a run of so many items and waits until all slots are at work.
fn at_work(folder: &Arc<Folder>, server: &Server, number: usize, code: i32) -> Running {
    let running = Run::inside(folder)
        .input(items(number))
        .ask(server.base_url())
        .args(["-c", &SLOTS.to_string(), "--progress", "log"])
        .loud()
        .any_stderr()
        .expect_code(code)
        .start();
    wait_until("all slots are at work", || {
        server.count("in_flight") == SLOTS
    });
    running
}

fn wait_for_note(running: &Running) {
    wait_until("the note", || {
        running.stderr_so_far().contains("stopping: ")
    });
}

/// Interrupts a run and asserts that all that was asked is stored, and that resuming asks only
/// for the rest.
fn drains(signal: &str, code: i32) {
    let server = Server::start("latency=300ms,latency-p99=300ms");
    let folder = Folder::new();
    let running = at_work(&folder, &server, 20, code);
    running.signal(signal);
    let stopped = running.finish();
    let asked = server.count("requests");
    assert!((SLOTS..20).contains(&asked), "{asked}");
    assert_eq!(stopped.results().len() as u64, asked);
    assert_eq!(server.count("answered"), asked);
    assert!(stopped.stderr.contains("stopping: "), "{}", stopped.stderr);
    assert!(stopped.stderr.contains(" --resume"), "{}", stopped.stderr);
    let done = Run::inside(&folder).resume().ask(server.base_url()).run();
    assert_eq!(ids(&done.results()), item_ids(20));
    assert_eq!(server.count("requests"), 20);
}

// Negative control: going on to `Phase::Aborting` at the first signal.
#[test]
fn the_first_interrupt_waits_for_what_is_in_flight() {
    drains("INT", 130);
}

#[test]
fn terminate_waits_for_what_is_in_flight() {
    drains("TERM", 143);
}

#[test]
fn hangup_waits_for_what_is_in_flight() {
    drains("HUP", 129);
}

// Negative control: `patience` returning at any second signal.
#[test]
fn a_closing_terminal_hangs_up_twice_and_costs_no_answer() {
    let server = Server::start("latency=300ms,latency-p99=300ms");
    let running = at_work(&Folder::new(), &server, 20, 129);
    running.signal("HUP");
    wait_for_note(&running);
    running.signal("HUP");
    let stopped = running.finish();
    assert!(
        stopped.stderr.contains("at most 20 s"),
        "{}",
        stopped.stderr
    );
    assert_eq!(stopped.results().len() as u64, server.count("requests"));
}

#[test]
fn a_run_that_is_stopped_and_continued_goes_on() {
    let server = Server::start("latency=50ms,latency-p99=50ms");
    let running = at_work(&Folder::new(), &server, 20, 0);
    running.signal("STOP");
    let state = format!("/proc/{}/stat", running.pid());
    wait_until("it stands still", || {
        let state = std::fs::read_to_string(&state).unwrap();
        state.contains(") T ")
    });
    wait_until("the answers are there", || server.count("in_flight") == 0);
    let asked = server.count("requests");
    running.signal("CONT");
    let done = running.finish();
    assert!(asked < 20, "{asked}");
    assert_eq!(ids(&done.results()), item_ids(20));
    assert_eq!(server.count("requests"), 20);
}

#[test]
fn the_second_interrupt_ends_the_run_at_once() {
    let server = Server::start("stall=1");
    let folder = Folder::new();
    let running = at_work(&folder, &server, 20, 130);
    running.signal("INT");
    wait_for_note(&running);
    let second = Instant::now();
    running.signal("INT");
    let stopped = running.finish();
    assert!(second.elapsed() < Duration::from_secs(10));
    assert_eq!(stopped.ids(), [] as [&str; 0]);
    assert_eq!(server.count("requests"), SLOTS);
    let done = Run::inside(&folder)
        .resume()
        .simulate()
        .args(["-m", "m"])
        .run();
    assert_eq!(ids(&done.results()), item_ids(20));
}

#[test]
fn the_first_signal_names_the_exit_code() {
    let server = Server::start("stall=1");
    let running = at_work(&Folder::new(), &server, 20, 143);
    running.signal("TERM");
    wait_for_note(&running);
    running.signal("INT");
    running.finish();
}

#[test]
fn an_interrupt_ends_a_wait_for_the_limits() {
    let server = Server::start("latency=0");
    let folder = Folder::new();
    let running = Run::inside(&folder)
        .input(items(5))
        .ask(server.base_url())
        .args(["--rpm", "1"])
        .expect_code(130)
        .start();
    wait_until("the first answer", || folder.lines("in.results.jsonl") == 1);
    let interrupted = Instant::now();
    running.signal("INT");
    let stopped = running.finish();
    assert!(interrupted.elapsed() < Duration::from_secs(10));
    assert_eq!(stopped.results().len(), 1);
    assert_eq!(server.count("requests"), 1);
}

#[test]
fn an_interrupt_ends_a_wait_for_a_retry() {
    let server = Server::start("latency=0,500=1");
    let folder = Folder::new();
    let running = Run::inside(&folder)
        .input(items(1))
        .ask(server.base_url())
        .args(["--max-retries", "100"])
        .expect_code(130)
        .start();
    wait_until("some failures", || server.count("requests") >= 3);
    let interrupted = Instant::now();
    running.signal("INT");
    let stopped = running.finish();
    assert!(interrupted.elapsed() < Duration::from_secs(10));
    assert_eq!(stopped.ids(), [] as [&str; 0], "it stays pending");
}

#[test]
fn an_interrupt_ends_a_read_of_standard_input() {
    let folder = Folder::new();
    let running = Run::inside(&folder)
        .args(["-", "-o", "out.jsonl"])
        .simulate()
        .stdin_left_open(items(2))
        .expect_code(130)
        .start();
    wait_until("both answers", || folder.lines("out.jsonl") == 2);
    running.signal("INT");
    running.finish();
}

#[test]
fn the_json_summary_of_an_interrupted_run_says_what_is_left() {
    let server = Server::start("stall=1");
    let running = Run::new()
        .input(items(9))
        .ask(server.base_url())
        .args(["-c", "4", "--json", "--timeout", "1", "--max-retries", "0"])
        .expect_code(130)
        .start();
    wait_until("all slots are at work", || server.count("in_flight") == 4);
    running.signal("INT");
    let summary = running.finish().json();
    assert_eq!(summary["exit_code"], 130);
    assert_eq!(summary["items"], 9);
    let settled = summary["failed"].as_u64().unwrap();
    assert_eq!(summary["pending"], 9 - settled);
    assert!(summary["resume"].as_str().unwrap().ends_with("--resume"));
}

// Negative control: listening for a signal that whoever started the program has ignored.
#[test]
fn a_hangup_that_is_ignored_from_the_start_stays_ignored() {
    let server = Server::start("latency=300ms,latency-p99=300ms");
    let folder = Folder::new();
    folder.write("in.jsonl", items(8));
    let mut nohup = Command::new("nohup")
        .arg(env!("CARGO_BIN_EXE_llmbatch"))
        .args([
            "run",
            "in.jsonl",
            "-m",
            "m",
            "-q",
            "-c",
            "2",
            "--base-url",
            server.base_url(),
        ])
        .current_dir(folder.path("."))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("all slots are at work", || server.count("in_flight") == 2);
    let pid = nohup.id().to_string();
    Command::new("kill").args(["-HUP", &pid]).status().unwrap();
    assert!(nohup.wait().unwrap().success());
    assert_eq!(ids(&folder.rows("in.results.jsonl")), item_ids(8));
}

/// Fills a stream that nobody reads.
fn fill(mut stream: &UnixStream) {
    stream.set_nonblocking(true).unwrap();
    let end = loop {
        if let Err(error) = stream.write(&[b'x'; 4096]) {
            break error.kind();
        }
    };
    assert_eq!(end, ErrorKind::WouldBlock);
    stream.set_nonblocking(false).unwrap();
}

/// A pager that stands still, or a terminal after ^S.
// Negative control: writing the note in `heed` itself.
#[test]
fn a_standard_error_that_nobody_reads_keeps_no_signal_from_ending_the_run() {
    let server = Server::start("stall=1");
    let folder = Folder::new();
    folder.write("in.jsonl", items(20));
    let (_unread, stderr) = UnixStream::pair().unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_llmbatch"))
        .args(["run", "in.jsonl", "-m", "m", "-c", "4"])
        .args(["--progress", "log", "--base-url", server.base_url()])
        .current_dir(folder.path("."))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(OwnedFd::from(stderr.try_clone().unwrap()))
        .spawn()
        .unwrap();
    wait_until("all slots are at work", || {
        server.count("in_flight") == SLOTS
    });
    fill(&stderr);
    for name in ["TERM", "INT", "TERM"] {
        signal(run.id(), name);
    }
    let mut end = None;
    wait_until("the end", || {
        end = run.try_wait().unwrap();
        end.is_some()
    });
    // They come at once, so either may be heard first.
    let code = end.unwrap().code();
    assert!(matches!(code, Some(143 | 130)), "{code:?}");
}
