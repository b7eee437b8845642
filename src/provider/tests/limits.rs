//! Refusals that are about money and limits: 402, 403 and the families of 429.

use super::*;

// Money.

#[test]
fn credit_used_up_halts_the_run() {
    assert_eq!(
        refused(
            402,
            r#"{"error":{"code":402,"message":"Insufficient credits"}}"#
        ),
        "halt quota"
    );
    assert_eq!(refused(402, error("", "billing_error", "no")), "halt quota");
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
    assert_eq!(refused(402, &in_flight), "halt quota");
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
        refused(403, fixture!("openrouter_moderation.json")),
        "filter content_filter"
    );
    assert_eq!(
        refused(
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
        refused(403, error("model_not_found", "invalid_request_error", "no")),
        "halt auth"
    );
    assert_eq!(
        refused(403, error("insufficient_quota", "", "no")),
        "halt quota"
    );
    assert_eq!(
        refused(
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
        assert_eq!(refused(429, error(code, "", "no")), "halt quota", "{code}");
    }
    assert_eq!(
        refused(
            429,
            error("a_code_of_next_year", "insufficient_quota", "no")
        ),
        "halt quota"
    );
    assert_eq!(
        refused(429, error("", "insufficient_quota", "no")),
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
        assert_eq!(refused(429, body), expected);
    }
}

#[test]
fn a_rate_limit_throttles_for_as_long_as_the_message_says() {
    let message = "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000. Please try again in 9.816s.";
    let body = error("rate_limit_exceeded", "tokens", message);
    assert_eq!(refused(429, &body), "throttle rate_limit 9816ms");
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
    assert_eq!(refused(429, &body), "reject too_large");
    let headers = [("x-should-retry", "true"), ("retry-after", "1")];
    assert_eq!(
        word(&with_headers(429, &headers, &body)),
        "reject too_large"
    );
}

#[test]
fn slowing_down_and_flex_throttle() {
    assert_eq!(
        refused(429, error("slow_down", "rate_limit_error", "no")),
        "throttle rate_limit"
    );
    assert_eq!(
        refused(429, error("resource_unavailable", "", "no")),
        "throttle rate_limit"
    );
    assert_eq!(
        refused(
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
    assert_eq!(
        refused(429, fixture!("gemini_day_quota.json")),
        "halt quota"
    );
}

#[test]
fn gemini_quota_of_zero_halts_the_run() {
    let body = |limit: &str| {
        format!(
            r#"[{{"error":{{"code":429,"message":"Quota exceeded for metric: free_tier_requests, limit: {limit}, model: m","status":"RESOURCE_EXHAUSTED"}}}}]"#
        )
    };
    assert_eq!(refused(429, body("0")), "halt quota");
    for limit in ["10", "0.5", "05"] {
        assert_eq!(refused(429, body(limit)), "throttle rate_limit", "{limit}");
    }
}

#[test]
fn a_limit_of_zero_that_is_no_quota_throttles() {
    let body = error(
        "",
        "rate_limit_error",
        "too many requests in flight, limit: 0",
    );
    assert_eq!(refused(429, body), "throttle rate_limit");
}

#[test]
fn a_flat_rate_limit_of_mistral_throttles() {
    let body = r#"{"object":"error","message":"Requests rate limit exceeded","type":"rate_limited","param":null,"code":"1300","raw_status_code":429}"#;
    let verdict = verdict(429, body);
    assert_eq!(word(&verdict), "throttle rate_limit");
    assert_eq!(failure(verdict).code.as_deref(), Some("1300"));
}
