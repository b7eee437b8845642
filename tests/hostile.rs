//! Input, answers and settings that nobody means well: what is refused is refused before the first
//! request, what comes back is stored as it is, and nothing of it steers a terminal.

mod support;

use std::sync::Arc;

use support::{Folder, Run, item, items};

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
