//! A module or component, which comes from an image: whether it can run here. `wasm-interp inspect` checks it in a process that is not
//! confined.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wasm_interp_artifact::ModuleRefusal;
use wasm_interp_fuzz::planted;
use wasm_interp_module::{WasmLayer, check};
use wasm_interp_wasi::{
    imports,
    interfaces::{self, InterfaceName},
};

fuzz_target!(|module: &[u8]| {
    let refusal = match check(module) {
        Ok(WasmLayer::Module) => {
            assert!(module.starts_with(b"\0asm\x01\0\0\0"));
            return;
        }
        Ok(WasmLayer::Component) => {
            assert!(module.starts_with(b"\0asm\x0d\0\x01\0"));
            return;
        }
        Err(refusal) => refusal,
    };
    let text = refusal.to_string();
    assert!(text.len() < 40_000, "an error has {} bytes", text.len());
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert_eq!(check(module), Err(refusal.clone()));
    if let ModuleRefusal::Interfaces { imports, .. } = &refusal {
        for line in imports {
            let known = line
                .strip_suffix(" (interface)")
                .and_then(InterfaceName::parse)
                .is_some_and(|name| interfaces::find(name.interface).is_some());
            assert!(!known, "{line} is offered");
        }
    }
    if let ModuleRefusal::Imports { imports: refused } = refusal {
        for line in &refused {
            let known = line
                .strip_suffix(" (function)")
                .and_then(|name| name.split_once('.'))
                .is_some_and(|(module, name)| imports::find(module, name).is_some());
            assert!(!known, "{line} is a host function");
            planted(line.starts_with("wasm_interp_posix_v1.") && !line.contains(".fork "));
        }
    }
});
