//! The answer: a chat completion that is a pure function of its question.
//!
//! Its text opens with a tag that names the user's text, so that a test can see that each answer
//! stands at its own question. Neither the seed nor the time changes the text.

use std::borrow::Cow;
use std::io::Write;

use fastrand::Rng;

use super::chance;
use super::question::{Question, echo_hash};

/// The longest answer, however large the median and the spread.
const MAX_WORDS: u64 = 200_000;

/// What a JSON answer counts: a cut one is shorter in proportion.
const JSON_TOKENS: u64 = 12;

/// No filler word is longer, its blank included.
const WORD_BYTES: usize = 7;

/// The snapshot that every model seems to be.
const SNAPSHOT: &str = "-2026-01-01";

const LABELS: [&str; 4] = ["positive", "negative", "neutral", "mixed"];

const WORDS: [&str; 64] = [
    "able", "after", "again", "air", "all", "answer", "any", "ask", "away", "back", "better",
    "book", "both", "bring", "call", "case", "change", "clear", "close", "day", "deep", "early",
    "earth", "even", "every", "far", "few", "field", "find", "first", "form", "given", "good",
    "green", "half", "hand", "hold", "home", "idea", "keep", "kind", "known", "large", "later",
    "light", "line", "long", "many", "mind", "move", "name", "near", "next", "often", "open",
    "order", "part", "place", "plain", "point", "right", "small", "sound", "water",
];

/// Returns the tag that opens the answer to this user text: `sim:` and 16 hex digits.
pub fn echo_tag(user_text: &str) -> String {
    tag(echo_hash(user_text))
}

pub(super) fn tag(echo: u64) -> String {
    format!("sim:{echo:016x}")
}

/// The law of answer lengths, in tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Length {
    pub(super) median: u64,
    pub(super) spread: f64,
    /// What each choice costs before its first visible token.
    pub(super) reasoning: u64,
    /// The longest choice, reasoning included.
    pub(super) most: u64,
}

impl Length {
    fn draw(self, rng: &mut Rng) -> u64 {
        let wished = chance::log_normal(rng, self.median as f64, self.spread);
        // The cast saturates, and a draw below one still brings the tag.
        (wished.round() as u64).clamp(1, MAX_WORDS)
    }
}

/// What an answer leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Whole,
    WithoutUsage,
    WithoutChoices,
    /// The choices are there, but a filter took their content.
    Filtered,
}

/// What an answer uses, as the provider counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) prompt: u64,
    /// The part of the prompt that was at hand from an earlier request.
    pub(super) cached: u64,
    /// Reasoning included.
    pub(super) completion: u64,
    pub(super) reasoning: u64,
}

/// An answer that is decided but not yet written, so that it can be counted before it is awaited.
pub(super) struct Draft {
    form: Form,
    choices: Vec<Choice>,
    usage: Usage,
}

impl Draft {
    pub(super) fn draw(question: &Question, length: Length, form: Form) -> Draft {
        let choices: Vec<Choice> = match form {
            Form::WithoutChoices => Vec::new(),
            _ => (0..question.choices)
                .map(|index| Choice::draw(question, length, index))
                .collect(),
        };
        let mut usage = Usage {
            prompt: question.prompt_tokens,
            ..Usage::default()
        };
        if form != Form::Filtered {
            usage.reasoning = choices.iter().map(|choice| choice.reasoning).sum();
            usage.completion = choices.iter().map(Choice::tokens).sum();
        }
        Draft {
            form,
            choices,
            usage,
        }
    }

    /// Makes it known that half of the prompt was at hand from an earlier request.
    pub(super) fn find_prompt_cached(&mut self) {
        self.usage.cached = self.usage.prompt / 2;
    }

    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// Writes the response to the question. `serial` makes its id; `created` is in Unix seconds.
    pub(super) fn write(self, question: &Question, serial: u64, created: u64) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.capacity());
        write_head(&mut body, question, serial, created);
        write_choices(&mut body, question, self.choices, self.form);
        if self.form != Form::WithoutUsage {
            write_usage(&mut body, self.usage);
        }
        body.extend_from_slice(b",\"service_tier\":\"default\",\"system_fingerprint\":null}");
        body
    }

    /// Guesses generously how long the body will be, so that it is written without growing.
    fn capacity(&self) -> usize {
        let texts = self.choices.iter().map(|c| c.visible as usize * WORD_BYTES);
        512 + texts.map(|text| text + 256).sum::<usize>()
    }
}

