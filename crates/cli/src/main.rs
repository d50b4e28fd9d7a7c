//! `wasm-interp`, the command line: a person's way to run and understand a container without
//! containerd, and the executable that compiles for the artifact store.
//!
//! Each subcommand is a module with its arguments and one function.

mod cache;
mod compile;
mod completions;
mod container;
mod inspect;
mod node;
mod places;
mod run;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Run interpreters compiled to WebAssembly as containers.
#[derive(Parser)]
#[command(version, about, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  Run a script of a root filesystem, as its container would:
    wasm-interp run ./rootfs -- python /app/main.py

  Say what a container of this bundle would do, and why:
    wasm-interp inspect /run/containerd/io.containerd.runtime.v2.task/default/web

  Compile an interpreter before the first container needs it, and see what is kept:
    wasm-interp compile python.wasm
    wasm-interp cache ls

  Make this node run such containers, as root:
    wasm-interp node install

Environment:
  WASM_INTERP_CACHE_DIR  where native code is kept [default: /var/lib/wasm-interp/cache]
  WASM_INTERP_POLICY     the node's policy [default: /etc/wasm-interp/policy.json]";

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    Inspect(inspect::Args),
    Compile(compile::Args),
    Cache(cache::Args),
    Node(node::Args),
    Completions(completions::Args),
    /// The stage that owns the store while a module is compiled.
    #[command(name = "__publish", hide = true)]
    Publish,
    /// The stage that sees the module.
    #[command(name = "__compile-confined", hide = true)]
    CompileConfined(compile::ConfinedArgs),
}

impl Command {
    /// The exit code when it could not do what it was asked.
    fn failed(&self) -> ExitCode {
        match self {
            // As docker and podman have it: the container was never started.
            Self::Run(_) => ExitCode::from(125),
            _ => ExitCode::FAILURE,
        }
    }
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let failed = command.failed();
    let outcome: Result<ExitCode, Box<dyn Error>> = match command {
        Command::Run(args) => run::run(&args).map_err(Into::into),
        Command::Inspect(args) => inspect::inspect(&args).map_err(Into::into),
        Command::Compile(args) => compile::compile(&args).map_err(Into::into),
        Command::Cache(args) => cache::cache(&args).map_err(Into::into),
        Command::Node(args) => node::node(&args).map_err(Into::into),
        Command::Completions(args) => completions::completions(&args).map_err(Into::into),
        Command::Publish => Ok(compile::publish()),
        Command::CompileConfined(args) => Ok(compile::compile_confined(&args)),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!(
            "wasm-interp: {}",
            wasm_interp_workload::with_causes(error.as_ref())
        );
        failed
    })
}
