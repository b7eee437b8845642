//! What `--resume` promises: nothing is lost, nothing is asked twice, whatever ended the run.

mod support;

use std::sync::Arc;

use serde_json::{Value, json};

use support::script::{self, Asked, Script};
use support::server::Server;
use support::{Folder, Outcome, Run, ids, item, item_ids, items, row, tag, wait_until};

const RESULTS: &str = "in.results.jsonl";
const ERRORS: &str = "in.results.errors.jsonl";
const CHECKPOINT: &str = "in.results.checkpoint.json";

/// Returns a folder in which so many items have results.
fn finished(number: usize) -> Arc<Folder> {
    let folder = Folder::new();
    Run::inside(&folder).input(items(number)).simulate().run();
    folder
}

/// Resumes with the simulator and returns the outcome and how many requests it took.
fn resume(folder: &Arc<Folder>) -> (Outcome, u64) {
    let done = Run::inside(folder)
        .resume()
        .simulate()
        .args(["--json"])
        .run();
    let requests = done.json()["requests"].as_u64().unwrap();
    (done, requests)
}

/// Asserts that so many items have one result each, with its own answer.
fn assert_all_answered(done: &Outcome, number: usize) {
    let results = done.results();
    assert_eq!(done.ids(), item_ids(number));
    assert_eq!(results.len(), number, "{:?}", done.errors());
    for number in 0..number {
        let content = row(&results, &format!("t-{number}"))["content"].clone();
        let expected = tag(&format!("question {number}"));
        assert!(content.as_str().unwrap().starts_with(&expected));
    }
}

fn drop_line(folder: &Folder, name: &str, number: usize) -> String {
    let text = folder.read(name);
    let mut lines: Vec<_> = text.split_inclusive('\n').collect();
    let dropped = lines.remove(number).to_owned();
    folder.write(name, lines.concat());
    dropped
}

/// Kills a run again and again, each time after some more rows, until it is through.
fn survive_kills(seed: u64) {
    const ITEMS: usize = 120;
    const SLOTS: u64 = 6;
    let server = Server::start("latency=15ms");
    let folder = Folder::new();
    folder.write("in.jsonl", items(ITEMS));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut kills = 0;
    let done = loop {
        let run = Run::inside(&folder).resume().ask(server.base_url()).args([
            "-c",
            &SLOTS.to_string(),
            "--checkpoint-every",
            "1",
        ]);
        let mut running = run.start();
        let enough = folder.lines(RESULTS) + random.usize(0..25);
        wait_until("rows grow", || {
            folder.lines(RESULTS) >= enough || running.has_ended()
        });
        if running.has_ended() {
            break running.finish();
        }
        running.kill();
        kills += 1;
        assert!(kills < 60, "it does not come to an end");
    };
    assert!(kills >= 4, "{kills} kills");
    assert_all_answered(&done, ITEMS);
    // A slot is taken until its answer is written, so a kill costs at most what was in flight.
    let (requests, most) = (server.count("requests"), ITEMS as u64 + kills * SLOTS);
    assert!(requests <= most, "{requests} requests, {kills} kills");
}

// Turned red by: `known_results` forgetting the rows behind the checkpoint, or by a slot that is
// free before its answer is written.
#[test]
fn a_run_killed_at_any_moment_loses_and_doubles_nothing() {
    survive_kills(1);
}

#[test]
fn a_run_killed_at_other_moments_loses_and_doubles_nothing() {
    survive_kills(20_260_101);
}

#[test]
fn kills_among_failures_leave_each_id_once() {
    const ITEMS: usize = 60;
    let server = Server::start("latency=10ms,500=0.4,content-filter=0.1");
    let folder = Folder::new();
    folder.write("in.jsonl", items(ITEMS));
    let run = |retries| {
        Run::inside(&folder)
            .resume()
            .ask(server.base_url())
            .args(["-c", "4", "--max-retries", retries])
            .expect_code(3)
    };
    let rows = || folder.lines(RESULTS) + folder.lines(ERRORS);
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..8 {
        let mut running = run("0").start();
        let enough = rows() + random.usize(1..9);
        wait_until("rows grow", || rows() >= enough || running.has_ended());
        running.kill();
        let mut results = ids(&folder.rows(RESULTS));
        results.dedup();
        assert_eq!(results.len(), folder.lines(RESULTS));
    }
    assert_eq!(run("0").run().ids(), item_ids(ITEMS));
    let done = run("9").run();
    assert_eq!(done.ids(), item_ids(ITEMS));
    assert!(done.errors().iter().all(|row| row["status"] == "filtered"));
}

