//! What containers of a pod share and what their hooks get, as under runc.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::native::{same, shell};
use crate::Outcome;
use crate::guests::IDLE;
use crate::world::{CtrContainer, OURS, RUNC, World};

const KINDS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// The identity of a namespace of a process.
fn namespace(pid: i32, kind: &str) -> Outcome<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}"))?;
    Ok(link.display().to_string())
}

/// Whose namespaces the container has: its own, the host's or those of another container.
fn owners(container: &CtrContainer<'_>, other: i32) -> Outcome<Vec<String>> {
    let own = i32::try_from(std::process::id())?;
    let pid = container.pid()?;
    ["pid", "ipc", "net", "uts", "mnt", "cgroup"]
        .into_iter()
        .map(|kind| {
            let found = namespace(pid, kind)?;
            let owner = if found == namespace(own, kind)? {
                "the host's"
            } else if found == namespace(other, kind)? {
                "another's"
            } else {
                "its own"
            };
            Ok(format!("{kind}: {owner}"))
        })
        .collect()
}

/// `hostNetwork`, `shareProcessNamespace` and what a pod's containers share anyway, for native programs and guests.
pub(super) fn namespaces_are_shared_as_under_runc(world: &World) -> Outcome {
    let sandbox = shell(world, OURS, "echo ready; exec busybox sleep 3600");
    sandbox.detach()?;
    let other = sandbox.pid()?;
    let of = |kind: &str, pid: i32| format!("{kind}:/proc/{pid}/ns/{kind}");
    let (pid, ipc) = (of("pid", other), of("ipc", other));
    let network = format!("network:/proc/{other}/ns/net");
    let cases: [&[&str]; 3] = [
        &[],
        &["--net-host"],
        &["--with-ns", &pid, "--with-ns", &ipc, "--with-ns", &network],
    ];
    for options in cases {
        let mut seen = Vec::new();
        for container in [
            shell(world, RUNC, "echo ready; exec busybox sleep 3600"),
            shell(world, OURS, "echo ready; exec busybox sleep 3600"),
            world.container(IDLE).runtime(OURS),
        ] {
            let container = container.options(options);
            container.detach()?;
            container.wait_for_output("ready")?;
            let mut answers = owners(&container, other)?;
            // Also without a pid namespace of its own, it is ended as a whole.
            let listed = container.task(&["ps"], &[])?.expect_code(0)?.stdout;
            answers.push(format!("processes: {}", listed.lines().count()));
            container.end_by("SIGKILL", 137)?;
            container.remove()?;
            seen.push(answers);
        }
        if let Some(ours) = seen[1..].iter().find(|ours| **ours != seen[0]) {
            return Err(
                format!("{options:?}: under runc {:?}, under ours {ours:?}", seen[0]).into(),
            );
        }
    }
    sandbox.remove()
}

/// In another's pid namespace the kernel does not end a container's processes with its first.
pub(super) fn nothing_is_left_of_a_container_in_anothers_pid_namespace(world: &World) -> Outcome {
    same("processes left", |runtime| {
        let sandbox = shell(world, runtime, "echo ready; exec busybox sleep 3600");
        sandbox.detach()?;
        sandbox.wait_for_output("ready")?;
        let shared = format!("pid:/proc/{}/ns/pid", sandbox.pid()?);
        let leaves = "busybox sleep 3600 & echo ready; exec busybox sleep 3600";
        let container = shell(world, runtime, leaves).options(&["--with-ns", &shared]);
        container.detach()?;
        container.wait_for_output("ready")?;
        let pid = container.pid()?;
        // Both processes of it, and the one that is there already.
        let count = || -> Outcome<usize> {
            let listed = fs::read_dir("/proc")?.filter_map(|entry| {
                let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
                namespace(pid, "pid").ok()
            });
            let wanted = namespace(sandbox.pid()?, "pid")?;
            Ok(listed.filter(|found| *found == wanted).count())
        };
        let before = count()?;
        container.end_by("SIGKILL", 137)?;
        container.remove()?;
        let answers = vec![
            before.to_string(),
            count()?.to_string(),
            Path::new(&format!("/proc/{pid}")).exists().to_string(),
        ];
        sandbox.remove()?;
        Ok(answers)
    })
}

