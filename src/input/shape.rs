//! The five forms of an input line, and the one request that each of them becomes.
//!
//! Pure: text and the run's defaults in, a request or a problem out. A field that is not a chat
//! parameter is the user's own data: it is never sent, and comes back as the row's metadata.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bounds::bounds;
use super::parameters::is_sent;
use super::template::Template;
use crate::words::fields::{Fields, ObjectWriter, quoted};
use crate::words::tariff::Bounds;

/// The longest id, in bytes.
pub const MAX_ID: usize = 512;

/// What the run's flags fill into lines that do not say it themselves.
#[derive(Default)]
pub struct Defaults {
    pub model: Option<Arc<str>>,
    /// Chat parameters with their raw JSON values; sent also if no list knows the name.
    pub params: Vec<(String, String)>,
    /// Makes every line a record that fills this template.
    pub prompt: Option<Template>,
    pub system: Option<Template>,
}

/// One line's request, before it has a place and a final id.
#[derive(Debug)]
pub struct Shaped {
    /// The line's own id, if it has one.
    pub id: Option<String>,
    pub model: Arc<str>,
    pub model_is_shared: bool,
    pub body: Bytes,
    pub metadata: Option<Box<RawValue>>,
    pub bounds: Bounds,
    pub expects_json: bool,
}

/// Why a line cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Neither the line nor the run names a model. Told apart because it is the one problem that
    /// a flag alone can cause.
    NoModel,
    Other(String),
}

impl Problem {
    fn because(text: impl Into<String>) -> Self {
        Problem::Other(text.into())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::NoModel => f.write_str("no model: add \"model\" to the line or pass --model"),
            Problem::Other(text) => f.write_str(text),
        }
    }
}

/// A request's fields on the way to the wire: borrowed where the line has them.
type RequestFields<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// A line taken apart by its form.
struct Parts<'a> {
    id: Option<String>,
    request: RequestFields<'a>,
    own: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// The text that the request already is, if nothing needs to be filled in.
    verbatim: Option<&'a str>,
    system: Option<String>,
}

/// Turns one line's text into a request.
pub fn shape(text: &str, defaults: &Defaults) -> Result<Shaped, Problem> {
    let fields = Fields::parse(text).map_err(|error| not_json(text, &error))?;
    let record_system = match &defaults.system {
        Some(template) => Some(template.render(&fields).map_err(Problem::Other)?),
        None => None,
    };
    let mut parts = match &defaults.prompt {
        Some(template) => record(fields, template)?,
        None if fields.raw("body").is_some_and(is_object) => batch_line(fields)?,
        None if fields.raw("messages").is_some() => messages_line(fields, defaults)?,
        None if fields.raw("prompt").is_some() => prompt_line(fields, defaults)?,
        None => {
            return Err(Problem::because(
                "no \"prompt\", \"messages\" or \"body\": for records, pass --prompt TEMPLATE",
            ));
        }
    };
    let line_has_system = has_system(&parts)?;
    let system = parts
        .system
        .take()
        .or(record_system.filter(|_| !line_has_system));
    if let Some(system) = system {
        prepend_system(&mut parts, &system);
    }
    fill(parts, defaults)
}

fn not_json(text: &str, error: &serde_json::Error) -> Problem {
    let mut what = error.to_string();
    if let Some(at) = what.rfind(" at line ") {
        what.truncate(at);
    }
    if error.is_data() && !what.contains("stands twice") {
        return Problem::because("not a JSON object");
    }
    // A data error is found behind the value; only a syntax error has a column worth telling.
    match error.is_syntax() || error.is_eof() {
        true => {
            let column = error.column().min(text.len());
            Problem::Other(format!("not JSON: {what} at column {column}"))
        }
        false => Problem::Other(what),
    }
}

fn is_object(raw: &RawValue) -> bool {
    raw.get().starts_with('{')
}

fn string(raw: &RawValue, name: &str) -> Result<String, Problem> {
    serde_json::from_str(raw.get())
        .map_err(|_| Problem::Other(format!("{name} is not a string that can be read")))
}

/// Reads an id: a string, or an integer kept as its digits. `null` is no id.
fn id(raw: Option<&RawValue>, name: &str) -> Result<Option<String>, Problem> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else {
        return Ok(None);
    };
    let text = raw.get();
    let digits = text.strip_prefix('-').unwrap_or(text);
    let id = if text.starts_with('"') {
        string(raw, name)?
    } else if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        text.to_owned()
    } else {
        let shown: String = text.chars().take(40).collect();
        return Err(Problem::Other(format!(
            "{name} must be a string or an integer, not {shown}"
        )));
    };
    match id.len() {
        0 => Err(Problem::Other(format!("{name} is empty"))),
        n if n > MAX_ID => Err(Problem::Other(format!(
            "{name} is {n} bytes long, the limit is {MAX_ID}"
        ))),
        _ => Ok(Some(id)),
    }
}

/// Returns the id of a line that has some other problem, so that its row can carry it.
pub fn id_of_bad_line(line: &[u8]) -> Option<String> {
    let fields = Fields::parse(std::str::from_utf8(line).ok()?).ok()?;
    ["id", "custom_id"]
        .iter()
        .find_map(|key| id(fields.raw(key), key).ok().flatten())
}

