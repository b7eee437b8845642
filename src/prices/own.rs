//! The layout of our own price files, which the built-in table has too.
//!
//! ```json
//! {"version": 1, "date": "2026-11-22", "source": "our contract", "unit": "USD per 1M tokens",
//!  "models": [{"provider": "openai", "model": "gpt-4o", "input": 2.5, "output": 10}]}
//! ```
//!
//! Only `version` and `models` are needed, and of a model only `model`. Prices are numbers in
//! dollars per million tokens: `input` and `output` (an embedding's is 0), then `cached_input`,
//! `cache_write`, `cache_write_long` and `reasoning`. `batch`, `flex` and `priority` are objects
//! of the same fields. `long_prompt` is a list of objects of all of these, each with `above`: the
//! prompt tokens above which it holds. Beside them stand `max_input` and `max_output` in tokens
//! and `retires`, a date. Without `provider` a model is the same at every provider.
//!
//! What is not known is left out. A field or a version that this program does not know is
//! refused: a price that is misspelled must not be taken for one that is not there.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use jiff::civil::Date;
use serde_json::value::RawValue;

use super::sheet::{Ladder, Sheet, Stated};
use super::{List, Model, Origin};
use crate::words::fields::{Fields, LenientFields, ObjectWriter, quoted};
use crate::words::money::Rate;
use crate::words::price::{Price, Rates};
use crate::words::tokens::Tokens;

const VERSION: &str = "1";
const UNIT: &str = "USD per 1M tokens";

/// Tells whether a file is of this layout.
pub(super) fn is_own(top: &LenientFields) -> bool {
    top.iter().any(|(key, value)| match key {
        "models" => value.get().starts_with('['),
        "version" => !value.get().starts_with('{'),
        _ => false,
    })
}

