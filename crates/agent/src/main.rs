//! `wasm-interp-agent`, which the Helm chart runs. `run` runs on every node: it installs the runtime there and reports
//! that to Kubernetes. `uninstall` runs once, before the release is deleted: it uninstalls the runtime from every node.
//!
//! The changes of a node are made by `crates/node`, in a unit of the host's systemd. This executable only starts that
//! unit. It is the only one that links TLS and HTTP, and stays in its image.
#![forbid(unsafe_code)]

mod agent;
mod backoff;
mod desired_state;
mod kube_api;
mod names;
mod node_jobs;
mod node_state;
mod prewarm;
mod readiness;
mod restart_lease;
mod run;
mod uninstall;

#[cfg(test)]
mod api_tests;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing::Level;
use wasm_interp_workload::with_causes;

/// Install wasm-interp on the nodes of a cluster.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct AgentCli {
    #[command(subcommand)]
    command: AgentCommand,
    /// Level of the log: error, warn, info, debug or trace.
    #[arg(long, global = true, value_name = "LEVEL", default_value = "info")]
    log_level: Level,
}

#[derive(Subcommand)]
enum AgentCommand {
    /// Install the runtime on this node, and keep it installed.
    Run(run::AgentArgs),
    /// Uninstall the runtime from every node, or name the nodes that cannot.
    Uninstall(uninstall::UninstallArgs),
}

fn main() -> ExitCode {
    let cli = AgentCli::parse();
    tracing_subscriber::fmt()
        .with_max_level(cli.log_level)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match execute(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wasm-interp-agent: {}", with_causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn execute(command: AgentCommand) -> Result<(), Box<dyn Error>> {
    // One thread is enough: it waits nearly always.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        match command {
            AgentCommand::Run(args) => run::run(args).await.map_err(Into::into),
            AgentCommand::Uninstall(args) => uninstall::run(&args).await.map_err(Into::into),
        }
    });
    // A job on the node continues without this process, and after TERM there is no time to wait.
    runtime.shutdown_background();
    outcome
}
