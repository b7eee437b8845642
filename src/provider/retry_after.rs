//! How long a server asks to wait, in every place where servers write it.
//!
//! The order is that of the official clients: `retry-after-ms`, `retry-after`, then hints in the
//! body. A wait of nothing, or one that is over, is no wait: the engine's own backoff holds.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};

use super::complaint::Complaint;
use super::wait::{parse_go_duration, parse_number, parse_wait, seconds};
use crate::words::wire::Reply;

/// Finds the wait that a refusal asks for, in its headers, its details or its message.
pub(super) fn wait(reply: &Reply, complaint: &Complaint) -> Option<Duration> {
    from_headers(&reply.headers, reply.received)
        .or_else(|| from_details(complaint))
        .or_else(|| from_message(&complaint.message))
}

/// Finds the wait that the headers ask for.
pub fn from_headers(headers: &HeaderMap, received: SystemTime) -> Option<Duration> {
    from_millis(headers)
        .or_else(|| {
            parse_wait(
                header(headers, RETRY_AFTER.as_str())?,
                server_time(headers, received),
            )
        })
        .filter(|wait| !wait.is_zero())
}

fn from_millis(headers: &HeaderMap) -> Option<Duration> {
    let millis = parse_number(header(headers, "retry-after-ms")?.trim())?;
    seconds(millis / 1000.0).filter(|wait| !wait.is_zero())
}

/// Returns the time that the server's dates are relative to: its own, so that a clock that is
/// off by minutes does not matter.
///
/// A `Date` further off than a day is a broken or cached header, not a clock.
pub fn server_time(headers: &HeaderMap, received: SystemTime) -> SystemTime {
    const DAY: Duration = Duration::from_secs(86_400);
    let Some(date) = header(headers, DATE.as_str())
        .filter(|text| text.is_ascii())
        .and_then(|text| httpdate::parse_http_date(text.trim()).ok())
    else {
        return received;
    };
    let apart = match date.duration_since(received) {
        Ok(ahead) => ahead,
        Err(behind) => behind.duration(),
    };
    if apart < DAY { date } else { received }
}

/// Reads Google's `RetryInfo`: `"retryDelay": "34s"`.
fn from_details(complaint: &Complaint) -> Option<Duration> {
    complaint
        .details()
        .iter()
        .find_map(|detail| parse_go_duration(detail.get("retryDelay")?.as_str()?))
        .filter(|wait| !wait.is_zero())
}

/// Reads "Please try again in 6m0s." and its relatives.
pub fn from_message(message: &str) -> Option<Duration> {
    const PHRASES: [&str; 4] = [
        "try again in ",
        "retry in ",
        "try again after ",
        "retry after ",
    ];
    let message = message.to_ascii_lowercase();
    let rest = PHRASES
        .iter()
        .find_map(|phrase| Some(message.split_once(phrase)?.1))?;
    let mut words = rest
        .split_ascii_whitespace()
        .map(|word| word.trim_end_matches(['.', ',', ';', ')', '!']));
    let span = words.next()?;
    let wait = parse_go_duration(span).or_else(|| spelled_out(span, words.next()?));
    wait.filter(|wait| !wait.is_zero())
}

