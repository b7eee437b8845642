//! Every spelling in which servers state a span of time: seconds, Go durations, dates, epochs.
//!
//! Nothing here fails or panics: a text that says nothing usable is `None`, a span too long to
//! represent is the longest one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What longer spans are cut to. Small enough that adding it to an instant cannot overflow.
pub const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Reads how long after `now` something happens: a number of seconds (`12`, `7.66`, `30,000`), a
/// Go duration (`6m0s`), an RFC 3339 or HTTP date, or seconds or milliseconds since 1970.
///
/// A time that has passed is `None`, like any text that says nothing.
pub fn parse_wait(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if let Some(number) = parse_number(text) {
        return wait_of_number(number, now);
    }
    parse_go_duration(text).or_else(|| until(parse_date(text)?, now))
}

/// Numbers this large are points in time, not spans: nobody is told to wait for 31 years.
fn wait_of_number(number: f64, now: SystemTime) -> Option<Duration> {
    let since_1970 = match number {
        millis if millis > 1e12 => millis / 1000.0,
        seconds if seconds > 1e9 => seconds,
        span => return seconds(span),
    };
    let then = Duration::try_from_secs_f64(since_1970)
        .ok()
        .and_then(|since| UNIX_EPOCH.checked_add(since));
    match then {
        Some(then) => until(then, now),
        None => Some(LONGEST),
    }
}

/// Turns a number of seconds into a span, cut at both ends of what makes sense.
pub(super) fn seconds(number: f64) -> Option<Duration> {
    if number.is_nan() || number < 0.0 {
        return None;
    }
    Some(
        Duration::try_from_secs_f64(number)
            .unwrap_or(LONGEST)
            .min(LONGEST),
    )
}

/// Reads a plain number, with or without thousands separators.
pub(super) fn parse_number(text: &str) -> Option<f64> {
    // Rust also reads "inf" and "nan", which no server means.
    if !text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '.' | '-' | '+')) {
        return None;
    }
    let number: f64 = if text.contains(',') {
        without_separators(text)?.parse().ok()?
    } else {
        text.parse().ok()?
    };
    let signed_word = text.ends_with(|last: char| last.is_ascii_alphabetic());
    (!signed_word).then_some(number)
}

/// Removes commas that stand where thousands separators stand; `5, 5` is not a number.
fn without_separators(text: &str) -> Option<String> {
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    let mut groups = whole.split(',');
    let first = groups.next()?;
    let well_placed = (1..=3).contains(&first.len())
        && groups.all(|group| group.len() == 3 && group.bytes().all(|b| b.is_ascii_digit()));
    well_placed.then(|| text.replace(',', ""))
}

/// Reads a duration as Go prints it, such as `1h2m3.5s`, `174ms` or `6m0s`; days are read too.
pub fn parse_go_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    rest = rest.strip_prefix('+').unwrap_or(rest);
    if rest.is_empty() {
        return None;
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let (unit, tail) = split_unit(tail)?;
        nanos = nanos.saturating_add(decimal_times(number, unit)?);
        rest = tail;
    }
    let whole = u64::try_from(nanos / NANOS_PER_SECOND).unwrap_or(u64::MAX);
    let part = (nanos % NANOS_PER_SECOND) as u32;
    Some(Duration::new(whole, part).min(LONGEST))
}

/// Splits the unit off the front of `text` and returns it in nanoseconds.
fn split_unit(text: &str) -> Option<(u128, &str)> {
    // Longer names first, or `ms` would be read as minutes. The micro sign exists twice.
    const UNITS: [(&str, u128); 9] = [
        ("ns", 1),
        ("us", 1_000),
        ("\u{b5}s", 1_000),
        ("\u{3bc}s", 1_000),
        ("ms", 1_000_000),
        ("s", NANOS_PER_SECOND),
        ("m", 60 * NANOS_PER_SECOND),
        ("h", 3_600 * NANOS_PER_SECOND),
        ("d", 86_400 * NANOS_PER_SECOND),
    ];
    UNITS
        .iter()
        .find_map(|(name, nanos)| Some((*nanos, text.strip_prefix(name)?)))
}

/// Multiplies a decimal number by a unit, exactly.
fn decimal_times(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    // More digits than these are beyond a nanosecond, and would overflow.
    let fraction = &fraction[..fraction.len().min(18)];
    let whole = match whole {
        "" => 0,
        digits => digits.parse::<u128>().unwrap_or(u128::MAX),
    };
    let part = match fraction {
        "" => 0,
        digits => digits.parse::<u128>().ok()? * unit / 10u128.pow(digits.len() as u32),
    };
    Some(whole.saturating_mul(unit).saturating_add(part))
}

