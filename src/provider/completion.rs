//! What stands in the body of a 2xx response: an answer, an error in disguise, or nothing usable.
//!
//! One pass, borrowing from the body; no field is required and none of the wrong type costs the
//! others. A second look, by way of owned values, is taken only where there is no answer.

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::complaint::{Complaint, folded, is_blank};
use super::lenient::{Count, List, Object, Raw, count, fields, text};
use crate::words::money::Usd;
use crate::words::price::Service;
use crate::words::tokens::{Tokens, Usage};
use crate::words::verdict::Answer;

/// What a 2xx body turned out to be.
#[derive(Debug)]
pub(super) enum Reading {
    Answer(Box<Answer>),
    /// The whole body is an error.
    Error(Complaint),
    /// The answer broke off with an error from behind the endpoint.
    BrokenOff(Complaint),
    /// Withheld by a content policy; holds the reason.
    Filtered(String),
    /// Nothing that can be used; holds what is wrong with it.
    Malformed(String),
}

#[derive(Default)]
struct Completion<'a> {
    model: Raw<'a>,
    choices: List<Choice<'a>>,
    usage: Object<Figures<'a>>,
    /// How the request was really served, which decides the price.
    service_tier: Raw<'a>,
    error: Raw<'a>,
    /// Google's verdict on the prompt.
    prompt_feedback: Raw<'a>,
    /// Azure's verdicts on the prompt.
    prompt_filters: Raw<'a>,
}

fields!(Completion {
    "model" => model,
    "choices" => choices,
    "usage" => usage,
    "service_tier" => service_tier,
    "error" => error,
    "prompt_feedback" | "promptFeedback" => prompt_feedback,
    "prompt_filter_results" => prompt_filters,
});

#[derive(Default)]
struct Choice<'a> {
    message: Object<Message<'a>>,
    /// Where the older completions put their text.
    text: Raw<'a>,
    finish_reason: Raw<'a>,
    error: Raw<'a>,
}

fields!(Choice {
    "message" => message,
    "text" => text,
    "finish_reason" => finish_reason,
    "error" => error,
});

#[derive(Default)]
struct Message<'a> {
    content: Raw<'a>,
    refusal: Raw<'a>,
    tool_calls: Raw<'a>,
    function_call: Raw<'a>,
    audio: Raw<'a>,
}

fields!(Message {
    "content" => content,
    "refusal" => refusal,
    "tool_calls" => tool_calls,
    "function_call" => function_call,
    "audio" => audio,
});

#[derive(Default)]
struct Part<'a> {
    kind: Raw<'a>,
    text: Raw<'a>,
}

fields!(Part { "type" => kind, "text" => text });

#[derive(Default)]
struct Figures<'a> {
    prompt: Raw<'a>,
    input: Raw<'a>,
    completion: Raw<'a>,
    total: Raw<'a>,
    cached: Raw<'a>,
    cache_read: Raw<'a>,
    cache_creation: Raw<'a>,
    cache_creation_by_time: Object<CacheCreation<'a>>,
    cost: Raw<'a>,
    prompt_details: Object<Details<'a>>,
    completion_details: Object<Details<'a>>,
}

fields!(Figures {
    "prompt_tokens" => prompt,
    "input_tokens" => input,
    "completion_tokens" | "output_tokens" => completion,
    "total_tokens" => total,
    // Mistral and DeepSeek count the cached part beside the details.
    "num_cached_tokens" | "prompt_cache_hit_tokens" => cached,
    "cache_read_input_tokens" => cache_read,
    "cache_creation_input_tokens" => cache_creation,
    "cache_creation" => cache_creation_by_time,
    "cost" => cost,
    "prompt_tokens_details" | "prompt_token_details" | "input_tokens_details" => prompt_details,
    "completion_tokens_details" | "output_tokens_details" => completion_details,
});

#[derive(Default)]
struct Details<'a> {
    cached: Raw<'a>,
    cache_write: Raw<'a>,
    reasoning: Raw<'a>,
    audio: Raw<'a>,
}

