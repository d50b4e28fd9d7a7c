//! `wasm-interp inspect`: what a container would do, and why, without anything being done.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;
use thiserror::Error;
use wasm_interp_workload::{
    ErrorKind, Kind, Policy, RootfsView, Work, decide, explain, explain_native,
};

use crate::container::{ContainerArgs, ContainerError};
use crate::places;

/// Say what a container would do, and why.
///
/// Shows the interpreter and the rule that found it, its arguments, what it may reach and with
/// which rights, what of the spec it does not get and for what reason, and its limits. Nothing is
/// run and nothing is changed.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Print JSON: the plan, an object "native" for a native program, or an object "error" with "kind"
    /// and "message".
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    container: ContainerArgs,
}

const EXAMPLES: &str = "\
Exits with 1 if there is no plan; the text says why.

Examples:
  A container of containerd's:
    wasm-interp inspect /run/containerd/io.containerd.runtime.v2.task/default/web

  What would happen with a read-only mount over /data:
    wasm-interp inspect --mount src=./data,dst=/data,ro ./rootfs -- python /app/main.py

  Only the interpreter's path:
    wasm-interp inspect --json /path/to/bundle | jq -r .interpreter.path";

/// The answer could not be given.
#[derive(Debug, Error)]
pub(crate) enum InspectError {
    #[error("cannot print the plan: {0}")]
    Print(#[from] io::Error),
    #[error("cannot write the plan as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Prints the plan or why there is none.
pub(crate) fn inspect(args: &Args) -> Result<ExitCode, InspectError> {
    match answer(args) {
        Ok(text) => {
            io::stdout().write_all(text?.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if args.json => {
            let error = json!({ "error": { "kind": kind(&error), "message": error.to_string() } });
            writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&error)?)?;
            Ok(ExitCode::FAILURE)
        }
        Err(error) => {
            writeln!(io::stderr(), "{error}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn answer(args: &Args) -> Result<Result<String, serde_json::Error>, ContainerError> {
    let container = args.container.container()?;
    if container.kind == Kind::Sandbox {
        return Ok(if args.json {
            serde_json::to_string_pretty(&json!({ "sandbox": true })).map(|text| text + "\n")
        } else {
            Ok("the pod sandbox: it holds the pod's namespaces and waits; nothing of its image runs\n"
                .to_owned())
        });
    }
    let policy = Policy::load(&places::policy_file())?;
    let view = RootfsView::new(&container.rootfs, &container.spec)?;
    let json = |text: serde_json::Result<String>| text.map(|text| text + "\n");
    Ok(match decide(&container.spec, &policy, &view)? {
        Work::Wasm(plan, _) if args.json => json(serde_json::to_string_pretty(&plan)),
        Work::Wasm(plan, _) => Ok(explain(&plan)),
        Work::Native(native) if args.json => {
            json(serde_json::to_string_pretty(&json!({ "native": native })))
        }
        Work::Native(native) => Ok(explain_native(&native)),
    })
}

fn kind(error: &ContainerError) -> &'static str {
    let kind = match error {
        ContainerError::Plan(error) => error.kind(),
        ContainerError::View(error) => error.kind(),
        ContainerError::Policy(_) => ErrorKind::FailedPrecondition,
        ContainerError::Target { .. }
        | ContainerError::Config { .. }
        | ContainerError::NoArgs { .. } => ErrorKind::InvalidArgument,
    };
    match kind {
        ErrorKind::InvalidArgument => "invalid-argument",
        ErrorKind::NotFound => "not-found",
        ErrorKind::Unimplemented => "unimplemented",
        ErrorKind::FailedPrecondition => "failed-precondition",
    }
}
