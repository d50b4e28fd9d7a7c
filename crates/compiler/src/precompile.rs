//! WebAssembly in, native code out. Reads hostile input, in the confined compiler.

use wasm_interp_artifact::{CompileFailure, ModuleRefusal, engine};
use wasm_interp_module::check;
use wasmtime::Engine;

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
