//! The other end: the way to it, and the provider that speaks its language.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;

use crate::cli::refusal::Refusal;
use crate::cli::settings::{RunSettings, Target};
use crate::engine;
use crate::provider::Provider;
use crate::provider::openai::OpenAi;
use crate::provider::preset::Preset;
use crate::sim::Simulator;
use crate::transport::{Http, HttpSettings};

/// Everything between the engine and the other end.
pub struct Wire {
    pub runtime: Runtime,
    pub http: Http,
    pub provider: Arc<dyn Provider>,
}

impl Wire {
    /// Sets everything up, before any file is touched.
    pub fn set_up(settings: &RunSettings) -> Result<Self> {
        let http = network(settings)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("failed to start the runtime")?;
        let provider = provider(settings, &runtime)?;
        Ok(Wire {
            runtime,
            http,
            provider,
        })
    }
}

fn network(settings: &RunSettings) -> Result<Http> {
    let attempt_time = attempt_time(&settings.engine);
    let settings = match &settings.target {
        Target::Endpoint {
            base_url,
            authorities,
            ..
        } => HttpSettings {
            secrets: settings.target.secrets(),
            authorities: authorities.clone(),
            direct: base_url.is_loopback(),
            plain: base_url.is_plain(),
            attempt_time,
        },
        Target::Simulator(_) => HttpSettings {
            direct: true,
            plain: true,
            attempt_time,
            ..HttpSettings::default()
        },
    };
    Ok(Http::new(settings).map_err(|error| {
        Refusal::new(format!("the network cannot be set up: {error}"))
            .hint("install the system's CA certificates (Debian: apt-get install ca-certificates)")
    })?)
}

/// Returns how long an attempt lasts at most: an item's time ends its attempts too.
fn attempt_time(settings: &engine::Settings) -> Duration {
    let item_timeout = settings.item_timeout.unwrap_or(Duration::MAX);
    settings.timeout.min(item_timeout)
}

/// Makes the provider; with `--simulate`, also the server that it talks to.
fn provider(settings: &RunSettings, runtime: &Runtime) -> Result<Arc<dyn Provider>> {
    let (preset, base_url, key) = match &settings.target {
        Target::Endpoint {
            preset,
            base_url,
            key,
            ..
        } => (*preset, base_url.reveal().to_owned(), key.as_ref()),
        Target::Simulator(sim) => {
            let simulator = runtime
                .block_on(Simulator::bind(0, (**sim).clone()))
                .context("failed to start the simulator on a free port of 127.0.0.1")?;
            let base_url = format!("http://{}/v1", simulator.address());
            runtime.spawn(simulator.serve());
            (Preset::GENERIC, base_url, None)
        }
    };
    let provider = OpenAi::new(preset, &base_url, key)
        .map_err(|why| Refusal::new(format!("the base URL cannot be used: {why}")))?;
    Ok(Arc::new(provider))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Negative control: returning `settings.timeout`.
    #[test]
    fn an_attempt_lasts_no_longer_than_its_item() {
        let seconds = Duration::from_secs;
        for (timeout, item_timeout, lasts) in [(60, None, 60), (60, Some(5), 5), (5, Some(60), 5)] {
            let settings = engine::Settings {
                timeout: seconds(timeout),
                item_timeout: item_timeout.map(seconds),
                ..engine::Settings::default()
            };
            assert_eq!(attempt_time(&settings), seconds(lasts));
        }
    }
}
