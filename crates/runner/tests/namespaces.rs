//! Namespaces, session keyring, hooks and seccomp agents of real containers. As root, on this
//! machine's kernel.

#[path = "support/keyring.rs"]
mod keyring;
// Other tests use the rest of it.
#[allow(dead_code)]
#[path = "support/mod.rs"]
mod support;

use std::{
    fs,
    io::IoSliceMut,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{MetadataExt, PermissionsExt, chown},
            net::UnixListener,
        },
    },
    path::Path,
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};
use support::TestContainer;

fn shell(script: &str) -> TestContainer {
    TestContainer::native(&["sh", "-c", script])
}

/// What the container's spec says of the namespace `kind`, which is added if it says nothing.
fn namespace<'a>(container: &'a mut TestContainer, kind: &str) -> &'a mut Value {
    let list = container.spec["linux"]["namespaces"]
        .as_array_mut()
        .expect("namespaces");
    if !list.iter().any(|namespace| namespace["type"] == kind) {
        list.push(json!({ "type": kind }));
    }
    list.iter_mut()
        .find(|namespace| namespace["type"] == kind)
        .expect("just added")
}

/// Gives the container a user namespace with two mappings, and its root user the root file system.
fn map(container: &mut TestContainer) {
    namespace(container, "user");
    let maps = json!([
        { "containerID": 0, "hostID": 100_000, "size": 1000 },
        { "containerID": 1000, "hostID": 300_000, "size": 10 },
    ]);
    container.spec["linux"]["uidMappings"] = maps.clone();
    container.spec["linux"]["gidMappings"] = maps;
    let root = container.root();
    let mut rest = vec![root.clone()];
    while let Some(path) = rest.pop() {
        chown(&path, Some(100_000), Some(100_000)).expect("chown");
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("read");
            rest.extend(entries.map(|entry| entry.expect("entry").path()));
        }
    }
    // As containerd does with the folders of its bundles.
    for path in root.ancestors().skip(1).take(2) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o711)).expect("chmod");
    }
}

/// A program of a container talks to itself by the loopback, also where it has a user namespace.
#[test]
fn loopback_of_a_new_network_is_up() {
    for has_user_namespace in [false, true] {
        let mut container = shell("busybox ifconfig lo");
        if has_user_namespace {
            map(&mut container);
        }
        let mounts = container.spec["mounts"].as_array_mut().expect("mounts");
        mounts.push(json!({ "destination": "/proc", "type": "proc", "source": "proc" }));
        let (code, output) = container.run();
        assert_eq!(code, 0, "{output}");
        assert!(output.contains("UP LOOPBACK RUNNING"), "{output}");
        assert!(output.contains("inet addr:127.0.0.1"), "{output}");
    }
}

/// Guards "could not find PATH": libcontainer looked for newuidmap.
#[test]
fn a_user_namespace_may_have_several_mappings() {
    let secret = tempfile::tempdir().expect("directory");
    fs::create_dir(secret.path().join("open")).expect("make");
    fs::write(secret.path().join("open/file"), "text\n").expect("write");
    let mut container = shell(
        "busybox cat /proc/self/uid_map /proc/self/gid_map; busybox id -u; \
         busybox stat -c '%u %g' /bin; busybox cat /mnt/file; echo ok >/dev/null && echo null; \
         ulimit -n; busybox stat -c %u /sys/fs/cgroup",
    );
    map(&mut container);
    container.spec["process"]["user"] = json!({ "uid": 1001, "gid": 1001 });
    container.spec["process"]["rlimits"] =
        json!([{ "type": "RLIMIT_NOFILE", "soft": 64, "hard": 64 }]);
    let mounts = container.spec["mounts"].as_array_mut().expect("mounts");
    // Only the host's root can reach its source.
    mounts.push(
        json!({ "destination": "/mnt", "source": secret.path().join("open"),
                        "options": ["rbind", "ro"] }),
    );
    mounts.push(
        json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                        "options": ["ro"] }),
    );
    let pid = container.create().expect("create");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    assert!(status.contains("Uid:\t300001\t300001"), "{status}");
    container.start().expect("start");
    assert_eq!(container.wait(), 0, "{}", container.output());
    let lines: Vec<String> = container
        .output()
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let maps = ["0 100000 1000", "1000 300000 10"];
    assert_eq!(lines[..2], maps);
    assert_eq!(lines[2..4], maps);
    assert_eq!(lines[4..9], ["1001", "0 0", "text", "null", "64"]);
    container.delete(false).expect("delete");
    container.assert_nothing_left();
}

