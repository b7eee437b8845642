//! What a server says when it refuses: one message and its codes, out of every shape in which the
//! field writes errors.
//!
//! Nothing is decided here. The shapes are read in the order in which they are least ambiguous:
//! list root, `error` object, `error` text, `detail`, flat root, and last the body as plain text.

use serde_json::Value;

/// Longer messages are cut: an error body may repeat the whole prompt.
pub(super) const LONGEST_MESSAGE: usize = 2_000;

/// An error body, taken apart.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    pub message: String,
    /// The most telling of the server's codes, for the errors file.
    pub code: Option<String>,
    /// The error object, or null where the body was no JSON.
    error: Value,
    /// Every code, type and status in the error object, in lower case.
    names: Vec<String>,
}

impl Complaint {
    /// Reads an error body. Never fails: at worst the message is the body's beginning.
    pub fn read(body: &[u8]) -> Complaint {
        match serde_json::from_slice(body) {
            Ok(root) => Complaint::of(root),
            Err(_) => Complaint::in_words(&plain_text(body)),
        }
    }

    /// Makes a complaint that has a message and no codes.
    pub fn in_words(message: &str) -> Complaint {
        Complaint {
            message: message.to_owned(),
            ..Complaint::default()
        }
    }

    /// Reads an error that is parsed already: a whole body, or a part of one.
    pub fn of(root: Value) -> Complaint {
        let error = subject(root);
        let names = names(&error);
        let mut message = text_of(&error).unwrap_or_default();
        if let Some(upstream) = upstream(&error)
            && !message.contains(&upstream)
        {
            message = format!("{message}: {upstream}");
        }
        if message.is_empty() {
            message = match names.first() {
                Some(name) => name.clone(),
                None => error.to_string(),
            };
        }
        Complaint {
            message: folded(&message),
            code: telling_code(&error),
            error,
            names,
        }
    }

    /// Tells whether one of the server's codes is in `codes`, which are in lower case.
    pub fn is_any(&self, codes: &[&str]) -> bool {
        self.names.iter().any(|name| codes.contains(&name.as_str()))
    }

    /// Returns the first code that is an HTTP error status.
    pub fn status(&self) -> Option<u16> {
        self.names
            .iter()
            .filter_map(|name| name.parse().ok())
            .find(|status| (400..600).contains(status))
    }

    /// Returns a field of the error's `metadata`, in which OpenRouter puts its reasons.
    pub fn metadata(&self, field: &str) -> Option<&Value> {
        self.error
            .get("metadata")?
            .get(field)
            .filter(|value| !is_blank(value))
    }

    /// Returns the entries of Google's `details`.
    pub fn details(&self) -> &[Value] {
        match self.error.get("details") {
            Some(Value::Array(details)) => details,
            _ => &[],
        }
    }
}

/// Tells whether a value in an `error` field says that there is none: some gateways fill it with
/// empty texts in every answer.
pub(super) fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(values) => values.iter().all(is_blank),
        Value::Object(fields) => fields.values().all(is_blank),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(true) => false,
    }
}

/// Folds blanks and line breaks, and cuts what is too long. Every other character stays as it came:
/// files hold it escaped, and who shows it makes it visible.
pub(super) fn folded(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(LONGEST_MESSAGE + 4));
    let mut length = 0;
    let is_blank = |c: char| c == '\t' || c.is_whitespace() && !c.is_control();
    let words = text.trim().lines().flat_map(|line| line.split(is_blank));
    for word in words.filter(|word| !word.is_empty()) {
        let gap = usize::from(length > 0);
        if gap == 1 {
            out.push(' ');
        }
        let left = LONGEST_MESSAGE.saturating_sub(length + gap);
        out.extend(word.chars().take(left));
        length += gap + word.chars().count();
        if length > LONGEST_MESSAGE {
            out.push('…');
            break;
        }
    }
    out
}