/// Reads an HTTP date in any of its three forms, or an RFC 3339 timestamp.
fn parse_date(text: &str) -> Option<SystemTime> {
    // Both parsers are for ASCII; the shortest date has ten characters.
    if !text.is_ascii() || text.len() < 10 {
        return None;
    }
    if let Ok(date) = httpdate::parse_http_date(text) {
        return Some(date);
    }
    let timestamp: jiff::Timestamp = text.parse().ok()?;
    let nanos = u128::try_from(timestamp.as_nanosecond()).ok()?;
    let whole = u64::try_from(nanos / NANOS_PER_SECOND).ok()?;
    UNIX_EPOCH.checked_add(Duration::new(whole, (nanos % NANOS_PER_SECOND) as u32))
}

fn until(then: SystemTime, now: SystemTime) -> Option<Duration> {
    then.duration_since(now).ok().map(|wait| wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-22T10:00:00Z.
    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_341_600)
    }

    fn wait_ms(text: &str) -> Option<u128> {
        parse_wait(text, now()).map(|wait| wait.as_millis())
    }

    #[test]
    fn numbers_are_seconds() {
        assert_eq!(wait_ms("20"), Some(20_000));
        assert_eq!(wait_ms(" 7.66 "), Some(7_660));
        assert_eq!(wait_ms("0"), Some(0));
        assert_eq!(wait_ms("1e2"), Some(100_000));
        assert_eq!(wait_ms("30,000"), Some(30_000_000));
        assert_eq!(wait_ms("1,234,567.5"), Some(1_234_567_500));
    }

    #[test]
    fn go_durations_are_read_in_every_unit() {
        for (text, millis) in [
            ("12ms", 12),
            ("1s", 1_000),
            ("7.66s", 7_660),
            ("6m0s", 360_000),
            ("1m30s", 90_000),
            ("1h2m3s", 3_723_000),
            ("2m59.56s", 179_560),
            ("1d", 86_400_000),
            ("1500us", 1),
            ("2500µs", 2),
            ("2500μs", 2),
            ("5000000ns", 5),
            ("0s", 0),
        ] {
            assert_eq!(wait_ms(text), Some(millis), "{text}");
        }
    }

    #[test]
    fn dates_are_read_in_all_their_forms() {
        for text in [
            "Sun, 22 Nov 2026 10:00:30 GMT",
            "Sunday, 22-Nov-26 10:00:30 GMT",
            "Sun Nov 22 10:00:30 2026",
            "2026-11-22T10:00:30Z",
            "2026-11-22T11:00:30.000+01:00",
        ] {
            assert_eq!(wait_ms(text), Some(30_000), "{text}");
        }
    }

    #[test]
    fn epochs_are_read_in_seconds_and_milliseconds() {
        assert_eq!(wait_ms("1795341630"), Some(30_000));
        assert_eq!(wait_ms("1795341630500"), Some(30_500));
    }

    #[test]
    fn what_has_passed_or_says_nothing_is_no_wait() {
        for text in [
            "",
            " ",
            "-1",
            "-5s",
            "nan",
            "NaN",
            "-nan",
            "inf",
            "+inf",
            "infinity",
            "soon",
            "5, 5",
            "1,2",
            "5 s",
            "5x",
            "1h2",
            "s",
            ".",
            ".s",
            "1.2.3s",
            "1795341599",
            "1795341599000",
            "Sat, 21 Nov 2026 10:00:00 GMT",
            "2026-11-22T09:59:59Z",
            "2026-13-40T10:00:00Z",
            "µ",
        ] {
            assert_eq!(wait_ms(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_no_span() {
        assert_eq!(seconds(f64::NAN), None);
        assert_eq!(seconds(-0.1), None);
        assert_eq!(seconds(f64::INFINITY), Some(LONGEST));
    }

    #[test]
    fn huge_values_are_cut_to_the_longest_wait() {
        assert_eq!(
            parse_wait("1e9", now()),
            Some(Duration::from_secs(1_000_000_000))
        );
        for text in [
            "9999999999999999999999s",
            "1e300",
            "1e999",
            "9e11",
            "99999999999999999999999h",
        ] {
            assert_eq!(parse_wait(text, now()), Some(LONGEST), "{text}");
        }
        assert_eq!(
            parse_go_duration("9999999999999999999999999999999999999999999d"),
            Some(LONGEST)
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse_wait(&text, now());
            let _ = parse_go_duration(&text);
        }

        #[test]
        fn no_text_of_likely_characters_panics(text in "[-+0-9.,eEsmhdnuµμ:TZGa ]{0,40}") {
            let _ = parse_wait(&text, now());
            let _ = parse_go_duration(&text);
        }

        #[test]
        fn a_go_duration_comes_back_as_it_was(nanos in 0u64..4_000_000_000_000_000_000) {
            let (seconds, part) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
            let text = format!("{}h{}m{}.{part:09}s", seconds / 3600, seconds / 60 % 60, seconds % 60);
            prop_assert_eq!(parse_go_duration(&text), Some(Duration::from_nanos(nanos)));
        }
    }
}
