//! What `run` and `validate` promise: forms of input, files of output, refusals.

mod support;

use serde_json::{Value, json};

use support::script::{Asked, Script, answer, completion};
use support::server::Server;
use support::{Folder, Run, ids, item_ids, items, parse_rows, row, tag};

/// Answers every request with its own last message.
fn echo() -> Script {
    Script::serve(|asked: &Asked| answer(&asked.prompt()))
}

/// Runs lines against a scripted server and returns the bodies that were sent, in order.
fn sent(input: &str, args: &[&str]) -> Vec<String> {
    let script = echo();
    Run::new()
        .input(input)
        .args(["--base-url", &script.base_url(), "-c", "1"])
        .args(args.iter().copied())
        .run();
    script.asked().into_iter().map(|asked| asked.body).collect()
}

fn as_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

// Turned red by: dropping a single `Settled` event in `Engine::take_end`.
#[test]
fn every_id_stands_once_and_each_answer_at_its_own_id() {
    let server = Server::start("latency=3ms");
    let done = Run::new()
        .input(items(200))
        .ask(server.base_url())
        .args(["-c", "16"])
        .run();
    let results = done.results();
    assert_eq!(ids(&results), item_ids(200));
    assert_eq!(done.errors(), [] as [Value; 0]);
    for number in 0..200 {
        let row = row(&results, &format!("t-{number}"));
        let content = row["content"].as_str().unwrap();
        assert!(content.starts_with(&tag(&format!("question {number}"))));
        assert_eq!(row["index"], number);
        assert_eq!(row["status"], "ok");
        assert_eq!(row["attempts"], 1);
    }
    assert_eq!(server.count("requests"), 200);
}

#[test]
fn a_native_row_has_the_fields_of_the_contract() {
    let script = echo();
    let done = Run::new()
        .input("{\"id\":\"a\",\"prompt\":\"p\",\"customer\":42}\n")
        .ask(&script.base_url())
        .run();
    let mut rows = done.results();
    assert!(rows[0]["latency_ms"].is_u64());
    rows[0]["latency_ms"] = Value::Null;
    let expected = json!({
        "id": "a", "index": 0, "status": "ok", "content": "p", "finish_reason": "stop",
        "model": "m-1",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        "cost_usd": null, "attempts": 1, "latency_ms": null, "metadata": {"customer": 42},
        "response": completion("p"),
    });
    assert_eq!(rows, [expected]);
}

#[test]
fn a_prompt_line_becomes_messages() {
    let bodies = sent(
        "{\"id\":\"a\",\"prompt\":\"p\",\"system\":\"s\",\"max_tokens\":5}\n",
        &["-m", "m"],
    );
    let expected = json!({
        "model": "m",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}],
        "max_tokens": 5,
    });
    assert_eq!(as_json(&bodies[0]), expected);
}

#[test]
fn a_messages_line_is_sent_with_its_parameters() {
    let messages = json!([{"role": "user", "content": [{"type": "text", "text": "p"}]},
        {"role": "assistant", "content": "a"}, {"role": "user", "content": "q"}]);
    let line = json!({"id": "a", "messages": messages, "temperature": 0.5});
    let bodies = sent(&line.to_string(), &["-m", "m"]);
    let expected = json!({"model": "m", "messages": messages, "temperature": 0.5});
    assert_eq!(as_json(&bodies[0]), expected);
}

// Turned red by: composing the body anew in `fill` although `verbatim` is set.
#[test]
fn the_body_of_a_batch_line_is_sent_byte_for_byte() {
    let body = r#"{ "messages":[ {"role":"user", "content":"caf\u00e9 \/ é"} ], "seed":12345678901234567890123, "temperature": 1.10, "x_own" : null,"model":"m" }"#;
    let line = format!(
        r#"{{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{body}}}"#
    );
    assert_eq!(sent(&line, &[]), [body]);
}

#[test]
fn a_bare_request_body_runs_and_keeps_its_metadata() {
    let script = echo();
    let line = json!({"model": "own", "messages": [{"role": "user", "content": "p"}],
        "metadata": {"customer": "42"}});
    let done = Run::new()
        .input(line.to_string())
        .args(["--base-url", &script.base_url()])
        .run();
    let expected = json!({"model": "own", "messages": [{"role": "user", "content": "p"}]});
    assert_eq!(script.asked()[0].json(), expected);
    assert_eq!(done.results()[0]["metadata"], json!({"customer": "42"}));
}

