//! Error responses and transport errors, one row of the decision table each.

use super::*;
use crate::words::wire::{TransportError, TransportErrorKind};

/// An error body in OpenAI's shape.
fn error(code: &str, kind: &str, message: &str) -> String {
    let text = |text: &str| match text {
        "" => "null".to_owned(),
        text => serde_json::to_string(text).unwrap(),
    };
    let (message, kind, code) = (text(message), text(kind), text(code));
    format!(r#"{{"error":{{"message":{message},"type":{kind},"param":null,"code":{code}}}}}"#)
}

fn words(status: u16, body: impl AsRef<[u8]>) -> String {
    word(&verdict(status, body))
}

#[test]
fn transport_errors_are_judged_by_their_phase() {
    for (kind, expected) in [
        (TransportErrorKind::Unreachable, "throttle unreachable"),
        (TransportErrorKind::BadCertificate, "halt unreachable"),
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
        (405, "mismatch not_found"),
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
        (501, "mismatch not_found"),
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
    assert_eq!(words(400, body), "reject bad_request");
    let body = error("429", "rate_limit_error", "the status is what counts");
    assert_eq!(words(500, body), "retry server_error");
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
    assert_eq!(
        failure(verdict(502, "")).message,
        "HTTP 502 Bad Gateway without a message"
    );
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
        words(400, fixture!("azure_prompt_filter.json")),
        "filter content_filter"
    );
    for code in [
        "content_filter",
        "content_policy_violation",
        "invalid_prompt",
        "cyber_policy",
    ] {
        assert_eq!(
            words(400, error(code, "", "no")),
            "filter content_filter",
            "{code}"
        );
        assert_eq!(
            words(400, error("", code, "no")),
            "filter content_filter",
            "{code}"
        );
    }
    let inner = r#"{"error":{"code":"400","message":"no","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#;
    assert_eq!(words(400, inner), "filter content_filter");
}

#[test]
fn a_prompt_beyond_the_context_is_rejected_as_such() {
    assert_eq!(
        words(400, fixture!("llamacpp_context.json")),
        "reject context_length"
    );
    assert_eq!(
        words(400, error("context_length_exceeded", "", "no")),
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
                words(status, error("", "", message)),
                "reject context_length",
                "{message}"
            );
        }
        assert_eq!(
            words(502, error("", "", message)),
            "retry server_error",
            "{message}"
        );
    }
}

#[test]
fn fields_above_their_limit_are_too_large() {
    assert_eq!(
        words(400, error("string_above_max_length", "", "no")),
        "reject too_large"
    );
    assert_eq!(
        words(413, error("", "request_too_large", "no")),
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
            words(400, error(code, "invalid_request_error", "no")),
            "reject bad_request"
        );
    }
}

#[test]
fn output_that_broke_its_own_schema_is_malformed() {
    assert_eq!(
        words(400, fixture!("groq_bad_json.json")),
        "malformed malformed"
    );
    assert_eq!(
        words(400, error("tool_use_failed", "", "no")),
        "malformed malformed"
    );
}

#[test]
fn a_wrong_key_at_gemini_halts_the_run() {
    let verdict = verdict(400, fixture!("gemini_wrong_key.json"));
    assert_eq!(word(&verdict), "halt auth");
    assert_eq!(failure(verdict).code.as_deref(), Some("INVALID_ARGUMENT"));
    assert_eq!(
        words(
            400,
            error("", "", "API key not valid. Please pass a valid one.")
        ),
        "halt auth"
    );
}

#[test]
fn a_closed_region_at_gemini_halts_the_run() {
    let body = r#"[{"error":{"code":400,"message":"User location is not supported","status":"FAILED_PRECONDITION"}}]"#;
    assert_eq!(words(400, body), "halt auth");
}

#[test]
fn an_empty_account_told_in_words_halts_the_run() {
    for message in [
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing",
        "credit balance is too low",
        "gateway error: {\"message\":\"Your credit balance is too low to access the Anthropic API\"}",
    ] {
        assert_eq!(
            words(400, error("", "invalid_request_error", message)),
            "halt quota"
        );
    }
    let hold = r#"{"type":"error","error":{"type":"invalid_request_error","message":"on hold","details":{"error_code":"organization_on_hold"}}}"#;
    assert_eq!(words(400, hold), "halt auth");
}

