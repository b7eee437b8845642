//! What was typed becomes what is meant: flags > environment > defaults, checked before any work.

mod address;
mod apart;
mod key;
mod limits;
mod target;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;

use super::args::{FormatArg, RetryStatus, RunArgs, ShapeArgs};
use super::pricing::Pricing;
use super::refusal::Refusal;
use super::terminal;
use crate::engine;
use crate::input::{Defaults, Template};
use crate::output::checkpoint::RunIdentity;
use crate::output::{Format, Paths, StartMode};
use crate::provider::preset::Preset;
use crate::words::fields::quoted;
use crate::words::money::Usd;
use crate::words::record::ErrorStatus;

pub use target::{Target, environment, preset};

/// The model that the simulator is asked for where nothing names one.
pub const SIMULATED_MODEL: &str = "simulated";

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
        let mode = match (args.resume, args.overwrite) {
            (true, _) => StartMode::Resume,
            (_, true) => StartMode::Overwrite,
            _ => StartMode::New,
        };
        let paths = paths(args, mode)?;
        apart::keep_apart(args, &paths)?;
        let target = target::target(args)?;
        if matches!(target, Target::Simulator(_)) && defaults.model.is_none() {
            defaults.model = Some(SIMULATED_MODEL.into());
        }
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
            engine: limits::engine_settings(args, usual_concurrency(&target))?,
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
        if results.exists() && !results.is_file() {
            let what = format!("the output {} is no regular file", results.display());
            return Err(Refusal::new(what)
                .hint("-o - writes to standard output")
                .into());
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
    if terminal::stdout_is_gone() {
        let refusal = Refusal::new("standard output is closed, and results go there");
        return Err(refusal.hint("-o FILE keeps what was paid for").into());
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

/// Returns the slots of such an endpoint where nobody says how many.
fn usual_concurrency(target: &Target) -> usize {
    match target {
        Target::Endpoint { preset, .. } => preset.concurrency,
        Target::Simulator(_) => Preset::GENERIC.concurrency,
    }
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
}