#[test]
fn a_record_fills_the_template_and_comes_back() {
    let script = echo();
    let done = Run::new()
        .input("{\"id\":\"a\",\"text\":\"late parcel\",\"model\":\"T-800\",\"n\":3}\n")
        .ask(&script.base_url())
        .args(["--prompt", "Classify: {{ text }} ({{ n }})"])
        .args(["--system", "You know {{ model }}."])
        .run();
    let expected = json!({"model": "m", "messages": [
        {"role": "system", "content": "You know T-800."},
        {"role": "user", "content": "Classify: late parcel (3)"},
    ]});
    assert_eq!(script.asked()[0].json(), expected);
    let metadata = json!({"text": "late parcel", "model": "T-800", "n": 3});
    assert_eq!(done.results()[0]["metadata"], metadata);
}

#[test]
fn a_template_can_stand_in_a_file() {
    let folder = Folder::new();
    folder.write("prompt.txt", "Sort:\n{{ text }}\n");
    let done = Run::inside(&folder)
        .input("{\"id\":\"a\",\"text\":\"x\"}\n")
        .simulate()
        .args(["--prompt-file", "prompt.txt"])
        .run();
    let content = done.results()[0]["content"].as_str().unwrap().to_owned();
    assert!(content.starts_with(&tag("Sort:\nx")), "{content}");
}

#[test]
fn all_forms_may_stand_in_one_file() {
    let input = [
        r#"{"id":1,"prompt":"p"}"#,
        r#"{"id":"b","messages":[{"role":"user","content":"p"}]}"#,
        r#"{"custom_id":"c","body":{"model":"m","messages":[{"role":"user","content":"p"}]}}"#,
        r#"{"model":"m","messages":[{"role":"user","content":"p"}]}"#,
    ];
    let done = Run::new().input(input.join("\n")).simulate().run();
    let rows = done.results();
    assert_eq!(rows.len(), 4);
    for id in ["1", "b", "c"] {
        assert!(
            row(&rows, id)["content"]
                .as_str()
                .unwrap()
                .starts_with(&tag("p"))
        );
    }
}

#[test]
fn a_lines_own_values_win_over_the_flags() {
    let bodies = sent(
        "{\"prompt\":\"p\",\"model\":\"own\",\"max_tokens\":5,\"top_p\":0.5}\n{\"prompt\":\"q\"}\n",
        &[
            "-m",
            "m",
            "--max-tokens",
            "9",
            "--temperature",
            "0",
            "--param",
            "top_p=0.9",
        ],
    );
    let own = as_json(&bodies[0]);
    assert_eq!(
        (
            &own["model"],
            &own["max_tokens"],
            &own["top_p"],
            &own["temperature"]
        ),
        (&json!("own"), &json!(5), &json!(0.5), &json!(0.0))
    );
    let filled = as_json(&bodies[1]);
    assert_eq!(
        (&filled["model"], &filled["max_tokens"], &filled["top_p"]),
        (&json!("m"), &json!(9), &json!(0.9))
    );
}

// Turned red by: `is_parameter` returning true for every name.
#[test]
fn unknown_fields_are_never_sent_and_come_back() {
    let script = echo();
    let done = Run::new()
        .input("{\"id\":\"a\",\"prompt\":\"p\",\"patient\":\"Jane\",\"tags\":[1, 2.50],\"big\":12345678901234567890123}\n")
        .ask(&script.base_url())
        .run();
    let expected = json!({"model": "m", "messages": [{"role": "user", "content": "p"}]});
    assert_eq!(script.asked()[0].json(), expected);
    let text = done.folder.read("in.results.jsonl");
    let metadata =
        r#""metadata":{"patient":"Jane","tags":[1, 2.50],"big":12345678901234567890123}"#;
    assert!(text.contains(metadata), "{text}");
}

