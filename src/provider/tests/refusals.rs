//! Error responses and transport errors, one row of the decision table each.

use super::*;
use crate::words::wire::{TransportError, TransportErrorKind};

#[test]
fn transport_errors_are_judged_by_their_phase() {
    for (kind, expected) in [
        (TransportErrorKind::Unreachable, "throttle unreachable"),
        (TransportErrorKind::BadCertificate, "halt bad_certificate"),
        (TransportErrorKind::Broken, "retry network"),
        (TransportErrorKind::Truncated, "retry network"),
        (TransportErrorKind::TooLarge, "reject too_large"),
        (TransportErrorKind::Timeout, "retry timeout"),
    ] {
        let message = "connection refused".to_owned();
        let verdict = judge(&Err(TransportError { kind, message }));
        assert_eq!(word(&verdict), expected);
        let failure = failure(verdict);
        assert_eq!(
            (failure.message.as_str(), failure.http_status),
            ("connection refused", None)
        );
    }
}

#[test]
fn plain_statuses_mean_what_the_table_says() {
    for (status, expected) in [
        (400, "reject bad_request"),
        (401, "halt auth"),
        (402, "halt quota"),
        (403, "halt auth"),
        (404, "mismatch not_found"),
        (405, "halt not_found"),
        (407, "halt unreachable"),
        (408, "retry timeout"),
        (409, "retry server_error"),
        (413, "reject too_large"),
        (415, "reject bad_request"),
        (418, "reject bad_request"),
        (422, "reject bad_request"),
        (424, "reject bad_request"),
        (429, "throttle rate_limit"),
        (498, "throttle rate_limit"),
        (499, "retry server_error"),
        (500, "retry server_error"),
        (501, "halt not_found"),
        (502, "retry server_error"),
        (503, "throttle overloaded"),
        (504, "retry server_error"),
        (520, "retry server_error"),
        (524, "retry server_error"),
        (529, "throttle overloaded"),
        (599, "retry server_error"),
    ] {
        for body in [
            "",
            "{}",
            "<html>",
            "[]",
            "null",
            "\u{0}",
            r#"{"error":null}"#,
        ] {
            let verdict = verdict(status, body);
            assert_eq!(word(&verdict), expected, "{status} {body:?}");
            let failure = failure(verdict);
            assert_eq!(failure.http_status, Some(status));
            assert!(!failure.message.is_empty());
        }
    }
}

#[test]
fn digits_in_the_body_decide_nothing() {
    let body = error(
        "",
        "invalid_request_error",
        "bad prompt: 'error 429, 503, 401'",
    );
    assert_eq!(refused(400, body), "reject bad_request");
    let body = error("429", "rate_limit_error", "the status is what counts");
    assert_eq!(refused(500, body), "retry server_error");
}

#[test]
fn a_failure_carries_message_code_and_status() {
    let body = error(
        "invalid_value",
        "invalid_request_error",
        "`temperature` is  too\nhigh",
    );
    let failure = failure(verdict(400, body));
    assert_eq!(failure.message, "`temperature` is too high");
    assert_eq!(failure.code.as_deref(), Some("invalid_value"));
    assert_eq!(failure.http_status, Some(400));
    assert_eq!(failure.kind, FailureKind::BadRequest);
}

#[test]
fn an_empty_refusal_is_named_by_its_status() {
    let message = |status| failure(verdict(status, "")).message;
    assert_eq!(message(502), "HTTP 502 (Bad Gateway) without a message");
    assert_eq!(message(498), "HTTP 498 without a message");
}

#[test]
fn an_html_page_from_an_edge_is_classified_by_status() {
    let verdict = verdict(502, fixture!("edge_502.html"));
    assert_eq!(word(&verdict), "retry server_error");
    assert_eq!(
        failure(verdict).message,
        "an HTML page with the title `502 Bad Gateway`"
    );
}

// Refused requests.

#[test]
fn refused_content_is_filtered() {
    assert_eq!(
        refused(400, fixture!("azure_prompt_filter.json")),
        "filter content_filter"
    );
    for code in [
        "content_filter",
        "content_policy_violation",
        "invalid_prompt",
        "cyber_policy",
    ] {
        assert_eq!(
            refused(400, error(code, "", "no")),
            "filter content_filter",
            "{code}"
        );
        assert_eq!(
            refused(400, error("", code, "no")),
            "filter content_filter",
            "{code}"
        );
    }
    let inner = r#"{"error":{"code":"400","message":"no","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#;
    assert_eq!(refused(400, inner), "filter content_filter");
}

