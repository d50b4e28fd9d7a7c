//! The capabilities that a Wasm guest can have. A spec that names others does not get them.

use std::collections::BTreeSet;

use oci_spec::runtime::{Capability, LinuxCapabilities};

use crate::plan::{Withheld, Withholding};

/// What a guest has a function for: owners and rights of files, and ports below 1024. All others are for
/// system calls that no guest can make.
pub const GUEST_CAPABILITIES: [Capability; 5] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::NetBindService,
];

/// Leaves each set of `capabilities` those that a guest can have.
pub fn cut_capabilities(capabilities: &mut LinuxCapabilities) {
    let cut = |set: &Option<std::collections::HashSet<Capability>>| {
        set.as_ref().map(|set| {
            let kept = set.iter().copied();
            kept.filter(|one| GUEST_CAPABILITIES.contains(one))
                .collect()
        })
    };
    let bounding = cut(capabilities.bounding());
    let effective = cut(capabilities.effective());
    let permitted = cut(capabilities.permitted());
    let inheritable = cut(capabilities.inheritable());
    let ambient = cut(capabilities.ambient());
    capabilities
        .set_bounding(bounding)
        .set_effective(effective)
        .set_permitted(permitted)
        .set_inheritable(inheritable)
        .set_ambient(ambient);
}

/// What the plan says of those that are cut.
pub(crate) fn withheld(capabilities: &LinuxCapabilities) -> Option<Withheld> {
    let sets = [
        capabilities.bounding(),
        capabilities.effective(),
        capabilities.permitted(),
        capabilities.inheritable(),
        capabilities.ambient(),
    ];
    let names: BTreeSet<String> = sets
        .into_iter()
        .flatten()
        .flatten()
        .filter(|one| !GUEST_CAPABILITIES.contains(one))
        .map(|one| format!("CAP_{one}"))
        .collect();
    if names.is_empty() {
        return None;
    }
    let names: Vec<_> = names.into_iter().collect();
    Some(Withheld {
        path: "process.capabilities".to_owned(),
        reason: format!(
            "{}: a Wasm guest has no function that needs them",
            names.join(", ")
        ),
        by: Withholding::Capabilities,
    })
}
