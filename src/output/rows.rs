//! How a record reads as a line, and what of a line is needed to know it again.
//!
//! A new output format is one function here. Every writer ends its line with a line feed and has
//! none inside.

use std::borrow::Cow;

use base64::Engine as _;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::words::item::ItemId;
use crate::words::money::Usd;
use crate::words::record::{ErrorStatus, Outcome, Record};
use crate::words::tokens::Usage;
use crate::words::verdict::{Answer, Failure, FailureKind};

/// Levels of nesting that every reader takes; with the row's own, some stop at 128.
const DEEPEST: usize = 100;

/// The form of the results file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    #[default]
    Native,
    /// OpenAI Batch output lines.
    Openai,
}

#[derive(Serialize)]
struct NativeRow<'a> {
    id: &'a str,
    index: u64,
    status: &'static str,
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<&'a RawValue>,
    finish_reason: Option<&'a str>,
    model: Option<&'a str>,
    usage: Option<Usage>,
    /// `null` where it is not known, which is not zero.
    cost_usd: Option<Box<RawValue>>,
    attempts: u32,
    latency_ms: u64,
    metadata: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Cow<'a, RawValue>>,
}

#[derive(Serialize)]
struct OpenAiRow<'a> {
    id: String,
    custom_id: &'a str,
    response: OpenAiResponse<'a>,
    error: Option<()>,
}

#[derive(Serialize)]
struct OpenAiResponse<'a> {
    status_code: u16,
    request_id: Option<&'a str>,
    body: Cow<'a, RawValue>,
}

#[derive(Serialize)]
struct ErrorRow<'a> {
    id: &'a str,
    index: u64,
    status: ErrorStatus,
    error: ErrorObject<'a>,
    /// What an answer that cannot be used cost all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<Box<RawValue>>,
    attempts: u32,
    metadata: Option<&'a RawValue>,
    /// The answer that was paid for: as received where it is JSON, else as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Cow<'a, RawValue>>,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    kind: FailureKind,
    message: &'a str,
    http_status: Option<u16>,
    code: Option<&'a str>,
    retryable: bool,
}

/// Appends a record's line to `buffer`. Which file it belongs to is the outcome's matter.
pub fn write(record: &Record, format: Format, lean: bool, buffer: &mut Vec<u8>) {
    match (&record.outcome, format) {
        (Outcome::Ok { answer, body, .. }, Format::Native) => {
            push(buffer, &native_row(record, answer, (!lean).then_some(body)));
        }
        (
            Outcome::Ok {
                answer,
                body,
                http_status,
            },
            Format::Openai,
        ) => {
            push(buffer, &openai_row(record, answer, *http_status, body));
        }
        (
            Outcome::Error {
                status,
                failure,
                kept,
            },
            _,
        ) => {
            push(buffer, &error_row(record, *status, failure, kept.as_ref()));
        }
    }
}

fn push(buffer: &mut Vec<u8>, row: &impl Serialize) {
    serde_json::to_writer(&mut *buffer, row).expect("a row of plain values always serializes");
    buffer.push(b'\n');
}

fn native_row<'a>(
    record: &'a Record,
    answer: &'a Answer,
    body: Option<&'a Bytes>,
) -> NativeRow<'a> {
    NativeRow {
        id: record.id.as_str(),
        index: record.index,
        status: "ok",
        content: answer.content.as_deref(),
        refusal: answer.refusal.as_deref(),
        tool_calls: answer.tool_calls.as_deref(),
        finish_reason: answer.finish_reason.as_deref(),
        model: answer.model.as_deref().or(Some(&record.model)),
        usage: answer.usage,
        cost_usd: record.bill.charge.known().map(Usd::to_json),
        attempts: record.attempts,
        latency_ms: record.latency.as_millis() as u64,
        metadata: record.metadata.as_deref(),
        response: body.map(one_line),
    }
}

fn openai_row<'a>(
    record: &'a Record,
    answer: &'a Answer,
    status_code: u16,
    body: &'a Bytes,
) -> OpenAiRow<'a> {
    OpenAiRow {
        id: format!("batch_req_{:032x}", record.id.fingerprint()),
        custom_id: record.id.as_str(),
        response: OpenAiResponse {
            status_code,
            request_id: answer.request_id.as_deref(),
            body: one_line(body),
        },
        error: None,
    }
}