/// The supplementary groups of a created container, as the host numbers them.
fn host_groups(container: &TestContainer) -> Vec<u32> {
    let status = format!("/proc/{}/status", container.process());
    let status = fs::read_to_string(status).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    let groups = line.expect("groups").split_whitespace();
    groups.map(|group| group.parse().expect("number")).collect()
}

/// Guards against a container that is in groups of the host: the spec has no mappings of a namespace that
/// exists.
#[test]
fn groups_and_stdio_follow_the_mappings_of_a_joined_user_namespace() {
    let mut first = shell("");
    map(&mut first);
    let pid = first.create().expect("create");
    let joining = || {
        let mut container = shell("");
        map(&mut container);
        *namespace(&mut container, "user") =
            json!({ "type": "user", "path": format!("/proc/{pid}/ns/user") });
        let linux = container.spec["linux"].as_object_mut().expect("linux");
        linux.remove("uidMappings");
        linux.remove("gidMappings");
        container
    };
    let mut second = joining();
    second.spec["process"]["user"] = json!({ "uid": 1001, "gid": 0, "additionalGids": [5, 1002] });
    let stdin = second.with_stdin();
    second.create().expect("create");
    assert_eq!(host_groups(&second), [100_005, 300_002]);
    assert_eq!(
        fs::File::from(stdin).metadata().expect("pipe").uid(),
        300_001
    );

    let mut third = joining();
    third.spec["process"]["user"]["additionalGids"] = json!([5, 1010]);
    let error = third.create().expect_err("no such group").to_string();
    assert!(
        error.contains("additionalGids: cannot join the group 1010"),
        "{error}"
    );
    third.assert_nothing_left();
    for container in [second, first] {
        container.delete(true).expect("delete");
        container.wait();
        container.assert_nothing_left();
    }
}

#[test]
fn group_without_a_mapping_is_refused() {
    let mut container = shell("");
    map(&mut container);
    container.spec["process"]["user"]["additionalGids"] = json!([1010]);
    let error = container.create().expect_err("no such group").to_string();
    assert!(error.contains("the group 1010"), "{error}");
    container.assert_nothing_left();
}

#[test]
fn empty_mappings_without_a_user_namespace_change_no_group() {
    let mut container = shell("");
    container.spec["process"]["user"]["additionalGids"] = json!([1002, 1003]);
    container.spec["linux"]["uidMappings"] = json!([]);
    container.spec["linux"]["gidMappings"] = json!([]);
    container.create().expect("create");
    assert_eq!(host_groups(&container), [1002, 1003]);
    container.delete(true).expect("delete");
    container.wait();
    container.assert_nothing_left();
}

#[test]
fn idmap_without_mappings_of_the_mount_uses_those_of_the_container() {
    let host = tempfile::tempdir().expect("directory");
    fs::write(host.path().join("file"), "").expect("write");
    let mut container = shell("busybox stat -c '%u %g' /mnt/file");
    map(&mut container);
    let mounts = container.spec["mounts"].as_array_mut().expect("mounts");
    mounts.push(json!({ "destination": "/mnt", "source": host.path(),
                        "options": ["bind", "idmap"] }));
    assert_eq!(container.run(), (0, "0 0\n".to_owned()));
}

#[test]
fn user_namespace_without_mappings_fails_the_create_and_the_error_says_why() {
    let mut container = shell("");
    namespace(&mut container, "user");
    let error = container.create().expect_err("no mappings").to_string();
    assert!(error.contains("without mappings"), "{error}");
    container.assert_nothing_left();
}

/// Guards critest's case: libcontainer looked its own number up among the host's processes.
#[test]
fn cgroup_is_mounted_in_a_shared_pid_namespace_for_any_pid() {
    // The host gives its numbers in order and may come to this one meanwhile: then another one is tried.
    let of_the_host_alone = (0..10).find_map(|_| {
        let number = far_pid();
        let output = output_with_cgroups_as(number);
        let (own, hierarchies) = output.trim().split_once('\n').expect("two lines");
        assert!(
            hierarchies.parse::<u32>().expect("a number") > 0,
            "{output}"
        );
        (!Path::new(&format!("/proc/{own}")).exists()).then_some(())
    });
    assert!(
        of_the_host_alone.is_some(),
        "each was a number of the host too"
    );
}

