//! The published vectors, and equality with the library on any text.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn counted(text: &str) -> [u64; 2] {
    [Encoding::Cl100kBase, Encoding::O200kBase].map(|encoding| encoding.count(text).0)
}

fn plain(encoding: Encoding, text: &str) -> u64 {
    encoding.vocabulary().encode_ordinary(text).len() as u64
}

/// The tokens of a chat with gpt-4 and with gpt-4o.
fn chats(body: &Value) -> [u64; 2] {
    ["gpt-4", "gpt-4o"].map(|model| {
        let counter = Counter::of(model);
        let chat = counter.encoding.chat(body.to_string().as_bytes());
        counter.tokens(&chat).0
    })
}

fn chat(model: &str, body: &Value) -> (u64, bool) {
    let counter = Counter::of(model);
    let chat = counter.encoding.chat(body.to_string().as_bytes());
    (counter.tokens(&chat).0, counter.is_exact(&chat))
}

fn one_message(content: Value) -> Value {
    json!({"messages": [{"role": "user", "content": content}]})
}

#[test]
fn texts_count_as_published() {
    let vectors: &[(&str, u64, u64)] = &[
        ("", 0, 0),
        ("hello world", 2, 2),
        ("Hello, world!\n", 4, 4),
        ("The quick brown fox jumps over the lazy dog.", 10, 10),
        ("人工智能正在改变世界。", 12, 6),
        ("Привет, как дела?", 8, 6),
        ("👩‍👩‍👧‍👦 🚀", 21, 13),
        (r#"{"id": 42, "tags": ["a", "b"], "ok": true}"#, 20, 20),
        ("1234567890", 4, 4),
        ("<|endoftext|>", 7, 7),
        ("system", 1, 1),
        ("user", 1, 1),
        ("assistant", 1, 1),
    ];
    for (text, cl100k, o200k) in vectors {
        assert_eq!(counted(text), [*cl100k, *o200k], "{text:?}");
    }
    assert_eq!(counted(&"a ".repeat(1000)), [1001, 1001]);
    assert_eq!(counted(&" ".repeat(1000)), [9, 9]);
}

#[test]
fn chats_count_by_the_published_rule() {
    assert_eq!(chats(&one_message("hello world".into())), [9, 9]);
    let four = json!({"model": "x", "messages": [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "name": "bob", "content":
            [{"type": "text", "text": "Translate 'good morning' into French."}]},
        {"role": "assistant", "content": "Bonjour"},
        {"role": "user", "content": "Now into German."}]});
    assert_eq!(chats(&four), [38, 38]);
}

#[test]
fn the_published_example_of_six_messages_counts_as_published() {
    let system =
        |name: &str, content: &str| json!({"role": "system", "name": name, "content": content});
    let body = json!({"messages": [
        {"role": "system", "content": "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."},
        system("example_user", "New synergies will help drive top-line growth."),
        system("example_assistant", "Things working well together will increase revenue."),
        system("example_user", "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage."),
        system("example_assistant", "Let's talk later when we're less busy about how to do better."),
        {"role": "user", "content": "This late pivot means we don't have time to boil the ocean for the client deliverable."}]});
    assert_eq!(chats(&body), [129, 124]);
}

fn weather() -> Value {
    json!({"messages": [
        {"role": "system", "content": "You are a helpful assistant that can answer to questions about the weather."},
        {"role": "user", "content": "What's the weather like in San Francisco?"}],
        "tools": [{"type": "function", "function": {
            "name": "get_current_weather",
            "description": "Get the current weather in a given location",
            "parameters": {"type": "object", "required": ["location"], "properties": {
                "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
                "unit": {"type": "string", "description": "The unit of temperature to return",
                    "enum": ["celsius", "fahrenheit"]}}}}}]})
}

#[test]
fn the_published_example_of_tools_counts_as_published() {
    assert_eq!(chats(&weather()), [105, 101]);
    assert_eq!(chat("gpt-4o", &weather()), (101, true));
}

#[test]
fn parameters_inside_parameters_make_an_estimate() {
    let mut body = weather();
    body["tools"][0]["function"]["parameters"]["properties"]["place"] =
        json!({"type": "object", "properties": {"x": {"type": "number"}}});
    let (tokens, exact) = chat("gpt-4o", &body);
    assert!(tokens > 101 && !exact, "{tokens}");
}

#[test]
fn a_schema_for_the_answer_counts_by_its_text() {
    let schema = json!({"type": "object"});
    let mut body = one_message("hello world".into());
    body["response_format"] = json!({"type": "json_object"});
    assert_eq!(chat("gpt-4o", &body), (9, true));
    body["response_format"] =
        json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
    let text = Encoding::O200kBase.count(&schema.to_string()).0;
    assert_eq!(chat("gpt-4o", &body), (9 + text, false));
}

