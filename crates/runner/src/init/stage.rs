//! The process between the runner and the init process: some namespaces and limits hold for children
//! only, and the runner itself must stay outside.
//!
//! It ends as soon as it has forked.
#![forbid(unsafe_code)]

use std::{fs::File, io::Write};

use libcgroups::common::CgroupManager;
use nix::{
    sched::{CloneFlags, setns},
    unistd::{Pid, getpid},
};
use oci_spec::runtime::LinuxNamespaceType;
use wasm_interp_workload::with_causes;

use super::{
    channels::{ChildEnds, RunnerEnds},
    process,
    ready::ReadyContainer,
};
use crate::{
    cgroup,
    namespaces::IfForbidden,
    report::{Report, Reporter},
    rootfs::cgroup_mount::OwnCgroup,
    sys::{self, OnlyThread, Parent},
    user_namespace::become_root,
};

/// Forks the init process and reports it. Returns the exit code.
pub(super) fn run(ready: &mut ReadyContainer<'_>, ours: RunnerEnds, theirs: ChildEnds) -> i32 {
    let ChildEnds {
        stage,
        init,
        sender,
        answers,
    } = theirs;
    let ends = process::InitEnds {
        report: init,
        sender,
        answers,
    };
    reported(stage, ours, |stage| fork(ready, ends, stage))
}

/// Lets go of the runner's `ours`, has `fork` fork the process, and reports it. Returns the exit code.
pub(super) fn reported(
    stage: Reporter,
    ours: RunnerEnds,
    fork: impl FnOnce(&mut Option<Reporter>) -> Result<Pid, String>,
) -> i32 {
    let mut stage = Some(stage);
    let forked = ours
        .close()
        .map_err(|e| with_causes(&e))
        .and_then(|()| fork(&mut stage));
    let report = match forked {
        Ok(pid) => Report::Forked(pid.as_raw()),
        Err(reason) => Report::Failed(reason),
    };
    // A report that cannot be sent means that the runner has ended.
    i32::from(stage.is_none_or(|mut stage| stage.report(&report).is_err()))
}

fn fork(
    ready: &mut ReadyContainer<'_>,
    ends: process::InitEnds,
    stage: &mut Option<Reporter>,
) -> Result<Pid, String> {
    let own = join_cgroup(ready)?;
    let text = |error: &dyn std::error::Error| with_causes(error);
    // The host's root opens the file. It is written to when the namespace exists.
    let clocks = ready.time_offsets.take().map(|offsets| {
        let file = File::options()
            .write(true)
            .open("/proc/self/timens_offsets")
            .map_err(|e| format!("cannot open the offsets of a time namespace: {e}"))?;
        Ok::<_, String>((file, offsets))
    });
    let clocks = clocks.transpose()?;

    let namespaces = &mut ready.namespaces;
    if let Some(user) = &ready.user_namespace {
        // Some may belong to the host's user namespace, others to the one that comes next.
        namespaces.join(IfForbidden::Skip).map_err(|e| text(&e))?;
        setns(user, CloneFlags::CLONE_NEWUSER)
            .map_err(|e| format!("cannot join the user namespace: {e}"))?;
        become_root()?;
    }
    namespaces.join(IfForbidden::Fail).map_err(|e| text(&e))?;
    namespaces
        .enter(LinuxNamespaceType::Time)
        .map_err(|e| text(&e))?;
    if let Some((mut file, offsets)) = clocks {
        file.write_all(offsets.as_bytes()).map_err(|e| {
            format!("cannot set the clocks of the time namespace to {offsets:?}: {e}")
        })?;
    }
    namespaces
        .enter(LinuxNamespaceType::Pid)
        .map_err(|e| text(&e))?;
    OnlyThread::check()
        .and_then(|alone| {
            fork_without(stage, &alone, Parent::ItsParent, || {
                process::run(ready, &own, ends)
            })
        })
        .map_err(|e| format!("cannot fork the init process: {e}"))
}

/// Forks a process that has no copy of `stage`, so that the runner sees the end of the stream if this
/// process dies before it reports.
pub(super) fn fork_without(
    stage: &mut Option<Reporter>,
    alone: &OnlyThread,
    parent: Parent,
    body: impl FnOnce() -> i32,
) -> std::io::Result<Pid> {
    sys::fork_alone(alone, parent, || {
        drop(stage.take());
        body()
    })
}

/// Joins the container's cgroup, so that the init process is in it from its first moment on.
fn join_cgroup(ready: &ReadyContainer<'_>) -> Result<OwnCgroup, String> {
    let request = &ready.request;
    let failed = |act: &str, error: &dyn std::error::Error| {
        let path = request.cgroup.path.display();
        format!("cannot {act} the cgroup {path}: {}", with_causes(error))
    };
    let manager = request
        .cgroup
        .manager(request.id)
        .map_err(|e| failed("find", &e))?;
    let pid = getpid().as_raw();
    // A pid of libcgroups' version of nix, which is not ours.
    let mut container = ready.container.clone();
    let task = container.set_pid(pid).pid();
    if let Some(task) = task {
        manager.add_task(task).map_err(|e| failed("join", &e))?;
    }
    let resources = request
        .spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.resources().as_ref());
    if let Some(resources) = resources {
        manager
            .apply(&cgroup::controller_options(resources))
            .map_err(|e| failed("limit", &e))?;
    }
    Ok(OwnCgroup {
        version: request.version,
        memberships: cgroup::memberships(pid).map_err(|e| failed("look at", &e))?,
        namespace: ready.namespaces.has(LinuxNamespaceType::Cgroup),
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use nix::sys::wait::{WaitStatus, waitpid};

    use super::*;
    use crate::report;

    /// With a copy of the socket, an init process that waits for the runner would keep the runner waiting for
    /// the report of a stage that was killed.
    #[test]
    fn init_process_does_not_inherit_the_stages_socket() {
        let (_runner, stage) = report::pair().expect("sockets");
        let socket = format!("/proc/self/fd/{}", stage.as_raw_fd());
        // Other threads of the test may hold locks of the C library's allocator, so nothing is
        // allocated: such a path is short enough for the stack.
        let alone = OnlyThread::check().expect("fork");
        let init = fork_without(&mut Some(stage), &alone, Parent::ThisProcess, || {
            i32::from(std::fs::symlink_metadata(&socket).is_ok())
        })
        .expect("fork");
        let end = waitpid(init, None).expect("wait");
        assert_eq!(end, WaitStatus::Exited(init, 0), "it is open there");
    }
}
