//! `create`: up to the point where the init process waits for `start`, or nothing at all.
#![forbid(unsafe_code)]

use std::{
    fs::DirBuilder,
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use libcontainer::{container::builder::ContainerBuilder, syscall::syscall::SyscallType};
use nix::{
    sys::{
        stat::{Mode, SFlag, fstat, umask},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Gid, Uid, fchown, getgroups, setgroups},
};
use oci_spec::runtime::Spec;
use wasm_interp_runner::client::{Lifetime, Workload};

use super::{Error, State, delete};
use crate::{
    apparmor::Profile,
    cgroup::{self, Driver, Version},
    cwd, dev,
    devices::{self, Rules},
    diagnostics::Diagnostics,
    executor::{Init, Task},
    guest::Prepared,
    native::Program,
    spec::{self, Fitted, For},
    sys,
    wire::Gifts,
};

/// How long killed processes may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Creates the container and returns the pid of its init process.
pub(crate) fn create(
    id: &str,
    bundle: &Path,
    state: &Path,
    workload: Workload,
    lifetime: Lifetime,
    mut gifts: Gifts,
) -> Result<i32, Error> {
    let state = State(state);
    let (task, whom) = match workload {
        Workload::Wasm { plan } => {
            let guest = Prepared::new(*plan, gifts.artifact()?)?;
            (Task::Guest(Rc::new(guest)), For::Guest)
        }
        Workload::Native { native } => {
            let enter_cwd = native.cwd_exists;
            let program = Program::new(*native).map_err(|_| Error::Nul { id: id.to_owned() })?;
            (Task::Program(Rc::new(program)), For::Program { enter_cwd })
        }
        Workload::Pause => (Task::Pause, For::Pause),
    };
    let version = Version::of_host().map_err(spec::SpecError::from)?;
    let fitted = spec::fit(bundle, id, version, whom)?;
    let profile = fitted.profile.clone().map(Profile::named).transpose()?;
    let init = Init {
        task,
        profile: profile.map(Rc::new),
        lifetime,
        reasons: gifts.reasons.map(Rc::new),
    };
    if let Some(root) = fitted.spec.root() {
        dev::check(
            root.path(),
            fitted.spec.mounts().as_deref().unwrap_or_default(),
        )?;
    }
    own_identity(&fitted.groups).map_err(Error::Setup)?;
    if let For::Program { .. } = whom {
        give_stdio(&fitted.spec).map_err(Error::Setup)?;
    }
    let diagnostics = Diagnostics::collect().map_err(Error::Setup)?;

    claim(id, &state)?;
    let made = make(id, &state, fitted, version, (init, whom), &diagnostics);
    made.map_err(|cause| match undo(id, &state) {
        Ok(()) => cause,
        Err(error) => Error::Create {
            id: id.to_owned(),
            reason: format!("{cause}; besides, cleaning up failed: {error}"),
        },
    })
}

/// Makes the state directory ours, so that cleaning up after a failure can hit nobody else.
fn claim(id: &str, state: &State<'_>) -> Result<(), Error> {
    let bundle = state.bundle();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state.0)
        .and_then(|()| DirBuilder::new().mode(0o700).create(&bundle))
        .map_err(|e| Error::Create {
            id: id.to_owned(),
            reason: if e.kind() == ErrorKind::AlreadyExists {
                format!(
                    "{} holds the state of one already; delete that first",
                    state.0.display()
                )
            } else {
                format!("make {}: {e}", bundle.display())
            },
        })
}