fields!(Details {
    "cached_tokens" => cached,
    "cache_write_tokens" => cache_write,
    "reasoning_tokens" => reasoning,
    "audio_tokens" => audio,
});

#[derive(Default)]
struct CacheCreation<'a> {
    long: Raw<'a>,
}

fields!(CacheCreation { "ephemeral_1h_input_tokens" => long });

/// Reads the body of a 2xx response.
pub(super) fn read(body: &Bytes) -> Reading {
    let Ok(json) = std::str::from_utf8(body) else {
        return Reading::Malformed("the answer is not valid UTF-8".to_owned());
    };
    let completion = match serde_json::from_str::<Object<Completion>>(json) {
        Ok(Object(completion)) => completion.unwrap_or_default(),
        Err(error) => return Reading::Malformed(not_json(json, &error)),
    };
    if let Some(error) = completion.error.and_then(error_in) {
        return Reading::Error(Complaint::of(error));
    }
    let choices = &completion.choices.0;
    // With several choices, one that cannot be used must not cost the others, which were paid for.
    match choices
        .iter()
        .find(|choice| choice.is_usable())
        .or(choices.first())
    {
        Some(choice) => read_choice(choice, &completion),
        None => without_choices(json, &completion),
    }
}

fn read_choice(choice: &Choice, completion: &Completion) -> Reading {
    if let Some(error) = choice.broken_off() {
        return Reading::BrokenOff(error);
    }
    let usage = completion.usage();
    let finish_reason = text(choice.finish_reason);
    if choice.is_empty() {
        let reason = finish_reason.as_deref().unwrap_or("none");
        if is_filter(reason) {
            return Reading::Filtered(format!("the answer was withheld: finish_reason `{reason}`"));
        }
        // A reasoning model may spend its whole limit before the first visible word, and charges.
        let nothing_there = choice.message.0.is_none() && choice.text.is_none();
        let unpaid = usage.is_none_or(|usage| usage.completion.0 == 0);
        if !ran_out(reason) && (nothing_there || unpaid) {
            return Reading::Malformed(format!("the answer is empty: finish_reason `{reason}`"));
        }
    }
    let message = choice.message.0.as_ref();
    let was_cut = finish_reason.as_deref().is_some_and(ran_out);
    Reading::Answer(Box::new(Answer {
        content: choice.content(),
        refusal: message
            .and_then(|message| text(message.refusal))
            .filter(|text| !text.is_empty()),
        tool_calls: message
            .and_then(Message::tool_calls)
            .map(RawValue::to_owned),
        finish_reason,
        was_cut,
        model: text(completion.model),
        usage,
        request_id: None,
    }))
}

impl Choice<'_> {
    fn is_usable(&self) -> bool {
        !self.is_empty() && self.broken_off().is_none()
    }

    /// Tells that the choice holds neither words nor anything in their place.
    fn is_empty(&self) -> bool {
        let in_its_place = self.message.0.as_ref().is_some_and(|message| {
            message.tool_calls().is_some()
                || message.function_call.is_some()
                || message.audio.is_some()
                || message
                    .refusal
                    .is_some_and(|refusal| refusal.get() != "\"\"")
        });
        // The common case is settled without taking the text apart.
        let plain =
            |raw: Raw| raw.is_some_and(|raw| raw.get().starts_with('"') && raw.get().len() > 2);
        !in_its_place
            && !plain(self.message.0.as_ref().and_then(|message| message.content))
            && self.content().is_none_or(|content| content.is_empty())
    }

    fn content(&self) -> Option<String> {
        self.message
            .0
            .as_ref()
            .and_then(|message| content(message.content))
            .or_else(|| text(self.text))
    }

    fn broken_off(&self) -> Option<Complaint> {
        if let Some(error) = self.error.and_then(error_in) {
            return Some(Complaint::of(error));
        }
        let says_error = self
            .finish_reason
            .is_some_and(|reason| reason.get().eq_ignore_ascii_case("\"error\""));
        says_error.then(|| Complaint::in_words("the answer broke off: finish_reason `error`"))
    }
}

