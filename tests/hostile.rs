//! Input, answers and settings that nobody means well: what is refused is refused before the first
//! request, what comes back is stored as it is, and nothing of it steers a terminal.

mod support;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use support::script::{Script, answer, completion, refusal, response, with_headers};
use support::server::Server;
use support::{Folder, Outcome, Run, item, items, row};

/// A folder with an input and every other file that a run may read.
fn files() -> Arc<Folder> {
    let folder = Folder::new();
    folder.write("in.jsonl", item(0));
    folder.write("prompt.txt", "{{ prompt }}");
    folder.write("key.txt", "sk-0123456789abcdef");
    folder.write("ca.pem", "");
    folder.write("prices.json", "{}");
    folder
}

// Turned red by: leaving `keep_apart` out of the settings.
#[test]
fn no_file_that_is_read_is_ever_the_output() {
    for (flag, file) in [
        ("--prompt-file", "prompt.txt"),
        ("--api-key-file", "key.txt"),
        ("--ca-file", "ca.pem"),
        ("--prices", "prices.json"),
    ] {
        for mode in ["--overwrite", "--resume"] {
            for (output, linked) in [
                (file, file),
                ("out.jsonl", "out.jsonl"),
                ("out.jsonl", "out.lock"),
            ] {
                let folder = files();
                if linked != file {
                    std::fs::hard_link(folder.path(file), folder.path(linked)).unwrap();
                }
                let before = folder.content();
                Run::inside(&folder)
                    .args(["in.jsonl", flag, file, mode, "-o", output])
                    .ask("http://127.0.0.1:9/v1")
                    .expect_code(2)
                    .expect_stderr([
                        &format!("{linked} is the {flag}, which the run reads")[..],
                        "hint: -o",
                    ])
                    .run();
                assert_eq!(folder.content(), before, "{flag} {mode} {linked}");
            }
        }
    }
}

#[test]
fn standard_streams_are_not_read_and_written_at_once() {
    let folder = Folder::new();
    folder.write("in.jsonl", items(3));
    for line in [
        "\"$0\" run - --simulate= -q -o in.jsonl --overwrite < in.jsonl",
        "\"$0\" run in.jsonl --simulate= -q -o - >> in.jsonl",
        "\"$0\" run - --simulate= -q -o - < in.jsonl >> in.jsonl",
    ] {
        let run = std::process::Command::new("sh")
            .args(["-c", line, env!("CARGO_BIN_EXE_llmbatch")])
            .current_dir(folder.path("."))
            .output()
            .unwrap();
        let said = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(2), "{line}: {said}");
        assert!(
            said.contains(" is the input, which the run reads"),
            "{said}"
        );
        assert_eq!(folder.read("in.jsonl"), items(3), "{line}");
        assert_eq!(folder.names(), ["in.jsonl"], "{line}");
    }
}

/// Steers a terminal in every way: escapes, a copy to the clipboard, a link, a bell, a carriage
/// return, one of the C1 controls, and marks that turn the writing direction.
const STEERING: &str = "a\u{1b}[31m\u{1b}]52;c;ZWNobw==\u{7}\u{1b}]8;;http://x\u{1b}\\b\rc\u{8}\u{9b}2J\u{7f}\u{202e}\u{2066}d";

fn steers(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || c.is_control() && c != '\n' && c != '\t'
}

fn assert_tame(run: &Outcome, what: &str) {
    for stream in [&run.stdout, &run.stderr] {
        assert!(!stream.contains(steers), "{what}: {stream:?}");
    }
}

