//! Known endpoints: where they listen, which key opens them, and where their spelling differs.
//!
//! A table, not code: a new endpoint is a new row. Prices and limits are none of its business.

/// What is known of an endpoint before the first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// The word for `--provider`.
    pub name: &'static str,
    /// `None` where every customer has an address of their own.
    pub base_url: Option<&'static str>,
    pub key: KeyNeed,
    pub auth: Auth,
    /// How many requests at once are sensible where the user names no number.
    pub concurrency: usize,
    pub output_limit: OutputLimit,
    pub seed: Seed,
}

/// Whether an endpoint asks for a key, and the environment variable that usually holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyNeed {
    Required(&'static str),
    /// Sent if it is set; local servers mostly run without one.
    Optional(&'static str),
    Never,
}

impl KeyNeed {
    /// Returns the environment variable that usually holds the key.
    pub fn variable(self) -> Option<&'static str> {
        match self {
            Self::Required(name) | Self::Optional(name) => Some(name),
            Self::Never => None,
        }
    }
}

/// The header in which a key travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// `authorization: Bearer KEY`.
    Bearer,
    /// `api-key: KEY`.
    ApiKey,
}

/// The name under which an endpoint takes the upper bound of an answer's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputLimit {
    /// Both names are understood, or nothing is known: the body is left as it is.
    AsWritten,
    /// Only `max_tokens` is understood. The other name is refused by some (Mistral: 422) and
    /// silently ignored by others, which lets the answer run without bound.
    MaxTokens,
    /// Reasoning models refuse `max_tokens` with a 400, all others take it.
    ByModel,
}

/// The name under which an endpoint takes the sampling seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seed {
    Seed,
    RandomSeed,
}

impl Preset {
    /// An endpoint of which only the address is known. Nothing in a body is renamed for it.
    pub const GENERIC: &'static Preset = &Preset {
        name: "generic",
        base_url: None,
        key: KeyNeed::Optional("OPENAI_API_KEY"),
        auth: Auth::Bearer,
        concurrency: REMOTE,
        output_limit: OutputLimit::AsWritten,
        seed: Seed::Seed,
    };

    /// Every endpoint that `--provider` knows by name.
    pub const ALL: &'static [Preset] = &[
        Preset {
            output_limit: OutputLimit::ByModel,
            ..remote("openai", "https://api.openai.com/v1", "OPENAI_API_KEY")
        },
        Preset {
            base_url: None,
            auth: Auth::ApiKey,
            output_limit: OutputLimit::ByModel,
            ..remote("azure", "", "AZURE_OPENAI_API_KEY")
        },
        remote(
            "gemini",
            "https://generativelanguage.googleapis.com/v1beta/openai",
            "GEMINI_API_KEY",
        ),
        Preset {
            output_limit: OutputLimit::MaxTokens,
            seed: Seed::RandomSeed,
            ..remote("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY")
        },
        remote("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
        Preset {
            output_limit: OutputLimit::MaxTokens,
            ..remote("together", "https://api.together.ai/v1", "TOGETHER_API_KEY")
        },
        remote(
            "fireworks",
            "https://api.fireworks.ai/inference/v1",
            "FIREWORKS_API_KEY",
        ),
        remote(
            "openrouter",
            "https://openrouter.ai/api/v1",
            "OPENROUTER_API_KEY",
        ),
        Preset {
            output_limit: OutputLimit::MaxTokens,
            ..remote("deepseek", "https://api.deepseek.com", "DEEPSEEK_API_KEY")
        },
        Preset {
            concurrency: SMALL,
            output_limit: OutputLimit::MaxTokens,
            ..local("ollama", "http://127.0.0.1:11434/v1", KeyNeed::Never)
        },
        local(
            "vllm",
            "http://127.0.0.1:8000/v1",
            KeyNeed::Optional("VLLM_API_KEY"),
        ),
        Preset {
            concurrency: SMALL,
            output_limit: OutputLimit::MaxTokens,
            ..local(
                "llamacpp",
                "http://127.0.0.1:8080/v1",
                KeyNeed::Optional("LLAMA_API_KEY"),
            )
        },
    ];

    /// Finds a preset by the name that the user typed, in any case.
    pub fn named(name: &str) -> Option<&'static Preset> {
        Preset::ALL
            .iter()
            .chain([Preset::GENERIC])
            .find(|preset| preset.name.eq_ignore_ascii_case(name))
    }
}

