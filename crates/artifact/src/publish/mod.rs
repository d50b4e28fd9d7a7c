//! The two ends of a compile: who asks (`ask`, in the shim or the command line) and the detached
//! publisher that does it (`publisher`, in `wasm-interp`). They share `wire` and nothing else, so
//! that the compile goes on when the one who asked is gone.

pub(crate) mod ask;
pub mod publisher;
mod wire;
