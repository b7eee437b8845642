//! What a refusal means: status, codes and headers of an error, to the one decision about it.
//!
//! Statuses decide first, the server's own codes second, its words last and only where nothing
//! else tells. Digits in a text never decide: error bodies may repeat the prompt.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use super::complaint::Complaint;
use super::retry_after;
use crate::words::verdict::{Failure, FailureKind, Verdict};
use crate::words::wire::Reply;

/// No credit, or a spend limit. New codes keep an old type, so all names are compared.
const QUOTA_CODES: [&str; 9] = [
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "billing_hard_limit_reached",
    "billing_not_active",
    "enforced_spend_limit_reached",
    "contract_spend_limit_reached",
];

const FILTER_CODES: [&str; 5] = [
    "content_filter",
    "content_policy_violation",
    "responsibleaipolicyviolation",
    "invalid_prompt",
    "cyber_policy",
];

const CONTEXT_CODES: [&str; 2] = ["context_length_exceeded", "exceed_context_size_error"];

const TOO_LARGE_CODES: [&str; 3] = [
    "string_above_max_length",
    "array_above_max_length",
    "request_too_large",
];

/// Not the request was bad but what the model made of it: another try may succeed.
const BAD_OUTPUT_CODES: [&str; 2] = ["json_validate_failed", "tool_use_failed"];

const WRONG_MODEL_CODES: [&str; 3] = ["model_not_found", "invalid_model", "operationnotsupported"];

/// How servers say that a prompt does not fit, in lower case.
const CONTEXT_PHRASES: [&str; 13] = [
    "maximum context length is",
    "context_length_exceeded",
    "exceed context limit",
    "requested token count exceeds",
    "longer than the model's context length",
    "input tokens exceed the configured limit",
    "`max_new_tokens` must be",
    "exceeds the available context size",
    "exceeds the maximum number of tokens allowed",
    "prompt is too long",
    "maximum input length is",
    "input is too large to process",
    "input length exceeds the context length",
];

/// An error response, or an error inside a 2xx response.
pub(super) struct Refusal<'a> {
    pub reply: &'a Reply,
    /// The status by which it is judged: the response's own, or the one that the error names.
    pub status: u16,
    pub complaint: Complaint,
}

