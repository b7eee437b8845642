//! What goes wrong on the way, and what the rows, the exit code and the server see of it.

mod support;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::script::{self, Asked, Script, answer, completion, refusal, response, with_headers};
use support::server::Server;
use support::{Folder, Outcome, Run, ids, item, item_ids, items, leaks, row, wait_until};

const ITEMS: usize = 60;
const KEY: &str = "sk-test-0123456789abcdef";

/// Runs items against a simulator with this spec; every id must stand once.
fn struck_by(spec: &str, args: &[&str], code: i32) -> (Outcome, Server) {
    let server = Server::start(&format!("latency=1ms,seed=3,{spec}"));
    let done = Run::new()
        .input(items(ITEMS))
        .ask(server.base_url())
        .args(["-c", "8"])
        .args(args.iter().copied())
        .expect_code(code)
        .run();
    assert_eq!(done.ids(), item_ids(ITEMS));
    assert!(done.results().iter().all(|row| row["status"] == "ok"));
    (done, server)
}

fn attempts(rows: &[Value]) -> u64 {
    let attempts = rows.iter().map(|row| row["attempts"].as_u64().unwrap());
    attempts.sum()
}

/// Runs one item against a script and returns the outcome and what was asked.
fn ask_one(code: i32, answer: impl Fn(&Asked) -> String + Send + Sync + 'static) -> One {
    let script = Script::serve(answer);
    let done = Run::new()
        .input(items(1))
        .ask(&script.base_url())
        .expect_code(code)
        .run();
    One {
        done,
        asked: script.asked(),
    }
}

struct One {
    done: Outcome,
    asked: Vec<Asked>,
}

impl One {
    fn error(&self) -> Value {
        let errors = self.done.errors();
        assert_eq!(errors.len(), 1);
        errors[0].clone()
    }
}

// Turned red by: leaving out `history.attempts -= 1` for push-backs.
#[test]
fn throttled_items_keep_their_attempts() {
    let (done, server) = struck_by("429=0.1", &["--max-retries", "0"], 0);
    assert!(server.faults("429") > 3);
    assert_eq!(attempts(&done.results()), ITEMS as u64);
}

#[test]
fn overload_costs_no_attempt() {
    let (done, server) = struck_by("503=0.2", &["--max-retries", "0"], 0);
    assert!(server.faults("503") > 5);
    assert_eq!(attempts(&done.results()), ITEMS as u64);
}

/// Faults that pass: everything succeeds, and every request is in some row's attempts.
fn passes(fault: &str) {
    let (done, server) = struck_by(&format!("{fault}=0.15"), &[], 0);
    let struck = server.faults(fault);
    assert!(struck > 3);
    assert_eq!(attempts(&done.results()), ITEMS as u64 + struck);
    assert_eq!(server.count("requests"), ITEMS as u64 + struck);
}

#[test]
fn server_errors_are_retried() {
    passes("500");
}

#[test]
fn reset_connections_are_retried() {
    passes("reset");
}

#[test]
fn truncated_answers_are_retried() {
    passes("truncated");
}

/// Answers that cannot be used: asked twice, then `invalid`, with the answer kept.
fn unusable(spec: &str, fault: &str, is_kept: impl Fn(&Value) -> bool) {
    let (done, server) = struck_by(spec, &[], 3);
    let errors = done.errors();
    assert!(!errors.is_empty() && server.faults(fault) > errors.len() as u64 * 2);
    for row in &errors {
        assert_eq!(row["status"], "invalid");
        assert_eq!(row["error"]["kind"], "malformed");
        assert!(is_kept(&row["response"]), "{row}");
    }
}

#[test]
fn broken_json_is_asked_twice_and_kept() {
    unusable("bad-json=0.3", "bad-json", |kept| {
        kept.as_str()
            .is_some_and(|text| text.starts_with("{\"id\""))
    });
}

#[test]
fn answers_without_choices_are_asked_twice_and_kept() {
    unusable("empty-choices=0.3", "empty-choices", |kept| {
        kept["choices"] == json!([])
    });
}

#[test]
fn html_pages_are_retried_or_kept() {
    unusable("html=0.4", "html", |kept| {
        kept.as_str().is_some_and(|text| text.contains("<html>"))
    });
}

