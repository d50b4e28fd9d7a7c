//! The runner's protocol: its verbs, passed descriptors and responses, and the client that calls it.
//!
//! The shim and `wasm-interp run` call [`Runner`]; the runner itself reads [`Request`] and writes
//! [`Response`]. Nothing here knows libcontainer or Wasmtime.
//!
//! Each call is a short process. It communicates through inherited descriptors, never through files
//! that a container could reach:
//!
//! | descriptor | direction | content |
//! |---|---|---|
//! | 0, 1, 2 | – | the process's stdio (`create`, `exec`); `/dev/null` otherwise |
//! | 3 | in | [`Request`] as JSON, to end of file |
//! | 4 | out | [`Response`] as one line of JSON |
//! | 5 | in | the artifact (`create` and `exec` of a Wasm guest): through a read-only mount, or sealed memory |
//! | 6 | out | the termination log: why the guest was ended (`create`, if the container has one) |
//! | 7 | – | the runner's executable, through a read-only mount |
//! | 8 | in | the ceiling of the guests' memory, which may change (`create` of a Wasm container and `exec` of a guest, if the caller shares it) |
//! | 9 | out | a socket: the master of a terminal of the container's own, where it has one (`create`, `exec`, if the streams are a terminal) |
//! | 10 | in | the container's init process as a pidfd (`plan`, `exec`) |
//! | 11 | out | a socket: the open interpreter of a guest (`plan`) |
//! | 12 | out | a [`RefusalReader`]'s pipe: what a guest is refused (`create` and `exec` of a Wasm guest, if the caller has a log) |
//!
//! The client executes descriptor 7. A container may be able to write to the executable of its init
//! process (`/proc/PID/exe`, CVE-2019-5736), so this must not be the file that makes the next container.
//!
//! A further process of a container takes two calls: `plan` looks at the container's files and decides, and
//! `exec` makes the process. In between, the caller gets native code for the interpreter.
//!
//! The process that a call makes is a child of the runner. When the runner has responded and ended, the
//! kernel gives that child to the nearest subreaper among the runner's ancestors. A caller that needs
//! the exit status therefore has to be a subreaper (`PR_SET_CHILD_SUBREAPER`).

mod call;
mod ceiling;
pub mod descriptors;
mod error;
mod handover;
mod protocol;
mod read_only;
mod refusals;
mod spawn;
pub mod termination_message;

use std::{
    borrow::Cow,
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::LazyLock,
};

use oci_spec::runtime::{LinuxResources, Spec};

use self::spawn::Passed;
pub use self::{
    ceiling::{CeilingView, GuestPlace, NoRoom, SharedCeiling},
    error::{PROGRAM, RunnerError},
    handover::{hand_over, receive},
    protocol::{InitRuns, Lifetime, ModuleStamp, Request, Response, SessionKeyring, Workload},
    refusals::{LONGEST_REFUSAL, RefusalReader},
    spawn::spawn_with,
};

/// Exit code of a container whose guest trapped: that of a native program that aborts, and that of
/// `wasmtime run`.
pub const EXIT_TRAP: i32 = 134;
/// Exit code of a container that was created but could not be started.
pub const EXIT_START_FAILED: i32 = 125;

/// A container that waits for [`Runner::start`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedContainer {
    /// Its init process, in the caller's pid namespace.
    pub pid: i32,
    /// Warnings for people: parts of the spec that the container does not get.
    pub warnings: Vec<String>,
}

/// Calls the runner. Every method blocks until the runner has ended: milliseconds, or for as long as a file system or
/// a hook of the container does not answer. `spawned` gets the number of the runner, a child of the caller, which
/// the caller may kill. The runner is waited for before the call returns.
#[derive(Clone, Debug)]
pub struct Runner {
    program: PathBuf,
    lifetime: Lifetime,
}

