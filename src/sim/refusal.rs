//! Refusals: every answer that is an error, in the shape and the words of the real endpoint.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderName, Method, Response, StatusCode};
use serde::Serialize;

use super::limits::{Throttle, Unit};
use super::reply::{self, Payload};
use super::span;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

const INVALID: &str = "invalid_request_error";
const RATE_LIMIT_CODE: &str = "rate_limit_exceeded";
const LEARN_MORE: &str = "Visit https://platform.openai.com/account/rate-limits to learn more.";

/// How long a 429 without a true limit behind it asks to wait: short, because tests wait it out.
const FAULT_WAIT: Duration = Duration::from_millis(50);

/// An error response to be.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    status: StatusCode,
    error: Problem,
    wait: Option<Duration>,
}

/// The object under `error`; all four keys are always there.
#[derive(Debug, PartialEq, Serialize)]
struct Problem {
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
}

impl Refusal {
    /// A request that is wrong in itself.
    pub(super) fn invalid(
        param: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, INVALID, message)
            .with_code(code)
            .with_param(param)
    }

    pub(super) fn not_json() -> Refusal {
        let message = "We could not parse the JSON body of your request. (HINT: This likely means \
            you aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, \
            but what was sent was not valid JSON.)";
        Refusal::new(StatusCode::BAD_REQUEST, INVALID, message)
    }

    pub(super) fn missing(param: impl Into<String>) -> Refusal {
        let param = param.into();
        let message = format!("Missing required parameter: '{param}'.");
        Refusal::invalid(param, "missing_required_parameter", message)
    }

    pub(super) fn wrong_type(param: impl Into<String>, expected: &str) -> Refusal {
        let param = param.into();
        let message = format!("Invalid type for '{param}': expected {expected}.");
        Refusal::invalid(param, "invalid_type", message)
    }

    pub(super) fn wrong_key() -> Refusal {
        let message = "Incorrect API key provided. You can find your API key at \
            https://platform.openai.com/account/api-keys.";
        Refusal::new(StatusCode::UNAUTHORIZED, INVALID, message).with_code("invalid_api_key")
    }

    pub(super) fn unknown_model(model: &str) -> Refusal {
        let message =
            format!("The model `{model}` does not exist or you do not have access to it.");
        Refusal::new(StatusCode::NOT_FOUND, INVALID, message).with_code("model_not_found")
    }

    pub(super) fn unknown_url(method: &Method, path: &str) -> Refusal {
        let message = format!("Invalid URL ({method} {path})");
        Refusal::new(StatusCode::NOT_FOUND, INVALID, message).with_code("unknown_url")
    }

    pub(super) fn wrong_method(method: &Method, path: &str) -> Refusal {
        let message = format!(
            "Not allowed to {method} on {path}. (HINT: Perhaps you meant to use a different HTTP \
             method?)"
        );
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, message)
            .with_code("method_not_supported")
    }

    pub(super) fn too_long() -> Refusal {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            INVALID,
            "The request body is too large.",
        )
    }

    pub(super) fn server_error() -> Refusal {
        let message = "The server had an error while processing your request. Sorry about that!";
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    pub(super) fn overloaded() -> Refusal {
        let message = "The server is currently overloaded. Please try again later.";
        Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "service_unavailable_error",
            message,
        )
        .with_code("server_is_overloaded")
    }

    /// A 429 out of the blue, as a neighbor on the same account can cause it.
    pub(super) fn unlucky(model: &str) -> Refusal {
        let throttle = Throttle::Wait {
            unit: Unit::Requests,
            limit: 500,
            used: 500,
            requested: 1,
            wait: FAULT_WAIT,
        };
        Refusal::throttled(model, &throttle)
    }

    /// A 429 with a limit behind it.
    pub(super) fn throttled(model: &str, throttle: &Throttle) -> Refusal {
        match *throttle {
            Throttle::Wait {
                unit,
                limit,
                used,
                requested,
                wait,
            } => {
                let (kind, counted) = unit.words();
                let message = format!(
                    "Rate limit reached for {model} in organization org-simulated on {counted}: \
                     Limit {limit}, Used {used}, Requested {requested}. Please try again in {}. \
                     {LEARN_MORE}",
                    span::go(wait)
                );
                Refusal::new(StatusCode::TOO_MANY_REQUESTS, kind, message)
                    .with_code(RATE_LIMIT_CODE)
                    .with_wait(wait)
            }
            Throttle::TooLarge { limit, requested } => {
                let (kind, counted) = Unit::Tokens.words();
                let message = format!(
                    "Request too large for {model} in organization org-simulated on {counted}: \
                     Limit {limit}, Requested {requested}. The input or output tokens must be \
                     reduced in order to run successfully. {LEARN_MORE}"
                );
                // No wait: time does not make it smaller.
                Refusal::new(StatusCode::TOO_MANY_REQUESTS, kind, message)
                    .with_code(RATE_LIMIT_CODE)
            }
        }
    }

    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Refusal {
        Refusal {
            status,
            error: Problem {
                message: message.into(),
                kind,
                param: None,
                code: None,
            },
            wait: None,
        }
    }

    fn with_code(mut self, code: &'static str) -> Refusal {
        self.error.code = Some(code);
        self
    }

    fn with_param(mut self, param: impl Into<String>) -> Refusal {
        self.error.param = Some(param.into());
        self
    }

    fn with_wait(mut self, wait: Duration) -> Refusal {
        self.wait = Some(wait);
        self
    }

    /// Turns it into what goes onto the wire.
    pub(super) fn into_response(self) -> Response<Payload> {
        let body = serde_json::json!({ "error": self.error }).to_string();
        let mut response = reply::json(self.status, body);
        if let Some(wait) = self.wait {
            let milliseconds = span::milliseconds_up(wait).max(1);
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER_MS, milliseconds.into());
            headers.insert(RETRY_AFTER, milliseconds.div_ceil(1000).into());
        }
        response
    }
}

