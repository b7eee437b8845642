//! Processes that stand still for a while: the server's, and the run's own, as in a laptop's sleep.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::evidence::RESULTS;
use support::server::Server;
use support::{Folder, Outcome, Run, Running, ids, item_ids, items, tag, wait_until};

const ITEMS: usize = 60;
const TIMEOUT: Duration = Duration::from_millis(400);

/// Starts a run and waits until it is in the middle of its work.
fn in_mid_run(folder: &Arc<Folder>, server: &Server) -> Running {
    let running = Run::inside(folder)
        .input(items(ITEMS))
        .ask(server.base_url())
        .args([
            "-c",
            "4",
            "--timeout",
            "0.4",
            "--progress",
            "log",
            "-v",
            "--json",
        ])
        .loud()
        .any_stderr()
        .start();
    wait_until("rows", || folder.lines(RESULTS) >= 10);
    running
}

/// Asserts that each item has its own answer, and that no charge beyond them is kept quiet.
fn assert_complete(done: &Outcome, server: &Server) {
    let results = done.results();
    assert_eq!(ids(&results), item_ids(ITEMS));
    for row in &results {
        let number = row["index"].as_u64().unwrap();
        let content = row["content"].as_str().unwrap();
        assert!(content.starts_with(&tag(&format!("question {number}"))));
    }
    let told = done.json()["possibly_charged"].as_u64().unwrap();
    let charged = server.count("charged_answers");
    assert!(
        charged <= ITEMS as u64 + told,
        "{charged} charged, {told} told of"
    );
}

// Turned red by: `Tally::lose` not counting what is uncertain.
#[test]
fn a_server_that_stands_still_costs_no_item() {
    let server = Server::start("latency=15ms");
    let folder = Folder::new();
    let running = in_mid_run(&folder, &server);
    server.signal("STOP");
    wait_until("a timeout", || {
        running.stderr_so_far().contains(": timeout, again in ")
    });
    server.signal("CONT");
    assert_complete(&running.finish(), &server);
}

// On waking, deadlines have passed while their answers wait in the sockets.
// Turned red by: `OVERSLEPT` of a second.
#[test]
fn a_run_that_stands_still_loses_no_answer() {
    let server = Server::start("latency=15ms");
    let folder = Folder::new();
    let running = in_mid_run(&folder, &server);
    running.signal("STOP");
    let since = Instant::now();
    wait_until("every deadline has passed", || {
        since.elapsed() > 2 * TIMEOUT
    });
    running.signal("CONT");
    let done = running.finish();
    assert_complete(&done, &server);
    assert_eq!(done.json()["possibly_charged"], 0);
}
