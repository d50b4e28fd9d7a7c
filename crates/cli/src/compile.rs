//! `wasm-interp compile`: fills the artifact store before the first container asks, and says what
//! is wrong with a module. Also the two hidden stages that the store itself starts.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use thiserror::Error;
use wasm_interp_artifact::compile::confined;
use wasm_interp_artifact::{Artifact, ArtifactError, Origin, Store, StoreConfig, publisher};

use crate::places;
use crate::run::progress::Compiling;

/// Compile a module into the node's cache, as the first container that needs it would.
///
/// A module that is compiled already is only checked. The compiler runs in a process of its own,
/// without network, privileges, or files; it goes on if this command is interrupted.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
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
    wasm-interp compile /opt/python/bin/python.wasm

  In a pipeline, into a cache of its own:
    wasm-interp compile --json --cache ./cache python.wasm | jq .origin";

/// Why a module was not compiled.
#[derive(Debug, Error)]
pub(crate) enum CompileError {
    #[error("cannot open {path:?}: {source}")]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot find this executable: {0}; mount /proc")]
    Locate(#[source] io::Error),
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error("cannot print the result: {0}")]
    Print(#[from] io::Error),
}

/// The result as `--json` prints it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Outcome<'a> {
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
pub(crate) fn compile(args: &Args) -> Result<ExitCode, CompileError> {
    let open = |source| CompileError::Open {
        path: args.file.clone(),
        source,
    };
    let wasm = File::open(&args.file).map_err(open)?;
    let name = args.file.display().to_string();
    let cache = args.cache.clone().unwrap_or_else(places::cache_dir);
    let store = Store::open(&cache, StoreConfig::default());
    let compiler = places::compiler().map_err(CompileError::Locate)?;
    let mut compiling = Compiling::new(&name);
    let artifact = store.get(&wasm, &name, &compiler, &mut |progress| {
        compiling.show(progress);
    });
    compiling.end();
    let artifact = artifact?;
    print(args, &name, &artifact)?;
    Ok(match artifact.origin {
        Origin::Uncached { .. } => ExitCode::from(NOT_KEPT),
        Origin::Cached | Origin::Compiled { .. } => ExitCode::SUCCESS,
    })
}

fn print(args: &Args, name: &str, artifact: &Artifact) -> io::Result<()> {
    let bytes = artifact.file.metadata()?.len();
    let (origin, seconds, reason) = match &artifact.origin {
        Origin::Cached => ("cached", None, None),
        Origin::Compiled { seconds } => ("compiled", Some(*seconds), None),
        Origin::Uncached { seconds, reason } => ("uncached", Some(*seconds), Some(reason.as_str())),
    };
    let mut out = io::stdout();
    if args.json {
        let outcome = Outcome {
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

/// The confined compiler's limits, given by the publisher.
#[derive(clap::Args)]
pub(crate) struct ConfinedArgs {
    #[arg(long)]
    memory: u64,
    #[arg(long)]
    cpu_seconds: u64,
}

/// The stage that owns the store while a module is compiled.
pub(crate) fn publish() -> ExitCode {
    publisher::main()
}

/// The stage that sees the module.
pub(crate) fn compile_confined(args: &ConfinedArgs) -> ExitCode {
    confined::main(confined::Limits {
        memory: args.memory,
        cpu_seconds: args.cpu_seconds,
    })
}
