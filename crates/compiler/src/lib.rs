//! The executable that compiles: WebAssembly in, native code out.
//!
//! A process of it runs one of two stages ([`CompilerStage`]). The publisher owns the store while one
//! module is compiled, and never parses the module; it is `wasm_interp_artifact::publisher`. It starts
//! the confined compiler ([`confined`]), which gives up every privilege before it reads the module.
//! Everything here but [`main`] runs in that process and reads hostile input. It handles bytes; the
//! publisher handles files, keys and the store. This crate links nothing that the compile does not need:
//! no client of containerd or systemd, and nothing of the installer.

pub mod confined;
mod precompile;
mod seccomp;

use std::ffi::OsString;
use std::process::ExitCode;

use wasm_interp_artifact::{CompilerStage, publisher};

pub use self::precompile::compile;

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