/// Appends formatted text.
macro_rules! put {
    ($body:expr, $($format:tt)*) => {
        write!($body, $($format)*).expect("a Vec takes every write")
    };
}

fn write_head(body: &mut Vec<u8>, question: &Question, serial: u64, created: u64) {
    let id = question.digest;
    put!(
        body,
        "{{\"id\":\"chatcmpl-{id:016x}{serial:08x}\",\"object\":\"chat.completion\",\
         \"created\":{created},\"model\":"
    );
    let model = snapshot_name(&question.model);
    serde_json::to_writer(&mut *body, &model).expect("a string is always JSON");
}

fn write_choices(body: &mut Vec<u8>, question: &Question, choices: Vec<Choice>, form: Form) {
    body.extend_from_slice(b",\"choices\":[");
    for (index, choice) in choices.into_iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        choice.write(body, question, index, form);
    }
    body.push(b']');
}

fn write_usage(body: &mut Vec<u8>, usage: Usage) {
    let Usage {
        prompt,
        cached,
        completion,
        reasoning,
    } = usage;
    let total = prompt + completion;
    put!(
        body,
        ",\"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion},\
         \"total_tokens\":{total},\
         \"prompt_tokens_details\":{{\"cached_tokens\":{cached},\"audio_tokens\":0}},\
         \"completion_tokens_details\":{{\"reasoning_tokens\":{reasoning},\"audio_tokens\":0,\
         \"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}}}"
    );
}

/// Returns the snapshot that answers for this model; a name that is dated stands for itself.
fn snapshot_name(model: &str) -> Cow<'_, str> {
    if dated(model) {
        Cow::Borrowed(model)
    } else {
        Cow::Owned(format!("{model}{SNAPSHOT}"))
    }
}

fn dated(model: &str) -> bool {
    let Some(end) = model.as_bytes().last_chunk::<{ SNAPSHOT.len() }>() else {
        return false;
    };
    let mut pairs = end.iter().zip(SNAPSHOT.bytes());
    pairs.all(|(byte, pattern)| match pattern {
        b'-' => *byte == b'-',
        _ => byte.is_ascii_digit(),
    })
}

/// One of the answers to a question, before its words are chosen.
struct Choice {
    /// Stands where the draw of the length left it: the words are drawn from what follows.
    rng: Rng,
    reasoning: u64,
    visible: u64,
    cut: bool,
}

impl Choice {
    fn draw(question: &Question, length: Length, index: u64) -> Choice {
        let mut rng = Rng::with_seed(question.digest.wrapping_add(index));
        let wished = if question.json {
            JSON_TOKENS
        } else {
            length.draw(&mut rng)
        };
        let limit = question.max_tokens.unwrap_or(length.most).min(length.most);
        // The limit is one for both, and reasoning comes first: it may leave nothing to see.
        let reasoning = length.reasoning.min(limit);
        let visible = wished.min(limit - reasoning);
        Choice {
            rng,
            reasoning,
            visible,
            cut: visible < wished,
        }
    }

    fn tokens(&self) -> u64 {
        self.reasoning + self.visible
    }

    fn text(&mut self, question: &Question) -> String {
        if question.json {
            json(question.echo, self.visible, &mut self.rng)
        } else {
            words(question.echo, self.visible, &mut self.rng)
        }
    }

    fn finish_reason(&self) -> &'static str {
        if self.cut { "length" } else { "stop" }
    }

    fn write(mut self, body: &mut Vec<u8>, question: &Question, index: usize, form: Form) {
        put!(
            body,
            "{{\"index\":{index},\"message\":{{\"role\":\"assistant\""
        );
        if form == Form::Filtered {
            body.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":\"content_filter\"}");
            return;
        }
        body.extend_from_slice(b",\"content\":");
        let text = self.text(question);
        serde_json::to_writer(&mut *body, &text).expect("a string is always JSON");
        put!(
            body,
            ",\"refusal\":null,\"annotations\":[]}},\"logprobs\":null,\"finish_reason\":\"{}\"}}",
            self.finish_reason()
        );
    }
}

