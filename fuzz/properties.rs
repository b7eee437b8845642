//! What holds for any bytes that come in from outside: shared by the fuzz targets and by
//! `tests/properties.rs`, which is all that CI runs of it.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use llmbatch::input::{Defaults, Reader, check};
use llmbatch::output::checkpoint::RunIdentity;
use llmbatch::output::{self, Disk, OpenError, Paths, Request, StartMode};
use llmbatch::provider::Provider;
use llmbatch::provider::key::ApiKey;
use llmbatch::provider::openai::OpenAi;
use llmbatch::provider::preset::Preset;
use llmbatch::provider::{retry_after, wait};
use llmbatch::words::item::{Entry, ItemId};
use llmbatch::words::tokens::Usage;
use llmbatch::words::verdict::Verdict;
use llmbatch::words::wire::Reply;

const KEY: &str = "sk-canary-4b1d9e77c2a05f36";

/// Takes the files of an earlier run from one run of bytes: results, errors and checkpoint, with
/// lines of `%%` between them.
pub fn recovery_of(content: &[u8]) {
    let mut parts = parts(content);
    let mut next = || parts.next().unwrap_or_default();
    recovery(next(), next(), next());
}

/// Takes a response from one run of bytes: a line with the status, lines of headers, a line of
/// `%%`, the body. Without a status there is none.
pub fn response_of(content: &[u8]) {
    let line_end = content.iter().position(|byte| *byte == b'\n');
    let (status, rest) = content.split_at(line_end.unwrap_or(content.len()));
    let status = std::str::from_utf8(status)
        .ok()
        .and_then(|text| text.parse().ok());
    if let Some(status) = status.filter(|status| (100..1000).contains(status)) {
        let mut parts = parts(rest);
        let headers = parts.next().unwrap_or_default();
        response(status, headers, parts.next().unwrap_or_default());
    }
}

/// Cuts bytes apart at lines of `%%`.
fn parts(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(content);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let mark = bytes.windows(4).position(|window| window == b"\n%%\n");
        let (part, after) = match mark {
            Some(at) => (&bytes[..=at], Some(&bytes[at + 4..])),
            None => (bytes, None),
        };
        rest = after;
        Some(part)
    })
}

/// Each line that is not blank is one entry, with its true number, a running index and an id of
/// its own; a file and a stream read alike, and twice alike.
pub fn input(content: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    let defaults = Defaults {
        model: Some("m".into()),
        ..Defaults::default()
    };
    let census = check(file.path(), &defaults, 20).unwrap();
    let read = || {
        let mut reader = Reader::open(file.path(), &defaults, &census).unwrap();
        let mut stream = Reader::streaming(content, &defaults);
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            let same = stream.next_entry().unwrap().expect("the stream is shorter");
            assert_eq!(format!("{entry:?}"), format!("{same:?}"));
            entries.push(entry);
        }
        assert!(
            stream.next_entry().unwrap().is_none(),
            "the stream is longer"
        );
        entries
    };
    let entries = read();
    assert_eq!(format!("{entries:?}"), format!("{:?}", read()));
    let (mut ids, mut bad) = (HashSet::new(), 0);
    let expected = lines_that_are_not_blank(content);
    assert_eq!(entries.len(), expected.len());
    assert_eq!(census.lines, expected.len() as u64);
    for (at, (entry, (number, text))) in entries.iter().zip(expected).enumerate() {
        let (id, index, line) = match entry {
            Entry::Item(item) => {
                assert!(is_object(text) && is_object(&item.body));
                (&item.id, item.index, item.line)
            }
            Entry::Bad(line) => {
                bad += 1;
                assert!(!line.problem.is_empty());
                (&line.id, line.index, line.line)
            }
        };
        assert_eq!((index, line), (at as u64, number));
        assert!(!id.as_str().is_empty());
        assert!(ids.insert(id.clone()), "{id} stands twice");
    }
    assert_eq!(census.bad, bad);
}

/// Tells whether a text is an object, by its grammar: half an emoji in it is not our concern.
fn is_object(text: &[u8]) -> bool {
    let raw = serde_json::from_slice::<&RawValue>(text);
    raw.is_ok_and(|raw| raw.get().starts_with('{'))
}

/// Reads lines in the plainest way: numbers from 1, no byte order mark, no blanks around them.
fn lines_that_are_not_blank(content: &[u8]) -> Vec<(u64, &[u8])> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let lines = content.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let numbered = (1..).zip(lines);
    numbered.filter(|(_, text)| !text.is_empty()).collect()
}