impl<'a> Message<'a> {
    /// Returns the tool calls, if there is at least one.
    fn tool_calls(&self) -> Option<&'a RawValue> {
        self.tool_calls.filter(|calls| {
            let inside = calls
                .get()
                .strip_prefix('[')
                .and_then(|list| list.strip_suffix(']'));
            inside.is_some_and(|inside| !inside.trim().is_empty())
        })
    }
}

/// Reads a message's content: a text, or a list of parts of which those for the reader count.
///
/// Some servers put the JSON that was asked for there as an object; its text is the answer.
fn content(raw: Raw) -> Option<String> {
    let json = raw?.get();
    match json.as_bytes().first()? {
        b'[' => parts(json),
        b'{' => Some(json.to_owned()),
        _ => text(raw),
    }
}

fn parts(json: &str) -> Option<String> {
    let List(parts) = serde_json::from_str::<List<Part>>(json).ok()?;
    let texts: Vec<_> = parts
        .iter()
        .filter(|part| !is_hidden(&text(part.kind).unwrap_or_default()))
        .filter_map(|part| text(part.text))
        .collect();
    (!texts.is_empty()).then(|| texts.concat())
}

/// Tells whether a part holds the model's thoughts rather than its answer.
fn is_hidden(kind: &str) -> bool {
    kind.contains("thinking") || kind.contains("reasoning")
}

/// Tells whether a finish reason means that a policy withheld the answer, in anyone's spelling.
fn is_filter(reason: &str) -> bool {
    const REASONS: [&str; 9] = [
        "content_filter",
        "safety",
        "image_safety",
        "prohibited_content",
        "blocklist",
        "recitation",
        "spii",
        "sensitive",
        "refusal",
    ];
    REASONS
        .iter()
        .any(|known| reason.eq_ignore_ascii_case(known))
}

/// Tells whether a finish reason means that the answer reached its limit.
fn ran_out(reason: &str) -> bool {
    ["length", "max_tokens", "model_length"]
        .iter()
        .any(|known| reason.eq_ignore_ascii_case(known))
}

/// More than any model takes or gives at once.
const MOST_TOKENS: u64 = 1_000_000_000;

impl Completion<'_> {
    fn usage(&self) -> Option<Usage> {
        let usage = usage(self.usage.0.as_ref()?)?;
        let tier = text(self.service_tier);
        Some(Usage {
            service: tier.map_or(Service::Standard, |tier| Service::of_tier(&tier)),
            ..usage
        })
    }
}

/// Reads what a 2xx body says it used, whatever else is wrong with it.
pub(super) fn usage_in(body: &Bytes) -> Option<Usage> {
    let Object(completion) = serde_json::from_slice::<Object<Completion>>(body).ok()?;
    completion?.usage()
}

/// Reads the usage. Negative figures make the whole of it useless: nothing may be charged by it.
fn usage(figures: &Figures) -> Option<Usage> {
    let counts = [
        figures.prompt,
        figures.input,
        figures.completion,
        figures.total,
        figures.cache_read,
        figures.cache_creation,
    ]
    .map(count);
    if counts.contains(&Some(Count::Negative)) {
        return None;
    }
    let [prompt, input, completion, total, cache_read, cache_creation] = counts.map(amount);
    prompt.or(input).or(completion).or(total)?;
    let cached = part(&figures.prompt_details, |details| details.cached)
        .or(amount(count(figures.cached)))
        .or(cache_read);
    let written = part(&figures.prompt_details, |details| details.cache_write).or(cache_creation);
    let by_time = figures.cache_creation_by_time.0.as_ref();
    let written_long = by_time.and_then(|by_time| amount(count(by_time.long)));
    // Anthropic counts what it read from a cache and wrote into one beside the input; in every
    // other spelling they are parts of the prompt.
    let beside = cache_read.unwrap_or_default() + cache_creation.unwrap_or_default();
    let prompt = prompt
        .or(input.map(|input| input + beside))
        .unwrap_or_default();
    let completion = completion.unwrap_or_default();
    Some(Usage {
        prompt,
        completion,
        total: total.unwrap_or(prompt + completion),
        // A part is never more than its whole, whatever the server says: prices subtract it.
        cached: cached.map(|cached| cached.min(prompt)),
        cache_write: written.map(|written| written.less(written_long.unwrap_or_default())),
        cache_write_long: written_long,
        reasoning: part(&figures.completion_details, |details| details.reasoning),
        audio: [&figures.prompt_details, &figures.completion_details]
            .into_iter()
            .filter_map(|details| part(details, |details| details.audio))
            .sum(),
        service: Service::Standard,
        stated_cost: figures.cost.and_then(|cost| Usd::parse(cost.get()).ok()),
    })
}