/// A number that no process of the host has, nor gets soon: half way round from the last that it gave.
fn far_pid() -> i32 {
    let number = |path: &str| -> i32 {
        let text = fs::read_to_string(path).expect(path);
        text.trim().parse().expect("a number")
    };
    let most = number("/proc/sys/kernel/pid_max");
    let start = (number("/proc/sys/kernel/ns_last_pid") + most / 2) % most;
    // Below 300 the kernel gives none a second time.
    let free = |number: &i32| {
        (301..most - 4).contains(number)
            && !(*number..number + 4).any(|n| Path::new(&format!("/proc/{n}")).exists())
    };
    (start..most)
        .chain(301..start)
        .find(free)
        .expect("numbers that the host does not use")
}

/// The number of a container's process in a pid namespace that gives it this one or a little more, and how many
/// hierarchies of cgroups it sees.
fn output_with_cgroups_as(number: i32) -> String {
    let mut first = shell(&format!(
        "echo {} >/proc/sys/kernel/ns_last_pid && echo ready; while :; do :; done",
        number - 1
    ));
    let caps = ["CAP_SYS_ADMIN"];
    first.spec["process"]["capabilities"] =
        json!({ "bounding": caps, "effective": caps, "permitted": caps });
    let pid = first.create().expect("create");
    first.start().expect("start");
    first.wait_for_output("ready");
    let mut second = shell("echo $$; busybox ls /sys/fs/cgroup | busybox wc -l");
    namespace(&mut second, "pid")["path"] = json!(format!("/proc/{pid}/ns/pid"));
    let mounts = second.spec["mounts"].as_array_mut().expect("mounts");
    mounts.push(
        json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                        "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }),
    );
    second.create().expect("create");
    second.start().expect("start");
    assert_eq!(second.wait(), 0, "{}", second.output());
    second.output()
}

#[test]
fn a_time_namespace_has_the_clocks_of_its_spec() {
    let mut container = shell("busybox cat /proc/uptime; busybox readlink /proc/self/ns/time");
    namespace(&mut container, "time");
    container.spec["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1_000_000_000 } });
    let (code, output) = container.run();
    assert_eq!(code, 0, "{output}");
    let (uptime, namespace) = output.split_once('\n').expect("two lines");
    let seconds = uptime.split('.').next().expect("seconds");
    assert!(
        seconds.parse::<u64>().expect("a number") > 1_000_000_000,
        "{uptime}"
    );
    let own = fs::read_link("/proc/self/ns/time").expect("our namespace");
    assert_ne!(Path::new(namespace.trim()), own);
}

#[test]
fn a_cgroup_namespace_shows_the_containers_cgroup_as_the_root() {
    let mut container = shell("busybox cat /proc/self/cgroup; busybox ls /sys/fs/cgroup/pids");
    namespace(&mut container, "cgroup");
    let mounts = container.spec["mounts"].as_array_mut().expect("mounts");
    mounts.push(
        json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                        "options": ["ro"] }),
    );
    let id = container.id.clone();
    let (_, output) = container.run();
    assert!(output.contains(":/\n"), "{output}");
    assert!(!output.contains(&id), "{output}");
    if !support::cgroups::unified() {
        assert!(output.contains("cgroup.procs"), "{output}");
    }
}

#[test]
fn impossible_namespace_fails_the_create_and_the_error_says_why() {
    type SpecChange = fn(&mut TestContainer);
    let cases: [(SpecChange, &str); 3] = [
        (
            |container| {
                namespace(container, "ipc")["path"] = json!("/proc/self/ns/nowhere");
            },
            "cannot open the ipc namespace /proc/self/ns/nowhere",
        ),
        (
            |container| {
                namespace(container, "ipc")["path"] = json!("/proc/self/ns/net");
            },
            "cannot join the ipc namespace /proc/self/ns/net",
        ),
        (
            |container| {
                let list = container.spec["linux"]["namespaces"].as_array_mut();
                list.expect("namespaces").push(json!({ "type": "pid" }));
            },
            "twice",
        ),
    ];
    for (change, words) in cases {
        let mut container = shell("");
        change(&mut container);
        let error = container.create().expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
        container.assert_nothing_left();
    }
    let mut container = shell("");
    let list = container.spec["linux"]["namespaces"]
        .as_array_mut()
        .expect("namespaces");
    list.retain(|namespace| namespace["type"] != "mount");
    let error = container
        .create()
        .expect_err("no mount namespace")
        .to_string();
    assert!(error.contains("no mount namespace"), "{error}");
    container.assert_nothing_left();
}