impl Runner {
    /// The runner at this path.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            lifetime: Lifetime::Own,
        }
    }

    /// The same, for containers with this lifetime. The default is [`Lifetime::Own`].
    ///
    /// For [`Lifetime::Callers`] the caller has to be their subreaper.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The runner in the folder of the calling program.
    ///
    /// # Errors
    /// [`RunnerError::Locate`] if the path of the calling program is unknown.
    pub fn beside_current_exe() -> Result<Self, RunnerError> {
        let own = std::env::current_exe().map_err(RunnerError::Locate)?;
        Ok(Self::new(own.with_file_name(PROGRAM)))
    }

    /// Creates the container, whose init process then waits for [`Runner::start`].
    ///
    /// # Errors
    /// [`RunnerError::Failed`] with the reason if the container could not be created. The runner has
    /// then removed what it had made. If the runner was killed, it is [`RunnerError::Died`], and [`Runner::delete`]
    /// removes that.
    pub fn create(
        &self,
        creation: &Creation<'_>,
        spawned: &mut dyn FnMut(u32),
    ) -> Result<CreatedContainer, RunnerError> {
        let request = Request::Create {
            id: creation.id.into(),
            bundle: creation.bundle.into(),
            state: creation.state.into(),
            workload: Cow::Borrowed(creation.workload),
            lifetime: self.lifetime,
            keyring: creation.keyring,
        };
        let shown = command_line(creation.workload);
        let passed = Passed {
            stdio: Some(creation.stdio),
            artifact: creation.artifact,
            reasons: creation.reasons,
            ceiling: creation.ceiling,
            console: creation.console,
            refusals: creation.refusals,
            ..Passed::default()
        };
        match self.call(shown, &request, &passed, spawned)? {
            Response::Created { pid, warnings } => Ok(CreatedContainer { pid, warnings }),
            other => Err(unexpected(&request, &other)),
        }
    }

    /// Lets the created container run.
    ///
    /// # Errors
    /// [`RunnerError::Failed`] with the reason, for instance that it was started before.
    pub fn start(
        &self,
        id: &str,
        state: &Path,
        spawned: &mut dyn FnMut(u32),
    ) -> Result<(), RunnerError> {
        let request = Request::Start {
            id: id.into(),
            state: state.into(),
        };
        match self.order(id, &request, spawned)? {
            Response::Started => Ok(()),
            other => Err(unexpected(&request, &other)),
        }
    }

    /// Gives the container's cgroup the limits that `resources` names. Others stay as they are.
    ///
    /// # Errors
    /// [`RunnerError::Failed`] with the reason if one limit cannot be set. Then none is changed.
    pub fn update(
        &self,
        id: &str,
        state: &Path,
        resources: &LinuxResources,
        spawned: &mut dyn FnMut(u32),
    ) -> Result<(), RunnerError> {
        let request = Request::Update {
            id: id.into(),
            state: state.into(),
            resources: Box::new(resources.clone()),
        };
        match self.order(id, &request, spawned)? {
            Response::Updated => Ok(()),
            other => Err(unexpected(&request, &other)),
        }
    }

    /// Removes the container's cgroup and state. With `force` it first kills the processes that still
    /// run. It succeeds if the container does not exist. Returns warnings about failures that did not
    /// prevent the removal (poststop hooks).
    ///
    /// # Errors
    /// [`RunnerError::Failed`] with the reason, for instance that it still runs and `force` is off.
    pub fn delete(
        &self,
        id: &str,
        state: &Path,
        force: bool,
        spawned: &mut dyn FnMut(u32),
    ) -> Result<Vec<String>, RunnerError> {
        let request = Request::Delete {
            id: id.into(),
            state: state.into(),
            force,
        };
        match self.order(id, &request, spawned)? {
            Response::Deleted { warnings } => Ok(warnings),
            other => Err(unexpected(&request, &other)),
        }
    }

    /// Decides what a further process of a running container runs. `spawned` gets the number of the runner, which
    /// may be killed before this returns.
    ///
    /// # Errors
    /// [`RunnerError::Failed`] with the reason, in runc's words if the program is missing or not permitted.
    pub fn plan(
        &self,
        id: &str,
        spec: &Spec,
        policy: &Path,
        init: InitRef<'_>,
        spawned: &mut dyn FnMut(u32),
    ) -> Result<PlannedProcess, RunnerError> {
        let (ours, theirs) = UnixStream::pair().map_err(RunnerError::Request)?;
        let request = Request::Plan {
            id: id.into(),
            spec: Cow::Borrowed(spec),
            policy: policy.into(),
            init: init.pid,
        };
        let passed = Passed {
            init: Some(init.pidfd),
            handover: Some(theirs.as_fd()),
            ..Passed::default()
        };
        match self.call(&own_name(&request, id), &request, &passed, spawned)? {
            Response::Planned { workload, module } => {
                let module = module
                    .map(|stamp| receive(&ours).map(|file| PlannedModule { file, stamp }))
                    .transpose()
                    .map_err(RunnerError::Handover)?;
                Ok(PlannedProcess { workload, module })
            }
            other => Err(unexpected(&request, &other)),
        }
    }

    /// Makes a further process in a running container, which runs at once. `spawned` gets the number of the
    /// runner, which may be killed before this returns: then there is no such process.
    ///
    /// # Errors
    /// [`RunnerError::Failed`] with the reason. There is no such process then.
    pub fn exec(
        &self,
        execution: &Execution<'_>,
        spawned: &mut dyn FnMut(u32),
    ) -> Result<CreatedContainer, RunnerError> {
        let request = Request::Exec {
            id: execution.id.into(),
            bundle: execution.bundle.into(),
            state: execution.state.into(),
            spec: Cow::Borrowed(execution.spec),
            workload: Cow::Borrowed(execution.workload),
            init: execution.init.pid,
            init_runs: execution.init_runs,
            place: execution.place.map_or(0, GuestPlace::number),
            keyring: execution.keyring,
        };
        let passed = Passed {
            stdio: Some(execution.stdio),
            artifact: execution.artifact,
            ceiling: execution.place.map(AsFd::as_fd),
            console: execution.console,
            init: Some(execution.init.pidfd),
            refusals: execution.refusals,
            ..Passed::default()
        };
        match self.call(command_line(execution.workload), &request, &passed, spawned)? {
            Response::Running { pid, warnings } => Ok(CreatedContainer { pid, warnings }),
            other => Err(unexpected(&request, &other)),
        }
    }

    /// A call that passes nothing besides its request.
    fn order(
        &self,
        id: &str,
        request: &Request<'_>,
        spawned: &mut dyn FnMut(u32),
    ) -> Result<Response, RunnerError> {
        self.call(&own_name(request, id), request, &Passed::default(), spawned)
    }

    /// Runs the runner until it ends. Process lists show `argv`.
    fn call(
        &self,
        argv: &[String],
        request: &Request<'_>,
        passed: &Passed<'_>,
        spawned: &mut dyn FnMut(u32),
    ) -> Result<Response, RunnerError> {
        let call = spawn::spawn(&self.program, argv, request, passed)?;
        spawned(call.child.id());
        call.finish(request.verb())
    }
}

