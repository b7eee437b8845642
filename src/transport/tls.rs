//! Why no closed way to a server came about, in words for people.   [the only rustls]
//!
//! The library names its reasons for programmers. Here each has a sentence that says what is wrong
//! with the certificate and, where it is not plain, what a right one would be.

use std::error::Error;
use std::io;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustls::CertificateError as Flaw;
use rustls::pki_types::UnixTime;

use crate::words::human::one_line;

/// A certificate may name hundreds of hosts.
const SHOWN_NAMES: usize = 3;
const SHOWN_LENGTH: usize = 100;

/// What TLS says against a server.
pub enum Objection {
    /// Its certificate does not hold.
    Certificate(String),
    /// It does not come to that.
    Handshake(&'static str),
}

/// Finds what TLS says in an error or its causes.
pub fn objection(error: &(dyn Error + 'static)) -> Option<Objection> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(of(error));
        }
        cause = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn of(error: &rustls::Error) -> Objection {
    use rustls::Error::*;
    Objection::Handshake(match error {
        InvalidCertificate(flaw) => return Objection::Certificate(words(flaw)),
        InvalidMessage(_) => "it does not speak TLS; is it http:// that is meant?",
        PeerIncompatible(_) => "it speaks no TLS that is safe enough (1.2 or newer)",
        AlertReceived(_) => "it refuses the TLS handshake",
        NoCertificatesPresented => "it shows no certificate",
        _ => "the TLS handshake fails",
    })
}

fn words(flaw: &Flaw) -> String {
    let reason = match flaw {
        Flaw::ExpiredContext { time, not_after } => {
            return out_of_time("it expired on", *not_after, *time);
        }
        Flaw::NotValidYetContext { time, not_before } => {
            return out_of_time("it is not valid before", *not_before, *time);
        }
        Flaw::NotValidForNameContext {
            expected,
            presented,
        } => return other_names(&expected.to_str(), presented),
        Flaw::UnknownIssuer => "nobody known has signed it",
        Flaw::BadSignature => {
            "its signature fits no authority known here: it is self-signed, or another one of that name signed it"
        }
        Flaw::Expired => "it has expired",
        Flaw::NotValidYet => "it is not valid yet",
        Flaw::NotValidForName => "it is for another server",
        Flaw::Revoked => "it was revoked",
        Flaw::BadEncoding => "it cannot be read",
        Flaw::UnhandledCriticalExtension => "it demands a check that is not known here",
        Flaw::UnsupportedSignatureAlgorithmContext { .. }
        | Flaw::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed in a way that is not safe or not known (SHA-1, for instance)"
        }
        Flaw::Other(other) => other_reason(&other.0.to_string()),
        _ => NO_REASON,
    };
    reason.to_owned()
}

const NO_REASON: &str = "it does not pass the check";

/// Words what the library says only by name.
fn other_reason(name: &str) -> &'static str {
    match name {
        "CaUsedAsEndEntity" => {
            "it is an authority's, which cannot stand for a server, also when --ca-file names it: make \
             one for the server (openssl req -x509 -addext basicConstraints=critical,CA:FALSE …) and \
             give that, or the authority that signed it, to --ca-file"
        }
        "certificate had invalid extensions" => {
            "it is not made for a server (extendedKeyUsage without serverAuth)"
        }
        "UnsupportedCertVersion" => "it is of an old version; version 3 is needed",
        "NameConstraintViolation" => "its authority may not vouch for this name",
        _ => NO_REASON,
    }
}

fn out_of_time(what: &str, end: UnixTime, now: UnixTime) -> String {
    match (day(end), day(now)) {
        (Some(end), Some(now)) => format!("{what} {end}, and the clock here says {now}"),
        _ => "the clock here says that it is not valid now".to_owned(),
    }
}

fn day(time: UnixTime) -> Option<jiff::civil::Date> {
    let seconds = i64::try_from(time.as_secs()).ok()?;
    let time = Timestamp::from_second(seconds).ok()?;
    Some(time.to_zoned(TimeZone::UTC).date())
}

fn other_names(expected: &str, presented: &[String]) -> String {
    let names: Vec<_> = presented.iter().filter_map(|name| host(name)).collect();
    let shown = names.iter().take(SHOWN_NAMES).map(String::as_str);
    let mut shown = shown.collect::<Vec<_>>().join(" and ");
    if shown.is_empty() {
        return format!("it names no server (subjectAltName); {expected} is asked");
    }
    if names.len() > SHOWN_NAMES {
        shown.push_str(" and others");
    }
    format!("it is for {shown}, not for {expected}")
}

/// Reads `DnsName("localhost")` and `IpAddress(127.0.0.1)`.
fn host(presented: &str) -> Option<String> {
    let (kind, name) = presented.strip_suffix(')')?.split_once('(')?;
    let is_host = ["DnsName", "IpAddress"].contains(&kind);
    let name = one_line(name.trim_matches('"'));
    is_host.then(|| name.chars().take(SHOWN_LENGTH).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    // Negative control: leaving `one_line` out, or the limits.
    #[test]
    fn what_a_certificate_names_is_shown_in_short_and_steers_nothing() {
        let names = [
            "DnsName(\"a\n\u{1b}\")",
            "Unsupported(0x86)",
            "IpAddress(::1)",
        ];
        let names = names.map(str::to_owned);
        assert_eq!(
            other_names("h", &names),
            "it is for a \\u{1b} and ::1, not for h"
        );
        let many = vec![format!("DnsName(\"{}\")", "x".repeat(999)); 99];
        let words = other_names("h", &many);
        assert!(words.ends_with("x and others, not for h"));
        assert!(words.len() < 400);
        assert!(other_names("h", &names[1..2]).starts_with("it names no server"));
    }

    #[test]
    fn no_reason_is_in_the_librarys_words() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let early = Flaw::NotValidYetContext {
            time: at(0),
            not_before: at(86_400),
        };
        let said = "it is not valid before 1970-01-02, and the clock here says 1970-01-01";
        assert_eq!(words(&early), said);
        let never = Flaw::ExpiredContext {
            time: at(0),
            not_after: at(u64::MAX),
        };
        assert!(words(&never).contains("not valid now"));
        assert_eq!(words(&Flaw::ApplicationVerificationFailure), NO_REASON);
        assert_eq!(other_reason("MaximumPathDepthExceeded"), NO_REASON);
    }
}