#[test]
fn filtered_items_are_asked_once() {
    let (done, server) = struck_by("content-filter=0.2", &[], 3);
    let errors = done.errors();
    assert_eq!(errors.len() as u64, server.faults("content-filter"));
    assert_eq!(server.count("requests"), ITEMS as u64);
    for row in &errors {
        assert_eq!(row["status"], "filtered");
        assert_eq!(row["error"]["kind"], "content_filter");
        assert_eq!(row["error"]["retryable"], false);
    }
}

#[test]
fn answers_without_usage_are_answers() {
    let (done, server) = struck_by("no-usage=0.3", &["--json"], 0);
    let without = done
        .results()
        .iter()
        .filter(|row| row["usage"].is_null())
        .count() as u64;
    assert!(without > 5);
    assert_eq!(without, server.faults("no-usage"));
    assert_eq!(done.json()["tokens"]["answers_without_usage"], without);
}

#[test]
fn stalled_requests_end_with_their_time() {
    let (done, server) = struck_by("stall=0.1", &["--timeout", "1"], 3);
    let errors = done.errors();
    assert!(errors.iter().all(|row| row["error"]["kind"] == "timeout"));
    let all = attempts(&done.results()) + attempts(&errors);
    let unsettled = server.faults("stall") - errors.len() as u64;
    assert_eq!(all, ITEMS as u64 + unsettled);
}

#[test]
fn all_faults_together_lose_nothing() {
    let all = "429=0.05,500=0.05,503=0.05,reset=0.05,stall=0.02,truncated=0.05,html=0.05,\
               bad-json=0.05,empty-choices=0.05,content-filter=0.05,no-usage=0.05";
    let (done, server) = struck_by(all, &["--timeout", "2"], 3);
    let requests = server.count("requests");
    let push_backs = server.faults("429") + server.faults("503");
    let attempts = attempts(&done.results()) + attempts(&done.errors());
    assert_eq!(requests, attempts + push_backs);
}

// Turned red by: `TRIES_AT_A_PRICE` being 3.
#[test]
fn a_timeout_is_tried_twice() {
    let server = Server::start("stall=1");
    let done = Run::new()
        .input(items(1))
        .ask(server.base_url())
        .args(["--timeout", "0.3"])
        .expect_code(3)
        .run();
    let row = &done.errors()[0];
    assert_eq!(row["status"], "failed");
    assert_eq!(row["error"]["kind"], "timeout");
    assert_eq!(row["error"]["message"], "no answer within 0.3 s");
    assert_eq!(row["error"]["retryable"], true);
    assert_eq!(row["attempts"], 2);
    assert_eq!(server.count("requests"), 2);
}

#[test]
fn an_item_that_keeps_failing_is_given_up() {
    let script = Script::serve(|_| refusal("500 Internal Server Error", "boom", "broken"));
    let done = Run::new()
        .input(items(1))
        .ask(&script.base_url())
        .args(["--max-retries", "1"])
        .expect_code(3)
        .run();
    let errors = done.errors();
    let expected = json!({
        "id": "t-0", "index": 0, "status": "failed",
        "error": {"kind": "server_error", "message": "broken", "http_status": 500,
            "code": "boom", "retryable": true},
        "attempts": 2, "metadata": null,
    });
    assert_eq!(errors, [expected]);
    assert_eq!(script.asked().len(), 2);
}

#[test]
fn a_malformed_answer_is_asked_twice_and_kept() {
    let one = ask_one(3, |_| {
        response("200 OK", &json!({"choices": [], "note": "odd"}))
    });
    let error = one.error();
    assert_eq!(error["status"], "invalid");
    assert_eq!(error["response"], json!({"choices": [], "note": "odd"}));
    assert_eq!(error["attempts"], 2);
    assert_eq!(one.asked.len(), 2);
}

#[test]
fn an_answer_that_is_not_the_json_asked_for_is_invalid() {
    let script = Script::serve(|_| answer("certainly! {"));
    let done = Run::new()
        .input(items(1))
        .ask(&script.base_url())
        .args(["--param", "response_format={\"type\":\"json_object\"}"])
        .expect_code(3)
        .run();
    let row = &done.errors()[0];
    assert_eq!(row["status"], "invalid");
    assert_eq!(row["response"], completion("certainly! {"));
    assert_eq!(script.asked().len(), 2);
}