impl Refusal<'_> {
    /// Decides what the refusal means.
    pub fn verdict(&self) -> Verdict {
        match self.status {
            401 => self.halt(FailureKind::Auth),
            402 => self.payment(),
            403 => self.forbidden(),
            404 => Verdict::Mismatch(self.failure(FailureKind::NotFound)),
            405 | 501 => self.halt(FailureKind::NotFound),
            408 => self.retry(FailureKind::Timeout),
            // 499 is a request that someone between here and the model called off.
            409 | 425 | 499 => self.retry(FailureKind::ServerError),
            429 => self.too_many(),
            498 => self.throttle(FailureKind::RateLimit),
            500 if self.is_over_context() => self.reject(FailureKind::ContextLength),
            503 | 529 => self.overloaded(),
            500.. => self.retry(FailureKind::ServerError),
            _ => self.bad_request(),
        }
    }

    fn bad_request(&self) -> Verdict {
        let complaint = &self.complaint;
        if complaint.is_any(&FILTER_CODES) {
            return Verdict::Filter(self.failure(FailureKind::ContentFilter));
        }
        if complaint.is_any(&CONTEXT_CODES) {
            return self.reject(FailureKind::ContextLength);
        }
        if let Some(kind) = self.lockout() {
            return self.halt(kind);
        }
        if complaint.is_any(&BAD_OUTPUT_CODES) {
            return Verdict::Malformed(self.failure(FailureKind::Malformed));
        }
        if complaint.is_any(&WRONG_MODEL_CODES) || self.names_wrong_model() {
            return Verdict::Mismatch(self.failure(FailureKind::NotFound));
        }
        if self.is_over_context() {
            return self.reject(FailureKind::ContextLength);
        }
        if self.status == 413 || complaint.is_any(&TOO_LARGE_CODES) {
            return self.reject(FailureKind::TooLarge);
        }
        if self.should_retry() == Some(true) {
            return self.retry(FailureKind::ServerError);
        }
        self.reject(FailureKind::BadRequest)
    }

    /// Tells why a plain 400 means that no request will succeed: some vendors say so of a wrong
    /// key, a closed region or an empty account.
    fn lockout(&self) -> Option<FailureKind> {
        let complaint = &self.complaint;
        let message = complaint.message.to_ascii_lowercase();
        if complaint.is_any(&QUOTA_CODES) || says_no_credit(&message) {
            return Some(FailureKind::Quota);
        }
        let key_refused = complaint.is_any(&["api_key_invalid", "organization_on_hold"])
            || message.starts_with("api key not valid")
            || self.status == 400 && complaint.is_any(&["failed_precondition"]);
        key_refused.then_some(FailureKind::Auth)
    }

    /// Some vendors refuse an unknown model with a 400 and tell it only in words.
    fn names_wrong_model(&self) -> bool {
        let message = &self.complaint.message;
        message == "Model Not Exist" || message.ends_with("is not a valid model ID")
    }

    fn payment(&self) -> Verdict {
        let says = |field, word| {
            self.complaint
                .metadata(field)
                .is_some_and(|value| value == word)
        };
        if says("reason", "weight_exceeds_budget") {
            return self.reject(FailureKind::TooLarge);
        }
        // OpenRouter: the requests in flight have reserved the credit; it comes back.
        if says("limit_source", "openrouter_in_flight_budget") && self.wait().is_some() {
            return self.throttle(FailureKind::RateLimit);
        }
        self.halt(FailureKind::Quota)
    }

    fn forbidden(&self) -> Verdict {
        let complaint = &self.complaint;
        let moderated = ["reasons", "flagged_input"]
            .iter()
            .any(|field| complaint.metadata(field).is_some());
        if moderated || complaint.is_any(&FILTER_CODES) {
            return Verdict::Filter(self.failure(FailureKind::ContentFilter));
        }
        if complaint.is_any(&QUOTA_CODES) {
            return self.halt(FailureKind::Quota);
        }
        self.halt(FailureKind::Auth)
    }

    fn too_many(&self) -> Verdict {
        if self.complaint.is_any(&QUOTA_CODES) || self.is_daily_quota() {
            return self.halt(FailureKind::Quota);
        }
        // One request above the limit of a whole minute will not fit in any minute.
        let message = self.complaint.message.to_ascii_lowercase();
        if message.starts_with("request too large") {
            return self.reject(FailureKind::TooLarge);
        }
        self.throttle(FailureKind::RateLimit)
    }

    /// Tells whether Google's quota is one that no wait within a run brings back.
    fn is_daily_quota(&self) -> bool {
        let per_day = self.complaint.details().iter().any(|detail| {
            let violations = detail.get("violations").and_then(Value::as_array);
            violations.into_iter().flatten().any(|violation| {
                let id = violation.get("quotaId").and_then(Value::as_str);
                id.is_some_and(|id| id.contains("PerDay"))
            })
        });
        per_day || has_limit_of_zero(&self.complaint.message.to_ascii_lowercase())
    }

    fn is_over_context(&self) -> bool {
        if !matches!(self.status, 400 | 413 | 422 | 500) {
            return false;
        }
        let message = self.complaint.message.to_ascii_lowercase();
        CONTEXT_PHRASES
            .iter()
            .any(|phrase| message.contains(phrase))
            || message.contains("current length is") && message.contains("while limit is")
    }

    /// Retries, unless the server says not to; waits instead, if it says how long.
    fn retry(&self, kind: FailureKind) -> Verdict {
        if self.should_retry() == Some(false) {
            return Verdict::Fail(self.failure(kind));
        }
        let failure = self.failure(kind);
        match retry_after::from_headers(&self.reply.headers, self.reply.received) {
            Some(wait) => Verdict::Throttle {
                failure,
                wait: Some(wait),
            },
            None => Verdict::Retry(failure),
        }
    }

    fn overloaded(&self) -> Verdict {
        if self.should_retry() == Some(false) {
            return Verdict::Fail(self.failure(FailureKind::Overloaded));
        }
        self.throttle(FailureKind::Overloaded)
    }

    fn throttle(&self, kind: FailureKind) -> Verdict {
        Verdict::Throttle {
            failure: self.failure(kind),
            wait: self.wait(),
        }
    }

    fn halt(&self, kind: FailureKind) -> Verdict {
        Verdict::Halt(self.failure(kind))
    }

    fn reject(&self, kind: FailureKind) -> Verdict {
        Verdict::Reject(self.failure(kind))
    }

    fn wait(&self) -> Option<Duration> {
        retry_after::wait(self.reply, &self.complaint)
    }

    /// Reads the header by which a server overrules what its status would mean.
    ///
    /// Heeded for server errors and for otherwise plain bad requests. A 429 stays what it is: that
    /// limit is about time, and the run's own patience bounds it.
    fn should_retry(&self) -> Option<bool> {
        let value = self.reply.headers.get("x-should-retry")?.as_bytes();
        if value.eq_ignore_ascii_case(b"true") {
            Some(true)
        } else if value.eq_ignore_ascii_case(b"false") {
            Some(false)
        } else {
            None
        }
    }

    fn failure(&self, kind: FailureKind) -> Failure {
        let status = self.reply.status;
        let message = match self.complaint.message.as_str() {
            "" => format!("{} without a message", named(status)),
            message => message.to_owned(),
        };
        Failure {
            kind,
            message,
            http_status: Some(status.as_u16()),
            code: self.complaint.code.clone(),
        }
    }
}

