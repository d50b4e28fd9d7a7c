//! Which devices a container's cgroup may use, wherever a node for another may lie.
//!
//! Called by `container::create` once the container is made. An image's layers may hold device nodes
//! and libcontainer adds rules of its own (the console, tunnels), so the last word is said here. On
//! version 2 libcontainer's rules need libbpf and libelf, C libraries that this program has no other
//! use for.

mod filter;

use std::{collections::BTreeMap, fmt, path::Path};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, Spec};

use crate::cgroup::{self, Version};

/// The fence could not be put up.
#[derive(Debug, thiserror::Error)]
#[error("confine the container to its devices: {act}: {source}")]
pub(crate) struct DevicesError {
    act: String,
    source: std::io::Error,
}

/// Confines the cgroup of process `pid`.
pub(crate) fn confine(pid: i32, version: Version, rules: &Rules) -> Result<(), DevicesError> {
    let directory = cgroup::directory(pid, "devices").map_err(|source| DevicesError {
        act: "find its cgroup".to_owned(),
        source,
    })?;
    match version {
        Version::V1 => by_rules(&directory, rules),
        Version::V2 => filter::attach(&directory, rules),
    }
}

/// Version 1: rules in files (cgroups-v1/devices in the kernel's documentation).
fn by_rules(directory: &Path, rules: &Rules) -> Result<(), DevicesError> {
    let (all, exceptions) = match rules.default {
        Verdict::Allow => ("devices.allow", "devices.deny"),
        Verdict::Deny => ("devices.deny", "devices.allow"),
    };
    let write = |file: &str, rule: &str| {
        let path = directory.join(file);
        std::fs::write(&path, rule).map_err(|source| DevicesError {
            act: format!("write {rule:?} to {}", path.display()),
            source,
        })
    };
    write(all, "a")?;
    rules
        .exceptions
        .iter()
        .try_for_each(|(devices, access)| write(exceptions, &format!("{devices} {access}")))
}

/// What is decided of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    Deny,
}

/// Block or character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Block,
    Character,
}

/// Devices of one kind; `None` stands for every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Devices {
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
}

/// What may be done with a device; bits as the kernel has them (`BPF_DEVCG_ACC_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Access(u8);

impl Access {
    const MAKE: u8 = 1;
    const READ: u8 = 2;
    const WRITE: u8 = 4;
    const ALL: Self = Self(Self::MAKE | Self::READ | Self::WRITE);

    /// `rwm`, in any order; nothing said is all.
    fn parse(text: Option<&str>) -> Self {
        let bits = text.unwrap_or_default().chars().map(|letter| match letter {
            'm' => Self::MAKE,
            'r' => Self::READ,
            'w' => Self::WRITE,
            _ => 0,
        });
        match bits.fold(0, |all, bit| all | bit) {
            0 => Self::ALL,
            bits => Self(bits),
        }
    }
}

/// The rules of a cgroup, in the form that the kernel has on version 1: all but the exceptions, or
/// nothing but them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    default: Verdict,
    exceptions: BTreeMap<Devices, Access>,
}

impl Rules {
    fn nothing() -> Self {
        Self {
            default: Verdict::Deny,
            exceptions: BTreeMap::new(),
        }
    }

    /// A guest's: null, zero, full, random and urandom.
    pub(crate) fn of_a_guest() -> Self {
        let mut rules = Self::nothing();
        for minor in [3, 5, 7, 8, 9] {
            rules.add(Verdict::Allow, character(Some(1), Some(minor)), Access::ALL);
        }
        rules
    }

    /// A native program's: those of its spec, and what runc allows every container: the devices
    /// that each program needs, terminals, and to make nodes, which are of no use by themselves.
    pub(crate) fn of_a_program(spec: &Spec) -> Self {
        let mut rules = Self::nothing();
        let resources = spec.linux().as_ref().and_then(|l| l.resources().as_ref());
        for rule in resources
            .iter()
            .filter_map(|r| r.devices().as_ref())
            .flatten()
        {
            rules.obey(rule);
        }
        let make = Access(Access::MAKE);
        for (devices, access) in [
            (character(None, None), make),
            (
                Devices {
                    kind: Kind::Block,
                    ..character(None, None)
                },
                make,
            ),
            (character(Some(1), Some(3)), Access::ALL), // null
            (character(Some(1), Some(5)), Access::ALL), // zero
            (character(Some(1), Some(7)), Access::ALL), // full
            (character(Some(1), Some(8)), Access::ALL), // random
            (character(Some(1), Some(9)), Access::ALL), // urandom
            (character(Some(5), Some(0)), Access::ALL), // tty
            (character(Some(5), Some(2)), Access::ALL), // ptmx
            (character(Some(136), None), Access::ALL),  // pts
        ] {
            rules.add(Verdict::Allow, devices, access);
        }
        rules
    }

