//! Questions and their answers, and requests that are wrong in themselves.

use super::*;

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
