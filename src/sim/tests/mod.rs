//! Whole exchanges with the simulator, over plain sockets: what a client really sees.

mod money;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Fault, Faults, SimSettings, Simulator, Stats, echo_tag};

/// A simulator at work, which ends when this is dropped.
struct Bench {
    address: SocketAddr,
    stats: Arc<Stats>,
    _serving: JoinSet<()>,
}

/// A response, taken apart.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

/// Settings under which answers come at once.
fn prompt() -> SimSettings {
    SimSettings {
        latency: Duration::ZERO,
        ..SimSettings::default()
    }
}

fn always(fault: Fault) -> SimSettings {
    SimSettings {
        faults: Faults::default().with(fault, 1.0),
        ..prompt()
    }
}

fn body(text: &str) -> String {
    json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": text }] }).to_string()
}

impl Bench {
    async fn start(settings: SimSettings) -> Bench {
        let simulator = Simulator::bind(0, settings).await.unwrap();
        let (address, stats) = (simulator.address(), simulator.stats());
        let mut serving = JoinSet::new();
        serving.spawn(simulator.serve());
        Bench {
            address,
            stats,
            _serving: serving,
        }
    }

    async fn send(&self, line: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\n{headers}\
             content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn exchange(&self, line: &str, headers: &str, body: &str) -> io::Result<Reply> {
        let mut stream = self.send(line, headers, body).await;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        Ok(Reply::read(&bytes))
    }

    async fn post(&self, body: &str) -> Reply {
        let line = "POST /v1/chat/completions";
        self.exchange(line, "", body).await.unwrap()
    }

    async fn ask(&self, text: &str) -> Reply {
        self.post(&body(text)).await
    }

    async fn get(&self, path: &str) -> Reply {
        let line = format!("GET {path}");
        self.exchange(&line, "", "").await.unwrap()
    }

    fn struck(&self, fault: Fault) -> u64 {
        self.stats.counts().faults[fault.name()]
    }
}

impl Reply {
    fn read(bytes: &[u8]) -> Reply {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        Reply {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            body: bytes[end + 4..].to_vec(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    fn length(&self) -> usize {
        self.header("content-length").unwrap().parse().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn error(&self) -> Value {
        self.json()["error"].clone()
    }

    fn content(&self) -> String {
        let answer = self.json();
        let content = &answer["choices"][0]["message"]["content"];
        content.as_str().unwrap().to_owned()
    }
}

/// Lets the simulator work until this holds.
async fn until(mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    let patience = Duration::from_secs(20);
    tokio::time::timeout(patience, waiting)
        .await
        .expect("it should have happened by now");
}

#[tokio::test]
async fn answer_stands_at_its_question() {
    let bench = Bench::start(prompt()).await;
    let reply = bench.ask("What is 2 + 2?").await;
    assert_eq!(reply.status, 200);
    assert!(reply.content().starts_with(&echo_tag("What is 2 + 2?")));
    assert_eq!(reply.json()["object"], "chat.completion");
    assert_eq!(reply.json()["model"], "gpt-4o-mini-2026-01-01");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(reply.header("x-request-id").unwrap().starts_with("req_"));
    assert!(reply.header("openai-processing-ms").is_some());
    assert_eq!(reply.header("x-ratelimit-limit-requests"), None);
}

#[tokio::test]
async fn answer_does_not_depend_on_the_seed() {
    let first = Bench::start(prompt()).await;
    let settings = SimSettings {
        seed: 99,
        ..prompt()
    };
    let second = Bench::start(settings).await;
    assert_eq!(
        first.ask("q").await.content(),
        second.ask("q").await.content()
    );
}

#[tokio::test]
async fn spec_shapes_the_length_of_answers() {
    let cases = [
        ("output-tokens=70,output-spread=0", 70, 0),
        ("output-tokens=70,output-spread=0,reasoning=30", 100, 30),
        (
            "output-tokens=70,output-spread=0,reasoning=30,max-output=9",
            9,
            9,
        ),
        ("output-tokens=90000,output-spread=0", 16_384, 0),
    ];
    for (spec, tokens, reasoning) in cases {
        let bench = Bench::start(format!("latency=0,{spec}").parse().unwrap()).await;
        let usage = bench.ask("q").await.json()["usage"].clone();
        assert_eq!(usage["completion_tokens"], tokens, "{spec}");
        let details = &usage["completion_tokens_details"];
        assert_eq!(details["reasoning_tokens"], reasoning, "{spec}");
    }
}

#[tokio::test]
async fn connection_is_kept_for_the_next_request() {
    let bench = Bench::start(prompt()).await;
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    for _ in 0..3 {
        let body = body("q");
        let head = "POST /chat/completions HTTP/1.1\r\nhost: sim\r\ncontent-length:";
        let request = format!("{head} {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"null}") {
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
        }
    }
    let counts = bench.stats.counts();
    assert_eq!((counts.connections, counts.answered), (1, 3));
}

#[tokio::test]
async fn models_are_listed() {
    let settings = SimSettings {
        models: vec!["a".to_owned(), "b".to_owned()],
        ..prompt()
    };
    let bench = Bench::start(settings).await;
    for path in ["/v1/models", "/models"] {
        assert_eq!(bench.get(path).await.json()["data"][1]["id"], "b");
    }
    let refused = bench.ask("q").await;
    assert_eq!(refused.status, 404);
    assert_eq!(refused.error()["code"], "model_not_found");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused() {
    let bench = Bench::start(prompt()).await;
    let unknown = bench.get("/v2/chat").await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.error()["message"], "Invalid URL (GET /v2/chat)");
    let wrong = bench.get("/v1/chat/completions?a=b").await;
    assert_eq!(wrong.status, 405);
    assert_eq!(wrong.header("allow"), Some("POST"));
    assert_eq!(wrong.error()["code"], "method_not_supported");
}

#[tokio::test]
async fn bad_bodies_are_refused_by_parameter() {
    let bench = Bench::start(prompt()).await;
    let broken = bench.post("{\"model\":").await;
    assert_eq!(broken.status, 400);
    assert_eq!(broken.error()["type"], "invalid_request_error");
    assert_eq!(broken.error()["param"], Value::Null);
    let missing = bench.post(r#"{"messages":[]}"#).await;
    assert_eq!(missing.status, 400);
    assert_eq!(missing.error()["param"], "model");
    assert_eq!(missing.error()["code"], "missing_required_parameter");
    assert_eq!(bench.stats.counts().rejected, 2);
}

#[tokio::test]
async fn only_the_right_key_is_let_in() {
    let settings = SimSettings {
        api_key: Some("right".to_owned()),
        ..prompt()
    };
    let bench = Bench::start(settings).await;
    let line = "POST /v1/chat/completions";
    for headers in ["", "authorization: Bearer wrong\r\n"] {
        let refused = bench.exchange(line, headers, &body("q")).await.unwrap();
        assert_eq!(refused.status, 401);
        assert_eq!(refused.error()["code"], "invalid_api_key");
    }
    let right = "authorization: Bearer right\r\n";
    let answered = bench.exchange(line, right, &body("q")).await.unwrap();
    assert_eq!(answered.status, 200);
    assert_eq!(bench.stats.counts().unauthorized, 2);
}

#[tokio::test]
async fn stats_are_served() {
    let bench = Bench::start(prompt()).await;
    let usage = bench.ask("q").await.json()["usage"].clone();
    let stats = bench.get("/sim/stats").await.json();
    assert_eq!(stats["requests"], 1);
    assert_eq!(stats["answered"], 1);
    assert_eq!(stats["peak_in_flight"], 1);
    assert_eq!(stats["faults"]["reset"], 0);
    assert_eq!(stats["completion_tokens"], usage["completion_tokens"]);
    assert_eq!(stats["prompt_tokens"], usage["prompt_tokens"]);
}

#[tokio::test(start_paused = true)]
async fn latency_is_waited_out() {
    let settings: SimSettings = "latency=10s,latency-p99=10s".parse().unwrap();
    let bench = Bench::start(settings).await;
    let started = Instant::now();
    let reply = bench.ask("q").await;
    assert!(started.elapsed() >= Duration::from_millis(9_999));
    let processing = reply.header("openai-processing-ms").unwrap();
    assert!(processing.parse::<u64>().unwrap() >= 9_999);
}

#[tokio::test]
async fn request_beyond_the_limit_is_told_when_to_return() {
    let bench = Bench::start("latency=0,rpm=1".parse().unwrap()).await;
    let first = bench.ask("q").await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("1"));
    assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("0"));
    assert!(first.header("x-ratelimit-reset-requests").is_some());
    let second = bench.ask("q").await;
    assert_eq!(second.status, 429);
    assert_eq!(second.error()["type"], "requests");
    assert_eq!(second.error()["code"], "rate_limit_exceeded");
    let message = second.error()["message"].to_string();
    assert!(message.contains("Limit 1, Used 1, Requested 1. Please try again in "));
    let milliseconds: u64 = second.header("retry-after-ms").unwrap().parse().unwrap();
    let seconds: u64 = second.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(seconds, milliseconds.div_ceil(1000));
    assert_eq!(bench.stats.counts().throttled_requests, 1);
}

#[tokio::test]
async fn request_beyond_a_whole_minute_is_too_large() {
    let bench = Bench::start("latency=0,tpm=30".parse().unwrap()).await;
    let reply = bench.ask("q").await;
    assert_eq!(reply.status, 429);
    assert_eq!(reply.error()["type"], "tokens");
    let message = reply.error()["message"].to_string();
    assert!(message.contains("Request too large for gpt-4o-mini"));
    assert_eq!(reply.header("x-ratelimit-remaining-tokens"), Some("1"));
    assert_eq!(bench.stats.counts().throttled_tokens, 1);
}

#[tokio::test]
async fn crowd_is_turned_away() {
    let settings = SimSettings {
        max_in_flight: Some(1),
        ..always(Fault::Stall)
    };
    let bench = Bench::start(settings).await;
    let line = "POST /v1/chat/completions";
    let _first = bench.send(line, "", &body("first")).await;
    until(|| bench.struck(Fault::Stall) == 1).await;
    let second = bench.ask("second").await;
    assert_eq!(second.status, 503);
    assert_eq!(second.error()["code"], "server_is_overloaded");
    let counts = bench.stats.counts();
    assert_eq!((counts.crowded, counts.peak_in_flight), (1, 2));
}

#[tokio::test]
async fn rate_limit_fault_asks_for_a_short_wait() {
    let bench = Bench::start(always(Fault::RateLimit)).await;
    let reply = bench.ask("q").await;
    assert_eq!(reply.status, 429);
    assert_eq!(reply.error()["code"], "rate_limit_exceeded");
    assert_eq!(reply.header("retry-after-ms"), Some("50"));
    assert_eq!(reply.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn server_error_fault_answers_500() {
    let bench = Bench::start(always(Fault::ServerError)).await;
    let reply = bench.ask("q").await;
    assert_eq!(reply.status, 500);
    assert_eq!(reply.error()["type"], "server_error");
}

#[tokio::test]
async fn overloaded_fault_names_no_wait() {
    let bench = Bench::start(always(Fault::Overloaded)).await;
    let reply = bench.ask("q").await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.error()["code"], "server_is_overloaded");
    assert_eq!(reply.header("retry-after"), None);
}

#[tokio::test]
async fn reset_fault_resets_the_connection() {
    let bench = Bench::start(always(Fault::Reset)).await;
    let line = "POST /v1/chat/completions";
    let error = bench.exchange(line, "", &body("q")).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(bench.struck(Fault::Reset), 1);
}

#[tokio::test]
async fn stall_fault_lasts_until_the_client_leaves() {
    let bench = Bench::start(always(Fault::Stall)).await;
    let line = "POST /v1/chat/completions";
    let stream = bench.send(line, "", &body("q")).await;
    until(|| bench.struck(Fault::Stall) == 1).await;
    let silence = stream.try_read(&mut [0; 1]).unwrap_err();
    assert_eq!(silence.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(bench.stats.counts().in_flight, 1);
    drop(stream);
    until(|| bench.stats.counts().in_flight == 0).await;
}

#[tokio::test]
async fn truncated_fault_sends_half_of_what_it_announced() {
    let bench = Bench::start(always(Fault::Truncated)).await;
    let reply = bench.ask("q").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body.len(), reply.length() / 2);
    assert!(reply.body.starts_with(b"{\"id\":\"chatcmpl-"));
    assert_eq!(bench.stats.counts().answered, 0);
}

#[tokio::test]
async fn html_fault_has_two_faces() {
    let bench = Bench::start(always(Fault::Html)).await;
    let mut statuses = Vec::new();
    for question in 0..20 {
        let reply = bench.ask(&question.to_string()).await;
        assert_eq!(
            reply.header("content-type"),
            Some("text/html; charset=UTF-8")
        );
        assert!(reply.body.starts_with(b"<!DOCTYPE html>"));
        statuses.push(reply.status);
    }
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses, [200, 502]);
}

#[tokio::test]
async fn bad_json_fault_arrives_complete_but_unreadable() {
    let bench = Bench::start(always(Fault::BadJson)).await;
    let reply = bench.ask("q").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body.len(), reply.length());
    assert!(serde_json::from_slice::<Value>(&reply.body).is_err());
}

#[tokio::test]
async fn empty_choices_fault_has_no_choice() {
    let bench = Bench::start(always(Fault::EmptyChoices)).await;
    let reply = bench.ask("q").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["choices"], json!([]));
}

#[tokio::test]
async fn content_filter_fault_has_two_faces() {
    let bench = Bench::start(always(Fault::ContentFilter)).await;
    let mut statuses = Vec::new();
    for question in 0..20 {
        let reply = bench.ask(&question.to_string()).await;
        if reply.status == 400 {
            assert_eq!(reply.error()["code"], "content_filter");
        } else {
            let choice = &reply.json()["choices"][0];
            assert_eq!(choice["finish_reason"], "content_filter");
            assert_eq!(choice["message"].get("content"), None);
        }
        statuses.push(reply.status);
    }
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses, [200, 400]);
}

