//! What keys promise: they come from the environment, a file or a command, go to their endpoint
//! over a closed way, and stand nowhere else, whatever a server says.

mod support;

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use support::script::{Script, answer, completion, with_headers};
use support::{Folder, Outcome, Run, item, items};

/// Holds what JSON and addresses escape, around a part that no encoder touches.
const KEY: &str = "sk-ab/cd+c4narybird=ef";
const UNTOUCHED: &str = "c4narybird";

/// The key as servers spell it inside a JSON string.
const SPELLINGS: [&str; 9] = [
    KEY,
    r"sk-ab\/cd\u002Bc4narybird\u003def",
    r"\u0073\u006b-ab\/cd+\u0063\u0034\u006eary\u0062ird=ef",
    "sk-ab%2Fcd%2bc4narybird%3Def",
    r"sk-ab\\/cd\\u002bc4narybird=ef",
    "sk-ab&#x2F;cd&#43;c4narybird&equals;ef",
    r"sk-ab\u0026#47;cd\u0026amp;plus;c4narybird=ef",
    r"sk-ab/cd\n    +c4narybird=ef",
    r"sk-ab/ cd+ c4narybird =ef",
];

const WAYS_TO_RUN: [&[&str]; 4] = [
    &["-v", "--progress", "log"],
    &["-v", "--progress", "json", "--json"],
    &["--progress", "none", "--format", "openai"],
    &["--lean", "--progress", "bar"],
];

/// Asserts that no byte of a run tells the key, also when its JSON is read.
fn assert_secret(run: &Outcome, said: &str) {
    let mut content = run.folder.content();
    content.insert("stdout".to_owned(), run.stdout.clone().into());
    content.insert("stderr".to_owned(), run.stderr.clone().into());
    content.retain(|name, _| name != "in.jsonl" && name != "key.txt");
    for (name, bytes) in content {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(UNTOUCHED), "{said}: {name}: {text}");
        for value in text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
        {
            assert!(!holds(&value, UNTOUCHED), "{said}: {name}: {value}");
        }
    }
}

fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(string) => string.contains(text),
        Value::Array(values) => values.iter().any(|value| holds(value, text)),
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| name.contains(text) || holds(value, text)),
        _ => false,
    }
}

/// Runs in every way against a server that says the same to everyone.
fn says(code: i32, said: &str, response: String) {
    let script = Script::serve(move |_| response.clone());
    for way in WAYS_TO_RUN {
        let folder = Folder::new();
        let run = Run::inside(&folder)
            .input(items(2))
            .ask(&script.base_url())
            .args(["-c", "1", "--max-retries", "0"])
            .args(way.iter().copied())
            .env("OPENAI_API_KEY", KEY)
            .env("TMPDIR", folder.path(".").to_str().unwrap())
            .loud()
            .expect_code(code)
            .any_stderr()
            .run();
        assert_secret(&run, said);
    }
    assert!(script.asked()[0].head.contains(KEY));
}

