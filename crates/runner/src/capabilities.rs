//! The capabilities of the container's init process.
//!
//! Granted by `privileges` outside, entered by `executor` inside. libcontainer gets none of them: it
//! refuses a container for an unavailable one, and never drops one that is newer than itself.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use oci_spec::runtime::{Capabilities, LinuxCapabilities};
use rustix::{
    io::{Errno, Result},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
        clear_ambient_capability_set, configure_capability_in_ambient_set,
        remove_capability_from_bounding_set, set_capabilities,
    },
};

/// Where a container's capabilities come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CapabilitySource {
    /// This process holds them.
    ThisProcess,
    /// A new user namespace has all that the kernel knows.
    UserNamespace,
}

/// The capabilities that can be granted (capabilities(7)).
#[derive(Clone, Copy, Debug)]
struct Available {
    /// All that this kernel has.
    kernel: CapabilitySet,
    permitted: CapabilitySet,
    bounding: CapabilitySet,
}

impl Available {
    fn from(source: CapabilitySource) -> Result<Self> {
        let mut kernel = CapabilitySet::empty();
        let mut bounding = CapabilitySet::empty();
        for capability in each(CapabilitySet::from_bits_retain(u64::MAX)) {
            match capability_is_in_bounding_set(capability) {
                Ok(bound) => {
                    kernel |= capability;
                    if bound {
                        bounding |= capability;
                    }
                }
                Err(Errno::INVAL) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(match source {
            CapabilitySource::ThisProcess => Self {
                kernel,
                permitted: capabilities(None)?.permitted,
                bounding,
            },
            CapabilitySource::UserNamespace => Self {
                kernel,
                permitted: kernel,
                bounding: kernel,
            },
        })
    }
}

/// The five sets of a process. The kernel accepts all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GrantedCapabilities {
    bounding: CapabilitySet,
    effective: CapabilitySet,
    permitted: CapabilitySet,
    inheritable: CapabilitySet,
    ambient: CapabilitySet,
}

impl GrantedCapabilities {
    /// The available ones of `wanted`, and a warning for each unavailable one. A spec that names no sets
    /// gets none, as under runc.
    pub(crate) fn new(
        wanted: Option<&LinuxCapabilities>,
        source: CapabilitySource,
    ) -> Result<(Self, BTreeSet<String>)> {
        Ok(grant(wanted, &Available::from(source)?))
    }

    /// Takes one out of all sets. Returns whether it was in one.
    pub(crate) fn give_up(&mut self, capability: CapabilitySet) -> bool {
        let before = *self;
        for set in [
            &mut self.bounding,
            &mut self.effective,
            &mut self.permitted,
            &mut self.inheritable,
            &mut self.ambient,
        ] {
            set.remove(capability);
        }
        *self != before
    }

    /// Drops all other capabilities of this process.
    pub(crate) fn enter(&self) -> Result<()> {
        for capability in each(CapabilitySet::from_bits_retain(u64::MAX)) {
            match capability_is_in_bounding_set(capability) {
                Ok(true) if !self.bounding.contains(capability) => {
                    remove_capability_from_bounding_set(capability)?;
                }
                Ok(_) => {}
                // The kernel knows no capability of this number.
                Err(Errno::INVAL) => break,
                Err(error) => return Err(error),
            }
        }
        let sets = CapabilitySets {
            effective: self.effective,
            permitted: self.permitted,
            inheritable: self.inheritable,
        };
        set_capabilities(None, sets)?;
        clear_ambient_capability_set()?;
        each(self.ambient).try_for_each(|one| configure_capability_in_ambient_set(one, true))
    }
}

fn grant(
    wanted: Option<&LinuxCapabilities>,
    available: &Available,
) -> (GrantedCapabilities, BTreeSet<String>) {
    let mut warnings = BTreeSet::new();
    let mut take =
        |set: &str, names: CapabilityNames<'_>, held: CapabilitySet, limit: Limit<'_>| {
            let mut taken = CapabilitySet::empty();
            for name in names.and_then(Option::as_ref).into_iter().flatten() {
                let name = name.to_string();
                let capability = CapabilitySet::from_name(&name).unwrap_or(CapabilitySet::empty());
                // A capability that is available in no set gets one warning, even if several sets name it.
                let (set, why) = if !each(available.kernel).any(|one| one == capability) {
                    ("", "this kernel does not have it")
                } else if !held.contains(capability) {
                    ("", "the process that makes the container does not hold it")
                } else if !limit.within.contains(capability) {
                    (set, limit.otherwise)
                } else {
                    taken |= capability;
                    continue;
                };
                warnings.insert(format!(
                "process.capabilities{set}: CAP_{name} cannot be given: {why}; the container runs \
                 without it"
            ));
            }
            taken
        };
    let limit = |within, otherwise| Limit { within, otherwise };
    let names = |set: fn(&LinuxCapabilities) -> &Option<Capabilities>| wanted.map(set);

    let everything = limit(available.kernel, "");
    let (permitted, bounding) = (available.permitted, available.bounding);
    let granted_bounding = take("", names(LinuxCapabilities::bounding), bounding, everything);
    let granted_permitted = take(
        "",
        names(LinuxCapabilities::permitted),
        permitted,
        everything,
    );
    let effective = take(
        ".effective",
        names(LinuxCapabilities::effective),
        permitted,
        limit(granted_permitted, "it is not permitted"),
    );
    let inheritable = take(
        ".inheritable",
        names(LinuxCapabilities::inheritable),
        bounding,
        limit(granted_bounding, "it is not in the bounding set"),
    );
    let ambient = take(
        ".ambient",
        names(LinuxCapabilities::ambient),
        permitted & bounding,
        limit(
            granted_permitted & inheritable,
            "it is not both permitted and inheritable",
        ),
    );
    let granted = GrantedCapabilities {
        bounding: granted_bounding,
        effective,
        permitted: granted_permitted,
        inheritable,
        ambient,
    };
    (granted, warnings)
}

/// The names in one set of a spec.
type CapabilityNames<'a> = Option<&'a Option<Capabilities>>;

/// The set that limits another, and the words for a capability outside of it.
#[derive(Clone, Copy)]
struct Limit<'a> {
    within: CapabilitySet,
    otherwise: &'a str,
}