/// A root file system with a shell, and a spec of a container in it whose hooks note their order and their input.
pub(super) fn with_hooks(world: &World) -> Outcome<(std::path::PathBuf, Value)> {
    let folder = world.folder("hooks")?;
    let root = folder.join("rootfs");
    for sub in ["bin", "dev", "etc", "proc", "tmp"] {
        fs::create_dir_all(root.join(sub))?;
    }
    for name in ["busybox", "sh"] {
        fs::copy(world.busybox(), root.join("bin").join(name))?;
    }
    let notes = folder.join("notes");
    fs::create_dir(&notes)?;
    fs::set_permissions(&notes, fs::Permissions::from_mode(0o777))?;
    let notes = notes.display().to_string();
    let hook = |kind: &str| {
        // Shells of the host and of the container: with what both have built in.
        let script = format!(
            "read -r state; echo \"$state\" >>{notes}/{kind}; echo {kind} >>{notes}/order; \
             echo \"$0 $HOOK\" >>{notes}/{kind}"
        );
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script, "name"], "env": ["HOOK=set"] }])
    };
    let hooks: BTreeMap<_, _> = KINDS.iter().map(|kind| (*kind, hook(kind))).collect();
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let spec = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 }, "env": ["PATH=/bin"], "cwd": "/",
            "args": ["sh", "-c", "echo ready; exec busybox sleep 3600"],
            "noNewPrivileges": true,
        },
        "root": { "path": root },
        "annotations": { "an": "annotation" },
        "hooks": hooks,
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"] },
            { "destination": notes, "type": "bind", "source": notes, "options": ["bind", "rw"] },
        ],
        "linux": {
            "cgroupsPath": format!("/{}/{name}", world.name()),
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
            ],
        },
    });
    Ok((folder, spec))
}

/// Each kind once and in order, with the state on its standard input. Three things differ on purpose: the bundle is
/// that of the runner, whose spec is the whole one too; a poststart hook is told "running", as the runtime spec says
/// (under runc "created"); a poststop hook is told the number that the process had.
pub(super) fn hooks_get_what_they_get_under_runc(world: &World) -> Outcome {
    same("hooks", |runtime| {
        let (folder, spec) = with_hooks(world)?;
        let file = folder.join("spec.json");
        fs::write(&file, spec.to_string())?;
        let container = world.container_of_spec(&file).runtime(runtime);
        container.detach()?;
        container.wait_for_output("ready")?;
        let pid = container.pid()?;
        container.end_by("SIGKILL", 137)?;
        container.remove()?;
        let notes = folder.join("notes");
        let mut answers: Vec<String> = fs::read_to_string(notes.join("order"))?
            .lines()
            .map(str::to_owned)
            .collect();
        // Poststart runs beside what the container's own process does, under both.
        let others = answers.iter().filter(|kind| *kind != "poststart");
        if !others.eq(KINDS.iter().filter(|kind| **kind != "poststart")) {
            return Err(format!("the order of the hooks under {runtime}: {answers:?}").into());
        }
        answers.sort();
        for kind in KINDS {
            let text = fs::read_to_string(notes.join(kind))?;
            let (state, rest) = text.split_once('\n').unwrap_or((&text, ""));
            let state: Value = serde_json::from_str(state)
                .map_err(|error| format!("{kind} got {state:?}: {error}"))?;
            let process = match state["pid"].as_i64() {
                _ if kind == "poststop" => "any",
                Some(1) => "1",
                Some(number) if number == i64::from(pid) => "the init process",
                _ => "another",
            };
            let status = match (kind, state["status"].as_str().unwrap_or_default()) {
                ("poststart", "created" | "running") => "begun",
                (_, status) => status,
            };
            answers.push(format!(
                "{kind}: {status}, pid {process}, id {}, bundle {}, annotations {}, version {}; \
                 {rest}",
                state["id"] == container.id.as_str(),
                state["bundle"].is_string(),
                state["annotations"],
                state["ociVersion"].is_string(),
            ));
        }
        Ok(answers)
    })
}