#[test]
fn standard_input_resumes_by_id() {
    let run = |folder: &Arc<Folder>, text: String, mode: &[&str]| {
        Run::inside(folder)
            .args(["-"])
            .simulate()
            .stdin(text)
            .output("out")
            .args(["--json"])
            .args(mode.iter().copied())
            .run()
    };
    let folder = Folder::new();
    run(&folder, items(3), &[]);
    let done = run(&folder, item(7) + &items(5), &["--resume"]);
    assert_eq!(done.json()["requests"], 3);
    let mut expected = item_ids(5);
    expected.push("t-7".to_owned());
    assert_eq!(done.ids(), expected);
}

/// Returns the files of a run that was killed right after all its rows were appended: the
/// checkpoint is still the one of its start.
fn killed_at_the_end(number: usize) -> (Arc<Folder>, Vec<u8>) {
    let stalled = Server::start("stall=1");
    let folder = Folder::new();
    let running = Run::inside(&folder)
        .input(items(number))
        .args(["--base-url", stalled.base_url(), "-m", "simulated"])
        .args(["--lean"])
        .start();
    wait_until("the run is on its way", || stalled.count("in_flight") > 0);
    running.kill();
    let checkpoint = folder.content().remove(CHECKPOINT).unwrap();
    Run::inside(&folder)
        .args(["in.jsonl", "--overwrite", "--lean"])
        .args(["--simulate=latency=0,output-tokens=1"])
        .run();
    (folder, checkpoint)
}

/// Cuts the results of six items at these bytes of the last three rows and resumes each time.
fn survive_cuts(part: usize, parts: usize) {
    let (folder, checkpoint) = killed_at_the_end(6);
    let whole = folder.read(RESULTS);
    let third = whole.match_indices('\n').nth(2).unwrap().0 + 1;
    for cut in (third..=whole.len()).filter(|cut| cut % parts == part) {
        folder.write(RESULTS, &whole[..cut]);
        folder.write(CHECKPOINT, &checkpoint);
        let done = Run::inside(&folder)
            .resume()
            .args(["--simulate=latency=0", "--lean", "--json"])
            .run();
        assert_all_answered(&done, 6);
        // A row that lacks its line feed only is kept.
        let rows = whole[..(cut + 1).min(whole.len())].matches('\n').count();
        assert_eq!(done.json()["requests"], 6 - rows, "cut at {cut}");
        let end = whole.match_indices('\n').nth(rows - 1).unwrap().0 + 1;
        assert!(folder.read(RESULTS).starts_with(&whole[..end]));
        if cut > end {
            assert_eq!(
                folder.read("in.results.torn"),
                format!("{}\n", &whole[end..cut])
            );
            folder.remove("in.results.torn");
        }
        assert_eq!(folder.names().len(), 4, "{:?}", folder.names());
    }
}

// Turned red by: `Journal::open` not mending the tail, or cutting a whole row that lacks its line
// feed. In two halves, so that two processors share the work.
#[test]
fn results_cut_at_any_even_byte_are_mended() {
    survive_cuts(0, 2);
}

#[test]
fn results_cut_at_any_odd_byte_are_mended() {
    survive_cuts(1, 2);
}

#[test]
fn a_torn_row_of_the_errors_file_is_mended_too() {
    let folder = finished(4);
    let dropped = drop_line(&folder, RESULTS, 3);
    let id = serde_json::from_str::<Value>(&dropped).unwrap()["id"].clone();
    let id = id.as_str().unwrap();
    folder.remove(CHECKPOINT);
    folder.write(ERRORS, format!("{{\"id\":\"{id}\",\"index\":3,\"stat"));
    let (done, requests) = resume(&folder);
    assert_eq!(requests, 1);
    assert_all_answered(&done, 4);
}