    /// One rule of the runtime spec (config-linux.md, "Allowed Device list").
    fn obey(&mut self, rule: &LinuxDeviceCgroup) {
        let verdict = if rule.allow() {
            Verdict::Allow
        } else {
            Verdict::Deny
        };
        let kind = match rule.typ().unwrap_or_default() {
            LinuxDeviceType::A => {
                self.default = verdict;
                self.exceptions.clear();
                return;
            }
            LinuxDeviceType::B => Kind::Block,
            LinuxDeviceType::C | LinuxDeviceType::U => Kind::Character,
            // The kernel asks nobody about FIFOs.
            LinuxDeviceType::P => return,
        };
        // A negative number is an old way to say "every".
        let number = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
        let devices = Devices {
            kind,
            major: number(rule.major()),
            minor: number(rule.minor()),
        };
        self.add(verdict, devices, Access::parse(rule.access().as_deref()));
    }

    fn add(&mut self, verdict: Verdict, devices: Devices, access: Access) {
        let before = self.exceptions.get(&devices).map_or(0, |access| access.0);
        let after = if verdict == self.default {
            before & !access.0
        } else {
            before | access.0
        };
        if after == 0 {
            self.exceptions.remove(&devices);
        } else {
            self.exceptions.insert(devices, Access(after));
        }
    }
}

fn character(major: Option<u32>, minor: Option<u32>) -> Devices {
    Devices {
        kind: Kind::Character,
        major,
        minor,
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Block => 'b',
            Kind::Character => 'c',
        };
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |n| n.to_string());
        write!(f, "{kind} {}:{}", number(self.major), number(self.minor))
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        [(Self::READ, "r"), (Self::WRITE, "w"), (Self::MAKE, "m")]
            .into_iter()
            .filter(|(bit, _)| self.0 & bit != 0)
            .try_for_each(|(_, letter)| f.write_str(letter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A spec with these rules.
    pub(super) fn spec(rules: &str) -> Spec {
        serde_json::from_str(&format!(
            r#"{{"ociVersion":"1.1.0","linux":{{"resources":{{"devices":[{rules}]}}}}}}"#
        ))
        .expect("spec")
    }

    fn written(rules: &Rules) -> Vec<String> {
        let directory = tempfile::tempdir().expect("directory");
        by_rules(directory.path(), rules).expect("write");
        let exceptions = rules.exceptions.iter();
        exceptions
            .map(|(devices, access)| format!("{devices} {access}"))
            .collect()
    }

    #[test]
    fn later_rules_of_a_spec_change_earlier_ones() {
        let rules = Rules::of_a_program(&spec(
            r#"{"allow":true}, {"allow":false,"access":"rwm"},
               {"allow":true,"type":"c","major":10,"minor":229,"access":"rw"},
               {"allow":true,"type":"b","major":8,"access":"r"},
               {"allow":false,"type":"c","major":10,"minor":229,"access":"w"}"#,
        ));
        assert_eq!(rules.default, Verdict::Deny);
        let written = written(&rules);
        for expected in ["b 8:* r", "c 10:229 r", "c 1:3 rwm", "c *:* m", "b *:* m"] {
            assert!(written.iter().any(|rule| rule == expected), "{written:?}");
        }
        assert_eq!(written.len(), 12, "{written:?}");
    }

    #[test]
    fn a_privileged_spec_allows_all_but_what_it_denies() {
        let rules = Rules::of_a_program(&spec(
            r#"{"allow":true,"access":"rwm"}, {"allow":false,"type":"b","major":8,"minor":-1}"#,
        ));
        assert_eq!(rules.default, Verdict::Allow);
        assert_eq!(written(&rules), ["b 8:* rwm"]);
    }

    #[test]
    fn a_spec_without_rules_allows_what_every_container_has() {
        assert_eq!(Rules::of_a_program(&Spec::default()).exceptions.len(), 10);
    }
}
