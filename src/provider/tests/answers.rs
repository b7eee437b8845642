//! Bodies of 2xx responses.

use super::*;
use crate::words::tokens::Tokens;

fn words(body: impl AsRef<[u8]>) -> String {
    word(&verdict(200, body))
}

fn content(body: impl AsRef<[u8]>) -> Option<String> {
    answer(body).content
}

/// The usage of an answer with this `usage`, as the row shows it.
#[test]
fn a_complete_answer_is_taken_apart() {
    let answer = answer(fixture!("openai_answer.json"));
    assert_eq!(
        answer.content.as_deref(),
        Some("The parcel is late, and the customer wants \"a date\".\n\nCategory: delivery")
    );
    assert_eq!(answer.finish_reason.as_deref(), Some("stop"));
    assert_eq!(answer.model.as_deref(), Some("gpt-4o-mini-2024-07-18"));
    assert_eq!(answer.refusal, None);
    assert!(answer.tool_calls.is_none());
    let usage = answer.usage.unwrap();
    assert_eq!(
        (usage.prompt, usage.completion, usage.total),
        (Tokens(1231), Tokens(17), Tokens(1248))
    );
    assert_eq!(
        (usage.cached, usage.reasoning),
        (Some(Tokens(1024)), Some(Tokens(5)))
    );
}

#[test]
fn the_request_id_is_kept_under_every_name() {
    for name in ["x-request-id", "request-id", "apim-request-id"] {
        let headers = [(name, "req-7")];
        let Verdict::Done(answer) = with_headers(200, &headers, fixture!("ollama_answer.json"))
        else {
            panic!("no answer");
        };
        assert_eq!(answer.request_id.as_deref(), Some("req-7"), "{name}");
    }
}

#[test]
fn tool_calls_are_kept_as_written() {
    let answer = answer(fixture!("openai_tool_calls.json"));
    assert_eq!(answer.content, None);
    assert_eq!(answer.finish_reason.as_deref(), Some("tool_calls"));
    assert_eq!(
        answer.tool_calls.unwrap().get(),
        r#"[{"id":"call_1","type":"function","function":{"name":"look_up","arguments":"{\"city\": \"Oslo\"}"}}]"#
    );
}