fn error_row<'a>(
    record: &'a Record,
    status: ErrorStatus,
    failure: &'a Failure,
    kept: Option<&'a Bytes>,
) -> ErrorRow<'a> {
    ErrorRow {
        id: record.id.as_str(),
        index: record.index,
        status,
        error: ErrorObject {
            kind: failure.kind,
            message: &failure.message,
            http_status: failure.http_status,
            code: failure.code.as_deref(),
            retryable: failure.kind.retryable(),
        },
        usage: record.bill.usage,
        cost_usd: record.bill.charge.known().map(Usd::to_json),
        attempts: record.attempts,
        metadata: record.metadata.as_deref(),
        response: kept.map(one_line),
    }
}

/// Returns a body as one JSON value on one line: byte for byte where it is that already, with
/// blanks for line breaks where it is pretty-printed, else as a string, or base64 where it is no
/// text at all. What is nested deeper than readers of JSON go is a string too.
fn one_line(body: &Bytes) -> Cow<'_, RawValue> {
    if is_deep(body) {
        return Cow::Owned(as_string(body));
    }
    let breaks = memchr::memchr2(b'\n', b'\r', body).is_some();
    if !breaks && let Ok(raw) = serde_json::from_slice::<&RawValue>(body) {
        return Cow::Borrowed(raw);
    }
    // JSON has no bare line breaks inside strings, so every one of them is white space.
    let blanked: Vec<u8> = body
        .iter()
        .map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b })
        .collect();
    if let Ok(raw) = serde_json::from_slice::<Box<RawValue>>(&blanked) {
        return Cow::Owned(raw);
    }
    Cow::Owned(as_string(body))
}

fn as_string(body: &Bytes) -> Box<RawValue> {
    let value = match std::str::from_utf8(body) {
        Ok(text) => serde_json::to_string(text),
        Err(_) => {
            let base64 = base64::engine::general_purpose::STANDARD.encode(body);
            serde_json::to_string(&serde_json::json!({ "base64": base64 }))
        }
    };
    let value = value.expect("strings always serialize");
    RawValue::from_string(value).expect("it was serialized just now")
}

/// Tells whether JSON is nested deeper than all readers go.
fn is_deep(json: &[u8]) -> bool {
    if memchr::memchr2_iter(b'[', b'{', json).count() <= DEEPEST {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    json.iter().any(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
        depth > DEEPEST as i64
    })
}

/// What recovery reads of a row in either format.
#[derive(Debug, PartialEq, Eq)]
pub struct RowHead {
    pub id: ItemId,
    pub index: Option<u64>,
    /// `None` for a result.
    pub error: Option<ErrorStatus>,
    /// Known in the native form only.
    pub cost: Option<Usd>,
}

