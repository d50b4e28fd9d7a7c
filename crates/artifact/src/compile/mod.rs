//! Makes native code. Runs in the confined child of `wasm-interp` only: what it reads is hostile.
//! It knows bytes; files, keys and the store belong to the publisher.

mod check;
pub mod confined;
mod p1;
mod seccomp;

pub use check::check;

use wasmtime::Engine;

use crate::failure::{Failure, Refusal};

/// Native code for a module, made by [`crate::recipe::SETTINGS`].
///
/// # Errors
/// [`Failure::Refused`] where [`check()`] refuses the module or it is not valid,
/// [`Failure::Compiler`] where the compiler gives up on a valid one.
pub fn compile(wasm: &[u8]) -> Result<Vec<u8>, Failure> {
    check(wasm).map_err(|refusal| Failure::Refused { refusal })?;
    let compiler = |error: &wasmtime::Error| Failure::Compiler {
        reason: format!("{error:#}"),
    };
    let engine = Engine::new(&crate::engine::config()).map_err(|error| compiler(&error))?;
    engine.precompile_module(wasm).map_err(|error| {
        // The engine's validator is the authority where it and `check` should ever differ.
        match error.downcast_ref::<wasmparser::BinaryReaderError>() {
            Some(invalid) => Failure::Refused {
                refusal: Refusal::Invalid {
                    reason: invalid.to_string(),
                },
            },
            None => compiler(&error),
        }
    })
}