#[test]
fn a_prompt_beyond_the_context_is_rejected_as_such() {
    assert_eq!(
        refused(400, fixture!("llamacpp_context.json")),
        "reject context_length"
    );
    assert_eq!(
        refused(400, error("context_length_exceeded", "", "no")),
        "reject context_length"
    );
    for message in [
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens",
        "Requested token count exceeds the model's maximum context length of 4096 tokens",
        "The prompt is longer than the model's context length",
        "Input tokens exceed the configured limit of 272000 tokens",
        "`inputs` tokens + `max_new_tokens` must be <= 4096",
        "the request exceeds the available context size",
        "The input token count (2) exceeds the maximum number of tokens allowed (1)",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "Current length is 9000 while limit is 8192",
        "input length and `max_tokens` exceed context limit: 1 + 2 > 3",
        "The maximum input length is 4096 tokens",
    ] {
        for status in [400, 413, 422, 500] {
            assert_eq!(
                refused(status, error("", "", message)),
                "reject context_length",
                "{message}"
            );
        }
        assert_eq!(
            refused(502, error("", "", message)),
            "retry server_error",
            "{message}"
        );
    }
}

#[test]
fn fields_above_their_limit_are_too_large() {
    assert_eq!(
        refused(400, error("string_above_max_length", "", "no")),
        "reject too_large"
    );
    assert_eq!(
        refused(413, error("", "request_too_large", "no")),
        "reject too_large"
    );
}

#[test]
fn unsupported_fields_are_rejected() {
    for code in [
        "unsupported_parameter",
        "unsupported_value",
        "unknown_parameter",
    ] {
        assert_eq!(
            refused(400, error(code, "invalid_request_error", "no")),
            "reject bad_request"
        );
    }
}

#[test]
fn output_that_broke_its_own_schema_is_malformed() {
    assert_eq!(
        refused(400, fixture!("groq_bad_json.json")),
        "malformed malformed"
    );
    assert_eq!(
        refused(400, error("tool_use_failed", "", "no")),
        "malformed malformed"
    );
}

#[test]
fn a_wrong_key_at_gemini_halts_the_run() {
    let verdict = verdict(400, fixture!("gemini_wrong_key.json"));
    assert_eq!(word(&verdict), "halt auth");
    assert_eq!(failure(verdict).code.as_deref(), Some("INVALID_ARGUMENT"));
    assert_eq!(
        refused(
            400,
            error("", "", "API key not valid. Please pass a valid one.")
        ),
        "halt auth"
    );
}

#[test]
fn a_closed_region_at_gemini_halts_the_run() {
    let body = r#"[{"error":{"code":400,"message":"User location is not supported","status":"FAILED_PRECONDITION"}}]"#;
    assert_eq!(refused(400, body), "halt auth");
}

#[test]
fn an_empty_account_told_in_words_halts_the_run() {
    for message in [
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing",
        "credit balance is too low",
        "gateway error: {\"message\":\"Your credit balance is too low to access the Anthropic API\"}",
    ] {
        assert_eq!(
            refused(400, error("", "invalid_request_error", message)),
            "halt quota"
        );
    }
    let hold = r#"{"type":"error","error":{"type":"invalid_request_error","message":"on hold","details":{"error_code":"organization_on_hold"}}}"#;
    assert_eq!(refused(400, hold), "halt auth");
}

#[test]
fn a_repeated_prompt_about_credit_or_keys_does_not_halt_the_run() {
    for message in [
        "invalid input: 'my credit balance is too low, please help'",
        "invalid input: 'it says API key not valid'",
    ] {
        assert_eq!(
            refused(400, error("", "", message)),
            "reject bad_request",
            "{message}"
        );
    }
}

#[test]
fn an_unknown_model_is_a_mismatch_even_with_status_400() {
    assert_eq!(
        refused(404, error("model_not_found", "", "no")),
        "mismatch not_found"
    );
    assert_eq!(
        refused(
            404,
            r#"{"error":{"code":"DeploymentNotFound","message":"no"}}"#
        ),
        "mismatch not_found"
    );
    assert_eq!(
        refused(400, error("OperationNotSupported", "", "no")),
        "mismatch not_found"
    );
    assert_eq!(
        refused(400, error("", "invalid_request_error", "Model Not Exist")),
        "mismatch not_found"
    );
    assert_eq!(
        refused(400, error("", "", "acme/none is not a valid model ID")),
        "mismatch not_found"
    );
    assert_eq!(
        refused(
            400,
            r#"{"object":"error","message":"Invalid model: x","type":"invalid_model","code":"1500"}"#
        ),
        "mismatch not_found"
    );
}