/// This test's own program in a container, with the host's libraries, printing its keyring.
fn asking_for_its_keyring() -> TestContainer {
    let mut container =
        TestContainer::native(&["/test", "--exact", "probe", "--ignored", "--nocapture"]);
    let program = std::env::current_exe().expect("this program");
    let mounts = container.spec["mounts"].as_array_mut().expect("mounts");
    let libraries = ["/lib", "/lib64", "/usr/lib"].map(Path::new);
    for path in libraries
        .into_iter()
        .chain([program.as_path()])
        .filter(|path| path.exists())
    {
        let destination = if path.is_dir() {
            path
        } else {
            Path::new("/test")
        };
        mounts.push(json!({ "destination": destination, "source": path,
                            "options": ["rbind", "ro"] }));
    }
    container
}

#[test]
#[ignore = "run by another test, in a container"]
fn probe() {
    println!("keyring {}", keyring::session());
}

/// As runc names and protects it.
#[test]
fn each_container_has_a_session_keyring_of_its_own() {
    let ours = keyring::session();
    let mut seen = vec![ours.split(';').next().expect("serial").to_owned()];
    for mapped in [false, false, true] {
        let mut container = asking_for_its_keyring();
        if mapped {
            map(&mut container);
        }
        let id = container.id.clone();
        let (code, output) = container.run();
        assert_eq!(code, 0, "{output}");
        let line = output
            .lines()
            .find_map(|line| line.split_once("keyring ").map(|(_, rest)| rest))
            .unwrap_or_else(|| panic!("no keyring: {output}"));
        let fields: Vec<_> = line.split(';').collect();
        let [serial, kind, uid, _, permissions, name] = fields[..] else {
            panic!("{line}");
        };
        assert_eq!((kind, uid), ("keyring", "0"), "{line}");
        assert_eq!(name, format!("_ses.{id}"));
        // What the kernel gives, 3f130000, and the right to search it: of its owner, or in a user
        // namespace of everybody.
        let expected = if mapped { "3f130008" } else { "3f1b0000" };
        assert_eq!(permissions, expected, "{line}");
        assert!(
            !seen.iter().any(|other| other == serial),
            "{seen:?}: {line}"
        );
        seen.push(serial.to_owned());
    }
}

/// Guests and sandboxes have no way to ask, but the same kernel.
#[test]
fn sandbox_has_a_session_keyring_of_its_own() {
    let mut container = TestContainer::pause();
    container.create().expect("create");
    let keys = fs::read_to_string("/proc/keys").expect("keys");
    assert!(keys.contains(&format!("_ses.{}:", container.id)), "{keys}");
}

