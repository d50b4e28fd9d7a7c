//! `update`: gives the container's cgroup new limits while it runs.
#![forbid(unsafe_code)]

use std::{io::ErrorKind, path::Path};

use oci_spec::runtime::LinuxResources;

use super::{
    StateDirectory, VerbError,
    delete::{lock, read},
};
use crate::cgroup::{self, Driver, Version};

/// Sets the limits that `resources` names, and leaves the others. If one cannot be set, none is changed.
pub(crate) fn update(id: &str, state: &Path, resources: &LinuxResources) -> Result<(), VerbError> {
    let failed = |reason: String| VerbError::Update {
        id: id.to_owned(),
        reason,
    };
    let version = Version::of_host().map_err(|e| failed(e.to_string()))?;
    let state = StateDirectory(state);
    // A deletion must not remove the cgroup meanwhile.
    let _alone = lock(state.0).map_err(|e| match e.kind() {
        ErrorKind::NotFound => failed("it is deleted".to_owned()),
        _ => failed(format!("cannot lock {}: {e}", state.0.display())),
    })?;
    let record = read(&state.record())
        .map_err(failed)?
        .ok_or_else(|| failed("it is not created yet".to_owned()))?;
    let directories = &record.directories;
    let updated =
        cgroup::update(directories, version, resources).map_err(|e| failed(e.to_string()))?;
    match record.cgroup.driver {
        Driver::Cgroupfs => Ok(()),
        Driver::Systemd => cgroup::set_properties(id, &record.cgroup, directories, resources)
            .map_err(|cause| failed(updated.undo(cause).to_string())),
    }
}