#[test]
fn empty_tool_calls_are_no_answer() {
    let body = choice(r#"{"message":{"content":null,"tool_calls":[ ]},"finish_reason":"stop"}"#);
    assert_eq!(words(body), "malformed malformed");
    let body = choice(r#"{"message":{"content":"x","tool_calls":[]}}"#);
    assert!(answer(body).tool_calls.is_none());
}

#[test]
fn a_refusal_is_an_answer() {
    let body =
        choice(r#"{"message":{"content":null,"refusal":"I will not."},"finish_reason":"stop"}"#);
    let answer = answer(body);
    assert_eq!(answer.refusal.as_deref(), Some("I will not."));
    assert_eq!(answer.content, None);
}

// The shapes that break strictly typed clients, in the order of the fact sheet.

#[test]
fn no_choices_is_malformed() {
    for body in [
        r#"{"choices":[]}"#,
        "{}",
        r#"{"choices":null}"#,
        r#"{"choices":{"a":1}}"#,
    ] {
        assert_eq!(words(body), "malformed malformed", "{body}");
    }
    for body in ["[]", "7"] {
        assert_eq!(words(body), "foreign malformed", "{body}");
    }
    let message = failure(verdict(200, r#"{"choices":[]}"#)).message;
    assert!(
        message.starts_with("the answer has no choices"),
        "{message}"
    );
}

#[test]
fn no_choices_for_a_blocked_prompt_is_filtered() {
    for body in [
        r#"{"choices":[],"prompt_feedback":{"block_reason":"SAFETY"}}"#,
        r#"{"choices":[],"promptFeedback":{"blockReason":"OTHER"}}"#,
        r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":true,"severity":"high"}}}]}"#,
    ] {
        assert_eq!(words(body), "filter content_filter", "{body}");
    }
    let unblocked = r#"{"choices":[],"prompt_filter_results":[{"content_filter_results":{"hate":{"filtered":false}}}]}"#;
    assert_eq!(words(unblocked), "malformed malformed");
}

#[test]
fn content_may_be_a_list_of_parts_and_thoughts_are_left_out() {
    let answer = answer(fixture!("mistral_thinking.json"));
    assert_eq!(answer.content.as_deref(), Some("It is 4."));
    let usage = answer.usage.unwrap();
    assert_eq!(
        (usage.completion, usage.total, usage.cached),
        (Tokens(0), Tokens(40), Some(Tokens(8)))
    );
}

#[test]
fn thoughts_are_left_out_even_where_they_are_text() {
    let body = choice(
        r#"{"message":{"content":[{"type":"reasoning","text":"hm"},{"type":"thinking","text":"so"},{"text":"yes"}]}}"#,
    );
    assert_eq!(content(body).as_deref(), Some("yes"));
}

#[test]
fn the_content_type_and_repeated_ids_decide_nothing() {
    for kind in [
        "application/json",
        "text/html",
        "application/json; charset=latin1",
        "",
    ] {
        let headers = [("content-type", kind)];
        let verdict = with_headers(
            200,
            &headers,
            r#"{"id":"","choices":[{"message":{"content":"x"}}]}"#,
        );
        assert_eq!(word(&verdict), "done", "{kind}");
    }
}

#[test]
fn content_that_is_json_instead_of_text_is_kept_as_json() {
    let body = choice(r#"{"message":{"content":{"category": "billing"}}}"#);
    assert_eq!(content(body).as_deref(), Some(r#"{"category": "billing"}"#));
}

#[test]
fn an_empty_answer_that_cost_nothing_is_malformed() {
    for message in [
        r#"{}"#,
        r#"{"content":null}"#,
        r#"{"content":""}"#,
        r#"{"content":[]}"#,
        "null",
    ] {
        let body = choice(&format!(
            r#"{{"message":{message},"finish_reason":"stop"}}"#
        ));
        assert_eq!(words(body), "malformed malformed", "{message}");
    }
    let zero = r#"{"choices":[{"message":{"content":null}}],"usage":{"completion_tokens":0}}"#;
    assert_eq!(words(zero), "malformed malformed");
}

#[test]
fn an_empty_answer_that_was_charged_is_done() {
    let body = r#"{"choices":[{"message":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":64}}"#;
    assert_eq!(content(body).as_deref(), Some(""));
    let cut = choice(r#"{"message":{"content":null},"finish_reason":"length"}"#);
    let cut = answer(cut);
    assert_eq!(
        (cut.content, cut.finish_reason.as_deref()),
        (None, Some("length"))
    );
}

#[test]
fn an_answer_withheld_by_a_filter_is_filtered() {
    assert_eq!(
        words(fixture!("azure_output_filter.json")),
        "filter content_filter"
    );
    for reason in ["content_filter", "SAFETY", "prohibited_content"] {
        let body = choice(&format!(
            r#"{{"message":{{"content":""}},"finish_reason":"{reason}"}}"#
        ));
        assert_eq!(words(body), "filter content_filter", "{reason}");
    }
}

#[test]
fn a_filtered_answer_with_words_is_done() {
    let body = choice(r#"{"message":{"content":"half of"},"finish_reason":"content_filter"}"#);
    let answer = answer(body);
    assert_eq!(answer.content.as_deref(), Some("half of"));
    assert_eq!(answer.finish_reason.as_deref(), Some("content_filter"));
}

#[test]
fn any_finish_reason_is_accepted() {
    assert_eq!(answer(fixture!("ollama_answer.json")).finish_reason, None);
    for (json, reason) in [
        (r#""eos""#, Some("eos")),
        ("3", Some("3")),
        ("null", None),
        ("{}", None),
    ] {
        let body = choice(&format!(
            r#"{{"message":{{"content":"x"}},"finish_reason":{json}}}"#
        ));
        assert_eq!(answer(body).finish_reason.as_deref(), reason, "{json}");
    }
}

#[test]
fn a_field_of_the_wrong_type_does_not_cost_the_others() {
    let body = r#"{"id":"","object":"chat.completions","created":1.5,"model":["m"],"system_fingerprint":null,
        "service_tier":{},"error":null,
        "choices":[{"logprobs":7,"message":{"role":5,"content":"kept","tool_calls":"none","refusal":null}}],
        "usage":{"prompt_tokens":{},"completion_tokens":3,"prompt_tokens_details":"n/a"}}"#;
    let answer = answer(body);
    assert_eq!(answer.content.as_deref(), Some("kept"));
    assert_eq!(answer.model, None);
    assert_eq!(answer.usage.unwrap().completion, Tokens(3));
}

#[test]
fn the_index_the_id_and_the_object_may_be_missing() {
    assert_eq!(
        content(r#"{"choices":[{"message":{"content":"x"}}]}"#).as_deref(),
        Some("x")
    );
}

#[test]
fn of_a_repeated_key_the_last_value_counts() {
    let body = r#"{"choices":[],"model":"a","choices":[{"message":{"content":"x","content":"y"}}],"model":"b"}"#;
    let answer = answer(body);
    assert_eq!(answer.content.as_deref(), Some("y"));
    assert_eq!(answer.model.as_deref(), Some("b"));
}

#[test]
fn blank_lines_before_the_answer_are_legal() {
    let body = format!("\n\n \r\n\n{}", choice(r#"{"message":{"content":"x"}}"#));
    assert_eq!(content(body).as_deref(), Some("x"));
}

#[test]
fn a_text_choice_of_the_older_completions_is_accepted() {
    assert_eq!(
        content(choice(r#"{"text":"old","index":0,"finish_reason":"stop"}"#)).as_deref(),
        Some("old")
    );
}

#[test]
fn of_several_choices_the_first_usable_one_counts() {
    let body = choice(
        r#"{"message":{"content":""},"finish_reason":"content_filter"},{"message":{"content":"second"}}"#,
    );
    assert_eq!(content(body).as_deref(), Some("second"));
    let body = choice(r#"{"message":{"content":"first"}},{"message":{"content":"second"}}"#);
    assert_eq!(content(body).as_deref(), Some("first"));
}

#[test]
fn half_an_emoji_does_not_cost_the_answer() {
    let body = choice(r#"{"message":{"content":"cut \ud83d"},"finish_reason":"length"}"#);
    assert_eq!(content(body).as_deref(), Some("cut \u{fffd}"));
}

#[test]
fn what_is_not_json_says_what_it_is_and_whether_it_is_foreign() {
    let (foreign, malformed) = ("foreign malformed", "malformed malformed");
    for (body, expected, says) in [
        ("", foreign, "empty body"),
        ("  \n", foreign, "empty body"),
        (" <html><p>hi", foreign, "starts with `<html><p>hi`"),
        (
            "data: {\"choices\":[]}\n\ndata: [DONE]\n\n",
            malformed,
            "event stream",
        ),
        (
            "{\"choices\":[{\"message\":{\"content\":\"ha",
            malformed,
            "cut off",
        ),
        ("{\"choices\":[]} trailing", malformed, "not JSON"),
    ] {
        let verdict = verdict(200, body);
        assert_eq!(word(&verdict), expected, "{body}");
        let failure = failure(verdict);
        assert!(failure.message.contains(says), "{}", failure.message);
        assert_eq!(failure.http_status, Some(200));
    }
}

#[test]
fn an_answer_cut_at_any_byte_is_never_taken_for_whole() {
    let whole = fixture!("openai_answer.json").trim_end();
    for end in 1..whole.len() {
        assert_eq!(words(&whole[..end]), "malformed malformed", "cut at {end}");
    }
}

#[test]
fn invalid_utf8_is_malformed() {
    let body = b"{\"choices\":[{\"message\":{\"content\":\"\xff\"}}]}";
    assert_eq!(words(body), "malformed malformed");
    let elsewhere = b"{\"id\":\"\xff\",\"choices\":[{\"message\":{\"content\":\"x\"}}]}";
    assert_eq!(words(elsewhere), "malformed malformed");
}

// Errors inside a 2xx response.

#[test]
fn an_error_with_status_200_is_judged_by_the_code_it_names() {
    for (code, expected) in [
        ("429", "throttle rate_limit"),
        ("\"429\"", "throttle rate_limit"),
        ("502", "retry server_error"),
        ("402", "halt quota"),
        ("401", "halt auth"),
        ("400", "reject bad_request"),
        ("\"insufficient_quota\"", "halt quota"),
        ("\"rate_limit_exceeded\"", "throttle rate_limit"),
        ("\"overloaded_error\"", "throttle overloaded"),
        ("\"content_filter\"", "filter content_filter"),
        ("null", "retry server_error"),
        ("1234", "retry server_error"),
    ] {
        let body = format!(r#"{{"id":"x","error":{{"message":"no","code":{code}}}}}"#);
        assert_eq!(words(body), expected, "{code}");
    }
    assert_eq!(words(r#"{"error":"it broke"}"#), "retry server_error");
    assert_eq!(
        words(r#"[{"error":{"code":503,"message":"later"}}]"#),
        "throttle overloaded"
    );
    assert_eq!(
        words(r#"{"object":"error","message":"no","code":400}"#),
        "reject bad_request"
    );
}

#[test]
fn an_error_counts_even_beside_choices() {
    let body =
        r#"{"choices":[{"message":{"content":"x"}}],"error":{"code":500,"message":"broke"}}"#;
    assert_eq!(words(body), "retry server_error");
}

#[test]
fn an_error_field_that_says_nothing_is_no_error() {
    for error in [
        "null",
        "{}",
        "\"\"",
        "false",
        r#"{"message":"","type":"","param":"","code":null}"#,
    ] {
        let body = format!(r#"{{"error":{error},"choices":[{{"message":{{"content":"x"}}}}]}}"#);
        assert_eq!(words(body), "done", "{error}");
    }
}

#[test]
fn an_answer_that_broke_off_is_retried() {
    let verdict = verdict(200, fixture!("openrouter_broken_off.json"));
    assert_eq!(word(&verdict), "retry server_error");
    let failure = failure(verdict);
    assert_eq!(
        failure.message,
        "Upstream error from Somewhere: connection lost"
    );
    assert_eq!(
        (failure.http_status, failure.code.as_deref()),
        (Some(200), Some("502"))
    );
}

#[test]
fn finish_reason_error_is_retried_even_with_words() {
    let body = choice(r#"{"message":{"content":"half"},"finish_reason":"error"}"#);
    assert_eq!(words(body), "retry server_error");
}

#[test]
fn a_refused_key_behind_the_endpoint_does_not_stop_the_run() {
    for code in [401, 403, 404] {
        let body = choice(&format!(
            r#"{{"finish_reason":"error","error":{{"code":{code},"message":"upstream"}}}}"#
        ));
        assert_eq!(words(body), "retry server_error", "{code}");
    }
}

#[test]
fn a_choice_without_a_message_is_malformed_whatever_was_charged() {
    for choice in ["null", "{}", r#"{"message":null}"#] {
        let body = format!(r#"{{"choices":[{choice}],"usage":{{"completion_tokens":5}}}}"#);
        assert_eq!(
            word(&verdict(200, &body)),
            "malformed malformed",
            "{choice}"
        );
    }
}
