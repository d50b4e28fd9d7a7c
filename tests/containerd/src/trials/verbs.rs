//! Pause, resumption, update and metrics: the same requests to runc's shim and to ours, and what the kernel
//! shows of them. And what they mean for a guest.

use std::collections::BTreeMap;
use std::fs;

use containerd_shim_protos::api::UpdateTaskRequest;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use serde_json::{Value, json};

use super::cgroups::{cgroup, metrics, unified};
use super::lifecycle::{topics, wait_for_listener};
use super::native::shell;
use crate::Outcome;
use crate::command::{Running, wait_for};
use crate::guests::{IDLE, PYTHON};
use crate::world::{CtrContainer, OURS, RUNC, World};

/// A native program under either runtime, and a guest under ours.
fn three(world: &World) -> [CtrContainer<'_>; 3] {
    let native = |runtime| shell(world, runtime, "echo ready; exec /bin/busybox sleep 3600");
    [
        native(RUNC),
        native(OURS),
        world.container(IDLE).runtime(OURS),
    ]
}

fn is_frozen(pid: i32) -> Outcome<bool> {
    let directory = cgroup(pid, "freezer")?;
    Ok(if unified() {
        fs::read_to_string(directory.join("cgroup.events"))?.contains("frozen 1")
    } else {
        fs::read_to_string(directory.join("freezer.state"))? == "FROZEN\n"
    })
}

fn expect(what: &str, holds: bool) -> Outcome {
    if holds {
        return Ok(());
    }
    Err(format!("it does not hold: {what}").into())
}

pub(super) fn pause_and_resume_match_runc(world: &World) -> Outcome {
    for container in three(world) {
        let listener = Running::start(world.daemon().ctr_command(&["events"]), None)?;
        wait_for_listener(world, &listener, IDLE)?;
        container.detach()?;
        container.wait_for_output("ready")?;
        let pid = container.pid()?;
        let refused = |verb: &str, words: &str| {
            container
                .task(&[verb], &[])?
                .expect_failure()?
                .expect_stderr(&[words])
        };
        refused("resume", "cannot resume a running process")?;
        for _ in 0..2 {
            container.task(&["pause"], &[])?.expect_code(0)?;
            container.wait_for_status("PAUSED")?;
            expect("its processes are frozen", is_frozen(pid)?)?;
            refused("pause", "cannot pause a paused container")?;
            container.task(&["resume"], &[])?.expect_code(0)?;
            container.wait_for_status("RUNNING")?;
            expect("its processes go on", !is_frozen(pid)?)?;
        }
        container.task(&["pause"], &[])?.expect_code(0)?;
        container.signal("SIGKILL")?;
        container.wait_for_status("STOPPED")?;
        refused("pause", "cannot pause a stopped container")?;
        container.delete_expecting(137)?;
        let seen = || -> Outcome<Vec<String>> { Ok(topics(&listener.stdout()?, &container.id)) };
        let table = "create start paused resumed paused resumed paused exit".split(' ');
        let table: Vec<_> = table.map(|topic| format!("/tasks/{topic}")).collect();
        wait_for("the events of its life", || {
            Ok((seen()?.len() >= table.len()).then_some(()))
        })?;
        expect("events come in order", seen()?.starts_with(&table))?;
        listener.end()?;
        container.remove()?;
    }
    Ok(())
}

fn update(container: &CtrContainer<'_>, resources: &Value) -> Outcome<Result<(), String>> {
    let request = UpdateTaskRequest {
        id: container.id.clone(),
        resources: MessageField::some(Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".to_owned(),
            value: resources.to_string().into_bytes(),
            ..Default::default()
        }),
        ..Default::default()
    };
    Ok(container.shim_api("Update", &request)?.map(drop))
}