#[tokio::test]
async fn no_usage_fault_is_an_answer_all_the_same() {
    let bench = Bench::start(always(Fault::NoUsage)).await;
    let reply = bench.ask("q").await;
    assert!(reply.content().starts_with(&echo_tag("q")));
    assert_eq!(reply.json().get("usage"), None);
    assert_eq!(bench.stats.counts().answered, 1);
}

#[tokio::test]
async fn same_seed_repeats_the_same_faults_and_lets_retries_succeed() {
    let spec = "latency=0,seed=5,500=0.3,503=0.3";
    let mut runs = Vec::new();
    for _ in 0..2 {
        let bench = Bench::start(spec.parse().unwrap()).await;
        let mut statuses = Vec::new();
        for question in 0..10 {
            while statuses.last() != Some(&(question, 200)) {
                let reply = bench.ask(&question.to_string()).await;
                statuses.push((question, reply.status));
            }
        }
        runs.push(statuses);
    }
    assert!(runs[0].len() > 10, "some requests met a fault");
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn dropping_the_server_ends_its_connections() {
    let bench = Bench::start(always(Fault::Stall)).await;
    let line = "POST /v1/chat/completions";
    let mut stream = bench.send(line, "", &body("q")).await;
    until(|| bench.struck(Fault::Stall) == 1).await;
    let stats = Arc::clone(&bench.stats);
    drop(bench);
    until(|| stats.counts().in_flight == 0).await;
    let mut bytes = Vec::new();
    // Whether it ends in order or not is the system's business; that it ends is ours.
    let _ = stream.read_to_end(&mut bytes).await;
    assert!(bytes.is_empty());
}
