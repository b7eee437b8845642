//! The language between the scripted endpoint and the scripted provider, which is nobody's wire.

use std::time::{Duration, SystemTime};

use http::StatusCode;

use crate::provider::Provider;
use crate::words::item::Item;
use crate::words::tokens::{Tokens, Usage};
use crate::words::verdict::{Answer, Failure, FailureKind, Verdict};
use crate::words::wire::{Exchange, Reply, Request, TransportError, TransportErrorKind};

/// What the endpoint says to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    Done,
    /// An answer that used so many tokens for the completion.
    Used(u64),
    Content(&'static str),
    Malformed,
    /// A page of maintenance, called a success.
    Page,
    Broke,
    /// A server error: the item's own trouble.
    Failed,
    /// As before, and the server says that asking again will not help.
    Hopeless,
    /// No room at the moment, without a word of how long.
    Overloaded,
    /// Refused for now; the wait in seconds where the server names one.
    Throttled(Option<u64>),
    Rejected,
    Filtered,
    Mismatched,
    /// The key is refused.
    Denied,
    Unreachable,
    /// Nothing, for ever.
    Silence,
    /// A bug of ours on the way there, or in reading what came back.
    PanicInTransport,
    PanicInProvider,
}

/// One request, as the script sees it.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    pub item: u64,
    /// 1 for the item's first request.
    pub request: u32,
    /// Time since the run's start.
    pub at: Duration,
}

/// Returns the exchange in which the endpoint says this.
pub fn spoken(say: Say) -> Exchange {
    let broken = |kind, message: &str| {
        Err(TransportError {
            kind,
            message: message.into(),
        })
    };
    let (status, body) = match say {
        Say::Done => (200, "done".to_owned()),
        Say::Used(tokens) => (200, format!("used {tokens}")),
        Say::Content(content) => (200, format!("content {content}")),
        Say::Malformed => (200, "malformed".to_owned()),
        Say::Page => (200, "page".to_owned()),
        Say::Failed => (500, "failed".to_owned()),
        Say::Hopeless => (500, "hopeless".to_owned()),
        Say::Overloaded => (503, "overloaded".to_owned()),
        Say::Throttled(None) => (429, "throttled".to_owned()),
        Say::Throttled(Some(wait)) => (429, format!("throttled {wait}")),
        Say::Rejected => (400, "rejected".to_owned()),
        Say::Filtered => (400, "filtered".to_owned()),
        Say::Mismatched => (404, "mismatched".to_owned()),
        Say::Denied => (401, "denied".to_owned()),
        Say::Broke => return broken(TransportErrorKind::Broken, "the connection broke"),
        Say::Unreachable => return broken(TransportErrorKind::Unreachable, "connection refused"),
        Say::Silence => unreachable!("it never speaks"),
        Say::PanicInTransport => panic!("a bug on the way"),
        Say::PanicInProvider => (200, "poison".to_owned()),
    };
    Ok(Reply {
        status: StatusCode::from_u16(status).unwrap(),
        headers: http::HeaderMap::new(),
        body: body.into(),
        received: SystemTime::UNIX_EPOCH,
    })
}

/// Reads what the scripted endpoint says.
pub struct Reader;

impl Provider for Reader {
    fn request(&self, item: &Item) -> Request {
        Request {
            url: url::Url::parse("http://scripted.invalid/").unwrap(),
            headers: http::HeaderMap::new(),
            body: item.body.clone(),
        }
    }

    fn output_limit_field(&self, _: &str) -> &'static str {
        "max_tokens"
    }

    fn verdict(&self, exchange: &Exchange) -> Verdict {
        match exchange {
            Ok(reply) => of_words(reply),
            Err(error) => of_error(error),
        }
    }

    fn usage(&self, reply: &Reply) -> Option<Usage> {
        match of_words(reply) {
            Verdict::Done(answer) => answer.usage,
            _ => None,
        }
    }
}

fn of_words(reply: &Reply) -> Verdict {
    let text = std::str::from_utf8(&reply.body).unwrap();
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let failure = |kind| Failure {
        kind,
        message: text.to_owned(),
        http_status: Some(reply.status.as_u16()),
        code: None,
    };
    match word {
        "done" => Verdict::Done(Box::default()),
        "used" => Verdict::Done(Box::new(used(rest.parse().unwrap()))),
        "content" => Verdict::Done(Box::new(Answer {
            content: Some(rest.to_owned()),
            ..Answer::default()
        })),
        "malformed" => Verdict::Malformed(failure(FailureKind::Malformed)),
        "page" => Verdict::Foreign(failure(FailureKind::Malformed)),
        "failed" => Verdict::Retry(failure(FailureKind::ServerError)),
        "hopeless" => Verdict::Fail(failure(FailureKind::ServerError)),
        "overloaded" => Verdict::Throttle {
            failure: failure(FailureKind::Overloaded),
            wait: None,
        },
        "throttled" => Verdict::Throttle {
            failure: failure(FailureKind::RateLimit),
            wait: rest.parse().ok().map(Duration::from_secs),
        },
        "rejected" => Verdict::Reject(failure(FailureKind::BadRequest)),
        "filtered" => Verdict::Filter(failure(FailureKind::ContentFilter)),
        "mismatched" => Verdict::Mismatch(failure(FailureKind::NotFound)),
        "denied" => Verdict::Halt(failure(FailureKind::Auth)),
        "poison" => panic!("a bug in reading"),
        word => unreachable!("nothing says {word}"),
    }
}

fn used(tokens: u64) -> Answer {
    Answer {
        usage: Some(Usage {
            // No prompt is free.
            prompt: Tokens(1),
            completion: Tokens(tokens),
            total: Tokens(tokens + 1),
            ..Usage::default()
        }),
        ..Answer::default()
    }
}

fn of_error(error: &TransportError) -> Verdict {
    let failure = |kind| Failure {
        kind,
        message: error.message.clone(),
        http_status: None,
        code: None,
    };
    match error.kind {
        TransportErrorKind::Unreachable => Verdict::Throttle {
            failure: failure(FailureKind::Unreachable),
            wait: None,
        },
        TransportErrorKind::Timeout => Verdict::Retry(failure(FailureKind::Timeout)),
        _ => Verdict::Retry(failure(FailureKind::Network)),
    }
}
