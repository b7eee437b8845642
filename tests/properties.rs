//! What holds for any bytes from outside. The fuzz targets try the same properties at length; see
//! `fuzz/`.

#[path = "../fuzz/properties.rs"]
mod properties;

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::select;

/// Joins pieces into one run of bytes.
fn concat(
    piece: impl Strategy<Value = Vec<u8>> + 'static,
    most: usize,
) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(piece, 0..most).prop_map(|pieces| pieces.concat())
}

fn bytes(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    select(texts).prop_map(|text| text.as_bytes().to_vec())
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..12)
}

fn any_input() -> impl Strategy<Value = Vec<u8>> {
    let lines = bytes(&[
        r#"{"id":"a","prompt":"p"}"#,
        r#"{"id":1,"prompt":"p"}"#,
        r#"{"prompt":"p","system":"s","max_tokens":3,"mine":[1,{"a":null}]}"#,
        r#"{"id":null,"messages":[{"role":"user","content":"c"}],"metadata":{"k":1}}"#,
        r#"{"custom_id":"c","method":"POST","url":"/v1/chat/completions","body":{"messages":[{"role":"user","content":"c"}]}}"#,
        r#"{"id":"\ud83d","prompt":"\u202e\u0000"}"#,
        r#"{"id":"a","id":"b","prompt":"p"}"#,
        r#"{"id":"a","prompt":7}"#,
    ]);
    let line = (lines, bytes(&["\n", "\r\n"])).prop_map(|(line, end)| [line, end].concat());
    let marks = bytes(&["\n", "\r\n", " ", "\t", "\u{feff}", "{", "}", ",", "\""]);
    concat(prop_oneof![8 => line, 2 => marks, 1 => noise()], 24)
}

/// Rows of both files, whole and torn, and what does not belong there.
fn any_rows() -> impl Strategy<Value = Vec<u8>> {
    let statuses = vec![
        "ok",
        "failed",
        "filtered",
        "rejected",
        "invalid",
        "invalid_input",
    ];
    let row = (0..6u64, select(statuses), any::<bool>()).prop_map(|(n, status, is_whole)| {
        let mut row = format!("{{\"id\":\"t-{n}\",\"index\":{n},\"status\":\"{status}\"}}\n");
        if !is_whole {
            row.truncate(row.len() / 2);
        }
        row.into_bytes()
    });
    let others = bytes(&[
        "\n",
        "\0\0\0\0",
        "\0\n",
        "{\"id\":\"x\"}\n",
        "7\n",
        "\u{feff}",
        "{\"id\":\"t-1\",\"index\":1,\"status\":\"ok\"}",
        "{\"id\":\"b\",\"custom_id\":\"t-2\",\"response\":null,\"error\":null}\n",
    ]);
    concat(prop_oneof![6 => row, 2 => others, 1 => noise()], 10)
}

fn any_checkpoint() -> impl Strategy<Value = Vec<u8>> {
    let state = (any::<u64>(), any::<bool>(), 0..300u64, select(vec!["null", "\"\"", "\"OjAAAA==\"", "7"]))
        .prop_map(|(large, clean, bytes, finished)| {
            format!(
                r#"!{{"run":{{"model":"m","prompt":null,"system":null,"params":{{}},"format":"native","lean":false}},
                "input":null,"results_bytes":{bytes},"errors_bytes":{large},"results_tail":{large},
                "finished":{finished},"finished_count":{large},"spent":{{"requests":{large},"unpriced":{large},"ceiling":"1e30"}},
                "lengths":[[511,{}],[3,1]],"clean":{clean},"in_flight":{large}}}"#,
                large as u32
            )
            .into_bytes()
        });
    prop_oneof![
        3 => state,
        1 => noise(),
        1 => bytes(&["", "!{}", "!null", "{\"version\":2}", "{\"version\":1,\"checksum\":\"\",\"state\":{}}"]),
    ]
}

