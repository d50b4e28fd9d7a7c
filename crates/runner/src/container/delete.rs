//! `delete`: removes everything of a container, also if its creation has failed halfway.
//!
//! libcontainer knows the state and runs the hooks. It does not remove the cgroup: it fails where the container has
//! made cgroups inside, and it looks for each hierarchy by reading the host's mounts again, some thousand system calls.
//! `create` has recorded the directories. libcgroups is used only to ask systemd.
//!
//! containerd may ask twice at the same time, by a shim that ends and by the `delete` action. The second one waits for
//! the first and finds nothing to do. It also waits for the processes of a `create` whose runner was killed, and ends
//! them if the removal is forced: they may wait for a file system that does not answer.
#![forbid(unsafe_code)]

use std::{
    fs::File,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use libcgroups::common::CgroupManager;
use libcontainer::{
    container::{Container, ContainerStatus},
    hooks::run_hooks,
    process::intel_rdt::cleanup_intel_rdt,
};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use wasm_interp_workload::with_causes;

use super::{StateDirectory, VerbError};
use crate::{
    cgroup::{self, Driver},
    diagnostics::Diagnostics,
    spec::RemovalRecord,
};

/// Between two attempts to lock what processes hold that are being killed.
const PAUSE: Duration = Duration::from_millis(2);

/// What to do if the container still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IfRunning {
    /// Kill it first.
    Kill,
    /// Leave it alone and fail.
    Refuse,
}

/// Removes the container and returns warnings. A container that does not exist is no error.
pub(crate) fn delete(id: &str, state: &Path, force: bool) -> Result<Vec<String>, VerbError> {
    let diagnostics = Diagnostics::collect().map_err(VerbError::Setup)?;
    let running = if force {
        IfRunning::Kill
    } else {
        IfRunning::Refuse
    };
    remove(id, &StateDirectory(state), running).map_err(|error| match error {
        VerbError::Delete { id, reason } => VerbError::Delete {
            id,
            reason: diagnostics.complete(reason),
        },
        error => error,
    })
}

/// [`delete`] without its own diagnostics.
pub(super) fn remove(
    id: &str,
    state: &StateDirectory<'_>,
    running: IfRunning,
) -> Result<Vec<String>, VerbError> {
    let failed = |reason: String| VerbError::Delete {
        id: id.to_owned(),
        reason,
    };
    let Some(_alone) = take(state, running).map_err(failed)? else {
        return Ok(Vec::new());
    };
    // If libcontainer's state is lost or incomplete, our own record is enough.
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
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(format!(
            "cannot remove {}: {error}",
            state.0.display()
        ))),
        _ => Ok(warnings),
    }
}

/// Locks the container's state for its removal. `None`: there is none, or another removal has been faster.
fn take(state: &StateDirectory<'_>, running: IfRunning) -> Result<Option<Flock<File>>, String> {
    let failed = |error: std::io::Error| format!("cannot lock {}: {error}", state.0.display());
    let mut directory = match File::open(state.0) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        directory => directory.map_err(failed)?,
    };
    let argument = match running {
        IfRunning::Kill => FlockArg::LockExclusiveNonblock,
        IfRunning::Refuse => FlockArg::LockExclusive,
    };
    loop {
        let locked = Flock::lock(directory, argument);
        // A later container of the same id is not the one to remove.
        let is_there = |directory: &File| is_at(directory, state.0).map_err(failed);
        match locked {
            Ok(lock) => return Ok(is_there(&lock)?.then_some(lock)),
            Err((waiting, Errno::EWOULDBLOCK)) if is_there(&waiting)? => directory = waiting,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(failed(errno.into())),
        }
        // It is written before a process of the create joins a cgroup.
        if let Some(record) = read(&state.record())? {
            cgroup::kill_in(&record.directories).map_err(|e| e.to_string())?;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether the open directory is the one at `path`.
fn is_at(directory: &File, path: &Path) -> std::io::Result<bool> {
    let open = directory.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The lock is held as long as the file is open.
pub(super) fn lock(state: &Path) -> std::io::Result<Flock<File>> {
    let state = File::open(state)?;
    Flock::lock(state, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

/// Decides whether the container may be removed. A running one needs force. One that was never started needs
/// none: its processes end with its cgroup.
fn end(
    container: &mut Container,
    record: Option<&RemovalRecord>,
    running: IfRunning,
) -> Result<(), String> {
    let status = container.status();
    let there = status != ContainerStatus::Stopped && !is_reused_pid(container, record);
    match (running, status) {
        (IfRunning::Refuse, ContainerStatus::Running | ContainerStatus::Paused) if there => {
            Err(format!(
                "it is {}; kill it first, or delete it with force",
                status.to_string().to_lowercase()
            ))
        }
        _ => {
            // Hooks get this status.
            container.set_status(ContainerStatus::Stopped);
            Ok(())
        }
    }
}

/// Whether the init process has ended and the kernel has given its number to another process: that
/// process is not in the container's cgroup.
fn is_reused_pid(container: &Container, record: Option<&RemovalRecord>) -> bool {
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

/// Runs the poststop hooks and removes the resctrl group. A failure becomes a warning, and the next step
/// runs all the same (config.md of the runtime spec, "Poststop").
fn settle(container: &Container) -> Vec<String> {
    let mut warnings = Vec::new();
    let config = match container.spec() {
        Ok(config) => config,
        // The create failed before this was written, so no hook is due.
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
        warnings.push(format!(
            "cannot remove its resctrl group: {}",
            with_causes(&error)
        ));
    }
    warnings
}

/// `None`: the create failed before the container had a cgroup.
pub(super) fn read(path: &Path) -> Result<Option<RemovalRecord>, String> {
    let text = match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|e| format!("cannot read {}: {e}", path.display()))?,
    };
    // It was written completely or not at all.
    let mut record: RemovalRecord = serde_json::from_slice(&text)
        .map_err(|e| format!("cannot parse {}: {e}", path.display()))?;
    record.directories = record.cgroup.own(record.directories);
    Ok(Some(record))
}

/// Removes the cgroup, killing what is left in it.
fn remove_cgroup(id: &str, record: &RemovalRecord) -> Result<(), String> {
    let cgroup = &record.cgroup;
    if cgroup.driver == Driver::Systemd {
        // systemd would wait for processes that ignore SIGTERM. It needs the request even if the directory of
        // the scope is gone.
        cgroup::kill_in(&record.directories).map_err(|e| e.to_string())?;
        cgroup
            .manager(id)
            .map_err(|e| with_causes(&e))
            .and_then(|manager| manager.remove().map_err(|e| with_causes(&e)))
            .map_err(|e| format!("cannot remove cgroup {}: {e}", cgroup.path.display()))?;
        // It answers before it has removed the directory.
        cgroup::wait_until_gone(&record.directories);
    }
    cgroup::remove(&record.directories).map_err(|e| e.to_string())
}
