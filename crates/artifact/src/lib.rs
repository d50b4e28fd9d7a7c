//! Compiles Wasm modules and components to trusted native code, once per node. A module stands for either in this crate.
//!
//! The store keeps native code under a key made of the module's content and the engine's
//! [`recipe`]. A caller gets a descriptor to map. Only the store's publisher writes to it, and only
//! code that the publisher wrote and that was verified is loaded.
//!
//! ```text
//! Store::get ──▶ digest of the module ──▶ entry there and undamaged? ──▶ descriptor
//!                                                │ no
//!                       key lock ──▶ publisher (detached, owns the store while it works)
//!                                        └──▶ confined compiler (reads wasm, writes code, nothing else)
//! ```
//!
//! Read in this order: `digest`, `recipe`, `key` (names), `store` (what is on disk), `get` (what a
//! caller asks for), `client` and `publisher` (the two ends of a compile, with `protocol` and `stages`
//! between them), `load` (the runner's part). The compiler itself is `crates/compiler`; the executable
//! `wasm-interp-compiler` runs the publisher too.
//!
//! Features: `engine` adds Wasmtime's configuration, `load` adds Wasmtime's runtime without a compiler.
//! Without either (the shim, the command line) there is no Wasmtime at all.

mod client;
mod digest;
#[cfg(feature = "engine")]
pub mod engine;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod get;
mod key;
#[cfg(feature = "load")]
pub mod load;
mod protocol;
pub mod publisher;
pub mod recipe;
mod spawn;
mod stages;
mod stamp;
mod store;

pub use client::{CodeRequest, CompileStage, compiler_beside_current_exe};
pub use digest::Digest;
pub use error::{ArtifactError, CompileFailure, ModuleRefusal};
pub use get::{Artifact, CompileProgress, Origin, check_size};
pub use key::Key;
pub use spawn::{Spawn, Spawned};
pub use stages::{CompilerLimits, CompilerStage, ParseStageError};
pub use store::{
    CACHE_ENV, Integrity, PruneSummary, Store, StoreEntry, StoreError, UnusableStore, cache_dir,
};