/// Reads a row's head; `None` where the line is no row of ours.
pub fn read_head(line: &[u8]) -> Option<RowHead> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
        #[serde(borrow)]
        custom_id: Option<Cow<'a, str>>,
        index: Option<u64>,
        #[serde(borrow)]
        status: Option<Cow<'a, str>>,
        #[serde(borrow)]
        cost_usd: Option<&'a RawValue>,
    }
    let head: Head<'_> = serde_json::from_slice(line).ok()?;
    let error = match head.status.as_deref() {
        None | Some("ok") => None,
        Some(word) => Some(
            ErrorStatus::ALL
                .into_iter()
                .find(|status| status.word() == word)?,
        ),
    };
    if head.custom_id.is_none() && head.status.is_none() {
        return None;
    }
    let id = head.custom_id.unwrap_or(head.id);
    Some(RowHead {
        id: id.as_ref().into(),
        index: head.index,
        error,
        cost: head.cost_usd.and_then(|raw| Usd::parse(raw.get()).ok()),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::words::tariff::{Bill, Charge};
    use crate::words::tokens::Tokens;

    fn ok_record(body: &'static str) -> Record {
        Record {
            id: "t-1".into(),
            index: 7,
            metadata: RawValue::from_string(r#"{"customer":42}"#.into()).ok(),
            attempts: 1,
            latency: Duration::from_millis(812),
            model: "m".into(),
            bill: Bill {
                usage: None,
                charge: Charge::Known(Usd::parse("0.00003585").unwrap()),
            },
            outcome: Outcome::Ok {
                answer: Box::new(Answer {
                    content: Some("billing".into()),
                    finish_reason: Some("stop".into()),
                    model: Some("m-1".into()),
                    usage: Some(Usage {
                        prompt: Tokens(231),
                        completion: Tokens(2),
                        total: Tokens(233),
                        ..Usage::default()
                    }),
                    request_id: Some("req_1".into()),
                    ..Answer::default()
                }),
                http_status: 200,
                body: body.into(),
            },
        }
    }

    fn error_record(kept: Option<&'static [u8]>) -> Record {
        Record {
            outcome: Outcome::Error {
                status: ErrorStatus::Invalid,
                failure: Failure {
                    kind: FailureKind::Malformed,
                    message: "no choices".into(),
                    http_status: Some(200),
                    code: None,
                },
                kept: kept.map(Bytes::from_static),
            },
            ..ok_record("")
        }
    }

    fn line(record: &Record, format: Format, lean: bool) -> String {
        let mut buffer = Vec::new();
        write(record, format, lean, &mut buffer);
        let text = String::from_utf8(buffer).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        text.trim_end().to_owned()
    }

    #[test]
    fn a_native_row_reads_as_the_contract_says() {
        assert_eq!(
            line(&ok_record(r#"{"x": 1.10}"#), Format::Native, false),
            r#"{"id":"t-1","index":7,"status":"ok","content":"billing","finish_reason":"stop","model":"m-1","usage":{"prompt_tokens":231,"completion_tokens":2,"total_tokens":233},"cost_usd":0.00003585,"attempts":1,"latency_ms":812,"metadata":{"customer":42},"response":{"x": 1.10}}"#
        );
    }

    #[test]
    fn a_lean_row_has_no_response() {
        assert!(!line(&ok_record("{}"), Format::Native, true).contains("response"));
    }

    #[test]
    fn an_openai_row_is_a_batch_output_line() {
        let text = line(&ok_record(r#"{"x":1}"#), Format::Openai, false);
        assert!(text.starts_with(r#"{"id":"batch_req_"#), "{text}");
        assert!(text.ends_with(
            r#""custom_id":"t-1","response":{"status_code":200,"request_id":"req_1","body":{"x":1}},"error":null}"#
        ), "{text}");
    }

    #[test]
    fn a_pretty_printed_body_takes_one_line() {
        let text = line(&ok_record("\n{\r\n  \"x\": 1\n}\n"), Format::Native, false);
        assert!(text.ends_with("\"response\":{    \"x\": 1 }}"), "{text}");
    }

    #[test]
    fn a_body_that_is_nested_too_deep_is_kept_as_text() {
        let nested = |levels: usize| "[".repeat(levels) + "\"[[\\\"[\"" + &"]".repeat(levels);
        let many = format!("[{}]", vec!["[]"; 1000].join(","));
        for (body, is_text) in [
            (nested(DEEPEST), false),
            (nested(DEEPEST + 1), true),
            (nested(100_000), true),
            (many, false),
            (format!("\"{}\"", "[".repeat(1000)), false),
        ] {
            let row = line(&ok_record(body.clone().leak()), Format::Native, false);
            let row: serde_json::Value = serde_json::from_str(&row).unwrap();
            assert_eq!(row["response"].as_str() == Some(&body), is_text);
        }
    }

    #[test]
    fn an_error_row_keeps_the_answer_whatever_it_is() {
        assert_eq!(
            line(&error_record(Some(b"<html>\n")), Format::Openai, false),
            r#"{"id":"t-1","index":7,"status":"invalid","error":{"kind":"malformed","message":"no choices","http_status":200,"code":null,"retryable":true},"cost_usd":0.00003585,"attempts":1,"metadata":{"customer":42},"response":"<html>\n"}"#
        );
        assert!(
            line(&error_record(Some(b"\xff")), Format::Native, false)
                .contains(r#"{"base64":"/w=="}"#)
        );
        assert!(!line(&error_record(None), Format::Native, false).contains("response"));
    }

    #[test]
    fn every_row_is_known_again() {
        let ok = ok_record(r#"{"id":"inner","status":"x"}"#);
        let head = |error, index| RowHead {
            id: "t-1".into(),
            index,
            error,
            // Rows of the other form do not say.
            cost: index.and_then(|_| Usd::parse("0.00003585").ok()),
        };
        let read = |text: String| read_head(text.as_bytes());
        assert_eq!(
            read(line(&ok, Format::Native, false)),
            Some(head(None, Some(7)))
        );
        assert_eq!(
            read(line(&ok, Format::Openai, false)),
            Some(head(None, None))
        );
        let invalid = Some(ErrorStatus::Invalid);
        let error = error_record(None);
        assert_eq!(
            read(line(&error, Format::Native, false)),
            Some(head(invalid, Some(7)))
        );
        assert_eq!(read_head(b"{\"id\":\"x\"}"), None);
        assert_eq!(read_head(b"{\"id\":\"x\",\"status\":\"odd\"}"), None);
        assert_eq!(read_head(b"\0\0\0"), None);
    }
}
