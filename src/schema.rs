//! Whether an answer is the JSON that its request asked for.               [the only jsonschema]
//!
//! Servers that promise a schema keep it by force, others just try. Pure but for a cache: a run
//! mostly has one schema, and compiling it costs far more than applying it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jsonschema::Validator;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Schemas that are kept compiled; a file with one of its own in each line keeps none for long.
const KEPT: usize = 64;

/// The compiled schemas of a run.
#[derive(Default)]
pub struct Schemas(Mutex<HashMap<String, Option<Arc<Validator>>>>);

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    response_format: Option<Format<'a>>,
}

#[derive(Deserialize)]
struct Format<'a> {
    #[serde(borrow)]
    json_schema: Option<Named<'a>>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
}

impl Schemas {
    /// Says what is wrong with an answer to a request for JSON; `None` if nothing is.
    pub fn complaint(&self, request: &[u8], answer: &str) -> Option<String> {
        let Ok(answer) = serde_json::from_str::<Value>(answer) else {
            return Some("is not JSON".to_owned());
        };
        let request: Request<'_> = serde_json::from_slice(request).ok()?;
        let schema = request.response_format?.json_schema?.schema?;
        let validator = self.compiled(schema.get())?;
        let error = validator.iter_errors(&answer).next()?;
        let place = error.instance_path().to_string();
        let place = if place.is_empty() {
            String::new()
        } else {
            format!(" at {place}")
        };
        Some(format!("does not keep to the schema{place}: {error}"))
    }

    /// Returns a schema ready to apply; `None` where it is none itself, which is for the provider
    /// to say.
    fn compiled(&self, schema: &str) -> Option<Arc<Validator>> {
        let mut kept = self
            .0
            .lock()
            .expect("no code panics while it holds this lock");
        if let Some(known) = kept.get(schema) {
            return known.clone();
        }
        if kept.len() >= KEPT {
            kept.clear();
        }
        let compiled = serde_json::from_str(schema)
            .ok()
            .and_then(|schema| jsonschema::validator_for(&schema).ok())
            .map(Arc::new);
        kept.insert(schema.to_owned(), compiled.clone());
        compiled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = br#"{"model":"m","response_format":{"type":"json_schema","json_schema":{"name":"n","schema":
        {"type":"object","properties":{"label":{"enum":["a","b"]}},"required":["label"]}}},"messages":[]}"#;

    fn complaint(request: &[u8], answer: &str) -> Option<String> {
        Schemas::default().complaint(request, answer)
    }

    #[test]
    fn an_answer_that_keeps_to_its_schema_is_fine() {
        assert_eq!(complaint(REQUEST, r#" {"label":"a","more":1} "#), None);
    }

    #[test]
    fn what_breaks_the_schema_is_named_with_its_place() {
        let said = complaint(REQUEST, r#"{"label":"c"}"#).unwrap();
        assert!(
            said.starts_with("does not keep to the schema at /label: "),
            "{said}"
        );
        let said = complaint(REQUEST, "{}").unwrap();
        assert!(said.starts_with("does not keep to the schema: "), "{said}");
    }

    #[test]
    fn without_a_schema_any_json_is_fine() {
        let request = br#"{"response_format":{"type":"json_object"}}"#;
        assert_eq!(complaint(request, "[1]"), None);
        assert_eq!(
            complaint(request, "```json\n{}```").as_deref(),
            Some("is not JSON")
        );
    }

    #[test]
    fn a_schema_that_is_none_or_points_elsewhere_is_left_to_the_provider() {
        for schema in [
            r#"{"type":7}"#,
            r#"{"$ref":"http://127.0.0.1:1/s.json"}"#,
            "7",
        ] {
            let request =
                format!(r#"{{"response_format":{{"json_schema":{{"schema":{schema}}}}}}}"#);
            assert_eq!(complaint(request.as_bytes(), "{}"), None, "{schema}");
        }
    }

    #[test]
    fn many_schemas_do_not_fill_the_memory() {
        let schemas = Schemas::default();
        for n in 0..3 * KEPT {
            let request =
                format!(r#"{{"response_format":{{"json_schema":{{"schema":{{"const":{n}}}}}}}}}"#);
            assert_eq!(schemas.complaint(request.as_bytes(), &n.to_string()), None);
        }
        assert!(schemas.0.lock().unwrap().len() <= KEPT);
    }
}