#[test]
fn a_prompt_too_long_for_the_model_is_rejected_at_once() {
    let one = ask_one(3, |_| {
        let message = "This model's maximum context length is 8192 tokens.";
        refusal("400 Bad Request", "context_length_exceeded", message)
    });
    let error = one.error();
    assert_eq!(error["status"], "rejected");
    assert_eq!(error["error"]["kind"], "context_length");
    assert_eq!(error["error"]["http_status"], 400);
    assert_eq!(one.asked.len(), 1);
}

#[test]
fn wrong_requests_are_rejected_at_once() {
    for status in [
        "400 Bad Request",
        "413 Payload Too Large",
        "422 Unprocessable Entity",
    ] {
        let one = ask_one(3, move |_| refusal(status, "odd", "no such thing"));
        assert_eq!(one.error()["status"], "rejected", "{status}");
        assert_eq!(one.asked.len(), 1, "{status}");
    }
}

// Turned red by: pausing for less than `asked` in `Route::pushed_back`.
#[test]
fn the_servers_wait_is_obeyed_by_all() {
    let script = Script::serve(|asked| match asked.number {
        0 => {
            let body = json!({"error": {"message": "slow down", "code": "rate_limit_exceeded"}});
            with_headers(
                "429 Too Many Requests",
                "retry-after: 1\r\n",
                &body.to_string(),
            )
        }
        _ => answer("fine"),
    });
    let done = Run::new()
        .input(items(4))
        .ask(&script.base_url())
        .args(["-c", "1"])
        .run();
    let asked = script.asked();
    assert_eq!(asked.len(), 5);
    for later in &asked[1..] {
        assert!(later.at - asked[0].at >= Duration::from_secs(1));
    }
    assert_eq!(attempts(&done.results()), 4);
}

#[test]
fn a_dead_address_ends_the_run_quickly() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let start = Instant::now();
    let done = Run::new()
        .input(items(100))
        .ask(&base_url)
        .expect_code(4)
        .expect_stderr([
            "error: the server cannot be reached, stopped after",
            "hint: check that http://127.0.0.1:",
        ])
        .run();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(done.ids(), [] as [&str; 0]);
}

#[test]
fn a_wrong_key_stops_the_run_and_the_right_one_finishes_it() {
    let server = Server::with_key("latency=0", "sk-the-right-one-0123");
    let folder = Folder::new();
    Run::inside(&folder)
        .input(items(100))
        .ask(server.base_url())
        .args(["-c", "4"])
        .env("OPENAI_API_KEY", KEY)
        .expect_code(4)
        .expect_stderr([
            "error: the provider refuses the key (401 invalid_api_key), stopped after",
            "hint: the key of OPENAI_API_KEY ends in …ef; mend it; 0 of 100 done; then --resume",
        ])
        .run();
    let few = server.count("unauthorized");
    assert!(few <= 40, "{few} requests with a refused key");
    let done = Run::inside(&folder)
        .resume()
        .ask(server.base_url())
        .env("OPENAI_API_KEY", "sk-the-right-one-0123")
        .run();
    assert_eq!(ids(&done.results()), item_ids(100));
    assert_eq!(server.count("requests"), 100);
}

// Turned red by: a halt going on to `Phase::Aborting` in `Engine::take_end`.
#[test]
fn answers_in_flight_are_kept_when_the_run_stops_itself() {
    let refused = Arc::new(AtomicBool::new(false));
    let script = Script::serve({
        let refused = refused.clone();
        move |asked: &Asked| {
            if asked.number == 3 {
                refused.store(true, Ordering::SeqCst);
                return refusal("401 Unauthorized", "invalid_api_key", "no");
            }
            wait_until("the refusal", || refused.load(Ordering::SeqCst));
            answer("fine")
        }
    });
    let folder = Folder::new();
    let stopped = Run::inside(&folder)
        .input(items(50))
        .ask(&script.base_url())
        .args(["-c", "4"])
        .expect_code(4)
        .expect_stderr(["the provider refuses the key", "hint: no key was sent"])
        .run();
    let sent = script.asked().len();
    assert!(sent < 50, "{sent}");
    assert_eq!(stopped.results().len(), sent - 1);
    assert_eq!(stopped.errors(), [] as [Value; 0]);
    let done = Run::inside(&folder).resume().ask(&script.base_url()).run();
    assert_eq!(ids(&done.results()), item_ids(50));
    assert_eq!(script.asked().len(), 51);
}

