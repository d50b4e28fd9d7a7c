//! The cgroup interface of the host.
#![forbid(unsafe_code)]

use libcgroups::common::{CgroupSetup, get_cgroup_setup};

/// The host's cgroup interface is unknown.
#[derive(Debug, thiserror::Error)]
#[error("cannot find the version of the host's cgroups: {0}; mount them at /sys/fs/cgroup")]
pub(crate) struct VersionError(String);

/// Which cgroup interface the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// One hierarchy per controller (also the hybrid form, whose controllers are on version 1).
    V1,
    /// The unified hierarchy.
    V2,
}

impl Version {
    /// Asks the host.
    pub(crate) fn of_host() -> Result<Self, VersionError> {
        match get_cgroup_setup() {
            Ok(CgroupSetup::Unified) => Ok(Self::V2),
            Ok(CgroupSetup::Legacy | CgroupSetup::Hybrid) => Ok(Self::V1),
            Err(error) => Err(VersionError(error.to_string())),
        }
    }
}
