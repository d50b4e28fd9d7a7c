//! Whether a component is a WASI 0.2 command that can run here.
//!
//! It is validated first, as a whole: what it imports is then known with its types. Of each imported interface, the
//! name, the version and the names of the functions are compared with the list of those that are offered. The
//! types of the functions are compared by the runner, at create too.
#![forbid(unsafe_code)]

use wasmparser::{
    ComponentExternalKind, Parser, Payload, Validator, WasmFeatures,
    component_types::ComponentEntityType, types::Types,
};

use wasm_interp_artifact::ModuleRefusal;
use wasm_interp_wasi::interfaces::{self, InterfaceName, WitVersion};

use crate::text::{Named, clipped};

/// What a command exports.
const RUN: &str = "wasi:cli/run";
/// The deepest nesting of components. Tools nest a few; the validator's time grows with the square of it.
const NESTING: usize = 100;

pub(crate) fn check(bytes: &[u8]) -> Result<(), ModuleRefusal> {
    if is_nested_too_deep(bytes) {
        return Err(ModuleRefusal::InvalidComponent {
            reason: format!("components in it are nested more than {NESTING} deep"),
        });
    }
    // Wasmtime's defaults without threads, like the recipe.
    let features = (WasmFeatures::WASM3 - WasmFeatures::THREADS) | WasmFeatures::COMPONENT_MODEL;
    let types = Validator::new_with_features(features)
        .validate_all(bytes)
        .map_err(|error| invalid(&error))?;
    let outside = Outside::read(bytes).map_err(|error| invalid(&error))?;
    let mut wrong = Named::default();
    for import in outside.imports {
        check_import(import, &types, &mut wrong);
    }
    if let Some(imports) = wrong.lines() {
        return Err(ModuleRefusal::Interfaces {
            imports,
            newest: interfaces::NEWEST.to_string(),
        });
    }
    if outside.exports.iter().any(|name| is_run(name)) {
        return Ok(());
    }
    let mut named = Named::default();
    for name in outside.exports {
        named.add(clipped(name));
    }
    Err(ModuleRefusal::NoRun {
        exports: named.lines().unwrap_or_default(),
    })
}

fn invalid(error: &wasmparser::BinaryReaderError) -> ModuleRefusal {
    ModuleRefusal::InvalidComponent {
        reason: clipped(&error.to_string()),
    }
}

/// What is not valid is for the validator to say.
fn is_nested_too_deep(bytes: &[u8]) -> bool {
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(_) => {}
            Err(_) => return false,
        }
        if depth > NESTING {
            return true;
        }
    }
    false
}

/// The names of what a component imports, and of the instances that it exports.
#[derive(Default)]
struct Outside<'a> {
    imports: Vec<&'a str>,
    exports: Vec<&'a str>,
}

