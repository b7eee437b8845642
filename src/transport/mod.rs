//! The one door to the network: a request becomes a response or an error.   [the only reqwest]
//!
//! Promises: no redirect is followed, since that would carry the prompt and the key elsewhere;
//! the library retries nothing, so that every request is counted; a body has a size limit; no
//! error text holds a URL; no secret comes back in a body or a header. It knows no items and no
//! meaning.

mod proxy;
mod reuse;
mod secret;
mod tls;

use std::error::Error;
use std::future::Future;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use hyper_util::client::proxy::matcher::Matcher;

use crate::words::human::without_error_numbers;
use crate::words::wire::{Exchange, Reply, Request, TransportError, TransportErrorKind};

pub use proxy::unusable_proxy;
use reuse::Reuse;
pub use secret::Secret;
use tls::Objection;

/// The largest response body, after decompression.
const MAX_BODY: usize = 32 << 20;
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Shorter than the idle time of common load balancers, which close without a word.
const IDLE_TIME: Duration = Duration::from_secs(50);

/// One send, one answer or one error: no meaning, no retries.
pub trait Transport: Send + Sync + 'static {
    fn send(&self, request: Request) -> impl Future<Output = Exchange> + Send;
}

/// What a pool needs to know of its endpoint.
#[derive(Debug, Default)]
pub struct HttpSettings {
    /// What is to be struck from whatever a server echoes.
    pub secrets: Vec<Secret>,
    /// Who may vouch for servers, besides whom the system trusts.
    pub authorities: Authorities,
    /// Leave the environment's proxies out, as for servers on this machine.
    pub direct: bool,
    /// The endpoint speaks HTTP without TLS.
    pub plain: bool,
    /// A whole attempt's time. A connection must come about sooner, so that a silent address is
    /// told apart from an answer that may have been charged.
    pub attempt_time: Duration,
}

/// Certificates of authorities.
#[derive(Debug, Clone, Default)]
pub struct Authorities(Vec<reqwest::Certificate>);

impl Authorities {
    /// Reads every certificate of a PEM file; `None` where there is none or one is damaged.
    pub fn from_pem(pem: &[u8]) -> Option<Self> {
        let certificates = reqwest::Certificate::from_pem_bundle(pem).ok()?;
        // Only a pool looks inside them.
        let pool = reqwest::Client::builder().tls_certs_only(certificates.iter().cloned());
        (!certificates.is_empty() && pool.build().is_ok()).then_some(Authorities(certificates))
    }
}

/// A pool of HTTP/1.1 connections. HTTP/2 would put all requests on one connection and so cap
/// them at the server's stream limit.
pub struct Http {
    settings: HttpSettings,
    pooled: reqwest::Client,
    /// Uses no connection twice; made when it is needed.
    lone: OnceLock<reqwest::Client>,
    /// The environment's proxies, to tell of them where one fails.
    proxies: Option<Matcher>,
    reuse: Reuse,
}

impl Http {
    /// Makes the pool.
    pub fn new(settings: HttpSettings) -> Result<Self, TransportError> {
        Ok(Http {
            pooled: client(&settings, usize::MAX)?,
            lone: OnceLock::new(),
            proxies: (!settings.direct).then(Matcher::from_system),
            reuse: Reuse::default(),
            settings,
        })
    }

    async fn exchange(&self, request: Request) -> Exchange {
        let Request { url, headers, body } = request;
        let mut outgoing = reqwest::Request::new(reqwest::Method::POST, url);
        *outgoing.headers_mut() = headers;
        *outgoing.body_mut() = Some(body.into());
        let mut response = self.execute(outgoing).await?;
        let status = response.status();
        let mut headers = std::mem::take(response.headers_mut());
        self.strike_from(&mut headers);
        let body = read_body(&mut response).await?;
        let body = self.redact(status, without_mark(body));
        Ok(Reply {
            status,
            headers,
            body,
            received: SystemTime::now(),
        })
    }

    async fn execute(
        &self,
        request: reqwest::Request,
    ) -> Result<reqwest::Response, TransportError> {
        let proxied = self.is_proxied(request.url());
        let client = match self.reuse.is_wise() {
            true => &self.pooled,
            false => self.lone(),
        };
        client.execute(request).await.map_err(|error| {
            let error = explain(error, proxied);
            if error.kind == TransportErrorKind::Broken {
                self.reuse.lost();
            }
            error
        })
    }

    fn lone(&self) -> &reqwest::Client {
        self.lone.get_or_init(|| {
            let client = client(&self.settings, 0);
            client.unwrap_or_else(|_| self.pooled.clone())
        })
    }

    /// Tells whether a proxy of the environment stands in between.
    fn is_proxied(&self, url: &url::Url) -> bool {
        let Some(proxies) = &self.proxies else {
            return false;
        };
        let uri = url.as_str().parse();
        uri.is_ok_and(|uri| proxies.intercept(&uri).is_some())
    }