#[test]
fn the_key_is_sent_as_a_bearer_token() {
    let script = echo();
    Run::new()
        .input(items(1))
        .ask(&script.base_url())
        .args(["--api-key-env", "MY_KEY"])
        .env("MY_KEY", "sk-test-0123456789")
        .run();
    let head = script.asked()[0].head.to_lowercase();
    assert!(
        head.contains("authorization: bearer sk-test-0123456789\r\n"),
        "{head}"
    );
}

#[test]
fn the_base_url_may_come_from_the_environment() {
    let server = Server::start("latency=0");
    Run::new()
        .input(items(2))
        .args(["-m", "m"])
        .env("OPENAI_BASE_URL", server.base_url())
        .run();
    assert_eq!(server.count("requests"), 2);
}

#[test]
fn a_missing_template_field_is_named_before_the_first_request() {
    let server = Server::start("latency=0");
    let folder = Folder::new();
    Run::inside(&folder)
        .input("{\"id\":\"a\",\"text\":\"x\",\"title\":\"t\"}\n\n{\"id\":\"b\",\"text\":\"x\"}\n")
        .ask(server.base_url())
        .args(["--prompt", "{{ title }}: {{ text }}"])
        .expect_code(2)
        .expect_stderr([
            "error: in.jsonl has 1 bad line; nothing was sent",
            "  line 3  the template asks for \"title\", which this record lacks",
            "hint: --skip-invalid runs the other 1",
        ])
        .run();
    assert_eq!(server.count("requests"), 0);
    assert_eq!(folder.names(), ["in.jsonl"]);
}

#[test]
fn a_broken_template_is_refused_with_its_place() {
    Run::new()
        .input(items(1))
        .simulate()
        .args(["--prompt", "a\n{{ text"])
        .expect_code(2)
        .expect_stderr(["the template of --prompt is broken: line 2: "])
        .run();
}

// Turned red by: `take_census` not looking at `census.bad`.
#[test]
fn bad_lines_refuse_the_run_with_their_numbers() {
    let server = Server::start("latency=0");
    let folder = Folder::new();
    Run::inside(&folder)
        .input("{\"id\":\"a\",\"prompt\":\"p\"}\n\n{\"id\":\"b\",\"prompt\":\n{\"id\":\"a\",\"prompt\":\"q\"}\n{\"id\":7,\"prompt\":\"p\"}\n{\"id\":\"7\",\"prompt\":\"p\"}\n[1]\n")
        .ask(server.base_url())
        .expect_code(2)
        .expect_stderr([
            "error: in.jsonl has 4 bad lines; nothing was sent",
            "  line 3  not JSON",
            "  line 4  id \"a\" stands already at line 1",
            "  line 6  id \"7\" stands already at line 5",
            "  line 7  not a JSON object",
            "hint: --skip-invalid runs the other 2 and puts these into the errors file",
        ])
        .run();
    assert_eq!(
        server.count("connections"),
        1,
        "only our own look at the counters"
    );
    assert_eq!(folder.names(), ["in.jsonl"]);
}

#[test]
fn the_first_twenty_findings_are_listed() {
    let mut expected = vec!["has 30 bad lines".to_owned()];
    expected.extend((1..=20).map(|line| format!("line {line:<2}  not JSON")));
    expected.extend(["and 10 more".to_owned(), "hint: ".to_owned()]);
    Run::new()
        .input("{\n".repeat(30))
        .simulate()
        .expect_code(2)
        .expect_stderr(expected.iter().map(String::as_str))
        .run();
}

#[test]
fn an_id_over_512_bytes_and_a_line_over_16_mib_are_refused() {
    let long_id = format!("{{\"id\":\"{}\",\"prompt\":\"p\"}}\n", "x".repeat(513));
    let long_line = format!("{{\"id\":\"b\",\"prompt\":\"{}\"}}\n", "x".repeat(16 << 20));
    Run::new()
        .input(long_id + &long_line)
        .simulate()
        .expect_code(2)
        .expect_stderr([
            "has 2 bad lines",
            "line 1  id is 513 bytes long, the limit is 512",
            "line 2  the line is 16,777,238 bytes long, the limit is 16 MiB",
            "hint: ",
        ])
        .run();
}

