//! Containers whose containerd or shim dies.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Outcome;
use crate::command::wait_for;
use crate::guests::{IDLE, NATIVE, PYTHON};
use crate::world::World;

/// Guards against EPIPE in the guest and lost exits when containerd is upgraded under it.
pub(super) fn a_container_outlives_containerd(world: &World) -> Outcome {
    let folder = world.folder("outlives")?;
    let script = r#"
import os, sys, time
number = 0
while not os.path.exists("/control/end"):
    print("tick", number, flush=True)
    number += 1
    time.sleep(0.1)
sys.exit(7)
"#;
    let container = world
        .container(PYTHON)
        .mount(&folder, "/control", "rbind:ro")
        .arguments(&["python", "-c", script]);
    container.detach()?;
    container.wait_for_output("tick 1\n")?;
    let pid = container.pid()?;

    world.daemon().kill()?;
    let seen = container.output()?.lines().count();
    wait_for("output while containerd is down", || {
        Ok((container.output()?.lines().count() > seen + 3).then_some(()))
    })?;
    world.daemon().launch()?;
    container.wait_for_status("RUNNING")?;
    if container.pid()? != pid {
        return Err("the task has another process than before".into());
    }
    let seen = container.output()?.lines().count();
    wait_for("output after containerd's return", || {
        Ok((container.output()?.lines().count() > seen + 3).then_some(()))
    })?;

    fs::write(folder.join("end"), "")?;
    container.wait_for_status("STOPPED")?;
    container.delete_expecting(7)?;
    container.remove()
}

pub(super) fn a_killed_shim_leaves_its_id_free(world: &World) -> Outcome {
    let mut container = world.container(IDLE);
    container.detach()?;
    container.wait_for_output("ready")?;
    let guest = container.pid()?;
    kill(Pid::from_raw(container.shim()?), Signal::SIGKILL)?;
    wait_for("the guest to end after its shim", || {
        Ok((!std::path::Path::new("/proc")
            .join(guest.to_string())
            .exists())
        .then_some(()))
    })?;
    // containerd forgets the task by itself or keeps it as stopped; its removal succeeds either way.
    wait_for("the task to be gone or stopped", || {
        let status = container.status()?;
        Ok(status
            .is_none_or(|status| status == "STOPPED" || status == "UNKNOWN")
            .then_some(()))
    })?;
    container.remove()?;

    let id = std::mem::take(&mut container.id);
    let mut again = world.container(IDLE);
    again.id = id;
    again.detach()?;
    again.wait_for_output("ready")?;
    again.remove()
}

/// A pod as CRI makes it: one shim, whose sandbox the others name. containerd 2.3 watches the sandbox's connection alone.
pub(super) fn a_killed_shim_takes_its_pod_along(world: &World) -> Outcome {
    let sandbox = world.container(IDLE);
    let id = sandbox.id.clone();
    let annotation = format!("io.kubernetes.cri.sandbox-id={id}");
    let mut member = vec!["--annotation", annotation.as_str()];
    let kind = "io.kubernetes.cri.container-type=sandbox";
    let sandbox = sandbox.options(&[&member[..], &["--annotation", kind]].concat());
    if is_recorded_as_a_sandbox(world, &id)? {
        member.extend(["--sandbox", &id]);
    }
    let native = ["sh", "-c", "busybox sleep 3600 & echo ready; wait"];
    let members = [
        world.container(IDLE).options(&member),
        world.container(NATIVE).options(&member).arguments(&native),
    ];
    sandbox.detach()?;
    sandbox.wait_for_status("RUNNING")?;
    for container in &members {
        container.detach()?;
        container.wait_for_output("ready")?;
        if container.shim().is_ok() {
            return Err(format!("container {} has a shim of its own", container.id).into());
        }
    }
    let pod: Vec<_> = std::iter::once(&sandbox).chain(&members).collect();
    let processes = pod
        .iter()
        .map(|container| container.pid())
        .collect::<Outcome<Vec<_>>>()?;
    kill(Pid::from_raw(sandbox.shim()?), Signal::SIGKILL)?;
    for (container, process) in pod.iter().zip(processes) {
        let folder = std::path::Path::new("/proc").join(process.to_string());
        wait_for(
            &format!("container {} to end after its shim", container.id),
            || Ok((!folder.exists()).then_some(())),
        )?;
    }
    // containerd 2.3 keeps the bundles of the others until it starts again.
    world.daemon().stop()?;
    world.daemon().launch()?;
    pod.iter().try_for_each(|container| container.remove())
}

/// Has containerd know `id` as a sandbox, so that containers can join it; whether this version can. The sandbox's own
/// API is not asked for: as with CRI, its shim is that of the container of the same id.
pub(super) fn is_recorded_as_a_sandbox(world: &World, id: &str) -> Outcome<bool> {
    let spec = world.folder("sandbox")?.join("config.json");
    fs::write(&spec, "{}")?;
    let no_shim = ["--runtime", "io.containerd.there-is-none.v1"];
    let spec = spec.display().to_string();
    let ctr = |arguments: &[&str]| world.daemon().ctr(arguments);
    // It is recorded before a shim is looked for.
    ctr(&[&["sandboxes", "create"], &no_shim[..], &[&spec, id]].concat())?.expect_failure()?;
    let known = ctr(&["sandboxes", "list"])?;
    Ok(known.code == 0 && known.stdout.lines().any(|line| line.starts_with(id)))
}
