//! Chat completions as OpenAI defined them and the field repeats them: one POST of the item's
//! own body to `BASE/chat/completions`.
//!
//! The base URL is taken at its word, query string included. The address and the headers are made
//! once; a request only clones them.

use std::fmt;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::Provider;
use super::body::Rename;
use super::classify::classify;
use super::completion::usage_in;
use super::key::ApiKey;
use super::preset::{Auth, OutputLimit, Preset, Seed, is_reasoning_model};
use crate::words::item::Item;
use crate::words::tokens::Usage;
use crate::words::verdict::Verdict;
use crate::words::wire::{Exchange, Reply, Request};

const MAX_TOKENS: &str = "max_tokens";
const MAX_COMPLETION_TOKENS: &str = "max_completion_tokens";

/// An endpoint that speaks OpenAI's chat completions.
pub struct OpenAi {
    preset: &'static Preset,
    url: Url,
    headers: HeaderMap,
    /// `usage.cost` is what the answer cost in dollars.
    states_cost: bool,
    output_limit: Option<Rename>,
    seed: Option<Rename>,
}

/// Why a text cannot be a base URL. Never repeats it, since it may hold a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadBaseUrl {
    /// Not a URL at all; holds the parser's reason.
    Unreadable(String),
    /// Another scheme than http or https, or none.
    Scheme,
    NoHost,
}

impl OpenAi {
    /// Prepares the endpoint at `base_url`. Without a key no authentication is sent.
    pub fn new(
        preset: &'static Preset,
        base_url: &str,
        key: Option<&ApiKey>,
    ) -> Result<OpenAi, BadBaseUrl> {
        let output_limit = match preset.output_limit {
            OutputLimit::AsWritten => None,
            OutputLimit::MaxTokens => Some(Rename::new(MAX_COMPLETION_TOKENS, MAX_TOKENS)),
            OutputLimit::ByModel => Some(Rename::new(MAX_TOKENS, MAX_COMPLETION_TOKENS)),
        };
        let seed = match preset.seed {
            Seed::Seed => None,
            Seed::RandomSeed => Some(Rename::new("seed", "random_seed")),
        };
        let url = chat_url(base_url)?;
        let states_cost = url
            .host_str()
            .is_some_and(|host| host == "openrouter.ai" || preset.name == "openrouter");
        Ok(OpenAi {
            preset,
            url,
            states_cost,
            headers: headers(preset.auth, key),
            output_limit,
            seed,
        })
    }

    /// Returns the address that every request goes to.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Takes a cost out that nobody promised to be in dollars.
    fn believed(&self, usage: Usage) -> Usage {
        Usage {
            stated_cost: usage.stated_cost.filter(|_| self.states_cost),
            ..usage
        }
    }

    /// Returns the rename of the output limit, if this model asks for one.
    fn output_limit_rename(&self, model: &str) -> Option<&Rename> {
        match self.preset.output_limit {
            OutputLimit::ByModel if !is_reasoning_model(model) => None,
            _ => self.output_limit.as_ref(),
        }
    }
}

impl Provider for OpenAi {
    fn request(&self, item: &Item) -> Request {
        let mut body = item.body.clone();
        let renames = [self.output_limit_rename(&item.model), self.seed.as_ref()];
        for rename in renames.into_iter().flatten() {
            body = rename.apply(body);
        }
        Request {
            url: self.url.clone(),
            headers: self.headers.clone(),
            body,
        }
    }

    fn output_limit_field(&self, model: &str) -> &'static str {
        match self.preset.output_limit {
            OutputLimit::MaxTokens => MAX_TOKENS,
            // Reasoning models refuse the older name; where it is unknown what is understood,
            // the model's name says more than the address.
            OutputLimit::ByModel | OutputLimit::AsWritten if is_reasoning_model(model) => {
                MAX_COMPLETION_TOKENS
            }
            OutputLimit::ByModel | OutputLimit::AsWritten => MAX_TOKENS,
        }
    }

    fn verdict(&self, exchange: &Exchange) -> Verdict {
        let mut verdict = classify(exchange);
        if let Verdict::Done(answer) = &mut verdict {
            answer.usage = answer.usage.map(|usage| self.believed(usage));
        }
        verdict
    }

    fn usage(&self, reply: &Reply) -> Option<Usage> {
        let usage = usage_in(&reply.body).filter(|_| reply.status.is_success());
        usage.map(|usage| self.believed(usage))
    }
}

