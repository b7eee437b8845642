//! LiteLLM's price JSON as it is: one object, a key for each model, dollars per single token.
//!
//! The file is kept by many hands and grows weekly, so it is read leniently: what is odd costs
//! one entry its price, never the file. A price is taken whole or not at all, since one without
//! its odd part could be too low.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::sheet::Sheet;
use super::{List, Model, Origin};
use crate::words::fields::Key;
use crate::words::money::Rate;
use crate::words::tokens::Tokens;

/// The key that holds an explanation instead of a model.
const EXPLANATION: &str = "sample_spec";

/// Modes that are paid for by the token.
const MODES: &[&str] = &["chat", "completion", "responses", "embedding"];

/// Reads a whole file. Of two entries for one model the dearer one is kept.
pub(super) fn read(top: Pairs) -> Result<List, String> {
    let mut models: Vec<Model> = Vec::with_capacity(top.0.len());
    let mut known = HashMap::new();
    for (key, value) in top.iter().filter(|(key, _)| *key != EXPLANATION) {
        let Some(model) = Pairs::parse(value.get())
            .ok()
            .and_then(|entry| model(key, &entry))
        else {
            continue;
        };
        match known.entry((model.provider.clone(), model.name.clone())) {
            Slot::Vacant(slot) => {
                slot.insert(models.len());
                models.push(model);
            }
            Slot::Occupied(at) if is_dearer(&model, &models[*at.get()]) => {
                models[*at.get()] = model
            }
            Slot::Occupied(_) => {}
        }
    }
    if models.is_empty() {
        return Err("has no models in it".into());
    }
    Ok(List::new(models))
}

fn is_dearer(one: &Model, other: &Model) -> bool {
    let input = |model: &Model| Some(model.price.as_ref()?.standard.base().input);
    input(one) > input(other)
}

/// Reads one entry; nothing where it is no model that is paid for by the token.
fn model(key: &str, entry: &Pairs) -> Option<Model> {
    let mode = entry.text("mode");
    if mode.as_deref().is_some_and(|mode| !MODES.contains(&mode)) {
        return None;
    }
    // Not even a limit or a provider: some other JSON object.
    let named = entry.text("litellm_provider");
    let is_model = |field: &str| field.ends_with("_tokens") || field.contains("cost_per_token");
    if named.is_none() && !entry.iter().any(|(field, _)| is_model(field)) {
        return None;
    }
    let (provider, name) = placed(key, named.as_deref());
    let price = sheet(entry, mode.as_deref()).and_then(|sheet| sheet.price());
    Some(Model {
        provider,
        name: name.to_owned(),
        price: price.map(Arc::new),
        max_input: entry.raw("max_input_tokens").and_then(tokens),
        max_output: entry.raw("max_output_tokens").and_then(tokens),
        retires: entry
            .text("deprecation_date")
            .and_then(|date| date.parse().ok()),
        from: Origin::File,
    })
}

/// Returns our name of the provider, and the model's name without the provider before it.
fn placed<'k>(key: &'k str, named: Option<&str>) -> (Option<String>, &'k str) {
    let Some(named) = named else {
        return (None, key);
    };
    let provider = match named {
        "together_ai" => "together",
        "fireworks_ai" | "fireworks_ai-embedding-models" => "fireworks",
        "text-completion-openai" => "openai",
        "azure_text" => "azure",
        "bedrock_converse" => "bedrock",
        vertex if vertex.starts_with("vertex_ai") => "vertex_ai",
        other => other,
    };
    let name = match key.split_once('/') {
        Some((prefix, rest)) if prefix == provider || named.starts_with(prefix) => rest,
        _ => key,
    };
    (Some(provider.to_owned()), name)
}

/// Collects an entry's prices; nothing where one of them cannot be read.
fn sheet(entry: &Pairs, mode: Option<&str>) -> Option<Sheet> {
    let mut sheet = Sheet::default();
    for (key, value) in entry.iter() {
        let Some(column) = column(key) else {
            continue;
        };
        *column.field(&mut sheet) = column.rate(value)?;
    }
    if let Some(tiers) = entry.raw("tiered_pricing") {
        tiered(tiers, &mut sheet)?;
    }
    let base = &mut sheet.standard.base;
    if mode == Some("embedding") {
        base.output = base.output.or(Some(Rate::default()));
    }
    Some(sheet)
}

