//! Exchange to verdict: the one place where transport errors, statuses and bodies get a meaning.
//!
//! It promises a verdict for every exchange whatever the bytes, and that nothing here knows what
//! happens next: retries, waits and stops are the engine's.

use http::header::LOCATION;
use http::{HeaderMap, Uri};

use super::complaint::Complaint;
use super::completion::{self, Reading};
use super::refusal::{Refusal, implied_status};
use crate::words::verdict::{Failure, FailureKind, Verdict};
use crate::words::wire::{Exchange, Reply, TransportError, TransportErrorKind};

/// Decides what an exchange means for its item and for the run.
pub(super) fn classify(exchange: &Exchange) -> Verdict {
    match exchange {
        Ok(reply) => of_reply(reply),
        Err(error) => of_transport(error),
    }
}

fn of_transport(error: &TransportError) -> Verdict {
    let failure = |kind| Failure {
        kind,
        message: error.message.clone(),
        http_status: None,
        code: None,
    };
    match error.kind {
        // Nobody's item is at fault when there is no connection.
        TransportErrorKind::Unreachable => Verdict::Throttle {
            failure: failure(FailureKind::Unreachable),
            wait: None,
        },
        TransportErrorKind::BadCertificate => Verdict::Halt(failure(FailureKind::BadCertificate)),
        TransportErrorKind::Broken | TransportErrorKind::Truncated => {
            Verdict::Retry(failure(FailureKind::Network))
        }
        // The same request would bring the same flood, and be charged again.
        TransportErrorKind::TooLarge => Verdict::Reject(failure(FailureKind::TooLarge)),
        TransportErrorKind::Timeout => Verdict::Retry(failure(FailureKind::Timeout)),
    }
}

fn of_reply(reply: &Reply) -> Verdict {
    match reply.status.as_u16() {
        200..300 => of_success(reply),
        // No model is asked elsewhere: the address is wrong for the whole run.
        ..400 => Verdict::Halt(of_redirect(reply)),
        407 => Verdict::Halt(of_proxy(reply)),
        status => {
            let complaint = Complaint::read(&reply.body);
            Refusal {
                reply,
                status,
                complaint,
            }
            .verdict()
        }
    }
}

fn of_success(reply: &Reply) -> Verdict {
    match completion::read(&reply.body) {
        Reading::Answer(mut answer) => {
            answer.request_id = request_id(&reply.headers);
            Verdict::Done(answer)
        }
        Reading::Error(complaint) => of_inner_error(reply, complaint),
        Reading::BrokenOff(complaint) => of_broken_off(reply, complaint),
        Reading::Filtered(message) => {
            Verdict::Filter(our_words(reply, FailureKind::ContentFilter, message))
        }
        Reading::Malformed(message) if is_foreign(&reply.body) => {
            Verdict::Foreign(our_words(reply, FailureKind::Malformed, message))
        }
        Reading::Malformed(message) => {
            Verdict::Malformed(our_words(reply, FailureKind::Malformed, message))
        }
    }
}

/// Tells whether a body is nothing that this API ever says. An event stream is what the request
/// asked for, so it is the item's own.
fn is_foreign(body: &[u8]) -> bool {
    let start = body.trim_ascii_start();
    !["{", "data:", "event:"]
        .iter()
        .any(|own| start.starts_with(own.as_bytes()))
}

fn of_inner_error(reply: &Reply, complaint: Complaint) -> Verdict {
    let status = implied_status(&complaint);
    Refusal {
        reply,
        status,
        complaint,
    }
    .verdict()
}

/// An answer that broke off came from a provider behind the endpoint. The endpoint took our key
/// and our model, so the error of somebody else's key must not stop the run.
fn of_broken_off(reply: &Reply, complaint: Complaint) -> Verdict {
    match of_inner_error(reply, complaint) {
        Verdict::Mismatch(mut failure) => {
            failure.kind = FailureKind::ServerError;
            Verdict::Retry(failure)
        }
        Verdict::Halt(mut failure) if failure.kind == FailureKind::Auth => {
            failure.kind = FailureKind::ServerError;
            Verdict::Retry(failure)
        }
        verdict => verdict,
    }
}

/// A redirect would carry the prompt and the key elsewhere, so it is shown instead of followed.
fn of_redirect(reply: &Reply) -> Failure {
    let target = reply
        .headers
        .get(LOCATION)
        .and_then(|target| target.to_str().ok());
    let message = match target {
        Some(target) => match host(target) {
            Some(host) => format!("redirects are not followed: this address points to `{host}`"),
            None => "redirects are not followed: this address points to another path".to_owned(),
        },
        None => format!(
            "redirects are not followed: HTTP {} is no answer",
            reply.status.as_u16()
        ),
    };
    our_words(reply, FailureKind::NotFound, message)
}

/// No server answers so, only a proxy on the way to it, and to every request.
fn of_proxy(reply: &Reply) -> Failure {
    let message = "the proxy on the way wants another user name and password";
    our_words(reply, FailureKind::Unreachable, message.to_owned())
}

/// Only the host is ever shown: the rest of an address may hold secrets.
fn host(target: &str) -> Option<String> {
    let absolute = match target.strip_prefix("//") {
        Some(rest) => format!("https://{rest}"),
        None => target.to_owned(),
    };
    Some(absolute.parse::<Uri>().ok()?.host()?.to_owned())
}

fn our_words(reply: &Reply, kind: FailureKind, message: String) -> Failure {
    Failure {
        kind,
        message,
        http_status: Some(reply.status.as_u16()),
        code: None,
    }
}

/// Finds the provider's handle for support.
fn request_id(headers: &HeaderMap) -> Option<String> {
    ["x-request-id", "request-id", "apim-request-id"]
        .iter()
        .find_map(|name| headers.get(*name)?.to_str().ok())
        .filter(|id| !id.is_empty())
        .map(str::to_owned)
}
