//! Makes a further process in a running container.
//!
//! Called by `container::exec`. As at create, three processes take part: the runner, the stage, which joins the
//! cgroup and the namespaces, and its child, which libcontainer's process step turns into what the spec
//! describes. The container's own processes may be hostile and can see the last two: so the stage closes
//! what leads to the host before it joins, and no process of the three can be traced.
#![forbid(unsafe_code)]

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    fs,
    io::ErrorKind,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    rc::Rc,
};

use libcontainer::{
    notify_socket::NotifyListener,
    process::channel::{InitReceiver, MainSender},
};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use wasm_interp_runner_client::{SessionKeyring, descriptors};

use super::{
    adjust_oom_score,
    channels::{ChildEnds, RunnerEnds},
    error::{InitError, failed, of_libcontainer},
    finish, fork_stage,
    process::ProcessStep,
    stage,
};
use crate::{
    affinity::ExecAffinity,
    cgroup,
    executor::{Failures, InitProcess, InitTask},
    keyring,
    report::{Report, Reporter},
    rootfs::console,
    sys::{self, OnlyThread, Parent},
    target::{Target, Whereabouts},
    terminal::{self, Streams},
    user_namespace::become_root,
};

/// A process that is to be made in a running container.
pub(crate) struct FurtherProcess<'a> {
    pub(crate) id: &'a str,
    /// The fitted spec of the process.
    pub(crate) spec: &'a Spec,
    /// A directory of the container on the host.
    pub(crate) state: &'a Path,
    pub(crate) target: &'a Target,
    pub(crate) whereabouts: &'a Whereabouts,
    /// The directories of the container's cgroup.
    pub(crate) cgroup: &'a [PathBuf],
    pub(crate) affinity: ExecAffinity,
    /// The session keyring that the container was created with.
    pub(crate) keyring: SessionKeyring,
    pub(crate) program: InitProcess,
    /// If its streams are a terminal: where the master of one of the container's own goes. Taken by the process.
    pub(crate) console: Cell<Option<OwnedFd>>,
}

/// Makes the process, and returns once it runs.
pub(crate) fn join(process: &FurtherProcess<'_>) -> Result<Pid, InitError> {
    adjust_oom_score(process.spec)?;
    sys::forbid_dumps().map_err(failed("make this process untraceable"))?;
    let listener = started_listener(process.state)?;
    let (pid, ours) = fork_stage(|ours, theirs| join_and_fork(process, &listener, ours, theirs))?;
    finish(pid, ours, attend)?;
    Ok(pid)
}

/// Waits until the process runs its program.
fn attend(ours: &mut RunnerEnds) -> Result<(), InitError> {
    let reason = |ours: &mut RunnerEnds, otherwise: InitError| match ours.from_init.next() {
        Ok(Some(Report::Failed(reason))) => InitError::Failed(reason),
        _ => otherwise,
    };
    if let Err(error) = ours.receiver.wait_for_init_ready() {
        return Err(reason(ours, of_libcontainer(&error)));
    }
    if let Err(error) = ours.from_init.go_on() {
        return Err(reason(ours, failed("let the process go on")(error)));
    }
    // Its end of the socket is closed when it runs.
    match ours.from_init.next().map_err(failed("read a report"))? {
        None => Ok(()),
        Some(Report::Failed(reason)) => Err(InitError::Failed(reason)),
        Some(_) => Err(InitError::Ended),
    }
}

/// What libcontainer waits on until a container is started: one that has been. A further process waits for the
/// runner in another way, which also notices that the runner has ended.
fn started_listener(state: &Path) -> Result<NotifyListener, InitError> {
    let directory = state.join(format!("exec-{}", std::process::id()));
    let made = || {
        // A runner that had the same number was killed.
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed(format!("remove {}", directory.display()))(error));
            }
            _ => {}
        }
        fs::create_dir(&directory).map_err(failed(format!("make {}", directory.display())))?;
        let path = directory.join("start");
        let listener = NotifyListener::new(&path).map_err(|e| of_libcontainer(&e))?;
        // The path may be longer than an address.
        let here = fs::File::open(&directory).map_err(failed("open the state"))?;
        let short = format!("/proc/self/fd/{}/start", here.as_raw_fd());
        UnixStream::connect(short).map_err(failed("connect to its own socket"))?;
        Ok(listener)
    };
    let made = made();
    let removed = fs::remove_dir_all(&directory);
    let made = made?;
    removed.map_err(failed(format!("remove {}", directory.display())))?;
    Ok(made)
}

