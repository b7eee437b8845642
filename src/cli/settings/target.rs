//! Where requests go, and with which key: the endpoint's flags, checked.

use anyhow::Result;

use crate::cli::args::RunArgs;
use crate::cli::refusal::Refusal;
use crate::provider::key::ApiKey;
use crate::provider::openai::OpenAi;
use crate::provider::preset::{KeyNeed, Preset};
use crate::sim::SimSettings;

/// Where requests go.
pub enum Target {
    Endpoint {
        preset: &'static Preset,
        base_url: String,
        key: Option<ApiKey>,
        /// The variable or file that the key is from.
        key_origin: String,
    },
    Simulator(Box<SimSettings>),
}

/// Reads where requests go.
pub(super) fn target(args: &RunArgs) -> Result<Target> {
    if let Some(spec) = &args.simulate {
        let settings = spec
            .parse::<SimSettings>()
            .map_err(|error| Refusal::new(format!("--simulate={spec}: {error}")))?;
        return Ok(Target::Simulator(Box::new(settings)));
    }
    let (preset, base_url) = endpoint(args)?;
    let (key, key_origin) = api_key(args, preset, &base_url)?;
    // Refuses a bad base URL now, not at the first request.
    OpenAi::new(preset, &base_url, key.as_ref()).map_err(|why| {
        Refusal::new(format!("the base URL cannot be used: {why}"))
            .hint("--base-url http://127.0.0.1:8080/v1, for instance")
    })?;
    Ok(Target::Endpoint {
        preset,
        base_url,
        key,
        key_origin,
    })
}

/// Returns the kind of endpoint that is asked for.
pub fn preset(args: &RunArgs) -> Result<&'static Preset> {
    let Some(name) = &args.provider else {
        // An address of its own may be any kind of server; without one it is OpenAI itself.
        return Ok(match args.base_url.clone().or_else(environment) {
            Some(url) if !is_openai(&url) => Preset::GENERIC,
            _ => openai(),
        });
    };
    let preset = Preset::named(name).ok_or_else(|| {
        let names: Vec<_> = Preset::ALL.iter().map(|preset| preset.name).collect();
        Refusal::new(format!("--provider {name} is not known")).hint(format!(
            "known are {}; others by --base-url URL",
            names.join(", ")
        ))
    })?;
    Ok(preset)
}

/// Returns the base URL of the environment.
pub fn environment() -> Option<String> {
    let url = std::env::var("OPENAI_BASE_URL").ok();
    url.filter(|url| !url.is_empty())
}

fn endpoint(args: &RunArgs) -> Result<(&'static Preset, String)> {
    let preset = preset(args)?;
    if args.provider.is_none() {
        let typed = args.base_url.clone().or_else(environment);
        let own = preset.base_url.unwrap_or_default();
        return Ok((preset, typed.unwrap_or_else(|| own.to_owned())));
    }
    let own = || preset.base_url.map(str::to_owned);
    let base_url = match args.base_url.clone() {
        Some(url) => Some(url),
        None if preset.name == openai().name => environment().or_else(own),
        None => own(),
    };
    let base_url = base_url.ok_or_else(|| {
        Refusal::new(format!(
            "--provider {} needs an address of your own",
            preset.name
        ))
        .hint("--base-url https://NAME.openai.azure.com/openai/v1")
    })?;
    Ok((preset, base_url))
}

fn is_openai(base_url: &str) -> bool {
    url::Url::parse(base_url).is_ok_and(|url| url.host_str() == Some("api.openai.com"))
}

fn openai() -> &'static Preset {
    Preset::named("openai").expect("it is in the table")
}

/// Reads the key, and says where it is from.
fn api_key(args: &RunArgs, preset: &Preset, base_url: &str) -> Result<(Option<ApiKey>, String)> {
    let (origin, text) = match (&args.api_key_file, &args.api_key_env, preset.key.variable()) {
        (Some(path), _, _) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Refusal::new(format!(
                    "--api-key-file {} cannot be read: {error}",
                    path.display()
                ))
            })?;
            (path.display().to_string(), Some(text))
        }
        (None, Some(name), _) => (name.clone(), variable(name)?),
        (None, None, Some(name)) => (name.to_owned(), variable(name)?),
        (None, None, None) => return Ok((None, String::new())),
    };
    let asked_for = args.api_key_file.is_some() || args.api_key_env.is_some();
    let needed = matches!(preset.key, KeyNeed::Required(_)) && !is_loopback(base_url);
    match text
        .as_deref()
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        Some(text) => {
            let key = ApiKey::new(text).map_err(|why| Refusal::new(format!("{origin}: {why}")))?;
            Ok((Some(key), origin))
        }
        None if asked_for || needed => {
            let what = format!("no API key: {origin} is not set or empty");
            let hint = match &args.api_key_file {
                Some(_) => "put the key into that file".to_owned(),
                None => format!("export {origin}=…, or --api-key-file FILE; --simulate needs none"),
            };
            Err(Refusal::new(what).hint(hint).into())
        }
        None => Ok((None, origin)),
    }
}

fn variable(name: &str) -> Result<Option<String>> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(text)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Refusal::new(format!("the environment variable {name} is not text")).into())
        }
    }
}

/// Tells whether a base URL is on this machine, where servers mostly run without a key.
pub fn is_loopback(base_url: &str) -> bool {
    let Ok(url) = url::Url::parse(base_url) else {
        return false;
    };
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_this_machine_only() {
        for url in [
            "http://127.0.0.1:8080/v1",
            "http://localhost",
            "http://[::1]:1/v1",
            "http://127.9.9.9",
        ] {
            assert!(is_loopback(url), "{url}");
        }
        for url in [
            "http://example.com",
            "http://127.0.0.1.example.com",
            "http://10.0.0.1",
            "nonsense",
        ] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
