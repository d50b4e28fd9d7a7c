//! Whether a component is a WASI 0.2 command that can run here.
//!
//! It is validated first, as a whole: what it imports and exports is then known with its types. All of it is compared with
//! what is offered, as Wasmtime's linker does at create: what passes here is linked there.
#![forbid(unsafe_code)]

mod offered;
mod same;
#[cfg(test)]
mod tests;

use wasmparser::{
    ComponentExternalKind, Parser, Payload, Validator, WasmFeatures,
    component_types::{
        ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentFuncTypeId,
        ComponentInstanceTypeId, ComponentValType, ResourceId,
    },
    types::TypesRef,
};

use wasm_interp_artifact::ModuleRefusal;
use wasm_interp_wasi::interfaces::{self, Interface, InterfaceName};

use self::{
    offered::{OFFERED, OfferedInterface, resource_of},
    same::{Comparison, Resources},
};
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
    let types = types.as_ref();
    let outside = Outside::read(bytes).map_err(|error| invalid(&error))?;
    let mut imports = Imports {
        types,
        resources: Resources::default(),
        wrong: Named::default(),
    };
    for import in outside.imports {
        imports.check(import);
    }
    if let Some(imports) = imports.wrong.lines() {
        return Err(ModuleRefusal::Interfaces {
            imports,
            newest: interfaces::NEWEST.to_string(),
        });
    }
    match find_run(&outside.exports) {
        Some(run) if is_entry(run, types) => Ok(()),
        Some(run) => Err(ModuleRefusal::WrongRun {
            export: clipped(run),
        }),
        None => {
            let mut named = Named::default();
            for (name, kind) in outside.exports {
                if kind != ComponentExternalKind::Type {
                    named.add(clipped(name));
                }
            }
            Err(ModuleRefusal::NoRun {
                exports: named.lines().unwrap_or_default(),
            })
        }
    }
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

/// The names of what a component imports and exports.
#[derive(Default)]
struct Outside<'a> {
    imports: Vec<&'a str>,
    exports: Vec<(&'a str, ComponentExternalKind)>,
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
                        outside.exports.push((export.name.name, export.kind));
                    }
                }
                _ => {}
            }
        }
        Ok(outside)
    }
}

/// The export that Wasmtime takes for the entry of a command: the version of the host functions, or else the newest.
fn find_run<'a>(exports: &[(&'a str, ComponentExternalKind)]) -> Option<&'a str> {
    let runs = exports.iter().filter_map(|&(name, _)| {
        let parsed = InterfaceName::parse(name).filter(|parsed| parsed.interface == RUN)?;
        let version = parsed.version.filter(|version| version.is_compatible())?;
        Some((version == interfaces::NEWEST, version, name))
    });
    runs.max_by_key(|&(exact, version, _)| (exact, version))
        .map(|(_, _, name)| name)
}

/// Whether it is an interface with `run: func() -> result`. That is its type in each version.
fn is_entry(export: &str, types: TypesRef<'_>) -> bool {
    let Some(ComponentEntityType::Instance(instance)) =
        types.component_item_for_export(export).map(|item| item.ty)
    else {
        return false;
    };
    let run = types[instance].exports.get("run");
    let Some(ComponentEntityType::Func(run)) = run.map(|item| item.ty) else {
        return false;
    };
    let Some(ComponentValType::Type(result)) = types[run].result else {
        return false;
    };
    let is_result = matches!(
        types[result],
        ComponentDefinedType::Result {
            ok: None,
            err: None,
            ..
        }
    );
    is_result && types[run].params.is_empty()
}

/// The check of the imports, in their order.
struct Imports<'a> {
    types: TypesRef<'a>,
    resources: Resources,
    wrong: Named,
}

