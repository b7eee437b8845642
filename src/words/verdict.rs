//! What an answer means for its item and for the run.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::tokens::Usage;

/// The one decision that is made about every exchange.
#[derive(Debug)]
pub enum Verdict {
    /// A usable answer.
    Done(Box<Answer>),
    /// Worth another attempt after the item's own backoff; spends one of its attempts.
    Retry(Failure),
    /// A complete answer that cannot be used; it was paid for. Worth one more attempt, then the
    /// item is `invalid` and the answer is kept.
    Malformed(Failure),
    /// A success that is none of the API's: no JSON at all, such as a page of maintenance. As
    /// before, and it may be the route's failure.
    Foreign(Failure),
    /// The server failed, and says that asking again will not help now. A later run may.
    Fail(Failure),
    /// News about the route, not about the item: wait, and spend none of its attempts. `wait` is
    /// what the server asked for, if it did.
    Throttle {
        failure: Failure,
        wait: Option<Duration>,
    },
    /// The request itself is wrong; asking again cannot help.
    Reject(Failure),
    /// Refused by a content policy; asking again cannot help.
    Filter(Failure),
    /// The endpoint knows no such model or address (404). Wrong for the whole run where the run
    /// chose the model or nothing is ever found, otherwise only for this item.
    Mismatch(Failure),
    /// Every later request would fail the same way: stop the run.
    Halt(Failure),
}

/// A usable answer, taken apart as far as the row needs it.
#[derive(Debug, Default)]
pub struct Answer {
    /// Text of the first choice; `None` where the model answered with tools or a refusal only.
    pub content: Option<String>,
    pub refusal: Option<String>,
    pub tool_calls: Option<Box<RawValue>>,
    /// Kept as the provider spells it: an open set.
    pub finish_reason: Option<String>,
    /// It ended at the limit of its tokens, in anyone's spelling of the finish reason.
    pub was_cut: bool,
    /// The model that really answered.
    pub model: Option<String>,
    pub usage: Option<Usage>,
    /// The provider's handle for support.
    pub request_id: Option<String>,
}

/// Why an attempt brought no usable answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    /// The provider's words or ours, capped in length.
    pub message: String,
    pub http_status: Option<u16>,
    /// The provider's own error code or type, as text.
    pub code: Option<String>,
}

/// The kinds of failure, as they stand in the errors file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Too many requests or tokens.
    RateLimit,
    /// The server has no room at the moment (503, 529).
    Overloaded,
    /// The server failed (500, 502, …).
    ServerError,
    Timeout,
    /// The connection broke, or the body was cut.
    Network,
    /// No connection came about.
    Unreachable,
    /// The server's certificate is not trusted.
    BadCertificate,
    /// An answer came that cannot be used.
    Malformed,
    ContentFilter,
    /// The prompt, with the answer's room, is longer than the model's context.
    ContextLength,
    /// The request is larger than the provider takes at all.
    TooLarge,
    BadRequest,
    /// Unknown model, or nothing at this address.
    NotFound,
    /// The key is refused, or may not do this.
    Auth,
    /// No credit left, or a spend limit was reached.
    Quota,
    /// The input line is bad.
    InvalidInput,
    /// The run's own budget is used up, or too small for the item.
    Budget,
    /// Nothing bounds what the item can cost, and the run has a budget.
    Boundless,
    /// The answer was cut, since the budget had no room for a longer one.
    Cut,
    /// The server was away for longer than the run waits.
    Outage,
    /// The server asked for a longer wait than the run waits.
    LongWait,
    /// More items ended without a result than the run allows.
    ErrorRate,
    /// The first items were all rejected in the same way.
    SameRejection,
}

impl Failure {
    /// Returns what happened in a few words, for a line that says what is going on.
    pub fn cause(&self) -> String {
        match self.http_status {
            Some(status) if status >= 400 => format!("server answers {status}"),
            _ => self.kind.words().to_owned(),
        }
    }

    /// Tells whether this may be the route's failure and no item's: no connection, no answer, or
    /// a server error.
    pub fn may_be_of_route(&self) -> bool {
        let is_failure = matches!(
            self.kind,
            FailureKind::ServerError
                | FailureKind::Overloaded
                | FailureKind::Timeout
                | FailureKind::Network
                | FailureKind::Unreachable
        );
        // Whoever answers with another status is at work.
        is_failure && self.http_status.is_none_or(|status| status >= 500)
    }
}

impl FailureKind {
    /// Returns the words for a summary line: "11 timeout, 4 server error".
    pub fn words(self) -> &'static str {
        match self {
            Self::RateLimit => "rate limit",
            Self::Overloaded => "overloaded",
            Self::ServerError => "server error",
            Self::Timeout => "timeout",
            Self::Network => "broken connection",
            Self::Unreachable => "unreachable",
            Self::BadCertificate => "bad certificate",
            Self::Malformed => "unusable answer",
            Self::ContentFilter => "content filter",
            Self::ContextLength => "context length",
            Self::TooLarge => "too large",
            Self::BadRequest => "bad request",
            Self::NotFound => "not found",
            Self::Auth => "key refused",
            Self::Quota => "quota exhausted",
            Self::InvalidInput => "bad input line",
            Self::Budget => "budget too small",
            Self::Boundless => "cost without a bound",
            Self::Cut => "cut by the budget",
            Self::Outage => "outage",
            Self::LongWait => "wait too long",
            Self::ErrorRate => "error rate",
            Self::SameRejection => "all rejected",
        }
    }

    /// Tells whether the same request may succeed at another time.
    pub fn retryable(self) -> bool {
        !matches!(
            self,
            Self::ContentFilter
                | Self::ContextLength
                | Self::TooLarge
                | Self::BadRequest
                | Self::InvalidInput
        )
    }
}
