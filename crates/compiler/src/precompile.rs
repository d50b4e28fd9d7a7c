//! WebAssembly in, native code out. Reads hostile input, in the confined compiler.

use wasm_interp_artifact::{CompileFailure, ModuleRefusal, engine};
use wasm_interp_module::{WasmLayer, check};
use wasmtime::Engine;

/// Compiles a module or a component to native code with [`wasm_interp_artifact::recipe::SETTINGS`].
///
/// # Errors
/// [`CompileFailure::Refused`] if [`wasm_interp_module::check()`] refuses it or it is not valid,
/// [`CompileFailure::Compiler`] if the compiler fails on a valid one.
pub fn compile(wasm: &[u8]) -> Result<Vec<u8>, CompileFailure> {
    let layer = check(wasm).map_err(|refusal| CompileFailure::Refused { refusal })?;
    let failed = |error: &wasmtime::Error| CompileFailure::Compiler {
        reason: format!("{error:#}"),
    };
    let engine = Engine::new(&engine::config()).map_err(|error| failed(&error))?;
    let code = match layer {
        WasmLayer::Module => engine.precompile_module(wasm),
        WasmLayer::Component => engine.precompile_component(wasm),
    };
    code.map_err(|error| {
        // If the engine's validator and `check` differ, the engine decides.
        match error.downcast_ref::<wasmparser::BinaryReaderError>() {
            Some(invalid) => CompileFailure::Refused {
                refusal: refusal(layer, invalid.to_string()),
            },
            None => failed(&error),
        }
    })
}

fn refusal(layer: WasmLayer, reason: String) -> ModuleRefusal {
    match layer {
        WasmLayer::Module => ModuleRefusal::Invalid { reason },
        WasmLayer::Component => ModuleRefusal::InvalidComponent { reason },
    }
}