#[test]
fn each_hook_runs_once_at_its_point_with_the_containers_state() {
    let folder = tempfile::tempdir().expect("folder");
    let log = folder.path().join("log");
    let mut container = shell("echo program >>/hooks/log");
    let hook = |name: &str, log: &Path| {
        // No `$(…)`: the container has no more than busybox.
        let script = format!("busybox cat >/dev/null; echo {name} >>{}", log.display());
        let (path, script) = if name == "startContainer" {
            ("/bin/sh", script)
        } else {
            let state = folder.path().join(name);
            (
                "/bin/sh",
                format!("cat >{}; echo {name} >>{}", state.display(), log.display()),
            )
        };
        json!([{ "path": path, "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] }])
    };
    container.spec["hooks"] = json!({
        "prestart": hook("prestart", &log),
        "createRuntime": hook("createRuntime", &log),
        "createContainer": hook("createContainer", &log),
        "startContainer": hook("startContainer", Path::new("/hooks/log")),
        "poststart": hook("poststart", &log),
        "poststop": hook("poststop", &log),
    });
    let mounts = container.spec["mounts"].as_array_mut().expect("mounts");
    mounts.push(json!({ "destination": "/hooks", "source": folder.path(), "options": ["bind"] }));
    let root = container.root();
    let id = container.id.clone();
    let pid = container.create().expect("create");
    let created = fs::read_to_string(&log).expect("log");
    assert_eq!(created, "prestart\ncreateRuntime\ncreateContainer\n");
    container.start().expect("start");
    assert_eq!(container.wait(), 0, "{}", container.output());
    container.delete(false).expect("delete");
    let mut all: Vec<String> = fs::read_to_string(&log)
        .expect("log")
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(all.pop().as_deref(), Some("poststop"));
    // The program does not wait for the host's hook.
    let mut rest = all.split_off(3);
    let program = rest
        .iter()
        .position(|line| line == "program")
        .expect("program");
    let inside = rest
        .iter()
        .position(|line| line == "startContainer")
        .expect("hook");
    assert!(inside < program, "{rest:?}");
    rest.sort();
    assert_eq!(rest, ["poststart", "program", "startContainer"]);
    for (name, status, number) in [
        ("createRuntime", "creating", Some(pid)),
        ("createContainer", "creating", Some(1)),
    ] {
        let state = fs::read_to_string(folder.path().join(name)).expect(name);
        let state: Value = serde_json::from_str(&state).expect(name);
        assert_eq!(state["id"], id.as_str());
        // A hook may read the spec there, and then sees all of it.
        let bundle = root.parent().expect("the bundle").canonicalize();
        assert_eq!(state["bundle"], json!(bundle.expect("its path")));
        assert_eq!(state["status"], status, "{name}");
        assert_eq!(state["pid"], json!(number), "{name}");
    }
}

#[test]
fn failed_hook_fails_the_create_and_the_error_names_the_hook() {
    for kind in ["createRuntime", "createContainer"] {
        let mut container = shell("");
        container.spec["hooks"] =
            json!({ kind: [{ "path": "/bin/sh", "args": ["sh", "-c", "exit 7"] }] });
        let error = container.create().expect_err(kind).to_string();
        assert!(error.contains(&format!("the {kind} hook")), "{error}");
        assert!(error.contains('7'), "{error}");
        container.assert_nothing_left();
    }
}

#[test]
fn a_seccomp_agent_gets_the_notifications() {
    for (no_new_privileges, notified) in [
        (true, "personality"),
        (false, "personality"),
        // Guards against a create that hangs: the agent cannot answer before it has the descriptor.
        (true, "readlinkat"),
        (false, "readlinkat"),
    ] {
        agent_gets_the_notifications(no_new_privileges, notified);
    }
}

fn agent_gets_the_notifications(no_new_privileges: bool, notified: &str) {
    let folder = tempfile::tempdir().expect("folder");
    let socket = folder.path().join("agent");
    let agent = UnixListener::bind(&socket).expect("bind");
    let mut container = shell("echo ran");
    container.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": socket,
        "listenerMetadata": "for the agent",
        "syscalls": [{ "names": [notified], "action": "SCMP_ACT_NOTIFY" }],
    });
    container.spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
    let id = container.id.clone();
    let pid = container.create().expect("create");
    let (stream, _) = agent.accept().expect("accept");
    let mut text = vec![0; 65536];
    let mut space = nix::cmsg_space!([i32; 1]);
    let (length, fds) = {
        let mut parts = [IoSliceMut::new(&mut text)];
        let message = recvmsg::<()>(
            stream.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::empty(),
        )
        .expect("receive");
        let fds = message
            .cmsgs()
            .expect("messages")
            .map(|message| match message {
                ControlMessageOwned::ScmRights(fds) => fds.len(),
                _ => 0,
            });
        (message.bytes, fds.sum::<usize>())
    };
    assert_eq!(fds, 1);
    let state: Value = serde_json::from_slice(&text[..length]).expect("JSON");
    assert_eq!(state["pid"], json!(pid));
    assert_eq!(state["state"]["id"], json!(id));
    assert_eq!(state["state"]["bundle"], json!(container.root().parent()));
    assert_eq!(state["metadata"], "for the agent");
    container.start().expect("start");
    assert_eq!(container.wait(), 0);
    assert_eq!(container.output(), "ran\n");
}