const REMOTE: usize = 64;

/// For servers that answer one or a few requests at a time and queue the rest.
const SMALL: usize = 4;

const fn remote(name: &'static str, base_url: &'static str, key: &'static str) -> Preset {
    Preset {
        name,
        base_url: Some(base_url),
        key: KeyNeed::Required(key),
        auth: Auth::Bearer,
        concurrency: REMOTE,
        output_limit: OutputLimit::AsWritten,
        seed: Seed::Seed,
    }
}

const fn local(name: &'static str, base_url: &'static str, key: KeyNeed) -> Preset {
    Preset {
        key,
        ..remote(name, base_url, "")
    }
}

/// Tells by its name whether a model is one of OpenAI's reasoning models, which take only
/// `max_completion_tokens`: the o-series, gpt-5 and every later number.
///
/// A wrong yes is harmless at OpenAI, where the newer name works for every model.
pub(super) fn is_reasoning_model(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = name.strip_prefix("ft:").unwrap_or(name);
    if let Some(series) = name.strip_prefix('o') {
        return series.starts_with(|first: char| first.is_ascii_digit());
    }
    let Some(version) = name.strip_prefix("gpt-") else {
        return false;
    };
    let end = version
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(version.len());
    // Azure deployments often leave out the point: gpt-35-turbo and gpt-41 are not 35 and 41.
    match version[..end].parse::<u32>() {
        Ok(number) => number >= 5 && !(30..50).contains(&number),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_found_by_its_name() {
        for name in [
            "openai",
            "azure",
            "gemini",
            "mistral",
            "groq",
            "together",
            "fireworks",
            "openrouter",
            "deepseek",
            "ollama",
            "vllm",
            "llamacpp",
            "generic",
        ] {
            assert_eq!(Preset::named(name).map(|preset| preset.name), Some(name));
        }
        assert_eq!(
            Preset::named("OpenAI").map(|preset| preset.name),
            Some("openai")
        );
        assert_eq!(Preset::named("nobody"), None);
        assert_eq!(Preset::ALL.len(), 12);
    }

    #[test]
    fn only_azure_has_no_address_of_its_own() {
        let homeless: Vec<_> = Preset::ALL
            .iter()
            .filter(|p| p.base_url.is_none())
            .map(|p| p.name)
            .collect();
        assert_eq!(homeless, ["azure"]);
    }

    #[test]
    fn keys_come_from_the_variable_that_users_already_have() {
        let variable = |name| Preset::named(name).unwrap().key.variable();
        assert_eq!(variable("groq"), Some("GROQ_API_KEY"));
        assert_eq!(variable("vllm"), Some("VLLM_API_KEY"));
        assert_eq!(variable("ollama"), None);
        assert!(matches!(
            Preset::named("vllm").unwrap().key,
            KeyNeed::Optional(_)
        ));
        assert!(matches!(
            Preset::named("gemini").unwrap().key,
            KeyNeed::Required(_)
        ));
    }

    #[test]
    fn servers_that_queue_get_few_requests_at_once() {
        let concurrency = |name| Preset::named(name).unwrap().concurrency;
        assert_eq!(concurrency("ollama"), 4);
        assert_eq!(concurrency("llamacpp"), 4);
        assert_eq!(concurrency("vllm"), 64);
        assert_eq!(concurrency("openai"), 64);
    }

    #[test]
    fn reasoning_models_are_known_by_name() {
        for model in [
            "o1",
            "o1-mini",
            "o3-mini-2025-01-31",
            "o4-mini",
            "gpt-5",
            "gpt-5-mini",
            "gpt-5.1",
            "gpt-6",
            "gpt-10",
            "gpt-51",
            "openai/gpt-5-mini",
            "ft:o4-mini:acme::x1",
        ] {
            assert!(is_reasoning_model(model), "{model}");
        }
        for model in [
            "gpt-4o",
            "gpt-4.1-mini",
            "gpt-3.5-turbo",
            "gpt-35-turbo",
            "gpt-41",
            "gpt-oss-120b",
            "ft:gpt-4o:acme::x1",
            "openai/gpt-4o",
            "olmo-2",
            "chatgpt-4o-latest",
            "gpt-",
            "",
        ] {
            assert!(!is_reasoning_model(model), "{model}");
        }
    }
}
