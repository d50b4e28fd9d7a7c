//! `create`: makes a container whose init process waits for `start`. If that fails, it leaves nothing.
#![forbid(unsafe_code)]

use std::{
    fs::{DirBuilder, File},
    io::ErrorKind,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::Path,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use libcontainer::{container::builder::ContainerBuilder, syscall::syscall::SyscallType};
use nix::{
    fcntl::Flock,
    sys::{
        stat::{Mode, fstat, umask},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Gid, Uid, fchown, getgroups, setgroups},
};
use oci_spec::runtime::Spec;
use rustix::{fs::FileType, termios::isatty};
use wasm_interp_runner_client::{Lifetime, SessionKeyring, Workload};
use wasm_interp_workload::with_causes;

use super::{StateDirectory, VerbError, delete};
use crate::{
    apparmor::Profile,
    cgroup::{self, Version},
    cwd, dev,
    devices::{self, DeviceRules},
    diagnostics::Diagnostics,
    executor::{Failures, InitProcess, InitTask},
    guest::Prepared,
    init::{self, NewContainer},
    native::NativeCommand,
    privileges::{Holder, Privileges},
    rootfs::{Arrivals, nodes::DeviceSet},
    spec::{self, FittedSpec, InitKind},
    sys,
    terminal::Streams,
    user_namespace::IdMaps,
    wire::PassedFds,
};

/// How long killed processes may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// A new container.
pub(crate) struct CreateCall<'a> {
    pub(crate) id: &'a str,
    /// containerd's bundle.
    pub(crate) bundle: &'a Path,
    pub(crate) state: &'a Path,
    pub(crate) workload: Workload,
    pub(crate) lifetime: Lifetime,
    pub(crate) keyring: SessionKeyring,
}

/// Creates the container. Returns the pid of its init process, and a warning for each part of the spec that
/// the container does not get.
pub(crate) fn create(
    request: CreateCall<'_>,
    mut passed: PassedFds,
) -> Result<(i32, Vec<String>), VerbError> {
    let CreateCall {
        id,
        bundle,
        state,
        workload,
        lifetime,
        keyring,
    } = request;
    let state = StateDirectory(state);
    ContainerBuilder::new(id.to_owned(), SyscallType::Linux)
        .validate_id()
        .map_err(|error| VerbError::Create {
            id: id.to_owned(),
            reason: with_causes(&error),
        })?;
    let (task, kind) = init_task(id, workload, &mut passed, 0)?;
    let version = Version::of_host().map_err(spec::SpecError::from)?;
    let mut fitted = spec::fit(bundle, id, version, kind)?;
    let mut warnings: Vec<_> = fitted.warnings.iter().map(ToString::to_string).collect();
    let holder = match kind {
        InitKind::Guest => Holder::Guest,
        InitKind::Program { .. } | InitKind::Pause => Holder::Other,
    };
    let (privileges, missing) = Privileges::take(&mut fitted.spec, id, bundle, holder)?;
    warnings.extend(missing);
    cgroup::refuse_used(&fitted.record.directories)?;
    let profile = fitted.profile.clone().map(Profile::named).transpose()?;
    let init = InitProcess {
        task,
        privileges: Rc::new(privileges),
        profile: profile.map(Rc::new),
        lifetime,
        reasons: passed.reasons.map(Rc::new),
        refusals: passed.refusals.map(Arc::new),
        highest: sys::STDERR,
        state: None,
        arrivals: Arrivals::Possible,
        failures: Failures::Streams,
        streams: Streams::of(passed.console.as_ref()),
    };
    if let Some(root) = fitted.spec.root() {
        dev::check(root.path())?;
    }
    set_up_process(&fitted.spec, &fitted.groups, kind, init.streams)?;
    let diagnostics = Diagnostics::collect().map_err(VerbError::Setup)?;

    // Held by all processes of this call that are not yet the container's. So if the caller dies meanwhile, the removal
    // waits until none of them can make anything any more.
    let claimed = claim(id, &state)?;
    let process = NewProcess {
        kind,
        init,
        console: passed.console.map(Into::into),
        keyring,
    };
    let made = make(id, bundle, &state, fitted, version, process, &diagnostics);
    drop(claimed);
    match made {
        Ok(pid) => Ok((pid, warnings)),
        Err(cause) => Err(match undo(id, &state) {
            Ok(()) => cause,
            Err(error) => VerbError::Create {
                id: id.to_owned(),
                reason: format!("{cause}; and its removal failed: {error}"),
            },
        }),
    }
}

/// What a process of the container runs, and how its spec is fitted. `place`: a guest's in the ceiling of the
/// container.
pub(super) fn init_task(
    id: &str,
    workload: Workload,
    passed: &mut PassedFds,
    place: u32,
) -> Result<(InitTask, InitKind), VerbError> {
    Ok(match workload {
        Workload::Wasm { plan } => {
            let ceiling = passed.ceiling.take().map(|file| (file, place));
            let guest = Prepared::new(*plan, passed.artifact()?, ceiling)?;
            (InitTask::Guest(Rc::new(guest)), InitKind::Guest)
        }
        Workload::Native { native } => {
            let enter_cwd = native.cwd_exists;
            let program =
                NativeCommand::new(*native).map_err(|_| VerbError::Nul { id: id.to_owned() })?;
            (
                InitTask::Program(Rc::new(program)),
                InitKind::Program { enter_cwd },
            )
        }
        Workload::Pause => (InitTask::Pause, InitKind::Pause),
    })
}

