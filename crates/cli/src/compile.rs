//! `wasm-interp compile`: compiles a module into the artifact store before the first container needs it,
//! or reports why the module cannot be compiled.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use thiserror::Error;
use wasm_interp_artifact::{Artifact, ArtifactError, CodeRequest, Origin, Store};
use wasm_interp_workload::{Policy, PolicyError};

use crate::places;
use crate::run::progress::Compiling;

/// Compile a module into the node's cache, as the first container that needs it would.
///
/// If the module is compiled already, the command only checks it. The compiler runs in a process of its
/// own without network, privileges, or files. It goes on if this command is interrupted.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompileArgs {
    /// The WebAssembly module: a WASI preview 1 command.
    file: PathBuf,
    /// Directory of the cache.
    #[arg(long, value_name = "DIR", env = places::CACHE_ENV)]
    cache: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Exits with 0 if containers will find the code, 1 if the module is refused or cannot be compiled, and
3 if it was compiled but the cache does not keep it.

Examples:
  Before the first container starts:
    wasm-interp compile /opt/python/bin/python3.13

  In a pipeline, into a cache of its own:
    wasm-interp compile --json --cache ./cache python.wasm | jq .origin";

/// Why a module was not compiled.
#[derive(Debug, Error)]
pub(crate) enum CompileError {
    #[error("cannot open {path:?}: {source}; name a WebAssembly module that you can read")]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot find this executable: {0}; mount /proc")]
    Locate(#[source] io::Error),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error("cannot print the result: {0}; check where standard output leads")]
    Print(#[from] io::Error),
}

/// The result as `--json` prints it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct CompileOutcome<'a> {
    key: String,
    bytes: u64,
    origin: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// Compiled, but the next container compiles again.
const NOT_KEPT: u8 = 3;

/// Compiles one module.
pub(crate) fn compile(args: &CompileArgs) -> Result<ExitCode, CompileError> {
    let open = |source| CompileError::Open {
        path: args.file.clone(),
        source,
    };
    let wasm = File::open(&args.file).map_err(open)?;
    let name = args.file.display().to_string();
    let cache = args.cache.clone().unwrap_or_else(places::cache_dir);
    let policy = Policy::load(&places::policy_file())?;
    let compiler = places::compiler().map_err(CompileError::Locate)?;
    let mut compiling = Compiling::default();
    let request = CodeRequest {
        wasm: &wasm,
        name: &name,
        compiler: &compiler,
        policy: policy.cache,
    };
    let artifact =
        Store::open(&cache).get(&request, &mut |progress| compiling.show(&name, progress));
    compiling.end();
    let artifact = artifact?;
    print(args, &name, &artifact)?;
    Ok(match artifact.origin {
        Origin::Uncached { .. } => ExitCode::from(NOT_KEPT),
        Origin::Cached | Origin::Compiled { .. } => ExitCode::SUCCESS,
    })
}

fn print(args: &CompileArgs, name: &str, artifact: &Artifact) -> io::Result<()> {
    let bytes = artifact.file.metadata()?.len();
    let (origin, seconds, reason) = match &artifact.origin {
        Origin::Cached => ("cached", None, None),
        Origin::Compiled { seconds } => ("compiled", Some(*seconds), None),
        Origin::Uncached { seconds, reason } => ("uncached", Some(*seconds), Some(reason.as_str())),
    };
    let mut out = io::stdout();
    if args.json {
        let outcome = CompileOutcome {
            key: artifact.key.to_string(),
            bytes,
            origin,
            seconds,
            reason,
        };
        return writeln!(out, "{}", serde_json::to_string(&outcome)?);
    }
    let size = crate::cache::megabytes(bytes);
    match (seconds, reason) {
        (Some(seconds), Some(reason)) => {
            writeln!(
                out,
                "{name}: compiled in {seconds:.1} s, {size}, but not kept: {reason}"
            )
        }
        (Some(seconds), None) => writeln!(out, "{name}: compiled in {seconds:.1} s, {size}"),
        (None, _) => writeln!(out, "{name}: already compiled, {size}"),
    }
}