#[test]
fn a_finished_run_asks_nothing_again() {
    let folder = finished(5);
    let before = folder.content();
    let (done, requests) = resume(&folder);
    assert_eq!(requests, 0);
    assert_eq!(done.folder.content()[RESULTS], before[RESULTS]);
    assert_eq!(done.json()["ok_before"], 5);
}

#[test]
fn a_missing_checkpoint_costs_nothing() {
    let folder = finished(5);
    folder.remove(CHECKPOINT);
    let (done, requests) = resume(&folder);
    assert_eq!(requests, 0);
    assert_all_answered(&done, 5);
}

#[test]
fn a_damaged_checkpoint_costs_nothing() {
    let folder = finished(5);
    drop_line(&folder, RESULTS, 4);
    let good = folder.read(CHECKPOINT);
    let flipped = good.replace("\"finished_count\":5", "\"finished_count\":4");
    assert_ne!(flipped, good);
    for bad in [
        flipped.as_str(),
        &good[..good.len() / 2],
        "",
        "\0\0\0",
        "[]",
    ] {
        folder.write(CHECKPOINT, bad);
        let (done, _) = resume(&folder);
        assert_all_answered(&done, 5);
    }
}

#[test]
fn a_damaged_checkpoint_is_spoken_of() {
    let folder = finished(5);
    folder.write(CHECKPOINT, "{");
    Run::inside(&folder)
        .resume()
        .simulate()
        .loud()
        .expect_stderr([
            "note: the checkpoint in.results.checkpoint.json is damaged: reading the results instead",
            "in.jsonl: 5 items, 5 done before, asking ",
            "5 items, 0 ok, 5 ok before",
            "tokens",
            "cost",
            "speed",
            "results",
        ])
        .run();
}

#[test]
fn a_checkpoint_of_another_version_costs_nothing() {
    let folder = finished(5);
    let text = folder.read(CHECKPOINT);
    folder.write(CHECKPOINT, text.replace("\"version\":1", "\"version\":999"));
    drop_line(&folder, RESULTS, 0);
    let (done, requests) = resume(&folder);
    assert_eq!(requests, 1);
    assert_all_answered(&done, 5);
}

#[test]
fn results_shorter_than_the_checkpoint_are_believed() {
    let folder = finished(5);
    drop_line(&folder, RESULTS, 4);
    drop_line(&folder, RESULTS, 3);
    let (done, requests) = resume(&folder);
    assert_eq!(requests, 2);
    assert_all_answered(&done, 5);
}

#[test]
fn results_longer_than_the_checkpoint_are_believed() {
    let folder = Folder::new();
    Run::inside(&folder)
        .input(items(5))
        .simulate()
        .args(["--limit", "2"])
        .run();
    let checkpoint = folder.read(CHECKPOINT);
    resume(&folder);
    folder.write(CHECKPOINT, checkpoint);
    let (done, requests) = resume(&folder);
    assert_eq!(requests, 0);
    assert_all_answered(&done, 5);
}

// Turned red by: `is_true_of` not comparing the hash of the tail.
#[test]
fn a_row_that_was_edited_at_the_same_length_is_seen() {
    let folder = finished(1);
    let edited = folder.read(RESULTS).replace("t-0", "x-0");
    folder.write(RESULTS, edited);
    let (done, requests) = resume(&folder);
    assert_eq!(requests, 1);
    assert_eq!(done.ids(), ["t-0", "x-0"]);
}

// Turned red by: `is_true_of` looking at the input alone.
#[test]
fn a_row_deleted_in_the_middle_is_asked_again() {
    for number in 0..5 {
        let folder = finished(5);
        drop_line(&folder, RESULTS, number);
        let (done, requests) = resume(&folder);
        assert_eq!(requests, 1);
        assert_all_answered(&done, 5);
    }
}

