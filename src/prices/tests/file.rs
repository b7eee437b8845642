//! A file of the user's in front of the table.

use std::io::Write;

use super::*;

fn with(text: &str) -> Result<Book, Unusable> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Book::with_file(file.path()).map_err(|error| Unusable {
        what: error
            .what
            .replace(&file.path().display().to_string(), "p.json"),
    })
}

fn input(book: &Book, provider: Option<&str>, model: &str) -> Option<String> {
    let model = book.find(provider, model)?;
    let price = model.price.as_ref()?;
    Some(price.standard.base().input.million().to_string())
}

const OWN: &str = r#"{"version": 1, "date": "2026-12-01", "source": "our contract", "models": [
    {"provider": "openai", "model": "gpt-4o", "input": 1.5, "output": 6},
    {"provider": "vllm", "model": "llama", "input": 0, "output": 0},
    {"model": "anywhere", "input": 7, "output": 8},
    {"provider": "groq", "model": "unpriced", "max_output": 1000}]}"#;

#[test]
fn a_file_goes_before_the_table() {
    let book = with(OWN).unwrap();
    let price = |provider, model| input(&book, provider, model);
    assert_eq!(price(Some("openai"), "gpt-4o").as_deref(), Some("1.5"));
    assert_eq!(
        price(Some("azure"), "gpt-4o-2024-08-06").as_deref(),
        Some("1.5")
    );
    // The table has this snapshot itself, which is closer than the file's general name.
    assert_eq!(
        price(Some("openai"), "gpt-4o-2024-05-13").as_deref(),
        Some("5")
    );
    assert_eq!(
        price(Some("openai"), "gpt-4o-mini").as_deref(),
        Some("0.15")
    );
    let list: Vec<_> = book
        .models()
        .filter(|model| model.name == "gpt-4o")
        .collect();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].from, Origin::File);
    let file = book.file().unwrap();
    assert_eq!(file.date.unwrap().to_string(), "2026-12-01");
    assert_eq!(file.source.as_deref(), Some("our contract"));
}

#[test]
fn without_a_provider_the_dearest_of_a_name_counts() {
    let book = with(
        r#"{"version": 1, "models": [
        {"provider": "groq", "model": "m", "input": 1, "output": 2},
        {"provider": "together", "model": "m", "input": 3, "output": 4},
        {"provider": "fireworks", "model": "m", "input": 2, "output": 2},
        {"provider": "mistral", "model": "m"}]}"#,
    );
    let book = book.unwrap();
    for (provider, price) in [
        (None, Some("3")),
        (Some("generic"), Some("3")),
        (Some("groq"), Some("1")),
        (Some("mistral"), None),
        (Some("openai"), None),
    ] {
        assert_eq!(input(&book, provider, "m").as_deref(), price);
    }
}

#[test]
fn only_the_file_prices_local_servers() {
    let book = with(OWN).unwrap();
    assert_eq!(input(&book, Some("vllm"), "llama").as_deref(), Some("0"));
    assert_eq!(input(&book, Some("ollama"), "llama"), None);
    // Free at one's own server is not free elsewhere.
    assert_eq!(input(&book, None, "llama"), None);
}

#[test]
fn an_entry_without_a_provider_holds_everywhere() {
    let book = with(OWN).unwrap();
    for provider in [None, Some("groq"), Some("ollama"), Some("generic")] {
        assert_eq!(input(&book, provider, "anywhere").as_deref(), Some("7"));
    }
}

#[test]
fn an_entry_without_a_price_keeps_its_limits() {
    let book = with(OWN).unwrap();
    let model = book.find(Some("groq"), "unpriced").unwrap();
    assert_eq!(
        (model.price.as_ref(), model.max_output),
        (None, Some(Tokens(1000)))
    );
}

#[test]
fn limits_that_the_file_leaves_out_are_those_of_the_table() {
    let book = with(OWN).unwrap();
    let limits = book.limits(Some("openai"), "gpt-4o");
    assert_eq!(limits.input, Some(Tokens(128_000)));
    assert_eq!(limits.output, Some(Tokens(16_384)));
    assert_eq!(book.limits(Some("vllm"), "llama"), Limits::default());
}

#[test]
fn a_file_that_is_no_list_of_prices_is_refused() {
    for (text, why) in [
        ("{", "the price file p.json is not JSON: EOF"),
        ("[1]", "the price file p.json is not a JSON object"),
        ("{}", "has no models in it"),
        (r#"{"a": {"b": 1}}"#, "has no models in it"),
        (r#"{"version": 1, "models": []}"#, "has no models in it"),
        (r#"{"models": []}"#, r#"has no "version""#),
        (
            r#"{"version": 2, "models": []}"#,
            "is of version 2; version 1 is known",
        ),
    ] {
        let what = with(text).unwrap_err().what;
        assert!(what.contains(why), "{text}: {what}");
    }
    let missing = Book::with_file(Path::new("/nowhere/p.json")).unwrap_err();
    assert!(
        missing.what.contains("/nowhere/p.json cannot be read"),
        "{missing}"
    );
}