#[test]
fn pictures_count_by_tiles_and_never_by_their_bytes() {
    let url = format!("data:image/png;base64,{}", "QUJD".repeat(100_000));
    let picture = |detail: &str| {
        one_message(json!([
            {"type": "text", "text": "hello world"},
            {"type": "image_url", "image_url": {"url": url, "detail": detail}}]))
    };
    assert_eq!(chat("gpt-4o", &picture("low")), (9 + 85, false));
    assert_eq!(chat("gpt-4o", &picture("high")), (9 + 85 + 4 * 170, false));
    assert_eq!(
        chat("gpt-4o-mini", &picture("auto")),
        (9 + 2833 + 4 * 5667, false)
    );
    assert_eq!(chat("gpt-5", &picture("low")).0, 9 + 70);
}

#[test]
fn other_makers_models_get_a_factor_and_say_so() {
    let body = one_message("hello world".into());
    assert_eq!(chat("gpt-4o", &body), (9, true));
    assert_eq!(chat("claude-haiku-4-5", &body), (12, false));
    assert_eq!(chat("anthropic/claude-haiku-4-5", &body), (12, false));
    assert_eq!(chat("llama-3", &body), (11, false));
    assert_eq!(chat("gpt-6-sol", &body), (9, false));
    assert!(
        Counter::of("claude-x")
            .words()
            .starts_with("o200k_base times 1.3,")
    );
}

#[test]
fn a_body_that_cannot_be_read_is_estimated_by_its_length() {
    let body = br#"{"messages":[{"role":"user","content":"\ud800"}]}"#;
    let chat = Encoding::O200kBase.chat(body);
    assert_eq!(chat.text, Tokens(body.len().div_ceil(4) as u64));
    assert!(chat.has_guesses);
}

#[test]
fn a_megabyte_of_one_character_is_counted_without_a_panic() {
    for text in [" ", "a", "\u{a0}", "\n", "語"] {
        let tokens = Encoding::O200kBase.count(&text.repeat(1_100_000));
        assert!(tokens.0 > 1000, "{text:?}: {tokens:?}");
    }
}

#[test]
fn names_choose_their_vocabulary() {
    assert_eq!(Encoding::of("gpt-4o-mini-2024-07-18"), Encoding::O200kBase);
    assert_eq!(Encoding::of("openai/gpt-4-turbo"), Encoding::Cl100kBase);
    assert_eq!(
        Encoding::of("ft:gpt-3.5-turbo:acme::x"),
        Encoding::Cl100kBase
    );
    assert_eq!(Encoding::of("gpt-oss-120b"), Encoding::O200kHarmony);
    assert_eq!(Encoding::of("gpt-6-sol"), Encoding::O200kBase);
    assert_eq!(Encoding::of("llama-3"), Encoding::O200kBase);
}

/// Text of words, white space and marks of many scripts, as pieces put together at random.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => "[ \t\r\n]{1,4}",
        3 => "[a-zA-Z]{1,12}",
        2 => "[0-9]{1,5}",
        3 => "[!-/:-@\\[-`{-~]{1,3}",
        2 => "('s|'T|'re|'LL|'ſ|’s)",
        2 => "[à-ÿĀ-žа-яА-Я]{1,6}",
        1 => "[一-龥ぁ-んァ-ヶ。，、]{1,8}",
        1 => "[\u{300}-\u{36f}\u{200d}\u{fe0f}👩👧🚀]{1,3}",
        1 => "[\u{a0}\u{2003}\u{3000}\u{85}\u{2028}]{1,2}",
        1 => "\\PC{1,6}",
        1 => proptest::collection::vec(any::<char>(), 1..8).prop_map(String::from_iter),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_counts_as_with_the_plain_library(text in any_text()) {
        for encoding in [Encoding::Cl100kBase, Encoding::O200kBase] {
            prop_assert_eq!(encoding.count(&text).0, plain(encoding, &text));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn long_texts_count_as_with_the_plain_library(texts in proptest::collection::vec(any_text(), 40)) {
        let text = texts.concat().repeat(1 + 4 * LONGEST / texts.concat().len().max(1));
        prop_assert!(text.len() > 2 * LONGEST);
        for encoding in [Encoding::Cl100kBase, Encoding::O200kBase] {
            prop_assert_eq!(encoding.count(&text).0, plain(encoding, &text));
        }
    }
}

#[test]
fn chinese_without_a_blank_counts_as_with_the_plain_library() {
    let text = "人工智能正在改变世界，未来已来。".repeat(5000);
    assert!(text.len() > 2 * LONGEST);
    for encoding in [Encoding::Cl100kBase, Encoding::O200kBase] {
        assert_eq!(encoding.count(&text).0, plain(encoding, &text));
    }
}
