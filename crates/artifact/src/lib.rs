//! Wasm in, trusted native code out, once per node.
//!
//! The store keeps native code under a key made of the module's content and the engine's
//! [`recipe`]. Whoever asks gets a descriptor to map; nobody but the store writes there, and
//! nothing is loaded that the store did not write and verify.
//!
//! Features: `compile` adds Cranelift (the confined child of `wasm-interp`), `load` adds Wasmtime's
//! runtime without a compiler (the runner). Without either (the shim) there is no Wasmtime at all.

pub mod recipe;
