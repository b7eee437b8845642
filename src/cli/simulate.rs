//! `llmbatch simulate`: a made-up model for rehearsals and tests.

use anyhow::{Context, Result};

use super::args::SimulateArgs;
use super::refusal::Refusal;
use super::{Exit, terminal};
use crate::sim::{SimSettings, Simulator};

/// Serves until a signal comes.
pub fn simulate(args: &SimulateArgs) -> Result<Exit> {
    let mut settings: SimSettings = args
        .spec
        .parse()
        .map_err(|error| Refusal::new(format!("{}: {error}", args.spec)))?;
    if let Some(name) = &args.api_key_env {
        // Without the name: somebody may have typed the key in its place.
        let key = std::env::var(name)
            .map_err(|_| Refusal::new("the variable of --api-key-env is not set"))?;
        settings.api_key = Some(key);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    runtime.block_on(async {
        let simulator = Simulator::bind(args.port, settings)
            .await
            .map_err(|error| {
                Refusal::new(format!(
                    "port {} of 127.0.0.1 cannot be used: {error}",
                    args.port
                ))
                .hint("--port 0 takes a free one")
            })?;
        // On standard output, so that scripts can read the address of a port they did not choose.
        terminal::print(&format!("http://{}/v1", simulator.address()))?;
        tokio::select! {
            () = simulator.serve() => {}
            result = tokio::signal::ctrl_c() => result.context("failed to listen for signals")?,
        }
        Ok(Exit::Done)
    })
}
