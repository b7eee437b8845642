//! Where requests go, and with which key: the endpoint's flags, checked.

use anyhow::Result;

use super::address::BaseUrl;
use super::key::{self, Found};
use crate::cli::args::RunArgs;
use crate::cli::refusal::Refusal;
use crate::cli::terminal;
use crate::provider::key::ApiKey;
use crate::provider::openai::OpenAi;
use crate::provider::preset::{KeyNeed, Preset};
use crate::sim::SimSettings;
use crate::transport::{Authorities, Secret, unusable_proxy};

/// Where requests go.
pub enum Target {
    Endpoint {
        preset: &'static Preset,
        base_url: BaseUrl,
        key: Option<ApiKey>,
        /// Where the key is from, in words for people.
        key_origin: String,
        /// Who may vouch for the server, besides whom the system trusts.
        authorities: Authorities,
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
    let base_url = BaseUrl::new(base_url);
    terminal::conceal(base_url.secrets());
    // Refuses a bad base URL now, not at the first request.
    OpenAi::new(preset, base_url.reveal(), None).map_err(|why| {
        Refusal::new(format!("the base URL cannot be used: {why}"))
            .hint("--base-url http://127.0.0.1:8080/v1, for instance")
    })?;
    if base_url.names_user() {
        return Err(Refusal::new(
            "the base URL holds a user name or a password, which would be no secret",
        )
        .hint("leave them out; --api-key-env, --api-key-file and --api-key-command take a key")
        .into());
    }
    let needed = matches!(preset.key, KeyNeed::Required(_)) && !base_url.is_loopback();
    let Found {
        key,
        origin: key_origin,
    } = key::find(args, preset.key.variable(), needed)?;
    terminal::conceal(secret_of(key.as_ref()));
    if !args.allow_http {
        refuse_open_way(&base_url, key.as_ref().map(|_| &*key_origin))?;
    }
    refuse_bad_proxy(&base_url)?;
    Ok(Target::Endpoint {
        preset,
        base_url,
        key,
        key_origin,
        authorities: authorities(args)?,
    })
}

impl Target {
    /// Returns what a server must not say again.
    pub fn secrets(&self) -> Vec<Secret> {
        match self {
            Target::Endpoint { base_url, key, .. } => {
                let mut secrets = base_url.secrets();
                secrets.extend(secret_of(key.as_ref()));
                secrets
            }
            Target::Simulator(_) => Vec::new(),
        }
    }
}

/// Reads the authorities of the user's own.
fn authorities(args: &RunArgs) -> Result<Authorities> {
    let Some(path) = &args.ca_file else {
        return Ok(Authorities::default());
    };
    let refuse = |why: &str| Refusal::new(format!("--ca-file {} {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| refuse(&format!("cannot be read: {error}")))?;
    let authorities = Authorities::from_pem(&pem);
    Ok(authorities.ok_or_else(|| {
        refuse("holds no whole certificate").hint("PEM is meant: -----BEGIN CERTIFICATE----- …")
    })?)
}

fn secret_of(key: Option<&ApiKey>) -> Option<Secret> {
    key.and_then(|key| Secret::new(key.reveal()))
}

/// Refuses to send a key where everyone on the way can read it.
fn refuse_open_way(base_url: &BaseUrl, key_origin: Option<&str>) -> Result<()> {
    let source = match key_origin {
        Some(origin) => origin,
        None if base_url.secrets().is_empty() => return Ok(()),
        None => "the query string",
    };
    if !base_url.is_plain() || base_url.is_loopback() {
        return Ok(());
    }
    let what = format!("the key of {source} would travel unencrypted to {base_url}");
    Err(Refusal::new(what)
        .hint("https://…, or --allow-http where everyone on the way may read it")
        .into())
}

/// Refuses to go around a proxy that is set but cannot be used. Its address may hold a password.
fn refuse_bad_proxy(base_url: &BaseUrl) -> Result<()> {
    let url = url::Url::parse(base_url.reveal()).ok();
    let url = url.filter(|_| !base_url.is_loopback());
    let Some(variable) = url.as_ref().and_then(unusable_proxy) else {
        return Ok(());
    };
    let what = format!("the proxy of {variable} cannot be used");
    Err(Refusal::new(what)
        .hint("http://HOST:PORT or socks5://HOST:PORT; NO_PROXY names servers that need none")
        .into())
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
