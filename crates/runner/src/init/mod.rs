//! Makes the container's init process, and further processes in it ([`mod@join`]).
//!
//! Called by `container::create` and `container::exec`. Three processes take part:
//! the runner, which is the host's root, writes mappings and runs the host's hooks;
//! the [`stage`] in between, which joins the cgroup and the namespaces that only a child can be in;
//! and the init [`process`] itself, which makes the container from inside, and then runs libcontainer's
//! process step. See decision 0021.
#![forbid(unsafe_code)]

mod channels;
mod error;
mod join;
mod process;
mod ready;
mod stage;

use std::{collections::HashMap, fs::File, os::fd::AsRawFd};

use libcontainer::{
    container::{Container, ContainerStatus},
    hooks::run_hooks,
    network::network_device::dev_change_net_namespace,
    process::{channel::ChannelError, intel_rdt::setup_intel_rdt},
};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::Pid,
};
use oci_spec::runtime::{Hook, Spec};
use wasm_interp_workload::with_causes;

use self::{
    channels::{ChildEnds, RunnerEnds, connect},
    error::{InitError, failed, of_libcontainer},
    ready::ReadyContainer,
};
pub(crate) use self::{
    join::{FurtherProcess, join},
    ready::NewContainer,
};
use crate::{
    report::Report,
    sys::{self, Parent},
};

/// Makes the container and its init process, which then waits for `start`.
pub(crate) fn create(request: NewContainer<'_>) -> Result<Pid, InitError> {
    let ready = ReadyContainer::new(request)?;
    adjust_oom_score(ready.request.spec)?;
    // Processes in a namespace that we join must not be able to trace this one.
    sys::forbid_dumps().map_err(failed("make this process untraceable"))?;
    let (pid, mut container) = spawn(ready)?;
    let saved = container
        .set_status(ContainerStatus::Created)
        .set_creator(0)
        .save();
    saved.map_err(|error| {
        end(pid);
        of_libcontainer(&error)
    })?;
    Ok(pid)
}

/// Every process that is forked from here on inherits the score.
fn adjust_oom_score(spec: &Spec) -> Result<(), InitError> {
    let score = spec
        .process()
        .as_ref()
        .and_then(oci_spec::runtime::Process::oom_score_adj);
    let Some(score) = score else { return Ok(()) };
    std::fs::write("/proc/self/oom_score_adj", score.to_string())
        .map_err(failed(format!("write {score} to /proc/self/oom_score_adj")))
}

fn spawn(mut ready: ReadyContainer<'_>) -> Result<(Pid, Container), InitError> {
    let (pid, ours) = fork_stage(|ours, theirs| stage::run(&mut ready, ours, theirs))?;
    let container = finish(pid, ours, |ours| attend(pid, &ready, ours))?;
    Ok((pid, container))
}

/// Forks the process in between, which runs `stage`, and waits until it has forked the process and ended.
fn fork_stage(
    stage: impl FnOnce(RunnerEnds, ChildEnds) -> i32,
) -> Result<(Pid, RunnerEnds), InitError> {
    let (ours, theirs) = connect()?;
    let (mut ours, mut theirs) = (Some(ours), Some(theirs));
    // The new process takes the runner's ends from its copy of these, and closes them.
    let between = sys::fork(Parent::ThisProcess, || match (ours.take(), theirs.take()) {
        (Some(ours), Some(theirs)) => stage(ours, theirs),
        _ => 1,
    })
    .map_err(failed("fork"))?;
    let (Some(mut ours), Some(theirs)) = (ours, theirs) else {
        return Err(InitError::Ended);
    };
    theirs.close().map_err(|e| of_libcontainer(&e))?;

    let forked = match ours.from_stage.next().map_err(failed("read a report"))? {
        Some(Report::Forked(pid)) => Ok(Pid::from_raw(pid)),
        Some(Report::Failed(reason)) => Err(InitError::Failed(reason)),
        _ => Err(InitError::Ended),
    };
    waitpid(between, None).map_err(|errno| failed("wait for a child")(errno.into()))?;
    Ok((forked?, ours))
}