/// An error body whose JSON is written by hand, so that escapes stay as they are.
fn error(status: &str, words: &str) -> String {
    let body = format!(r#"{{"error":{{"message":"Incorrect key: {words}.","code":"{words}"}}}}"#);
    with_headers(status, "", &body)
}

// Negative control: `Http::redact` or `Http::strike_from` doing nothing, or one spelling left
// out of `transport::secret`.
#[test]
fn an_echoed_key_stands_nowhere_however_it_is_spelled() {
    let told = SPELLINGS.map(|spelled| std::thread::spawn(move || tells(spelled)));
    told.into_iter().for_each(|told| told.join().unwrap());
}

fn tells(spelled: &str) {
    says(4, "401", error("401 Unauthorized", spelled));
    says(3, "400", error("400 Bad Request", spelled));
    says(3, "500", error("500 Internal Server Error", spelled));
    says(3, "an error inside 200", error("200 OK", spelled));
    let body = completion("it is KEY").to_string().replace("KEY", spelled);
    says(0, "200", with_headers("200 OK", "", &body));
    let field = body.replacen("\"id\"", &format!("\"{spelled}\":1,\"id\""), 1);
    says(0, "a field's name", with_headers("200 OK", "", &field));
    says(3, "no JSON", with_headers("200 OK", "", spelled));
}

#[test]
fn a_key_echoed_in_headers_stands_nowhere() {
    for spelled in [KEY, SPELLINGS[3]] {
        let header = format!("x-request-id: {spelled}\r\nretry-after: {spelled}\r\n");
        let fine = completion("fine").to_string();
        says(0, "request id", with_headers("200 OK", &header, &fine));
        says(3, "retry-after", with_headers("500 Oh", &header, "{}"));
        let header = format!("location: http://{spelled}.example/{spelled}?key={spelled}\r\n");
        says(4, "location", with_headers("302 Found", &header, ""));
    }
}

#[test]
fn a_redirect_takes_neither_key_nor_prompt_elsewhere() {
    for status in [
        "301 Moved",
        "302 Found",
        "303 See Other",
        "307 Temporary",
        "308 Permanent",
    ] {
        let decoy = Script::serve(|_| answer("gotcha"));
        let target = format!("location: {}/chat/completions\r\n", decoy.base_url());
        let script = Script::serve(move |_| with_headers(status, &target, ""));
        Run::new()
            .input(items(3))
            .ask(&script.base_url())
            .env("OPENAI_API_KEY", KEY)
            .args(["-c", "1"])
            .expect_code(4)
            .expect_stderr(["redirects are not followed", "hint: check --base-url"])
            .run();
        assert_eq!(decoy.asked().len(), 0, "{status}");
        assert_eq!(script.asked().len(), 1, "{status}");
    }
}

/// Returns a folder with one item.
fn folder() -> std::sync::Arc<Folder> {
    let folder = Folder::new();
    folder.write("in.jsonl", item(0));
    folder
}

/// Asks a server with these flags and returns the authorization that it saw.
fn sent(folder: &std::sync::Arc<Folder>, args: &[&str]) -> String {
    let script = Script::serve(|_| answer("fine"));
    let run = Run::inside(folder)
        .args(["in.jsonl", "--overwrite"])
        .ask(&script.base_url())
        .args(args.iter().copied())
        .run();
    assert_secret(&run, "a good run");
    let head = script.asked()[0].head.clone();
    let line = head
        .lines()
        .find(|line| line.starts_with("authorization: "));
    line.unwrap_or_default().to_owned()
}

#[test]
fn a_key_may_come_from_a_file_or_a_command() {
    let folder = folder();
    let expected = format!("authorization: Bearer {KEY}");
    folder.write("key.txt", format!("{KEY}\n"));
    assert_eq!(sent(&folder, &["--api-key-file", "key.txt"]), expected);
    for command in [
        "cat key.txt",
        "printf %s \"$(cat key.txt)\"",
        "cat key.txt; echo >&2",
    ] {
        let quiet = format!("{{ {command}; }} 2>/dev/null");
        assert_eq!(sent(&folder, &["--api-key-command", &quiet]), expected);
    }
}

// Negative control: showing the output, or taking it in spite of a failure.
#[test]
fn a_command_that_gives_no_key_is_refused_without_showing_what_it_said() {
    for (command, reason) in [
        (format!("echo {KEY}; exit 3"), "failed (exit status: 3)"),
        (format!("echo {KEY}; kill -9 $$"), "failed (signal: 9"),
        ("true".to_owned(), "printed nothing"),
        ("echo".to_owned(), "printed nothing"),
        (format!("echo {KEY} and more"), "holds a space"),
        (format!("echo {KEY}; echo {KEY}"), "a line break"),
        (format!("printf '{KEY}\\r\\n\\n'"), "a line break"),
        ("yes".to_owned(), "failed ("),
        (
            "no-such-command 2>/dev/null".to_owned(),
            "failed (exit status: 127)",
        ),
    ] {
        let run = Run::inside(&folder())
            .args(["in.jsonl", "--api-key-command", &command])
            .ask("http://127.0.0.1:9/v1")
            .expect_code(2)
            .any_stderr()
            .run();
        let error = run.stderr.lines().next().unwrap();
        let named = error.starts_with("error: --api-key-command") && error.contains(reason);
        assert!(named, "{command}: {}", run.stderr);
        assert_secret(&run, &command);
        assert_eq!(run.folder.names(), ["in.jsonl"]);
    }
}

#[test]
fn a_bad_key_is_refused_by_its_source() {
    let folder = folder();
    folder.write("empty.txt", "\n");
    folder.write("two.txt", format!("{KEY}\n{KEY}\n"));
    for (args, reason) in [
        (["--api-key-file", "none.txt"], "none.txt cannot be read"),
        (["--api-key-file", "."], "--api-key-file . cannot be read"),
        (["--api-key-file", "empty.txt"], "empty.txt is empty"),
        (
            ["--api-key-file", "two.txt"],
            "two.txt: the key holds a space, a line break",
        ),
        (["--api-key-file", "/dev/zero"], "/dev/zero: the key holds"),
        (
            ["--api-key-env", "NONE_SUCH"],
            "NONE_SUCH is not set or empty",
        ),
        (["--api-key-env", "QUOTED"], "QUOTED: the key holds"),
        (
            ["--api-key-env", KEY],
            "--api-key-env takes the name of a variable",
        ),
    ] {
        let run = Run::inside(&folder)
            .args(["in.jsonl"])
            .args(args)
            .ask("http://127.0.0.1:9/v1")
            .env("QUOTED", &format!("\"{KEY} \""))
            .expect_code(2)
            .any_stderr()
            .run();
        assert!(run.stderr.contains(reason), "{args:?}: {}", run.stderr);
        let said = run.stderr.lines().any(|line| line.contains(UNTOUCHED));
        assert!(!said, "{args:?}: {}", run.stderr);
    }
}

/// Somebody types the key where its source is meant, and what is refused shows up in logs.
// Negative control: `is_variable` or `is_path` returning true.
#[test]
fn a_key_in_place_of_its_source_is_not_shown() {
    for (flag, key) in [
        ("--api-key-env", "gsk_0123456789abcdefABCDEFc4narybird"),
        ("--api-key-env", "hf_AbCdEfGhIjKlMnOpc4narybird"),
        ("--api-key-file", "sk-proj-AbCd_0123456789-c4narybird"),
        ("--api-key-file", "sk-proj.AbCd/0123456789-c4narybird"),
        ("--api-key-file", "AIzaSyAbCd_0123456789.c4narybird"),
    ] {
        for url in ["http://127.0.0.1:9/v1", "https://llm.invalid/v1"] {
            let run = Run::inside(&folder())
                .args(["in.jsonl", flag, key])
                .ask(url)
                .loud()
                .expect_code(2)
                .any_stderr()
                .run();
            assert_secret(&run, key);
        }
    }
}

#[test]
fn a_key_in_place_of_the_simulators_variable_is_not_shown() {
    let run = Run::command(&Folder::new(), &["simulate", "--port", "0"])
        .args(["--api-key-env", "gsk_c4narybird"])
        .expect_code(2)
        .expect_stderr(["error: the variable of --api-key-env is not set"])
        .run();
    assert_secret(&run, "the simulator's key");
}

#[test]
fn sources_of_a_key_exclude_each_other() {
    let flags = [
        ["--api-key-file", "f"],
        ["--api-key-env", "E"],
        ["--api-key-command", "c"],
        ["--simulate=", "-q"],
    ];
    for (at, one) in flags.iter().enumerate() {
        for other in &flags[at + 1..] {
            let run = Run::command(&folder(), &["run", "in.jsonl", "-m", "m"])
                .args(*one)
                .args(*other)
                .expect_code(2)
                .any_stderr()
                .run();
            assert!(run.stderr.contains("cannot be used with"), "{}", run.stderr);
        }
    }
}

#[test]
fn there_is_no_flag_for_the_key_itself_and_none_is_repeated() {
    for args in [&["--api-key", KEY][..], &[&format!("--api-key={KEY}")]] {
        let run = Run::command(&folder(), &["run", "in.jsonl"])
            .args(args.iter().copied())
            .expect_code(2)
            .any_stderr()
            .run();
        assert!(run.stderr.contains("unexpected argument"), "{}", run.stderr);
        assert!(!run.stderr.contains(UNTOUCHED), "{}", run.stderr);
    }
}

// Negative control: leaving `OTHERS_READ` out of `settings::key::read`.
#[test]
fn a_key_file_that_others_can_read_is_noted() {
    for (mode, notes) in [(0o600, 0), (0o640, 1), (0o604, 1), (0o400, 0)] {
        let folder = folder();
        folder.write("key.txt", KEY);
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(folder.path("key.txt"), permissions).unwrap();
        let script = Script::serve(|_| answer("fine"));
        let run = Run::inside(&folder)
            .args([
                "in.jsonl",
                "--api-key-file",
                "key.txt",
                "--progress",
                "none",
            ])
            .ask(&script.base_url())
            .loud()
            .any_stderr()
            .run();
        let noted = run
            .stderr
            .matches("key.txt can be read by other users")
            .count();
        assert_eq!(noted, notes, "{mode:o}: {}", run.stderr);
        assert_secret(&run, "a key file");
    }
}

// Negative control: leaving `refuse_open_way` out of `settings::target`.
#[test]
fn a_key_goes_to_other_machines_over_a_closed_way_only() {
    for url in [
        "http://llm.invalid/v1",
        "HTTP://192.0.2.1:8000/v1",
        "http://[2001:db8::1]/",
    ] {
        let run = Run::inside(&folder())
            .args(["in.jsonl"])
            .ask(url)
            .env("OPENAI_API_KEY", KEY)
            .expect_code(2)
            .expect_stderr([
                "the key of OPENAI_API_KEY would travel unencrypted to ",
                "hint: https://…, or --allow-http",
            ])
            .run();
        assert_eq!(run.folder.names(), ["in.jsonl"]);
    }
    for query in ["key=0123456789", "0123456789", "0123456789=="] {
        Run::inside(&folder())
            .args(["in.jsonl"])
            .ask(&format!("http://llm.invalid/v1?{query}"))
            .expect_code(2)
            .expect_stderr([
                "the key of the query string would travel unencrypted to http://llm.invalid/v1",
                "hint: ",
            ])
            .run();
    }
}

#[test]
fn allow_http_sends_the_key_all_the_same_and_without_a_key_it_is_not_needed() {
    let proxy = Script::serve(|_| answer("fine"));
    let through = proxy.base_url().replace("/v1", "");
    for (args, key, sent) in [(&["--allow-http"][..], KEY, true), (&[], "", false)] {
        Run::inside(&folder())
            .args(["in.jsonl"])
            .ask("http://llm.invalid/v1")
            .args(args.iter().copied())
            .env("HTTP_PROXY", &through)
            .env("OPENAI_API_KEY", key)
            .run();
        let asked = proxy.asked();
        let head = &asked.last().unwrap().head;
        assert!(head.starts_with("POST http://llm.invalid/v1/chat/completions "));
        assert_eq!(head.contains(KEY), sent);
    }
}

#[test]
fn a_user_in_the_base_url_is_refused_and_not_shown() {
    for url in [
        "https://user:c4narybird@llm.invalid/v1",
        "http://c4narybird@127.0.0.1:9/v1",
    ] {
        for from in ["flag", "environment"] {
            let run = Run::inside(&folder()).args(["in.jsonl", "-m", "m"]);
            let run = match from {
                "flag" => run.args(["--base-url", url]),
                _ => run.env("OPENAI_BASE_URL", url),
            };
            let run = run
                .expect_code(2)
                .expect_stderr(["the base URL holds a user name or a password", "hint: "])
                .run();
            assert_secret(&run, url);
        }
    }
}

// Negative control: leaving the base URL's secrets out of `Target::secrets` and `terminal::conceal`;
// a spelling or a name out of `BaseUrl::secrets`.
#[test]
fn what_the_query_string_says_stands_nowhere() {
    let script = Script::serve(|asked| {
        let target = asked.head.lines().next().unwrap().to_owned();
        let body = json!({"error": {"message": format!("bad request: {target}")}});
        with_headers("500 Oh", "", &body.to_string())
    });
    for way in WAYS_TO_RUN {
        for query in [
            "key=a%2Fc4narybird",
            "key=abcd+c4narybird",
            "c4narybird",
            "c4narybird==",
        ] {
            let url = format!("{}?api-version=2026-01-01&{query}", script.base_url());
            let run = Run::inside(&folder())
                .args(["in.jsonl", "--max-retries", "0"])
                .ask(&url)
                .args(way.iter().copied())
                .loud()
                .expect_code(3)
                .any_stderr()
                .run();
            let head = script.asked().pop().unwrap().head;
            assert!(
                head.contains(&format!("?api-version=2026-01-01&{query} ")),
                "{head}"
            );
            // With the command that goes on.
            assert_secret(&run, query);
        }
    }
}

/// A crash would write the memory, and the key with it, into a core file.
#[test]
fn a_killed_process_leaves_no_core_file() {
    let folder = folder();
    let server = support::server::Server::start("stall=1");
    let mut child = std::process::Command::new("sh")
        .args(["-c", "ulimit -c unlimited 2>/dev/null; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_llmbatch"))
        .args([
            "run",
            "in.jsonl",
            "-m",
            "m",
            "-q",
            "--base-url",
            server.base_url(),
        ])
        .env("OPENAI_API_KEY", KEY)
        .current_dir(folder.path("."))
        .spawn()
        .unwrap();
    support::wait_until("the request", || server.count("in_flight") == 1);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<_> = core.unwrap().split_whitespace().collect();
    let abort = ["-s", "ABRT", &child.id().to_string()].map(str::to_owned);
    std::process::Command::new("kill")
        .args(abort)
        .status()
        .unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(words[4..6], ["0", "0"], "{core:?}");
    let names = folder.names();
    assert!(names.iter().all(|name| !name.contains("core")), "{names:?}");
}
