//! Counting tokens before anything is sent.                              [the only tiktoken-rs]
//!
//! Counting costs more CPU than calling, so an item is counted once, off the async threads, and
//! only where a limit needs the figure. Text is counted as ordinary text, since that is how a
//! provider treats what a user wrote. For models of other makers the figure is an estimate.

use std::borrow::Cow;
use std::panic::catch_unwind;

use serde::Deserialize;
use serde_json::value::RawValue;
use tiktoken_rs::CoreBPE;

use crate::words::tokens::Tokens;

/// Text is counted in pieces of at most this size: the time for one long run of letters grows
/// faster than its length, and a million blanks overflow the library's pattern matcher.
const PIECE: usize = 64 << 10;
/// Added for each message, and once for the start of the answer.
const MESSAGE: u64 = 3;
const REPLY: u64 = 3;
/// Assumed for a picture, a sound or a file: a picture of a few tiles.
const ATTACHMENT: u64 = 800;

/// A vocabulary, loaded on first use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    O200kBase,
    O200kHarmony,
    Cl100kBase,
}

impl Encoding {
    /// Returns the vocabulary of a model, by the longest known beginning of its name without a
    /// provider's prefix. Unknown names get the newest general one.
    pub fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or(model);
        let name = name.strip_prefix("ft:").unwrap_or(name);
        let starts = |beginnings: &[&str]| beginnings.iter().any(|start| name.starts_with(start));
        if starts(&["gpt-oss"]) {
            Encoding::O200kHarmony
        } else if starts(&["gpt-4o", "gpt-4.1", "gpt-4.5"]) {
            Encoding::O200kBase
        } else if starts(&["gpt-4", "gpt-3.5", "gpt-35", "text-embedding-"]) {
            Encoding::Cl100kBase
        } else {
            Encoding::O200kBase
        }
    }

    fn vocabulary(self) -> &'static CoreBPE {
        match self {
            Encoding::O200kBase => tiktoken_rs::o200k_base_singleton(),
            Encoding::O200kHarmony => tiktoken_rs::o200k_harmony_singleton(),
            Encoding::Cl100kBase => tiktoken_rs::cl100k_base_singleton(),
        }
    }

    /// Counts the tokens of a text.
    pub fn count(self, text: &str) -> Tokens {
        Tokens(pieces(text).map(|piece| self.count_piece(piece)).sum())
    }

    fn count_piece(self, piece: &str) -> u64 {
        let vocabulary = self.vocabulary();
        catch_unwind(|| vocabulary.encode_ordinary(piece).len() as u64)
            // An overestimate is safe for a limit.
            .unwrap_or(piece.len().div_ceil(3) as u64)
    }

    /// Counts the prompt of a chat-completions body: its messages by the published rule, tools
    /// and schemas by their text.
    pub fn count_chat(self, body: &[u8]) -> Tokens {
        let Ok(chat) = serde_json::from_slice::<Chat<'_>>(body) else {
            return Tokens(body.len().div_ceil(4) as u64);
        };
        let messages: Tokens = chat
            .messages
            .iter()
            .map(|message| self.count_message(message))
            .sum();
        let schemas = [chat.tools, chat.functions, chat.response_format];
        let schemas: Tokens = schemas
            .into_iter()
            .flatten()
            .map(|schema| self.count(schema.get()))
            .sum();
        messages + schemas + Tokens(REPLY)
    }

    fn count_message(self, message: &Message<'_>) -> Tokens {
        let text = |text: &Option<Cow<'_, str>>| text.as_ref().map(|text| self.count(text));
        let name = text(&message.name).map(|tokens| tokens + Tokens(1));
        let content = message.content.map(|raw| self.count_content(raw));
        let calls = message.tool_calls.map(|raw| self.count(raw.get()));
        let parts = [text(&message.role), name, content, calls];
        parts.into_iter().flatten().sum::<Tokens>() + Tokens(MESSAGE)
    }

    fn count_content(self, raw: &RawValue) -> Tokens {
        if let Ok(text) = serde_json::from_str::<Cow<'_, str>>(raw.get()) {
            return self.count(&text);
        }
        let parts: Vec<Part> = serde_json::from_str(raw.get()).unwrap_or_default();
        let count = |part: &Part| {
            part.text
                .as_ref()
                .map_or(Tokens(ATTACHMENT), |t| self.count(t))
        };
        parts.iter().map(count).sum()
    }
}

