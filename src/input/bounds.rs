//! What a request can use at most, read from its own fields.

use memchr::memmem;

use crate::words::price::Service;
use crate::words::tariff::Bounds;
use crate::words::tokens::Tokens;

/// Tokens that a server may add to a prompt: a chat template, a system prompt of its own.
const ADDED_BY_SERVER: u64 = 512;
/// More than a picture costs anywhere, for each time that a request says `image_url`; a part
/// says it twice.
const HALF_A_PICTURE: u64 = 25_000;
/// What files and films can cost is bounded by the model's window alone.
const ATTACHMENT: u64 = 1_000_000;
const ATTACHMENTS: [&str; 4] = ["file_data", "file_id", "file_url", "video_url"];
/// The most choices that any API gives.
const MOST_CHOICES: u64 = 128;

/// Reads the bounds of a request from its body and its top-level fields.
pub fn bounds<'f>(body: &[u8], field: impl Fn(&str) -> Option<&'f str>) -> Bounds {
    let choices = match field("n") {
        None | Some("null") => 1,
        Some(raw) => number(raw).unwrap_or(MOST_CHOICES).max(1),
    };
    // Which of the two names an endpoint obeys is not known here.
    let limits = ["max_completion_tokens", "max_tokens"].map(|name| number(field(name)?));
    let service = field("service_tier").map(|raw| Service::of_tier(raw.trim_matches('"')));
    Bounds {
        prompt: prompt(body),
        output: limits
            .into_iter()
            .max()
            .flatten()
            .map(|limit| Tokens(limit).times(choices)),
        choices,
        service: service.unwrap_or_default(),
        has_extras: has_extras(body, field),
    }
}

/// Returns a number of tokens that the prompt cannot exceed: no vocabulary has a token shorter
/// than a byte, and only attachments are more than what stands there.
fn prompt(body: &[u8]) -> Tokens {
    let text = body.len() as u64 + ADDED_BY_SERVER;
    if !has_parts(body) {
        return Tokens(text);
    }
    let said = |word: &str| memmem::find_iter(body, word).count() as u64;
    let pictures = said("image_url").saturating_mul(HALF_A_PICTURE);
    let others: u64 = ATTACHMENTS.map(said).iter().sum();
    Tokens(text + pictures + others.saturating_mul(ATTACHMENT))
}

/// Tells whether a message may consist of parts; most do not, and are read no further.
fn has_parts(body: &[u8]) -> bool {
    memmem::find(body, b"type").is_some() || memmem::find(body, b"\\u").is_some()
}

fn has_extras<'f>(body: &[u8], field: impl Fn(&str) -> Option<&'f str>) -> bool {
    let is_set = |name| field(name).is_some_and(|raw| raw != "null");
    is_set("audio")
        || is_set("web_search_options")
        || field("modalities").is_some_and(|raw| raw.contains("audio"))
        || has_parts(body) && memmem::find(body, b"input_audio").is_some()
}

/// Reads a number as servers do: `3` and `3.0`.
fn number(raw: &str) -> Option<u64> {
    if let Ok(number) = raw.parse() {
        return Some(number);
    }
    let number: f64 = raw.parse().ok()?;
    // The cast saturates.
    (number >= 0.0).then_some(number.ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::fields::Fields;

    fn read(body: &str) -> Bounds {
        let fields = Fields::parse(body).unwrap();
        bounds(body.as_bytes(), |key| fields.raw(key).map(|raw| raw.get()))
    }

    #[test]
    fn the_larger_of_two_limits_counts_for_each_choice() {
        let output = |body| read(body).output;
        assert_eq!(output(r#"{"max_tokens":10}"#), Some(Tokens(10)));
        assert_eq!(output(r#"{"max_tokens":10.0,"n":3.0}"#), Some(Tokens(30)));
        assert_eq!(
            output(r#"{"max_completion_tokens":10,"max_tokens":100000,"n":2}"#),
            Some(Tokens(200_000))
        );
        assert_eq!(output(r#"{"max_tokens":null}"#), None);
        assert_eq!(read(r#"{"n":"3"}"#).choices, MOST_CHOICES);
    }

    #[test]
    fn a_prompt_is_bounded_by_its_bytes_and_what_it_attaches() {
        let text = r#"{"messages":[{"content":"hello"}]}"#;
        assert_eq!(read(text).prompt, Tokens(text.len() as u64 + 512));
        let picture = r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"https://x/y.png"}}]}]}"#;
        assert!(read(picture).prompt >= Tokens(50_000));
        let pdf = r#"{"messages":[{"content":[{"type":"file","file":{"file_data":"data:application/pdf;base64,AAAA"}}]}]}"#;
        assert!(read(pdf).prompt >= Tokens(1_000_000));
    }

    #[test]
    fn sound_and_searches_are_extras() {
        for body in [
            r#"{"modalities":["text","audio"]}"#,
            r#"{"audio":{"voice":"x"}}"#,
            r#"{"web_search_options":{}}"#,
            r#"{"messages":[{"content":[{"type":"input_audio","input_audio":{}}]}]}"#,
        ] {
            assert!(read(body).has_extras, "{body}");
        }
        assert!(!read(r#"{"messages":[{"content":"input_audio"}]}"#).has_extras);
    }
}