#[test]
fn a_used_up_quota_stops_the_run_without_a_retry() {
    let script = Script::serve(|_| {
        refusal(
            "429 Too Many Requests",
            "insufficient_quota",
            "You exceeded your quota",
        )
    });
    Run::new()
        .input(items(100))
        .ask(&script.base_url())
        .args(["-c", "2"])
        .expect_code(4)
        .expect_stderr([
            "the quota is used up (429 insufficient_quota), stopped after",
            "hint: add credit; 0 of 100 done",
        ])
        .run();
    assert_asked_once_and_few(&script);
}

#[test]
fn an_unknown_model_stops_the_run() {
    let script = Script::serve(|_| refusal("404 Not Found", "model_not_found", "no model `m`"));
    Run::new()
        .input(items(100))
        .ask(&script.base_url())
        .args(["-c", "2"])
        .expect_code(4)
        .expect_stderr([
            "does not know this address or model (404 model_not_found), stopped after",
            "hint: check --base-url and --model",
        ])
        .run();
    assert_asked_once_and_few(&script);
}

/// Asserts that no item was asked twice, and that most were not asked at all.
fn assert_asked_once_and_few(script: &Script) {
    let asked = script.asked();
    let mut prompts: Vec<_> = asked.iter().map(Asked::prompt).collect();
    prompts.sort();
    prompts.dedup();
    assert_eq!(prompts.len(), asked.len());
    assert!(asked.len() <= 40, "{} requests", asked.len());
}

#[test]
fn nothing_is_sent_after_the_refusal_that_stops_the_run() {
    let script = Script::serve(|_| refusal("401 Unauthorized", "invalid_api_key", "no"));
    Run::new()
        .input(items(100))
        .ask(&script.base_url())
        .args(["-c", "1"])
        .expect_code(4)
        .any_stderr()
        .run();
    assert_eq!(script.asked().len(), 1);
}

#[test]
fn an_unknown_model_of_one_line_fails_this_line_only() {
    let script = Script::serve(|asked| match asked.json()["model"].as_str() {
        Some("own") => refusal("404 Not Found", "model_not_found", "no model `own`"),
        _ => answer("fine"),
    });
    let done = Run::new()
        .input(items(2) + "{\"id\":\"own\",\"prompt\":\"p\",\"model\":\"own\"}\n")
        .ask(&script.base_url())
        .expect_code(3)
        .run();
    assert_eq!(ids(&done.results()), item_ids(2));
    assert_eq!(row(&done.errors(), "own")["error"]["kind"], "not_found");
}

// Turned red by: leaving out `redirect(Policy::none())` in the transport.
#[test]
fn redirects_are_not_followed() {
    let elsewhere = Script::serve(|_| answer("gotcha"));
    let target = format!("{}/chat/completions", elsewhere.base_url());
    let script = Script::serve(move |_| {
        with_headers(
            "307 Temporary Redirect",
            &format!("location: {target}\r\n"),
            "",
        )
    });
    Run::new()
        .input(items(3))
        .ask(&script.base_url())
        .args(["-c", "1"])
        .env("OPENAI_API_KEY", KEY)
        .expect_code(4)
        .expect_stderr(["redirects are not followed", "hint: check --base-url"])
        .run();
    assert_eq!(elsewhere.asked().len(), 0);
}

/// Runs everything loud against a server that says the key again, and returns where it stands.
fn leaks_from(code: i32, said: &str, answer: impl Fn() -> String + Send + Sync + 'static) {
    let script = Script::serve(move |_| answer());
    let lines = items(2);
    let base_url = script.base_url();
    for format in ["native", "openai"] {
        let run = Run::new()
            .input(&lines)
            .ask(&base_url)
            .args(["-v", "--progress", "json", "--max-retries", "1", "-c", "1"])
            .args(["--format", format])
            .env("OPENAI_API_KEY", KEY)
            .loud()
            .expect_code(code)
            .any_stderr()
            .run();
        assert!(script.asked()[0].head.contains(KEY));
        assert_eq!(leaks(&run, KEY), [] as [&str; 0], "{said}, {format}");
    }
}