/// Joins the container and forks the process. Returns an exit code.
fn join_and_fork(
    process: &FurtherProcess<'_>,
    listener: &NotifyListener,
    ours: RunnerEnds,
    theirs: ChildEnds,
) -> i32 {
    let ChildEnds {
        stage: reporter,
        init,
        sender,
        answers,
    } = theirs;
    stage::reported(reporter, ours, |reporter| {
        let (highest, alone) = enter(process)?;
        stage::fork_without(reporter, &alone, Parent::ItsParent, || {
            let report = Rc::new(RefCell::new(init));
            let Err(reason) =
                become_process(process, listener, highest, &report, (sender, answers));
            // A report that cannot be sent means that the runner has ended.
            let _ = report.borrow_mut().report(&Report::Failed(reason));
            1
        })
        .map_err(|e| format!("cannot fork the process: {e}"))
    })
}

/// Joins the cgroup and the namespaces. Returns what had to be looked up in the host's /proc: the highest number
/// of an open descriptor, and that this process may fork.
fn enter(process: &FurtherProcess<'_>) -> Result<(RawFd, OnlyThread), String> {
    let affinity = |errno| format!("cannot set process.execCPUAffinity: {errno}");
    process.affinity.set_initial().map_err(affinity)?;
    cgroup::join(process.cgroup, &process.whereabouts.cgroup)
        .map_err(|e| format!("cannot join the container's cgroup: {e}"))?;
    process.affinity.set_final().map_err(affinity)?;
    let highest =
        sys::highest_descriptor().map_err(|e| format!("cannot list the descriptors: {e}"))?;
    let alone = OnlyThread::check().map_err(|e| format!("cannot fork the process: {e}"))?;
    let mut keep = process
        .program
        .keeps_while_joining(process.target.descriptor());
    if process.program.streams == Streams::Terminal {
        keep.push(descriptors::CONSOLE);
    }
    sys::close_files_except(&keep, highest)
        .map_err(|e| format!("cannot close the host's files: {e}"))?;
    process
        .target
        .enter(process.whereabouts)
        .map_err(|e| format!("cannot join the container's namespaces: {e}"))?;
    sys::close_inherited(process.target.descriptor());
    if process.whereabouts.has_user_namespace() {
        become_root()?;
    }
    Ok((highest, alone))
}

/// Gives a native program a terminal of the container's own, if it is to have one and the container has a devpts.
fn take_terminal(process: &FurtherProcess<'_>) -> Result<(), String> {
    // The process that the spec describes does not hold the socket.
    let console = process.console.take();
    let (Some(socket), InitTask::Program(_)) = (console, &process.program.task) else {
        return Ok(());
    };
    let failed = |e| format!("cannot use a terminal of the container's own: {e}");
    let Some(pty) = console::open().map_err(failed)? else {
        return Ok(());
    };
    let user = process.spec.process().as_ref();
    let user = user.map_or(0, |process| process.user().uid());
    terminal::take(pty, user, &socket).map_err(failed)
}

/// Becomes the process. Returns only a failure.
fn become_process(
    process: &FurtherProcess<'_>,
    listener: &NotifyListener,
    highest: RawFd,
    report: &Rc<RefCell<Reporter>>,
    (mut sender, mut answers): (MainSender, InitReceiver),
) -> Result<Infallible, String> {
    // A killed runner leaves no process, wherever this one waits: also in a volume that does not answer.
    sys::end_with_parent().map_err(|e| format!("cannot tie the process to the runner: {e}"))?;
    if process.keyring == SessionKeyring::Own {
        keyring::join_existing(&keyring::name(process.id))
            .map_err(|e| format!("cannot join the container's session keyring: {e}"))?;
    }
    sys::take_null_of_the_container()
        .map_err(|e| format!("cannot open /dev/null of the container: {e}"))?;
    take_terminal(process)?;
    let mut program = process.program.clone();
    program.highest = highest;
    program.failures = Failures::Runner(Rc::clone(report));
    let step = ProcessStep {
        id: process.id,
        spec: process.spec,
        rootfs: "/".into(),
        cgroup: "/".into(),
        listener: listener.clone(),
        program,
    };
    step.run(&mut sender, &mut answers)
}
