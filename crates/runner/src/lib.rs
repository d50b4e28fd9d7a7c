//! `wasm-interp-runner`: the process that becomes the container.
//!
//! With the feature `container` this is the runner itself; without it only [`client`], the
//! description of the runner's command line for those who invoke it (the shim and `wasm-interp run`).

pub mod client;
pub mod reason;
