//! Why a guest cannot be made ready.
#![forbid(unsafe_code)]

use wasm_interp_artifact::ModuleRefusal;
use wasm_interp_workload::PLAN_VERSION;

/// Why a guest cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error(
        "cannot follow a plan of version {found}: this runner knows version {PLAN_VERSION}; the \
         executables of wasm-interp are of different versions"
    )]
    Version { found: u32 },
    #[error("cannot make an engine: {0:#}")]
    Engine(wasmtime::Error),
    #[error("cannot load the native code of {interpreter}: {source:#}")]
    Load {
        interpreter: String,
        source: wasmtime::Error,
    },
    /// The compiler refuses such programs too, in the same words.
    #[error("cannot run {interpreter}: {refusal}")]
    Refused {
        interpreter: String,
        refusal: ModuleRefusal,
    },
    #[error("cannot map the ceiling of the guest's memory: {0}")]
    Ceiling(#[source] std::io::Error),
    #[error("cannot link {interpreter}: {source:#}")]
    Link {
        interpreter: String,
        source: wasmtime::Error,
    },
}