/// Finds the object that describes the error.
fn subject(root: Value) -> Value {
    match root {
        Value::Array(list) => list.into_iter().next().map_or(Value::Null, subject),
        Value::Object(mut fields) => {
            for nest in ["error", "detail"] {
                if fields.get(nest).is_some_and(Value::is_object) {
                    return subject(fields.remove(nest).unwrap_or_default());
                }
            }
            Value::Object(fields)
        }
        other => other,
    }
}

/// Finds the words for people in an error of any shape.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Array(list) => {
            let texts: Vec<_> = list.iter().filter_map(text_of).collect();
            (!texts.is_empty()).then(|| texts.join("; "))
        }
        Value::Object(fields) => ["error", "message", "detail", "msg", "error_description"]
            .iter()
            .find_map(|name| text_of(fields.get(*name)?)),
        _ => None,
    }
}

/// Finds the error of the provider behind a router, which writes it as JSON inside a string.
fn upstream(error: &Value) -> Option<String> {
    let raw = error.get("metadata")?.get("raw")?.as_str()?;
    match serde_json::from_str(raw) {
        Ok(inner) => text_of(&subject(inner)),
        Err(_) => text_of(&Value::from(raw)),
    }
}

/// The places in which codes stand. Each may be a string or a number.
const CODE_PATHS: [&str; 9] = [
    "/code",
    "/type",
    "/status",
    "/innererror/code",
    "/details/error_code",
    "/metadata/error_type",
    "/metadata/reason",
    "/metadata/limit_source",
    "/object",
];

fn names(error: &Value) -> Vec<String> {
    let mut names: Vec<_> = CODE_PATHS
        .iter()
        .filter_map(|path| scalar(error.pointer(path)?))
        .map(|name| name.to_lowercase())
        .collect();
    if let Some(Value::Array(details)) = error.get("details") {
        let reasons = details
            .iter()
            .filter_map(|detail| scalar(detail.get("reason")?));
        names.extend(reasons.map(|reason| reason.to_lowercase()));
    }
    names
}