    /// Empties every header that repeats a secret.
    fn strike_from(&self, headers: &mut http::HeaderMap) {
        let repeats = |value: &http::HeaderValue| {
            let mut secrets = self.settings.secrets.iter();
            secrets.any(|secret| secret.stands_in(value.as_bytes()))
        };
        for value in headers.values_mut().filter(|value| repeats(value)) {
            *value = http::HeaderValue::from_static(secret::REDACTED);
        }
    }

    /// Strikes the secrets from a body. In an answer, a short one would be found in innocent words;
    /// there it is no secret worth a paid answer.
    fn redact(&self, status: http::StatusCode, body: Bytes) -> Bytes {
        let secrets = self.settings.secrets.iter();
        secrets
            .filter(|secret| !status.is_success() || secret.is_unmistakable())
            .fold(body, |body, secret| secret.strike(body))
    }
}

impl Transport for Http {
    async fn send(&self, request: Request) -> Exchange {
        self.exchange(request).await
    }
}

/// Makes a client that keeps so many idle connections.
fn client(settings: &HttpSettings, idle: usize) -> Result<reqwest::Client, TransportError> {
    let mut builder = reqwest::Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(CONNECT_TIME.min(settings.attempt_time.mul_f64(0.8)))
        .pool_idle_timeout(IDLE_TIME)
        .pool_max_idle_per_host(idle)
        .user_agent(concat!("llmbatch/", env!("CARGO_PKG_VERSION")));
    if settings.direct {
        builder = builder.no_proxy();
    }
    if settings.plain {
        // A minimal container has no certificates, and needs none here.
        builder = builder.tls_certs_only([]);
    } else {
        builder = builder.tls_certs_merge(settings.authorities.0.iter().cloned());
    }
    builder.build().map_err(|error| explain(error, false))
}

/// Reads a whole body; one that arrives in a single piece is not copied.
async fn read_body(response: &mut reqwest::Response) -> Result<Bytes, TransportError> {
    let Some(first) = next_chunk(response, 0).await? else {
        return Ok(Bytes::new());
    };
    let Some(second) = next_chunk(response, first.len()).await? else {
        return Ok(first);
    };
    let mut whole = BytesMut::with_capacity(2 * (first.len() + second.len()));
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&second);
    while let Some(chunk) = next_chunk(response, whole.len()).await? {
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// Leaves out a byte order mark, with which no JSON is JSON.
fn without_mark(body: Bytes) -> Bytes {
    match body.starts_with(b"\xef\xbb\xbf") {
        true => body.slice(3..),
        false => body,
    }
}

/// Reads the next piece of a body of which so much was read.
async fn next_chunk(
    response: &mut reqwest::Response,
    read: usize,
) -> Result<Option<Bytes>, TransportError> {
    let chunk = response.chunk().await.map_err(|error| TransportError {
        kind: TransportErrorKind::Truncated,
        message: format!("the answer broke off: {}", root_cause(&error.without_url())),
    })?;
    match &chunk {
        Some(chunk) if read + chunk.len() > MAX_BODY => Err(TransportError {
            kind: TransportErrorKind::TooLarge,
            message: format!("the answer is larger than {} MiB", MAX_BODY >> 20),
        }),
        _ => Ok(chunk),
    }
}

/// Sorts a library error by what it means for the money, in words without the URL.
fn explain(error: reqwest::Error, proxied: bool) -> TransportError {
    let error = error.without_url();
    let cause = root_cause(&error);
    let (kind, message) = if error.is_connect() {
        no_connection(tls::objection(&error), &cause, proxied)
    } else if error.is_timeout() {
        (TransportErrorKind::Timeout, "no answer in time".to_owned())
    } else if error.is_builder() {
        (TransportErrorKind::Unreachable, cause)
    } else {
        (
            TransportErrorKind::Broken,
            format!("the connection broke: {cause}"),
        )
    };
    TransportError { kind, message }
}

fn no_connection(
    objection: Option<Objection>,
    cause: &str,
    proxied: bool,
) -> (TransportErrorKind, String) {
    let cause = match objection {
        Some(Objection::Certificate(reason)) => {
            return (TransportErrorKind::BadCertificate, reason);
        }
        Some(Objection::Handshake(reason)) => reason,
        None if cause == "tls handshake eof" => "it breaks the TLS handshake off",
        None => cause,
    };
    let way = if proxied {
        " through the environment's proxy"
    } else {
        ""
    };
    let message = format!("no connection{way}: {cause}");
    (TransportErrorKind::Unreachable, message)
}

/// Returns the innermost message, which is the one that says something.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    without_error_numbers(&cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Negative control: looking for short keys in answers, or for none in errors.
    #[test]
    fn a_short_key_is_struck_from_errors_only() {
        let http = Http::new(HttpSettings {
            secrets: Secret::new("sk-short").into_iter().collect(),
            authorities: Authorities::default(),
            plain: true,
            direct: true,
            attempt_time: Duration::from_secs(60),
        })
        .unwrap();
        let body = Bytes::from_static(b"Incorrect key sk-short!");
        let struck = http.redact(http::StatusCode::UNAUTHORIZED, body.clone());
        assert_eq!(struck, "Incorrect key [redacted]!");
        assert_eq!(http.redact(http::StatusCode::OK, body.clone()), body);
    }
}