/// The files of an earlier run, whatever is in them, can be taken up: no start is refused, no
/// whole row is lost, and doing it again changes nothing.
pub fn recovery(results: &[u8], errors: &[u8], checkpoint: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("out.jsonl"), results).unwrap();
    std::fs::write(path("out.errors.jsonl"), errors).unwrap();
    std::fs::write(path("out.checkpoint.json"), blessed(checkpoint)).unwrap();
    let before = files(folder.path());
    if !resume(folder.path(), results) {
        assert!(
            before == files(folder.path()),
            "a refusal changed the files"
        );
        return;
    }
    let once = files(folder.path());
    assert_nothing_is_lost(results, &once.results, &once.torn);
    assert_error_rows_stay(errors, &once);
    assert!(resume(folder.path(), &once.results));
    assert!(
        once == files(folder.path()),
        "taking up again changed the files"
    );
}

/// Takes files up; false where they are refused, since the results hold no row at all.
fn resume(folder: &Path, results: &[u8]) -> bool {
    let paths = Paths::beside(&folder.join("out.jsonl"));
    let request = Request {
        paths: &paths,
        mode: StartMode::Resume,
        input_path: &folder.join("in.jsonl"),
        input: None,
        run: &RunIdentity::default(),
        allow_changes: true,
        retry: &[],
        disk: Disk::default(),
        room: 0,
    };
    let opened = match output::open(&request) {
        Ok(opened) => opened,
        Err(OpenError::Foreign { .. }) => {
            assert!(ids(results).is_empty(), "rows are taken for something else");
            return false;
        }
        Err(error) => panic!("refused: {error:?}"),
    };
    for (id, _) in ids(results) {
        let done = opened.finished.row(u64::MAX, &ItemId::from(id.as_str()));
        assert!(done.is_some(), "the result of {id:?} is forgotten");
    }
    true
}

#[derive(PartialEq)]
struct Files {
    results: Vec<u8>,
    errors: Vec<u8>,
    torn: Vec<u8>,
}

fn files(folder: &Path) -> Files {
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap_or_default();
    Files {
        results: read("out.jsonl"),
        errors: read("out.errors.jsonl"),
        torn: read("out.torn"),
    }
}

/// Gives a checkpoint that begins with `!` its envelope, so that what is in it gets read.
fn blessed(checkpoint: &[u8]) -> Vec<u8> {
    let Some(state) = checkpoint.strip_prefix(b"!") else {
        return checkpoint.to_vec();
    };
    let state = state.trim_ascii();
    let checksum = xxhash_rust::xxh3::xxh3_64(state);
    let mut text = format!(r#"{{"version":1,"checksum":"{checksum:016x}","state":"#).into_bytes();
    text.extend_from_slice(state);
    text.extend_from_slice(b"}\n");
    text
}

/// Every line stands there still, in the same order, or was no JSON and is set aside.
fn assert_nothing_is_lost(before: &[u8], after: &[u8], torn: &[u8]) {
    let mut kept = after.split_inclusive(|byte| *byte == b'\n').peekable();
    for line in before.split_inclusive(|byte| *byte == b'\n') {
        let is_same = |kept: &[u8]| kept == line || kept.strip_suffix(b"\n") == Some(line);
        if kept.next_if(|kept| is_same(kept)).is_some() {
            continue;
        }
        let is_json = serde_json::from_slice::<IgnoredAny>(line).is_ok();
        assert!(!is_json || !line.ends_with(b"\n"), "a whole line is gone");
        let is_aside = torn.windows(line.len()).any(|part| part == line);
        assert!(is_aside, "a line is neither kept nor set aside");
    }
    assert!(kept.next().is_none(), "a line came from nowhere");
}

/// An item whose error row was whole still has one, unless it has a result.
fn assert_error_rows_stay(before: &[u8], after: &Files) {
    let stay = names(&after.errors);
    let done = names(&after.results);
    for (id, status) in ids(before) {
        // Bad lines are found anew.
        if status == "invalid_input" {
            continue;
        }
        let is_there = stay.contains(&id) || done.contains(&id);
        assert!(is_there, "the error row of {id:?} is gone");
    }
}

/// Returns the ids of whole lines that are rows beyond doubt, with their statuses.
fn ids(file: &[u8]) -> Vec<(String, String)> {
    let whole = file
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| line.ends_with(b"\n"));
    let row = |line: &[u8]| -> Option<(String, String)> {
        let row: Value = serde_json::from_slice(line).ok()?;
        let text = |name: &str| row.get(name)?.as_str().map(str::to_owned);
        let only_ours = row
            .as_object()?
            .keys()
            .all(|key| OURS.contains(&key.as_str()));
        let status = text("status").filter(|status| STATUSES.contains(&status.as_str()))?;
        // No name stands twice, and nothing is spelled in another way than ours.
        let is_plain = row.to_string().len() == line.trim_ascii_end().len();
        let is_ours = is_plain && only_ours && row.get("index")?.is_u64();
        is_ours.then_some((text("id")?, status))
    };
    whole.filter_map(row).collect()
}