/// Any record: its fields fill the template and are data only, whatever they are called.
fn record<'a>(fields: Fields<'a>, template: &Template) -> Result<Parts<'a>, Problem> {
    let id = id(fields.raw("id"), "id")?;
    let prompt = template.render(&fields).map_err(Problem::Other)?;
    let own = fields.into_iter().filter(|(key, _)| key != "id").collect();
    Ok(Parts {
        id,
        request: user_message(&prompt),
        own,
        verbatim: None,
        system: None,
    })
}

fn user_message<'a>(prompt: &str) -> RequestFields<'a> {
    let messages = format!(r#"[{{"role":"user","content":{}}}]"#, quoted(prompt));
    vec![("messages".into(), messages.into())]
}

fn prompt_line<'a>(fields: Fields<'a>, defaults: &Defaults) -> Result<Parts<'a>, Problem> {
    let prompt = fields.raw("prompt").expect("the caller saw it");
    if !prompt.get().starts_with('"') {
        return Err(Problem::because("\"prompt\" must be a string"));
    }
    let prompt = string(prompt, "\"prompt\"")?;
    let mut parts = split(fields, defaults, &["prompt"])?;
    parts.request.extend(user_message(&prompt));
    Ok(parts)
}

/// A line with messages and parameters of its own, with an id or without: a bare request body.
fn messages_line<'a>(fields: Fields<'a>, defaults: &Defaults) -> Result<Parts<'a>, Problem> {
    if fields.has("prompt") {
        return Err(Problem::because(
            "\"prompt\" and \"messages\" stand together: keep one",
        ));
    }
    split(fields, defaults, &[])
}

/// Sorts a line's fields into its request, the user's own data, and what the form has used up.
fn split<'a>(fields: Fields<'a>, defaults: &Defaults, used: &[&str]) -> Result<Parts<'a>, Problem> {
    // Where there is an `id`, a `custom_id` is data like any other field.
    let id_key = if fields.has("id") { "id" } else { "custom_id" };
    let id = id(fields.raw(id_key), id_key)?;
    let system = match fields
        .raw("system")
        .filter(|raw| raw.get().starts_with('"'))
    {
        Some(raw) => Some(string(raw, "\"system\"")?),
        None if fields.has("system") => {
            return Err(Problem::because("\"system\" must be a string"));
        }
        None => None,
    };
    // OpenAI takes `metadata` only with `store`; everywhere else it is the user's own.
    let stored = fields.raw("store").is_some_and(|raw| raw.get() == "true");
    let mut parts = Parts {
        id,
        request: Vec::new(),
        own: Vec::new(),
        verbatim: None,
        system,
    };
    for (key, value) in fields {
        if key == "id" && id_key == "id" || key == "custom_id" && id_key == "custom_id" {
            continue;
        }
        if key == "id" || key == "system" || used.contains(&key.as_ref()) {
            continue;
        }
        if key == "messages" || is_sent(&key, &defaults.params) {
            parts.request.push((key, Cow::Borrowed(value.get())));
        } else {
            if stored && key == "metadata" {
                parts
                    .request
                    .push((key.clone(), Cow::Borrowed(value.get())));
            }
            parts.own.push((key, value));
        }
    }
    Ok(parts)
}

/// An OpenAI Batch line: its body is sent as it stands.
fn batch_line(fields: Fields<'_>) -> Result<Parts<'_>, Problem> {
    if let Some(method) = fields.raw("method").filter(|raw| raw.get() != "\"POST\"") {
        return Err(Problem::Other(format!(
            "method must be \"POST\", not {}",
            method.get()
        )));
    }
    if let Some(raw) = fields.raw("url") {
        let url = string(raw, "url")?;
        if !url.ends_with("/chat/completions") {
            return Err(Problem::Other(format!(
                "url {} is not served: only /v1/chat/completions is",
                quoted(&url)
            )));
        }
    }
    let id_key = if fields.has("custom_id") {
        "custom_id"
    } else {
        "id"
    };
    let id = id(fields.raw(id_key), id_key)?;
    let body = fields.raw("body").expect("the caller saw it").get();
    let request = Fields::parse(body)
        .map_err(|error| Problem::Other(format!("body: {error}")))?
        .into_iter()
        .map(|(key, value)| (key, Cow::Borrowed(value.get())))
        .collect();
    let form = ["method", "url", "body", id_key];
    let own = fields
        .into_iter()
        .filter(|(key, _)| !form.contains(&key.as_ref()))
        .collect();
    Ok(Parts {
        id,
        request,
        own,
        verbatim: Some(body),
        system: None,
    })
}

fn find<'r>(request: &'r RequestFields<'_>, key: &str) -> Option<&'r str> {
    request
        .iter()
        .find(|(name, _)| name == key)
        .map(|(_, value)| value.as_ref())
}

/// Checks the messages, and tells whether one of them is the system's.
fn has_system(parts: &Parts<'_>) -> Result<bool, Problem> {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow, default)]
        role: Option<Cow<'a, str>>,
    }
    let messages = find(&parts.request, "messages")
        .ok_or_else(|| Problem::because("the body has no \"messages\""))?;
    let messages: Vec<Message<'_>> = serde_json::from_str(messages)
        .map_err(|_| Problem::because("\"messages\" must be a list of {\"role\", \"content\"}"))?;
    if messages.is_empty() {
        return Err(Problem::because("\"messages\" is empty"));
    }
    let mut has_system = false;
    for message in &messages {
        match message.role.as_deref() {
            None => return Err(Problem::because("a message has no \"role\"")),
            Some("system" | "developer") => has_system = true,
            Some(_) => {}
        }
    }
    Ok(has_system)
}

