//! The question: what the simulator reads of a chat completion request.
//!
//! Texts are borrowed from the request body where they hold no escapes. Unknown fields are
//! ignored, as most compatible servers do.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::refusal::Refusal;

/// Tokens that a message costs beside its text.
const MESSAGE_TOKENS: u64 = 4;

/// How many characters make a token, by rule of thumb.
const TOKEN_CHARACTERS: u64 = 4;

/// The most choices that can be asked for.
const MAX_CHOICES: u64 = 128;

/// A chat completion request, as far as the answer depends on it.
#[derive(Debug, PartialEq)]
pub(super) struct Question<'a> {
    pub(super) model: Cow<'a, str>,
    /// Hash of the last user message's text.
    pub(super) echo: u64,
    /// Hash of all messages.
    pub(super) digest: u64,
    pub(super) prompt_tokens: u64,
    /// The longest answer that is allowed.
    pub(super) max_tokens: Option<u64>,
    pub(super) choices: u64,
    /// Whether the answer has to be a JSON object.
    pub(super) json: bool,
}

impl<'a> Question<'a> {
    /// Reads a request body.
    pub(super) fn read(body: &'a [u8]) -> Result<Question<'a>, Refusal> {
        match serde_json::from_slice::<Wire>(body) {
            Ok(wire) => wire.check(),
            Err(_) => Err(explain(body)),
        }
    }

    /// Returns how many tokens the limits count for it: the prompt, and each choice at its longest.
    pub(super) fn admission_tokens(&self, expected_answer: u64) -> u64 {
        let answer = self.max_tokens.unwrap_or(expected_answer);
        self.prompt_tokens
            .saturating_add(answer.saturating_mul(self.choices))
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    n: Option<u64>,
    stream: Option<bool>,
    #[serde(borrow)]
    response_format: Option<ResponseFormat<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Text<'a>,
}

#[derive(Deserialize)]
struct ResponseFormat<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

impl<'a> Wire<'a> {
    fn check(self) -> Result<Question<'a>, Refusal> {
        if self.messages.is_empty() {
            let message = "Invalid 'messages': empty array. Expected an array with minimum length \
                1, but got an empty array instead.";
            return Err(Refusal::invalid("messages", "empty_array", message));
        }
        if self.stream == Some(true) {
            let message = "Unsupported value: 'stream' does not support true here: the simulator \
                answers in one piece.";
            return Err(Refusal::invalid("stream", "unsupported_value", message));
        }
        at_least_one("max_tokens", self.max_tokens)?;
        at_least_one("max_completion_tokens", self.max_completion_tokens)?;
        at_least_one("n", self.n)?;
        let choices = self.n.unwrap_or(1);
        if choices > MAX_CHOICES {
            let message = format!(
                "Invalid 'n': integer above maximum value. Expected a value <= {MAX_CHOICES}, but \
                 got {choices} instead."
            );
            return Err(Refusal::invalid("n", "integer_above_max_value", message));
        }
        Ok(self.into_question(choices))
    }

    fn into_question(self, choices: u64) -> Question<'a> {
        let user = self.messages.iter().rev().find(|m| m.role == "user");
        let texts = || self.messages.iter().map(|message| &*message.content.0);
        let json = self
            .response_format
            .is_some_and(|format| matches!(&*format.kind, "json_object" | "json_schema"));
        Question {
            echo: echo_hash(user.map_or("", |message| &message.content.0)),
            digest: texts().fold(0, |hash, text| xxh3_64_with_seed(text.as_bytes(), hash)),
            prompt_tokens: texts().map(text_tokens).sum(),
            max_tokens: self.max_completion_tokens.or(self.max_tokens),
            choices,
            json,
            model: self.model,
        }
    }
}

/// Returns the hash by which an answer names the text it answers.
pub(super) fn echo_hash(text: &str) -> u64 {
    xxh3_64(text.as_bytes())
}

fn text_tokens(text: &str) -> u64 {
    MESSAGE_TOKENS + (text.chars().count() as u64).div_ceil(TOKEN_CHARACTERS)
}

fn at_least_one(param: &str, value: Option<u64>) -> Result<(), Refusal> {
    if value == Some(0) {
        let message = format!(
            "Invalid '{param}': integer below minimum value. Expected a value >= 1, but got 0 \
             instead."
        );
        return Err(Refusal::invalid(param, "integer_below_min_value", message));
    }
    Ok(())
}

/// The text of a message: its string, or the texts of its parts one after the other.
#[derive(Default)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
        deserializer.deserialize_any(TextVisitor).map(Text)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array of content parts")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    /// An assistant's content may be null beside its tool calls.
    fn visit_unit<E>(self) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(""))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Cow<'de, str>, A::Error> {
        let mut text = String::new();
        while let Some(Part(part)) = parts.next_element()? {
            text.push_str(&part);
        }
        Ok(Cow::Owned(text))
    }
}

/// One content part, of which only a `text` counts.
struct Part<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Part<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Part<'a>, D::Error> {
        deserializer.deserialize_map(PartVisitor).map(Part)
    }
}

struct PartVisitor;

impl<'de> Visitor<'de> for PartVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a content part")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Cow<'de, str>, A::Error> {
        let mut text = Cow::Borrowed("");
        while let Some(key) = fields.next_key::<Cow<str>>()? {
            if key == "text" {
                text = Cow::Owned(fields.next_value::<String>()?);
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(text)
    }
}

/// Finds the words for a body that could not be read. Slow, and rarely needed.
fn explain(body: &[u8]) -> Refusal {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return Refusal::not_json();
    };
    explain_model(&value)
        .or_else(|| explain_messages(&value))
        .or_else(|| explain_options(&value))
        .unwrap_or_else(Refusal::not_json)
}