/// Returns every name that a line gives to anything which may be a row of ours.
fn names(file: &[u8]) -> HashSet<String> {
    let names = |line: &[u8]| {
        let fields: HashMap<String, &RawValue> = serde_json::from_slice(line).ok()?;
        let name = |key: &str| serde_json::from_str(fields.get(key)?.get()).ok();
        Some(["id", "custom_id"].map(name))
    };
    let lines = file.split(|byte| *byte == b'\n').filter_map(names);
    lines.flatten().flatten().collect()
}

const OURS: [&str; 5] = ["id", "index", "status", "content", "response"];
const STATUSES: [&str; 6] = [
    "ok",
    "failed",
    "filtered",
    "rejected",
    "invalid",
    "invalid_input",
];

/// A response has one meaning; what it says it used can be reckoned with; an answer comes only
/// from a whole document with a good status; and the key is in none of it.
pub fn response(status: u16, headers: &[u8], body: &[u8]) {
    let reply = Reply {
        status: StatusCode::from_u16(status).unwrap(),
        headers: header_map(headers),
        body: bytes::Bytes::copy_from_slice(body),
        received: received(),
    };
    let is_whole = serde_json::from_slice::<&RawValue>(body).is_ok();
    let key = ApiKey::new(KEY).unwrap();
    for base_url in ["http://127.0.0.1:1/v1", "https://openrouter.ai/api/v1"] {
        let provider = OpenAi::new(Preset::GENERIC, base_url, Some(&key)).unwrap();
        if let Some(usage) = provider.usage(&reply) {
            assert_reckonable(&usage);
        }
        let verdict = provider.verdict(&Ok(reply.clone()));
        assert!(!format!("{verdict:?}").contains(KEY));
        match verdict {
            Verdict::Done(answer) => {
                assert!((200..300).contains(&status) && is_whole);
                answer.usage.iter().for_each(assert_reckonable);
            }
            Verdict::Throttle { failure, wait } => {
                assert_short(&failure.message);
                wait.iter().copied().for_each(assert_sane);
            }
            Verdict::Retry(failure)
            | Verdict::Malformed(failure)
            | Verdict::Foreign(failure)
            | Verdict::Fail(failure)
            | Verdict::Reject(failure)
            | Verdict::Filter(failure)
            | Verdict::Mismatch(failure)
            | Verdict::Halt(failure) => assert_short(&failure.message),
        }
    }
}

/// No figure is beyond what sums and prices can take, and what was cached was asked.
fn assert_reckonable(usage: &Usage) {
    const MOST: u64 = 4_000_000_000;
    let parts = [
        usage.cached,
        usage.cache_write,
        usage.cache_write_long,
        usage.reasoning,
    ];
    let wholes = [usage.prompt, usage.completion, usage.total, usage.audio];
    let mut figures = parts.iter().flatten().chain(&wholes);
    assert!(figures.all(|figure| figure.0 <= MOST), "{usage:?}");
    assert!(
        usage.cached.is_none_or(|cached| cached <= usage.prompt),
        "{usage:?}"
    );
    serde_json::to_string(usage).unwrap();
}

fn assert_short(message: &str) {
    assert!(
        !message.is_empty() && message.len() < 4096,
        "{} bytes",
        message.len()
    );
}

/// No wait is nothing, and each can be added to the present.
fn assert_sane(wait: Duration) {
    assert!(!wait.is_zero() && wait <= wait::LONGEST, "{wait:?}");
    assert!(Instant::now().checked_add(wait).is_some());
}

/// Whatever a server writes about waiting, it is a sane wait or none.
pub fn waits(content: &[u8]) {
    let headers = header_map(content);
    retry_after::from_headers(&headers, received())
        .into_iter()
        .for_each(assert_sane);
    retry_after::server_time(&headers, received());
    let text = String::from_utf8_lossy(content);
    retry_after::from_message(&text)
        .into_iter()
        .for_each(assert_sane);
    for line in text.lines() {
        let waits = [
            wait::parse_wait(line, received()),
            wait::parse_go_duration(line),
        ];
        let is_sane = |wait: &Duration| *wait <= wait::LONGEST;
        assert!(waits.iter().flatten().all(is_sane), "{line:?}: {waits:?}");
    }
}

/// Takes lines as headers, as far as they can be some.
fn header_map(lines: &[u8]) -> HeaderMap {
    let header = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        Some((
            name,
            HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?,
        ))
    };
    lines
        .split(|byte| *byte == b'\n')
        .filter_map(header)
        .collect()
}

/// 2026-11-22T10:00:00Z.
fn received() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_341_600)
}
