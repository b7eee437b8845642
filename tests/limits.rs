//! What the limits promise: never more at a time, never more a minute, and no idle spinning.

mod support;

use std::time::{Duration, Instant};

use support::server::Server;
use support::{Run, Running, item, item_ids, items, wait_until};

// Turned red by: `Semaphore::new(slots + 1)`.
#[test]
fn concurrency_is_used_and_never_exceeded() {
    let server = Server::start("latency=10ms");
    let done = Run::new()
        .input(items(60))
        .ask(server.base_url())
        .args(["-c", "5"])
        .run();
    assert_eq!(done.ids(), item_ids(60));
    assert_eq!(server.count("peak_in_flight"), 5);
}

#[test]
fn concurrency_holds_through_retries() {
    let server = Server::start("latency=5ms,500=0.1,reset=0.1");
    Run::new()
        .input(items(60))
        .ask(server.base_url())
        .args(["-c", "3"])
        .run();
    assert_eq!(server.count("peak_in_flight"), 3);
}

#[test]
fn one_at_a_time_is_one_at_a_time() {
    let server = Server::start("latency=1ms");
    Run::new()
        .input(items(20))
        .ask(server.base_url())
        .args(["-c", "1"])
        .run();
    assert_eq!(server.count("peak_in_flight"), 1);
}

// Turned red by: halving `unit` in `Bucket::per_minute`.
#[test]
fn requests_a_minute_never_meet_a_429() {
    let server = Server::start("latency=1ms,rpm=1200");
    let start = Instant::now();
    let done = Run::new()
        .input(items(60))
        .ask(server.base_url())
        .args(["--rpm", "1200"])
        .run();
    assert_eq!(done.ids(), item_ids(60));
    assert_eq!(server.count("throttled_requests"), 0);
    // 20 a second, of which the first two go out at once.
    assert!(start.elapsed() > Duration::from_millis(2800));
}

#[test]
fn tokens_a_minute_never_meet_a_429() {
    // Answers are cut at 8 tokens, so both sides count the same.
    let server = Server::start("latency=1ms,tpm=24000,output-tokens=400");
    let start = Instant::now();
    let done = Run::new()
        .input(items(60))
        .ask(server.base_url())
        .args(["--tpm", "24000", "--max-tokens", "8"])
        .run();
    assert_eq!(done.ids(), item_ids(60));
    assert_eq!(server.count("throttled_tokens"), 0);
    let tokens = server.count("prompt_tokens") + server.count("completion_tokens");
    let least = Duration::from_secs_f64((tokens as f64 / 400.0) - 0.5);
    assert!(start.elapsed() > least, "{tokens} tokens too fast");
}

#[test]
fn a_limit_that_the_server_alone_knows_costs_no_item() {
    let server = Server::start("latency=1ms,rpm=1200");
    let done = Run::new()
        .input(items(60))
        .ask(server.base_url())
        .args(["-c", "16"])
        .run();
    assert_eq!(done.ids(), item_ids(60));
    assert_eq!(done.results().len(), 60);
    assert!(server.count("throttled_requests") > 0);
}

#[test]
fn a_full_server_costs_no_item() {
    let server = Server::start("latency=5ms,max-in-flight=4");
    let done = Run::new()
        .input(items(20))
        .ask(server.base_url())
        .args(["-c", "8"])
        .run();
    assert_eq!(done.results().len(), 20);
    assert!(server.count("crowded") > 0);
}

/// Returns the processor time of a process, in seconds.
fn processor_seconds(running: &Running) -> Option<f64> {
    let path = format!("/proc/{}/stat", running.pid());
    let stat = std::fs::read_to_string(path).ok()?;
    let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().ok()? + fields[12].parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

#[test]
fn an_item_heavier_than_the_whole_bucket_neither_hangs_nor_spins() {
    let server = Server::start("latency=1ms,output-tokens=1");
    let words = "word ".repeat(1200);
    let heavy = |id| format!("{{\"id\":\"{id}\",\"prompt\":\"{words}\"}}\n");
    let mut running = Run::new()
        .input((0..3).map(heavy).collect::<String>())
        .ask(server.base_url())
        .args(["--tpm", "60000", "--max-tokens", "1"])
        .start();
    wait_until("the first goes out", || server.count("requests") > 0);
    let (start, before) = (Instant::now(), processor_seconds(&running).unwrap());
    let mut spent = 0.0;
    wait_until("the others follow", || {
        if let Some(now) = processor_seconds(&running) {
            spent = now - before;
        }
        running.has_ended()
    });
    let waited = start.elapsed().as_secs_f64();
    // Twice a debt of 1,200 tokens, at 1,000 a second.
    assert!((1.5..10.0).contains(&waited), "{waited} s");
    assert!(spent < waited / 4.0, "{spent} s of processor in {waited} s");
    let done = running.finish();
    assert_eq!(done.results().len(), 3);
}

#[test]
fn an_item_heavier_than_a_whole_minute_ends_the_run_alone() {
    let server = Server::start("latency=1ms,output-tokens=1");
    let words = "word ".repeat(2400);
    let start = Instant::now();
    let done = Run::new()
        .input(format!("{{\"id\":\"heavy\",\"prompt\":\"{words}\"}}\n"))
        .ask(server.base_url())
        .args(["--tpm", "60"])
        .run();
    assert_eq!(done.ids(), ["heavy"]);
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn an_item_that_the_server_can_never_take_is_rejected_at_once() {
    let server = Server::start("latency=1ms,tpm=600");
    let words = "word ".repeat(2400);
    let done = Run::new()
        .input(item(0) + &format!("{{\"id\":\"heavy\",\"prompt\":\"{words}\"}}\n"))
        .ask(server.base_url())
        .args(["--max-tokens", "1"])
        .expect_code(3)
        .run();
    let errors = done.errors();
    assert_eq!(errors[0]["id"], "heavy");
    assert_eq!(errors[0]["status"], "rejected");
    assert_eq!(errors[0]["error"]["kind"], "too_large");
    assert_eq!(server.count("requests"), 2);
}