/// Gives this process what the container's processes inherit: groups, umask and stdio.
pub(super) fn set_up_process(
    spec: &Spec,
    groups: &[u32],
    kind: InitKind,
    streams: Streams,
) -> Result<(), VerbError> {
    let maps = IdMaps::of(spec.linux().as_ref())?;
    let groups = groups.iter().map(|&group| {
        let mapped = maps.group(group);
        mapped.ok_or(VerbError::UnmappedGroup { group })
    });
    own_identity(&groups.collect::<Result<Vec<_>, _>>()?).map_err(VerbError::Setup)?;
    let program = matches!(kind, InitKind::Program { .. });
    if program || streams == Streams::Terminal {
        give_stdio(spec, &maps).map_err(VerbError::Setup)?;
    }
    Ok(())
}

/// Makes the state directory ours, so that the removal after a failure cannot hit another container, and locks it.
fn claim(id: &str, state: &StateDirectory<'_>) -> Result<Flock<File>, VerbError> {
    let container = state.container(id);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state.0)
        .and_then(|()| DirBuilder::new().mode(0o700).create(&container))
        .map_err(|e| VerbError::Create {
            id: id.to_owned(),
            reason: if e.kind() == ErrorKind::AlreadyExists {
                format!(
                    "{} holds the state of a container already; delete that container first",
                    state.0.display()
                )
            } else {
                format!("cannot make {}: {e}", container.display())
            },
        })?;
    delete::lock(state.0).map_err(|e| VerbError::Create {
        id: id.to_owned(),
        reason: format!("cannot lock {}: {e}", state.0.display()),
    })
}

/// Removes what a failed create has left.
fn undo(id: &str, state: &StateDirectory<'_>) -> Result<(), VerbError> {
    // The caller learns why the create failed; warnings about hooks would only hide that.
    delete::remove(id, state, delete::IfRunning::Kill)?;
    // No process of it may outlive this one: another subreaper would have to wait for it.
    let end = Instant::now() + PATIENCE;
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            if Instant::now() > end {
                return Err(VerbError::Create {
                    id: id.to_owned(),
                    reason:
                        "one of its processes does not end after a SIGKILL; find out by `ps` what \
                             it waits for"
                            .to_owned(),
                });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// The container's first process.
struct NewProcess {
    kind: InitKind,
    init: InitProcess,
    console: Option<OwnedFd>,
    keyring: SessionKeyring,
}

fn make(
    id: &str,
    bundle: &Path,
    state: &StateDirectory<'_>,
    mut fitted: FittedSpec,
    version: Version,
    process: NewProcess,
    diagnostics: &Diagnostics,
) -> Result<i32, VerbError> {
    let failed = |reason: String| VerbError::Create {
        id: id.to_owned(),
        reason,
    };
    spec::write(&state.record(), &fitted.record)?;
    cwd::make_before(&fitted.spec, &fitted.cwd)?;
    let explained =
        |error: &dyn std::error::Error| failed(hint(diagnostics.explain(error), &fitted.spec));
    let request = NewContainer {
        id,
        spec: &fitted.spec,
        bundle,
        state: &state.container(id),
        cgroup: &fitted.record.cgroup,
        version,
        devices: match process.kind {
            InitKind::Guest => DeviceSet::Guest,
            InitKind::Program { .. } | InitKind::Pause => DeviceSet::Program,
        },
        init: process.init,
        console: process.console,
        keyring: process.keyring,
    };
    let pid = init::create(request).map_err(|e| explained(&e))?.as_raw();
    let record = &mut fitted.record;
    record
        .cgroup
        .add_systemds(pid, &mut record.directories)
        .map_err(|e| failed(e.to_string()))?;
    spec::write(&state.record(), record)?;

    cwd::make_inside(pid, &fitted.cwd)?;
    limit(pid, &fitted, version, process.kind, failed)?;
    Ok(pid)
}

/// Gives the container's cgroup the limits that have to wait until the init process is in it.
fn limit(
    pid: i32,
    fitted: &FittedSpec,
    version: Version,
    kind: InitKind,
    failed: impl Fn(String) -> VerbError,
) -> Result<(), VerbError> {
    let own = &fitted.record.directories;
    let rules = match kind {
        InitKind::Guest => Some(DeviceRules::of_a_guest()),
        InitKind::Program { .. } => Some(DeviceRules::of_a_program(&fitted.spec)),
        InitKind::Pause => None,
    };
    if let Some(rules) = rules {
        devices::confine(pid, own, version, &rules)?;
    }
    if let Some(limit) = fitted.late_pids_limit {
        cgroup::limit_pids(pid, own, limit).map_err(|e| failed(e.to_string()))?;
    }
    if !fitted.unified.is_empty() {
        cgroup::write_unified(pid, own, &fitted.unified).map_err(|e| failed(e.to_string()))?;
    }
    Ok(())
}

/// Replaces what this process inherited from the process that started containerd: its groups and its
/// umask.
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

/// Makes the container's user the owner of its stdio, where that is pipes or a terminal: it may open
/// /dev/stdout, as runc lets it.
fn give_stdio(spec: &Spec, maps: &IdMaps) -> std::io::Result<()> {
    let Some(process) = spec.process() else {
        return Ok(());
    };
    // Without a mapping the process cannot become that user, which the kernel then says.
    let Some(user) = maps.user(process.user().uid()) else {
        return Ok(());
    };
    for fd in [sys::STDIN, sys::STDOUT, sys::STDERR] {
        let stream = sys::standard(fd);
        let stat = fstat(stream)?;
        let is_pipe = FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
        if (is_pipe || isatty(stream)) && stat.st_uid != user {
            fchown(stream, Some(Uid::from_raw(user)), None)?;
        }
    }
    Ok(())
}

/// Adds what to do about an error whose cause does not say it.
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
