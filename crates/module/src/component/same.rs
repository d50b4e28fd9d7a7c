//! Whether a function that a component imports is the one that is offered, as Wasmtime's linker decides it: the types must be
//! the same down to the names of fields and cases. The names of parameters do not matter, and neither whether a
//! resource is passed as `own` or as `borrow`.
//!
//! A component's types may be a graph of any size. What is offered is a small tree, and the comparison goes no deeper.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use wasmparser::{
    component_types::{
        AliasableResourceId, ComponentDefinedType, ComponentFuncType, ComponentValType, ResourceId,
    },
    types::TypesRef,
};

/// What the resources of a component are.
#[derive(Default)]
pub(super) struct Resources(HashMap<ResourceId, Known>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// This one of those that are offered.
    Offered(ResourceId),
    /// None. That is reported where it is imported, so functions that use it are not reported too.
    Refused,
}

impl Resources {
    /// Remembers what the first import of a resource is. Whether this import is the same.
    pub(super) fn import(&mut self, wanted: ResourceId, offered: ResourceId) -> bool {
        *self.0.entry(wanted).or_insert(Known::Offered(offered)) == Known::Offered(offered)
    }

    /// Remembers a resource that is not offered. Whether an earlier import has brought it already.
    pub(super) fn refuse(&mut self, wanted: ResourceId) -> bool {
        let known = self.0.contains_key(&wanted);
        self.0.entry(wanted).or_insert(Known::Refused);
        known
    }
}

/// The two sides.
#[derive(Clone, Copy)]
pub(super) struct Comparison<'a> {
    pub(super) wanted: TypesRef<'a>,
    pub(super) offered: TypesRef<'a>,
    pub(super) resources: &'a Resources,
}

impl Comparison<'_> {
    pub(super) fn is_same_function(
        self,
        wanted: &ComponentFuncType,
        offered: &ComponentFuncType,
    ) -> bool {
        wanted.async_ == offered.async_
            && all(
                &wanted.params,
                &offered.params,
                |(_, wanted), (_, offered)| self.value(wanted, offered),
            )
            && self.optional(wanted.result.as_ref(), offered.result.as_ref())
    }

    fn value(self, wanted: &ComponentValType, offered: &ComponentValType) -> bool {
        use ComponentDefinedType as Defined;
        let wanted = match wanted {
            ComponentValType::Primitive(primitive) => &Defined::Primitive(*primitive),
            ComponentValType::Type(id) => &self.wanted[*id],
        };
        let offered = match offered {
            ComponentValType::Primitive(primitive) => &Defined::Primitive(*primitive),
            ComponentValType::Type(id) => &self.offered[*id],
        };
        match (wanted, offered) {
            (Defined::Primitive(wanted), Defined::Primitive(offered)) => wanted == offered,
            (Defined::Record(wanted), Defined::Record(offered)) => all(
                &wanted.fields,
                &offered.fields,
                |(name, wanted), (offered_name, offered)| {
                    name == offered_name && self.value(wanted, offered)
                },
            ),
            (Defined::Variant(wanted), Defined::Variant(offered)) => all(
                &wanted.cases,
                &offered.cases,
                |(name, wanted), (offered_name, offered)| {
                    name == offered_name && self.optional(wanted.ty.as_ref(), offered.ty.as_ref())
                },
            ),
            (
                Defined::List {
                    element: wanted, ..
                },
                Defined::List {
                    element: offered, ..
                },
            )
            | (Defined::Option { ty: wanted, .. }, Defined::Option { ty: offered, .. }) => {
                self.value(wanted, offered)
            }
            (Defined::Tuple(wanted), Defined::Tuple(offered)) => {
                all(&wanted.types, &offered.types, |wanted, offered| {
                    self.value(wanted, offered)
                })
            }
            // The order counts.
            (Defined::Flags(wanted), Defined::Flags(offered))
            | (Defined::Enum(wanted), Defined::Enum(offered)) => {
                all(wanted, offered, |wanted, offered| wanted == offered)
            }
            (
                Defined::Result {
                    ok: wanted,
                    err: wanted_error,
                    ..
                },
                Defined::Result {
                    ok: offered,
                    err: offered_error,
                    ..
                },
            ) => {
                self.optional(wanted.as_ref(), offered.as_ref())
                    && self.optional(wanted_error.as_ref(), offered_error.as_ref())
            }
            (
                Defined::Own(wanted) | Defined::Borrow(wanted),
                Defined::Own(offered) | Defined::Borrow(offered),
            ) => self.resource(*wanted, *offered),
            _ => false,
        }
    }

    fn optional(
        self,
        wanted: Option<&ComponentValType>,
        offered: Option<&ComponentValType>,
    ) -> bool {
        match (wanted, offered) {
            (None, None) => true,
            (Some(wanted), Some(offered)) => self.value(wanted, offered),
            _ => false,
        }
    }

    fn resource(self, wanted: AliasableResourceId, offered: AliasableResourceId) -> bool {
        match self.resources.0.get(&wanted.resource()) {
            Some(Known::Offered(known)) => *known == offered.resource(),
            Some(Known::Refused) => true,
            None => false,
        }
    }
}

/// Whether both are equally long, and each is the same as its counterpart.
fn all<T>(
    wanted: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
    offered: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
    is_same: impl Fn(T, T) -> bool,
) -> bool {
    let (wanted, offered) = (wanted.into_iter(), offered.into_iter());
    wanted.len() == offered.len()
        && wanted
            .zip(offered)
            .all(|(wanted, offered)| is_same(wanted, offered))
}