// Turned red by: `printable` or `terminal::escaped` returning the text as it is.
#[test]
fn what_servers_and_lines_say_never_steers_a_terminal() {
    let lines =
        json!({"id": STEERING, "prompt": "p", "model": format!("m{STEERING}"), "x": STEERING});
    let body = completion(STEERING)
        .to_string()
        .replace("m-1", &json!(STEERING).to_string().replace('"', ""));
    for (code, said) in [
        (0, with_headers("200 OK", "", &body)),
        (3, refusal("400 Bad Request", STEERING, STEERING)),
        (3, refusal("500 Internal Server Error", STEERING, STEERING)),
        (3, refusal("404 Not Found", STEERING, STEERING)),
        (4, refusal("401 Unauthorized", STEERING, STEERING)),
        (
            4,
            response(
                "429 Too Many Requests",
                &json!({"error": {"message": STEERING, "code": "insufficient_quota"}}),
            ),
        ),
        (3, with_headers("200 OK", "", &format!("<html>{STEERING}"))),
        (
            4,
            with_headers("302 Found", "location: http://\u{9b}2J\u{202e}/\r\n", ""),
        ),
    ] {
        let script = Script::serve(move |_| said.clone());
        for progress in ["log", "json", "bar", "none"] {
            let run = Run::new()
                .input(format!("{lines}\n"))
                .args(["--base-url", &script.base_url(), "-v", "--json"])
                .args(["--progress", progress, "--max-retries", "1"])
                .loud()
                .any_stderr()
                .start()
                .finish_with([code, 4]);
            assert_tame(&run, progress);
        }
    }
}

/// An error's text is evidence: the file holds it to the character, and a terminal shows each.
// Negative control: `folded` splitting at every control character.
#[test]
fn what_a_server_complains_is_kept_and_shown_character_by_character() {
    let said = "\u{1b}[2J\u{1b}]0;PWN\u{7} over\rloaded";
    let shown = r"\u{1b}[2J\u{1b}]0;PWN\u{7} over\u{d}loaded";
    for (code, refused) in [
        (3, refusal("400 Bad Request", "no", said)),
        (4, refusal("401 Unauthorized", "no", said)),
        (3, with_headers("400 Bad Request", "", said)),
    ] {
        let script = Script::serve(move |_| refused.clone());
        let run = Run::new()
            .input(item(0))
            .ask(&script.base_url())
            .args(["--json"])
            .any_stderr()
            .expect_code(code)
            .run();
        match code {
            3 => assert_eq!(run.errors()[0]["error"]["message"], said),
            _ => {
                let error = run.stderr.lines().find(|line| line.starts_with("error: "));
                assert!(error.unwrap().ends_with(shown), "{}", run.stderr);
            }
        }
    }
}

/// What a bar shows has escapes of its own; the hostile ones must not be among them.
#[test]
fn what_servers_say_never_steers_the_terminal_of_a_bar() {
    if !Path::new("/usr/bin/script").exists() {
        eprintln!("skipped: no script(1) on this machine");
        return;
    }
    let script = Script::serve(|_| refusal("500 Internal Server Error", STEERING, STEERING));
    let folder = Folder::new();
    folder.write("in.jsonl", items(2));
    let line = format!(
        "stty cols 200; '{}' run in.jsonl -m m -v --progress bar --max-retries 1 --base-url {}",
        env!("CARGO_BIN_EXE_llmbatch"),
        script.base_url()
    );
    let run = std::process::Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .current_dir(folder.path("."))
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&run.stdout);
    assert!(shown.contains("]52;c;ZWNobw=="), "{shown:?}");
    for hostile in [
        "\u{1b}]52",
        "\u{1b}]8",
        "\u{9b}",
        "\u{202e}",
        "\u{2066}",
        "\u{7}",
    ] {
        assert!(!shown.contains(hostile), "{hostile:?} in {shown:?}");
    }
}