#[derive(Deserialize)]
struct Chat<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    functions: Option<&'a RawValue>,
    #[serde(borrow)]
    response_format: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
}

/// Cuts a long text where a word begins, or, where there is none, between two characters.
fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let mut end = text.len();
        if end > PIECE {
            end = text.floor_char_boundary(PIECE);
            let word = text.as_bytes()[..end]
                .windows(2)
                .rposition(|pair| pair[0] == b' ' && pair[1].is_ascii_alphanumeric());
            end = word.filter(|at| *at > 0).unwrap_or(end);
        }
        let (piece, rest) = text.split_at(end);
        text = rest;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_count_as_published() {
        let vectors: &[(&str, u64, u64)] = &[
            ("", 0, 0),
            ("hello world", 2, 2),
            ("Hello, world!\n", 4, 4),
            ("The quick brown fox jumps over the lazy dog.", 10, 10),
            ("人工智能正在改变世界。", 12, 6),
            ("Привет, как дела?", 8, 6),
            ("👩‍👩‍👧‍👦 🚀", 21, 13),
            (r#"{"id": 42, "tags": ["a", "b"], "ok": true}"#, 20, 20),
            ("1234567890", 4, 4),
            ("<|endoftext|>", 7, 7),
        ];
        for (text, cl100k, o200k) in vectors {
            assert_eq!(
                Encoding::Cl100kBase.count(text),
                Tokens(*cl100k),
                "{text:?}"
            );
            assert_eq!(Encoding::O200kBase.count(text), Tokens(*o200k), "{text:?}");
        }
        assert_eq!(Encoding::O200kBase.count(&"a ".repeat(1000)), Tokens(1001));
        assert_eq!(Encoding::O200kBase.count(&" ".repeat(1000)), Tokens(9));
    }

    #[test]
    fn chats_count_by_the_published_rule() {
        let one = br#"{"messages":[{"role":"user","content":"hello world"}]}"#;
        let four = br#"{"model":"x","messages":[{"role":"system","content":"You are terse."},
            {"role":"user","name":"bob","content":[{"type":"text","text":"Translate 'good morning' into French."}]},
            {"role":"assistant","content":"Bonjour"},{"role":"user","content":"Now into German."}]}"#;
        for encoding in [Encoding::Cl100kBase, Encoding::O200kBase] {
            assert_eq!(encoding.count_chat(one), Tokens(9));
            assert_eq!(encoding.count_chat(four), Tokens(38));
        }
    }

    #[test]
    fn a_megabyte_of_one_character_is_counted_without_a_panic() {
        for text in [" ", "a", "\u{a0}"] {
            let tokens = Encoding::O200kBase.count(&text.repeat(1_100_000));
            assert!(tokens.0 > 1000, "{text:?}: {tokens:?}");
        }
    }

    #[test]
    fn names_choose_their_vocabulary() {
        assert_eq!(Encoding::of("gpt-4o-mini-2024-07-18"), Encoding::O200kBase);
        assert_eq!(Encoding::of("openai/gpt-4-turbo"), Encoding::Cl100kBase);
        assert_eq!(
            Encoding::of("ft:gpt-3.5-turbo:acme::x"),
            Encoding::Cl100kBase
        );
        assert_eq!(Encoding::of("gpt-oss-120b"), Encoding::O200kHarmony);
        assert_eq!(Encoding::of("gpt-6-sol"), Encoding::O200kBase);
        assert_eq!(Encoding::of("llama-3"), Encoding::O200kBase);
    }

    #[test]
    fn pieces_lose_nothing() {
        let text = format!("{} wörd {}", "x".repeat(PIECE + 5), "é y".repeat(PIECE));
        assert_eq!(pieces(&text).collect::<String>(), text);
        assert!(pieces(&text).all(|piece| piece.len() <= PIECE));
    }
}
