//! `delete`: afterwards nothing of the container is left, however far it had come.
#![forbid(unsafe_code)]

use std::{io::ErrorKind, path::Path};

use libcgroups::common::{CgroupConfig, CgroupManager, create_cgroup_manager};
use libcontainer::container::{Container, ContainerStatus};

use wasm_interp_workload::with_causes;

use super::{Error, State};
use crate::{cgroup::Driver, diagnostics::Diagnostics, spec::Record};

/// What to do if the container still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Running {
    /// End it first.
    Kill,
    /// Leave it alone and fail.
    Refuse,
}

/// Removes the container. What is not there is no error.
pub(crate) fn delete(id: &str, state: &Path, force: bool) -> Result<(), Error> {
    let diagnostics = Diagnostics::collect().map_err(Error::Setup)?;
    let running = if force {
        Running::Kill
    } else {
        Running::Refuse
    };
    remove(id, &State(state), running).map_err(|error| match error {
        Error::Delete { id, reason } => Error::Delete {
            id,
            reason: diagnostics.complete(reason),
        },
        error => error,
    })
}

/// [`delete`] without its own diagnostics.
pub(super) fn remove(id: &str, state: &State<'_>, running: Running) -> Result<(), Error> {
    let failed = |reason: String| Error::Delete {
        id: id.to_owned(),
        reason,
    };
    // Through libcontainer as long as it knows the container: it runs the poststop hooks. Where its
    // state is lost or half-written, what we have noted ourselves has to do.
    let container = Container::load(state.container(id)).ok();
    if let (Some(container), Running::Refuse) = (&container, running) {
        let status = container.status();
        if matches!(status, ContainerStatus::Running | ContainerStatus::Paused) {
            return Err(failed(format!(
                "it is {}; end it first, or delete it with force",
                status.to_string().to_lowercase()
            )));
        }
    }
    if let Some(mut container) = container
        && let Err(error) = container.delete(running == Running::Kill)
        && running == Running::Refuse
    {
        return Err(failed(with_causes(&error)));
    }
    if let Some(record) = read(&state.record()).map_err(failed)? {
        remove_cgroup(id, &record).map_err(failed)?;
    }
    match std::fs::remove_dir_all(state.0) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(failed(format!("remove {}: {error}", state.0.display())))
        }
        _ => Ok(()),
    }
}

/// `None`: the container never came as far as having a cgroup.
fn read(path: &Path) -> Result<Option<Record>, String> {
    let text = match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|e| format!("read {}: {e}", path.display()))?,
    };
    // Written whole or not at all.
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|e| format!("understand {}: {e}", path.display()))
}

/// Kills what is left in the cgroup and removes it.
fn remove_cgroup(id: &str, record: &Record) -> Result<(), String> {
    let manager = create_cgroup_manager(CgroupConfig {
        cgroup_path: record.cgroup.path.clone(),
        systemd_cgroup: record.cgroup.driver == Driver::Systemd,
        container_name: id.to_owned(),
    })
    .map_err(|e| with_causes(&e))?;
    manager.remove().map_err(|e| {
        format!(
            "remove cgroup {}: {}",
            record.cgroup.path.display(),
            with_causes(&e)
        )
    })
}
