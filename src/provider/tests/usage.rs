//! What a 2xx response says of what it used.

use super::*;
use crate::words::price::Service;

fn usage(json: &str) -> Option<String> {
    let body = format!(r#"{{"choices":[{{"message":{{"content":"x"}}}}],"usage":{json}}}"#);
    answer(body)
        .usage
        .map(|usage| serde_json::to_string(&usage).unwrap())
}

fn row(prompt: u64, completion: u64, total: u64) -> Option<String> {
    Some(format!(
        r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{total}}}"#
    ))
}

#[test]
fn usage_may_be_missing_or_null() {
    assert_eq!(
        answer(r#"{"choices":[{"message":{"content":"x"}}]}"#).usage,
        None
    );
    for none in [
        "null",
        "{}",
        "[]",
        "7",
        "\"many\"",
        r#"{"prompt_tokens":null}"#,
    ] {
        assert_eq!(usage(none), None, "{none}");
    }
}

#[test]
fn a_figure_beyond_any_model_is_none() {
    for absurd in ["1000000001", "1e15", "1e999", "18446744073709551616"] {
        let absurd = format!(r#"{{"prompt_tokens":{absurd},"completion_tokens":{absurd}}}"#);
        assert_eq!(usage(&absurd), None);
    }
}

#[test]
fn usage_with_missing_parts_is_filled() {
    assert_eq!(usage(r#"{"prompt_tokens":5}"#), row(5, 0, 5));
    assert_eq!(
        usage(r#"{"prompt_tokens":5,"completion_tokens":null,"total_tokens":9}"#),
        row(5, 0, 9)
    );
    assert_eq!(
        usage(r#"{"prompt_tokens":5,"completion_tokens":2,"total_tokens":null}"#),
        row(5, 2, 7)
    );
    assert_eq!(
        usage(
            r#"{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":null,"completion_tokens_details":{}}"#
        ),
        row(5, 2, 7)
    );
}

#[test]
fn usage_may_be_floats_or_text() {
    assert_eq!(
        usage(r#"{"prompt_tokens":5.0,"completion_tokens":"2","total_tokens":7e0}"#),
        row(5, 2, 7)
    );
}

#[test]
fn cached_parts_in_either_convention_are_parts_of_the_prompt() {
    let read = |json: &str| {
        let body = format!(r#"{{"choices":[{{"message":{{"content":"x"}}}}],"usage":{json}}}"#);
        let usage = answer(&body).usage.unwrap();
        let parts = [usage.cached, usage.cache_write, usage.cache_write_long];
        (
            usage.prompt.0,
            parts.map(|part| part.map(|tokens| tokens.0)),
        )
    };
    let openai = r#"{"prompt_tokens":13000,"completion_tokens":500,
        "prompt_tokens_details":{"cached_tokens":10000,"cache_write_tokens":2000}}"#;
    assert_eq!(read(openai), (13_000, [Some(10_000), Some(2_000), None]));
    let anthropic = r#"{"input_tokens":1000,"output_tokens":500,"cache_read_input_tokens":10000,
        "cache_creation_input_tokens":2000,
        "cache_creation":{"ephemeral_5m_input_tokens":500,"ephemeral_1h_input_tokens":1500}}"#;
    assert_eq!(
        read(anthropic),
        (13_000, [Some(10_000), Some(500), Some(1_500)])
    );
    let gateway = r#"{"prompt_tokens":13000,"completion_tokens":500,
        "cache_read_input_tokens":10000,"cache_creation_input_tokens":2000}"#;
    assert_eq!(read(gateway), (13_000, [Some(10_000), Some(2_000), None]));
    let responses = r#"{"input_tokens":13000,"output_tokens":500,
        "input_tokens_details":{"cached_tokens":10000}}"#;
    assert_eq!(read(responses), (13_000, [Some(10_000), None, None]));
}

#[test]
fn the_tier_that_served_an_answer_is_read() {
    let body = r#"{"choices":[{"message":{"content":"x"}}],"service_tier":"flex","usage":{"prompt_tokens":5}}"#;
    assert_eq!(answer(body).usage.unwrap().service, Service::Flex);
}

#[test]
fn a_cost_is_believed_only_where_it_is_known_to_be_in_dollars() {
    let body =
        r#"{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":5,"cost":0.00014}}"#;
    let stated = |base_url: &str| {
        let provider = OpenAi::new(Preset::GENERIC, base_url, None).unwrap();
        let usage = provider.usage(&reply(200, body)).unwrap();
        usage.stated_cost.map(|cost| cost.to_string())
    };
    assert_eq!(
        stated("https://openrouter.ai/api/v1").as_deref(),
        Some("0.00014")
    );
    assert_eq!(stated("https://example.com/v1"), None);
}

#[test]
fn negative_usage_is_no_usage() {
    for field in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        assert_eq!(
            usage(&format!(r#"{{"prompt_tokens":5,"{field}":-1}}"#)),
            None,
            "{field}"
        );
    }
}

#[test]
fn a_total_above_the_sum_is_kept() {
    assert_eq!(
        usage(r#"{"prompt_tokens":5,"completion_tokens":2,"total_tokens":90}"#),
        row(5, 2, 90)
    );
}

#[test]
fn cached_tokens_are_found_and_never_more_than_the_prompt() {
    for cached in [
        r#""prompt_tokens_details":{"cached_tokens":4}"#,
        r#""prompt_token_details":{"cached_tokens":4}"#,
        r#""num_cached_tokens":4"#,
        r#""prompt_cache_hit_tokens":4"#,
    ] {
        let shown = usage(&format!(
            r#"{{"prompt_tokens":5,"completion_tokens":2,{cached}}}"#
        ))
        .unwrap();
        assert!(shown.ends_with(r#""cached_tokens":4}"#), "{shown}");
    }
    let shown = usage(r#"{"prompt_tokens":5,"num_cached_tokens":400}"#).unwrap();
    assert!(shown.ends_with(r#""cached_tokens":5}"#), "{shown}");
}
