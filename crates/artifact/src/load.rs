//! Maps native code as a module or component that can run. For the runner; it contains no compiler.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::stat::fstat;
use wasmtime::component::Component;
use wasmtime::{Engine, Module, Result, bail};

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

/// Maps an artifact as a component. Its code has the descriptor that `file` had, for as long as the component lives:
/// Wasmtime maps the initial image of its memories from it.
///
/// `file` must be a descriptor that [`crate::Store::get`] handed out: it becomes executable memory. The process
/// must have one thread.
///
/// # Errors
/// When the artifact is of another recipe or version, or of a module.
pub fn component(engine: &Engine, file: File) -> Result<Component> {
    let number = file.as_raw_fd();
    // Wasmtime takes no open file for a component, but a name. This one is of the same file on the same mount.
    let again = duplicate(&file, number + 1)?;
    let name = format!("/proc/self/fd/{}", again.as_raw_fd());
    drop(file);
    // Then the number is the lowest that is free, and the next file that is opened has it.
    let mut beneath = Vec::new();
    loop {
        let free = duplicate(&again, 0)?;
        if free.as_raw_fd() >= number {
            break;
        }
        beneath.push(free);
    }
    // SAFETY: as in `module`; the name leads to the same file.
    let component = unsafe { Component::deserialize_file(engine, name) }?;
    // SAFETY: the number is only asked about: fstat(2) refuses one that is not open.
    let opened = fstat(unsafe { BorrowedFd::borrow_raw(number) })?;
    let code = fstat(&again)?;
    if (opened.st_dev, opened.st_ino) != (code.st_dev, code.st_ino) {
        bail!("Wasmtime has opened the code as another descriptor than {number}");
    }
    Ok(component)
}

/// Another number for an open file: the lowest from `from` on.
fn duplicate(file: impl AsFd, from: RawFd) -> Result<OwnedFd> {
    let number = fcntl(file, FcntlArg::F_DUPFD_CLOEXEC(from))?;
    // SAFETY: the number is new, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