#[test]
fn a_line_without_a_model_is_named() {
    Run::new()
        .input("{\"id\":\"a\",\"prompt\":\"p\",\"model\":\"m\"}\n{\"id\":\"b\",\"prompt\":\"p\"}\n")
        .args(["--base-url", "http://127.0.0.1:9/v1"])
        .expect_code(2)
        .expect_stderr([
            "has 1 bad line",
            "line 2  no model: add \"model\" to the line or pass --model",
            "hint: --model NAME",
        ])
        .run();
}

#[test]
fn skip_invalid_turns_bad_lines_into_rows() {
    let done = Run::new()
        .input("{\"id\":\"a\",\"prompt\":\"p\"}\n{\"id\":\"b\"}\nnonsense\n{\"id\":\"a\",\"prompt\":\"q\"}\n{\"id\":\"c\",\"prompt\":\"r\"}\n")
        .simulate()
        .args(["--skip-invalid"])
        .expect_code(3)
        .run();
    let results = done.results();
    assert_eq!(ids(&results), ["a", "c"]);
    assert!(
        row(&results, "a")["content"]
            .as_str()
            .unwrap()
            .starts_with(&tag("p"))
    );
    assert_eq!(row(&results, "c")["index"], 4);
    let errors = done.errors();
    assert_eq!(errors.len(), 3);
    for row in &errors {
        assert_eq!(row["status"], "invalid_input");
        assert_eq!(row["error"]["kind"], "invalid_input");
        assert_eq!(row["error"]["retryable"], false);
    }
    let message = |index: usize| errors[index]["error"]["message"].as_str().unwrap();
    assert_eq!(errors[0]["id"], "b");
    assert!(message(0).starts_with("line 2: "), "{}", message(0));
    assert!(message(1).starts_with("line 3: not JSON"), "{}", message(1));
    assert!(message(2).starts_with("line 4: id \"a\" stands already at line 1"));
}

#[test]
fn equal_lines_without_an_id_get_a_running_suffix() {
    let line = "{\"prompt\":\"p\"}\n";
    let done = Run::new().input(line.repeat(3)).simulate().run();
    let ids = ids(&done.results());
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[1], format!("{}-2", ids[0]));
    assert_eq!(ids[2], format!("{}-3", ids[0]));
}

#[test]
fn standard_input_to_standard_output_leaves_no_files() {
    let folder = Folder::new();
    let done = Run::inside(&folder)
        .args(["-", "-o", "-"])
        .simulate()
        .stdin(items(20))
        .run();
    assert_eq!(ids(&parse_rows(&done.stdout)), item_ids(20));
    assert_eq!(folder.names(), [] as [&str; 0]);
}

#[test]
fn standard_input_gives_its_name_to_the_output() {
    let folder = Folder::new();
    Run::inside(&folder)
        .args(["-"])
        .simulate()
        .stdin(items(3))
        .run();
    assert_eq!(ids(&folder.rows("stdin.results.jsonl")), item_ids(3));
}

#[test]
fn bad_lines_of_standard_input_become_rows() {
    let done = Run::new()
        .args(["-", "-o", "-"])
        .simulate()
        .stdin("{\"id\":\"a\",\"prompt\":\"p\"}\n{\"id\":\"a\",\"prompt\":\"q\"}\n")
        .expect_code(3)
        .run();
    assert_eq!(ids(&parse_rows(&done.stdout)), ["a"]);
    let errors = done.folder.rows("stdin.stdout.errors.jsonl");
    assert_eq!(errors[0]["status"], "invalid_input");
}

#[test]
fn results_on_standard_output_have_their_errors_beside_the_input() {
    let done = Run::new()
        .input("{\"id\":\"a\",\"prompt\":\"p\"}\n{}\n")
        .args(["-o", "-", "--skip-invalid"])
        .simulate()
        .expect_code(3)
        .run();
    assert_eq!(ids(&parse_rows(&done.stdout)), ["a"]);
    assert_eq!(done.folder.names(), ["in.jsonl", "in.stdout.errors.jsonl"]);
}

