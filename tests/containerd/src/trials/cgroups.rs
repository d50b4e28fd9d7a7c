//! Limits, metrics, the OOM killer and the end, with a cgroup of either driver's form.
//!
//! `make test-v2` runs them on version 2, where systemd makes the scope of the second form.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Outcome;
use crate::command::{Running, wait_for};
use crate::guests::{FILL, IDLE, LOOP};
use crate::leftovers::slice;
use crate::world::{CtrContainer, World};

const LIMIT: u64 = 32 << 20;

/// The forms of `cgroupsPath` for a container, as the kubelet's drivers cgroupfs and systemd give them.
fn forms(world: &World, id: &str) -> [String; 2] {
    let run = world.name();
    [
        format!("/{run}/form-{id}"),
        format!("{}:{run}:form-{id}", slice(run)),
    ]
}

/// A container of `image` for each form of path, with a limit of memory.
fn containers<'world>(world: &'world World, image: &str) -> Vec<CtrContainer<'world>> {
    (0..2)
        .map(|form| {
            let container = world.container(image);
            let path = forms(world, &container.id)[form].clone();
            container.options(&[
                "--cgroup",
                &path,
                "--memory-limit",
                &LIMIT.to_string(),
                "--cpus",
                "0.5",
            ])
        })
        .collect()
}

/// The directory of the process's cgroup in the hierarchy of a controller, on either version.
pub(super) fn cgroup(pid: i32, controller: &str) -> Outcome<PathBuf> {
    let memberships = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let found = memberships.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        if controllers.is_empty() {
            return unified().then(|| format!("/sys/fs/cgroup{path}"));
        }
        let mut names = controllers.split(',');
        names
            .any(|name| name == controller)
            .then(|| format!("/sys/fs/cgroup/{controllers}{path}"))
    });
    found
        .map(PathBuf::from)
        .ok_or_else(|| format!("no cgroup of {controller} in {memberships}").into())
}

/// Whether this machine has version 2 alone.
pub(super) fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

pub(super) fn limits_hold_and_metrics_report_them(world: &World) -> Outcome {
    for container in containers(world, LOOP) {
        container.detach()?;
        container.wait_for_output("ready")?;
        let cgroup = cgroup(container.pid()?, "memory")?;
        let file = cgroup.join(if unified() {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        });
        let limit = fs::read_to_string(&file)?;
        if limit.trim() != LIMIT.to_string() {
            return Err(format!("{} says {limit}", file.display()).into());
        }
        // The loop is throttled sooner or later.
        wait_for("metrics of a container that is throttled", || {
            let metrics = metrics(&container)?;
            let (usage, limit, tasks, cpu, throttled) = if unified() {
                (
                    &metrics["memory"]["usage"],
                    &metrics["memory"]["usage_limit"],
                    &metrics["pids"]["current"],
                    &metrics["cpu"]["usage_usec"],
                    &metrics["cpu"]["nr_throttled"],
                )
            } else {
                (
                    &metrics["memory"]["usage"]["usage"],
                    &metrics["memory"]["usage"]["limit"],
                    &metrics["pids"]["current"],
                    &metrics["cpu"]["usage"]["total"],
                    &metrics["cpu"]["throttling"]["throttled_periods"],
                )
            };
            if limit.as_u64() != Some(LIMIT) || tasks != 1 || usage.as_u64().is_none_or(|u| u == 0)
            {
                return Err(format!("metrics do not fit: {metrics}").into());
            }
            let above_zero = |value: &Value| value.as_u64().is_some_and(|v| v > 0);
            Ok((above_zero(cpu) && above_zero(throttled)).then_some(()))
        })?;
        container.remove()?;
    }
    Ok(())
}

/// What `ctr task metrics` reports.
pub(super) fn metrics(container: &CtrContainer<'_>) -> Outcome<Value> {
    let finished = container
        .task(&["metrics", "--format", "json"], &[])?
        .expect_code(0)?;
    Ok(serde_json::from_str(&finished.stdout)?)
}

pub(super) fn an_out_of_memory_kill_is_reported(world: &World) -> Outcome {
    for container in containers(world, FILL) {
        let listener = Running::start(world.daemon().ctr_command(&["events"]), None)?;
        // Until the listener is known to listen: its first sight of any event.
        wait_for("the first event", || {
            for seen in ["seen=1", "seen=2"] {
                world
                    .daemon()
                    .ctr(&["image", "label", FILL, seen])?
                    .expect_code(0)?;
            }
            Ok(listener.stdout()?.contains("/images/update").then_some(()))
        })?;
        container.detach()?;
        container.wait_for_status("STOPPED")?;
        wait_for("the event of the OOM killer", || {
            let told = listener
                .stdout()?
                .lines()
                .any(|line| line.contains("/tasks/oom") && line.contains(&container.id));
            Ok(told.then_some(()))
        })?;
        container.delete_expecting(137)?;
        container.remove()?;
        listener.end()?;
    }
    Ok(())
}

pub(super) fn a_killed_container_frees_its_id_and_cgroup(world: &World) -> Outcome {
    for container in containers(world, IDLE) {
        for _ in 0..2 {
            container.detach()?;
            container.wait_for_output("ready")?;
            let cgroup = cgroup(container.pid()?, "memory")?;
            container
                .task(&["kill", "--all", "--signal", "SIGKILL"], &[])?
                .expect_code(0)?;
            container.wait_for_status("STOPPED")?;
            container.delete_expecting(137)?;
            if cgroup.exists() {
                return Err(format!("{} is left", cgroup.display()).into());
            }
            container.remove()?;
        }
    }
    Ok(())
}
