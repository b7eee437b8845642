//! Words for what a run is waiting for, cut to the terminal's width.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::words::event::{AwaitedRequest, Gauges, Outage, WaitReason};
use crate::words::human::{count, duration, one_line, thousands};

/// Says why no request goes out, if that is so.
pub fn waiting(gauges: &Gauges) -> Option<String> {
    let now = Instant::now();
    if let Some(outage) = gauges.outage() {
        return Some(outage_words(&outage, now));
    }
    let waiting = gauges.waiting()?;
    let left = waiting.until.saturating_duration_since(now);
    Some(match waiting.reason {
        WaitReason::RequestsPerMinute => "waiting for RPM (requests per minute)".to_owned(),
        WaitReason::TokensPerMinute => "waiting for TPM (tokens per minute)".to_owned(),
        WaitReason::Paused(why) => format!("paused {}: {why}", duration(left)),
    })
}

fn outage_words(outage: &Outage, now: Instant) -> String {
    let next = match outage.next_probe {
        Some(next) => {
            let left = duration(next.saturating_duration_since(now));
            format!("next probe in {left}")
        }
        None => "probing".to_owned(),
    };
    let since = duration(now.saturating_duration_since(outage.since));
    format!("outage for {since}, {next}: {}", outage.why)
}

/// Returns the same facts under stable names.
pub fn outage_json(gauges: &Gauges) -> Option<Value> {
    let outage = gauges.outage()?;
    let now = Instant::now();
    let left = |next: Instant| next.saturating_duration_since(now).as_secs_f64();
    Some(json!({
        "seconds": now.saturating_duration_since(outage.since).as_secs_f64(),
        "why": outage.why,
        "probes": outage.probes,
        "next_probe_seconds": outage.next_probe.map(left),
    }))
}

/// Says how many requests are in flight, and which of them for longest: `64 in flight, oldest
/// 8.1 s (t-17)`. The id is left out where there is no room.
pub fn in_flight(gauges: &Gauges, room: usize) -> String {
    let mut words = format!("{} in flight", thousands(gauges.in_flight.value()));
    let Some(oldest) = gauges.oldest() else {
        return words;
    };
    words.push_str(&format!(", oldest {}", duration(age(&oldest))));
    let id = format!(" ({})", one_line(oldest.id.as_str()));
    if cells(&words) + cells(&id) <= room {
        words.push_str(&id);
    }
    words
}

/// Returns the oldest request under stable names.
pub fn oldest_json(gauges: &Gauges) -> Option<Value> {
    let oldest = gauges.oldest()?;
    Some(json!({"id": oldest.id.as_str(), "seconds": age(&oldest).as_secs_f64()}))
}

fn age(request: &AwaitedRequest) -> Duration {
    Instant::now().saturating_duration_since(request.since)
}

/// Says that an outage is over.
pub fn recovered(lasted: Duration, probes: u32) -> String {
    format!(
        "the server answers again after {} and {}",
        duration(lasted),
        count(probes.into(), "probe")
    )
}

/// Makes text fit into one line of a terminal: what is longer would wrap, and tear the bar.
pub fn fit(text: &str, width: usize) -> String {
    let text = one_line(text);
    let mut used = 0;
    let is_within = |c: &char| {
        used += cell(*c);
        used <= width
    };
    text.chars().take_while(is_within).collect()
}

/// Counts the columns that a text takes at most.
pub fn cells(text: &str) -> usize {
    text.chars().map(cell).sum()
}

/// Letters beyond ASCII may be two columns wide; none is wider.
fn cell(c: char) -> usize {
    if c.is_ascii() { 1 } else { 2 }
}

#[cfg(test)]
mod tests {
    use Duration;

    use super::*;

    #[test]
    fn an_outage_says_for_how_long_why_and_what_comes_next() {
        let now = Instant::now();
        let mut outage = Outage {
            since: now - Duration::from_secs(125),
            why: "server answers 503".into(),
            next_probe: Some(now + Duration::from_millis(16_200)),
            probes: 7,
        };
        assert_eq!(
            outage_words(&outage, now),
            "outage for 2m 05s, next probe in 16.2 s: server answers 503"
        );
        outage.next_probe = None;
        assert_eq!(
            outage_words(&outage, now),
            "outage for 2m 05s, probing: server answers 503"
        );
    }

    #[test]
    fn the_oldest_request_is_named_where_there_is_room() {
        let gauges = Gauges::default();
        assert_eq!(in_flight(&gauges, 80), "0 in flight");
        let long_ago = Instant::now() - Duration::from_secs(61);
        let first = gauges.begin_request("a\nb".into(), long_ago);
        let second = gauges.begin_request("c".into(), Instant::now());
        assert_eq!(in_flight(&gauges, 80), "2 in flight, oldest 1m 01s (a b)");
        assert_eq!(in_flight(&gauges, 30), "2 in flight, oldest 1m 01s");
        gauges.end_request(first);
        assert!(in_flight(&gauges, 80).ends_with("(c)"));
        gauges.end_request(second);
        assert_eq!(in_flight(&gauges, 80), "0 in flight");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        assert_eq!(fit("abcdef", 4), "abcd");
        assert_eq!(fit("日本語", 5), "日本");
        assert_eq!(fit("a\nb", 80), "a b");
    }
}
