//! Each fault, as a client meets it.

use super::*;

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
