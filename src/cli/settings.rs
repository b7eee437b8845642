//! What was typed becomes what is meant: flags > environment > defaults, checked before any work.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::args::{FormatArg, RetryStatus, RunArgs, ShapeArgs};
use super::pricing::Pricing;
use super::refusal::Refusal;
use crate::engine;
use crate::input::{Defaults, Template};
use crate::output::checkpoint::RunIdentity;
use crate::output::{Format, Paths, StartMode};
use crate::provider::key::ApiKey;
use crate::provider::openai::OpenAi;
use crate::provider::preset::{KeyNeed, Preset};
use crate::sim::SimSettings;
use crate::words::fields::quoted;
use crate::words::money::Usd;
use crate::words::record::ErrorStatus;

/// The model that the simulator is asked for where nothing names one.
pub const SIMULATED_MODEL: &str = "simulated";

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

/// A sum that is never passed.
pub struct BudgetSettings {
    pub limit: Usd,
    pub warn_percent: u64,
    pub downgrade: Option<Arc<str>>,
}

/// Everything that `run` was asked for.
pub struct RunSettings {
    pub input: PathBuf,
    pub defaults: Defaults,
    pub limit: Option<u64>,
    pub skip_invalid: bool,
    pub paths: Paths,
    pub mode: StartMode,
    pub retry: Vec<ErrorStatus>,
    pub allow_changes: bool,
    pub checkpoint_every: u64,
    pub identity: RunIdentity,
    pub target: Target,
    pub engine: engine::Settings,
    pub pricing: Pricing,
    pub budget: Option<BudgetSettings>,
    /// What may be spent without asking.
    pub confirm_above: Option<Usd>,
    /// The run's own limit on answers.
    pub max_tokens: Option<u64>,
}

impl RunSettings {
    pub fn from_args(args: &RunArgs) -> Result<Self> {
        let mut defaults = defaults(&args.shape)?;
        let target = target(args)?;
        if matches!(target, Target::Simulator(_)) && defaults.model.is_none() {
            defaults.model = Some(SIMULATED_MODEL.into());
        }
        let mode = match (args.resume, args.overwrite) {
            (true, _) => StartMode::Resume,
            (_, true) => StartMode::Overwrite,
            _ => StartMode::New,
        };
        let paths = paths(args, mode)?;
        let identity = identity(args, &defaults);
        Ok(RunSettings {
            input: args.input.clone(),
            defaults,
            limit: args.limit,
            skip_invalid: args.skip_invalid,
            paths,
            mode,
            retry: args.retry.iter().map(|status| (*status).into()).collect(),
            allow_changes: args.allow_changes,
            checkpoint_every: args.checkpoint_every,
            identity,
            engine: engine_settings(args, &target)?,
            target,
            pricing: Pricing::from_args(&args.prices)?,
            budget: budget(args)?,
            confirm_above: confirm_above(args)?,
            max_tokens: args.shape.max_tokens,
        })
    }
}

impl From<RetryStatus> for ErrorStatus {
    fn from(status: RetryStatus) -> Self {
        match status {
            RetryStatus::Filtered => ErrorStatus::Filtered,
            RetryStatus::Rejected => ErrorStatus::Rejected,
            RetryStatus::Failed => ErrorStatus::Failed,
            RetryStatus::Invalid => ErrorStatus::Invalid,
        }
    }
}

fn paths(args: &RunArgs, mode: StartMode) -> Result<Paths> {
    let to_stdout = args.output.as_deref() == Some(Path::new("-"));
    if !to_stdout {
        let default = || Paths::default_results(&args.input);
        let results = args.output.clone().unwrap_or_else(default);
        if results.is_dir() {
            let what = format!("the output {} is a folder", results.display());
            return Err(Refusal::new(what).hint("-o FILE names a file").into());
        }
        let folder = results
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let what = format!("the output's folder {} does not exist", folder.display());
            return Err(Refusal::new(what)
                .hint(format!("mkdir -p {}", folder.display()))
                .into());
        }
        return Ok(Paths::beside(&results));
    }
    if mode == StartMode::Resume {
        let refusal = Refusal::new("standard output cannot be resumed");
        return Err(refusal
            .hint("-o FILE keeps the results where --resume finds them")
            .into());
    }
    if args.json {
        let refusal = Refusal::new("--json and -o - both want standard output");
        return Err(refusal
            .hint("--progress json reports on standard error")
            .into());
    }
    Ok(Paths::for_stdout(&args.input))
}

/// Reads what fills the lines.
pub fn defaults(args: &ShapeArgs) -> Result<Defaults> {
    let mut params = Vec::new();
    if let Some(limit) = args.max_tokens {
        params.push(("max_tokens".to_owned(), limit.to_string()));
    }
    if let Some(temperature) = args.temperature {
        if !temperature.is_finite() {
            return Err(Refusal::new(format!("--temperature {temperature} is no number")).into());
        }
        params.push((
            "temperature".to_owned(),
            serde_json::to_string(&temperature)?,
        ));
    }
    for typed in &args.param {
        let (key, value) = param(typed)?;
        if params.iter().any(|(known, _)| *known == key) {
            return Err(Refusal::new(format!("--param sets {key:?} twice")).into());
        }
        params.push((key, value));
    }
    if args.model.as_deref() == Some("") {
        return Err(Refusal::new("--model is empty").into());
    }
    Ok(Defaults {
        model: args.model.as_deref().map(Into::into),
        params,
        prompt: prompt_template(args)?,
        system: args
            .system
            .as_deref()
            .map(|text| compile("--system", text))
            .transpose()?,
    })
}