/// The limits that the kernel has for the container.
fn limits(container: &CtrContainer<'_>) -> Outcome<BTreeMap<&'static str, String>> {
    let files: &[(&str, &str)] = if unified() {
        &[
            ("memory", "memory.max"),
            ("memory", "memory.low"),
            ("cpu", "cpu.max"),
            ("cpu", "cpu.weight"),
            ("pids", "pids.max"),
            ("cpuset", "cpuset.cpus"),
        ]
    } else {
        &[
            ("memory", "memory.limit_in_bytes"),
            ("memory", "memory.memsw.limit_in_bytes"),
            ("memory", "memory.soft_limit_in_bytes"),
            ("cpu", "cpu.cfs_quota_us"),
            ("cpu", "cpu.cfs_period_us"),
            ("cpu", "cpu.shares"),
            ("pids", "pids.max"),
            ("cpuset", "cpuset.cpus"),
        ]
    };
    let pid = container.pid()?;
    let mut limits = BTreeMap::new();
    for &(controller, file) in files {
        let path = cgroup(pid, controller)?.join(file);
        // Not every kernel counts swap.
        if let Ok(text) = fs::read_to_string(path) {
            // Without a quota its period means nothing.
            let text = if text.starts_with("max ") {
                "max"
            } else {
                text.trim()
            };
            limits.insert(file, text.to_owned());
        }
    }
    Ok(limits)
}

pub(super) fn update_matches_runc(world: &World) -> Outcome {
    const MIB: i64 = 1 << 20;
    let mut answers = Vec::new();
    for container in three(world) {
        container.detach()?;
        container.wait_for_output("ready")?;
        let mut seen = vec![limits(&container)?];
        for resources in [
            json!({"memory": {"limit": 64 * MIB, "reservation": 32 * MIB}, "pids": {"limit": 77}}),
            json!({"memory": {"limit": 128 * MIB, "swap": 256 * MIB}}),
            json!({"memory": {"limit": 48 * MIB, "swap": 96 * MIB}, "cpu": {"shares": 512}}),
            json!({"cpu": {"quota": 30000, "period": 60000, "cpus": "0"}}),
            json!({"cpu": {"quota": 15000}}),
            json!({"memory": {"limit": 0}, "cpu": {"shares": 0, "cpus": ""}}),
            json!({"memory": {"limit": -1}, "cpu": {"quota": -1}}),
        ] {
            update(&container, &resources)?
                .map_err(|words| format!("cannot update to {resources}: {words}"))?;
            seen.push(limits(&container)?);
        }
        // Shares as a weight: runc's formula has changed between its versions.
        let weights = seen
            .iter_mut()
            .filter_map(|limits| limits.remove("cpu.weight"));
        let weights: Vec<_> = weights.collect();
        if container.runtime == OURS && unified() {
            let expected = ["100", "100", "100", "59", "59", "59", "59", "59"];
            expect(&format!("the weights of {weights:?}"), weights == expected)?;
        }
        let before = limits(&container)?;
        let refused = json!({"memory": {"limit": 99 * MIB}, "cpu": {"cpus": "4096"}});
        expect("no such processor", update(&container, &refused)?.is_err())?;
        // runc sets the memory of version 2 before the processors, and leaves it: its old configuration is the new one by then.
        let after = limits(&container)?;
        if container.runtime == OURS && after != before {
            return Err(format!("a failed update changes {before:#?} to {after:#?}").into());
        }
        container.signal("SIGKILL")?;
        container.wait_for_status("STOPPED")?;
        let words = update(&container, &json!({"pids": {"limit": 5}}))?
            .err()
            .ok_or("a stopped container cannot be updated")?;
        // CRI reads NOT_FOUND as the end of the task, and drops a resize.
        let said = words.contains("cannot update a stopped container");
        expect(
            &format!("it says why: {words}"),
            said && !words.contains("not found"),
        )?;
        container.delete_expecting(137)?;
        container.remove()?;
        answers.push(seen);
    }
    let (runc, ours) = (&answers[0], &answers[1..]);
    match ours.iter().find(|ours| *ours != runc) {
        None => Ok(()),
        Some(ours) => Err(format!("under runc {runc:#?}, under ours {ours:#?}").into()),
    }
}

/// Asks for memory whenever the file `ask` appears, and says what came of it.
const ASKS: &str = r#"
import os, time
print("ready", flush=True)
while True:
    while not os.path.exists("/ctl/ask"):
        time.sleep(0.01)
    size = int(open("/ctl/ask").read())
    os.remove("/ctl/ask")
    if not size:
        break
    try:
        held = bytearray(size)
        print("held", size >> 20, flush=True)
    except MemoryError:
        print("MemoryError", size >> 20, flush=True)
"#;

/// A container with this memory limit in bytes that runs [`ASKS`], and what has it hold so many bytes.
fn asking(
    world: &World,
    limit: u64,
) -> Outcome<(CtrContainer<'_>, impl Fn(u64) -> Outcome + use<>)> {
    let folder = world.folder("ctl")?;
    let container = world
        .container(PYTHON)
        .options(&["--memory-limit", &limit.to_string()])
        .mount(&folder, "/ctl", "rbind:rw")
        .arguments(&["python", "-c", ASKS]);
    container.detach()?;
    container.wait_for_output("ready")?;
    let ask = move |bytes: u64| -> Outcome {
        fs::write(folder.join("new"), bytes.to_string())?;
        Ok(fs::rename(folder.join("new"), folder.join("ask"))?)
    };
    Ok((container, ask))
}

/// The guest's own ceiling follows, so that it hears of the limit before the kernel ends it.
pub(super) fn memory_error_comes_at_the_updated_limit(world: &World) -> Outcome {
    const MIB: u64 = 1 << 20;
    // From 128 MiB up and from 512 MiB down: 200 MiB fit into 512 alone.
    for (from, to, first, then) in [
        (128, 512, Some("MemoryError 200"), "held 200"),
        (512, 128, None, "MemoryError 200"),
    ] {
        let (container, ask) = asking(world, from * MIB)?;
        if let Some(answer) = first {
            ask(200 * MIB)?;
            container.wait_for_output(answer)?;
        }
        update(&container, &json!({"memory": {"limit": to * MIB}}))??;
        ask(200 * MIB)?;
        container.wait_for_output(then)?;
        ask(0)?;
        container.wait_for_status("STOPPED")?;
        container.delete_expecting(0)?;
        container.remove()?;
    }
    Ok(())
}

/// Takes memory bit by bit, every byte of it, until there is none.
const TAKES_ALL: &str = r#"
held = []
try:
    while True:
        held.append(bytearray(1 << 20))
except MemoryError:
    taken, held = len(held), None
    print("MemoryError after", taken)
"#;

/// The script and an exec share the room, and neither is killed for the other.
pub(super) fn two_guests_share_the_memory_of_their_container(world: &World) -> Outcome {
    const MIB: u64 = 1 << 20;
    let (container, ask) = asking(world, 216 * MIB)?;
    // The interpreter keeps it.
    ask(60 * MIB)?;
    container.wait_for_output("held 60")?;
    let exec = |id: &str| -> Outcome<u64> {
        let verb = ["exec", "--exec-id", id];
        let finished = container.task(&verb, &["python", "-c", TAKES_ALL])?;
        let said = finished.expect_code(0)?.stdout;
        let taken = said.trim().strip_prefix("MemoryError after ");
        Ok(taken.ok_or("no MemoryError")?.parse()?)
    };
    // Of 192 MiB. Both interpreters have some 20 more than what they hold.
    let beside = exec("beside")?;
    expect(
        &format!("{beside} MiB beside 60"),
        (40..=112).contains(&beside),
    )?;
    let again = exec("again")?;
    expect(&format!("{again} MiB again"), again.abs_diff(beside) < 4)?;
    // What they had is free again. The first 60 MiB are in use until this has its memory.
    ask(70 * MIB)?;
    container.wait_for_output("held 70")?;
    let rest = exec("rest")?;
    expect(&format!("{rest} MiB beside 130"), rest < beside)?;
    container.wait_for_status("RUNNING")?;
    ask(0)?;
    container.wait_for_status("STOPPED")?;
    container.delete_expecting(0)?;
    container.remove()
}

/// Writes, reads and computes, then says `ready` and stays. It has huge pages if the kernel gives them unasked, as runc's
/// own process has in the container.
const LOAD: &str = "busybox dd if=/dev/zero of=/tmp/f bs=8M count=1 conv=fsync 2>/dev/null; \
     busybox cat /tmp/f >/dev/null; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; \
     echo ready; exec busybox sleep 3600";

/// The paths of all fields in the message, with a 0 in place of each number of a list.
fn fields(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                fields(value, &format!("{path}.{name}"), found);
            }
        }
        Value::Array(entries) => {
            for value in entries {
                fields(value, &format!("{path}[]"), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

pub(super) fn metrics_have_the_fields_of_runcs(world: &World) -> Outcome {
    let under = |runtime| -> Outcome<(Vec<String>, Value)> {
        let container =
            shell(world, runtime, LOAD).options(&["--memory-limit", "67108864", "--cpus", "0.5"]);
        container.detach()?;
        container.wait_for_output("ready")?;
        let value = metrics(&container)?;
        container.remove()?;
        let mut found = Vec::new();
        fields(&value, "", &mut found);
        found.sort();
        found.dedup();
        Ok((found, value))
    };
    // A value of 0 is left out, and some are 0 by chance: the same load is tried again.
    wait_for("the same fields under both", || {
        let ((runc, _), (ours, value)) = (under(RUNC)?, under(OURS)?);
        let missing: Vec<_> = runc.iter().filter(|field| !ours.contains(field)).collect();
        if !missing.is_empty() {
            println!("ours lacks {missing:?} of runc's metrics");
            return Ok(None);
        }
        let (total, limit) = if unified() {
            (&value["cpu"]["usage_usec"], &value["memory"]["usage_limit"])
        } else {
            (
                &value["cpu"]["usage"]["total"],
                &value["memory"]["usage"]["limit"],
            )
        };
        expect(
            "it has computed",
            total.as_u64().is_some_and(|time| time > 0),
        )?;
        expect("the limit is in bytes", limit.as_u64() == Some(64 << 20))?;
        Ok(Some(()))
    })
}