fn named(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("HTTP {} ({reason})", status.as_u16()),
        None => format!("HTTP {}", status.as_u16()),
    }
}

/// Anthropic says so in words only. The longer phrase also where a gateway wraps it; the shorter
/// one only at the start, since a 400 may repeat a prompt about somebody's credit balance.
fn says_no_credit(message: &str) -> bool {
    let start = message.strip_prefix("your ").unwrap_or(message);
    start.starts_with("credit balance is too low")
        || message.contains("credit balance is too low to access")
}

/// Finds Google's "limit: 0", which means that this account has no such quota at all.
fn has_limit_of_zero(message: &str) -> bool {
    message.contains("quota")
        && message.split("limit: 0").skip(1).any(|rest| {
            let mut next = rest.chars();
            match next.next() {
                Some('.') => !next.next().is_some_and(|c| c.is_ascii_digit()),
                other => !other.is_some_and(|c| c.is_ascii_digit()),
            }
        })
}

/// Finds the status that an error inside a 2xx response stands for: the number that it names, or
/// else what its codes say. An error that says nothing is the server's.
pub(super) fn implied_status(complaint: &Complaint) -> u16 {
    const BY_CODE: [(u16, &[&str]); 6] = [
        (429, &QUOTA_CODES),
        (
            429,
            &[
                "rate_limit_exceeded",
                "rate_limit_error",
                "rate_limited",
                "resource_exhausted",
            ],
        ),
        (
            503,
            &[
                "overloaded_error",
                "server_is_overloaded",
                "service_unavailable_error",
                "unavailable",
            ],
        ),
        (401, &["authentication_error", "invalid_api_key"]),
        (400, &FILTER_CODES),
        (
            400,
            &[
                "invalid_request_error",
                "badrequesterror",
                "context_length_exceeded",
            ],
        ),
    ];
    complaint.status().unwrap_or_else(|| {
        BY_CODE
            .iter()
            .find(|(_, codes)| complaint.is_any(codes))
            .map_or(500, |(status, _)| *status)
    })
}
