//! `wasm-interp-compiler`: the shim and `wasm-interp` start it for one module. Users do not start it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    wasm_interp_compiler::main(std::env::args_os().skip(1))
}