#[test]
fn a_repeated_prompt_about_credit_or_keys_does_not_halt_the_run() {
    for message in [
        "invalid input: 'my credit balance is too low, please help'",
        "invalid input: 'it says API key not valid'",
    ] {
        assert_eq!(
            words(400, error("", "", message)),
            "reject bad_request",
            "{message}"
        );
    }
}

#[test]
fn an_unknown_model_is_a_mismatch_even_with_status_400() {
    assert_eq!(
        words(404, error("model_not_found", "", "no")),
        "mismatch not_found"
    );
    assert_eq!(
        words(
            404,
            r#"{"error":{"code":"DeploymentNotFound","message":"no"}}"#
        ),
        "mismatch not_found"
    );
    assert_eq!(
        words(400, error("OperationNotSupported", "", "no")),
        "mismatch not_found"
    );
    assert_eq!(
        words(400, error("", "invalid_request_error", "Model Not Exist")),
        "mismatch not_found"
    );
    assert_eq!(
        words(400, error("", "", "acme/none is not a valid model ID")),
        "mismatch not_found"
    );
    assert_eq!(
        words(
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

// Money.

#[test]
fn credit_used_up_halts_the_run() {
    assert_eq!(
        words(
            402,
            r#"{"error":{"code":402,"message":"Insufficient credits"}}"#
        ),
        "halt quota"
    );
    assert_eq!(words(402, error("", "billing_error", "no")), "halt quota");
}

#[test]
fn credit_reserved_in_flight_throttles() {
    let body = |reason: &str| {
        format!(
            r#"{{"error":{{"code":402,"message":"no","metadata":{{"limit_source":"openrouter_in_flight_budget","reason":"{reason}"}}}}}}"#
        )
    };
    let retry_after = [("retry-after", "3")];
    let in_flight = body("in_flight_budget_exhausted");
    assert_eq!(
        word(&with_headers(402, &retry_after, &in_flight)),
        "throttle rate_limit 3000ms"
    );
    assert_eq!(words(402, &in_flight), "halt quota");
    let too_heavy = body("weight_exceeds_budget");
    assert_eq!(
        word(&with_headers(402, &retry_after, too_heavy)),
        "reject too_large"
    );
    assert_eq!(word(&with_headers(402, &retry_after, "{}")), "halt quota");
}

#[test]
fn moderation_is_a_filter_and_other_403s_halt() {
    assert_eq!(
        words(403, fixture!("openrouter_moderation.json")),
        "filter content_filter"
    );
    assert_eq!(
        words(
            403,
            error(
                "unsupported_country_region_territory",
                "request_forbidden",
                "no"
            )
        ),
        "halt auth"
    );
    assert_eq!(
        words(403, error("model_not_found", "invalid_request_error", "no")),
        "halt auth"
    );
    assert_eq!(
        words(403, error("insufficient_quota", "", "no")),
        "halt quota"
    );
    assert_eq!(
        words(
            403,
            r#"{"error":{"code":403,"message":"no","metadata":{"reasons":[]}}}"#
        ),
        "halt auth"
    );
}

// The families of 429.

#[test]
fn quota_429_halts_the_run() {
    for code in [
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
    ] {
        assert_eq!(words(429, error(code, "", "no")), "halt quota", "{code}");
    }
    assert_eq!(
        words(
            429,
            error("a_code_of_next_year", "insufficient_quota", "no")
        ),
        "halt quota"
    );
    assert_eq!(
        words(429, error("", "insufficient_quota", "no")),
        "halt quota"
    );
}

#[test]
fn quota_429_halts_the_run_even_with_a_retry_after() {
    let headers = [("retry-after", "5"), ("x-should-retry", "true")];
    let body = error("insufficient_quota", "insufficient_quota", "no");
    assert_eq!(word(&with_headers(429, &headers, body)), "halt quota");
}

#[test]
fn a_spend_limit_at_anthropic_halts_the_run() {
    for (code, expected) in [
        ("enforced_spend_limit_reached", "halt quota"),
        ("contract_spend_limit_reached", "halt quota"),
        ("ramp_limit_exceeded", "throttle rate_limit"),
    ] {
        let body = format!(
            r#"{{"type":"error","error":{{"type":"rate_limit_error","message":"no","details":{{"error_code":"{code}"}}}}}}"#
        );
        assert_eq!(words(429, body), expected);
    }
}

#[test]
fn a_rate_limit_throttles_for_as_long_as_the_message_says() {
    let message = "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000. Please try again in 9.816s.";
    let body = error("rate_limit_exceeded", "tokens", message);
    assert_eq!(words(429, &body), "throttle rate_limit 9816ms");
    assert_eq!(
        word(&with_headers(429, &[("retry-after", "12")], &body)),
        "throttle rate_limit 12000ms"
    );
    assert_eq!(
        word(&with_headers(
            429,
            &[("retry-after", "12"), ("retry-after-ms", "7")],
            &body
        )),
        "throttle rate_limit 7ms"
    );
    assert_eq!(
        word(&with_headers(429, &[("retry-after", "soon")], &body)),
        "throttle rate_limit 9816ms"
    );
}

#[test]
fn a_request_larger_than_its_limit_is_rejected() {
    let message =
        "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 45000.";
    let body = error("rate_limit_exceeded", "tokens", message);
    assert_eq!(words(429, &body), "reject too_large");
    let headers = [("x-should-retry", "true"), ("retry-after", "1")];
    assert_eq!(
        word(&with_headers(429, &headers, &body)),
        "reject too_large"
    );
}

#[test]
fn slowing_down_and_flex_throttle() {
    assert_eq!(
        words(429, error("slow_down", "rate_limit_error", "no")),
        "throttle rate_limit"
    );
    assert_eq!(
        words(429, error("resource_unavailable", "", "no")),
        "throttle rate_limit"
    );
    assert_eq!(
        words(
            503,
            error("server_is_overloaded", "service_unavailable_error", "no")
        ),
        "throttle overloaded"
    );
}

#[test]
fn gemini_minute_quota_throttles_for_its_retry_delay() {
    let verdict = verdict(429, fixture!("gemini_minute_quota.json"));
    assert_eq!(word(&verdict), "throttle rate_limit 34000ms");
    assert_eq!(failure(verdict).code.as_deref(), Some("RESOURCE_EXHAUSTED"));
}

#[test]
fn gemini_day_quota_halts_the_run() {
    assert_eq!(words(429, fixture!("gemini_day_quota.json")), "halt quota");
}

#[test]
fn gemini_quota_of_zero_halts_the_run() {
    let body = |limit: &str| {
        format!(
            r#"[{{"error":{{"code":429,"message":"Quota exceeded for metric: free_tier_requests, limit: {limit}, model: m","status":"RESOURCE_EXHAUSTED"}}}}]"#
        )
    };
    assert_eq!(words(429, body("0")), "halt quota");
    for limit in ["10", "0.5", "05"] {
        assert_eq!(words(429, body(limit)), "throttle rate_limit", "{limit}");
    }
}

#[test]
fn a_flat_rate_limit_of_mistral_throttles() {
    let body = r#"{"object":"error","message":"Requests rate limit exceeded","type":"rate_limited","param":null,"code":"1300","raw_status_code":429}"#;
    let verdict = verdict(429, body);
    assert_eq!(word(&verdict), "throttle rate_limit");
    assert_eq!(failure(verdict).code.as_deref(), Some("1300"));
}

// Servers without room, and headers that overrule.

#[test]
fn a_local_server_that_loads_or_queues_throttles() {
    let loading = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
    assert_eq!(words(503, loading), "throttle overloaded");
    let queue = error(
        "",
        "api_error",
        "server busy, please try again. maximum pending requests exceeded",
    );
    assert_eq!(words(503, queue), "throttle overloaded");
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
        assert!(matches!(verdict, Verdict::Reject(_)), "{status}");
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
    assert_eq!(word(&verdict), "mismatch not_found");
    let message = failure(verdict).message;
    assert_eq!(
        message,
        "redirects are not followed: this address points to `other.example`"
    );
}

#[test]
fn a_redirect_without_a_host_is_a_mismatch_too() {
    for location in ["/v1/elsewhere?key=hidden", "not a url hidden", ""] {
        let message = failure(with_headers(301, &[("location", location)], "")).message;
        assert!(
            message.starts_with("redirects are not followed"),
            "{message}"
        );
        assert!(!message.contains("hidden"), "{message}");
    }
    assert_eq!(words(304, ""), "mismatch not_found");
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