fn prepend_system(parts: &mut Parts<'_>, system: &str) {
    parts.verbatim = None;
    for (key, value) in &mut parts.request {
        if key == "messages" {
            let rest = value.trim_start_matches('[');
            let system = quoted(system);
            *value = format!(r#"[{{"role":"system","content":{system}}},{rest}"#).into();
        }
    }
}

/// Fills in what the line does not say, and writes the body.
fn fill(mut parts: Parts<'_>, defaults: &Defaults) -> Result<Shaped, Problem> {
    if find(&parts.request, "stream") == Some("true") {
        return Err(Problem::because(
            "\"stream\": true is not served: answers are read whole",
        ));
    }
    // A null says nothing.
    if find(&parts.request, "model") == Some("null") {
        parts.verbatim = None;
        parts.request.retain(|(key, _)| key != "model");
    }
    let (model, model_is_shared) = match find(&parts.request, "model") {
        Some(raw) => (line_model(raw, defaults)?, false),
        None => (defaults.model.clone().ok_or(Problem::NoModel)?, true),
    };
    if model_is_shared {
        parts.verbatim = None;
        parts
            .request
            .insert(0, ("model".into(), quoted(&model).into()));
    }
    for (key, value) in &defaults.params {
        if !says(&parts.request, key) {
            parts.verbatim = None;
            parts
                .request
                .push((Cow::Owned(key.clone()), Cow::Owned(value.clone())));
        }
    }
    let expects_json = expects_json(&parts.request);
    let body = match parts.verbatim {
        Some(text) => Bytes::copy_from_slice(text.as_bytes()),
        None => compose(&parts.request),
    };
    let bounds = bounds(&body, |key| find(&parts.request, key));
    Ok(Shaped {
        id: parts.id,
        model,
        model_is_shared,
        body,
        metadata: metadata(parts.own),
        bounds,
        expects_json,
    })
}

fn line_model(raw: &str, defaults: &Defaults) -> Result<Arc<str>, Problem> {
    let model: Cow<'_, str> = serde_json::from_str::<String>(raw)
        .ok()
        .filter(|model| !model.is_empty())
        .ok_or_else(|| Problem::because("\"model\" must be a string with a name in it"))?
        .into();
    Ok(match &defaults.model {
        Some(shared) if **shared == *model => shared.clone(),
        _ => model.into(),
    })
}

/// Tells whether a request sets a parameter, under either name of the output limit.
fn says(request: &RequestFields<'_>, key: &str) -> bool {
    match key {
        "max_tokens" | "max_completion_tokens" => find(request, "max_tokens")
            .or(find(request, "max_completion_tokens"))
            .is_some(),
        _ => find(request, key).is_some(),
    }
}

fn expects_json(request: &RequestFields<'_>) -> bool {
    #[derive(Deserialize)]
    struct Format<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
    }
    find(request, "response_format")
        .and_then(|raw| serde_json::from_str::<Format<'_>>(raw).ok())
        .is_some_and(|format| format.kind == "json_object" || format.kind == "json_schema")
}

fn compose(request: &RequestFields<'_>) -> Bytes {
    let size = request
        .iter()
        .map(|(key, value)| key.len() + value.len() + 4)
        .sum::<usize>();
    let mut writer = ObjectWriter::with_capacity(size + 2);
    for (key, value) in request {
        writer.field(key, value);
    }
    writer.finish().into()
}

/// Joins the user's own fields. A lone `metadata` object is itself the row's metadata; among
/// others its members stand beside them, or stay inside it where a name would stand twice.
fn metadata(own: Vec<(Cow<'_, str>, &RawValue)>) -> Option<Box<RawValue>> {
    if own.is_empty() {
        return None;
    }
    let inner = own
        .iter()
        .find(|(key, value)| key == "metadata" && is_object(value))
        .and_then(|(_, value)| Fields::parse(value.get()).ok())
        .filter(|inner| {
            inner
                .iter()
                .all(|(name, _)| name == "metadata" || own.iter().all(|(key, _)| key != name))
        });
    let mut writer = ObjectWriter::with_capacity(64);
    for (key, value) in &own {
        match &inner {
            Some(inner) if key == "metadata" => {
                inner
                    .iter()
                    .for_each(|(name, value)| writer.field(name, value.get()));
            }
            _ => writer.field(key, value.get()),
        }
    }
    Some(RawValue::from_string(writer.finish()).expect("it was put together from JSON"))
}

#[cfg(test)]
mod tests;
