//! What tools cost in a prompt, by the rule that OpenAI published for them.
//!
//! The rule speaks of functions with plain parameters. Parameters inside parameters are counted
//! as if they were parameters themselves, which makes the count an estimate.

use serde_json::{Map, Value};

use super::Encoding;

/// For each parameter list, each parameter and each value of an enumeration.
const PARAMETERS: u64 = 3;
const PARAMETER: u64 = 3;
const VALUE: u64 = 3;
/// An enumeration costs this much less than its values.
const ENUMERATION: u64 = 3;
/// Once, behind all functions.
const END: u64 = 12;

/// The tokens of tools, and whether the rule covers all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tools {
    pub tokens: u64,
    pub exact: bool,
}

/// Counts `tools`, or `functions`, which are the same without a shell around each.
pub fn count(encoding: Encoding, tools: &[Value]) -> Tools {
    let mut counted = Tools {
        tokens: 0,
        exact: true,
    };
    for tool in tools {
        match tool.get("function").unwrap_or(tool).as_object() {
            Some(function) if function.contains_key("name") => {
                count_function(encoding, function, &mut counted);
            }
            // Tools of another kind are not described by the user.
            _ => counted.add_estimate(encoding.count(&tool.to_string()).0),
        }
    }
    if !tools.is_empty() {
        counted.tokens += END;
    }
    counted
}

impl Tools {
    fn add_estimate(&mut self, tokens: u64) {
        self.tokens += tokens;
        self.exact = false;
    }
}

fn count_function(encoding: Encoding, function: &Map<String, Value>, counted: &mut Tools) {
    let per_function = match encoding {
        Encoding::Cl100kBase => 10,
        Encoding::O200kBase | Encoding::O200kHarmony => 7,
    };
    let line = format!("{}:{}", text(function, "name"), description(function));
    counted.tokens += per_function + encoding.count(&line).0;
    if let Some(Value::Object(parameters)) = function.get("parameters") {
        count_parameters(encoding, parameters, counted);
    }
}

fn count_parameters(encoding: Encoding, schema: &Map<String, Value>, counted: &mut Tools) {
    let Some(Value::Object(properties)) = schema.get("properties") else {
        return;
    };
    if !properties.is_empty() {
        counted.tokens += PARAMETERS;
    }
    for (name, property) in properties {
        let Some(property) = property.as_object() else {
            continue;
        };
        let line = format!(
            "{name}:{}:{}",
            text(property, "type"),
            description(property)
        );
        counted.tokens += PARAMETER + encoding.count(&line).0;
        if let Some(Value::Array(values)) = property.get("enum") {
            let values = values
                .iter()
                .map(|value| VALUE + encoding.count(&plain(value)).0);
            counted.tokens = (counted.tokens + values.sum::<u64>()).saturating_sub(ENUMERATION);
        }
        let inner = [
            Some(property),
            property.get("items").and_then(Value::as_object),
        ];
        for inner in inner.into_iter().flatten() {
            if inner.contains_key("properties") {
                counted.exact = false;
                count_parameters(encoding, inner, counted);
            }
        }
    }
}

fn text(object: &Map<String, Value>, key: &str) -> String {
    object.get(key).map(plain).unwrap_or_default()
}

fn description(object: &Map<String, Value>) -> String {
    let text = text(object, "description");
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

/// Returns a string without its quotes, and anything else as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
