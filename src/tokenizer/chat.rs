//! What a chat costs as a prompt: the rule that OpenAI published, message by message.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Encoding, tools};
use crate::words::fields::Key;
use crate::words::tokens::Tokens;

/// Added for each message, for a name in it, and once for the start of the answer.
const MESSAGE: u64 = 3;
const NAME: u64 = 1;
const REPLY: u64 = 3;
/// Assumed for a sound or a file.
const ATTACHMENT: u64 = 800;

/// The prompt of one chat, before a model's factor and its price of pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chat {
    pub text: Tokens,
    /// Pictures in little detail, and the others; their sizes are not known.
    pub small_pictures: u64,
    pub pictures: u64,
    /// Something in it is counted by no published rule.
    pub has_guesses: bool,
}

/// Counts a chat-completions body.
pub fn count(encoding: Encoding, body: &[u8]) -> Chat {
    let Ok(request) = serde_json::from_slice::<Request<'_>>(body) else {
        return Chat {
            text: Tokens(body.len().div_ceil(4) as u64),
            has_guesses: true,
            ..Chat::default()
        };
    };
    let mut chat = Chat {
        text: Tokens(REPLY),
        ..Chat::default()
    };
    for message in &request.messages {
        chat.add_message(encoding, message);
    }
    for raw in [request.tools, request.functions].into_iter().flatten() {
        let tools = serde_json::from_str::<Vec<Value>>(raw.get()).unwrap_or_default();
        let tools = tools::count(encoding, &tools);
        chat.text += Tokens(tools.tokens);
        chat.has_guesses |= !tools.exact;
    }
    if let Some(schema) = request
        .response_format
        .and_then(|format| format.json_schema)
    {
        chat.guess(encoding.count(schema.schema.unwrap_or(schema.whole).get()));
    }
    chat
}

impl Chat {
    fn add_message(&mut self, encoding: Encoding, message: &Message<'_>) {
        self.text += Tokens(MESSAGE);
        if let Some(Key(role)) = &message.role {
            self.text += encoding.count(role);
        }
        if let Some(Key(name)) = &message.name {
            self.text += encoding.count(name) + Tokens(NAME);
        }
        match &message.content {
            Content::Nothing => {}
            Content::Text(text) => self.text += encoding.count(text),
            Content::Parts(parts) => parts.iter().for_each(|part| self.add_part(encoding, part)),
        }
        for raw in [message.tool_calls, message.function_call]
            .into_iter()
            .flatten()
        {
            if !matches!(raw.get(), "null" | "[]") {
                self.guess(encoding.count(raw.get()));
            }
        }
    }

    /// A picture is never read: its bytes are not what it costs.
    fn add_part(&mut self, encoding: Encoding, part: &Part<'_>) {
        if let Some(Key(text)) = part.text.as_ref().or(part.refusal.as_ref()) {
            self.text += encoding.count(text);
        } else if let Some(picture) = &part.image_url {
            self.has_guesses = true;
            match picture.is_small() {
                true => self.small_pictures += 1,
                false => self.pictures += 1,
            }
        } else {
            self.guess(Tokens(ATTACHMENT));
        }
    }

    fn guess(&mut self, tokens: Tokens) {
        self.text += tokens;
        self.has_guesses = true;
    }
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    functions: Option<&'a RawValue>,
    #[serde(borrow)]
    response_format: Option<Format<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Option<Key<'a>>,
    #[serde(borrow)]
    name: Option<Key<'a>>,
    #[serde(borrow, default)]
    content: Content<'a>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    text: Option<Key<'a>>,
    #[serde(borrow)]
    refusal: Option<Key<'a>>,
    #[serde(borrow)]
    image_url: Option<Picture<'a>>,
}

/// Only what is needed is looked at, since the address may be megabytes of base64.
struct Picture<'a>(&'a RawValue);

impl<'de: 'a, 'a> Deserialize<'de> for Picture<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(Picture)
    }
}

impl Picture<'_> {
    fn is_small(&self) -> bool {
        #[derive(Deserialize)]
        struct Detail<'a> {
            #[serde(borrow)]
            detail: Option<Key<'a>>,
        }
        let detail = serde_json::from_str::<Detail<'_>>(self.0.get()).ok();
        detail
            .and_then(|picture| picture.detail)
            .is_some_and(|Key(detail)| detail == "low")
    }
}

struct Format<'a> {
    json_schema: Option<Schema<'a>>,
}

struct Schema<'a> {
    whole: &'a RawValue,
    schema: Option<&'a RawValue>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Format<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire<'a> {
            #[serde(borrow)]
            json_schema: Option<&'a RawValue>,
        }
        #[derive(Deserialize)]
        struct Inner<'a> {
            #[serde(borrow)]
            schema: Option<&'a RawValue>,
        }
        // A format that is no object asks for nothing that is known.
        let raw = <&RawValue>::deserialize(deserializer)?;
        let wire = serde_json::from_str::<Wire<'_>>(raw.get()).ok();
        let json_schema = wire.and_then(|wire| wire.json_schema).map(|whole| Schema {
            whole,
            schema: serde_json::from_str::<Inner<'_>>(whole.get())
                .ok()
                .and_then(|inner| inner.schema),
        });
        Ok(Format { json_schema })
    }
}

/// A message's content: text, or parts.
#[derive(Default)]
enum Content<'a> {
    #[default]
    Nothing,
    Text(Cow<'a, str>),
    Parts(Vec<Part<'a>>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;
        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = Content<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or parts")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Content::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Content::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Content::Nothing)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = list.next_element()? {
                    parts.push(part);
                }
                Ok(Content::Parts(parts))
            }
        }
        deserializer.deserialize_any(ContentVisitor)
    }
}
