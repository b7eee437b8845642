//! Durations as text: read from a spec (`50ms`), written as the provider does (`6m0s`).

use std::time::Duration;

/// Reads `50ms`, `2s`, `1.5s`, `1m`, or a plain number of milliseconds.
pub(super) fn read(text: &str) -> Option<Duration> {
    let (digits, milliseconds) = if let Some(digits) = text.strip_suffix("ms") {
        (digits, 1.0)
    } else if let Some(digits) = text.strip_suffix('s') {
        (digits, 1000.0)
    } else if let Some(digits) = text.strip_suffix('m') {
        (digits, 60_000.0)
    } else {
        (text, 1.0)
    };
    let number: f64 = digits.trim().parse().ok()?;
    // Refuses negative, infinite and absurdly large numbers alike.
    Duration::try_from_secs_f64(number * milliseconds / 1000.0).ok()
}

/// Writes a duration as Go does, such as `6m0s`, `7.66s` or `12ms`, rounded up to milliseconds.
pub(super) fn go(span: Duration) -> String {
    let milliseconds = milliseconds_up(span);
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    if milliseconds < 1000 {
        return format!("{milliseconds}ms");
    }
    let (minutes, rest) = (milliseconds / 60_000, milliseconds % 60_000);
    let seconds = seconds_of(rest);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Returns the whole milliseconds of a span, rounded up: a wait must not end too early.
pub(super) fn milliseconds_up(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn seconds_of(milliseconds: u64) -> String {
    let fraction = format!("{:03}", milliseconds % 1000);
    match fraction.trim_end_matches('0') {
        "" => (milliseconds / 1000).to_string(),
        fraction => format!("{}.{fraction}", milliseconds / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_read_like_the_providers() {
        let cases = [
            (0, "0s"),
            (12, "12ms"),
            (1000, "1s"),
            (7660, "7.66s"),
            (9816, "9.816s"),
            (60_000, "1m0s"),
            (90_000, "1m30s"),
            (179_560, "2m59.56s"),
            (360_000, "6m0s"),
            (3_723_000, "1h2m3s"),
        ];
        for (milliseconds, text) in cases {
            assert_eq!(go(Duration::from_millis(milliseconds)), text);
        }
    }

    #[test]
    fn go_duration_rounds_up() {
        assert_eq!(go(Duration::from_nanos(1)), "1ms");
        assert_eq!(go(Duration::from_micros(999_001)), "1s");
    }

    #[test]
    fn spans_are_read_in_every_unit() {
        for (text, milliseconds) in [
            ("50ms", 50),
            ("2s", 2000),
            ("1.5s", 1500),
            ("1m", 60_000),
            ("250", 250),
            ("0", 0),
        ] {
            assert_eq!(read(text), Some(Duration::from_millis(milliseconds)));
        }
    }

    #[test]
    fn nonsense_is_not_a_span() {
        for text in ["", "ms", "fast", "-1s", "inf", "NaN", "1e300s", "5 hours"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