#[test]
fn what_files_and_flags_say_never_steers_a_terminal() {
    let folder = Folder::new();
    folder.write("in.jsonl", format!("{{\"id\":{id},\"prompt\":1}}\n{{\"id\":{id},\"prompt\":\"p\"}}\n{{\"id\":{id},\"prompt\":\"p\"}}\n{STEERING}\n", id = json!(STEERING)));
    folder.write(
        "good.jsonl",
        format!(
            "{}\n",
            json!({"id": STEERING, "prompt": "p", "model": STEERING})
        ),
    );
    folder.write("prompt.txt", format!("{{{{ {STEERING} }}}}"));
    folder.write("prices.json", format!("{{{}: {{\"input_cost_per_token\": 1e-6, \"output_cost_per_token\": 1e-6, \"litellm_provider\": {}}}}}", json!(STEERING), json!(STEERING)));
    let absent = format!("{}.jsonl", STEERING.replace('/', ""));
    for (command, code) in [
        (&["validate", "in.jsonl"][..], 2),
        (&["validate", "in.jsonl", "--json"], 2),
        (
            &["validate", "good.jsonl", "--prompt-file", "prompt.txt"],
            2,
        ),
        (&["validate", &absent], 2),
        (&["run", "in.jsonl", "--simulate"], 2),
        (&["run", &absent], 2),
        (&["run", "good.jsonl", "--provider", STEERING], 2),
        (&["run", "good.jsonl", "--base-url", STEERING], 2),
        (&["run", "good.jsonl", "--param", STEERING], 2),
        (
            &[
                "run",
                "good.jsonl",
                "--prompt",
                "{{ metadata.x.y }}",
                "--system",
                STEERING,
                "--simulate",
            ],
            2,
        ),
        (&["run", "good.jsonl", "--simulate", "--budget", "1"], 2),
        (&["run", "good.jsonl", "--simulate", "-o", &absent, "-v"], 0),
        (&["estimate", "good.jsonl"], 0),
        (&["estimate", "good.jsonl", "--json"], 0),
        (
            &[
                "estimate",
                "good.jsonl",
                "--prices",
                "prices.json",
                "--compare",
                STEERING,
            ],
            0,
        ),
        (&["models", "--prices", "prices.json", "a"], 0),
        (&["models", "--prices", "prices.json", "a", "--json"], 0),
        (&["models", STEERING], 0),
    ] {
        let run = Run::command(&folder, command)
            .any_stderr()
            .start()
            .finish_with([code, 2, 3]);
        assert_tame(&run, &format!("{command:?}"));
    }
}

/// What a body says is stored as it came, and its item gets an outcome of its own.
fn stored(code: i32, status: &str, body: &str) -> (Outcome, Value) {
    let said = with_headers(status, "", body);
    let script = Script::serve(move |_| said.clone());
    let run = Run::new()
        .input(item(0))
        .ask(&script.base_url())
        .args(["--max-retries", "0"])
        .expect_code(code)
        .run();
    let rows = [run.results(), run.errors()].concat();
    let row = row(&rows, "t-0").clone();
    (run, row)
}