impl Unit {
    /// Returns the error's `type` and what the message says is counted.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Unit::Requests => ("requests", "requests per min (RPM)"),
            Unit::Tokens => ("tokens", "tokens per min (TPM)"),
        }
    }
}

/// The prompt-side content filter as Azure words it.
pub(super) fn filtered_prompt() -> Response<Payload> {
    let body = serde_json::json!({ "error": {
        "message": "The response was filtered due to the prompt triggering the content management \
            policy. Please modify your prompt and retry.",
        "type": null,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {
                "hate": { "filtered": false, "severity": "safe" },
                "jailbreak": { "filtered": false, "detected": false },
                "self_harm": { "filtered": false, "severity": "safe" },
                "sexual": { "filtered": false, "severity": "safe" },
                "violence": { "filtered": true, "severity": "medium" },
            },
        },
    }});
    reply::json(StatusCode::BAD_REQUEST, body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttled_says_what_the_provider_says() {
        let throttle = Throttle::Wait {
            unit: Unit::Tokens,
            limit: 60_000,
            used: 59_900,
            requested: 274,
            wait: Duration::from_micros(173_400),
        };
        let refusal = Refusal::throttled("gpt-x", &throttle);
        assert_eq!(
            refusal.error.message,
            "Rate limit reached for gpt-x in organization org-simulated on tokens per min (TPM): \
             Limit 60000, Used 59900, Requested 274. Please try again in 174ms. Visit \
             https://platform.openai.com/account/rate-limits to learn more."
        );
        let response = refusal.into_response();
        assert_eq!(response.headers()["retry-after-ms"], "174");
        assert_eq!(response.headers()["retry-after"], "1");
    }

    #[test]
    fn too_large_names_no_usage_and_no_wait() {
        let throttle = Throttle::TooLarge {
            limit: 100,
            requested: 101,
        };
        let refusal = Refusal::throttled("gpt-x", &throttle);
        assert!(
            refusal
                .error
                .message
                .starts_with("Request too large for gpt-x")
        );
        assert!(!refusal.error.message.contains("Used"));
        assert!(
            !refusal
                .into_response()
                .headers()
                .contains_key("retry-after")
        );
    }
}