// Turned red by: `Http::redact` returning the body as it is.
#[test]
fn an_echoed_key_stands_nowhere() {
    let echo = |status: &'static str| {
        move || {
            refusal(
                status,
                "odd",
                &format!("Incorrect API key provided: {KEY}."),
            )
        }
    };
    leaks_from(4, "401", echo("401 Unauthorized"));
    leaks_from(3, "400", echo("400 Bad Request"));
    leaks_from(3, "500", echo("500 Internal Server Error"));
    leaks_from(0, "200", || answer(&format!("your key is {KEY}")));
    leaks_from(3, "no JSON", || with_headers("200 OK", "", KEY));
}

#[test]
fn a_key_echoed_in_the_request_id_stands_nowhere() {
    leaks_from(0, "request id", || {
        let header = format!("x-request-id: req-{KEY}\r\n");
        with_headers("200 OK", &header, &completion("fine").to_string())
    });
}

#[test]
fn a_key_echoed_in_a_redirect_stands_nowhere() {
    leaks_from(4, "location", || {
        let header = format!("location: http://{KEY}@elsewhere.example/{KEY}?key={KEY}\r\n");
        with_headers("302 Found", &header, "")
    });
}

#[test]
fn a_refused_run_says_nothing_of_the_key() {
    let done = Run::new()
        .input("nonsense\n")
        .ask("http://127.0.0.1:9/v1")
        .env("OPENAI_API_KEY", KEY)
        .expect_code(2)
        .expect_stderr(["1 bad line", "line 1", "hint: "])
        .run();
    assert_eq!(leaks(&done, KEY), [] as [&str; 0]);
}

#[test]
fn a_key_that_is_none_is_refused_without_showing_it() {
    Run::new()
        .input(item(0))
        .ask("http://127.0.0.1:9/v1")
        .env("OPENAI_API_KEY", "sk-with space")
        .expect_code(2)
        .expect_stderr(["error: OPENAI_API_KEY: "])
        .run();
}

#[test]
fn each_item_of_a_failing_run_counts_in_the_summary() {
    let script = Script::serve(|asked| match asked.prompt().as_str() {
        "question 0" => answer("fine"),
        "question 1" => script::refusal("400 Bad Request", "content_filter", "no"),
        _ => script::refusal("400 Bad Request", "odd", "no"),
    });
    let done = Run::new()
        .input(items(4))
        .ask(&script.base_url())
        .args(["--json"])
        .expect_code(3)
        .run();
    let summary = done.json();
    assert_eq!(summary["exit_code"], 3);
    assert_eq!(summary["ok"], 1);
    assert_eq!(summary["filtered"], 1);
    assert_eq!(summary["rejected"], 2);
    assert_eq!(
        summary["error_kinds"],
        json!({"content_filter": 1, "bad_request": 2})
    );
    assert_eq!(
        summary["resume"],
        Value::Null,
        "nothing would be asked again"
    );
}

// Turned red by: looking for keys of any length in answers.
#[test]
fn a_placeholder_key_strikes_no_word_from_an_answer() {
    let script = Script::serve(|_| answer("this is a test answer"));
    let done = Run::new()
        .input(items(1))
        .ask(&script.base_url())
        .env("OPENAI_API_KEY", "test")
        .run();
    assert_eq!(done.results()[0]["content"], "this is a test answer");
}

#[test]
fn an_address_that_knows_no_model_at_all_stops_the_run() {
    let script = Script::serve(|_| refusal("404 Not Found", "model_not_found", "no such thing"));
    let lines: String = (0..50)
        .map(|n| format!("{{\"id\":{n},\"prompt\":\"p\",\"model\":\"own\"}}\n"))
        .collect();
    Run::new()
        .input(lines)
        .ask(&script.base_url())
        .args(["-c", "2"])
        .expect_code(4)
        .any_stderr()
        .run();
    assert!(
        script.asked().len() < 10,
        "{} requests",
        script.asked().len()
    );
}
