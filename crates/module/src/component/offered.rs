//! The interfaces that are offered to a component, with their types: what the build script has made of the WIT files.
#![forbid(unsafe_code)]

use std::{collections::HashMap, sync::LazyLock};

use wasmparser::{
    Validator, WasmFeatures,
    component_types::{
        ComponentAnyTypeId, ComponentEntityType, ComponentFuncTypeId, ComponentInstanceTypeId,
        ComponentTypeId, ResourceId,
    },
    types::{Types, TypesRef},
};

/// By name, without a version.
pub(super) static OFFERED: LazyLock<Offered> = LazyLock::new(Offered::read);

pub(super) struct Offered {
    types: Types,
    interfaces: HashMap<String, OfferedInterface>,
}

/// An interface.
pub(super) struct OfferedInterface {
    instance: ComponentInstanceTypeId,
    /// Those that are defined here. A resource of another interface has an export here too, which is only a name.
    resources: HashMap<String, ResourceId>,
}

impl Offered {
    fn read() -> Self {
        let binary = include_bytes!(concat!(env!("OUT_DIR"), "/offered.wasm"));
        let features = WasmFeatures::default() | WasmFeatures::COMPONENT_MODEL;
        let types = Validator::new_with_features(features)
            .validate_all(binary)
            .expect("the build script has written a valid component");
        let interfaces = interfaces(types.as_ref()).expect("the build script has written a world");
        Self { types, interfaces }
    }

    pub(super) fn types(&self) -> TypesRef<'_> {
        self.types.as_ref()
    }

    pub(super) fn interface(&self, name: &str) -> Option<&OfferedInterface> {
        self.interfaces.get(name)
    }

    pub(super) fn function(
        &self,
        interface: &OfferedInterface,
        name: &str,
    ) -> Option<ComponentFuncTypeId> {
        let types = self.types();
        match types[interface.instance].exports.get(name)?.ty {
            ComponentEntityType::Func(function) => Some(function),
            _ => None,
        }
    }
}

impl OfferedInterface {
    pub(super) fn resource(&self, name: &str) -> Option<ResourceId> {
        self.resources.get(name).copied()
    }
}

/// The imports of the world, which is a component type in a component type.
fn interfaces(types: TypesRef<'_>) -> Option<HashMap<String, OfferedInterface>> {
    let package = component(types.component_item_for_export("command")?.ty)?;
    let (_, world) = types[package].exports.iter().next()?;
    let world = component(world.ty)?;
    let mut interfaces = HashMap::new();
    // An interface comes before those that use its resources, so the first one that has a resource defines it.
    let mut defined = Vec::new();
    for (name, item) in &types[world].imports {
        let ComponentEntityType::Instance(instance) = item.ty else {
            return None;
        };
        let mut resources = HashMap::new();
        for (resource, item) in &types[instance].exports {
            if let Some(id) = resource_of(item.ty)
                && !defined.contains(&id)
            {
                defined.push(id);
                resources.insert(resource.clone(), id);
            }
        }
        let (name, _) = name.split_once('@')?;
        let interface = OfferedInterface {
            instance,
            resources,
        };
        interfaces.insert(name.to_owned(), interface);
    }
    Some(interfaces)
}

fn component(entity: ComponentEntityType) -> Option<ComponentTypeId> {
    match entity {
        ComponentEntityType::Component(id)
        | ComponentEntityType::Type {
            created: ComponentAnyTypeId::Component(id),
            ..
        } => Some(id),
        _ => None,
    }
}

/// The resource of an import or export that is one.
pub(super) fn resource_of(entity: ComponentEntityType) -> Option<ResourceId> {
    match entity {
        ComponentEntityType::Type {
            created: ComponentAnyTypeId::Resource(id),
            ..
        } => Some(id.resource()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use wasm_interp_wasi::interfaces::INTERFACES;

    use super::*;

    #[test]
    fn types_are_those_of_the_list_of_interfaces() {
        assert_eq!(OFFERED.interfaces.len(), INTERFACES.len());
        for interface in INTERFACES {
            let offered = OFFERED.interface(interface.name).expect(interface.name);
            let types = OFFERED.types();
            let exports = &types[offered.instance].exports;
            let is_function = |name: &&str| {
                let item = exports.get(*name);
                item.is_some_and(|item| matches!(item.ty, ComponentEntityType::Func(_)))
            };
            assert!(interface.functions.iter().all(is_function), "{interface:?}");
            let functions = exports.values();
            let functions = functions.filter(|f| matches!(f.ty, ComponentEntityType::Func(_)));
            assert_eq!(
                functions.count(),
                interface.functions.len(),
                "{interface:?}"
            );
        }
    }

    #[test]
    fn resource_is_defined_in_one_interface() {
        let has = |interface: &str, resource: &str| {
            let interface = OFFERED.interface(interface).expect(interface);
            interface.resource(resource).is_some()
        };
        assert!(has("wasi:io/error", "error"));
        assert!(has("wasi:io/streams", "input-stream"));
        assert!(!has("wasi:io/streams", "error"));
        assert!(!has("wasi:cli/stdin", "input-stream"));
        let resources = OFFERED.interfaces.values();
        assert_eq!(resources.map(|one| one.resources.len()).sum::<usize>(), 14);
    }
}
