//! LiteLLM's price JSON as it is: one object, a key for each model, dollars per single token.
//!
//! The file is kept by many hands and grows weekly, so it is read leniently: what is odd costs
//! one entry its price, never the file. A price is taken whole or not at all, since one without
//! its odd part could be too low.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::list::weight;
use super::sheet::Sheet;
use super::{List, Model, Origin};
use crate::words::fields::LenientFields;
use crate::words::money::Rate;
use crate::words::price::Service;
use crate::words::tokens::Tokens;

/// The key that holds an explanation instead of a model.
const EXPLANATION: &str = "sample_spec";

/// Modes that are paid for by the token.
const MODES: &[&str] = &["chat", "completion", "responses", "embedding"];

/// What is paid for beside the tokens of every request: with one of these, tokens are not the price.
const OTHER_METERS: &[&str] = &["input_cost_per_request", "citation_cost_per_token"];

/// Reads a whole file. Of two entries for one model the dearer one is kept.
pub(super) fn read(top: LenientFields) -> Result<List, String> {
    let mut models: Vec<Model> = Vec::with_capacity(top.count());
    let mut known = HashMap::new();
    for (key, value) in top.iter().filter(|(key, _)| *key != EXPLANATION) {
        let Some(model) = LenientFields::parse(value.get())
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
            Slot::Occupied(at) if weight(&model) > weight(&models[*at.get()]) => {
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

/// Reads one entry; nothing where it is no model that is paid for by the token.
fn model(key: &str, entry: &LenientFields) -> Option<Model> {
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
fn sheet(entry: &LenientFields, mode: Option<&str>) -> Option<Sheet> {
    let is_more = |meter: &&str| entry.raw(meter).is_some_and(|value| !is_nothing(value));
    if OTHER_METERS.iter().any(is_more) {
        return None;
    }
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
    let tiers: Vec<LenientFields> = serde_json::from_str(value.get()).ok()?;
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

/// What a key stands for.
#[derive(Debug, Clone, Copy)]
struct Column {
    kind: Kind,
    served: Service,
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
            Service::Standard => &mut sheet.standard,
            Service::Batch => &mut sheet.batch,
            Service::Flex => &mut sheet.flex,
            Service::Priority => &mut sheet.priority,
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
        ("_batches", Service::Batch),
        ("_flex", Service::Flex),
        ("_priority", Service::Priority),
    ];
    let cut = |(suffix, served): &(&str, Service)| Some((key.strip_suffix(suffix)?, *served));
    let (key, served) = services
        .iter()
        .find_map(cut)
        .unwrap_or((key, Service::Standard));
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

/// Tells whether a price is zero or not there.
fn is_nothing(value: &RawValue) -> bool {
    let text = value.get();
    text == "null" || Rate::per_token(unquoted(text)) == Ok(Rate::default())
}

fn unquoted(text: &str) -> &str {
    let inner = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::price::Price;
    use crate::words::tokens::Usage;

    const EXCERPT: &str = r#"{
        "sample_spec": {"input_cost_per_token": 0.0, "max_input_tokens": "max input tokens, if known"},
        "gpt-4o": {"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 128000,
            "max_output_tokens": 16384.0, "input_cost_per_token": 2.5e-06,
            "output_cost_per_token": 0.00001, "cache_read_input_token_cost": "1.25e-06",
            "input_cost_per_token_batches": 1.25E-6, "output_cost_per_token_batches": 5e-06,
            "cache_read_input_token_cost_priority": null, "supports_vision": true},
        "gpt-5.5": {"litellm_provider": "openai", "mode": "chat", "max_input_tokens": "1050000",
            "input_cost_per_token": 5e-06, "output_cost_per_token": 3e-05,
            "input_cost_per_token_above_272k_tokens": 1e-05,
            "output_cost_per_token_above_272k_tokens": 4.5e-05,
            "input_cost_per_token_flex": 2.5e-06, "output_cost_per_token_flex": 1.5e-05,
            "input_cost_per_token_above_272k_tokens_flex": 5e-06,
            "output_cost_per_token_above_272k_tokens_flex": 2.25e-05,
            "input_cost_per_token_priority": 1.25e-05, "output_cost_per_token_priority": 7.5e-05,
            "input_cost_per_token_ultrafast": 6e-05, "deprecation_date": "2030-01-31"},
        "claude-sonnet-4-6": {"litellm_provider": "anthropic", "mode": "chat",
            "input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05,
            "cache_read_input_token_cost": 3e-07, "cache_creation_input_token_cost": 3.75e-06,
            "cache_creation_input_token_cost_above_1hr": 6e-06},
        "together_ai/org/Model": {"litellm_provider": "together_ai", "mode": "chat",
            "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06},
        "fireworks_ai/accounts/f/models/m": {"litellm_provider": "fireworks_ai", "mode": "chat",
            "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06},
        "vertex_ai/claude-x": {"litellm_provider": "vertex_ai-anthropic_models", "mode": "chat",
            "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06},
        "tiered": {"litellm_provider": "dashscope", "mode": "chat", "tiered_pricing": [
            {"range": [0, 256000.0], "input_cost_per_token": 5e-08, "output_cost_per_token": 4e-07},
            {"range": [256000.0, 1000000.0], "input_cost_per_token": 2.5e-07, "output_cost_per_token": 2e-06},
            {"max_results_range": [0, 5], "input_cost_per_query": 0.1}]},
        "deepseek/chat": {"litellm_provider": "deepseek", "mode": "chat",
            "input_cost_per_token": 3e-07, "output_cost_per_token": 1.2e-06,
            "cache_creation_input_token_cost": 0.0},
        "deepseek-v": {"litellm_provider": "deepseek", "input_cost_per_token": 1e-07, "output_cost_per_token": 1e-07},
        "deepseek/deepseek-v": {"litellm_provider": "deepseek", "input_cost_per_token": 2e-07, "output_cost_per_token": 1e-07},
        "embed": {"litellm_provider": "openai", "mode": "embedding", "input_cost_per_token": 1e-07},
        "free": {"litellm_provider": "groq", "mode": "chat", "input_cost_per_token": 0.0, "output_cost_per_token": 0},
        "by-request": {"litellm_provider": "groq", "mode": "chat", "input_cost_per_token": 1e-06,
            "output_cost_per_token": 2e-06, "input_cost_per_request": 0.005},
        "by-token": {"litellm_provider": "groq", "mode": "chat", "input_cost_per_token": 1e-06,
            "output_cost_per_token": 2e-06, "input_cost_per_request": 0.0, "citation_cost_per_token": null},
        "unpriced": {"litellm_provider": "groq", "mode": "chat", "max_output_tokens": 4096},
        "half": {"litellm_provider": "groq", "mode": "chat", "input_cost_per_token": 1e-06},
        "odd": {"litellm_provider": "groq", "mode": "chat", "max_input_tokens": 8192,
            "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06,
            "input_cost_per_token_above_128k_tokens": "see the website"},
        "negative": {"litellm_provider": "groq", "input_cost_per_token": -1, "output_cost_per_token": -1},
        "dated": {"litellm_provider": "groq", "input_cost_per_token": 1e-06,
            "output_cost_per_token": 2e-06, "deprecation_date": "soon", "max_output_tokens": [1]},
        "dall-e": {"litellm_provider": "openai", "mode": "image_generation", "input_cost_per_token": 1e-06, "output_cost_per_token": 0},
        "note": "no object",
        "mine": {"input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06}
    }"#;

    fn model(provider: &str, name: &str) -> Model {
        let list = read(LenientFields::parse(EXCERPT).unwrap()).unwrap();
        let mut models = list.models().iter();
        let model = models.find(|model| {
            model.name == name && model.provider.as_deref().unwrap_or("") == provider
        });
        model.unwrap_or_else(|| panic!("no {name}")).clone()
    }

    fn price(provider: &str, name: &str) -> Arc<Price> {
        model(provider, name).price.unwrap()
    }

    fn cost(price: &Price, prompt: u64, completion: u64, service: Service) -> String {
        let usage = Usage {
            prompt: Tokens(prompt),
            completion: Tokens(completion),
            service,
            ..Usage::default()
        };
        price.cost(&usage).unwrap().to_string()
    }

    #[test]
    fn prices_are_read_by_their_digits() {
        let gpt_4o = price("openai", "gpt-4o");
        let used = Usage {
            prompt: Tokens(10_000),
            completion: Tokens(500),
            cached: Some(Tokens(4_000)),
            ..Usage::default()
        };
        assert_eq!(gpt_4o.cost(&used).unwrap().to_string(), "0.025");
        assert_eq!(cost(&gpt_4o, 10_000, 500, Service::Batch), "0.015");
        assert_eq!(gpt_4o.priority, None);
    }

    #[test]
    fn writing_and_reading_a_cache_are_priced() {
        let used = Usage {
            prompt: Tokens(13_000),
            completion: Tokens(500),
            cached: Some(Tokens(10_000)),
            cache_write: Some(Tokens(2_000)),
            ..Usage::default()
        };
        let sonnet = price("anthropic", "claude-sonnet-4-6");
        assert_eq!(sonnet.cost(&used).unwrap().to_string(), "0.021");
        let long = sonnet.standard.base().cache_write_long;
        assert_eq!(long, Some(Rate::per_million("6").unwrap()));
    }

    #[test]
    fn a_long_prompt_has_a_price_at_every_service() {
        let gpt = price("openai", "gpt-5.5");
        assert_eq!(cost(&gpt, 300_000, 1_000, Service::Standard), "3.045");
        assert_eq!(cost(&gpt, 272_000, 1_000, Service::Standard), "1.39");
        assert_eq!(cost(&gpt, 300_000, 1_000, Service::Flex), "1.5225");
        // Nothing is said of a long prompt there; this is the service's own price, the dearer.
        assert_eq!(cost(&gpt, 300_000, 1_000, Service::Priority), "3.825");
    }

    #[test]
    fn ranges_are_prices_above_borders() {
        let tiered = price("dashscope", "tiered");
        assert_eq!(cost(&tiered, 256_000, 0, Service::Standard), "0.0128");
        assert_eq!(cost(&tiered, 256_001, 0, Service::Standard), "0.06400025");
    }

    #[test]
    fn the_provider_goes_from_the_name() {
        for (provider, name) in [
            ("together", "org/Model"),
            ("fireworks", "accounts/f/models/m"),
            ("vertex_ai", "claude-x"),
            ("deepseek", "chat"),
            ("", "mine"),
        ] {
            assert!(model(provider, name).price.is_some(), "{name}");
        }
    }

    #[test]
    fn limits_and_the_last_day_are_read_in_every_spelling() {
        let gpt_4o = model("openai", "gpt-4o");
        assert_eq!(gpt_4o.max_input, Some(Tokens(128_000)));
        assert_eq!(gpt_4o.max_output, Some(Tokens(16_384)));
        let gpt_5 = model("openai", "gpt-5.5");
        assert_eq!(gpt_5.max_input, Some(Tokens(1_050_000)));
        assert_eq!(gpt_5.retires.unwrap().to_string(), "2030-01-31");
    }

    #[test]
    fn a_missing_price_is_unknown_and_a_zero_is_free() {
        for name in ["unpriced", "half", "odd", "negative"] {
            assert_eq!(model("groq", name).price, None, "{name}");
        }
        assert_eq!(model("groq", "odd").max_input, Some(Tokens(8192)));
        assert_eq!(model("groq", "unpriced").max_output, Some(Tokens(4096)));
        let free = price("groq", "free");
        assert_eq!(cost(&free, 1_000, 1_000, Service::Standard), "0");
        let embed = price("openai", "embed");
        assert_eq!(cost(&embed, 1_000_000, 0, Service::Standard), "0.1");
    }

    #[test]
    fn what_is_paid_for_by_the_request_too_has_no_price_by_the_token() {
        assert_eq!(model("groq", "by-request").price, None);
        assert!(model("groq", "by-token").price.is_some());
    }

    #[test]
    fn an_odd_field_costs_nothing_but_itself() {
        let dated = model("groq", "dated");
        assert_eq!((dated.retires, dated.max_output), (None, None));
        assert!(dated.price.is_some());
    }

    #[test]
    fn writing_a_cache_for_nothing_still_costs_the_input() {
        let price = price("deepseek", "chat");
        assert_eq!(price.standard.base().cache_write, None);
    }

    #[test]
    fn of_two_entries_for_one_model_the_dearer_is_kept() {
        assert_eq!(
            cost(
                &price("deepseek", "deepseek-v"),
                1_000_000,
                0,
                Service::Standard
            ),
            "0.2"
        );
    }

    #[test]
    fn what_is_no_model_by_the_token_is_left_out() {
        let list = read(LenientFields::parse(EXCERPT).unwrap()).unwrap();
        for name in ["sample_spec", "dall-e", "note"] {
            assert!(list.models().iter().all(|model| model.name != name));
        }
        let deepseek = list.models().iter().filter(|m| m.name == "deepseek-v");
        assert_eq!(deepseek.count(), 1);
    }
}