fn explain_model(value: &Value) -> Option<Refusal> {
    match value.get("model") {
        None => Some(Refusal::missing("model")),
        Some(Value::String(_)) => None,
        Some(_) => Some(Refusal::wrong_type("model", "a string")),
    }
}

fn explain_messages(value: &Value) -> Option<Refusal> {
    match value.get("messages") {
        None => Some(Refusal::missing("messages")),
        Some(Value::Array(messages)) => messages.iter().enumerate().find_map(explain_message),
        Some(_) => Some(Refusal::wrong_type("messages", "an array of objects")),
    }
}

fn explain_message((index, message): (usize, &Value)) -> Option<Refusal> {
    let param = format!("messages[{index}]");
    if !message.is_object() {
        return Some(Refusal::wrong_type(param, "an object"));
    }
    match message.get("role") {
        None => return Some(Refusal::missing(format!("{param}.role"))),
        Some(Value::String(_)) => {}
        Some(_) => return Some(Refusal::wrong_type(format!("{param}.role"), "a string")),
    }
    let readable = |content: &Value| Text::deserialize(content).is_ok();
    message
        .get("content")
        .filter(|content| !readable(content))
        .map(|_| {
            let expected = "one of a string or array of objects";
            Refusal::wrong_type(format!("{param}.content"), expected)
        })
}

fn explain_options(value: &Value) -> Option<Refusal> {
    let wrong = |param: &str, fits: fn(&Value) -> bool| {
        value
            .get(param)
            .is_some_and(|value| !value.is_null() && !fits(value))
    };
    for param in ["max_tokens", "max_completion_tokens", "n"] {
        if wrong(param, Value::is_u64) {
            return Some(Refusal::wrong_type(param, "a positive integer"));
        }
    }
    if wrong("stream", Value::is_boolean) {
        return Some(Refusal::wrong_type("stream", "a boolean"));
    }
    if wrong("response_format", |format| format["type"].is_string()) {
        return Some(Refusal::wrong_type(
            "response_format",
            "an object with a type",
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> String {
        format!("{:?}", Question::read(body.as_bytes()).unwrap_err())
    }

    #[test]
    fn question_holds_what_the_answer_needs() {
        let body = br#"{"model":"m","temperature":0,"messages":[
            {"role":"system","content":"You label."},
            {"role":"user","content":"first"},
            {"role":"assistant","content":null,"tool_calls":[]},
            {"role":"user","content":"caf\u00e9"}],
            "max_tokens":9,"n":2,"response_format":{"type":"json_object"}}"#;
        let question = Question::read(body).unwrap();
        assert_eq!(question.model, "m");
        assert_eq!(question.echo, echo_hash("café"));
        assert_eq!(question.max_tokens, Some(9));
        assert_eq!(question.choices, 2);
        assert!(question.json);
        assert_eq!(question.prompt_tokens, 4 * MESSAGE_TOKENS + 3 + 2 + 1);
        assert_eq!(question.admission_tokens(40), question.prompt_tokens + 18);
    }

    #[test]
    fn parts_are_read_as_one_text() {
        let parts = br#"{"model":"m","messages":[{"role":"user","content":[
            {"type":"text","text":"ab"},
            {"type":"image_url","image_url":{"url":"data:"}},
            {"type":"text","text":"c"}]}]}"#;
        let plain = br#"{"model":"m","messages":[{"role":"user","content":"abc"}]}"#;
        assert_eq!(Question::read(parts), Question::read(plain));
    }

    #[test]
    fn system_message_changes_the_digest_but_not_the_echo() {
        let with = br#"{"model":"m","messages":[{"role":"system","content":"x"},{"role":"user","content":"q"}]}"#;
        let without = br#"{"model":"m","messages":[{"role":"user","content":"q"}]}"#;
        let (with, without) = (
            Question::read(with).unwrap(),
            Question::read(without).unwrap(),
        );
        assert_eq!(with.echo, without.echo);
        assert_ne!(with.digest, without.digest);
    }

    #[test]
    fn refusals_name_the_parameter() {
        let user = r#"[{"role":"user","content":"q"}]"#;
        let cases = [
            (r#"{"messages":[]}"#.to_owned(), "'model'"),
            (r#"{"model":"m"}"#.to_owned(), "'messages'"),
            (r#"{"model":"m","messages":[]}"#.to_owned(), "empty_array"),
            (r#"{"model":1,"messages":[]}"#.to_owned(), "invalid_type"),
            (
                r#"{"model":"m","messages":[{"content":"q"}]}"#.to_owned(),
                "messages[0].role",
            ),
            (
                r#"{"model":"m","messages":[{"role":"user","content":7}]}"#.to_owned(),
                "messages[0].content",
            ),
            (
                format!(r#"{{"model":"m","messages":{user},"max_tokens":"9"}}"#),
                "'max_tokens'",
            ),
            (
                format!(r#"{{"model":"m","messages":{user},"max_tokens":0}}"#),
                "integer_below_min_value",
            ),
            (
                format!(r#"{{"model":"m","messages":{user},"n":129}}"#),
                "integer_above_max_value",
            ),
            (
                format!(r#"{{"model":"m","messages":{user},"stream":true}}"#),
                "unsupported_value",
            ),
            (
                format!(r#"{{"model":"m","messages":{user},"response_format":"json"}}"#),
                "response_format",
            ),
            ("{".to_owned(), "could not parse"),
        ];
        for (body, part) in cases {
            let refusal = refusal(&body);
            assert!(refusal.contains(part), "{body}: {refusal}");
        }
    }
}