impl Imports<'_> {
    fn check(&mut self, name: &str) {
        let entity = self.types.component_item_for_import(name).map(|i| i.ty);
        match entity {
            Some(ComponentEntityType::Instance(instance)) => match offered(name) {
                Ok((interface, offered)) => self.check_exports(name, instance, interface, offered),
                Err(what) if self.asks_for_a_host(instance) => {
                    self.refuse(name, what);
                    self.refuse_resources(instance);
                }
                Err(_) => {}
            },
            // A name for a type that is known already: nothing is asked of a host.
            Some(ComponentEntityType::Type {
                created: ComponentAnyTypeId::Defined(_),
                ..
            }) => {}
            Some(entity) if resource_of(entity).is_some_and(|id| self.resources.refuse(id)) => {}
            _ => self.refuse(name, "no interface"),
        }
    }

    fn refuse(&mut self, name: &str, what: &str) {
        self.wrong.add(format!("{} ({what})", clipped(name)));
    }

    /// Whether it wants more than names for types: tools import the types that an exported interface shares.
    fn asks_for_a_host(&self, instance: ComponentInstanceTypeId) -> bool {
        let is_type = |entity| {
            matches!(
                entity,
                ComponentEntityType::Type {
                    created: ComponentAnyTypeId::Defined(_),
                    ..
                }
            )
        };
        let exports = &self.types[instance].exports;
        exports.values().any(|item| !is_type(item.ty))
    }

    fn refuse_resources(&mut self, instance: ComponentInstanceTypeId) {
        for item in self.types[instance].exports.values() {
            if let Some(resource) = resource_of(item.ty) {
                self.resources.refuse(resource);
            }
        }
    }

    /// Compares what an instance has to have with what is offered.
    fn check_exports(
        &mut self,
        name: &str,
        instance: ComponentInstanceTypeId,
        interface: &Interface,
        offered: &OfferedInterface,
    ) {
        let types = self.types;
        for (export, item) in &types[instance].exports {
            let wrong = match item.ty {
                ComponentEntityType::Func(function) => {
                    self.check_function(export, function, interface, offered)
                }
                ComponentEntityType::Type {
                    created: ComponentAnyTypeId::Resource(resource),
                    ..
                } => self.check_resource(export, resource.resource(), offered),
                ComponentEntityType::Type {
                    created: ComponentAnyTypeId::Defined(_),
                    ..
                } => None,
                _ => Some("neither function nor resource"),
            };
            if let Some(what) = wrong {
                self.refuse(&format!("{name}.{export}"), what);
            }
        }
    }

    fn check_function(
        &self,
        name: &str,
        wanted: ComponentFuncTypeId,
        interface: &Interface,
        offered: &OfferedInterface,
    ) -> Option<&'static str> {
        if !interface.functions.contains(&name) {
            return Some("function");
        }
        let comparison = Comparison {
            wanted: self.types,
            offered: OFFERED.types(),
            resources: &self.resources,
        };
        let same = OFFERED.function(offered, name).is_some_and(|offered| {
            comparison.is_same_function(&self.types[wanted], &OFFERED.types()[offered])
        });
        (!same).then_some("function of another type")
    }

    fn check_resource(
        &mut self,
        name: &str,
        wanted: ResourceId,
        offered: &OfferedInterface,
    ) -> Option<&'static str> {
        match offered.resource(name) {
            Some(offered) => {
                let same = self.resources.import(wanted, offered);
                (!same).then_some("another resource")
            }
            None => {
                let known = self.resources.refuse(wanted);
                (!known).then_some("resource")
            }
        }
    }
}

/// The interface of this name, or what is wrong with it.
fn offered(name: &str) -> Result<(&'static Interface, &'static OfferedInterface), &'static str> {
    let parsed = InterfaceName::parse(name).ok_or("interface")?;
    let interface = interfaces::find(parsed.interface).ok_or("interface")?;
    let offered = OFFERED.interface(parsed.interface).ok_or("interface")?;
    match parsed.version {
        None => Err("no version"),
        Some(version) if !version.is_compatible() => Err("another WASI"),
        Some(version) if version > interfaces::NEWEST => Err("a newer version"),
        Some(_) => Ok((interface, offered)),
    }
}