#[test]
fn an_error_that_is_a_string_is_read() {
    let verdict = verdict(401, r#"{"error":"Unauthorized"}"#);
    assert_eq!(word(&verdict), "halt auth");
    assert_eq!(failure(verdict).message, "Unauthorized");
}

#[test]
fn validation_details_are_read() {
    let body = r#"{"detail":[{"loc":["body","max_completion_tokens"],"msg":"Extra inputs are not permitted","type":"extra_forbidden"}]}"#;
    let verdict = verdict(422, body);
    assert_eq!(word(&verdict), "reject bad_request");
    assert_eq!(failure(verdict).message, "Extra inputs are not permitted");
}

#[test]
fn integer_codes_are_read() {
    let verdict = verdict(
        400,
        r#"{"object":"error","message":"no","type":"BadRequestError","param":null,"code":400}"#,
    );
    assert_eq!(word(&verdict), "reject bad_request");
    assert_eq!(failure(verdict).code.as_deref(), Some("BadRequestError"));
}

// Servers without room, and headers that overrule.

#[test]
fn a_local_server_that_loads_or_queues_throttles() {
    let loading = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
    assert_eq!(refused(503, loading), "throttle overloaded");
    let queue = error(
        "",
        "api_error",
        "server busy, please try again. maximum pending requests exceeded",
    );
    assert_eq!(refused(503, queue), "throttle overloaded");
}

#[test]
fn any_retry_after_on_a_retryable_status_throttles() {
    for (status, expected) in [
        (500, "throttle server_error 2000ms"),
        (502, "throttle server_error 2000ms"),
        (503, "throttle overloaded 2000ms"),
        (408, "throttle timeout 2000ms"),
        (409, "throttle server_error 2000ms"),
        (400, "reject bad_request"),
        (401, "halt auth"),
    ] {
        assert_eq!(
            word(&with_headers(status, &[("retry-after", "2")], "")),
            expected,
            "{status}"
        );
    }
    assert_eq!(
        word(&with_headers(500, &[("retry-after", "never")], "")),
        "retry server_error"
    );
}

#[test]
fn a_server_that_says_not_to_retry_is_heeded() {
    let no = [("x-should-retry", "false"), ("retry-after", "2")];
    for status in [408, 409, 500, 502, 503, 529] {
        let verdict = with_headers(status, &no, "");
        assert!(matches!(verdict, Verdict::Fail(_)), "{status}");
    }
    assert_eq!(
        word(&with_headers(429, &no, "")),
        "throttle rate_limit 2000ms"
    );
}

#[test]
fn a_server_that_says_to_retry_is_heeded_for_plain_bad_requests_only() {
    let yes = [("x-should-retry", "true")];
    assert_eq!(word(&with_headers(400, &yes, "")), "retry server_error");
    assert_eq!(word(&with_headers(422, &yes, "")), "retry server_error");
    let filtered = error("content_filter", "", "no");
    assert_eq!(
        word(&with_headers(400, &yes, filtered)),
        "filter content_filter"
    );
    assert_eq!(word(&with_headers(401, &yes, "")), "halt auth");
    assert_eq!(word(&with_headers(413, &yes, "")), "reject too_large");
}

// Redirects.

#[test]
fn a_redirect_names_the_target_host_and_nothing_else_of_it() {
    let location = [(
        "location",
        "https://user:hidden@other.example:8443/hidden?key=hidden",
    )];
    let verdict = with_headers(307, &location, "hidden");
    assert_eq!(word(&verdict), "halt not_found");
    let message = failure(verdict).message;
    assert_eq!(
        message,
        "redirects are not followed: this address points to `other.example`"
    );
}

#[test]
fn a_redirect_without_a_host_halts_too() {
    for location in ["/v1/elsewhere?key=hidden", "not a url hidden", ""] {
        let message = failure(with_headers(301, &[("location", location)], "")).message;
        assert!(
            message.starts_with("redirects are not followed"),
            "{message}"
        );
        assert!(!message.contains("hidden"), "{message}");
    }
    assert_eq!(refused(304, ""), "halt not_found");
}

// Anything at all.

mod any_bytes {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_body_panics(status in 100u16..1000, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = verdict(status, body);
        }

        #[test]
        fn no_json_panics(
            status in prop_oneof![Just(200u16), Just(400), Just(402), Just(403), Just(429), Just(500)],
            body in r#"[\[{]{1,2}("(error|message|code|choices|details|metadata|detail|usage)":[\[{]?(null|1|-1|"\\ud83d"|"x"|\{\}|\[\])[\]}]?,?){0,4}[\]}]{0,3}"#,
        ) {
            let _ = verdict(status, body);
        }
    }
}
