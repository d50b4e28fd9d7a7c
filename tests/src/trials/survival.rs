//! The death of those who watch: containerd, and the shim.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Outcome;
use crate::command::wait_for;
use crate::guests::{IDLE, PYTHON};
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
