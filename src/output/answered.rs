//! What an earlier row says of its answer: tokens, cost and time. Either format is read.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::words::item::fingerprint;
use crate::words::money::Usd;
use crate::words::tokens::{Tokens, Usage};

/// A result that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The fingerprint of the item's id.
    pub id: u128,
    /// `None` where the answer did not say.
    pub usage: Option<Usage>,
    /// `None` where it was not known, or not written down.
    pub cost: Option<Usd>,
    pub latency: Option<Duration>,
}

/// Reads a file of rows line by line, in the memory of one line.
pub fn each_row(path: &Path, mut hear: impl FnMut(&[u8])) -> io::Result<()> {
    let mut file = BufReader::with_capacity(256 << 10, File::open(path)?);
    let mut line = Vec::new();
    while file.read_until(b'\n', &mut line)? > 0 {
        hear(&line);
        line.clear();
    }
    Ok(())
}

/// Reads a row of a results file; nothing where the line is no result.
pub fn read_answered(line: &[u8]) -> Option<Answered> {
    let row: Row<'_> = serde_json::from_slice(line).ok()?;
    let (id, usage) = match (row.custom_id, row.response, row.status) {
        (Some(id), Some(response), _) => {
            let response: Response = serde_json::from_str(response.get()).ok()?;
            (id, response.body.and_then(|body| body.usage))
        }
        (None, _, Some(status)) if status == "ok" => (row.id?, row.usage),
        _ => return None,
    };
    Some(Answered {
        id: fingerprint(&id),
        usage: usage.map(Usage::from),
        cost: row.cost_usd.and_then(|cost| Usd::parse(cost.get()).ok()),
        latency: row.latency_ms.map(Duration::from_millis),
    })
}

/// An item of the errors file, with what it used and cost all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    pub id: u128,
    pub usage: Usage,
    pub cost: Usd,
}

/// Reads a row of an errors file; nothing where the line is none.
pub fn read_failed(line: &[u8]) -> Option<Failed> {
    let row: Row<'_> = serde_json::from_slice(line).ok()?;
    row.status.filter(|status| status != "ok")?;
    Some(Failed {
        id: fingerprint(&row.id?),
        usage: row.usage.map(Usage::from).unwrap_or_default(),
        cost: row
            .cost_usd
            .and_then(|cost| Usd::parse(cost.get()).ok())
            .unwrap_or_default(),
    })
}

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    custom_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    status: Option<Cow<'a, str>>,
    usage: Option<Figures>,
    #[serde(borrow)]
    cost_usd: Option<&'a RawValue>,
    latency_ms: Option<u64>,
    /// In a native row the answer as received, whatever it is.
    #[serde(borrow)]
    response: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Response {
    body: Option<Body>,
}

#[derive(Deserialize)]
struct Body {
    usage: Option<Figures>,
}

/// A `usage` object, with its parts beside the sums as in our rows, or inside as on the wire.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Figures {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    cached_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
    completion_tokens_details: Option<Details>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
}

impl From<Figures> for Usage {
    fn from(figures: Figures) -> Self {
        let prompt = figures.prompt_tokens_details.unwrap_or_default();
        let completion = figures.completion_tokens_details.unwrap_or_default();
        let cached = figures.cached_tokens.or(prompt.cached_tokens);
        let reasoning = figures.reasoning_tokens.or(completion.reasoning_tokens);
        Usage {
            prompt: Tokens(figures.prompt_tokens),
            completion: Tokens(figures.completion_tokens),
            total: Tokens(figures.total_tokens),
            cached: cached.map(Tokens),
            reasoning: reasoning.map(Tokens),
            ..Usage::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Answered> {
        read_answered(line.as_bytes())
    }

    #[test]
    fn a_native_row_tells_everything() {
        let row = r#"{"id":"t-1","index":0,"status":"ok","content":"é","usage":{"prompt_tokens":231,"completion_tokens":2,"total_tokens":233,"cached_tokens":9},"cost_usd":0.00003585,"attempts":1,"latency_ms":812,"metadata":null}"#;
        let answered = read(row).unwrap();
        assert_eq!(answered.id, fingerprint("t-1"));
        assert_eq!(answered.cost, Usd::parse("0.00003585").ok());
        assert_eq!(answered.latency, Some(Duration::from_millis(812)));
        let usage = answered.usage.unwrap();
        assert_eq!((usage.prompt, usage.completion), (Tokens(231), Tokens(2)));
        assert_eq!(usage.cached, Some(Tokens(9)));
    }

    #[test]
    fn an_openai_row_tells_its_tokens() {
        let row = r#"{"id":"batch_req_1","custom_id":"t-1","response":{"status_code":200,"request_id":null,"body":{"id":"x","usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12,"completion_tokens_details":{"reasoning_tokens":3}}}},"error":null}"#;
        let answered = read(row).unwrap();
        assert_eq!(answered.id, fingerprint("t-1"));
        let usage = answered.usage.unwrap();
        assert_eq!(
            (usage.completion, usage.reasoning),
            (Tokens(7), Some(Tokens(3)))
        );
        assert_eq!((answered.cost, answered.latency), (None, None));
    }

    #[test]
    fn a_row_without_usage_is_a_result_all_the_same() {
        let row = r#"{"id":"t-1","status":"ok","usage":null,"cost_usd":null,"latency_ms":1}"#;
        assert_eq!(read(row).unwrap().usage, None);
    }

    #[test]
    fn an_error_row_tells_what_it_cost_all_the_same() {
        let row = r#"{"id":"t-1","index":0,"status":"invalid","error":{},"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12},"cost_usd":0.001,"attempts":2,"metadata":null}"#;
        let failed = read_failed(row.as_bytes()).unwrap();
        assert_eq!(failed.usage.completion, Tokens(7));
        assert_eq!(failed.cost.to_string(), "0.001");
        let refused = read_failed(br#"{"id":"t-1","status":"rejected"}"#).unwrap();
        assert_eq!(refused.cost, Usd::ZERO);
        assert_eq!(read_failed(br#"{"id":"t-1","status":"ok"}"#), None);
    }

    #[test]
    fn what_is_no_result_is_none() {
        for line in [
            r#"{"id":"t-1","status":"failed","usage":null}"#,
            r#"{"id":"t-1"}"#,
            "[]",
            "x",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
