//! Replies: responses of every content type, and ones that break off before their announced length.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const LINES: HeaderValue = HeaderValue::from_static("application/jsonl");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=UTF-8");

/// What a proxy shows in place of the endpoint.
const PAGE: &str = "<!DOCTYPE html>\n<html>\n<head><title>502 Bad Gateway</title></head>\n<body>\n\
    <center><h1>502 Bad Gateway</h1></center>\n<hr><center>cloudflare</center>\n</body>\n</html>\n";

/// The page of a proxy that did not reach the endpoint.
pub(super) fn page(status: StatusCode) -> Response<Payload> {
    respond(status, HTML, Payload::whole(PAGE))
}

/// A JSON response.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Payload> {
    respond(status, JSON, Payload::whole(body))
}

/// A response of one JSON object a line.
pub(super) fn lines(body: impl Into<Bytes>) -> Response<Payload> {
    respond(StatusCode::OK, LINES, Payload::whole(body))
}

/// A response whose JSON does not arrive before the connection ends.
pub(super) fn cut_json(body: impl Into<Bytes>) -> Response<Payload> {
    respond(StatusCode::OK, JSON, Payload::cut(body))
}

fn respond(status: StatusCode, kind: HeaderValue, payload: Payload) -> Response<Payload> {
    let mut response = Response::new(payload);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The bytes of a response, which may be fewer than its `content-length`.
pub(super) struct Payload {
    bytes: Bytes,
    announced: u64,
    flushed: bool,
}

impl Payload {
    /// A body that arrives as it should.
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Payload {
        let bytes = bytes.into();
        Payload {
            announced: bytes.len() as u64,
            bytes,
            flushed: false,
        }
    }

    /// A body that announces its full length, sends half of it and ends the connection.
    pub(super) fn cut(bytes: impl Into<Bytes>) -> Payload {
        let mut payload = Payload::whole(bytes);
        payload.bytes.truncate(payload.bytes.len() / 2);
        payload
    }

    fn complete(&self) -> bool {
        self.announced == 0
    }
}

/// Why a connection ends without a complete response.
#[derive(Debug)]
pub(super) struct HangUp;

impl fmt::Display for HangUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the simulator hung up")
    }
}

impl std::error::Error for HangUp {}

impl Body for Payload {
    type Data = Bytes;
    type Error = HangUp;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HangUp>>> {
        if !self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            self.announced -= bytes.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if self.complete() {
            return Poll::Ready(None);
        }
        // The server writes out what it has only when the body makes it wait; an error at once
        // would take the first half down with it.
        if !self.flushed {
            self.flushed = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(HangUp)))
    }

    fn is_end_stream(&self) -> bool {
        self.complete()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}
