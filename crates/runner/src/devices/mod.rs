//! Limits a container's cgroup to its devices, whatever device nodes it finds or makes.
//!
//! Called by `container::create` once the container is made. An image's layers may hold device nodes
//! and libcontainer adds rules of its own (the console, tunnels), so this step comes last. On
//! version 2 libcontainer's rules need libbpf and libelf, C libraries that this program has no other
//! use for.

mod error;
mod filter;
mod rules;

use std::path::{Path, PathBuf};

use self::rules::Verdict;
pub(crate) use self::{error::DevicesError, rules::DeviceRules};
use crate::cgroup::{self, Version};

/// Confines the container's `own` cgroup, in which process `pid` is.
pub(crate) fn confine(
    pid: i32,
    own: &[PathBuf],
    version: Version,
    rules: &DeviceRules,
) -> Result<(), DevicesError> {
    let directory = cgroup::directory(pid, own, "devices").map_err(|source| DevicesError {
        act: "find its cgroup".to_owned(),
        source,
    })?;
    match version {
        Version::V1 => by_rules(&directory, rules),
        Version::V2 => filter::attach(&directory, rules),
    }
}

/// Version 1: rules in files (cgroups-v1/devices in the kernel's documentation).
fn by_rules(directory: &Path, rules: &DeviceRules) -> Result<(), DevicesError> {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{rules::tests::spec, *};

    #[test]
    fn rules_of_version_1_are_written_to_the_files_of_the_cgroup() {
        let cgroup = tempfile::tempdir().expect("directory");
        let rules = DeviceRules::of_a_program(&spec(
            r#"{"allow":true}, {"allow":false,"type":"b","major":8}"#,
        ));
        by_rules(cgroup.path(), &rules).expect("write");
        let read = |file| fs::read_to_string(cgroup.path().join(file)).expect("read");
        assert_eq!(read("devices.allow"), "a");
        assert_eq!(read("devices.deny"), "b 8:* rwm");
    }
}