/// The command line of a process, so that `ps` on the host shows it. The runner itself takes no arguments.
fn command_line(workload: &Workload) -> &[String] {
    static PAUSE: LazyLock<[String; 1]> = LazyLock::new(|| ["pause".to_owned()]);
    match workload {
        Workload::Wasm { plan } => &plan.argv,
        Workload::Native { native } => &native.argv,
        Workload::Pause => &*PAUSE,
    }
}

/// The init process of a running container.
#[derive(Clone, Copy, Debug)]
pub struct InitRef<'a> {
    /// Its number in the caller's pid namespace.
    pub pid: i32,
    /// The same as a pidfd, so that it is never taken for a later process with its number.
    pub pidfd: BorrowedFd<'a>,
}

/// What a further process of a container runs.
#[derive(Debug)]
pub struct PlannedProcess {
    /// What it runs.
    pub workload: Workload,
    /// The interpreter, if it is a guest.
    pub module: Option<PlannedModule>,
}

/// The interpreter of a guest.
#[derive(Debug)]
pub struct PlannedModule {
    /// Open: its path may lead to another file later.
    pub file: File,
    /// Which file it is.
    pub stamp: ModuleStamp,
}

/// The process that [`Runner::exec`] makes.
#[derive(Clone, Copy, Debug)]
pub struct Execution<'a> {
    /// Container id.
    pub id: &'a str,
    /// The container's bundle.
    pub bundle: &'a Path,
    /// The state directory of the container.
    pub state: &'a Path,
    /// The spec of the process.
    pub spec: &'a Spec,
    /// What it runs.
    pub workload: &'a Workload,
    /// Native code of its interpreter, as in [`Creation::artifact`].
    pub artifact: Option<BorrowedFd<'a>>,
    /// The init process of the container.
    pub init: InitRef<'a>,
    /// What that is.
    pub init_runs: InitRuns,
    /// The place of a guest in the [`SharedCeiling`] of the container. Without one, the limit of the plan holds for
    /// good.
    pub place: Option<&'a GuestPlace>,
    /// The session keyring that the container was created with.
    pub keyring: SessionKeyring,
    /// As [`Creation::console`].
    pub console: Option<BorrowedFd<'a>>,
    /// Where the lines of a guest's refusals go, as in [`Creation::refusals`].
    pub refusals: Option<BorrowedFd<'a>>,
    /// Standard input, output and error.
    pub stdio: [BorrowedFd<'a>; 3],
}

