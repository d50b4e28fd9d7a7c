//! `delete`: afterwards nothing of the container is left, however far it had come.
//!
//! libcontainer knows the state and runs the hooks. It does not remove the cgroup, because it looks
//! for each hierarchy by reading the host's mounts anew, some thousand system calls: `create` has
//! noted where it is. Its manager is asked only where that does not suffice.
#![forbid(unsafe_code)]

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use libcgroups::common::{CgroupConfig, CgroupManager, create_cgroup_manager};
use libcontainer::{
    container::{Container, ContainerStatus},
    hooks::run_hooks,
    process::intel_rdt::cleanup_intel_rdt,
    signal::Signal,
};
use wasm_interp_workload::with_causes;

use super::{Error, State};
use crate::{
    cgroup::{self, Driver},
    diagnostics::Diagnostics,
    spec::Record,
};

/// What to do if the container still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Running {
    /// End it first.
    Kill,
    /// Leave it alone and fail.
    Refuse,
}

/// Removes the container and says what else is worth a warning. What is not there is no error.
pub(crate) fn delete(id: &str, state: &Path, force: bool) -> Result<Vec<String>, Error> {
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
pub(super) fn remove(id: &str, state: &State<'_>, running: Running) -> Result<Vec<String>, Error> {
    let failed = |reason: String| Error::Delete {
        id: id.to_owned(),
        reason,
    };
    // Where libcontainer's state is lost or half-written, what we have noted ourselves has to do.
    let mut container = Container::load(state.container(id)).ok();
    let record = read(&state.record()).map_err(failed)?;
    if let Some(container) = &mut container {
        end(container, record.as_ref(), running).map_err(failed)?;
    }
    if let Some(record) = &record {
        remove_cgroup(id, record).map_err(failed)?;
    }
    let warnings = container.map_or_else(Vec::new, |container| settle(&container));
    match std::fs::remove_dir_all(state.0) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(failed(format!("remove {}: {error}", state.0.display())))
        }
        _ => Ok(warnings),
    }
}

/// Ends what runs, if that is wanted. A container that was never started may always go.
fn end(container: &mut Container, record: Option<&Record>, running: Running) -> Result<(), String> {
    let status = container.status();
    let there = status != ContainerStatus::Stopped && !is_somebody_elses(container, record);
    match (running, status) {
        _ if !there => Ok(()),
        (Running::Refuse, ContainerStatus::Running | ContainerStatus::Paused) => Err(format!(
            "it is {}; end it first, or delete it with force",
            status.to_string().to_lowercase()
        )),
        _ => {
            let kill = Signal::try_from(libc::SIGKILL).map_err(|e| with_causes(&e))?;
            // A failure shows where it matters: a cgroup with a process in it cannot be removed.
            let _ = container.kill(kill, true);
            Ok(())
        }
    }
}

/// Whether the kernel has given the number of our init process, which has ended, to another one:
/// that is not where we have put ours.
fn is_somebody_elses(container: &Container, record: Option<&Record>) -> bool {
    let (Some(pid), Some(record)) = (container.pid(), record) else {
        return false;
    };
    !record.directories.is_empty()
        && cgroup::directories(pid.as_raw()).is_ok_and(|found| {
            !found.iter().any(|found| {
                record
                    .directories
                    .iter()
                    .any(|directory| found.starts_with(directory))
            })
        })
}

/// What remains once all processes have ended; each failure is worth a warning, and the rest goes
/// on as if there had been none (config.md of the runtime spec, "Poststop").
fn settle(container: &Container) -> Vec<String> {
    let mut warnings = Vec::new();
    let config = match container.spec() {
        Ok(config) => config,
        // It did not come as far as having one, nor as far as having run.
        Err(_) => return warnings,
    };
    let hooks = config.hooks.and_then(|hooks| hooks.poststop().clone());
    for hook in hooks.unwrap_or_default() {
        let path = hook.path().display().to_string();
        if let Err(error) = run_hooks(Some(&vec![hook]), Some(&container.state), None, None, None) {
            warnings.push(format!("poststop hook {path}: {}", with_causes(&error)));
        }
    }
    if let Err(error) = cleanup_intel_rdt(
        container.intel_rdt_dir().map(PathBuf::as_path),
        container.intel_rdt_monitoring_dir().map(PathBuf::as_path),
        container.clean_up_intel_rdt_subdirectory(),
        container.id(),
    ) {
        warnings.push(format!("remove its resctrl group: {}", with_causes(&error)));
    }
    warnings
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

/// Removes the cgroup, killing what is left in it.
fn remove_cgroup(id: &str, record: &Record) -> Result<(), String> {
    // systemd has to be told even of a scope that is gone.
    if record.cgroup.driver == Driver::Cgroupfs && remove_directories(&record.directories) {
        return Ok(());
    }
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
    })?;
    if record.cgroup.driver == Driver::Systemd && !cgroup::wait_until_gone(&record.directories) {
        return Err(format!(
            "remove cgroup {}: systemd does not; see systemctl status for what is in it",
            record.cgroup.path.display()
        ));
    }
    Ok(())
}

/// Whether all of them were known and are gone.
fn remove_directories(directories: &[PathBuf]) -> bool {
    !directories.is_empty()
        && directories
            .iter()
            .all(|directory| match std::fs::remove_dir(directory) {
                Ok(()) => true,
                Err(error) => error.kind() == ErrorKind::NotFound,
            })
}
