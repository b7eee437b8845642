//! One HTTP exchange, without meaning: what goes out, what comes back, what can go wrong.

use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

/// One POST of a JSON body.
#[derive(Debug, Clone)]
pub struct Request {
    pub url: url::Url,
    /// Secret values are marked sensitive, so that `Debug` prints them as `Sensitive`.
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A complete HTTP response, decompressed.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Wall-clock time of arrival, only to read dates in headers against.
    pub received: SystemTime,
}

/// Why no complete response came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportError {
    pub kind: TransportErrorKind,
    /// A lowercase fragment for people; never holds a URL, a header or a body.
    pub message: String,
}

/// The phases of an exchange that can fail, as far as they matter to money and retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportErrorKind {
    /// No connection: refused, unreachable, name not found, handshake broken. Nothing was sent.
    Unreachable,
    /// The server's certificate is not to be trusted. Nothing was sent.
    BadCertificate,
    /// The connection broke after the request went out: it may have been charged.
    Broken,
    /// The body ended before its announced length, or its encoding is damaged.
    Truncated,
    /// The body is larger than the cap, after decompression.
    TooLarge,
    /// No complete response within the attempt's time.
    Timeout,
}

impl TransportErrorKind {
    /// Tells whether the provider may have charged for the request although no answer arrived.
    pub fn may_be_charged(self) -> bool {
        !matches!(self, Self::Unreachable | Self::BadCertificate)
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TransportError {}

/// What an attempt brought back.
pub type Exchange = Result<Reply, TransportError>;
