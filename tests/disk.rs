//! The disk under a run: full, read-only, and an output that somebody else moves, deletes or opens.
//!
//! Mounting needs rights that not every machine gives; such tests say so and pass.

mod support;

use std::process::Command;
use std::sync::Arc;

use support::server::Server;
use support::{Folder, Run, ids, item_ids, items, parse_rows, wait_until};

const RESULTS: &str = "in.results.jsonl";
const RESCUE: &str = "in.results.rescue-1.jsonl";

/// What a script said and how it ended; `None` where this machine does not let it mount.
fn with_mounts(folder: &Folder, script: &str, args: &[&str]) -> Option<String> {
    let mut command = Command::new("unshare");
    command
        .args(["-m", "--propagation", "private", "sh", "-euc", script, "sh"])
        .args([env!("CARGO_BIN_EXE_llmbatch")])
        .args(args)
        .current_dir(folder.path(""))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let Ok(output) = command.output() else {
        println!("skipped: there is no `unshare` here");
        return None;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    if text.contains("cannot mount") || text.contains("unshare:") {
        println!("skipped: this machine does not allow mounting: {text}");
        return None;
    }
    assert!(output.status.success(), "{text}");
    Some(text)
}

/// Mounts a small disk on the folder `small` and goes there.
const SMALL_DISK: &str = r#"
    program=$1; size=$2; url=$3
    mkdir small
    mount -t tmpfs -o size=$size tmpfs small || { echo cannot mount; exit 1; }
    cd small
    run() { code=0; "$program" run ../in.jsonl -o out.jsonl --base-url $url -m m -q "$@" || code=$?; echo code $code; }
"#;

#[test]
fn a_full_disk_stops_the_run_and_costs_no_answer() {
    let server = Server::start("latency=2");
    let folder = Folder::new();
    folder.write("in.jsonl", items(2000));
    let script = SMALL_DISK.to_owned()
        + r#"
        run -c 8
        mkdir ../stopped; cp * ../stopped
        "$program" run ../in.jsonl -o other.jsonl --base-url $url -m m -q || echo refused $?
        mount -o remount,size=64m .
        run --resume
        mkdir ../ended; cp * ../ended
    "#;
    let Some(said) = with_mounts(&folder, &script, &["1m", server.base_url()]) else {
        return;
    };
    assert!(said.contains("code 1\n"), "{said}");
    assert!(said.contains("free some space"), "{said}");
    assert!(said.contains("refused 2\n"), "{said}");
    assert!(
        said.ends_with("code 0\n") || said.contains("code 0\n"),
        "{said}"
    );
    let read = |name: &str| std::fs::read_to_string(folder.path(name)).unwrap_or_default();
    let stopped = parse_rows(&read("stopped/out.jsonl"));
    assert!((100..2000).contains(&stopped.len()), "{}", stopped.len());
    let ended = parse_rows(&read("ended/out.jsonl"));
    assert_eq!(ids(&ended), item_ids(2000));
    // Nothing was asked twice and nothing after the disk refused: every answer had its place.
    assert_eq!(server.count("requests"), 2000);
}

/// Runs a script on a small disk, which must be refused before the first request.
fn assert_refused_on(size: &str, script: &str, why: &str) {
    let server = Server::start("latency=2");
    let folder = Folder::new();
    folder.write("in.jsonl", items(10));
    let script = SMALL_DISK.to_owned() + script;
    let Some(said) = with_mounts(&folder, &script, &[size, server.base_url()]) else {
        return;
    };
    assert!(said.contains("code 2\n"), "{said}");
    assert!(said.contains(why), "{said}");
    let leftover = said.contains("out.errors.jsonl\n");
    assert!(!leftover, "nothing is left: {said}");
    assert_eq!(server.count("requests"), 0);
}

#[test]
fn a_disk_with_no_room_for_the_answers_on_their_way_is_refused() {
    assert_refused_on("200k", "run -c 64\nls", "no room for");
}

#[test]
fn a_read_only_folder_is_refused_before_the_first_request() {
    assert_refused_on("1m", "mount -o remount,ro .\nrun\nls", "cannot be written");
}

/// Starts a run and waits until some answers are there.
fn under_way(server: &Server) -> (Arc<Folder>, support::Running) {
    let folder = Folder::new();
    let run = Run::inside(&folder)
        .input(items(400))
        .ask(server.base_url())
        .args(["-c", "4"])
        .any_stderr()
        .expect_code(1)
        .start();
    wait_until("some answers are there", || folder.lines(RESULTS) >= 20);
    (folder, run)
}

#[test]
fn results_that_are_deleted_during_the_run_are_saved_and_taken_in_again() {
    let server = Server::start("latency=5");
    let (folder, run) = under_way(&server);
    folder.remove(RESULTS);
    let done = run.finish();
    assert!(done.stderr.contains("was deleted"), "{}", done.stderr);
    assert!(done.stderr.contains(RESCUE), "{}", done.stderr);
    assert_eq!(folder.lines(RESCUE) as u64, server.count("answered"));
    let done = Run::inside(&folder)
        .resume()
        .ask(server.base_url())
        .any_stderr()
        .run();
    assert_eq!(ids(&done.results()), item_ids(400));
    assert_eq!(server.count("answered"), 400);
    assert!(!folder.names().contains(&RESCUE.to_owned()));
}

#[test]
fn results_that_are_rotated_during_the_run_are_not_paid_for_again() {
    let server = Server::start("latency=5");
    let (folder, run) = under_way(&server);
    std::fs::rename(folder.path(RESULTS), folder.path("old.jsonl")).unwrap();
    folder.write(RESULTS, "");
    let done = run.finish();
    assert!(done.stderr.contains("was moved"), "{}", done.stderr);
    assert_eq!(folder.lines(RESCUE) as u64, server.count("answered"));
    let done = Run::inside(&folder)
        .resume()
        .ask(server.base_url())
        .any_stderr()
        .run();
    assert_eq!(ids(&done.results()), item_ids(400));
    assert_eq!(server.count("answered"), 400);
}

#[test]
fn results_that_are_emptied_during_the_run_are_noticed() {
    let server = Server::start("latency=5");
    let (folder, run) = under_way(&server);
    folder.write(RESULTS, "");
    let done = run.finish();
    assert!(
        done.stderr.contains("was changed by somebody else"),
        "{}",
        done.stderr
    );
    let text = std::fs::read(folder.path(RESULTS)).unwrap();
    assert!(!text.contains(&0), "nothing is filled up with NUL bytes");
    let done = Run::inside(&folder)
        .resume()
        .ask(server.base_url())
        .any_stderr()
        .run();
    assert_eq!(ids(&done.results()), item_ids(400));
}

#[test]
fn an_orderly_end_after_trouble_is_not_taken_for_a_crash() {
    let server = Server::start("latency=5");
    let (folder, run) = under_way(&server);
    folder.remove(RESULTS);
    run.finish();
    let done = Run::inside(&folder)
        .resume()
        .loud()
        .ask(server.base_url())
        .any_stderr()
        .run();
    assert!(done.stderr.contains("taken in from"), "{}", done.stderr);
    assert!(!done.stderr.contains("abruptly"), "{}", done.stderr);
}

#[test]
fn what_is_no_file_is_no_output() {
    let folder = Folder::new();
    let made = Command::new("mkfifo")
        .arg(folder.path("pipe.jsonl"))
        .status();
    assert!(made.unwrap().success());
    for name in ["pipe.jsonl", "/dev/full"] {
        for mode in ["--lean", "--overwrite", "--resume"] {
            Run::inside(&folder)
                .input(items(2))
                .simulate()
                .args(["-o", name, mode])
                .expect_code(2)
                .expect_stderr(["is no regular file", "hint: -o -"])
                .run();
        }
    }
}

#[test]
fn an_overwriting_run_that_has_no_room_leaves_the_old_results() {
    let server = Server::start("latency=2");
    let folder = Folder::new();
    folder.write("in.jsonl", items(20));
    let script = SMALL_DISK.to_owned() + "run -c 4\nrun --overwrite -c 512\nwc -l out.jsonl";
    let Some(said) = with_mounts(&folder, &script, &["1m", server.base_url()]) else {
        return;
    };
    assert!(
        said.contains("code 0\n") && said.contains("code 2\n"),
        "{said}"
    );
    assert!(said.contains("20 out.jsonl"), "{said}");
}

#[test]
fn an_input_that_is_named_like_a_rescue_file_is_no_output() {
    let folder = Folder::new();
    folder.write("out.rescue-1.jsonl", items(2));
    for mode in ["--resume", "--overwrite"] {
        Run::inside(&folder)
            .args(["out.rescue-1.jsonl", "-o", "out.jsonl", mode])
            .simulate()
            .expect_code(2)
            .expect_stderr(["out.rescue-1.jsonl is the input itself", "hint: "])
            .run();
    }
    assert_eq!(folder.read("out.rescue-1.jsonl"), items(2));
}

/// The output is named relative to where the run is, and its folder goes away with everything.
// Negative control: in `Paths`, naming the rescue file only when it is needed.
#[test]
fn results_whose_folder_is_deleted_are_found_again() {
    let server = Server::start("latency=5");
    let folder = Folder::new();
    let outputs = folder.path("outputs");
    std::fs::create_dir(&outputs).unwrap();
    folder.write("in.jsonl", items(200));
    let first = Run::inside(&folder)
        .args(["in.jsonl", "-o", "outputs/o.jsonl", "-c", "4"])
        .ask(server.base_url())
        .any_stderr()
        .expect_code(1)
        .start();
    wait_until("some answers are there", || server.count("answered") >= 20);
    std::fs::remove_dir_all(&outputs).unwrap();
    first.finish();
    std::fs::create_dir(&outputs).unwrap();
    Run::inside(&folder)
        .args(["in.jsonl", "-o", "outputs/o.jsonl", "--resume"])
        .ask(server.base_url())
        .any_stderr()
        .run();
    let rows = std::fs::read_to_string(outputs.join("o.jsonl")).unwrap();
    assert_eq!(ids(&parse_rows(&rows)), item_ids(200));
    assert_eq!(server.count("answered"), 200);
}

#[test]
fn another_name_of_an_output_at_work_is_refused() {
    let server = Server::start("stall=1");
    let folder = Folder::new();
    let first = Run::inside(&folder)
        .input(items(2))
        .ask(server.base_url())
        .start();
    wait_until("the first is at work", || server.count("in_flight") > 0);
    let results = folder.path(RESULTS);
    std::os::unix::fs::symlink(&results, folder.path("symbolic.jsonl")).unwrap();
    std::fs::hard_link(&results, folder.path("hard.jsonl")).unwrap();
    for name in ["symbolic.jsonl", "hard.jsonl"] {
        for mode in ["--resume", "--overwrite"] {
            Run::inside(&folder)
                .args(["in.jsonl", "-o", name, mode])
                .ask(server.base_url())
                .expect_code(2)
                .expect_stderr(["is writing this output", "hint: "])
                .run();
        }
    }
    first.kill();
}

#[test]
fn standard_output_that_breaks_leaves_its_rows_in_a_file() {
    let folder = Folder::new();
    Run::inside(&folder)
        .input(items(3))
        .simulate()
        .args(["-o", "-"])
        .stdout("/dev/full")
        .expect_code(1)
        .expect_stderr([
            "No space left",
            "3 rows saved in in.stdout.rescue-1.jsonl instead",
            "hint: ",
        ])
        .run();
    let saved = folder.rows("in.stdout.rescue-1.jsonl");
    assert_eq!(ids(&saved), item_ids(3));
}