/// Joins the base URL and the route, in front of the query string if there is one.
fn chat_url(base_url: &str) -> Result<Url, BadBaseUrl> {
    let base_url = base_url.trim();
    check(base_url)?;
    let (path, query) = match base_url.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (base_url, None),
    };
    let mut url = path.strip_suffix('/').unwrap_or(path).to_owned();
    url.push_str("/chat/completions");
    if let Some(query) = query {
        url.push('?');
        url.push_str(query);
    }
    url.parse().map_err(unreadable)
}

/// Checks the base before anything is joined to it: behind `https://` the route's first word would
/// pass for a host.
fn check(base_url: &str) -> Result<(), BadBaseUrl> {
    let (scheme, rest) = base_url.split_once("://").ok_or(BadBaseUrl::Scheme)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(BadBaseUrl::Scheme);
    }
    if rest.is_empty() || rest.starts_with(['/', '?', ':']) {
        return Err(BadBaseUrl::NoHost);
    }
    base_url.parse::<Url>().map(|_| ()).map_err(unreadable)
}

fn unreadable(error: url::ParseError) -> BadBaseUrl {
    BadBaseUrl::Unreadable(error.to_string())
}

fn headers(auth: Auth, key: Option<&ApiKey>) -> HeaderMap {
    let json = HeaderValue::from_static("application/json");
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, json.clone());
    headers.insert(ACCEPT, json);
    if let Some(key) = key {
        match auth {
            Auth::Bearer => headers.insert(AUTHORIZATION, key.header("Bearer ")),
            Auth::ApiKey => headers.insert(HeaderName::from_static("api-key"), key.header("")),
        };
    }
    headers
}

/// Shows the preset alone: an address may hold a key in its query string.
impl fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAi")
            .field("preset", &self.preset.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for BadBaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(reason) => write!(f, "the base URL cannot be read: {reason}"),
            Self::Scheme => f.write_str("the base URL must start with https:// or http://"),
            Self::NoHost => f.write_str("the base URL names no host"),
        }
    }
}

