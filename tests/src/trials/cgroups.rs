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
use crate::world::{Container, World};

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
fn containers<'world>(world: &'world World, image: &str) -> Vec<Container<'world>> {
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

/// Where the memory controller has the process, on either version.
fn memory_cgroup(pid: i32) -> Outcome<PathBuf> {
    let memberships = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    memberships
        .lines()
        .find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            match rest.split_once(':')? {
                ("memory", path) => Some(format!("/sys/fs/cgroup/memory{path}")),
                ("", path) if unified() => Some(format!("/sys/fs/cgroup{path}")),
                _ => None,
            }
        })
        .map(PathBuf::from)
        .ok_or_else(|| format!("no memory cgroup in {memberships}").into())
}

fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

pub(super) fn limits_hold_and_metrics_tell_of_them(world: &World) -> Outcome {
    for container in containers(world, LOOP) {
        container.detach()?;
        container.wait_for_output("ready")?;
        let cgroup = memory_cgroup(container.pid()?)?;
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

fn metrics(container: &Container<'_>) -> Outcome<Value> {
    let finished = container
        .task(&["metrics", "--format", "json"], &[])?
        .expect_code(0)?;
    Ok(serde_json::from_str(&finished.stdout)?)
}

pub(super) fn the_oom_killer_is_told_of(world: &World) -> Outcome {
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

pub(super) fn what_runs_is_killed_and_its_place_is_free_again(world: &World) -> Outcome {
    for container in containers(world, IDLE) {
        for _ in 0..2 {
            container.detach()?;
            container.wait_for_output("ready")?;
            let cgroup = memory_cgroup(container.pid()?)?;
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
