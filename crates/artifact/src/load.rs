//! Maps native code as a module that can run. For the runner; it contains no compiler.
#![allow(unsafe_code)]

use std::fs::File;

use wasmtime::{Engine, Module, Result};

/// Native stack besides the guest's, for the host's functions that a guest calls.
const HOST_STACK: u64 = 2 << 20;

/// The engine of a guest whose stack is limited to `stack_bytes`. It runs guests on a separate stack
/// (asynchronous calls) that is always larger than this limit. So deep recursion traps before it reaches
/// the guard page, which would end the runner.
///
/// # Errors
/// When this machine cannot run the recipe's code.
pub fn engine(stack_bytes: u64) -> Result<Engine> {
    let mut config = crate::engine::config();
    let guest = usize::try_from(stack_bytes)?;
    let whole = usize::try_from(stack_bytes.saturating_add(HOST_STACK))?;
    config.max_wasm_stack(guest);
    config.async_stack_size(whole);
    Engine::new(&config)
}

/// Maps an artifact.
///
/// `file` must be a descriptor that [`crate::Store::get`] handed out: it becomes executable memory.
///
/// # Errors
/// When the artifact is of another recipe or version.
pub fn module(engine: &Engine, file: File) -> Result<Module> {
    // SAFETY: Wasmtime requires that the file was made by `Engine::precompile_module` and does not
    // change while mapped. The shim opens it from the store alone, which verifies the content
    // against the digest recorded when its own confined compiler had written it; the store is
    // writable by root only and replaces entries by rename, never in place; and a descriptor that
    // is not from the disk is a memfd sealed against writing.
    unsafe { Module::deserialize_open_file(engine, file) }
}
