//! `wasm-interp`, the command line: runs and inspects containers without containerd, manages the
//! artifact store, and installs the runtime. The executable `wasm-interp-compiler` in the same folder
//! compiles.
//!
//! Each subcommand is a module with its arguments and one function.

mod cache;
mod compile;
mod completions;
mod container;
mod inspect;
mod logger;
mod node;
mod places;
mod policy;
mod run;

use std::error::Error;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use wasm_interp_workload::{printable, with_causes};

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
    Run(run::RunArgs),
    Inspect(inspect::InspectArgs),
    Compile(compile::CompileArgs),
    Cache(cache::CacheArgs),
    Node(node::NodeArgs),
    Policy(policy::PolicyArgs),
    Completions(completions::CompletionsArgs),
}

impl Command {
    /// The exit code when the command fails.
    fn failed(&self) -> ExitCode {
        match self {
            // The container was never started. docker and podman use the same code.
            Self::Run(_) => ExitCode::from(125),
            _ => ExitCode::FAILURE,
        }
    }

    /// What is wrong with the options together. Each alone is checked where it is parsed.
    fn contradiction(&self) -> Option<String> {
        match self {
            Self::Run(args) => args.container.contradiction(),
            Self::Inspect(args) => args.container.contradiction(),
            Self::Policy(args) => args.contradiction(),
            Self::Compile(_) | Self::Cache(_) | Self::Node(_) | Self::Completions(_) => None,
        }
    }
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if let Some(contradiction) = command.contradiction() {
        // As of an option that cannot be parsed.
        eprintln!("error: {contradiction}");
        return ExitCode::from(2);
    }
    logger::install();
    let failed = command.failed();
    let of_node = matches!(command, Command::Node(_));
    let outcome: Result<ExitCode, Box<dyn Error>> = match command {
        Command::Run(args) => run::run(&args).map_err(Into::into),
        Command::Inspect(args) => inspect::inspect(&args).map_err(Into::into),
        Command::Compile(args) => compile::compile(&args).map_err(Into::into),
        Command::Cache(args) => cache::cache(&args).map_err(Into::into),
        Command::Node(args) => node::node(&args).map_err(Into::into),
        Command::Policy(args) => policy::policy(&args).map_err(Into::into),
        Command::Completions(args) => {
            completions::completions(&args, Cli::command()).map_err(Into::into)
        }
    };
    outcome.unwrap_or_else(|error| {
        let error = with_causes(error.as_ref());
        // Only the errors of a node's configuration have several lines, and none of them is an image's.
        let error = if of_node { error } else { printable(&error) };
        eprintln!("wasm-interp: {error}");
        failed
    })
}