#[test]
fn lines_that_hold_no_row_are_left_and_damaged_ones_set_aside() {
    let folder = finished(5);
    drop_line(&folder, RESULTS, 2);
    folder.append(RESULTS, "{\"no\":\"row\"}\n");
    let damaged = [
        b"\0\0\0\0\xff\n".as_slice(),
        &std::fs::read(folder.path(RESULTS)).unwrap(),
    ];
    folder.write(RESULTS, damaged.concat());
    let done = Run::inside(&folder)
        .resume()
        .simulate()
        .loud()
        .expect_stderr([
            "KiB shorter than it was",
            "1 damaged line set aside in in.results.torn",
            "1 line without a row",
            "in.jsonl: 5 items, 4 done before, asking ",
            "5 items, 1 ok, 4 ok before",
            "tokens",
            "cost",
            "speed",
            "results",
        ])
        .run();
    let text = done.folder.read(RESULTS).replace("{\"no\":\"row\"}\n", "");
    assert_eq!(ids(&support::parse_rows(&text)), item_ids(5));
    let torn = std::fs::read(folder.path("in.results.torn")).unwrap();
    assert_eq!(torn, b"\0\0\0\0\xff\n");
}

#[test]
fn results_that_are_gone_are_not_paid_for_again_unasked() {
    let folder = finished(3);
    folder.remove(RESULTS);
    Run::inside(&folder)
        .resume()
        .simulate()
        .expect_code(2)
        .expect_stderr(["in.results.jsonl is gone", "hint: put it back"])
        .run();
    let done = Run::inside(&folder)
        .resume()
        .simulate()
        .args(["--allow-changes"])
        .run();
    assert_all_answered(&done, 3);
}

#[test]
fn results_that_stand_where_errors_belong_are_not_thrown_away() {
    let folder = finished(2);
    let other = folder.read(RESULTS).replace("t-", "other-");
    folder.write("in.results.errors.jsonl", &other);
    resume(&folder);
    assert_eq!(folder.read("in.results.errors.jsonl"), other);
}

#[test]
fn a_file_that_holds_something_else_is_not_taken_for_results() {
    let folder = Folder::new();
    folder.write("in.jsonl", items(2));
    for text in ["Dear diary\n", "{\"no\":\"row\"}\n", "1,2\n3,4"] {
        folder.write("notes.txt", text);
        Run::inside(&folder)
            .args(["in.jsonl", "-o", "notes.txt", "--resume"])
            .simulate()
            .expect_code(2)
            .expect_stderr(["notes.txt holds no results of a run", "hint: -o FILE"])
            .run();
        assert_eq!(folder.read("notes.txt"), text);
    }
}

/// A row's own position is that of the input that it was asked for.
// Negative control: in `known_results`, believing the position of a row behind the checkpoint.
#[test]
fn rows_of_another_input_are_placed_by_their_ids() {
    let folder = finished(4);
    let shard = Folder::new();
    shard.write(
        "in.jsonl",
        items(6).replace("t-0", "t-5").replacen("t-5", "t-4", 1),
    );
    Run::inside(&shard)
        .args(["in.jsonl", "--skip-invalid"])
        .simulate()
        .expect_code(3)
        .run();
    let rows = shard.read(RESULTS);
    let other = rows.lines().find(|row| row.contains("\"t-4\"")).unwrap();
    folder.append(RESULTS, &format!("{other}\n"));
    folder.write("in.jsonl", items(6));
    let (done, requests) = resume(&folder);
    assert_eq!(requests, 1);
    assert_eq!(done.ids(), item_ids(6));
}

#[test]
fn a_row_that_stands_twice_is_spoken_of() {
    let folder = finished(3);
    let text = folder.read(RESULTS);
    folder.write(RESULTS, format!("{text}{}\n", text.lines().next().unwrap()));
    folder.remove("in.results.checkpoint.json");
    Run::inside(&folder)
        .resume()
        .simulate()
        .loud()
        .expect_stderr([
            "is missing: reading the results instead",
            "1 row of items that have one already",
            "3 done before",
            "3 items",
            "tokens",
            "cost",
            "speed",
            "results",
        ])
        .run();
}

#[test]
fn resume_with_nothing_there_just_runs() {
    let folder = Folder::new();
    folder.write("in.jsonl", items(3));
    let (done, requests) = resume(&folder);
    assert_eq!(requests, 3);
    assert_all_answered(&done, 3);
}

