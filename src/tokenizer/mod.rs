//! Counting tokens before anything is sent.                              [the only tiktoken-rs]
//!
//! Counting costs more CPU than calling, so an item is counted once, off the async threads, and
//! only where a limit or an estimate needs the figure. Text is counted as ordinary text, since
//! that is how a provider treats what a user wrote. For models of other makers than OpenAI the
//! figure is an estimate, and says so.

mod chat;
mod memory;
mod pieces;
mod tools;

use std::panic::catch_unwind;

use tiktoken_rs::CoreBPE;

use crate::words::tokens::Tokens;
pub use chat::Chat;
use memory::{Words, whole};
use pieces::{LONGEST, pieces};

/// Assumed for a picture whose size is not known: base and tiles.
const TILES: u64 = 4;

/// A vocabulary, loaded on first use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    O200kBase,
    O200kHarmony,
    Cl100kBase,
}

impl Encoding {
    pub const ALL: [Encoding; 3] = [Self::O200kBase, Self::O200kHarmony, Self::Cl100kBase];

    /// Returns the vocabulary of a model, by the longest known beginning of its name without a
    /// provider's prefix. Unknown names get the newest general one.
    pub fn of(model: &str) -> Self {
        let name = bare(model);
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

    pub fn name(self) -> &'static str {
        match self {
            Encoding::O200kBase => "o200k_base",
            Encoding::O200kHarmony => "o200k_harmony",
            Encoding::Cl100kBase => "cl100k_base",
        }
    }

    fn vocabulary(self) -> &'static CoreBPE {
        match self {
            Encoding::O200kBase => tiktoken_rs::o200k_base_singleton(),
            Encoding::O200kHarmony => tiktoken_rs::o200k_harmony_singleton(),
            Encoding::Cl100kBase => tiktoken_rs::cl100k_base_singleton(),
        }
    }

    /// Counts the tokens of a text, as the vocabulary itself does; only where a text has no word's
    /// end for 64 KiB may the count be a token or two higher.
    pub fn count(self, text: &str) -> Tokens {
        let words = Words::of(self);
        let word = |piece: &str| words.count(piece, |piece| self.count_piece(piece));
        Tokens(whole(self, text, |text| pieces(text).map(word).sum()))
    }

    fn count_piece(self, piece: &str) -> u64 {
        debug_assert!(piece.len() <= LONGEST);
        let vocabulary = self.vocabulary();
        catch_unwind(|| vocabulary.encode_ordinary(piece).len() as u64)
            // An overestimate is safe for a limit.
            .unwrap_or(piece.len().div_ceil(3) as u64)
    }

    /// Counts the prompt of a chat-completions body, for a limit: no factor, pictures as those of
    /// most models.
    pub fn count_chat(self, body: &[u8]) -> Tokens {
        Pictures::USUAL.total(&chat::count(self, body))
    }

    /// Counts the prompt of a chat-completions body, to be taken by any model of this vocabulary.
    pub fn chat(self, body: &[u8]) -> Chat {
        chat::count(self, body)
    }
}

/// Takes a provider's prefix and the mark of a tuned model off a name.
fn bare(model: &str) -> &str {
    let name = model.rsplit('/').next().unwrap_or(model);
    name.strip_prefix("ft:").unwrap_or(name)
}

/// How the prompts of one model are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    pub encoding: Encoding,
    /// What the vocabulary's count is multiplied by, in hundredths.
    pub percent: u64,
    /// Why it is that.
    pub basis: Basis,
    pictures: Pictures,
}

/// What a count rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The model's own vocabulary and the published rule for chats.
    Published,
    /// The vocabulary is the model's own, or taken to be; how it frames a chat is not published.
    Unpublished,
    /// Another maker's vocabulary and a factor.
    Factor,
}

impl Counter {
    pub fn of(model: &str) -> Self {
        let name = bare(model).to_ascii_lowercase();
        let starts = |beginnings: &[&str]| beginnings.iter().any(|start| name.starts_with(start));
        let known = [
            "gpt-4",
            "gpt-3.5",
            "gpt-35",
            "gpt-5",
            "chatgpt-4o",
            "o1",
            "o3",
            "o4-mini",
        ];
        let (basis, percent) = if starts(&known) {
            (Basis::Published, 100)
        } else if starts(&["gpt-", "chatgpt-", "chat-latest", "text-embedding-"]) {
            (Basis::Unpublished, 100)
        } else if name.contains("claude") {
            (Basis::Factor, 130)
        } else {
            (Basis::Factor, 120)
        };
        Counter {
            encoding: Encoding::of(model),
            percent,
            basis,
            pictures: Pictures::of(&name),
        }
    }

    /// Returns a chat's prompt tokens for this model.
    pub fn tokens(&self, chat: &Chat) -> Tokens {
        let text = chat.text.0.saturating_mul(self.percent).div_ceil(100);
        let whole = Chat {
            text: Tokens(text),
            ..*chat
        };
        self.pictures.total(&whole)
    }

    /// Tells whether a chat's count is what the provider will count.
    pub fn is_exact(&self, chat: &Chat) -> bool {
        self.basis == Basis::Published && !chat.has_guesses
    }

    /// Says in words what the count rests on.
    pub fn words(&self) -> String {
        let name = self.encoding.name();
        match self.basis {
            Basis::Published => format!("{name} and the published rule for chats"),
            Basis::Unpublished => format!("{name}; how the model frames a chat is not published"),
            Basis::Factor => format!(
                "{name} times {}.{}, since the model's own vocabulary is not at hand",
                self.percent / 100,
                self.percent % 100 / 10
            ),
        }
    }
}

/// What pictures cost: a base, and as much again for each tile of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pictures {
    base: u64,
    tile: u64,
}

impl Pictures {
    const USUAL: Pictures = Pictures {
        base: 85,
        tile: 170,
    };

    /// Returns those of a model, by its bare name.
    fn of(name: &str) -> Self {
        let (base, tile) = if name.starts_with("gpt-4o-mini") {
            (2833, 5667)
        } else if name.starts_with("gpt-5") {
            (70, 140)
        } else if name.starts_with("o1") || name.starts_with("o3") {
            (75, 150)
        } else if name.contains("claude") {
            // A picture is scaled down until it costs 1,568 at most.
            (1568, 0)
        } else {
            return Self::USUAL;
        };
        Pictures { base, tile }
    }

    fn total(self, chat: &Chat) -> Tokens {
        let large = self.base + TILES * self.tile;
        let pictures = chat.small_pictures * self.base + chat.pictures * large;
        chat.text + Tokens(pictures)
    }
}

#[cfg(test)]
mod tests;
