//! Whether a file is a program that can run here, told before anything is compiled, with all that
//! is wrong about its imports at once.
#![forbid(unsafe_code)]

use wasmparser::{
    Encoding, ExternalKind, FuncType, Import, Parser, Payload, TypeRef, ValType, Validator,
    WasmFeatures,
};

use super::p1;
use crate::failure::Refusal;

/// How many unknown imports are named; the others are counted. What a refusal may take on its way
/// to whoever asked is bounded (`publish`).
const NAMED: usize = 100;
/// Characters of a module's own words in a message.
const LONGEST_WORDS: usize = 80;

/// Accepts a valid WASI preview 1 command.
///
/// # Errors
/// Why it is none; every import that no grant offers is named.
pub fn check(bytes: &[u8]) -> Result<(), Refusal> {
    kind(bytes)?;
    let module = Module::read(bytes).map_err(|error| invalid(&error))?;
    if !module.unknown.is_empty() {
        let mut imports = module.unknown;
        if module.unnamed > 0 {
            imports.push(format!("and {} more", module.unnamed));
        }
        return Err(Refusal::Imports { imports });
    }
    if !module.start {
        return Err(Refusal::NoStart {
            reactor: module.reactor,
        });
    }
    // What Wasmtime has on by default, but no threads: the recipe's choice.
    let features = WasmFeatures::WASM3 - WasmFeatures::THREADS;
    Validator::new_with_features(features)
        .validate_all(bytes)
        .map(drop)
        .map_err(|error| invalid(&error))
}

fn invalid(error: &wasmparser::BinaryReaderError) -> Refusal {
    Refusal::Invalid {
        reason: clipped(&error.to_string()),
    }
}

/// A module's own words, fit for a message: names in it may have any length and any characters.
fn clipped(words: &str) -> String {
    let mut characters = words.chars().flat_map(char::escape_debug);
    let mut clipped: String = characters.by_ref().take(LONGEST_WORDS).collect();
    if characters.next().is_some() {
        clipped.push('…');
    }
    clipped
}

/// What the first bytes say the file is.
fn kind(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.starts_with(b"\x7fELF") {
        return Err(Refusal::Precompiled);
    }
    if Parser::is_component(bytes) {
        return Err(Refusal::Component);
    }
    if bytes.starts_with(b"\0asm") {
        return Ok(());
    }
    let text = bytes.trim_ascii_start();
    if text.starts_with(b"(module") || text.starts_with(b"(component") || text.starts_with(b";;") {
        return Err(Refusal::Text);
    }
    Err(Refusal::NotWasm)
}

/// The little of a module that decides whether it is a command.
#[derive(Default)]
struct Module {
    types: Vec<Option<FuncType>>,
    /// Types of the imported functions, then of the module's own.
    functions: Vec<u32>,
    unknown: Vec<String>,
    /// Imports that are unknown too, but one too many to name.
    unnamed: usize,
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
                    // Nothing after the exports decides; the code is the validator's business.
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
                let Some(offered) = offered(import) else {
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
        if self.unknown.contains(&line) {
            return;
        }
        if self.unknown.len() < NAMED {
            self.unknown.push(line);
        } else {
            self.unnamed += 1;
        }
    }
}

type Offer = (&'static str, &'static str);

fn offered(import: &Import<'_>) -> Option<Offer> {
    if import.module != p1::MODULE {
        return None;
    }
    let index = p1::FUNCTIONS
        .binary_search_by_key(&import.name, |(name, ..)| name)
        .ok()?;
    p1::FUNCTIONS
        .get(index)
        .map(|(_, parameters, results)| (*parameters, *results))
}

fn same(wanted: &FuncType, (parameters, results): Offer) -> bool {
    let is = |types: &[ValType], letters: &str| {
        types.len() == letters.len()
            && types
                .iter()
                .zip(letters.bytes())
                .all(|(kind, letter)| match letter {
                    b'l' => *kind == ValType::I64,
                    _ => *kind == ValType::I32,
                })
    };
    is(wanted.params(), parameters) && is(wanted.results(), results)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn checked(wat: &str) -> Result<(), Refusal> {
        check(&wat::parse_str(wat).unwrap())
    }

    #[test]
    fn table_is_sorted_and_complete() {
        assert!(p1::FUNCTIONS.is_sorted_by_key(|(name, ..)| name));
        assert_eq!(p1::FUNCTIONS.len(), 46);
    }

    #[test]
    fn a_command_passes() {
        let wat = r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
            (import "wasi_snapshot_preview1" "fd_seek" (func (param i32 i64 i32 i32) (result i32)))
            (memory (export "memory") 1) (func (export "_start")))"#;
        assert_eq!(checked(wat), Ok(()));
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
        assert_eq!(checked(wat), Err(Refusal::Imports { imports }));
    }

    #[test]
    fn what_a_module_says_of_itself_stays_bounded() {
        let long = "n".repeat(50_000);
        let imports: String = (0..1000)
            .map(|n| format!(r#"(import "env" "{n}\0a{long}" (func))"#))
            .collect();
        let Err(Refusal::Imports { imports }) = checked(&format!("(module {imports})")) else {
            panic!("nothing offers these");
        };
        assert_eq!(imports.len(), NAMED + 1);
        assert_eq!(imports[NAMED], "and 900 more");
        assert!(imports[0].starts_with("env.0\\nnnn"), "{}", imports[0]);
        assert!(imports.iter().all(|line| line.len() < 120));
    }

    #[test]
    fn what_has_no_entry_is_told_apart() {
        let library = checked(r#"(module (func (export "run")))"#);
        assert_eq!(library, Err(Refusal::NoStart { reactor: false }));
        let reactor = checked(r#"(module (func (export "_initialize")))"#);
        assert_eq!(reactor, Err(Refusal::NoStart { reactor: true }));
        let typed = checked(r#"(module (func (export "_start") (param i32)))"#);
        assert_eq!(typed, Err(Refusal::NoStart { reactor: false }));
    }

    #[test]
    fn what_is_no_module_is_told_apart() {
        assert_eq!(check(b"\x7fELF\x02\x01\x01"), Err(Refusal::Precompiled));
        assert_eq!(check(b"\0asm\x0d\0\x01\0"), Err(Refusal::Component));
        assert_eq!(check(b"\n (module)"), Err(Refusal::Text));
        assert_eq!(check(b"#!/bin/sh\n"), Err(Refusal::NotWasm));
        assert_eq!(check(b""), Err(Refusal::NotWasm));
    }

    #[test]
    fn a_broken_module_is_invalid_wherever_it_breaks() {
        let whole = wat::parse_str(
            r#"(module (func (export "_start") (drop (i32.add (i32.const 1) (i32.const 2)))))"#,
        )
        .unwrap();
        assert_eq!(check(&whole), Ok(()));
        for end in 4..whole.len() {
            let refused = check(&whole[..end]);
            // Cut between sections a module may still parse; then it lacks its entry or its code.
            assert!(refused.is_err(), "cut at {end}");
        }
        let wrong =
            r#"(module (func (export "_start") (drop (i32.add (i32.const 1) (i64.const 2)))))"#;
        assert!(matches!(checked(wrong), Err(Refusal::Invalid { .. })));
    }

    #[test]
    fn threads_are_off() {
        let wat = r#"(module (memory 1 1 shared) (func (export "_start")))"#;
        assert!(matches!(checked(wat), Err(Refusal::Invalid { .. })));
    }
}