/// The container that [`Runner::create`] creates.
#[derive(Clone, Copy, Debug)]
pub struct Creation<'a> {
    /// Container id.
    pub id: &'a str,
    /// OCI bundle: `config.json` (already fit for libcontainer) and the mounted rootfs.
    pub bundle: &'a Path,
    /// Directory for libcontainer's state of this container, made by the call.
    pub state: &'a Path,
    /// What the container runs.
    pub workload: &'a Workload,
    /// Native code of the plan's interpreter, for [`Workload::Wasm`]: a file, or sealed memory.
    ///
    /// The container gets a file through a read-only mount, with its own shared lock (flock(2)).
    pub artifact: Option<BorrowedFd<'a>>,
    /// The termination log, open for writing. If the guest is ended, the runner writes the reason to it,
    /// unless it already has content.
    pub reasons: Option<BorrowedFd<'a>>,
    /// A [`SharedCeiling`] for the memory of the container's guests. Without one, the limit of the plan holds for good.
    pub ceiling: Option<BorrowedFd<'a>>,
    /// The session keyring of its processes.
    pub keyring: SessionKeyring,
    /// If the standard streams are one terminal: a socket (unix(7)). A native program whose container has a
    /// devpts gets a terminal of that instead, of the same size, and the socket one message with the descriptor of
    /// its master.
    pub console: Option<BorrowedFd<'a>>,
    /// The pipe of a [`RefusalReader`], for [`Workload::Wasm`]. The guest's process writes to it what it refuses the
    /// guest.
    pub refusals: Option<BorrowedFd<'a>>,
    /// Standard input, output and error of the container.
    pub stdio: [BorrowedFd<'a>; 3],
}

fn own_name(request: &Request<'_>, id: &str) -> [String; 3] {
    [PROGRAM, request.verb(), id].map(str::to_owned)
}

fn unexpected(request: &Request<'_>, response: &Response) -> RunnerError {
    let detail = match response {
        Response::Created { .. } => "created",
        Response::Started => "started",
        Response::Updated => "updated",
        Response::Deleted { .. } => "deleted",
        Response::Planned { .. } => "planned",
        Response::Running { .. } => "running",
        Response::Failed { .. } => "failed",
    };
    RunnerError::Garbled {
        verb: request.verb(),
        detail: format!("unexpected response {detail}"),
    }
}