/// Removes whatever a failure has left: libcontainer cleans up after its own only.
fn undo(id: &str, state: &State<'_>) -> Result<(), Error> {
    // Of the hooks' failures the caller needs not hear: it hears of ours.
    delete::remove(id, state, delete::Running::Kill)?;
    // Nothing of it may outlive this process as somebody else's orphan.
    let end = Instant::now() + PATIENCE;
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            if Instant::now() > end {
                return Err(Error::Create {
                    id: id.to_owned(),
                    reason: "a process of it does not end".to_owned(),
                });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

fn make(
    id: &str,
    state: &State<'_>,
    mut fitted: Fitted,
    version: Version,
    (init, whom): (Init, For),
    diagnostics: &Diagnostics,
) -> Result<i32, Error> {
    let failed = |reason: String| Error::Create {
        id: id.to_owned(),
        reason,
    };
    let bundle = state.bundle();
    spec::write(&state.record(), &fitted.record)?;
    spec::write(&bundle.join("config.json"), &fitted.spec)?;

    cwd::make_before(&fitted.spec, &fitted.cwd)?;
    let explained =
        |error: &dyn std::error::Error| failed(hint(diagnostics.explain(error), &fitted.spec));
    let container = ContainerBuilder::new(id.to_owned(), SyscallType::default())
        .with_executor(init)
        .with_root_path(state.0)
        .and_then(ContainerBuilder::validate_id)
        .map_err(|e| explained(&e))?
        .as_init(&bundle)
        .with_systemd(fitted.record.cgroup.driver == Driver::Systemd)
        .build()
        .map_err(|e| explained(&e))?;
    let pid = container
        .pid()
        .ok_or_else(|| failed("its init process ended before it was ready".to_owned()))?
        .as_raw();
    fitted.record.directories = cgroup::directories(pid).map_err(|e| failed(e.to_string()))?;
    spec::write(&state.record(), &fitted.record)?;

    cwd::make_inside(pid, &fitted.cwd)?;
    match whom {
        For::Guest => {
            dev::trim(pid, &mounted_in_dev(&fitted.spec))?;
            devices::confine(pid, version, &Rules::of_a_guest())?;
        }
        For::Program { .. } => {
            devices::confine(pid, version, &Rules::of_a_program(&fitted.spec))?;
        }
        For::Pause => {}
    }
    if let Some(limit) = fitted.late_pids_limit {
        cgroup::limit_pids(pid, limit).map_err(|e| failed(e.to_string()))?;
    }
    if !fitted.unified.is_empty() {
        cgroup::write_unified(pid, &fitted.unified).map_err(|e| failed(e.to_string()))?;
    }
    Ok(pid)
}

/// What the container must not inherit from whoever started containerd, and the groups it shall
/// have instead.
///
/// libcontainer sets supplementary groups from within the container and reads /proc for that,
/// which a guest does not have. They are kept across its forks and changes of user.
fn own_identity(groups: &[u32]) -> std::io::Result<()> {
    let groups: Vec<_> = groups.iter().copied().map(Gid::from_raw).collect();
    if !(groups.is_empty() && getgroups()?.is_empty()) {
        setgroups(&groups)?;
    }
    // libcontainer sets a umask only if the spec names one; this is runc's.
    umask(Mode::from_bits_truncate(0o022));
    Ok(())
}

/// Makes the container's user the owner of its stdio, where that is pipes: it may open /dev/stdout,
/// as runc lets it.
fn give_stdio(spec: &Spec) -> std::io::Result<()> {
    let Some(process) = spec.process() else {
        return Ok(());
    };
    let mappings = spec
        .linux()
        .as_ref()
        .and_then(|l| l.uid_mappings().as_ref());
    let user = process.user().uid();
    let user = match mappings {
        None => Some(user),
        Some(mappings) => mappings.iter().find_map(|mapping| {
            let offset = user.checked_sub(mapping.container_id())?;
            (offset < mapping.size()).then_some(mapping.host_id().checked_add(offset)?)
        }),
    };
    let Some(user) = user else { return Ok(()) };
    for fd in [sys::STDIN, sys::STDOUT, sys::STDERR] {
        let stream = sys::standard(fd);
        let stat = fstat(stream)?;
        let is_pipe =
            SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFIFO;
        if is_pipe && stat.st_uid != user {
            fchown(stream, Some(Uid::from_raw(user)), None)?;
        }
    }
    Ok(())
}

/// Names right beneath /dev on which the spec mounts something.
fn mounted_in_dev(spec: &Spec) -> Vec<String> {
    spec.mounts()
        .iter()
        .flatten()
        .filter_map(|mount| mount.destination().strip_prefix("/dev").ok()?.to_str())
        .filter(|name| !name.is_empty() && !name.contains('/'))
        .map(str::to_owned)
        .collect()
}

/// Adds the way out where the cause alone does not show it.
fn hint(reason: String, spec: &Spec) -> String {
    let score = spec
        .process()
        .as_ref()
        .and_then(oci_spec::runtime::Process::oom_score_adj);
    match score {
        Some(score) if reason.contains("oom_score_adj") => format!(
            "{reason}; lowering the score to {score} needs CAP_SYS_RESOURCE, which the node's \
             container runtime lacks: set restrict_oom_score_adj = true in containerd's CRI \
             configuration"
        ),
        _ => reason,
    }
}