/// Reads prices that stand in a list, each with the range of prompt tokens in which it holds.
fn tiered(value: &RawValue, sheet: &mut Sheet) -> Option<()> {
    let tiers: Vec<Pairs> = serde_json::from_str(value.get()).ok()?;
    for tier in tiers {
        let Some(range) = tier.raw("range") else {
            continue;
        };
        let [from, _]: [f64; 2] = serde_json::from_str(range.get()).ok()?;
        for (key, value) in tier.iter() {
            let Some(mut column) = column(key) else {
                continue;
            };
            let rate = column.rate(value)?;
            if from > 0.0 {
                column.above = Some(Tokens(from as u64));
                *column.field(sheet) = rate;
            } else {
                let base = column.field(sheet);
                *base = base.or(rate);
            }
        }
    }
    Some(())
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Input,
    Output,
    Cached,
    CacheWrite,
    CacheWriteLong,
    Reasoning,
}

#[derive(Debug, Clone, Copy)]
enum Served {
    Standard,
    Batch,
    Flex,
    Priority,
}

/// What a key stands for.
#[derive(Debug, Clone, Copy)]
struct Column {
    kind: Kind,
    served: Served,
    above: Option<Tokens>,
}

impl Column {
    /// Reads a price by its digits, also where they stand in quotes. `null` is no price; the
    /// outer `None` means that it cannot be read.
    fn rate(self, value: &RawValue) -> Option<Option<Rate>> {
        let text = value.get();
        if text == "null" {
            return Some(None);
        }
        let rate = Rate::per_token(unquoted(text)).ok()?;
        // A zero for writing a cache means that nothing is added to the input's price.
        let nothing_added = self.writes_cache() && rate == Rate::default();
        Some((!nothing_added).then_some(rate))
    }

    fn writes_cache(self) -> bool {
        matches!(self.kind, Kind::CacheWrite | Kind::CacheWriteLong)
    }

    fn field(self, sheet: &mut Sheet) -> &mut Option<Rate> {
        let ladder = match self.served {
            Served::Standard => &mut sheet.standard,
            Served::Batch => &mut sheet.batch,
            Served::Flex => &mut sheet.flex,
            Served::Priority => &mut sheet.priority,
        };
        let stated = match self.above {
            Some(border) => ladder.above.entry(border).or_default(),
            None => &mut ladder.base,
        };
        match self.kind {
            Kind::Input => &mut stated.input,
            Kind::Output => &mut stated.output,
            Kind::Cached => &mut stated.cached,
            Kind::CacheWrite => &mut stated.cache_write,
            Kind::CacheWriteLong => &mut stated.cache_write_long,
            Kind::Reasoning => &mut stated.reasoning,
        }
    }
}

/// Reads a key such as `input_cost_per_token_above_272k_tokens_batches`.
fn column(key: &str) -> Option<Column> {
    let services = [
        ("_batches", Served::Batch),
        ("_flex", Served::Flex),
        ("_priority", Served::Priority),
    ];
    let cut = |(suffix, served): &(&str, Served)| Some((key.strip_suffix(suffix)?, *served));
    let (key, served) = services
        .iter()
        .find_map(cut)
        .unwrap_or((key, Served::Standard));
    let (key, above) = match key.strip_suffix("k_tokens") {
        Some(rest) => {
            let (key, thousands) = rest.rsplit_once("_above_")?;
            let thousands: u64 = thousands.parse().ok()?;
            (key, Some(Tokens(thousands.saturating_mul(1000))))
        }
        None => (key, None),
    };
    let kind = match key {
        "input_cost_per_token" => Kind::Input,
        "output_cost_per_token" => Kind::Output,
        "output_cost_per_reasoning_token" => Kind::Reasoning,
        "cache_read_input_token_cost" => Kind::Cached,
        "cache_creation_input_token_cost" => Kind::CacheWrite,
        "cache_creation_input_token_cost_above_1hr"
        | "cache_creation_input_token_cost_above_12hr" => Kind::CacheWriteLong,
        _ => return None,
    };
    Some(Column {
        kind,
        served,
        above,
    })
}

fn tokens(value: &RawValue) -> Option<Tokens> {
    let number: f64 = unquoted(value.get()).parse().ok()?;
    (number >= 1.0).then_some(Tokens(number as u64))
}

fn unquoted(text: &str) -> &str {
    let inner = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or(text)
}

/// The fields of an object in their order. Of a key that stands twice the last one counts.
pub(super) struct Pairs<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Pairs<'a> {
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), *value))
    }

    fn raw(&self, key: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, value)| *value)
    }

    fn text(&self, key: &str) -> Option<String> {
        serde_json::from_str(self.raw(key)?.get()).ok()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(Key(key)) = map.next_key()? {
                    pairs.push((key, map.next_value()?));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}