/// Returns a JSON object, as much of it as these tokens hold.
fn json(echo: u64, tokens: u64, rng: &mut Rng) -> String {
    let label = LABELS[rng.usize(..LABELS.len())];
    let mut text = format!("{{\"echo\":\"{}\",\"label\":\"{label}\"}}", tag(echo));
    text.truncate(text.len() * tokens as usize / JSON_TOKENS as usize);
    text
}

/// Returns the tag and filler, this many words in all.
fn words(echo: u64, count: u64, rng: &mut Rng) -> String {
    if count == 0 {
        return String::new();
    }
    let mut text = tag(echo);
    text.reserve(WORD_BYTES * count as usize);
    for _ in 1..count {
        text.push(' ');
        text.push_str(WORDS[rng.usize(..WORDS.len())]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const LENGTH: Length = Length {
        median: 40,
        spread: 0.5,
        reasoning: 0,
        most: 16_384,
    };

    fn ask(extra: Value) -> Value {
        answer(extra, Form::Whole)
    }

    fn answer(extra: Value, form: Form) -> Value {
        serde_json::from_slice(&written(extra, LENGTH, form)).unwrap()
    }

    /// Asks a model that reasons first, for this long.
    fn reasoned(reasoning: u64, extra: Value) -> Value {
        let length = Length {
            reasoning,
            ..LENGTH
        };
        serde_json::from_slice(&written(extra, length, Form::Whole)).unwrap()
    }

    fn written(extra: Value, length: Length, form: Form) -> Vec<u8> {
        let mut request = json!({
            "model": "gpt-4o-mini",
            "messages": [{ "role": "user", "content": "Why is the sky blue?" }],
        });
        let extra = extra.as_object().unwrap().clone();
        request.as_object_mut().unwrap().extend(extra);
        let body = request.to_string();
        let question = Question::read(body.as_bytes()).unwrap();
        Draft::draw(&question, length, form).write(&question, 3, 1_800_000_000)
    }

    fn content(answer: &Value) -> &str {
        answer["choices"][0]["message"]["content"].as_str().unwrap()
    }

    #[test]
    fn answer_opens_with_the_tag_of_its_question() {
        let answer = ask(json!({}));
        let tag = echo_tag("Why is the sky blue?");
        assert_eq!(tag.len(), 20);
        assert!(content(&answer).starts_with(&format!("{tag} ")));
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    }

    #[test]
    fn echo_tag_stays_the_same_across_versions() {
        assert_eq!(echo_tag(""), "sim:2d06800538d394c2");
    }

    #[test]
    fn answers_stay_the_same_across_versions() {
        let forms = [
            Form::Whole,
            Form::WithoutUsage,
            Form::WithoutChoices,
            Form::Filtered,
        ];
        let asks = [
            json!({}),
            json!({ "n": 3, "max_tokens": 30 }),
            json!({ "response_format": { "type": "json_object" } }),
            json!({ "response_format": { "type": "json_object" }, "max_tokens": 7 }),
        ];
        let mut hash = 0;
        for (ask, form) in asks.iter().flat_map(|ask| forms.map(|form| (ask, form))) {
            let bytes = written(ask.clone(), LENGTH, form);
            hash = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes, hash);
        }
        assert_eq!(format!("{hash:016x}"), "ca5d7e6d04af7756");
    }

    #[test]
    fn same_question_gets_the_same_answer() {
        assert_eq!(ask(json!({})), ask(json!({})));
    }

    #[test]
    fn usage_counts_the_words() {
        let answer = ask(json!({}));
        let words = content(&answer).split(' ').count();
        assert_eq!(answer["usage"]["completion_tokens"], words);
        assert_eq!(answer["usage"]["prompt_tokens"], 4 + 5);
        assert_eq!(answer["usage"]["total_tokens"], words + 9);
    }

    #[test]
    fn answer_is_cut_at_the_limit() {
        for key in ["max_tokens", "max_completion_tokens"] {
            let answer = ask(json!({ key: 3 }));
            assert_eq!(content(&answer).split(' ').count(), 3);
            assert_eq!(answer["choices"][0]["finish_reason"], "length");
        }
    }

    #[test]
    fn answer_is_no_longer_than_its_model_allows() {
        let length = Length { most: 5, ..LENGTH };
        for extra in [json!({}), json!({ "max_tokens": 1000 })] {
            let bytes = written(extra, length, Form::Whole);
            let answer: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(content(&answer).split(' ').count(), 5);
            assert_eq!(answer["usage"]["completion_tokens"], 5);
            assert_eq!(answer["choices"][0]["finish_reason"], "length");
        }
    }

    #[test]
    fn reasoning_is_counted_but_not_shown() {
        let (plain, reasoned) = (ask(json!({ "n": 2 })), reasoned(100, json!({ "n": 2 })));
        assert_eq!(plain["choices"], reasoned["choices"]);
        let tokens = |answer: &Value| answer["usage"]["completion_tokens"].as_u64().unwrap();
        assert_eq!(tokens(&reasoned), tokens(&plain) + 200);
        let details = &reasoned["usage"]["completion_tokens_details"];
        assert_eq!(details["reasoning_tokens"], 200);
    }

    #[test]
    fn reasoning_comes_first_under_one_limit() {
        let some = reasoned(10, json!({ "max_tokens": 12 }));
        assert_eq!(content(&some).split(' ').count(), 2);
        assert_eq!(some["usage"]["completion_tokens"], 12);
        for format in ["text", "json_object"] {
            let extra = json!({ "max_tokens": 8, "response_format": { "type": format } });
            let none = reasoned(10, extra);
            assert_eq!(content(&none), "");
            assert_eq!(none["choices"][0]["finish_reason"], "length");
            assert_eq!(none["usage"]["completion_tokens"], 8);
            let details = &none["usage"]["completion_tokens_details"];
            assert_eq!(details["reasoning_tokens"], 8);
        }
    }

    #[test]
    fn json_is_answered_where_json_is_asked() {
        let answer = ask(json!({ "response_format": { "type": "json_object" } }));
        let object: Value = serde_json::from_str(content(&answer)).unwrap();
        assert_eq!(object["echo"], echo_tag("Why is the sky blue?"));
        assert!(LABELS.contains(&object["label"].as_str().unwrap()));
    }

    #[test]
    fn json_is_cut_at_the_limit() {
        let answer = ask(json!({ "response_format": { "type": "json_schema" }, "max_tokens": 6 }));
        assert!(serde_json::from_str::<Value>(content(&answer)).is_err());
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
    }

    #[test]
    fn every_choice_is_there_and_charged() {
        let answer = ask(json!({ "n": 3, "max_tokens": 2 }));
        assert_eq!(answer["choices"].as_array().unwrap().len(), 3);
        assert_eq!(answer["choices"][2]["index"], 2);
        assert_eq!(answer["usage"]["completion_tokens"], 6);
    }

    #[test]
    fn forms_leave_out_what_they_say() {
        assert_eq!(
            answer(json!({}), Form::WithoutUsage).get("usage"),
            None::<&Value>
        );
        assert_eq!(
            answer(json!({}), Form::WithoutChoices)["choices"],
            json!([])
        );
        let filtered = &answer(json!({}), Form::Filtered)["choices"][0];
        assert_eq!(filtered["finish_reason"], "content_filter");
        assert_eq!(filtered["message"], json!({ "role": "assistant" }));
    }

    #[test]
    fn model_is_answered_by_its_snapshot() {
        assert_eq!(snapshot_name("gpt-4o"), "gpt-4o-2026-01-01");
        assert_eq!(snapshot_name("gpt-4o-2024-08-06"), "gpt-4o-2024-08-06");
        assert_eq!(snapshot_name("größe-20240806"), "größe-20240806-2026-01-01");
    }
}