/// A server that fails for items whose prompt names the way, until it is told to be kind.
fn moody() -> (Script, Arc<std::sync::atomic::AtomicBool>) {
    use std::sync::atomic::{AtomicBool, Ordering};
    let kind = Arc::new(AtomicBool::new(false));
    let script = Script::serve({
        let kind = kind.clone();
        move |asked: &Asked| match asked.prompt().as_str() {
            _ if kind.load(Ordering::SeqCst) => script::answer("fine"),
            "fail" => script::refusal("500 Internal Server Error", "x", "broken"),
            "filter" => script::refusal("400 Bad Request", "content_filter", "no"),
            "reject" => script::refusal("400 Bad Request", "context_length_exceeded", "no"),
            "malformed" => script::response("200 OK", &json!({"choices": []})),
            _ => script::answer("fine"),
        }
    });
    (script, kind)
}

/// Runs one item of each way to fail; then the server turns kind.
fn failed_in_every_way() -> (Script, Arc<Folder>) {
    let (script, kind) = moody();
    let folder = Folder::new();
    let lines = ["good", "fail", "filter", "reject", "malformed"]
        .map(|way| json!({"id": way, "prompt": way}).to_string());
    let done = Run::inside(&folder)
        .input(lines.join("\n"))
        .ask(&script.base_url())
        .args(["--max-retries", "0"])
        .expect_code(3)
        .run();
    assert_eq!(
        statuses(&done.errors()),
        [
            ("fail", "failed"),
            ("filter", "filtered"),
            ("malformed", "invalid"),
            ("reject", "rejected"),
        ]
    );
    kind.store(true, std::sync::atomic::Ordering::SeqCst);
    (script, folder)
}

/// Returns ids and statuses, sorted.
fn statuses(rows: &[Value]) -> Vec<(&str, &str)> {
    let mut found: Vec<_> = rows
        .iter()
        .map(|row| (row["id"].as_str().unwrap(), row["status"].as_str().unwrap()))
        .collect();
    found.sort_unstable();
    found
}

// Turned red by: `ErrorLog::finish` not dropping what was superseded.
#[test]
fn failed_items_are_asked_again_and_leave_the_errors_file() {
    let (script, folder) = failed_in_every_way();
    let before = script.asked().len();
    let done = Run::inside(&folder)
        .resume()
        .ask(&script.base_url())
        .expect_code(3)
        .run();
    assert_eq!(script.asked().len() - before, 2);
    assert_eq!(ids(&done.results()), ["fail", "good", "malformed"]);
    assert_eq!(
        statuses(&done.errors()),
        [("filter", "filtered"), ("reject", "rejected")]
    );
}

#[test]
fn filtered_and_rejected_items_are_asked_again_on_demand() {
    let (script, folder) = failed_in_every_way();
    let done = Run::inside(&folder)
        .resume()
        .ask(&script.base_url())
        .args(["--retry", "filtered"])
        .expect_code(3)
        .run();
    assert_eq!(statuses(&done.errors()), [("reject", "rejected")]);
    let done = Run::inside(&folder)
        .resume()
        .ask(&script.base_url())
        .args(["--retry", "filtered,rejected"])
        .run();
    assert_eq!(done.errors(), [] as [Value; 0]);
    assert_eq!(done.results().len(), 5);
}

#[test]
fn an_item_that_fails_again_stands_once() {
    let (script, _) = moody();
    let folder = Folder::new();
    let run = |run: Run| {
        run.ask(&script.base_url())
            .args(["--max-retries", "0"])
            .expect_code(3)
            .run()
    };
    run(Run::inside(&folder).input("{\"id\":\"a\",\"prompt\":\"fail\"}\n"));
    for _ in 0..2 {
        let done = run(Run::inside(&folder).resume());
        assert_eq!(statuses(&done.errors()), [("a", "failed")]);
    }
}

#[test]
fn bad_lines_are_checked_again() {
    let folder = Folder::new();
    let good = item(0);
    Run::inside(&folder)
        .input(format!("{good}{{\"id\":\"t-1\"}}\n"))
        .simulate()
        .args(["--skip-invalid"])
        .expect_code(3)
        .run();
    let done = Run::inside(&folder)
        .resume()
        .simulate()
        .args(["--skip-invalid"])
        .expect_code(3)
        .run();
    assert_eq!(statuses(&done.errors()), [("t-1", "invalid_input")]);
    folder.write("in.jsonl", good + &item(1));
    let (done, requests) = resume(&folder);
    assert_eq!(requests, 1);
    assert_all_answered(&done, 2);
}