#[test]
fn standard_output_is_neither_resumed_nor_shared_with_the_summary() {
    Run::new()
        .input(items(1))
        .simulate()
        .args(["-o", "-", "--resume"])
        .expect_code(2)
        .expect_stderr(["standard output cannot be resumed", "hint: -o FILE"])
        .run();
    Run::new()
        .input(items(1))
        .simulate()
        .args(["-o", "-", "--json"])
        .expect_code(2)
        .expect_stderr(["--json and -o - both want standard output", "hint: "])
        .run();
}

#[test]
fn a_lean_row_lacks_the_response_only() {
    let whole = Run::new().input(items(1)).simulate().run().results();
    let lean = Run::new().input(items(1)).simulate().args(["--lean"]).run();
    let mut expected = whole[0].as_object().unwrap().clone();
    let response = expected.remove("response").unwrap();
    assert_eq!(response["object"], "chat.completion");
    let mut lean = lean.results()[0].as_object().unwrap().clone();
    lean["latency_ms"] = expected["latency_ms"].clone();
    assert_eq!(lean, expected);
}

#[test]
fn the_openai_format_writes_batch_output_lines() {
    let script = Script::serve(|_| {
        let body = completion("hi").to_string();
        support::script::with_headers("200 OK", "x-request-id: req_7\r\n", &body)
    });
    let done = Run::new()
        .input(items(1))
        .ask(&script.base_url())
        .args(["--format", "openai"])
        .run();
    let rows = done.results();
    let mut expected = json!({
        "custom_id": "t-0",
        "response": {"status_code": 200, "request_id": "req_7", "body": completion("hi")},
        "error": null,
    });
    expected["id"] = rows[0]["id"].clone();
    assert!(rows[0]["id"].as_str().unwrap().starts_with("batch_req_"));
    assert_eq!(rows, [expected]);
}

#[test]
fn limit_runs_the_first_items_only() {
    let server = Server::start("latency=0");
    let done = Run::new()
        .input(items(10))
        .ask(server.base_url())
        .args(["--limit", "3"])
        .run();
    assert_eq!(done.ids(), ["t-0", "t-1", "t-2"]);
    assert_eq!(server.count("requests"), 3);
}

#[test]
fn all_files_stand_beside_the_named_output() {
    let done = Run::new().input(items(1)).simulate().output("out").run();
    assert_eq!(done.ids(), ["t-0"]);
    assert_eq!(
        done.folder.names(),
        [
            "in.jsonl",
            "out.checkpoint.json",
            "out.errors.jsonl",
            "out.jsonl"
        ]
    );
}

// Turned red by: `refuse_existing` returning early.
#[test]
fn existing_output_is_refused_and_nothing_is_touched() {
    let server = Server::start("latency=0");
    let folder = Folder::new();
    Run::inside(&folder).input(items(3)).simulate().run();
    let before = folder.content();
    Run::inside(&folder)
        .args(["in.jsonl"])
        .ask(server.base_url())
        .expect_code(2)
        .expect_stderr([
            "error: in.results.jsonl exists (3 rows)",
            "hint: --resume goes on where it ended; --overwrite starts over",
        ])
        .run();
    assert_eq!(folder.content(), before);
    assert_eq!(server.count("requests"), 0);
}

#[test]
fn a_lone_errors_file_is_refused_too() {
    let folder = Folder::new();
    folder.write("in.results.errors.jsonl", "{}\n");
    Run::inside(&folder)
        .input(items(1))
        .simulate()
        .expect_code(2)
        .expect_stderr(["in.results.errors.jsonl exists", "hint: --resume"])
        .run();
    assert_eq!(folder.names(), ["in.jsonl", "in.results.errors.jsonl"]);
}

#[test]
fn overwrite_starts_over() {
    let folder = Folder::new();
    Run::inside(&folder).input(items(5)).simulate().run();
    let done = Run::inside(&folder)
        .input(items(2))
        .simulate()
        .args(["--overwrite", "--json"])
        .run();
    assert_eq!(done.ids(), item_ids(2));
    assert_eq!(done.json()["requests"], 2);
}

#[test]
fn overwrite_touches_nothing_where_the_input_is_bad() {
    let folder = Folder::new();
    Run::inside(&folder).input(items(5)).simulate().run();
    folder.write("in.jsonl", "nonsense\n");
    let before = folder.content();
    Run::inside(&folder)
        .args(["in.jsonl", "--overwrite"])
        .simulate()
        .expect_code(2)
        .expect_stderr(["has 1 bad line", "line 1", "hint: "])
        .run();
    assert_eq!(folder.content(), before);
}

