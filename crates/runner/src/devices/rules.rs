//! The device rules of a container: those of a guest, and those of a native program's spec.
//!
//! Pure. Used by the module above and by `filter`.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, fmt};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, Spec};

/// Whether a rule allows or denies a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    Deny,
}

/// Block or character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DeviceKind {
    Block,
    Character,
}

/// Devices of one kind. `None` stands for every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DeviceNumbers {
    pub(super) kind: DeviceKind,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
}

/// What may be done with a device; bits as the kernel has them (`BPF_DEVCG_ACC_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeviceAccess(pub(super) u8);

impl DeviceAccess {
    pub(super) const MAKE: u8 = 1;
    pub(super) const READ: u8 = 2;
    pub(super) const WRITE: u8 = 4;
    const ALL: Self = Self(Self::MAKE | Self::READ | Self::WRITE);

    /// `rwm`, in any order. No letter means all.
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

/// The rules of a cgroup, in the form that the kernel has on version 1: a default, and exceptions from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceRules {
    pub(super) default: Verdict,
    pub(super) exceptions: BTreeMap<DeviceNumbers, DeviceAccess>,
}

impl DeviceRules {
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
            rules.add(
                Verdict::Allow,
                character(Some(1), Some(minor)),
                DeviceAccess::ALL,
            );
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
        let make = DeviceAccess(DeviceAccess::MAKE);
        for (devices, access) in [
            (character(None, None), make),
            (
                DeviceNumbers {
                    kind: DeviceKind::Block,
                    ..character(None, None)
                },
                make,
            ),
            (character(Some(1), Some(3)), DeviceAccess::ALL), // null
            (character(Some(1), Some(5)), DeviceAccess::ALL), // zero
            (character(Some(1), Some(7)), DeviceAccess::ALL), // full
            (character(Some(1), Some(8)), DeviceAccess::ALL), // random
            (character(Some(1), Some(9)), DeviceAccess::ALL), // urandom
            (character(Some(5), Some(0)), DeviceAccess::ALL), // tty
            (character(Some(5), Some(2)), DeviceAccess::ALL), // ptmx
            (character(Some(136), None), DeviceAccess::ALL),  // pts
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
            LinuxDeviceType::B => DeviceKind::Block,
            LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Character,
            // The kernel restricts no FIFOs.
            LinuxDeviceType::P => return,
        };
        // A negative number is an old way to say "every".
        let number = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
        let devices = DeviceNumbers {
            kind,
            major: number(rule.major()),
            minor: number(rule.minor()),
        };
        self.add(
            verdict,
            devices,
            DeviceAccess::parse(rule.access().as_deref()),
        );
    }

    fn add(&mut self, verdict: Verdict, devices: DeviceNumbers, access: DeviceAccess) {
        let before = self.exceptions.get(&devices).map_or(0, |access| access.0);
        let after = if verdict == self.default {
            before & !access.0
        } else {
            before | access.0
        };
        if after == 0 {
            self.exceptions.remove(&devices);
        } else {
            self.exceptions.insert(devices, DeviceAccess(after));
        }
    }
}

fn character(major: Option<u32>, minor: Option<u32>) -> DeviceNumbers {
    DeviceNumbers {
        kind: DeviceKind::Character,
        major,
        minor,
    }
}

impl fmt::Display for DeviceNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DeviceKind::Block => 'b',
            DeviceKind::Character => 'c',
        };
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |n| n.to_string());
        write!(f, "{kind} {}:{}", number(self.major), number(self.minor))
    }
}

impl fmt::Display for DeviceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        [(Self::READ, "r"), (Self::WRITE, "w"), (Self::MAKE, "m")]
            .into_iter()
            .filter(|(bit, _)| self.0 & bit != 0)
            .try_for_each(|(_, letter)| f.write_str(letter))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A spec with these rules.
    pub(in super::super) fn spec(rules: &str) -> Spec {
        serde_json::from_str(&format!(
            r#"{{"ociVersion":"1.1.0","linux":{{"resources":{{"devices":[{rules}]}}}}}}"#
        ))
        .expect("spec")
    }

    fn written(rules: &DeviceRules) -> Vec<String> {
        let exceptions = rules.exceptions.iter();
        exceptions
            .map(|(devices, access)| format!("{devices} {access}"))
            .collect()
    }

    #[test]
    fn later_rules_of_a_spec_change_earlier_ones() {
        let rules = DeviceRules::of_a_program(&spec(
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
        let rules = DeviceRules::of_a_program(&spec(
            r#"{"allow":true,"access":"rwm"}, {"allow":false,"type":"b","major":8,"minor":-1}"#,
        ));
        assert_eq!(rules.default, Verdict::Allow);
        assert_eq!(written(&rules), ["b 8:* rwm"]);
    }

    #[test]
    fn a_spec_without_rules_allows_what_every_container_has() {
        assert_eq!(
            DeviceRules::of_a_program(&Spec::default()).exceptions.len(),
            10
        );
    }
}