#[test]
fn answers_that_are_none_are_kept_beside_an_error() {
    for (what, body) in [
        ("nesting without an end", "[".repeat(100_000)),
        ("HTML", "<html><body>captive</body></html>".to_owned()),
        ("nothing", String::new()),
        ("a number", "12.5".to_owned()),
        (
            "an event stream",
            format!("data: {}\n\ndata: [DONE]\n\n", completion("x")),
        ),
        ("no choices", json!({"choices": []}).to_string()),
        (
            "choices of another kind",
            json!({"choices": {"0": 1}}).to_string(),
        ),
    ] {
        let (_, row) = stored(3, "200 OK", &body);
        assert_eq!(row["status"], "invalid", "{what}: {row}");
        assert_eq!(row["error"]["kind"], "malformed", "{what}");
        let kept = match &row["response"] {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        assert_eq!(kept.trim().len(), body.trim().len(), "{what}: {kept}");
    }
}

// Negative control: `without_mark` returning the body as it is.
#[test]
fn a_byte_order_mark_costs_no_answer() {
    let (_, row) = stored(0, "200 OK", &format!("\u{feff}{}", completion("fine")));
    assert_eq!(row["content"], "fine");
    assert_eq!(row["response"], completion("fine"));
    let refused = json!({"error": {"message": "no room", "code": "x"}});
    let (_, row) = stored(3, "400 Bad Request", &format!("\u{feff}{refused}"));
    assert_eq!(row["error"]["message"], "no room");
}

/// Most readers of JSON give up at some depth; this one must not, since the answer is paid for.
#[test]
fn deep_nesting_overflows_no_stack_and_costs_no_answer() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let fine = completion("fine").to_string();
    for (code, body, name) in [
        (3, deep.clone(), "in.results.errors.jsonl"),
        (
            0,
            fine.replacen('{', &format!("{{\"x\":{deep},"), 1),
            "in.results.jsonl",
        ),
    ] {
        let said = with_headers("200 OK", "", &body);
        let script = Script::serve(move |_| said.clone());
        let folder = Folder::new();
        let line = format!("{{\"id\":\"a\",\"prompt\":\"p\",\"x\":{deep}}}\n");
        let run = Run::inside(&folder).input(line).ask(&script.base_url());
        run.expect_code(code).run();
        let row = folder.read(name);
        assert_eq!(
            row.matches(&deep).count(),
            2,
            "the line's own, and the server's"
        );
        let asked = script.asked().len();
        let again = Run::inside(&folder).resume().ask(&script.base_url());
        again.expect_code(code).run();
        assert_eq!(folder.lines(name), 1);
        let asks_again = script.asked().len() > asked;
        assert_eq!(asks_again, code == 3, "a result is recognized as one");
    }
}

#[test]
fn an_error_inside_200_counts_as_the_error_that_it_names() {
    for (code, status) in [
        ("context_length_exceeded", "rejected"),
        ("content_filter", "filtered"),
        ("server_error", "failed"),
    ] {
        let body = json!({"error": {"message": "no", "code": code}});
        let (_, row) = stored(3, "200 OK", &body.to_string());
        assert_eq!(row["status"], status, "{row}");
    }
}

#[test]
fn absurd_numbers_cost_no_answer_and_are_never_negative_money() {
    for usage in [
        "null",
        "[]",
        "\"many\"",
        "{}",
        r#"{"prompt_tokens":-5,"completion_tokens":-1,"total_tokens":-6}"#,
        r#"{"prompt_tokens":1e300,"completion_tokens":-1e300,"total_tokens":NaN}"#
            .replace("NaN", "null")
            .as_str(),
        r#"{"prompt_tokens":18446744073709551615,"completion_tokens":99999999999999999999999999}"#,
        r#"{"prompt_tokens":"-1","completion_tokens":{},"total_tokens":true}"#,
    ] {
        let mut body = completion("fine");
        body["usage"] = json!("USAGE");
        let body = body.to_string().replace("\"USAGE\"", usage);
        let said = with_headers("200 OK", "", &body);
        let script = Script::serve(move |_| said.clone());
        let run = Run::new()
            .input(items(2))
            .ask(&script.base_url())
            .args(["--price-in", "1", "--price-out", "1", "--json"])
            .start()
            .finish_with([0, 3]);
        assert!(run.stderr.is_empty(), "{usage}: {}", run.stderr);
        for row in run.results() {
            assert_eq!(row["content"], "fine", "{usage}");
            assert!(row["cost_usd"].as_f64().unwrap_or(0.0) >= 0.0, "{row}");
        }
        assert!(!run.stdout.contains(":-"), "{usage}: {}", run.stdout);
    }
}

