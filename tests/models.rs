//! What `llmbatch models` promises: the table as people read it, and as scripts do.

mod support;

use std::process::{Command, Stdio};

use support::{Folder, Run};

const OWN: &str = r#"{"version": 1, "date": "2026-12-01", "source": "our contract", "models": [
    {"provider": "openai", "model": "gpt-4o", "input": 2.25, "output": 9},
    {"model": "our-\u001bown", "input": 0, "output": 0, "max_input": 8191}]}"#;

fn models(args: &[&str]) -> Run {
    Run::command(&Folder::new(), &["models"]).args(args.iter().copied())
}

fn with(file: &str, args: &[&str]) -> Run {
    let folder = Folder::new();
    folder.write("prices.json", file);
    Run::command(&folder, &["models", "--prices", "prices.json"]).args(args.iter().copied())
}

#[test]
fn a_pattern_finds_models_in_any_case() {
    let done = models(&["GPT-4O-MINI"]).run();
    let table = done.stdout.split("\n\n").next().unwrap();
    let wanted = "
                                                            batch   batch    max     max
model                      provider  input  cached  output  input  output  input  output  note
gpt-4o-mini                openai     0.15   0.075     0.6  0.075     0.3   128k   16.4k
ft:gpt-4o-mini-2024-07-18  openai      0.3    0.15     1.2   0.15     0.6   128k   16.4k  reti";
    // Whether the last day is past depends on the day of the test.
    assert!(table.starts_with(&wanted[1..]), "{table}");
}

#[test]
fn the_footer_says_what_the_figures_are() {
    let done = models(&["gpt-4.1-nano"]).run();
    let footer = done.stdout.split("\n\n").nth(1).unwrap();
    for part in [
        "1 model, USD per 1M tokens; - is unknown, which is not zero",
        "built-in prices of 2026-11-22: ",
        "prices change: --prices FILE",
    ] {
        assert!(footer.contains(part), "{footer}");
    }
    assert!(done.stdout.lines().all(|line| line.chars().count() <= 120));
}

#[test]
fn a_pattern_finds_providers_too() {
    let list = models(&["mistral", "--json"]).run().json();
    let models = list["models"].as_array().unwrap();
    assert!(models.iter().all(|model| model["provider"] == "mistral"));
    assert!(models.len() > 3);
}

#[test]
fn json_has_exact_decimals_under_stable_names() {
    let done = models(&["gpt-5.5", "--json"]).run();
    let wanted = r#"{"provider":"openai","model":"gpt-5.5","input":5,"output":30,"cached_input":0.5,"batch":{"input":2.5,"output":15,"cached_input":0.25},"#;
    assert!(done.stdout.contains(wanted), "{}", done.stdout);
    let list = done.json();
    assert_eq!(list["date"], "2026-11-22");
    assert_eq!(list["unit"], "USD per 1M tokens");
    assert!(list["source"].is_string());
    let model = &list["models"][0];
    assert_eq!(model["long_prompt"][0]["above"], 272_000);
    assert_eq!(model["long_prompt"][0]["batch"]["output"], 22.5);
    assert_eq!(model["max_input"], 1_050_000);
    let luna = models(&["gpt-6-luna", "--json"]).run();
    assert!(
        luna.stdout.contains(r#""cache_write":0.0625"#),
        "{}",
        luna.stdout
    );
}

#[test]
fn what_json_prints_is_a_price_file() {
    let all = models(&["--json"]).run();
    let again = with(&all.stdout, &["--json"]).run();
    assert_eq!(all.json()["models"], again.json()["models"]);
}

#[test]
fn a_file_goes_before_the_table_and_is_named() {
    let done = with(OWN, &["gpt-4o"]).run();
    let row = |name: &str| {
        let mut rows = done
            .stdout
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.find(|row| row.first() == Some(&name)).unwrap()
    };
    assert_eq!(row("gpt-4o")[..5], ["gpt-4o", "openai", "2.25", "-", "9"]);
    assert_eq!(
        row("gpt-4o-mini")[..5],
        ["gpt-4o-mini", "openai", "0.15", "0.075", "0.6"]
    );
    let footer = "2 models of prices.json (2026-12-01, our contract) before the built-in ones\n";
    assert!(done.stdout.contains(footer), "{}", done.stdout);
}

#[test]
fn a_file_does_not_steer_the_terminal() {
    let done = with(OWN, &["own"]).run();
    assert!(done.stdout.contains("our-\\u{1b}own"), "{:?}", done.stdout);
}

#[test]
fn litellms_json_is_read_as_it_is() {
    let file = r#"{"sample_spec": {"mode": "one of: chat"},
        "groq/new-model": {"litellm_provider": "groq", "mode": "chat", "input_cost_per_token": 1.5e-07,
        "output_cost_per_token": 6e-07, "max_input_tokens": 131072}}"#;
    let done = with(file, &["new-model", "--json"]).run();
    let model = &done.json()["models"][0];
    assert_eq!(
        *model,
        serde_json::json!({"provider": "groq", "model": "new-model", "input": 0.15, "output": 0.6, "max_input": 131_072})
    );
}

#[test]
fn nothing_found_is_an_error() {
    models(&["unheard-of"])
        .expect_code(2)
        .expect_stderr([
            "models holds \"unheard-of\"",
            "hint: llmbatch models lists them all",
        ])
        .run();
}

#[test]
fn a_bad_file_is_named_with_its_model_and_field() {
    let file = r#"{"version": 1, "models": [{"model": "m", "input": -1, "output": 2}]}"#;
    with(file, &[])
        .expect_code(2)
        .expect_stderr([
            r#"error: the price file prices.json is wrong at model "m": "input" is -1: it is negative"#,
            r#"hint: {"version": 1, "models": [{"provider": "openai","#,
        ])
        .run();
    models(&["--prices", "nowhere.json"])
        .expect_code(2)
        .expect_stderr(["nowhere.json cannot be read", "hint: "])
        .run();
}

#[test]
fn the_readmes_price_file_works_as_it_stands() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let from = readme
        .find("```json\n{\n  \"version\": 1,")
        .expect("README shows a price file");
    let file = readme[from..].split("```").nth(1).unwrap();
    let done = with(file.strip_prefix("json").unwrap(), &["our-own", "--json"]).run();
    assert_eq!(done.json()["models"][0]["output"], 1.2);
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_llmbatch"))
        .args(["models", "--json"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(|child| child.wait_with_output())
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said, "");
}