/// A body made of the words that answers and errors are made of, or of a recorded one with a hole.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let words = bytes(&[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "null",
        "0",
        "-1",
        "1e999",
        "18446744073709551615",
        "\"7\"",
        "true",
        r#""choices":[{"message":{"content":"x"},"finish_reason":"stop"}]"#,
        r#""usage":"#,
        r#""prompt_tokens":"#,
        r#""completion_tokens":"#,
        r#""total_tokens":"#,
        r#""input_tokens":"#,
        r#""cache_read_input_tokens":"#,
        r#""cost":"#,
        r#""error":"#,
        r#""message":"#,
        r#""code":"#,
        r#""insufficient_quota""#,
        "\\ud83d",
        "\u{202e}",
        "\0",
    ]);
    let recorded = (select(recorded()), any::<prop::sample::Index>(), noise()).prop_map(
        |(mut body, at, noise)| {
            let at = at.index(body.len());
            body.splice(at..body.len().min(at + noise.len() / 2), noise);
            body
        },
    );
    let usage = (any::<[u64; 6]>(), any::<bool>()).prop_map(|(n, wild)| {
        let n = n.map(|n| if wild { n } else { n % 100 });
        format!(
            r#"{{"choices":[{{"message":{{"content":"x"}}}}],"usage":{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},
            "prompt_tokens_details":{{"cached_tokens":{},"cache_write_tokens":{}}},"completion_tokens_details":{{"reasoning_tokens":{}}}}}}}"#,
            n[0], n[1], n[2], n[3], n[4], n[5]
        )
        .into_bytes()
    });
    prop_oneof![concat(words, 20), recorded, usage]
}

/// The bodies of the fixtures.
fn recorded() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/provider");
    let files = std::fs::read_dir(folder).unwrap();
    files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect()
}

fn any_headers() -> impl Strategy<Value = Vec<u8>> {
    let names = bytes(&[
        "retry-after: ",
        "retry-after-ms: ",
        "date: ",
        "x-request-id: ",
        "content-type: ",
        "try again in ",
    ]);
    let values = bytes(&[
        "0",
        "-1",
        "NaN",
        "1e9",
        "1e999",
        "99999999999999999999",
        "1,200",
        ".5",
        "6m0s",
        "1h2m",
        "174ms",
        "20 seconds",
        "Sun, 22 Nov 2026 10:00:05 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "2026-11-22T10:00:05Z",
        "Sun Nov 22 10:00:05 2026",
    ]);
    let line = (names, values, noise(), 0..4u8).prop_map(|(name, value, noise, kind)| {
        let value = if kind == 0 {
            [value, noise].concat()
        } else {
            value
        };
        [name, value, b"\n".to_vec()].concat()
    });
    concat(line, 5)
}

fn any_status() -> impl Strategy<Value = u16> {
    prop_oneof![Just(200), Just(429), Just(400), 100..1000u16]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    // Turned red by: `Identities::assign_derived` giving the bare name each time.
    #[test]
    fn any_bytes_are_entries(content in any_input()) {
        properties::input(&content);
    }

    // Turned red by: `Journal::mend` cutting a tail without setting it aside, or `take_up_errors`
    // keeping the first row of an item in place of the last.
    #[test]
    fn any_files_can_be_taken_up(results in any_rows(), errors in any_rows(), checkpoint in any_checkpoint()) {
        properties::recovery(&results, &errors, &checkpoint);
    }

    // Turned red by: `amount` in `completion.rs` believing any figure.
    #[test]
    fn any_response_has_a_meaning(status in any_status(), headers in any_headers(), body in any_body()) {
        properties::response(status, &headers, &body);
    }

    // Turned red by: `seconds` not cutting at the longest wait.
    #[test]
    fn any_wait_is_sane(lines in any_headers()) {
        properties::waits(&lines);
    }
}

/// What the fuzz targets start from holds too.
#[test]
fn the_seeds_hold() {
    let seeds = |target: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/seeds")
            .join(target);
        let files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        assert!(!files.is_empty(), "{target}");
        files.into_iter().map(|path| std::fs::read(path).unwrap())
    };
    seeds("input").for_each(|content| properties::input(&content));
    seeds("headers").for_each(|content| properties::waits(&content));
    for content in seeds("recovery") {
        properties::recovery_of(&content);
    }
    for content in seeds("response") {
        properties::response_of(&content);
    }
}