/// Reads a whole file.
pub(super) fn read(text: &str, from: Origin) -> Result<List, String> {
    let top = Fields::parse(text).map_err(|error| format!("is not a list of prices: {error}"))?;
    let version = top.raw("version").ok_or(r#"has no "version""#)?.get();
    if version != VERSION {
        return Err(format!(
            "is of version {version}; version {VERSION} is known here"
        ));
    }
    let mut list = List::default();
    let (mut date, mut source) = (None, None);
    for (key, value) in top.iter() {
        match key {
            "version" => {}
            "date" => date = Some(day(value).map_err(|why| format!("has a bad date: {why}"))?),
            "source" => {
                source = Some(word(value).map_err(|why| format!("has a bad source: {why}"))?)
            }
            "unit" if word(value).as_deref() == Ok(UNIT) => {}
            "unit" => return Err(format!("is in {value}; prices are read in {UNIT:?}")),
            "models" => list = List::new(models(value, from)?),
            _ => return Err(format!("has a field {key:?} that is not known")),
        }
    }
    if list.models().is_empty() {
        return Err("has no models in it".into());
    }
    (list.date, list.source) = (date, source);
    Ok(list)
}

fn models(value: &RawValue, from: Origin) -> Result<Vec<Model>, String> {
    let entries: Vec<&RawValue> =
        serde_json::from_str(value.get()).map_err(|_| r#"has no list in "models""#)?;
    let mut known = HashSet::new();
    let mut models = Vec::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        let model = model(entry, from).map_err(|(name, why)| match name {
            Some(name) => format!("is wrong at model {name:?}: {why}"),
            None => format!("is wrong at model number {}: {why}", at + 1),
        })?;
        if !known.insert((model.provider.clone(), model.name.clone())) {
            return Err(format!("has the model {:?} twice", model.name));
        }
        models.push(model);
    }
    Ok(models)
}

/// Reads one model, or says what is wrong with it, by its name where it has one.
fn model(entry: &RawValue, from: Origin) -> Result<Model, (Option<String>, String)> {
    let fields = Fields::parse(entry.get()).map_err(|error| (None, error.to_string()))?;
    let name = fields.raw("model").and_then(|value| word(value).ok());
    let name = name.filter(|name| !name.is_empty());
    let name = name.ok_or((None, r#"it has no name in "model""#.to_owned()))?;
    let mut model = Model {
        provider: None,
        name: name.clone(),
        price: None,
        max_input: None,
        max_output: None,
        retires: None,
        from,
    };
    fill(&mut model, &fields).map_err(|why| (Some(name), why))?;
    Ok(model)
}

fn fill(model: &mut Model, fields: &Fields) -> Result<(), String> {
    let mut sheet = Sheet::default();
    for (key, value) in fields.iter().filter(|(_, value)| value.get() != "null") {
        let wrong = |why| format!("{key:?} is {value}: {why}");
        match key {
            "model" => {}
            // `any` is how `models` shows that it holds everywhere.
            "provider" => {
                model.provider = Some(word(value).map_err(wrong)?).filter(|name| name != "any");
            }
            "max_input" => model.max_input = Some(amount(value).map_err(wrong)?),
            "max_output" => model.max_output = Some(amount(value).map_err(wrong)?),
            "retires" => model.retires = Some(day(value).map_err(wrong)?),
            "long_prompt" => long_prompts(value, &mut sheet)?,
            _ => price_field(key, value, &mut sheet, None)?,
        }
    }
    check_whole(&sheet)?;
    model.price = sheet.price().map(Arc::new);
    Ok(())
}

/// Reads the prices above each border.
fn long_prompts(value: &RawValue, sheet: &mut Sheet) -> Result<(), String> {
    let entries: Vec<Fields> = serde_json::from_str(value.get())
        .map_err(|_| r#""long_prompt" is not a list of objects"#.to_owned())?;
    for fields in entries {
        let above = fields.raw("above").map(amount);
        let Some(Ok(border)) = above else {
            return Err(r#""long_prompt" lacks the number of tokens in "above""#.into());
        };
        if sheet.standard.above.contains_key(&border) {
            return Err(format!(r#""long_prompt" has {} twice"#, border.0));
        }
        sheet.standard.above.insert(border, Stated::default());
        let prices = fields.iter().filter(|(key, _)| *key != "above");
        for (key, value) in prices.filter(|(_, value)| value.get() != "null") {
            price_field(key, value, sheet, Some(border))?;
        }
    }
    Ok(())
}

/// Reads a price of the standard service, or an object with those of another one.
fn price_field(
    key: &str,
    value: &RawValue,
    sheet: &mut Sheet,
    above: Option<Tokens>,
) -> Result<(), String> {
    let ladder = match key {
        "batch" => &mut sheet.batch,
        "flex" => &mut sheet.flex,
        "priority" => &mut sheet.priority,
        _ => return rate(key, value, stated(&mut sheet.standard, above)),
    };
    let fields = Fields::parse(value.get()).map_err(|_| format!("{key:?} is not an object"))?;
    for (name, value) in fields.iter().filter(|(_, value)| value.get() != "null") {
        rate(name, value, stated(ladder, above)).map_err(|why| format!("in {key:?} {why}"))?;
    }
    Ok(())
}

fn stated(ladder: &mut Ladder, above: Option<Tokens>) -> &mut Stated {
    match above {
        Some(border) => ladder.above.entry(border).or_default(),
        None => &mut ladder.base,
    }
}

fn rate(key: &str, value: &RawValue, into: &mut Stated) -> Result<(), String> {
    let field = match key {
        "input" => &mut into.input,
        "output" => &mut into.output,
        "cached_input" => &mut into.cached,
        "cache_write" => &mut into.cache_write,
        "cache_write_long" => &mut into.cache_write_long,
        "reasoning" => &mut into.reasoning,
        _ => return Err(format!("the field {key:?} is not known")),
    };
    let rate = Rate::per_million(value.get());
    *field = Some(rate.map_err(|why| format!("{key:?} is {value}: {why}"))?);
    Ok(())
}

/// Refuses prices of which a half is missing, or the ones that they differ from.
fn check_whole(sheet: &Sheet) -> Result<(), String> {
    let ladders = [&sheet.standard, &sheet.batch, &sheet.flex, &sheet.priority];
    let all = ladders.iter().flat_map(|ladder| {
        let long = ladder.above.values();
        [&ladder.base].into_iter().chain(long)
    });
    let mut stated = all
        .filter(|stated| **stated != Stated::default())
        .peekable();
    if stated.peek().is_some() && sheet.standard.base == Stated::default() {
        return Err(r#"it has prices, but no "input" and "output""#.into());
    }
    match stated.all(|stated| stated.input.is_some() && stated.output.is_some()) {
        true => Ok(()),
        false => Err(r#"prices need both "input" and "output""#.into()),
    }
}

/// Writes models in this layout, a line for each.
pub(super) fn write(models: &[&Model], date: Option<Date>, source: &str) -> String {
    let mut file = ObjectWriter::with_capacity(1024);
    file.field("version", VERSION);
    if let Some(date) = date {
        file.field("date", &quoted(&date.to_string()));
    }
    file.field("source", &quoted(source));
    file.field("unit", &quoted(UNIT));
    let lines: Vec<_> = models.iter().map(|model| written(model)).collect();
    file.field("models", &format!("[\n{}\n]", lines.join(",\n")));
    file.finish()
}

fn written(model: &Model) -> String {
    let mut object = ObjectWriter::with_capacity(256);
    if let Some(provider) = &model.provider {
        object.field("provider", &quoted(provider));
    }
    object.field("model", &quoted(&model.name));
    if let Some(price) = &model.price {
        write_price(price, &mut object);
    }
    for (key, tokens) in [
        ("max_input", model.max_input),
        ("max_output", model.max_output),
    ] {
        if let Some(tokens) = tokens {
            object.field(key, &tokens.0.to_string());
        }
    }
    if let Some(date) = model.retires {
        object.field("retires", &quoted(&date.to_string()));
    }
    object.finish()
}

fn write_price(price: &Price, object: &mut ObjectWriter) {
    let services = [
        ("batch", price.batch.as_ref()),
        ("flex", price.flex.as_ref()),
        ("priority", price.priority.as_ref()),
    ];
    let services: Vec<_> = services
        .into_iter()
        .filter_map(|(key, tiers)| Some((key, tiers?)))
        .collect();
    let mut borders = BTreeSet::new();
    write_rates(price.standard.base(), object);
    borders.extend(price.standard.above().iter().map(|(border, _)| *border));
    for (key, tiers) in &services {
        object.field(key, &nested(tiers.base()));
        borders.extend(tiers.above().iter().map(|(border, _)| *border));
    }
    let step = |border: &Tokens| {
        // A price above a border holds from the next token on.
        let longer = *border + Tokens(1);
        let mut step = ObjectWriter::with_capacity(128);
        step.field("above", &border.0.to_string());
        write_rates(price.standard.rates(longer), &mut step);
        for (key, tiers) in &services {
            step.field(key, &nested(tiers.rates(longer)));
        }
        step.finish()
    };
    let steps: Vec<_> = borders.iter().map(step).collect();
    if !steps.is_empty() {
        object.field("long_prompt", &format!("[{}]", steps.join(",")));
    }
}

fn nested(rates: &Rates) -> String {
    let mut object = ObjectWriter::with_capacity(64);
    write_rates(rates, &mut object);
    object.finish()
}

fn write_rates(rates: &Rates, object: &mut ObjectWriter) {
    for (key, rate) in [
        ("input", Some(rates.input)),
        ("output", Some(rates.output)),
        ("cached_input", rates.cached),
        ("cache_write", rates.cache_write),
        ("cache_write_long", rates.cache_write_long),
        ("reasoning", rates.reasoning),
    ] {
        if let Some(rate) = rate {
            object.field(key, &rate.million().to_string());
        }
    }
}

fn word(value: &RawValue) -> Result<String, String> {
    serde_json::from_str(value.get()).map_err(|_| "it is not a text".into())
}

fn amount(value: &RawValue) -> Result<Tokens, String> {
    match value.get().parse() {
        Ok(number @ 1..) => Ok(Tokens(number)),
        _ => Err("it is not a number of tokens".into()),
    }
}

fn day(value: &RawValue) -> Result<Date, String> {
    let text = word(value)?;
    text.parse()
        .map_err(|_| "it is not a date such as 2026-11-22".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(models: &str) -> String {
        let text = format!(r#"{{"version": 1, "models": [{models}]}}"#);
        read(&text, Origin::File).unwrap_err()
    }

    #[test]
    fn what_is_wrong_is_named_with_its_model_and_field() {
        for (model, why) in [
            (
                r#"{"model": "m", "input": -1, "output": 2}"#,
                r#"is wrong at model "m": "input" is -1: it is negative"#,
            ),
            (
                r#"{"model": "m", "input": "1", "output": 2}"#,
                r#"model "m": "input" is "1": it is not a number"#,
            ),
            (
                r#"{"model": "m", "input": 1, "output": 2, "cache_input": 1}"#,
                r#"model "m": the field "cache_input" is not known"#,
            ),
            (
                r#"{"model": "m", "input": 1}"#,
                r#"model "m": prices need both "input" and "output""#,
            ),
            (
                r#"{"model": "m", "input": 1, "output": 2, "batch": {"input": 1}}"#,
                r#"model "m": prices need both "input" and "output""#,
            ),
            (
                r#"{"model": "m", "input": 1, "output": 2, "batch": {"input": -1, "output": 1}}"#,
                r#"model "m": in "batch" "input" is -1: it is negative"#,
            ),
            (
                r#"{"model": "m", "batch": {"input": 1, "output": 2}}"#,
                r#"model "m": it has prices, but no "input" and "output""#,
            ),
            (
                r#"{"model": "m", "batch": 0.5}"#,
                r#"model "m": "batch" is not an object"#,
            ),
            (
                r#"{"model": "m", "input": 1, "output": 2, "long_prompt": [{"input": 1}]}"#,
                r#"model "m": "long_prompt" lacks the number of tokens in "above""#,
            ),
            (
                r#"{"model": "a"}, {"input": 1}"#,
                r#"is wrong at model number 2: it has no name in "model""#,
            ),
            (
                r#"{"model": "m", "input": 1, "input": 2}"#,
                r#"field "input" stands twice"#,
            ),
            (
                r#"{"model": "m"}, {"model": "m"}"#,
                r#"has the model "m" twice"#,
            ),
        ] {
            let said = refused(model);
            assert!(said.contains(why), "{model}: {said}");
        }
    }

    #[test]
    fn limits_and_days_are_checked() {
        for (model, why) in [
            (
                r#"{"model": "m", "max_input": 1.5}"#,
                r#"model "m": "max_input" is 1.5: it is not a number of tokens"#,
            ),
            (
                r#"{"model": "m", "retires": "soon"}"#,
                r#"model "m": "retires" is "soon": it is not a date such as 2026-11-22"#,
            ),
        ] {
            let said = refused(model);
            assert!(said.contains(why), "{model}: {said}");
        }
    }

    #[test]
    fn other_units_and_unknown_fields_of_the_file_are_refused() {
        let unit = read(r#"{"version": 1, "unit": "EUR"}"#, Origin::File).unwrap_err();
        assert!(unit.contains(r#"is in "EUR""#), "{unit}");
        let field = read(r#"{"version": 1, "model": []}"#, Origin::File).unwrap_err();
        assert!(
            field.contains(r#"a field "model" that is not known"#),
            "{field}"
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        let table = read(include_str!("table.json"), Origin::File).unwrap();
        let models: Vec<_> = table.models().iter().collect();
        let text = write(&models, table.date, "here");
        let again = read(&text, Origin::File).unwrap();
        assert_eq!(again.models(), table.models());
        assert_eq!(
            (again.date, again.source.as_deref()),
            (table.date, Some("here"))
        );
    }

    #[test]
    fn null_is_left_out() {
        let text = r#"{"version": 1, "models": [{"model": "m", "input": 1, "output": 2,
            "cached_input": null, "batch": null, "max_input": null}]}"#;
        let list = read(text, Origin::File).unwrap();
        let price = list.models()[0].price.as_ref().unwrap();
        assert_eq!(price.standard.base().cached, None);
        assert_eq!(price.batch, None);
    }
}