// Turned red by: `resume` not looking at the differences.
#[test]
fn another_request_than_before_is_refused_with_what_changed() {
    let folder = Folder::new();
    Run::inside(&folder)
        .input("{\"id\":\"a\",\"text\":\"x\"}\n")
        .simulate()
        .args([
            "-m",
            "one",
            "--prompt",
            "A {{ text }}",
            "--temperature",
            "0",
        ])
        .run();
    let before = folder.content();
    Run::inside(&folder)
        .resume()
        .simulate()
        .args(["-m", "two", "--prompt", "B {{ text }}", "--max-tokens", "5"])
        .args(["--system", "S", "--lean"])
        .expect_code(2)
        .expect_stderr([
            "error: this is not the run that in.results.checkpoint.json tells of",
            "  model was \"one\", is \"two\"",
            "  prompt was \"A {{ text }}\", is \"B {{ text }}\"",
            "  system was none, is \"S\"",
            "  max_tokens was none, is \"5\"",
            "  temperature was \"0.0\", is none",
            "  format was \"native\", is \"native, lean\"",
            "hint: --allow-changes",
        ])
        .run();
    assert_eq!(folder.content(), before);
}

#[test]
fn allowed_changes_go_on_with_the_new_request() {
    let folder = Folder::new();
    let run = |run: Run, model| run.simulate().args(["-m", model]).run();
    run(Run::inside(&folder).input(items(2)), "one");
    folder.append("in.jsonl", &item(2));
    let done = run(
        Run::inside(&folder).resume().args(["--allow-changes"]),
        "two",
    );
    let models = ["t-0", "t-1", "t-2"]
        .map(|id| row(&done.results(), id)["response"]["model"].clone())
        .map(|model| model.as_str().unwrap()[..3].to_owned());
    assert_eq!(models, ["one", "one", "two"]);
    // What was allowed once is what the next resume compares with.
    run(Run::inside(&folder).resume(), "two");
}

#[test]
fn appended_and_inserted_lines_simply_run() {
    let folder = finished(4);
    let text = item(9) + &items(2) + &item(7) + &items(4)[items(2).len()..] + &item(8);
    folder.write("in.jsonl", text);
    let (done, requests) = resume(&folder);
    assert_eq!(requests, 3);
    let mut expected = item_ids(4);
    expected.extend(["t-7", "t-8", "t-9"].map(str::to_owned));
    assert_eq!(done.ids(), expected);
}

#[test]
fn an_input_that_changed_is_spoken_of() {
    let folder = finished(2);
    folder.write("in.jsonl", items(2).replace("question", "another question"));
    let done = Run::inside(&folder)
        .resume()
        .simulate()
        .loud()
        .any_stderr()
        .run();
    let said = "note: the input is another than before: an id that has its result keeps it\n";
    assert!(done.stderr.starts_with(said), "{}", done.stderr);
    assert_eq!(done.folder.lines(RESULTS), 2);
}

#[test]
fn removed_lines_keep_their_results() {
    let folder = finished(4);
    folder.write("in.jsonl", item(3) + &item(1));
    let (done, requests) = resume(&folder);
    assert_eq!(requests, 0);
    assert_eq!(done.ids(), item_ids(4));
}

#[test]
fn derived_ids_survive_inserting_and_reordering() {
    let line = |text: &str| format!("{{\"prompt\":\"{text}\"}}\n");
    let folder = Folder::new();
    Run::inside(&folder)
        .input(line("a") + &line("b") + &line("c"))
        .simulate()
        .run();
    folder.write(
        "in.jsonl",
        line("c") + &line("new") + &line("a") + "\n" + &line("b"),
    );
    let (done, requests) = resume(&folder);
    assert_eq!(requests, 1);
    assert_eq!(done.results().len(), 4);
}

