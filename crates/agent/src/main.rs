//! `wasm-interp-agent`: what the Helm chart runs. `run` on every node, which provisions it and says so to
//! Kubernetes; `uninstall` once, before the release is deleted, which has every node give the runtime up.
//!
//! What happens *on* a node is `crates/node`'s, in a unit of the host's systemd; this executable only asks for
//! it. It is the one that knows TLS and HTTP, and never lies on a node outside its image.
#![forbid(unsafe_code)]

mod agent;
mod backoff;
mod cluster;
mod host;
mod names;
mod policy;
mod prewarm;
mod ready;
mod slots;
mod state;
mod uninstall;
mod wanted;

#[cfg(test)]
mod api_tests;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing::Level;
use wasm_interp_workload::with_causes;

/// Provision the nodes of a cluster for wasm-interp.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What to log: error, warn, info, debug or trace.
    #[arg(long, global = true, value_name = "LEVEL", default_value = "info")]
    log_level: Level,
}

#[derive(Subcommand)]
enum Command {
    /// Provision this node, and keep it so.
    Run(agent::Args),
    /// Have every node give the runtime up, or say which ones cannot.
    Uninstall(uninstall::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_max_level(cli.log_level)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wasm-interp-agent: {}", with_causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Box<dyn Error>> {
    // One thread: it waits nearly always, and has little memory.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        match command {
            Command::Run(args) => agent::run(args).await.map_err(Into::into),
            Command::Uninstall(args) => uninstall::run(&args).await.map_err(Into::into),
        }
    });
    // A job on the node needs nobody to wait for it, and TERM leaves no time to.
    runtime.shutdown_background();
    outcome
}
