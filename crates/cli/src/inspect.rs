//! `wasm-interp inspect`: describes what a container would do, and why, without running it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;
use thiserror::Error;
use wasm_interp_artifact::{ArtifactError, CompileFailure, check_size};
use wasm_interp_launch::{LaunchError, PlannedContainer, plan};
use wasm_interp_workload::{
    ErrorKind, explain, explain_native, open_root, printable, printable_json, with_causes,
};

use crate::container::{self, ContainerArgs, ContainerError};
use crate::places;

/// Show what a container would do, and why.
///
/// Shows the interpreter and the rule that found it, its arguments, its grants and what they allow, the
/// parts of the spec that it does not get and the reasons, and its limits. Checks the interpreter's
/// module and its imports, and refuses them in the words of a create. The command runs nothing and
/// changes nothing, except that it unpacks an image into the cache once.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InspectArgs {
    /// Print JSON: the plan, an object "native" for a native program, or an object "error" with "kind"
    /// and "message".
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    pub(crate) container: ContainerArgs,
}

const EXAMPLES: &str = "\
Exits with 1 if there is no plan, or the module cannot run here; the text says why.

Examples:
  A container of containerd's:
    wasm-interp inspect /run/containerd/io.containerd.runtime.v2.task/default/web

  What would happen with a read-only mount over /data:
    wasm-interp inspect --mount src=./data,dst=/data,ro ./rootfs -- python /app/main.py

  An image in an OCI archive:
    wasm-interp inspect dist/images/hello.tar

  Only the interpreter's path:
    wasm-interp inspect --json /path/to/bundle | jq -r .interpreter.path";

/// Why there is no plan, or why it could not be printed.
#[derive(Debug, Error)]
pub(crate) enum InspectError {
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error("cannot print the plan: {0}; check where standard output leads")]
    Print(#[from] io::Error),
    #[error("cannot write the plan as JSON: {0}; leave out --json, and report this")]
    Json(#[from] serde_json::Error),
}

/// Prints the plan, or the error that prevents one.
pub(crate) fn inspect(args: &InspectArgs) -> Result<ExitCode, InspectError> {
    let error = match answer(args) {
        Ok(text) => {
            io::stdout().write_all(text.as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => error,
    };
    match kind(&error) {
        Some(kind) if args.json => {
            let error = json!({ "error": { "kind": kind, "message": with_causes(&error) } });
            let error = serde_json::to_string_pretty(&error)?;
            writeln!(io::stdout(), "{}", printable_json(&error))?;
        }
        Some(_) => {
            let error = printable(&with_causes(&error));
            writeln!(io::stderr(), "wasm-interp: {error}")?;
        }
        None => return Err(error),
    }
    Ok(ExitCode::FAILURE)
}

fn answer(args: &InspectArgs) -> Result<String, InspectError> {
    let container = args.container.container()?;
    // On stderr, because stdout has the plan only.
    container::warn(&container.warnings);
    let root = open_root(&container.rootfs).map_err(LaunchError::from)?;
    let planned = plan(
        &container.spec,
        root,
        &places::policy_file(),
        container.host_network(),
        Arc::default(),
    )?;
    if let PlannedContainer::Wasm {
        plan,
        interpreter,
        cache,
    } = &planned
    {
        check(&plan.interpreter.path, interpreter, cache.max_module_bytes)
            .map_err(LaunchError::from)?;
    }
    if args.json {
        let json = match &planned {
            PlannedContainer::Sandbox => serde_json::to_string_pretty(&json!({ "sandbox": true })),
            PlannedContainer::Native(native) => {
                serde_json::to_string_pretty(&json!({ "native": native }))
            }
            PlannedContainer::Wasm { plan, .. } => serde_json::to_string_pretty(plan),
        };
        return Ok(printable_json(&json?) + "\n");
    }
    Ok(match &planned {
        PlannedContainer::Sandbox => SANDBOX.to_owned(),
        PlannedContainer::Native(native) => explain_native(native),
        PlannedContainer::Wasm { plan, .. } => explain(plan),
    })
}

/// Refuses a module or component that a create would refuse, with its error.
fn check(name: &str, module: &File, max_bytes: u64) -> Result<(), ArtifactError> {
    check_size(name, module, max_bytes)?;
    let mut wasm = Vec::new();
    // A file may grow while it is read.
    module
        .take(max_bytes)
        .read_to_end(&mut wasm)
        .map_err(|source| ArtifactError::Read {
            name: name.to_owned(),
            source,
        })?;
    match wasm_interp_module::check(&wasm) {
        Ok(_) => Ok(()),
        Err(refusal) => Err(ArtifactError::Compile {
            name: name.to_owned(),
            failure: CompileFailure::Refused { refusal },
        }),
    }
}

const SANDBOX: &str =
    "the pod sandbox: it holds the pod's namespaces and runs no program of its image\n";

/// The class of an error that prevents a plan; `None` for another error.
fn kind(error: &InspectError) -> Option<&'static str> {
    let kind = match error {
        InspectError::Launch(error) => error.kind()?,
        InspectError::Container(_) => ErrorKind::InvalidArgument,
        InspectError::Print(_) | InspectError::Json(_) => return None,
    };
    Some(match kind {
        ErrorKind::InvalidArgument => "invalid-argument",
        ErrorKind::NotFound => "not-found",
        ErrorKind::FailedPrecondition => "failed-precondition",
    })
}