#[test]
fn waits_that_make_no_sense_are_not_obeyed() {
    for wait in [
        "-1",
        "NaN",
        "inf",
        "soon",
        "",
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "0",
        "1e-300",
    ] {
        let header = format!("retry-after: {wait}\r\n");
        let script = Script::serve(move |asked| match asked.number {
            0 => with_headers("429 Too Many Requests", &header, "{}"),
            _ => answer("fine"),
        });
        let run = Run::new().input(items(1)).ask(&script.base_url()).run();
        assert_eq!(run.results()[0]["attempts"], 1, "{wait}");
        assert_eq!(script.asked().len(), 2, "{wait}");
    }
    for wait in ["1e9", "99999999999999999999", "1e308"] {
        let header = format!("retry-after: {wait}\r\n");
        let script = Script::serve(move |_| with_headers("429 Too Many Requests", &header, "{}"));
        Run::new()
            .input(items(9))
            .ask(&script.base_url())
            .args(["-c", "1"])
            .any_stderr()
            .expect_code(4)
            .run();
        assert_eq!(script.asked().len(), 1, "{wait}");
    }
}

#[test]
fn ids_come_back_as_they_are() {
    let ids = [
        "a\nb",
        "nul\u{0}",
        "\u{1b}[31m",
        "\u{202e}rtl",
        "🚀 ü",
        "../../etc/passwd",
        "=1+1",
        " ",
    ];
    let lines: String = ids
        .iter()
        .map(|id| format!("{}\n", json!({"id": id, "prompt": "p"})))
        .collect();
    let run = Run::new().input(lines).simulate().run();
    let mut expected = ids.map(str::to_owned);
    expected.sort();
    assert_eq!(run.ids(), expected);
    assert_eq!(run.results().len(), ids.len());
}

#[test]
fn input_that_is_none_is_refused_with_a_hint() {
    let utf16: Vec<u8> = items(1).encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (input, reason) in [
        ([b"\xff\xfe".to_vec(), utf16].concat(), "looks like UTF-16"),
        (
            vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3],
            "not UTF-8 at byte 2",
        ),
        (
            b"{\"id\":\"a\",\"prompt\":\"\xff\"}".to_vec(),
            "not UTF-8 at byte",
        ),
        (b"\0\0\0\0".to_vec(), "not JSON"),
        (b"[1]".to_vec(), "line 1"),
        (b"{\"id\":1.5,\"prompt\":\"p\"}".to_vec(), "id"),
        (
            b"{\"id\":1,\"prompt\":\"p\"}\n{\"id\":\"1\",\"prompt\":\"p\"}".to_vec(),
            "line 2",
        ),
    ] {
        let server = Server::start("latency=0");
        let run = Run::new()
            .input(&input)
            .ask(server.base_url())
            .expect_code(2)
            .any_stderr()
            .run();
        assert!(run.stderr.contains(reason), "{reason}: {}", run.stderr);
        assert_eq!(server.count("requests"), 0);
        assert_eq!(run.folder.names(), ["in.jsonl"]);
    }
}

#[test]
fn limits_that_are_none_are_refused() {
    for args in [
        ["--concurrency", "0"],
        ["--concurrency", "-1"],
        ["--concurrency", "99999999999"],
        ["--rpm", "0"],
        ["--tpm", "0"],
        ["--max-tokens", "0"],
        ["--timeout", "0"],
        ["--timeout", "-1"],
        ["--timeout", "nan"],
        ["--timeout", "inf"],
        ["--timeout", "1e300"],
        ["--timeout", "1e-300"],
        ["--temperature", "nan"],
        ["--temperature", "inf"],
        ["--budget", "0"],
        ["--budget", "-1"],
        ["--budget", "nan"],
        ["--budget", "1e999"],
        ["--max-retries", "-1"],
        ["--checkpoint-every", "0"],
    ] {
        let run = Run::new()
            .input(items(1))
            .simulate()
            .args(args)
            .expect_code(2)
            .any_stderr()
            .run();
        assert!(
            run.stderr.starts_with("error: "),
            "{args:?}: {}",
            run.stderr
        );
        let error = run.stderr.lines().next().unwrap();
        assert!(error.len() < 120, "{args:?}: {error}");
        assert_eq!(run.folder.names(), ["in.jsonl"], "{args:?}");
    }
}
