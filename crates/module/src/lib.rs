//! Whether a file is a program that can run here: a valid WASI preview 1 command whose imports a host
//! function serves, or a component that is a WASI 0.2 command. Names all wrong imports at once.
//!
//! The confined compiler calls [`check()`] before it compiles, and `wasm-interp inspect` before it shows a
//! plan, so both say the same. A crate of its own, because `wasm-interp` must not link a compiler. Pure:
//! it gets bytes, which are hostile, and knows neither files nor engines.
#![forbid(unsafe_code)]

mod component;
mod text;

use wasmparser::{
    Encoding, ExternalKind, FuncType, Import, Parser, Payload, TypeRef, ValType, Validator,
    WasmFeatures,
};

use wasm_interp_artifact::ModuleRefusal;
use wasm_interp_wasi::imports::{self, CoreType, HostFunction};

use self::text::{Named, clipped};

/// The layer field of a WebAssembly binary: what its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WasmLayer {
    /// A core module.
    Module,
    /// A component.
    Component,
}

/// Accepts a valid WASI preview 1 command, and a component that is a valid WASI 0.2 command.
///
/// # Errors
/// The reason; it names every import that no grant offers.
pub fn check(bytes: &[u8]) -> Result<WasmLayer, ModuleRefusal> {
    let layer = layer(bytes)?;
    match layer {
        WasmLayer::Module => check_module(bytes)?,
        WasmLayer::Component => component::check(bytes)?,
    }
    Ok(layer)
}

fn check_module(bytes: &[u8]) -> Result<(), ModuleRefusal> {
    let module = Module::read(bytes).map_err(|error| invalid(&error))?;
    if let Some(imports) = module.unknown.lines() {
        return Err(ModuleRefusal::Imports { imports });
    }
    if !module.start {
        return Err(ModuleRefusal::NoStart {
            reactor: module.reactor,
        });
    }
    // Wasmtime's defaults without threads, like the recipe.
    let features = WasmFeatures::WASM3 - WasmFeatures::THREADS;
    Validator::new_with_features(features)
        .validate_all(bytes)
        .map(drop)
        .map_err(|error| invalid(&error))
}

fn invalid(error: &wasmparser::BinaryReaderError) -> ModuleRefusal {
    ModuleRefusal::Invalid {
        reason: clipped(&error.to_string()),
    }
}

/// Checks the first bytes of the file.
fn layer(bytes: &[u8]) -> Result<WasmLayer, ModuleRefusal> {
    if bytes.starts_with(b"\x7fELF") {
        return Err(ModuleRefusal::Precompiled);
    }
    if Parser::is_component(bytes) {
        return Ok(WasmLayer::Component);
    }
    if bytes.starts_with(b"\0asm") {
        return Ok(WasmLayer::Module);
    }
    let text = bytes.trim_ascii_start();
    if text.starts_with(b"(module") || text.starts_with(b"(component") || text.starts_with(b";;") {
        return Err(ModuleRefusal::Text);
    }
    Err(ModuleRefusal::NotWasm)
}

/// The parts of a module that decide whether it is a command.
#[derive(Default)]
struct Module {
    types: Vec<Option<FuncType>>,
    /// Types of the imported functions, then of the functions that the module defines.
    functions: Vec<u32>,
    unknown: Named,
    start: bool,
    reactor: bool,
}

impl Module {
    fn read(bytes: &[u8]) -> wasmparser::Result<Self> {
        let mut module = Self::default();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::Version {
                    encoding: Encoding::Component,
                    ..
                } => break,
                Payload::TypeSection(section) => {
                    for group in section {
                        for kind in group?.into_types() {
                            module.types.push(match kind.composite_type.inner {
                                wasmparser::CompositeInnerType::Func(function) => Some(function),
                                _ => None,
                            });
                        }
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        module.import(&import?);
                    }
                }
                Payload::FunctionSection(section) => {
                    for index in section {
                        module.functions.push(index?);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        let function = (export.kind == ExternalKind::Func)
                            .then(|| module.function(export.index))
                            .flatten();
                        match (export.name, function) {
                            ("_start", Some(function)) => {
                                module.start =
                                    function.params().is_empty() && function.results().is_empty();
                            }
                            ("_initialize", Some(_)) => module.reactor = true,
                            _ => {}
                        }
                    }
                    // The sections after the exports do not matter here; the validator checks the code.
                    break;
                }
                _ => {}
            }
        }
        Ok(module)
    }

    fn function(&self, index: u32) -> Option<&FuncType> {
        self.signature(*self.functions.get(index as usize)?)
    }

    fn signature(&self, index: u32) -> Option<&FuncType> {
        self.types.get(index as usize)?.as_ref()
    }

    fn import(&mut self, import: &Import<'_>) {
        let what = match import.ty {
            TypeRef::Func(index) | TypeRef::FuncExact(index) => {
                self.functions.push(index);
                let Some(offered) = imports::find(import.module, import.name) else {
                    return self.refuse(import, "function");
                };
                if self
                    .signature(index)
                    .is_some_and(|wanted| same(wanted, offered))
                {
                    return;
                }
                "function of another type"
            }
            TypeRef::Memory(_) => "memory",
            TypeRef::Table(_) => "table",
            TypeRef::Global(_) => "global",
            TypeRef::Tag(_) => "exception tag",
        };
        self.refuse(import, what);
    }

    fn refuse(&mut self, import: &Import<'_>, what: &str) {
        let name = clipped(&format!("{}.{}", import.module, import.name));
        let line = format!("{name} ({what})");
        self.unknown.add(line);
    }
}

