//! Wasm in, trusted native code out, once per node.
//!
//! The store keeps native code under a key made of the module's content and the engine's
//! [`recipe`]. Whoever asks gets a descriptor to map; nobody but the store writes there, and
//! nothing is loaded that the store did not write and verify.
//!
//! ```text
//! Store::get ──▶ known: which content is this? ──▶ entry there and sound? ──▶ descriptor
//!                                                      │ no
//!                         key lock ──▶ publisher (detached, owns the store while it works)
//!                                          └──▶ confined compiler (sees wasm in, code out, nothing else)
//! ```
//!
//! Features: `compile` adds Cranelift (the confined child of `wasm-interp`), `load` adds Wasmtime's
//! runtime without a compiler (the runner). Without either (the shim) there is no Wasmtime at all.

#[cfg(feature = "compile")]
pub mod compile;
#[cfg(any(feature = "compile", feature = "load"))]
mod engine;
mod failure;
mod key;
mod known;
#[cfg(feature = "load")]
pub mod load;
mod place;
mod publish;
pub mod recipe;
mod stamp;
mod store;

pub use failure::{ArtifactError, Failure, Refusal};
pub use key::{Digest, Key};
pub use place::{CACHE_ENV, cache_dir};
pub use publish::publisher;
pub use store::{
    Artifact, Entry, Origin, Progress, Pruned, Stage, Store, StoreConfig, StoreError, Unusable,
    Verdict,
};
