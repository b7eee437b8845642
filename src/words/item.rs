//! An item: one input line, ready to be asked.
//!
//! Whatever form the line had, its request is carried in one shape, the body of an OpenAI chat
//! completion. Providers with another wire format translate from it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::tokens::Tokens;

/// The name under which an item's answer is stored; unique within a run.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemId(Arc<str>);

impl ItemId {
    /// Returns the id as the user wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns a 128-bit hash that stands for the id where ten million of them must fit in memory.
    ///
    /// At ten million ids the odds of any collision are 1.5e-25.
    pub fn fingerprint(&self) -> u128 {
        fingerprint(&self.0)
    }
}

/// Returns the fingerprint that an id with this text has.
pub fn fingerprint(id: &str) -> u128 {
    xxhash_rust::xxh3::xxh3_128(id.as_bytes())
}

impl From<&str> for ItemId {
    fn from(text: &str) -> Self {
        ItemId(text.into())
    }
}

impl From<String> for ItemId {
    fn from(text: String) -> Self {
        ItemId(text.into())
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// One input line, parsed, filled with the run's defaults, not yet asked.
#[derive(Debug, Clone)]
pub struct Item {
    pub id: ItemId,
    /// 0-based position among the input's items.
    pub index: u64,
    /// 1-based line number in the input file.
    pub line: u64,
    /// The model that the body names.
    pub model: Arc<str>,
    /// True when the line named no model and the run's `--model` filled it in, so that a wrong
    /// name is wrong for the whole run.
    pub model_is_shared: bool,
    /// A complete chat-completions request body in OpenAI's shape. A line that already was one
    /// passes through byte for byte.
    pub body: Bytes,
    /// The user's own fields: never sent, returned in the row.
    pub metadata: Option<Box<RawValue>>,
    /// Prompt tokens, counted only where a limit needs them.
    pub prompt_tokens: Option<Tokens>,
    /// The most tokens that the answer may have, over all its choices, if the request says so.
    pub max_output: Option<Tokens>,
    /// The request asks for JSON, so that an answer that is none cannot be used.
    pub expects_json: bool,
}

/// A line that cannot become an item, with the place it takes in the output all the same.
#[derive(Debug, Clone)]
pub struct BadLine {
    /// The line's own id where it can be read and is not taken, else derived from its content.
    pub id: ItemId,
    pub index: u64,
    pub line: u64,
    /// What is wrong and how to mend it, without the file name and line number.
    pub problem: String,
}

/// What a line turned out to be.
#[derive(Debug)]
pub enum Entry {
    Item(Item),
    Bad(BadLine),
}

impl Entry {
    pub fn id(&self) -> &ItemId {
        match self {
            Entry::Item(item) => &item.id,
            Entry::Bad(line) => &line.id,
        }
    }

    pub fn index(&self) -> u64 {
        match self {
            Entry::Item(item) => item.index,
            Entry::Bad(line) => line.index,
        }
    }
}
