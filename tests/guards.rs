//! What stops a run before its end, in words and exit codes, and what does not.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use support::script::{Script, answer, refusal, with_headers};
use support::server::Server;
use support::{Run, items};

fn rejects_every_other_item() -> Script {
    Script::serve(|asked| {
        let number = asked.prompt().replace("question ", "");
        match number.parse::<u64>().unwrap() % 2 {
            0 => refusal("400 Bad Request", "bad_thing", "no such thing"),
            _ => answer("yes"),
        }
    })
}

#[test]
fn too_many_failures_stop_the_run_and_are_named() {
    let script = rejects_every_other_item();
    let done = Run::new()
        .input(items(200))
        .ask(&script.base_url())
        .args(["-c", "1", "--max-error-rate", "5%"])
        .expect_code(4)
        .expect_stderr([
            "error: too many items have no result (--max-error-rate), stopped after 50 requests: \
             25 of the last 50 items have no result",
            "  25  rejected, bad request (400 bad_thing), e.g. t-0, t-2, t-4: no such thing",
            "hint: mend what fails, or allow more; 50 of 200 done; then --resume goes on",
        ])
        .run();
    assert_eq!((done.results().len(), done.errors().len()), (25, 25));
}

/// Negative control: without the guard, this is the same run as above, and it goes on.
#[test]
fn without_a_limit_any_number_of_items_may_fail() {
    let script = rejects_every_other_item();
    let done = Run::new()
        .input(items(120))
        .ask(&script.base_url())
        .expect_code(3)
        .run();
    assert_eq!((done.results().len(), done.errors().len()), (60, 60));
}

#[test]
fn first_items_that_are_all_rejected_alike_stop_the_run() {
    let script = Script::serve(|_| refusal("400 Bad Request", "bad_thing", "no such thing"));
    let done = Run::new()
        .input(items(200))
        .ask(&script.base_url())
        .args(["-c", "1"])
        .expect_code(4)
        .expect_stderr([
            "error: the first items were all rejected in the same way (400 bad_thing), stopped \
             after 20 requests:",
            "  20  rejected, bad request (400 bad_thing), e.g. t-0, t-1, t-2: no such thing",
            "hint: mend the request; --retry rejected asks these again too; 20 of 200 done; then --resume",
        ])
        .run();
    assert_eq!(done.errors().len(), 20);
}

/// Answers so many requests, and then says that there is no room.
fn goes_away_after(answers: usize) -> Script {
    let asked = AtomicUsize::new(0);
    Script::serve(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        number if number < answers => answer("yes"),
        _ => refusal("503 Service Unavailable", "overloaded", "no room"),
    })
}

#[test]
fn an_outage_beyond_the_longest_one_stops_the_run() {
    let script = goes_away_after(10);
    let done = Run::new()
        .input(items(100))
        .ask(&script.base_url())
        .args(["-c", "2", "--breaker", "3", "--max-outage", "2"])
        .expect_code(4)
        .expect_stderr([
            "error: the server has been away for too long (503 overloaded), stopped after",
            "hint: try again later; a larger --max-outage waits longer; 10 of 100 done; then \
             --resume goes on",
        ])
        .run();
    assert_eq!((done.results().len(), done.errors().len()), (10, 0));
    // Three failures, one more in flight, and probes after waits of a second in all.
    assert!(
        script.asked().len() <= 10 + 4 + 4,
        "{}",
        script.asked().len()
    );
}

#[test]
fn an_outage_that_ends_costs_no_item_and_is_told_of() {
    let asked = AtomicUsize::new(0);
    let script = Script::serve(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        10..15 => refusal("503 Service Unavailable", "overloaded", "no room"),
        _ => answer("yes"),
    });
    let done = Run::new()
        .input(items(40))
        .ask(&script.base_url())
        .args(["-c", "1", "--breaker", "4", "--max-retries", "0"])
        .loud()
        .any_stderr()
        .run();
    assert_eq!(done.results().len(), 40);
    let told = [
        "outage: server answers 503; items keep",
        "the server answers again after",
    ];
    for words in told {
        assert!(done.stderr.contains(words), "{}", done.stderr);
    }
}

#[test]
fn an_absurd_wait_stops_the_run_at_once() {
    let body = r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#;
    let script = Script::serve(move |_| {
        with_headers("429 Too Many Requests", "retry-after: 1000000000\r\n", body)
    });
    Run::new()
        .input(items(100))
        .ask(&script.base_url())
        .args(["-c", "1"])
        .expect_code(4)
        .expect_stderr([
            "it asks for 277777h 46m, and 30m 00s is the most that this run waits: slow down",
            "hint: try again later, or wait with a larger --max-outage; 0 of 100 done; then \
             --resume goes on",
        ])
        .run();
    assert_eq!(script.asked().len(), 1);
}

#[test]
fn an_items_time_bounds_its_attempts() {
    let server = Server::start("stall=1");
    let done = Run::new()
        .input(items(1))
        .ask(server.base_url())
        .args(["--item-timeout", "0.4"])
        .expect_code(3)
        .run();
    let error = &done.errors()[0]["error"];
    assert_eq!(error["kind"], "timeout");
    assert_eq!(
        error["message"],
        "no result within 0.4 s (--item-timeout) after 1 attempt; the last: no answer within 0.4 s"
    );
}

#[test]
fn guards_that_make_no_sense_are_refused() {
    for (flag, typed) in [
        ("--max-error-rate", "1"),
        ("--max-error-rate", "0"),
        ("--max-error-rate", "-5%"),
        ("--max-error-rate", "nan"),
        ("--max-error-rate", "101%"),
        ("--max-outage", "0"),
        ("--item-timeout", "0"),
    ] {
        let error = format!("error: {flag} {typed}");
        Run::new()
            .input(items(1))
            .simulate()
            .args([flag, typed])
            .expect_code(2)
            .expect_stderr([error.as_str(), "hint: "])
            .run();
    }
}

#[test]
fn a_run_that_was_done_anyway_was_not_stopped() {
    let script = Script::serve(|_| refusal("400 Bad Request", "bad_thing", "no such thing"));
    let done = Run::new()
        .input(items(20))
        .ask(&script.base_url())
        .expect_code(3)
        .run();
    assert_eq!(done.errors().len(), 20);
}