impl<'a> Outside<'a> {
    fn read(bytes: &'a [u8]) -> wasmparser::Result<Self> {
        let mut outside = Self::default();
        // What is nested in it has imports and exports of its own.
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        outside.imports.push(import?.name.name);
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let export = export?;
                        if export.kind != ComponentExternalKind::Type {
                            outside.exports.push(export.name.name);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(outside)
    }
}

/// Whether an export is the entry of a command. Its type is the same in each version.
fn is_run(name: &str) -> bool {
    InterfaceName::parse(name).is_some_and(|name| {
        name.interface == RUN && name.version.is_some_and(WitVersion::is_compatible)
    })
}

fn check_import(name: &str, types: &Types, wrong: &mut Named) {
    let types = types.as_ref();
    let entity = types.component_item_for_import(name).map(|item| item.ty);
    let Some(ComponentEntityType::Instance(instance)) = entity else {
        wrong.add(format!("{} (no interface)", clipped(name)));
        return;
    };
    let parsed = InterfaceName::parse(name);
    let offered = parsed.and_then(|name| Some((interfaces::find(name.interface)?, name.version)));
    let Some((offered, version)) = offered else {
        wrong.add(format!("{} (interface)", clipped(name)));
        return;
    };
    match version {
        Some(version) if !version.is_compatible() => {
            wrong.add(format!("{} (another WASI)", clipped(name)));
            return;
        }
        Some(version) if version > interfaces::NEWEST => {
            wrong.add(format!("{} (a newer version)", clipped(name)));
            return;
        }
        Some(_) => {}
        None => {
            wrong.add(format!("{} (no version)", clipped(name)));
            return;
        }
    }
    for (function, item) in &types[instance].exports {
        let is_function = matches!(item.ty, ComponentEntityType::Func(_));
        if is_function && !offered.functions.contains(&function.as_str()) {
            let what = clipped(&format!("{name}.{function}"));
            wrong.add(format!("{what} (function)"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{WasmLayer, check};

    /// Without names of its own, which would be a section that may be cut off.
    const RUN: &str = r#"
        (core module (func (export "run") (result i32) (i32.const 0)))
        (core instance (instantiate 0))
        (func (result (result)) (canon lift (core func 0 "run")))
        (instance (export "wasi:cli/run@0.2.0") (export "run" (func 0)))"#;

    fn checked(wat: &str) -> Result<WasmLayer, ModuleRefusal> {
        check(&wat::parse_str(format!("(component {wat})")).unwrap())
    }

    fn refused(imports: &str) -> Vec<String> {
        match checked(&format!("{imports} {RUN}")) {
            Err(ModuleRefusal::Interfaces { imports, newest }) => {
                assert_eq!(newest, "0.2.12");
                imports
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_version_of_wasi_0_2_passes() {
        for patch in 0..=12 {
            let imports = format!(
                r#"(import "wasi:cli/environment@0.2.{patch}" (instance
                    (export "get-arguments" (func (result (list string))))))"#
            );
            assert_eq!(
                checked(&format!("{imports} {RUN}")),
                Ok(WasmLayer::Component),
                "{patch}"
            );
        }
        let run = RUN.replace("@0.2.0", "@0.2.9");
        assert_eq!(checked(&run), Ok(WasmLayer::Component));
    }

    #[test]
    fn every_import_that_is_not_offered_is_named_with_its_version() {
        let imports = r#"
            (import "wasi:http/types@0.2.4" (instance (export "fields" (type (sub resource)))))
            (import "wasi:cli/environment@0.2.13" (instance))
            (import "wasi:clocks/monotonic-clock@0.3.0" (instance))
            (import "wasi:clocks/timezone@0.2.12" (instance))
            (import "wasi:random/random" (instance))
            (import "wasi:random/insecure@0.2.0" (instance (export "lucky" (func))))
            (import "print" (func))"#;
        let expected = [
            "wasi:http/types@0.2.4 (interface)",
            "wasi:cli/environment@0.2.13 (a newer version)",
            "wasi:clocks/monotonic-clock@0.3.0 (another WASI)",
            "wasi:clocks/timezone@0.2.12 (interface)",
            "wasi:random/random (no version)",
            "wasi:random/insecure@0.2.0.lucky (function)",
            "print (no interface)",
        ];
        assert_eq!(refused(imports), expected);
    }

    #[test]
    fn hundreds_of_imports_are_counted() {
        let imports: String = (0..130)
            .map(|n| format!(r#"(import "a:b/c{n}@0.1.0" (instance))"#))
            .collect();
        let refused = refused(&imports);
        assert_eq!(refused.len(), crate::text::MAX_NAMED + 1);
        assert_eq!(refused.last().map(String::as_str), Some("and 30 more"));
    }

    #[test]
    fn a_component_that_is_no_command_is_refused_with_its_exports() {
        let proxy = RUN.replace("wasi:cli/run@0.2.0", "wasi:http/incoming-handler@0.2.0");
        let exports = vec!["wasi:http/incoming-handler@0.2.0".to_owned()];
        assert_eq!(checked(&proxy), Err(ModuleRefusal::NoRun { exports }));
        let newer = RUN.replace("@0.2.0", "@0.3.0");
        let exports = vec!["wasi:cli/run@0.3.0".to_owned()];
        assert_eq!(checked(&newer), Err(ModuleRefusal::NoRun { exports }));
        let exports = Vec::new();
        assert_eq!(checked(""), Err(ModuleRefusal::NoRun { exports }));
    }

    #[test]
    fn nested_imports_are_the_components_own_affair() {
        let nested = r#"(component (import "a:b/c@1.0.0" (instance)))
            (core module (import "env" "f" (func)))"#;
        assert_eq!(
            checked(&format!("{RUN} {nested}")),
            Ok(WasmLayer::Component)
        );
    }

    /// Adds a section that holds a component. The text format cannot nest as deep as the binary one.
    fn append_component(outer: &mut Vec<u8>, inner: &[u8]) {
        const SECTION: u8 = 4;
        let length = u32::try_from(inner.len()).unwrap();
        outer.push(SECTION);
        for place in 0..4 {
            outer.push((length >> (7 * place)) as u8 | 0x80);
        }
        outer.push((length >> 28) as u8);
        outer.extend(inner);
    }

    #[test]
    fn components_are_nested_a_hundred_deep_at_most() {
        let nested = |depth| {
            let mut inner = wat::parse_str("(component)").unwrap();
            for _ in 0..depth {
                let mut outer = wat::parse_str("(component)").unwrap();
                append_component(&mut outer, &inner);
                inner = outer;
            }
            let mut command = wat::parse_str(format!("(component {RUN})")).unwrap();
            append_component(&mut command, &inner);
            check(&command)
        };
        assert_eq!(nested(NESTING - 1), Ok(WasmLayer::Component));
        match nested(NESTING) {
            Err(ModuleRefusal::InvalidComponent { reason }) => {
                assert!(reason.contains("nested more than 100 deep"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_truncated_component_is_refused_at_every_length() {
        let whole = wat::parse_str(format!("(component {RUN})")).unwrap();
        assert_eq!(check(&whole), Ok(WasmLayer::Component));
        for end in 4..whole.len() {
            assert!(check(&whole[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn asynchronous_functions_and_shared_memory_are_refused() {
        for wat in [
            r#"(type (func async (result u32)))"#,
            r#"(core module (memory 1 1 shared))"#,
        ] {
            assert!(
                matches!(checked(wat), Err(ModuleRefusal::InvalidComponent { .. })),
                "{wat}"
            );
        }
    }
}