/// Reads `KEY=JSON`; a bare word is taken as a string, since shells eat the quotes.
fn param(typed: &str) -> Result<(String, String)> {
    let refusal = |why: &str| Refusal::new(format!("--param {typed}: {why}"));
    let Some((key, value)) = typed.split_once('=') else {
        return Err(refusal("there is no =").hint("--param top_p=0.9").into());
    };
    match key {
        "" => return Err(refusal("the key is empty").into()),
        "model" => {
            return Err(refusal("there is a flag for it")
                .hint("--model NAME")
                .into());
        }
        "messages" => return Err(refusal("messages come from the lines").into()),
        "stream" => return Err(refusal("answers are read whole").into()),
        _ => {}
    }
    let json = serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok();
    if json {
        return Ok((key.to_owned(), value.trim().to_owned()));
    }
    let word = value
        .chars()
        .all(|c| c.is_alphanumeric() || "-_.:/".contains(c));
    if word && !value.is_empty() {
        return Ok((key.to_owned(), quoted(value)));
    }
    Err(refusal("the value is not JSON")
        .hint("quote it for the shell: --param 'stop=[\"\\n\"]'")
        .into())
}

fn prompt_template(args: &ShapeArgs) -> Result<Option<Template>> {
    if let Some(text) = &args.prompt {
        return Ok(Some(compile("--prompt", text)?));
    }
    let Some(path) = &args.prompt_file else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        Refusal::new(format!(
            "--prompt-file {} cannot be read: {error}",
            path.display()
        ))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Ok(Some(compile(&path.display().to_string(), text)?))
}

fn compile(origin: &str, text: &str) -> Result<Template> {
    let compiled = Template::compile(text);
    Ok(compiled
        .map_err(|why| Refusal::new(format!("the template of {origin} is broken: {why}")))?)
}

fn identity(args: &RunArgs, defaults: &Defaults) -> RunIdentity {
    let source = |template: &Option<Template>| template.as_ref().map(|t| t.source().to_owned());
    RunIdentity {
        model: defaults.model.as_deref().map(str::to_owned),
        prompt: source(&defaults.prompt),
        system: source(&defaults.system),
        params: defaults.params.iter().cloned().collect(),
        format: match args.format {
            FormatArg::Native => Format::Native,
            FormatArg::Openai => Format::Openai,
        },
        lean: args.lean,
    }
}

fn target(args: &RunArgs) -> Result<Target> {
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

fn budget(args: &RunArgs) -> Result<Option<BudgetSettings>> {
    let Some(typed) = &args.budget else {
        return Ok(None);
    };
    let limit = amount("--budget", typed)?;
    if limit == Usd::ZERO {
        let refusal = Refusal::new(format!("--budget {typed}: nothing can be asked for it"));
        return Err(refusal.hint("an amount above 0").into());
    }
    Ok(Some(BudgetSettings {
        limit,
        warn_percent: args.budget_warn,
        downgrade: args.downgrade.as_deref().map(Into::into),
    }))
}

fn confirm_above(args: &RunArgs) -> Result<Option<Usd>> {
    let typed = args.confirm_above.as_deref();
    typed
        .map(|typed| amount("--confirm-above", typed))
        .transpose()
}

fn amount(flag: &str, typed: &str) -> Result<Usd> {
    let amount = Usd::parse(typed.trim().trim_start_matches('$'));
    Ok(amount.map_err(|why| {
        Refusal::new(format!("{flag} {typed}: {why}"))
            .hint(format!("an amount in US dollars, such as {flag} 12.50"))
    })?)
}

fn engine_settings(args: &RunArgs, target: &Target) -> Result<engine::Settings> {
    let timeout = Duration::try_from_secs_f64(args.timeout)
        .ok()
        .filter(|time| !time.is_zero() && *time <= Duration::from_secs(86_400))
        .ok_or_else(|| {
            Refusal::new(format!(
                "--timeout {} is not a time in seconds",
                args.timeout
            ))
            .hint("more than 0 and at most 86400")
        })?;
    let usual = match target {
        Target::Endpoint { preset, .. } => preset.concurrency,
        Target::Simulator(_) => Preset::GENERIC.concurrency,
    };
    Ok(engine::Settings {
        concurrency: args.concurrency.map_or(usual, |typed| typed as usize),
        rpm: args.rpm.and_then(NonZeroU32::new),
        tpm: args.tpm.and_then(NonZeroU32::new),
        max_retries: args.max_retries,
        timeout,
        seed: fastrand::u64(..),
        ..engine::Settings::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T>(result: Result<T>) -> String {
        match result {
            Ok(_) => panic!("it was not refused"),
            Err(error) => error.downcast::<Refusal>().unwrap().what,
        }
    }

    #[test]
    fn parameters_are_json_or_a_bare_word() {
        assert_eq!(param("top_p=0.9").unwrap(), ("top_p".into(), "0.9".into()));
        assert_eq!(param("stop=[\"a=b\"]").unwrap().1, "[\"a=b\"]");
        assert_eq!(param("reasoning_effort=low").unwrap().1, "\"low\"");
        assert!(refused(param("x={")).contains("not JSON"));
        assert!(refused(param("x")).contains("no ="));
        assert!(refused(param("=1")).contains("empty"));
        assert!(refused(param("stream=true")).contains("read whole"));
    }

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