/// The capabilities of a set one by one, also those without a name here.
fn each(set: CapabilitySet) -> impl Iterator<Item = CapabilitySet> {
    (0..u64::BITS)
        .map(|number| CapabilitySet::from_bits_retain(1 << number))
        .filter(move |one| set.contains(*one))
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Capability;
    use serde_json::json;

    use super::*;

    const SOME: CapabilitySet = CapabilitySet::CHOWN
        .union(CapabilitySet::KILL)
        .union(CapabilitySet::SYSLOG);

    fn granted(wanted: &serde_json::Value) -> (GrantedCapabilities, Vec<String>) {
        let wanted: LinuxCapabilities = serde_json::from_value(wanted.clone()).expect("sets");
        let available = Available {
            kernel: CapabilitySet::from_bits_retain((1 << 38) - 1),
            permitted: SOME,
            bounding: SOME,
        };
        let (granted, warnings) = grant(Some(&wanted), &available);
        (granted, warnings.into_iter().collect())
    }

    #[test]
    fn every_capability_of_the_parser_has_its_number() {
        for capability in [
            Capability::Chown,
            Capability::AuditRead,
            Capability::SysTtyConfig,
        ] {
            let name = capability.to_string();
            assert!(CapabilitySet::from_name(&name).is_some(), "{name}");
        }
        // By number, so that none is left out.
        for capability in each(CapabilitySet::all()).take(41) {
            let (name, _) = capability.iter_names().next().expect("a name");
            name.parse::<Capability>().expect("known to the parser");
        }
    }

    #[test]
    fn unavailable_capability_is_left_out_with_a_warning_that_says_why() {
        let all = ["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_PERFMON"];
        let (granted, warnings) = granted(&json!({
            "bounding": all, "effective": all, "permitted": all,
        }));
        assert_eq!(granted.bounding, CapabilitySet::CHOWN);
        assert_eq!(granted.effective, CapabilitySet::CHOWN);
        assert_eq!(granted.permitted, CapabilitySet::CHOWN);
        assert_eq!(
            warnings,
            [
                "process.capabilities: CAP_PERFMON cannot be given: this kernel does not have it; \
                 the container runs without it",
                "process.capabilities: CAP_SYS_ADMIN cannot be given: the process that makes the \
                 container does not hold it; the container runs without it",
            ]
        );
    }

    #[test]
    fn each_capability_set_is_limited_by_the_sets_that_limit_it_in_the_kernel() {
        let (granted, warnings) = granted(&json!({
            "bounding": ["CAP_CHOWN"], "permitted": ["CAP_KILL", "CAP_CHOWN"],
            "effective": ["CAP_SYSLOG"], "inheritable": ["CAP_CHOWN", "CAP_KILL"],
            "ambient": ["CAP_CHOWN", "CAP_KILL"],
        }));
        assert_eq!(granted.effective, CapabilitySet::empty());
        assert_eq!(granted.inheritable, CapabilitySet::CHOWN);
        assert_eq!(granted.ambient, CapabilitySet::CHOWN);
        let all = warnings.join("\n");
        assert_eq!(warnings.len(), 3, "{all}");
        for (set, name) in [
            ("effective", "CAP_SYSLOG"),
            ("inheritable", "CAP_KILL"),
            ("ambient", "CAP_KILL"),
        ] {
            assert!(
                all.contains(&format!("capabilities.{set}: {name} ")),
                "{all}"
            );
        }
    }

    #[test]
    fn spec_without_capability_sets_gets_no_capability() {
        let available = Available::from(CapabilitySource::UserNamespace).expect("read");
        assert!(available.kernel.contains(CapabilitySet::SYS_ADMIN));
        let (granted, warnings) = grant(None, &available);
        assert_eq!(granted.bounding, CapabilitySet::empty());
        assert_eq!(granted.permitted, CapabilitySet::empty());
        assert!(warnings.is_empty());
    }
}