/// Chooses the code for the errors file: a number that only repeats the HTTP status says less than
/// a name beside it.
fn telling_code(error: &Value) -> Option<String> {
    let field = |name| scalar(error.get(name)?);
    let code = field("code");
    let repeats_status = |code: &String| {
        code.parse::<u16>()
            .is_ok_and(|number| (100..600).contains(&number))
    };
    code.clone()
        .filter(|code| !repeats_status(code))
        .or_else(|| field("type"))
        .or_else(|| field("status"))
        .or(code)
        .map(|code| folded(&code).chars().take(200).collect())
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Makes a message of a body that is no JSON: the title of an HTML page, else the beginning.
fn plain_text(body: &[u8]) -> String {
    let start = String::from_utf8_lossy(&body[..body.len().min(4 * LONGEST_MESSAGE)]);
    match title(&start) {
        Some(title) => folded(&format!("an HTML page with the title `{}`", title.trim())),
        None => folded(&start),
    }
}

fn title(page: &str) -> Option<&str> {
    // Lowering ASCII letters keeps every byte in its place.
    let lower = page.to_ascii_lowercase();
    if !lower.trim_start().starts_with('<') {
        return None;
    }
    let start = lower.find("<title>")? + "<title>".len();
    let end = start + lower[start..].find("</title>")?;
    Some(&page[start..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Complaint {
        Complaint::read(body.as_bytes())
    }

    #[test]
    fn the_message_is_found_in_every_shape() {
        for body in [
            r#"{"error":{"message":"no room","type":"t","param":null,"code":null}}"#,
            r#"[{"error":{"message":"no room"}}]"#,
            r#"{"error":"no room"}"#,
            r#"{"detail":"no room"}"#,
            r#"{"detail":[{"loc":["body"],"msg":"no room","type":"missing"}]}"#,
            r#"{"detail":{"error":{"message":"no room"}}}"#,
            r#"{"object":"error","message":"no room","code":400}"#,
            r#"{"message":{"detail":[{"msg":"no room"}]}}"#,
            r#"{"message":"no room"}"#,
            r#"{"error":{"error":{"message":"no room"}}}"#,
            r#"{"error":{"message":"no room","detail":"at noon"}}"#,
            r#"{"error":"no room","message":null}"#,
            r#""no room""#,
            "no \n\t room",
        ] {
            assert_eq!(read(body).message, "no room", "{body}");
        }
    }

    #[test]
    fn several_findings_are_joined() {
        let body = r#"{"detail":[{"msg":"a is missing"},{"msg":"b is extra"}]}"#;
        assert_eq!(read(body).message, "a is missing; b is extra");
    }

    #[test]
    fn an_html_page_is_named_by_its_title() {
        let page = "<!DOCTYPE html><HTML><Title> 502\n Bad Gateway</TITLE><body>İ long</body>";
        assert_eq!(
            read(page).message,
            "an HTML page with the title `502 Bad Gateway`"
        );
    }

    #[test]
    fn an_error_without_words_is_named_by_its_code_or_shown() {
        assert_eq!(
            read(r#"{"error":{"code":"server_busy"}}"#).message,
            "server_busy"
        );
        assert_eq!(read(r#"{"error":{"hint":[]}}"#).message, r#"{"hint":[]}"#);
        assert_eq!(read("").message, "");
    }

    #[test]
    fn codes_are_read_from_strings_and_numbers() {
        let code = |body| read(body).code;
        assert_eq!(
            code(r#"{"error":{"code":"invalid_api_key","type":"t"}}"#).unwrap(),
            "invalid_api_key"
        );
        assert_eq!(
            code(r#"{"error":{"code":400,"type":"BadRequestError"}}"#).unwrap(),
            "BadRequestError"
        );
        assert_eq!(
            code(r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}"#).unwrap(),
            "RESOURCE_EXHAUSTED"
        );
        assert_eq!(code(r#"{"error":{"code":"429"}}"#).unwrap(), "429");
        assert_eq!(
            code(r#"{"message":"m","type":"rate_limited","code":"1300"}"#).unwrap(),
            "1300"
        );
        assert_eq!(code(r#"{"error":{"code":null,"type":null}}"#), None);
        assert_eq!(code(r#"{"error":{"code":{"a":1},"type":["x"]}}"#), None);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let body = format!(r#"{{"error":{{"message":"{}"}}}}"#, "ä".repeat(9_000));
        let message = read(&body).message;
        assert_eq!(message.chars().count(), LONGEST_MESSAGE + 1);
        assert!(message.ends_with("ä…"));
        assert_eq!(
            folded(&"wort ".repeat(3_000)).chars().count(),
            LONGEST_MESSAGE + 1
        );
        assert_eq!(
            folded(&"x".repeat(LONGEST_MESSAGE)).chars().count(),
            LONGEST_MESSAGE
        );
    }

    // Negative control: splitting at every control character.
    #[test]
    fn control_characters_stay_and_start_no_line() {
        assert_eq!(
            read(r#"{"error":"\u001b[2J\u001b]0;PWN\u0007 over\rloaded\u0085"}"#).message,
            "\u{1b}[2J\u{1b}]0;PWN\u{7} over\rloaded"
        );
        assert_eq!(
            read("a\r\nb\n\tc\u{2028}d \u{3000}e\u{c}").message,
            "a b c d e"
        );
        assert_eq!(read("a\u{0}b\u{b}c\u{c}d").message, "a\u{0}b\u{b}c\u{c}d");
    }

    #[test]
    fn the_error_behind_a_router_is_shown() {
        let body = r#"{"error":{"message":"Provider returned error","code":400,
            "metadata":{"raw":"{\"error\":{\"message\":\"prompt is too long\"}}"}}}"#;
        assert_eq!(
            read(body).message,
            "Provider returned error: prompt is too long"
        );
    }

    #[test]
    fn an_error_field_of_empty_texts_is_blank() {
        let blank = |json| is_blank(&serde_json::from_str(json).unwrap());
        assert!(blank(r#"{"message":"","type":"","param":"","code":null}"#));
        assert!(blank("null") && blank("{}") && blank("\"\"") && blank("false") && blank("0"));
        assert!(!blank(r#"{"message":"","code":429}"#) && !blank("\"x\"") && !blank("true"));
    }
}
