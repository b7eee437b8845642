//! Tests of single lines.

use super::*;
use crate::words::tokens::Tokens;

fn with_model() -> Defaults {
    Defaults {
        model: Some("m".into()),
        ..Defaults::default()
    }
}

fn shaped(text: &str) -> Shaped {
    shape(text, &with_model()).unwrap_or_else(|problem| panic!("{text}: {problem}"))
}

fn problem(text: &str) -> String {
    shape(text, &with_model()).expect_err(text).to_string()
}

fn body(shaped: &Shaped) -> &str {
    std::str::from_utf8(&shaped.body).unwrap()
}

fn metadata_text(shaped: &Shaped) -> Option<&str> {
    shaped.metadata.as_deref().map(RawValue::get)
}

#[test]
fn a_prompt_line_becomes_messages() {
    let line = shaped(
        r#"{"id":"t-1","prompt":"hi \"x\"","system":"terse","max_tokens":5,"n":2,"customer":42}"#,
    );
    assert_eq!(line.id.as_deref(), Some("t-1"));
    assert_eq!(
        body(&line),
        r#"{"model":"m","max_tokens":5,"n":2,"messages":[{"role":"system","content":"terse"},{"role":"user","content":"hi \"x\""}]}"#
    );
    assert_eq!(metadata_text(&line), Some(r#"{"customer":42}"#));
    assert_eq!(line.bounds.output, Some(Tokens(10)));
    assert!(line.model_is_shared);
}

#[test]
fn a_batch_line_passes_byte_for_byte() {
    let text = r#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{ "model":"x" , "messages":[{"role":"user","content":"\ud800"}],"seed":1.0,"whatever":1}, "note":7}"#;
    let line = shaped(text);
    assert!(text.contains(body(&line)));
    assert!(body(&line).starts_with("{ \"model\""));
    assert_eq!(metadata_text(&line), Some(r#"{"note":7}"#));
    assert_eq!(line.id.as_deref(), Some("a"));
}

#[test]
fn a_bare_body_has_no_id_and_keeps_its_metadata_to_itself() {
    let line =
        shaped(r#"{"model":"x","messages":[{"role":"user","content":"hi"}],"metadata":{"row":1}}"#);
    assert_eq!(line.id, None);
    assert_eq!(
        body(&line),
        r#"{"model":"x","messages":[{"role":"user","content":"hi"}]}"#
    );
    assert_eq!(metadata_text(&line), Some(r#"{"row":1}"#));
}

#[test]
fn stored_requests_send_their_metadata() {
    let line = shaped(
        r#"{"messages":[{"role":"user","content":"hi"}],"store":true,"metadata":{"row":"1"}}"#,
    );
    assert!(body(&line).contains(r#""metadata":{"row":"1"}"#));
    assert_eq!(metadata_text(&line), Some(r#"{"row":"1"}"#));
}

#[test]
fn metadata_members_join_other_fields_unless_a_name_would_stand_twice() {
    let joined = shaped(r#"{"prompt":"p","metadata":{"a":1},"b":2}"#);
    assert_eq!(metadata_text(&joined), Some(r#"{"a":1,"b":2}"#));
    let clash = shaped(r#"{"prompt":"p","metadata":{"b":1},"b":2}"#);
    assert_eq!(metadata_text(&clash), Some(r#"{"metadata":{"b":1},"b":2}"#));
}

#[test]
fn with_a_template_every_field_is_data() {
    let defaults = Defaults {
        prompt: Some(Template::compile("Sort: {{ text }}").unwrap()),
        system: Some(Template::compile("You know {{ model }}").unwrap()),
        ..with_model()
    };
    let line = shape(r#"{"id":7,"text":"x","model":"Corolla"}"#, &defaults).unwrap();
    assert_eq!(
        body(&line),
        r#"{"model":"m","messages":[{"role":"system","content":"You know Corolla"},{"role":"user","content":"Sort: x"}]}"#
    );
    assert_eq!(line.id.as_deref(), Some("7"));
    assert_eq!(
        metadata_text(&line),
        Some(r#"{"text":"x","model":"Corolla"}"#)
    );
}

#[test]
fn flags_fill_what_a_line_does_not_say() {
    let defaults = Defaults {
        params: vec![
            ("temperature".into(), "0".into()),
            ("max_tokens".into(), "9".into()),
            ("top_a".into(), "0.3".into()),
        ],
        system: Some(Template::compile("S").unwrap()),
        ..with_model()
    };
    let line = shape(r#"{"prompt":"p"}"#, &defaults).unwrap();
    assert!(body(&line).ends_with(r#","temperature":0,"max_tokens":9,"top_a":0.3}"#));
    assert!(body(&line).contains(r#"[{"role":"system","content":"S"},"#));
    let own = r#"{"model":"x","messages":[{"role":"system","content":"mine"},{"role":"user","content":"u"}],"temperature":1,"max_completion_tokens":3,"top_a":1}"#;
    assert_eq!(body(&shape(own, &defaults).unwrap()), own);
}

#[test]
fn ids_are_text_or_integers() {
    assert_eq!(shaped(r#"{"id":1,"prompt":"p"}"#).id.as_deref(), Some("1"));
    assert_eq!(
        shaped(r#"{"id":"1","prompt":"p"}"#).id.as_deref(),
        Some("1")
    );
    assert_eq!(shaped(r#"{"id":null,"prompt":"p"}"#).id, None);
    assert_eq!(
        shaped(r#"{"id":"a\nb","prompt":"p"}"#).id.as_deref(),
        Some("a\nb")
    );
    assert_eq!(
        shaped(r#"{"id":98765432109876543210,"prompt":"p"}"#)
            .id
            .as_deref(),
        Some("98765432109876543210")
    );
    assert_eq!(
        problem(r#"{"id":1.5,"prompt":"p"}"#),
        "id must be a string or an integer, not 1.5"
    );
    assert_eq!(problem(r#"{"id":"","prompt":"p"}"#), "id is empty");
    let long = format!(r#"{{"id":"{}","prompt":"p"}}"#, "x".repeat(513));
    assert_eq!(problem(&long), "id is 513 bytes long, the limit is 512");
}

#[test]
fn problems_say_what_is_wrong() {
    assert!(problem(r#"{"id":"a" "prompt":"p"}"#).starts_with("not JSON: expected `,` or `}`"));
    assert_eq!(problem("[1]"), "not a JSON object");
    assert!(problem(r#"{"text":"x"}"#).contains("--prompt TEMPLATE"));
    assert_eq!(problem(r#"{"prompt":7}"#), "\"prompt\" must be a string");
    assert_eq!(problem(r#"{"messages":[]}"#), "\"messages\" is empty");
    assert!(problem(r#"{"messages":"hi"}"#).contains("must be a list"));
    assert!(problem(r#"{"prompt":"p","stream":true}"#).contains("stream"));
    assert!(problem(r#"{"prompt":"p","messages":[]}"#).contains("stand together"));
    assert!(problem(r#"{"a":1,"a":2}"#).contains("stands twice"));
    assert!(
        problem(r#"{"custom_id":"a","url":"/v1/embeddings","body":{}}"#).contains("/v1/embeddings")
    );
    let no_model = shape(r#"{"prompt":"p"}"#, &Defaults::default()).unwrap_err();
    assert_eq!(no_model, Problem::NoModel);
}

#[test]
fn deep_nesting_neither_overflows_nor_is_lost() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let line = shaped(&format!(r#"{{"prompt":"p","deep":{deep}}}"#));
    assert_eq!(metadata_text(&line).unwrap().len(), deep.len() + 9);
}