fn part<'a>(
    details: &Object<Details<'a>>,
    field: impl Fn(&Details<'a>) -> Raw<'a>,
) -> Option<Tokens> {
    amount(count(field(details.0.as_ref()?)))
}

fn amount(count: Option<Count>) -> Option<Tokens> {
    match count? {
        // A figure beyond any context is a mistake; believed, it would stop a run for years.
        Count::Amount(amount) => (amount <= MOST_TOKENS).then_some(Tokens(amount)),
        Count::Negative => None,
    }
}

/// Reads an `error` field, unless it says that there is none.
fn error_in(raw: &RawValue) -> Option<Value> {
    let error = serde_json::from_str(raw.get()).unwrap_or_else(|_| Value::from(raw.get()));
    (!is_blank(&error)).then_some(error)
}

/// Finds out why a JSON document holds no choice.
fn without_choices(json: &str, completion: &Completion) -> Reading {
    let blocked = [completion.prompt_feedback, completion.prompt_filters]
        .into_iter()
        .flatten()
        .find_map(|raw| blocked_by(&serde_json::from_str(raw.get()).ok()?));
    if let Some(reason) = blocked {
        return Reading::Filtered(format!("the prompt was blocked: {reason}"));
    }
    let Ok(root) = serde_json::from_str::<Value>(json) else {
        return Reading::Malformed("the answer has no choices".to_owned());
    };
    let in_list = root
        .get(0)
        .and_then(|first| first.get("error"))
        .is_some_and(|error| !is_blank(error));
    if in_list || root.get("object").is_some_and(|object| object == "error") {
        return Reading::Error(Complaint::of(root));
    }
    let found: String = folded(json).chars().take(200).collect();
    Reading::Malformed(format!("the answer has no choices: {found}"))
}

/// Finds the reason for which a prompt was blocked, at any depth of a filter's report.
fn blocked_by(report: &Value) -> Option<String> {
    match report {
        Value::Array(list) => list.iter().find_map(blocked_by),
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            if matches!(name.as_str(), "block_reason" | "blockReason") && !is_blank(value) {
                return Some(value.as_str().unwrap_or("blocked").to_owned());
            }
            if value.get("filtered") == Some(&Value::Bool(true)) {
                return Some(name.clone());
            }
            blocked_by(value)
        }),
        _ => None,
    }
}

/// Says what a 2xx body is, if it is not JSON.
fn not_json(body: &str, error: &serde_json::Error) -> String {
    let start = body.trim_start();
    if start.is_empty() {
        return "the answer has an empty body".to_owned();
    }
    if start.starts_with("data:") || start.starts_with("event:") {
        return "the answer is an event stream, not one JSON document: does the request ask for `stream`?".to_owned();
    }
    if error.is_eof() {
        return format!("the answer is cut off after {} bytes", body.len());
    }
    let first: String = start.chars().take(40).collect();
    format!(
        "the answer is not JSON: it starts with `{}`",
        folded(&first)
    )
}