/// Whether an import is what a host function is.
fn same(wanted: &FuncType, offered: &HostFunction) -> bool {
    let is = |types: &[ValType], core: &[CoreType]| {
        types.len() == core.len()
            && types.iter().zip(core).all(|(kind, core)| match core {
                CoreType::I32 => *kind == ValType::I32,
                CoreType::I64 => *kind == ValType::I64,
            })
    };
    is(wanted.params(), offered.parameters) && is(wanted.results(), offered.results)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(wat: &str) -> Result<WasmLayer, ModuleRefusal> {
        check(&wat::parse_str(wat).unwrap())
    }

    #[test]
    fn every_function_of_every_namespace_may_be_imported() {
        let mut imported = String::new();
        for namespace in imports::NAMESPACES {
            for function in namespace.functions {
                let types = |types: &[CoreType]| -> String {
                    let text = |kind: &CoreType| match kind {
                        CoreType::I32 => " i32",
                        CoreType::I64 => " i64",
                    };
                    types.iter().map(text).collect()
                };
                let (parameters, results) = (types(function.parameters), types(function.results));
                imported += &format!(
                    r#"(import "{}" "{}" (func (param{parameters}) (result{results})))"#,
                    namespace.module, function.name
                );
            }
        }
        let wat = format!(r#"(module {imported} (func (export "_start")))"#);
        assert_eq!(checked(&wat), Ok(WasmLayer::Module));
    }

    #[test]
    fn a_command_passes() {
        let wat = r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
            (import "wasi_snapshot_preview1" "fd_seek" (func (param i32 i64 i32 i32) (result i32)))
            (memory (export "memory") 1) (func (export "_start")))"#;
        assert_eq!(checked(wat), Ok(WasmLayer::Module));
    }

    /// The SDK copies memory by vectors.
    #[test]
    fn a_module_with_vectors_passes() {
        let module = r#"(module (memory (export "memory") 1) (func (export "_start")
            (v128.store (i32.const 16) (v128.load (i32.const 0)))))"#;
        assert_eq!(checked(module), Ok(WasmLayer::Module));
    }

    #[test]
    fn every_unknown_import_is_named() {
        let wat = r#"(module
            (import "env" "call" (func)) (import "env" "call" (func)) (import "env" "memory" (memory 1))
            (import "wasi_snapshot_preview1" "sock_open" (func (param i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_close" (func (param i64) (result i32)))
            (func (export "_start")))"#;
        let imports = [
            "env.call (function)",
            "env.memory (memory)",
            "wasi_snapshot_preview1.sock_open (function)",
            "wasi_snapshot_preview1.fd_close (function of another type)",
        ];
        let imports = imports.map(str::to_owned).to_vec();
        assert_eq!(checked(wat), Err(ModuleRefusal::Imports { imports }));
    }

    #[test]
    fn texts_of_a_module_are_bounded() {
        let long = "n".repeat(50_000);
        let imports: String = (0..1000)
            .map(|n| format!(r#"(import "env" "{n}\0a{long}" (func))"#))
            .collect();
        let Err(ModuleRefusal::Imports { imports }) = checked(&format!("(module {imports})"))
        else {
            panic!("these imports were accepted");
        };
        assert_eq!(imports.len(), text::MAX_NAMED + 1);
        assert_eq!(imports[text::MAX_NAMED], "and 900 more");
        assert!(imports[0].starts_with("env.0\\nnnn"), "{}", imports[0]);
        assert!(imports.iter().all(|line| line.len() < 120));
    }

    #[test]
    fn a_module_without_start_is_refused_with_its_kind() {
        let library = checked(r#"(module (func (export "run")))"#);
        assert_eq!(library, Err(ModuleRefusal::NoStart { reactor: false }));
        let reactor = checked(r#"(module (func (export "_initialize")))"#);
        assert_eq!(reactor, Err(ModuleRefusal::NoStart { reactor: true }));
        let typed = checked(r#"(module (func (export "_start") (param i32)))"#);
        assert_eq!(typed, Err(ModuleRefusal::NoStart { reactor: false }));
    }

    #[test]
    fn other_file_formats_are_refused_with_their_name() {
        assert_eq!(
            check(b"\x7fELF\x02\x01\x01"),
            Err(ModuleRefusal::Precompiled)
        );
        assert_eq!(check(b"\n (module)"), Err(ModuleRefusal::Text));
        assert_eq!(check(b"#!/bin/sh\n"), Err(ModuleRefusal::NotWasm));
        assert_eq!(check(b""), Err(ModuleRefusal::NotWasm));
    }

    #[test]
    fn a_truncated_module_is_refused_at_every_length() {
        let whole = wat::parse_str(
            r#"(module (func (export "_start") (drop (i32.add (i32.const 1) (i32.const 2)))))"#,
        )
        .unwrap();
        assert_eq!(check(&whole), Ok(WasmLayer::Module));
        for end in 4..whole.len() {
            let refused = check(&whole[..end]);
            // A module that is cut between sections may still parse. Then it lacks its entry or its code.
            assert!(refused.is_err(), "cut at {end}");
        }
        let wrong =
            r#"(module (func (export "_start") (drop (i32.add (i32.const 1) (i64.const 2)))))"#;
        assert!(matches!(checked(wrong), Err(ModuleRefusal::Invalid { .. })));
    }

    #[test]
    fn module_with_shared_memory_is_refused() {
        let wat = r#"(module (memory 1 1 shared) (func (export "_start")))"#;
        assert!(matches!(checked(wat), Err(ModuleRefusal::Invalid { .. })));
    }
}
