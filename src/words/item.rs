//! An item: one input line, ready to be asked.
//!
//! Whatever form the line had, its request is carried in one shape, the body of an OpenAI chat
//! completion. Providers with another wire format translate from it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::fields::{Fields, ObjectWriter, quoted};
use super::money::Usd;
use super::price::{Service, Tariff};
use super::tokens::Tokens;

/// Tokens that a server may add to a prompt: a chat template, a system prompt of its own.
const ADDED_BY_SERVER: u64 = 512;
/// More than a picture costs anywhere, for each time that a request says `image_url`; a part
/// says it twice.
const HALF_A_PICTURE: u64 = 25_000;
/// What files, sounds and films can cost is bounded by the model's window alone.
const UNKNOWN_ATTACHMENT: u64 = 1_000_000;

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
    /// Answers that the request asks for at once.
    pub choices: u64,
    /// How the request asks to be served.
    pub service: Service,
    /// The request asks for JSON, so that an answer that is none cannot be used.
    pub expects_json: bool,
    /// `None` where the model's price is not known.
    pub tariff: Option<Arc<Tariff>>,
}

impl Item {
    /// Returns the most tokens that the answer may have, by the request or else by the model.
    pub fn output_bound(&self) -> Option<Tokens> {
        let by_model = || {
            let most = self.tariff.as_ref()?.max_output?;
            Some(Tokens(most.0.saturating_mul(self.choices)))
        };
        self.max_output.or_else(by_model)
    }

    /// Returns the most that one attempt can cost; `None` where nothing bounds it.
    pub fn worst_case(&self) -> Option<Usd> {
        self.most(self.output_bound()?)
    }

    /// Returns the most that an answer of at most so many tokens can cost.
    pub fn most(&self, output: Tokens) -> Option<Usd> {
        let tariff = self.tariff.as_ref()?;
        // Who asks for less than the usual service may be served with it all the same.
        let service = match self.service {
            Service::Priority => Service::Priority,
            Service::Standard | Service::Flex | Service::Batch => Service::Standard,
        };
        tariff.price.most(self.prompt_bound(), output, service)
    }

    /// Returns a number of tokens that the prompt cannot exceed: no vocabulary has a token
    /// shorter than a byte.
    fn prompt_bound(&self) -> Tokens {
        let said = |word: &str| memchr::memmem::find_iter(&self.body, word).count() as u64;
        let pictures = said("image_url").saturating_mul(HALF_A_PICTURE);
        let others = ["input_audio", "file_id", "file_url", "video_url"].map(said);
        let others = others
            .iter()
            .sum::<u64>()
            .saturating_mul(UNKNOWN_ATTACHMENT);
        let bound = self.body.len() as u64 + ADDED_BY_SERVER + pictures + others;
        let window = self.tariff.as_ref().and_then(|tariff| tariff.max_input);
        window.map_or(Tokens(bound), |window| Tokens(bound).min(window))
    }

    /// Gives the request another model.
    pub fn switch_model(&mut self, tariff: &Arc<Tariff>) {
        self.set("model", &quoted(&tariff.model));
        self.model = tariff.model.clone();
        self.tariff = Some(tariff.clone());
    }

    /// Limits each choice of the answer to so many tokens, under the name that the endpoint
    /// understands.
    pub fn cap_output(&mut self, field: &str, most: Tokens) {
        self.set(field, &most.0.to_string());
        self.max_output = Some(Tokens(most.0.saturating_mul(self.choices)));
    }

    /// Sets one field of the request and leaves all others as they are written.
    fn set(&mut self, key: &str, value: &str) {
        let text = std::str::from_utf8(&self.body).unwrap_or_default();
        let Ok(fields) = Fields::parse(text) else {
            return;
        };
        let mut body = ObjectWriter::with_capacity(self.body.len() + key.len() + value.len() + 8);
        let others = fields.iter().filter(|(name, _)| *name != key);
        others.for_each(|(name, raw)| body.field(name, raw.get()));
        body.field(key, value);
        self.body = body.finish().into();
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::money::Rate;
    use crate::words::price::Price;

    fn tariff(model: &str) -> Arc<Tariff> {
        let rate = |text| Rate::per_million(text).unwrap();
        Arc::new(Tariff {
            model: model.into(),
            price: Arc::new(Price::simple(rate("1"), rate("10"))),
            max_input: Some(Tokens(10_000)),
            max_output: Some(Tokens(1_000)),
        })
    }

    fn item(body: &str) -> Item {
        Item {
            id: "a".into(),
            index: 0,
            line: 1,
            model: "m".into(),
            model_is_shared: true,
            body: body.to_owned().into(),
            metadata: None,
            prompt_tokens: None,
            max_output: None,
            choices: 1,
            service: Service::Standard,
            expects_json: false,
            tariff: Some(tariff("m")),
        }
    }

    fn body(item: &Item) -> &str {
        std::str::from_utf8(&item.body).unwrap()
    }

    #[test]
    fn the_worst_case_is_the_prompt_by_bytes_and_the_longest_answer() {
        let mut item = item(&"x".repeat(488));
        assert_eq!(item.worst_case().unwrap().to_string(), "0.011");
        item.choices = 3;
        assert_eq!(item.worst_case().unwrap().to_string(), "0.031");
        item.max_output = Some(Tokens(100));
        assert_eq!(item.worst_case().unwrap().to_string(), "0.002");
    }

    #[test]
    fn the_models_window_bounds_every_prompt() {
        let long = item(&"x".repeat(50_000));
        assert_eq!(long.most(Tokens(0)).unwrap().to_string(), "0.01");
        let picture = item(r#"{"type":"image_url","image_url":{"url":"https://x/y.png"}}"#);
        assert_eq!(picture.most(Tokens(0)).unwrap().to_string(), "0.01");
    }

    #[test]
    fn a_cheaper_service_is_never_counted_on() {
        let mut item = item("{}");
        let mut cheaper = Tariff::clone(&tariff("m"));
        let mut price = Price::clone(&cheaper.price);
        price.flex = Some(Price::simple(Rate::default(), Rate::default()).standard);
        cheaper.price = Arc::new(price);
        item.tariff = Some(Arc::new(cheaper));
        let usual = item.worst_case();
        item.service = Service::Flex;
        assert_eq!(item.worst_case(), usual);
        item.service = Service::Priority;
        assert_eq!(item.worst_case(), None);
    }

    #[test]
    fn without_a_bound_there_is_no_worst_case() {
        let mut item = item("{}");
        item.tariff = None;
        assert_eq!(item.worst_case(), None);
        let mut endless = Tariff::clone(&tariff("m"));
        endless.max_output = None;
        item.tariff = Some(Arc::new(endless));
        assert_eq!(item.worst_case(), None);
    }

    #[test]
    fn another_model_and_a_cap_change_nothing_else() {
        let mut item = item(r#"{"model":"m","t":1.10,"max_tokens":null,"messages":[ 1 ]}"#);
        item.switch_model(&tariff("cheap"));
        item.cap_output("max_tokens", Tokens(7));
        assert_eq!(
            body(&item),
            r#"{"t":1.10,"messages":[ 1 ],"model":"cheap","max_tokens":7}"#
        );
        assert_eq!((&*item.model, item.max_output), ("cheap", Some(Tokens(7))));
        assert_eq!(item.tariff.unwrap().model, "cheap".into());
    }
}
