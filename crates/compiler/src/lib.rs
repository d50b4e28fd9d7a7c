//! The executable that compiles: WebAssembly in, native code out.
//!
//! A process of it runs one of two stages ([`CompilerStage`]). The publisher owns the store while one
//! module is compiled, and never parses the module; it is `wasm_interp_artifact::publisher`. It starts
//! the confined compiler ([`confined`]), which gives up every privilege before it reads the module.
//! Everything here but [`main`] runs in that process and reads hostile input. It handles bytes; the
//! publisher handles files, keys and the store. This crate links nothing that the compile does not need:
//! no client of containerd or systemd, and nothing of the installer.

pub mod confined;
mod seccomp;

use std::ffi::OsString;
use std::process::ExitCode;

use wasm_interp_artifact::{CompileFailure, CompilerStage, ModuleRefusal, engine, publisher};
use wasm_interp_module::check;
use wasmtime::Engine;

/// Runs the stage that the arguments (without the program's name) name, until the process exits.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match CompilerStage::parse(arguments) {
        Ok(CompilerStage::Publish) => publisher::main(),
        Ok(CompilerStage::CompileConfined(limits)) => confined::main(limits),
        Err(error) => {
            eprintln!("wasm-interp-compiler: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Compiles a module to native code with [`wasm_interp_artifact::recipe::SETTINGS`].
///
/// # Errors
/// [`CompileFailure::Refused`] if [`wasm_interp_module::check()`] refuses the module or it is not valid,
/// [`CompileFailure::Compiler`] if the compiler fails on a valid one.
pub fn compile(wasm: &[u8]) -> Result<Vec<u8>, CompileFailure> {
    check(wasm).map_err(|refusal| CompileFailure::Refused { refusal })?;
    let failed = |error: &wasmtime::Error| CompileFailure::Compiler {
        reason: format!("{error:#}"),
    };
    let engine = Engine::new(&engine::config()).map_err(|error| failed(&error))?;
    engine.precompile_module(wasm).map_err(|error| {
        // If the engine's validator and `check` differ, the engine decides.
        match error.downcast_ref::<wasmparser::BinaryReaderError>() {
            Some(invalid) => CompileFailure::Refused {
                refusal: ModuleRefusal::Invalid {
                    reason: invalid.to_string(),
                },
            },
            None => failed(&error),
        }
    })
}