#[test]
fn a_second_process_is_refused_and_told_the_lock() {
    let stalled = Server::start("stall=1");
    let folder = Folder::new();
    let first = Run::inside(&folder)
        .input(items(2))
        .ask(stalled.base_url())
        .start();
    wait_until("the first is at work", || stalled.count("in_flight") > 0);
    let before = folder.content();
    for mode in ["--resume", "--overwrite"] {
        Run::inside(&folder)
            .args(["in.jsonl", mode])
            .ask(stalled.base_url())
            .expect_code(2)
            .expect_stderr([" is writing this output (in.results.lock)", "hint: "])
            .run();
    }
    assert_eq!(folder.content(), before);
    first.kill();
    let done = Run::inside(&folder)
        .resume()
        .simulate()
        .args(["-m", "m"])
        .run();
    assert_all_answered(&done, 2);
    assert!(!folder.names().contains(&"in.results.lock".to_owned()));
}

#[test]
fn an_abrupt_end_is_spoken_of() {
    let stalled = Server::start("stall=1");
    let folder = Folder::new();
    let first = Run::inside(&folder)
        .input(items(9))
        .ask(stalled.base_url())
        .args(["-c", "3"])
        .start();
    wait_until("the first is at work", || stalled.count("in_flight") == 3);
    first.kill();
    Run::inside(&folder)
        .resume()
        .simulate()
        .args(["-m", "m"])
        .loud()
        .expect_stderr([
            "note: the run before ended abruptly: up to 3 requests may have been on their way",
            "in.jsonl: 9 items, asking ",
            "9 items, 9 ok",
            "tokens",
            "cost",
            "speed",
            "results",
        ])
        .run();
}

#[test]
fn the_openai_format_resumes_too() {
    let folder = Folder::new();
    let openai = ["--format", "openai", "--json"];
    Run::inside(&folder)
        .input(items(6))
        .simulate()
        .args(openai)
        .run();
    let whole = folder.read(RESULTS);
    for cut in [
        whole.len(),
        whole.len() - 1,
        whole.len() - 9,
        whole.len() / 2,
        0,
    ] {
        for with_checkpoint in [true, false] {
            folder.write(RESULTS, &whole[..cut]);
            if !with_checkpoint {
                folder.remove(CHECKPOINT);
            }
            let done = Run::inside(&folder).resume().simulate().args(openai).run();
            assert_eq!(done.ids(), item_ids(6));
            let rows = whole[..(cut + 1).min(whole.len())].matches('\n').count();
            assert_eq!(done.json()["requests"], 6 - rows, "cut at {cut}");
        }
    }
}

// Turned red by: judging an errors row by its own position, which is that of an older input.
#[test]
fn a_kept_error_stays_kept_when_lines_are_inserted_above_it() {
    let script = Script::serve(
        |asked| match asked.json()["messages"][0]["content"].as_str() {
            Some("question 2") => script::refusal("400 Bad Request", "content_filter", "no"),
            _ => script::answer("fine"),
        },
    );
    let folder = Folder::new();
    let run = || {
        Run::inside(&folder)
            .resume()
            .ask(&script.base_url())
            .args(["-c", "1"])
            .expect_code(3)
            .run()
    };
    folder.write("in.jsonl", items(4));
    run();
    let first = "{\"id\":\"new\",\"prompt\":\"p\"}\n".to_owned();
    folder.write("in.jsonl", first + &items(4));
    run();
    let done = run();
    assert_eq!(script.asked().len(), 5, "nothing is asked twice");
    assert_eq!(ids(&done.errors()), ["t-2"]);
    assert_eq!(done.results().len(), 4);
}

// Turned red by: counting what the reader has passed instead of what was known at the start.
#[test]
fn a_resumed_run_that_is_stopped_counts_what_was_done_before() {
    let script = Script::serve({
        let asked = std::sync::atomic::AtomicUsize::new(0);
        move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            300 => script::refusal("401 Unauthorized", "invalid_api_key", "no"),
            _ => script::answer("fine"),
        }
    });
    let folder = Folder::new();
    folder.write("in.jsonl", items(400));
    let run = || {
        Run::inside(&folder)
            .resume()
            .ask(&script.base_url())
            .args(["-c", "1", "--json"])
    };
    run().args(["--limit", "300"]).run();
    let stopped = run().expect_code(4).any_stderr().run();
    let summary: serde_json::Value = serde_json::from_str(&stopped.stdout).unwrap();
    assert_eq!(
        (&summary["ok_before"], &summary["pending"]),
        (&300.into(), &100.into())
    );
}