/// Reads a span whose unit is a word: "20 seconds".
fn spelled_out(number: &str, unit: &str) -> Option<Duration> {
    let factor = match unit.trim_end_matches('s') {
        "millisecond" => 0.001,
        "second" | "sec" => 1.0,
        "minute" | "min" => 60.0,
        "hour" => 3_600.0,
        _ => return None,
    };
    seconds(parse_number(number)? * factor)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-22T10:00:00Z.
    fn received() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_341_600)
    }

    fn wait_ms(headers: &[(&'static str, &str)]) -> Option<u128> {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect();
        from_headers(&headers, received()).map(|wait| wait.as_millis())
    }

    fn message_ms(message: &str) -> Option<u128> {
        from_message(message).map(|wait| wait.as_millis())
    }

    #[test]
    fn milliseconds_come_before_seconds() {
        assert_eq!(
            wait_ms(&[("retry-after", "2"), ("retry-after-ms", "1234.5")]),
            Some(1_234)
        );
        for useless in ["0", "-5", "soon", "nan", ""] {
            assert_eq!(
                wait_ms(&[("retry-after-ms", useless), ("retry-after", "2")]),
                Some(2_000)
            );
        }
    }

    #[test]
    fn retry_after_is_read_in_every_spelling() {
        for (text, millis) in [
            ("20", 20_000),
            ("0.5", 500),
            ("1,200", 1_200_000),
            ("1m30s", 90_000),
            ("Sun, 22 Nov 2026 10:00:05 GMT", 5_000),
            ("Sunday, 22-Nov-26 10:00:05 GMT", 5_000),
            ("Sun Nov 22 10:00:05 2026", 5_000),
            ("2026-11-22T10:00:05Z", 5_000),
        ] {
            assert_eq!(wait_ms(&[("retry-after", text)]), Some(millis), "{text}");
        }
    }

    #[test]
    fn a_wait_that_is_over_or_says_nothing_is_none() {
        for text in [
            "0",
            "-1",
            "NaN",
            "",
            "later",
            "Sun, 22 Nov 2026 09:00:00 GMT",
            "1e-400",
        ] {
            assert_eq!(wait_ms(&[("retry-after", text)]), None, "{text}");
        }
        assert_eq!(wait_ms(&[]), None);
    }

    #[test]
    fn huge_waits_do_not_panic() {
        assert_eq!(wait_ms(&[("retry-after", "1e9")]), Some(1_000_000_000_000));
        assert!(wait_ms(&[("retry-after", "1e999")]).is_some());
        assert!(wait_ms(&[("retry-after-ms", "1e999")]).is_some());
    }

    #[test]
    fn dates_are_relative_to_the_servers_own_clock() {
        let date = ("date", "Sun, 22 Nov 2026 10:10:00 GMT");
        assert_eq!(
            wait_ms(&[date, ("retry-after", "Sun, 22 Nov 2026 10:10:05 GMT")]),
            Some(5_000)
        );
        assert_eq!(
            wait_ms(&[date, ("retry-after", "Sun, 22 Nov 2026 10:05:00 GMT")]),
            None
        );
        assert_eq!(wait_ms(&[date, ("retry-after", "7")]), Some(7_000));
    }

    #[test]
    fn a_date_that_cannot_be_true_is_ignored() {
        for date in [
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "Mon, 23 Nov 2026 11:00:00 GMT",
            "today",
        ] {
            let wait = wait_ms(&[
                ("date", date),
                ("retry-after", "Sun, 22 Nov 2026 10:00:05 GMT"),
            ]);
            assert_eq!(wait, Some(5_000), "{date}");
        }
    }

    #[test]
    fn the_message_says_when_to_try_again() {
        for (message, millis) in [
            ("Rate limit reached. Please try again in 174ms.", 174),
            (
                "Limit 3, Used 3, Requested 1. Please try again in 9.816s. Visit us",
                9_816,
            ),
            ("Please try again in 6m0s", 360_000),
            ("Please try again in 1h2m3s, or", 3_723_000),
            ("Please retry in 34.074824224s.", 34_074),
            ("Please retry after 20 seconds.", 20_000),
            ("try again in 2 minutes", 120_000),
        ] {
            assert_eq!(message_ms(message), Some(millis), "{message}");
        }
        for message in [
            "try again in a while",
            "try again later",
            "try again in ",
            "try again in 0s",
            "retry in 5",
        ] {
            assert_eq!(message_ms(message), None, "{message}");
        }
    }

    proptest! {
        #[test]
        fn no_message_panics(text in ".*", number in "[-0-9.e]{0,9}", unit in "[a-z.µ ]{0,9}") {
            let _ = from_message(&text);
            let _ = from_message(&format!("try again in {number}{unit}{text}"));
        }
    }
}