/// Has `attend` talk to the process. One that cannot be finished is ended.
fn finish<T>(
    pid: Pid,
    mut ours: RunnerEnds,
    attend: impl FnOnce(&mut RunnerEnds) -> Result<T, InitError>,
) -> Result<T, InitError> {
    let finished = attend(&mut ours);
    if finished.is_err() {
        end(pid);
    }
    let finished = finished?;
    ours.close().map_err(|e| of_libcontainer(&e))?;
    Ok(finished)
}

/// Does what only the host's root can do for the init process, until that waits for `start`.
fn attend(
    pid: Pid,
    ready: &ReadyContainer<'_>,
    ours: &mut RunnerEnds,
) -> Result<Container, InitError> {
    let spec = ready.request.spec;
    let mut container = ready.container.clone();
    container.set_pid(pid.as_raw());
    loop {
        let report = ours.from_init.next().map_err(failed("read a report"))?;
        match report {
            Some(Report::HooksDue) => {
                if let Some(hooks) = spec.hooks() {
                    // Prestart is the old name of createRuntime.
                    run("prestart", hooks.prestart().as_ref(), &container)?;
                    run("createRuntime", hooks.create_runtime().as_ref(), &container)?;
                }
            }
            Some(Report::ContainerMade) => {}
            Some(Report::Failed(reason)) => return Err(InitError::Failed(reason)),
            Some(Report::Forked(_)) | None => return Err(InitError::Ended),
        }
        ours.from_init.go_on().map_err(failed("answer a report"))?;
        if report == Some(Report::ContainerMade) {
            break;
        }
    }
    answer(pid, ready, ours).map_err(|error| {
        // If the init process reports a reason, that is the better one, and its last report.
        end(pid);
        match ours.from_init.next() {
            Ok(Some(Report::Failed(reason))) => InitError::Failed(reason),
            _ => error,
        }
    })?;
    let linux = spec.linux().as_ref();
    if let Some(rdt) = linux.and_then(|linux| linux.intel_rdt().as_ref())
        && let Some(pid) = container.pid()
    {
        let (directory, monitoring) =
            setup_intel_rdt(Some(ready.request.id), &pid, rdt).map_err(|e| of_libcontainer(&e))?;
        container
            .set_intel_rdt_dir(directory)
            .set_intel_rdt_monitoring_dir(monitoring);
    }
    Ok(container)
}

/// Answers libcontainer's process step.
fn answer(pid: Pid, ready: &ReadyContainer<'_>, ours: &mut RunnerEnds) -> Result<(), InitError> {
    let Some(linux) = ready.request.spec.linux() else {
        return Ok(());
    };
    let broken = |error: ChannelError| of_libcontainer(&error);
    if let Some(devices) = linux.net_devices().as_ref().filter(|d| !d.is_empty()) {
        ours.receiver
            .wait_for_network_setup_ready()
            .map_err(broken)?;
        let namespace = File::open(format!("/proc/{pid}/ns/net"))
            .map_err(failed("open the network namespace of the container"))?;
        let moved = devices.iter().map(|(name, device)| {
            let addresses = dev_change_net_namespace(name, namespace.as_raw_fd(), device);
            addresses.map(|addresses| (name.clone(), addresses))
        });
        let moved = moved
            .collect::<Result<HashMap<_, _>, _>>()
            .map_err(|e| of_libcontainer(&e))?;
        ours.answers.move_network_device(moved).map_err(broken)?;
    }
    ours.receiver.wait_for_init_ready().map_err(broken)
}

/// Runs the host's hooks of one kind, until one fails.
fn run(
    kind: &'static str,
    hooks: Option<&Vec<Hook>>,
    container: &Container,
) -> Result<(), InitError> {
    run_hooks(hooks, Some(&container.state), None, None, None).map_err(|error| InitError::Hook {
        kind,
        reason: with_causes(&error),
    })
}

/// Ends an init process that cannot become a container's.
fn end(pid: Pid) {
    // Both fail only if it has ended and was waited for.
    let _ = kill(pid, Signal::SIGKILL);
    let _ = waitpid(pid, None);
}
