//! What the fuzz target `component` calls: the functions, as a component's imports are called. Built only with
//! `--cfg fuzzing`, which `scripts/fuzz` sets.
#![forbid(unsafe_code)]

pub use wasmtime::{Error as Trap, component::Resource};

pub use super::{
    bindings::wasi,
    failure::{FileFailure, SocketFailure, StreamFailure},
};
