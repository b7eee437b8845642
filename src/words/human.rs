//! Numbers and foreign text as people read them.

use std::fmt::Write;
use std::time::Duration;

use super::money::Usd;

/// Writes a size: "512 bytes", "1.5 MiB".
pub fn bytes(number: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = number as f64 / 1024.0;
    if value < 1.0 {
        return count(number, "byte");
    }
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    match value < 10.0 {
        true => format!("{value:.1} {}", units[unit]),
        false => format!("{value:.0} {}", units[unit]),
    }
}

/// Writes a count with thousands separators: `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Writes a duration in its two largest units: `850 ms`, `8.1 s`, `24m 51s`, `3h 05m`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.1} s", (time.as_millis() / 100) as f64 / 10.0),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// Writes a time as limits are typed, to the millisecond: `60 s`, `0.3 s`, `1.539 s`.
pub fn seconds(time: Duration) -> String {
    let millis = (time.as_nanos() + 500_000) / 1_000_000;
    let (whole, part) = (millis / 1000, millis % 1000);
    let decimals = format!("{part:03}");
    match decimals.trim_end_matches('0') {
        "" => format!("{whole} s"),
        decimals => format!("{whole}.{decimals} s"),
    }
}

/// Writes a number as somebody typed it, which may be of any size: `0.5`, `1e300`.
pub fn typed(number: f64) -> String {
    match number.abs() {
        0.0 | 1e-6..1e15 => number.to_string(),
        _ => format!("{number:e}"),
    }
}

/// Writes an amount of money: cents where it is large, else with at least three digits that
/// count: `$1,204.30`, `$1.1168`, `$0.0000358`.
pub fn usd(amount: Usd) -> String {
    let picodollars = amount.picodollars();
    let decimals = match picodollars {
        0 => 2,
        100_000_000_000_000.. => 2,
        10_000_000_000.. => 4,
        small => 14 - small.ilog10() as usize,
    }
    .min(12);
    let unit = 10u128.pow(12 - decimals as u32);
    let rounded = picodollars.saturating_add(unit / 2) / unit;
    let (whole, part) = (
        rounded / 10u128.pow(decimals as u32),
        rounded % 10u128.pow(decimals as u32),
    );
    let whole = thousands(u64::try_from(whole).unwrap_or(u64::MAX));
    format!("${whole}.{part:0decimals$}")
}

/// Writes a count with its noun: `1 item`, `2 items`.
pub fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", thousands(number))
}

/// Makes text from servers, models and files safe for a terminal: control characters, escapes
/// and marks that turn the writing direction are shown instead of obeyed.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let turns_direction = matches!(
            c,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        );
        match c {
            '\n' | '\t' => shown.push(c),
            c if c.is_control() || turns_direction => {
                write!(shown, "\\u{{{:x}}}", c as u32).expect("a string takes all text");
            }
            c => shown.push(c),
        }
    }
    shown
}

/// Makes such text fit to stand inside a line of ours: it must not pretend to be one of its own.
pub fn one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

/// Leaves out the number that the standard library sets behind the system's words for an error:
/// `No such file or directory (os error 2)`.
pub fn without_error_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        match rest.strip_prefix(')') {
            Some(rest) if rest.len() + 1 < part.len() => plain.push_str(rest),
            _ => {
                plain.push_str(" (os error ");
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1000), "1,000");
        assert_eq!(thousands(1234567), "1,234,567");
        assert_eq!(count(1, "item"), "1 item");
        assert_eq!(count(2000, "item"), "2,000 items");
    }

    #[test]
    fn money_has_as_many_decimals_as_it_needs() {
        for (amount, shown) in [
            ("0", "$0.00"),
            ("1204.3", "$1,204.30"),
            ("1.11678", "$1.1168"),
            ("0.05", "$0.0500"),
            ("0.00003585", "$0.0000359"),
            ("0.000000000001", "$0.000000000001"),
            ("999.999", "$1,000.00"),
        ] {
            assert_eq!(usd(Usd::parse(amount).unwrap()), shown, "{amount}");
        }
    }

    #[test]
    fn durations_have_two_units() {
        assert_eq!(duration(Duration::from_millis(850)), "850 ms");
        assert_eq!(duration(Duration::from_millis(8190)), "8.1 s");
        assert_eq!(duration(Duration::from_secs(24 * 60 + 51)), "24m 51s");
        assert_eq!(duration(Duration::from_secs(3 * 3600 + 5 * 60)), "3h 05m");
    }

    // Negative control: `as_secs_f64` instead of whole milliseconds.
    #[test]
    fn limits_are_shown_to_the_millisecond() {
        for (time, shown) in [
            (0.3, "0.3 s"),
            (60.0, "60 s"),
            (1.538920198, "1.539 s"),
            (1.8012285829999999, "1.801 s"),
            (1e-9, "0 s"),
            (86_400.0, "86400 s"),
        ] {
            assert_eq!(seconds(Duration::from_secs_f64(time)), shown);
        }
        assert!(seconds(Duration::MAX).ends_with(" s"));
    }

    #[test]
    fn typed_numbers_of_any_size_are_short() {
        for (number, shown) in [
            (0.0, "0"),
            (-1.0, "-1"),
            (86_401.5, "86401.5"),
            (1e300, "1e300"),
            (-1e300, "-1e300"),
            (1e-300, "1e-300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(typed(number), shown);
        }
    }

    #[test]
    fn the_systems_errors_are_told_in_words() {
        for (text, plain) in [
            ("a: No such file (os error 2)", "a: No such file"),
            ("x (os error 28), y (os error 5)!", "x, y!"),
            ("fine", "fine"),
            (
                "odd (os error ) (os error x) (os error 3",
                "odd (os error ) (os error x) (os error 3",
            ),
        ] {
            assert_eq!(without_error_numbers(text), plain);
        }
    }

    #[test]
    fn escapes_and_direction_marks_are_shown_not_obeyed() {
        assert_eq!(
            printable("a\x1b[31mb\u{202e}c\u{9b}"),
            "a\\u{1b}[31mb\\u{202e}c\\u{9b}"
        );
        assert_eq!(printable("ä\t\n🚀"), "ä\t\n🚀");
    }

    // Negative control: leaving `replace` out.
    #[test]
    fn foreign_text_starts_no_line() {
        assert_eq!(one_line("a\nerror:\tb\r\u{1b}"), "a error: b\\u{d}\\u{1b}");
    }
}