#[test]
fn the_input_is_never_the_output() {
    let folder = Folder::new();
    folder.write("in.jsonl", items(2));
    std::fs::hard_link(folder.path("in.jsonl"), folder.path("same.jsonl")).unwrap();
    let before = folder.content();
    for output in ["in.jsonl", "./in.jsonl", "same.jsonl"] {
        for mode in ["--overwrite", "--resume"] {
            Run::inside(&folder)
                .args(["in.jsonl", "-o", output, mode])
                .simulate()
                .expect_code(2)
                .expect_stderr(["is the input itself", "hint: -o FILE"])
                .run();
            assert_eq!(folder.content(), before);
        }
    }
}

#[test]
fn an_output_folder_that_is_missing_is_named_before_the_first_request() {
    let server = Server::start("latency=0");
    let folder = Folder::new();
    Run::inside(&folder)
        .input(items(2))
        .ask(server.base_url())
        .args(["-o", "no/such/out.jsonl"])
        .expect_code(2)
        .expect_stderr(["the output's folder no/such does not exist", "hint: "])
        .run();
    assert_eq!(server.count("requests"), 0);
    assert_eq!(folder.names(), ["in.jsonl"]);
}

#[test]
fn a_missing_input_is_refused() {
    let folder = Folder::new();
    Run::inside(&folder)
        .args(["no.jsonl"])
        .simulate()
        .expect_code(2)
        .expect_stderr(["error: no.jsonl cannot be read: "])
        .run();
    assert_eq!(folder.names(), [] as [&str; 0]);
}

#[test]
fn a_known_provider_without_its_key_is_refused() {
    let folder = Folder::new();
    Run::inside(&folder)
        .input(items(1))
        .args(["--provider", "openai", "-m", "m"])
        .expect_code(2)
        .expect_stderr(["no API key: OPENAI_API_KEY", "hint: "])
        .run();
    assert_eq!(folder.names(), ["in.jsonl"]);
}

#[test]
fn the_json_summary_stands_alone_on_standard_output() {
    let done = Run::new().input(items(4)).simulate().args(["--json"]).run();
    let summary = done.json();
    for (name, expected) in [
        ("exit_code", json!(0)),
        ("items", json!(4)),
        ("ok", json!(4)),
        ("failed", json!(0)),
        ("pending", json!(0)),
        ("requests", json!(4)),
        ("results", json!("in.results.jsonl")),
        ("resume", Value::Null),
        ("halted", Value::Null),
    ] {
        assert_eq!(summary[name], expected, "{name}");
    }
    let used = |name: &str| {
        let counts = done.results();
        let counts = counts
            .iter()
            .map(|row| row["usage"][name].as_u64().unwrap());
        counts.sum::<u64>()
    };
    assert_eq!(summary["tokens"]["prompt"], used("prompt_tokens"));
    assert_eq!(summary["tokens"]["completion"], used("completion_tokens"));
}

#[test]
fn the_text_summary_names_counts_files_and_exit_code() {
    let done = Run::new()
        .input(items(3))
        .simulate()
        .loud()
        .expect_stderr([
            "in.jsonl: 3 items, asking a simulator inside this process",
            "3 items, 3 ok        exit code 0",
            "  tokens   ",
            "  cost     not known",
            "requests 3   retries 0   push-backs 0",
            "  results  in.results.jsonl",
        ])
        .run();
    assert!(done.stderr.contains("\ndone in "), "{}", done.stderr);
    assert_eq!(done.stdout, "");
}

#[test]
fn line_ends_of_all_kinds_keep_the_numbers_true() {
    let input = b"\xef\xbb\xbf{\"id\":\"a\",\"prompt\":\"p\"}\r\n\r\n  \n{\"id\":\"b\",\"prompt\":\"q\"}\r\nbad\r\n{\"id\":\"c\",\"prompt\":\"r\"}";
    let done = Run::new()
        .input(input)
        .simulate()
        .args(["--skip-invalid"])
        .expect_code(3)
        .run();
    assert_eq!(ids(&done.results()), ["a", "b", "c"]);
    let message = done.errors()[0]["error"]["message"].clone();
    assert!(
        message.as_str().unwrap().starts_with("line 5: "),
        "{message}"
    );
    assert_eq!(row(&done.results(), "c")["index"], 3);
}

