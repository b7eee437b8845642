//! Wire shapes and what they mean, one test each, through the same door as the engine.

mod answers;
mod limits;
mod refusals;
mod usage;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Provider;
use super::openai::OpenAi;
use super::preset::Preset;
use crate::words::verdict::{Answer, Failure, FailureKind, Verdict};
use crate::words::wire::{Exchange, Reply};

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/provider/",
            $name
        ))
    };
}
use fixture;

/// 2026-11-22T10:00:00Z.
fn received() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_341_600)
}

fn judge(exchange: &Exchange) -> Verdict {
    OpenAi::new(Preset::GENERIC, "http://127.0.0.1/v1", None)
        .unwrap()
        .verdict(exchange)
}

fn with_headers(status: u16, headers: &[(&'static str, &str)], body: impl AsRef<[u8]>) -> Verdict {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        })
        .collect();
    judge(&Ok(Reply {
        headers,
        ..reply(status, body)
    }))
}

fn reply(status: u16, body: impl AsRef<[u8]>) -> Reply {
    Reply {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body.as_ref()),
        received: received(),
    }
}

fn verdict(status: u16, body: impl AsRef<[u8]>) -> Verdict {
    with_headers(status, &[], body)
}

/// Names a verdict and its kind, for one-line assertions: "retry server_error".
fn word(verdict: &Verdict) -> String {
    let (word, failure) = match verdict {
        Verdict::Done(_) => return "done".to_owned(),
        Verdict::Retry(failure) => ("retry", failure),
        Verdict::Malformed(failure) => ("malformed", failure),
        Verdict::Foreign(failure) => ("foreign", failure),
        Verdict::Throttle { failure, wait } => match wait {
            Some(wait) => return format!("throttle {} {}ms", kind(failure), wait.as_millis()),
            None => ("throttle", failure),
        },
        Verdict::Fail(failure) => ("fail", failure),
        Verdict::Reject(failure) => ("reject", failure),
        Verdict::Filter(failure) => ("filter", failure),
        Verdict::Mismatch(failure) => ("mismatch", failure),
        Verdict::Halt(failure) => ("halt", failure),
    };
    format!("{word} {}", kind(failure))
}

fn kind(failure: &Failure) -> String {
    serde_json::to_value(failure.kind)
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}

fn failure(verdict: Verdict) -> Failure {
    match verdict {
        Verdict::Done(answer) => panic!("an answer, not a failure: {answer:?}"),
        Verdict::Throttle { failure, .. }
        | Verdict::Retry(failure)
        | Verdict::Malformed(failure)
        | Verdict::Foreign(failure)
        | Verdict::Fail(failure)
        | Verdict::Reject(failure)
        | Verdict::Filter(failure)
        | Verdict::Mismatch(failure)
        | Verdict::Halt(failure) => failure,
    }
}

fn answer(body: impl AsRef<[u8]>) -> Answer {
    match verdict(200, body) {
        Verdict::Done(answer) => *answer,
        other => panic!("no answer: {other:?}"),
    }
}

/// A complete answer whose only choice is `choice`.
fn choice(choice: &str) -> String {
    format!(r#"{{"id":"x","choices":[{choice}],"usage":null}}"#)
}

/// An error body in OpenAI's shape.
fn error(code: &str, kind: &str, message: &str) -> String {
    let text = |text: &str| match text {
        "" => "null".to_owned(),
        text => serde_json::to_string(text).unwrap(),
    };
    let (message, kind, code) = (text(message), text(kind), text(code));
    format!(r#"{{"error":{{"message":{message},"type":{kind},"param":null,"code":{code}}}}}"#)
}

fn refused(status: u16, body: impl AsRef<[u8]>) -> String {
    word(&verdict(status, body))
}
