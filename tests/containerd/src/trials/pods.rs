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

/// `hostPID`, `hostIPC`, `hostNetwork` and `shareProcessNamespace`, for native programs and for guests.
pub(super) fn namespaces_are_shared_as_under_runc(world: &World) -> Outcome {
    let sandbox = shell(world, OURS, "echo ready; exec busybox sleep 3600");
    sandbox.detach()?;
    let other = sandbox.pid()?;
    let of = |kind: &str, pid: i32| format!("{kind}:/proc/{pid}/ns/{kind}");
    let (host_pid, host_ipc) = (of("pid", 1), of("ipc", 1));
    let (pid, ipc) = (of("pid", other), of("ipc", other));
    let network = format!("network:/proc/{other}/ns/net");
    let cases: [&[&str]; 5] = [
        &[],
        &["--net-host"],
        &["--with-ns", &host_pid],
        &["--with-ns", &host_ipc],
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
fn with_hooks(world: &World, guest: bool) -> Outcome<(std::path::PathBuf, Value)> {
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
    let args = if guest {
        world.with_files(IDLE, |files| {
            fs::copy(files.join("bin/guest.wasm"), root.join("bin/guest.wasm"))?;
            Ok(())
        })?;
        json!(["/bin/guest.wasm"])
    } else {
        json!(["sh", "-c", "echo ready; exec busybox sleep 3600"])
    };
    let hook = |kind: &str| {
        // Shells of the host and of the container: with what both have built in.
        let script = format!(
            "read -r state; echo \"$state\" >>{notes}/{kind}; echo {kind} >>{notes}/order; \
             echo \"$0 $HOOK $PWD\" >>{notes}/{kind}"
        );
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script, "name"], "env": ["HOOK=set"] }])
    };
    let hooks: BTreeMap<_, _> = KINDS.iter().map(|kind| (*kind, hook(kind))).collect();
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let spec = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 }, "args": args, "env": ["PATH=/bin"], "cwd": "/",
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

/// Each kind once and in order, with the state on its standard input.
pub(super) fn hooks_get_what_they_get_under_runc(world: &World) -> Outcome {
    let run = |runtime: &'static str, guest: bool| -> Outcome<Vec<String>> {
        let (folder, spec) = with_hooks(world, guest)?;
        let file = folder.join("spec.json");
        fs::write(&file, spec.to_string())?;
        let container = world.container_of_spec(&file).runtime(runtime);
        container.detach()?;
        container.wait_for_output("ready")?;
        let pid = container.pid()?;
        let bundle = world.daemon().bundle(&container.id).canonicalize()?;
        container.end_by("SIGKILL", 137)?;
        container.remove()?;
        let notes = folder.join("notes");
        let mut answers: Vec<String> = fs::read_to_string(notes.join("order"))?
            .lines()
            .map(str::to_owned)
            .collect();
        for kind in KINDS {
            let text = fs::read_to_string(notes.join(kind))?;
            let (state, rest) = text.split_once('\n').unwrap_or((&text, ""));
            let state: Value = serde_json::from_str(state)
                .map_err(|error| format!("{kind} got {state:?}: {error}"))?;
            let process = match state["pid"].as_i64() {
                None | Some(0) => "none",
                Some(1) => "1",
                Some(number) if number == i64::from(pid) => "the init process",
                Some(_) => "another",
            };
            answers.push(format!(
                "{kind}: {} pid {process}, id {}, bundle {}, annotations {}, version {}; {}",
                state["status"],
                state["id"] == container.id.as_str(),
                state["bundle"]
                    .as_str()
                    .is_some_and(|path| Path::new(path) == bundle),
                state["annotations"],
                state["ociVersion"].is_string(),
                rest.replace(&*bundle.to_string_lossy(), "BUNDLE"),
            ));
        }
        Ok(answers)
    };
    same("hooks", |runtime| run(runtime, false))?;
    let (native, guest) = (run(OURS, false)?, run(OURS, true)?);
    if native != guest {
        return Err(format!("of a native program {native:#?}, of a guest {guest:#?}").into());
    }
    Ok(())
}