#[test]
fn an_empty_file_is_a_finished_run() {
    for input in ["", "\n \r\n"] {
        let done = Run::new().input(input).simulate().args(["--json"]).run();
        assert_eq!(done.json()["items"], 0);
        assert_eq!(done.folder.read("in.results.jsonl"), "");
    }
}

#[test]
fn validate_accepts_a_good_file_and_writes_nothing() {
    let folder = Folder::new();
    folder.write("in.jsonl", items(3));
    let done = Run::command(&folder, &["validate", "in.jsonl", "-m", "m"]).run();
    assert_eq!(done.stdout, "in.jsonl: 3 items, no bad line\n");
    assert_eq!(folder.names(), ["in.jsonl"]);
}

#[test]
fn validate_lists_every_bad_line() {
    let folder = Folder::new();
    folder.write("in.jsonl", format!("{}{}", items(1), "{\n".repeat(30)));
    let done = Run::command(&folder, &["validate", "in.jsonl", "-m", "m"])
        .expect_code(2)
        .run();
    assert_eq!(done.stdout.matches("not JSON").count(), 30);
    assert!(done.stdout.contains("line 31  "), "{}", done.stdout);
}

#[test]
fn validate_reports_as_json() {
    let folder = Folder::new();
    folder.write(
        "in.jsonl",
        "{\"id\":\"a\",\"prompt\":\"p\"}\n{\"id\":\"a\",\"prompt\":\"q\"}\n",
    );
    let done = Run::command(&folder, &["validate", "in.jsonl", "-m", "m", "--json"])
        .expect_code(2)
        .run();
    let report = done.json();
    assert_eq!((&report["items"], &report["bad"]), (&json!(2), &json!(1)));
    let finding = json!({"line": 2, "problem": "id \"a\" stands already at line 1"});
    assert_eq!(report["findings"], json!([finding]));
}

#[test]
fn validate_checks_templates_and_standard_input() {
    let folder = Folder::new();
    let done = Run::command(
        &folder,
        &["validate", "-", "-m", "m", "--prompt", "{{ text }}"],
    )
    .stdin("{\"id\":\"a\",\"text\":\"x\"}\n{\"id\":\"b\"}\n")
    .expect_code(2)
    .run();
    assert!(
        done.stdout
            .contains("line 2  the template asks for \"text\""),
        "{}",
        done.stdout
    );
}

// Turned red by: reading on behind the bytes that were checked.
#[test]
fn lines_appended_during_a_run_wait_for_the_next_one() {
    let folder = Folder::new();
    let input = folder.path("in.jsonl");
    let script = Script::serve(move |_| {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&input)
            .unwrap();
        file.write_all(b"{\"id\":\"t-0\",\"prompt\":\"p\"}\n")
            .unwrap();
        answer("fine")
    });
    let done = Run::inside(&folder)
        .input(items(5))
        .ask(&script.base_url())
        .args(["-c", "1"])
        .run();
    assert_eq!(done.ids(), item_ids(5));
}

#[test]
fn a_line_whose_model_is_null_takes_the_runs_model() {
    let script = Script::serve(|_| answer("fine"));
    let line = "{\"id\":\"a\",\"prompt\":\"p\",\"model\":null}\n";
    Run::new().input(line).ask(&script.base_url()).run();
    assert_eq!(script.asked()[0].json()["model"], "m");
}

#[test]
fn a_file_without_models_hides_no_other_finding() {
    let folder = Folder::new();
    folder.write("in.jsonl", items(2) + "not json\n" + &items(1));
    let done = Run::command(&folder, &["validate", "in.jsonl"])
        .expect_code(2)
        .run();
    assert!(done.stdout.contains("line 3  not JSON"), "{}", done.stdout);
    assert!(done.stdout.contains("line 4"), "{}", done.stdout);
    assert!(!done.stdout.contains("line 1  "), "{}", done.stdout);
}