impl std::error::Error for BadBaseUrl {}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::words::item::ItemId;
    use crate::words::tariff::Bounds;

    fn item(model: &str, body: &'static str) -> Item {
        Item {
            id: ItemId::from("a"),
            index: 0,
            line: 1,
            model: model.into(),
            model_is_shared: false,
            body: Bytes::from_static(body.as_bytes()),
            metadata: None,
            prompt_tokens: None,
            bounds: Bounds::default(),
            expects_json: false,
            tariff: None,
        }
    }

    fn endpoint(preset: &str) -> OpenAi {
        OpenAi::new(Preset::named(preset).unwrap(), "http://127.0.0.1/v1", None).unwrap()
    }

    fn sent(preset: &str, model: &str, body: &'static str) -> String {
        let request = endpoint(preset).request(&item(model, body));
        String::from_utf8(request.body.to_vec()).unwrap()
    }

    fn url(base: &str) -> String {
        chat_url(base).unwrap().to_string()
    }

    #[test]
    fn the_base_url_is_taken_at_its_word() {
        assert_eq!(url("https://h/v1"), "https://h/v1/chat/completions");
        assert_eq!(url("https://h/v1/"), "https://h/v1/chat/completions");
        assert_eq!(url("https://h"), "https://h/chat/completions");
        assert_eq!(
            url("http://[::1]:8080/v1beta/openai"),
            "http://[::1]:8080/v1beta/openai/chat/completions"
        );
    }

    #[test]
    fn the_query_string_survives_the_join() {
        assert_eq!(
            url("https://r.openai.azure.com/openai/deployments/d/?api-version=2026-01-01-preview"),
            "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2026-01-01-preview"
        );
    }

    #[test]
    fn every_preset_makes_a_working_endpoint() {
        for preset in Preset::ALL {
            let base = preset
                .base_url
                .unwrap_or("https://r.openai.azure.com/openai/v1");
            let endpoint = OpenAi::new(preset, base, None).unwrap();
            assert!(
                endpoint.url().path().ends_with("/chat/completions"),
                "{}",
                preset.name
            );
        }
    }

    #[test]
    fn a_bad_base_url_is_named_without_being_shown() {
        let error = |base| OpenAi::new(Preset::GENERIC, base, None).unwrap_err();
        assert_eq!(error("ftp://hidden/v1"), BadBaseUrl::Scheme);
        assert_eq!(error("hidden.example"), BadBaseUrl::Scheme);
        assert!(matches!(
            error("https://hid den/v1"),
            BadBaseUrl::Unreadable(_)
        ));
        for base in [
            "ftp://hidden",
            "https://hid den?key=hidden",
            "",
            "https://",
            "https:///v1",
        ] {
            assert!(!error(base).to_string().contains("hid"), "{base}");
        }
    }

    #[test]
    fn the_key_is_sent_as_the_endpoint_wants_it_and_never_printed() {
        let key = ApiKey::new("sk-hidden").unwrap();
        for (name, header, value) in [
            ("openai", "authorization", "Bearer sk-hidden"),
            ("azure", "api-key", "sk-hidden"),
        ] {
            let preset = Preset::named(name).unwrap();
            let endpoint = OpenAi::new(preset, "https://h/v1", Some(&key)).unwrap();
            let request = endpoint.request(&item("m", "{}"));
            assert_eq!(request.headers[header], value);
            assert_eq!(request.headers.len(), 3);
            assert!(!format!("{endpoint:?} {request:?}").contains("hidden"));
        }
    }

    #[test]
    fn without_a_key_no_authentication_is_sent() {
        let request = endpoint("ollama").request(&item("m", "{}"));
        assert_eq!(request.headers["content-type"], "application/json");
        assert!(!request.headers.contains_key(AUTHORIZATION));
    }

    #[test]
    fn reasoning_models_get_the_newer_name_of_the_output_limit() {
        let body = r#"{"model":"gpt-5-mini","max_tokens":9}"#;
        let newer = r#"{"model":"gpt-5-mini","max_completion_tokens":9}"#;
        assert_eq!(sent("openai", "gpt-5-mini", body), newer);
        assert_eq!(sent("azure", "gpt-5-mini", body), newer);
        assert_eq!(sent("openai", "gpt-4o", body), body);
        assert_eq!(sent("openrouter", "openai/gpt-5-mini", body), body);
        assert_eq!(sent("generic", "gpt-5-mini", body), body);
    }

    #[test]
    fn endpoints_that_know_only_max_tokens_get_it() {
        let body = r#"{"max_completion_tokens":9}"#;
        for name in ["mistral", "ollama", "llamacpp", "deepseek", "together"] {
            assert_eq!(sent(name, "m", body), r#"{"max_tokens":9}"#, "{name}");
        }
        for name in ["openai", "groq", "vllm", "gemini", "fireworks", "generic"] {
            assert_eq!(sent(name, "m", body), body, "{name}");
        }
    }

    #[test]
    fn mistral_gets_its_own_name_of_the_seed() {
        let body = r#"{"seed":1,"max_completion_tokens":9}"#;
        assert_eq!(
            sent("mistral", "m", body),
            r#"{"random_seed":1,"max_tokens":9}"#
        );
        assert_eq!(sent("groq", "m", body), body);
    }

    #[test]
    fn the_run_level_limit_goes_under_the_name_the_model_takes() {
        assert_eq!(
            endpoint("openai").output_limit_field("o3"),
            "max_completion_tokens"
        );
        assert_eq!(
            endpoint("openai").output_limit_field("gpt-4o"),
            "max_tokens"
        );
        assert_eq!(endpoint("mistral").output_limit_field("o3"), "max_tokens");
        let generic = OpenAi::new(Preset::GENERIC, "http://127.0.0.1/v1", None).unwrap();
        assert_eq!(generic.output_limit_field("o3"), "max_completion_tokens");
        assert_eq!(generic.output_limit_field("llama"), "max_tokens");
    }
}
