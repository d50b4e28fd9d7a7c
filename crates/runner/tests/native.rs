//! The runner with native programs: as root, on this machine's kernel and cgroups.
//!
//! Holds that a program gets what its spec says, as under runc, and nothing of ours.

// Other tests use the rest of it.
#[allow(dead_code)]
#[path = "support/mod.rs"]
mod support;

use std::{
    fs,
    io::Write,
    os::{
        fd::AsRawFd,
        unix::fs::{PermissionsExt, symlink},
    },
    path::Path,
};

use nix::sys::signal::Signal;
use serde_json::json;
use support::{TestContainer, status};
use wasm_interp_runner_client::EXIT_START_FAILED;
use wasm_interp_test_support::executables;

fn shell(script: &str) -> TestContainer {
    TestContainer::native(&["sh", "-c", script])
}

#[test]
fn exit_code_of_a_native_program_is_passed_on() {
    for code in [0, 3, 125, 143, 255] {
        let (status, output) = shell(&format!("echo hello; exit {code}")).run();
        assert_eq!((status, output.as_str()), (code, "hello\n"));
    }
}

#[test]
fn native_program_starts_with_default_signals_no_capabilities_and_its_environment() {
    let mut container = shell(
        "busybox cat /proc/self/status; busybox tr '\\0' '\\n' </proc/1/environ; pwd; echo $$",
    );
    let native = container.program();
    native.env.push(("A".into(), "1".into()));
    let (code, output) = container.run();
    assert_eq!(code, 0, "{output}");
    for set in ["SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(status(&output, set), "0000000000000000", "{set}");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(&output, set), "0000000000000000", "{set}");
    }
    let (_, rest) = output.split_once("HOME=/\n").expect("the environment");
    assert_eq!(rest, "PATH=/bin\nA=1\n/\n1\n");
}

#[test]
fn native_program_gets_the_user_limits_and_privileges_of_its_spec() {
    let mut container = shell("");
    container.program().argv[2] =
        "busybox cat /proc/self/status; ulimit -n; umask; busybox cat /proc/self/oom_score_adj; \
         busybox mkdir /tmp/no; echo $?"
            .into();
    let some = ["CAP_NET_BIND_SERVICE", "CAP_CHOWN"];
    container.spec["process"]["user"] =
        json!({ "uid": 1000, "gid": 1001, "additionalGids": [1002, 1003], "umask": 0o027 });
    container.spec["process"]["capabilities"] = json!({
        "bounding": some, "effective": some, "permitted": some,
        "inheritable": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"],
    });
    container.spec["process"]["noNewPrivileges"] = json!(true);
    container.spec["process"]["rlimits"] =
        json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
    container.spec["process"]["oomScoreAdj"] = json!(500);
    container.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }],
    });
    let (_, output) = container.run();
    assert_eq!(status(&output, "Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(status(&output, "Gid"), "1001\t1001\t1001\t1001");
    assert_eq!(status(&output, "Groups"), "1002 1003");
    assert_eq!(status(&output, "NoNewPrivs"), "1");
    assert_eq!(status(&output, "Seccomp"), "2");
    assert_eq!(status(&output, "CapBnd"), "0000000000000401");
    // What execve leaves a user other than root.
    assert_eq!(status(&output, "CapEff"), "0000000000000001");
    assert!(output.contains("100\n0027\n500\n"), "{output}");
    assert!(output.contains("Operation not supported\n1\n"), "{output}");
}

/// The filter is then in place before privileges are dropped.
#[test]
fn no_new_privileges_is_set_only_if_the_spec_sets_it() {
    for value in [json!(null), json!(false)] {
        let mut container = shell("");
        container.program().argv[2] = "busybox cat /proc/self/status".into();
        container.spec["process"]["noNewPrivileges"] = value;
        container.spec["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        container.spec["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW" });
        let (_, output) = container.run();
        assert_eq!(status(&output, "NoNewPrivs"), "0");
        assert_eq!(status(&output, "Seccomp"), "2");
    }
}

#[test]
fn proc_sysfs_and_cgroup_are_mounted_and_masked_as_the_spec_says() {
    let mut container = shell("");
    container.program().argv[2] =
        "busybox wc -c </proc/keys; echo x >/proc/sys/kernel/domainname; busybox ls /proc/acpi; \
         busybox ls /sys; busybox cat /sys/fs/cgroup/memory/cgroup.procs | busybox head -n1; \
         busybox touch /sys/x"
            .into();
    container.spec["linux"]["maskedPaths"] = json!(["/proc/keys", "/proc/acpi"]);
    container.spec["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    let mounts = container.spec["mounts"].as_array_mut().expect("mounts");
    mounts.push(
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"] }),
    );
    let v1 = Path::new("/sys/fs/cgroup/memory").exists();
    mounts.push(
        json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }),
    );
    let (_, output) = container.run();
    assert!(output.starts_with("0\n"), "{output}");
    assert!(
        output.contains("domainname: Read-only file system"),
        "{output}"
    );
    assert!(output.contains("\nkernel\n"), "{output}");
    assert!(output.contains("touch: /sys/x: Read-only"), "{output}");
    if v1 {
        assert!(output.contains("\n1\n"), "its own cgroup: {output}");
    }
}

#[test]
fn native_program_opens_only_devices_that_its_spec_allows() {
    let mut container = shell("");
    container.program().argv[2] =
        "busybox ls /dev; echo x >/dev/null; busybox mknod /tmp/loop b 7 0; \
         busybox dd if=/tmp/loop count=0; busybox mknod /tmp/fuse c 10 229; \
         busybox cat /tmp/fuse; echo end"
            .into();
    let caps = ["CAP_MKNOD"];
    container.spec["process"]["capabilities"] =
        json!({ "bounding": caps, "effective": caps, "permitted": caps });
    container.spec["linux"]["devices"] =
        json!([{ "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 384 }]);
    container.spec["linux"]["resources"] = json!({ "devices": [
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" },
    ] });
    container.create().expect("create");
    let id = container.id.clone();
    let list = support::cgroups_named(&id)
        .into_iter()
        .find_map(|path| fs::read_to_string(path.join("devices.list")).ok());
    if let Some(list) = list {
        assert!(
            list.contains("c 1:11 r\n") && list.contains("c 1:3 rwm\n"),
            "{list}"
        );
        assert!(
            !list.contains("a *:*") && !list.contains("10:200"),
            "{list}"
        );
    }
    container.start().expect("start");
    container.wait();
    let output = container.output();
    for device in ["full", "kmsg", "null", "random", "tty", "urandom", "zero"] {
        assert!(
            output.contains(&format!("{device}\n")),
            "{device}: {output}"
        );
    }
    for node in ["/tmp/loop", "/tmp/fuse"] {
        let refused = output
            .lines()
            .any(|line| line.contains(node) && line.ends_with("Operation not permitted"));
        assert!(refused, "{node}: {output}");
    }
}

/// CVE-2019-5736: a container that gets hold of the executable of its init process, and keeps it
/// until no process runs it, must not be able to change what the next container is made with.
#[test]
fn runner_cannot_be_written_through_a_containers_process() {
    let folder = tempfile::tempdir().expect("folder");
    let runner = folder.path().join("wasm-interp-runner");
    for mut container in [TestContainer::pause(), shell("exit 0")] {
        executables::copy(Path::new(env!("CARGO_BIN_EXE_wasm-interp-runner")), &runner);
        container.made_by(&runner);
        let pid = container.create().expect("create");
        let held = fs::File::open(format!("/proc/{pid}/exe")).expect("its executable");
        container.signal(Signal::SIGKILL);
        container.wait();
        container.delete(true).expect("delete");
        let again = format!("/proc/self/fd/{}", held.as_raw_fd());
        let error = fs::File::options()
            .write(true)
            .open(again)
            .expect_err("it must not open");
        assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
        // The file itself is as writable as it always was.
        fs::File::options().write(true).open(&runner).expect("open");
    }
}

/// The same from within: the image's program is the runner itself, by the kernel's own link.
#[test]
fn program_that_executes_the_runner_fails() {
    let mut container = shell("");
    let script = container.root().join("bin/again");
    executables::write(&script, "#!/proc/self/exe\n");
    container.program().argv = vec!["again".into()];
    let (code, output) = container.run();
    // Without its caller's descriptors it says so; a build that is not static lacks its loader.
    let refused = (code == 2 && output.contains("descriptor 3 is not open"))
        || (code == EXIT_START_FAILED && output.contains("exec /bin/again: no such file"));
    assert!(refused, "{code} {output}");
}

#[test]
fn missing_program_fails_the_create_with_runcs_message() {
    for (name, words) in [
        (
            "nowhere",
            r#"exec: "nowhere": executable file not found in $PATH"#,
        ),
        (
            "/bin/nowhere",
            r#"exec: "/bin/nowhere": stat /bin/nowhere: no such file or directory"#,
        ),
        ("/etc/plain", r#"exec: "/etc/plain": permission denied"#),
        ("/bin", r#"exec: "/bin": is a directory"#),
    ] {
        let mut container = shell("");
        fs::write(container.root().join("etc/plain"), "").expect("write");
        container.program().argv = vec![name.into()];
        let error = container.create().expect_err(name).to_string();
        assert!(error.contains(words), "{error}");
        container.assert_nothing_left();
    }
}

#[test]
fn program_that_the_kernel_refuses_fails_the_start_with_the_reason() {
    for (content, words) in [
        ("\x7fELF", "exec /bin/broken: exec format error"),
        (
            "#!/bin/nowhere\n",
            "exec /bin/broken: no such file or directory",
        ),
    ] {
        let mut container = shell("");
        let broken = container.root().join("bin/broken");
        executables::write(&broken, content);
        container.program().argv = vec!["broken".into()];
        let log = tempfile::NamedTempFile::new().expect("file");
        container.reasons = Some(log.reopen().expect("reopen"));
        let (code, output) = container.run();
        assert_eq!(code, EXIT_START_FAILED);
        assert!(output.contains(words), "{output}");
        assert_eq!(fs::read_to_string(log.path()).expect("read"), output);
    }
}

#[test]
fn native_program_handles_signals_itself() {
    let mut deaf = shell("echo ready; while :; do :; done");
    deaf.create().expect("create");
    deaf.start().expect("start");
    deaf.wait_for_output("ready");
    // Process 1 of a pid namespace has no default actions.
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        deaf.signal(signal);
    }
    assert!(Path::new(&format!("/proc/{}", deaf.process())).exists());
    deaf.signal(Signal::SIGKILL);
    assert_eq!(deaf.wait(), 137);

    let mut polite = shell("trap 'exit 9' TERM; echo ready; while :; do :; done");
    polite.create().expect("create");
    polite.start().expect("start");
    polite.wait_for_output("ready");
    polite.signal(Signal::SIGTERM);
    assert_eq!(polite.wait(), 9);

    let mut created = shell("");
    created.create().expect("create");
    created.signal(Signal::SIGTERM);
    assert_eq!(created.wait(), 143, "before start");
}

#[test]
fn broken_pipe_ends_a_native_program() {
    let (code, output) = shell("busybox yes | busybox head -n1; echo $?").run();
    assert_eq!((code, output.as_str()), (0, "y\n0\n"));
}

#[test]
fn working_directory_of_a_program_is_entered_as_root_or_made() {
    let mut private = shell("pwd");
    let home = private.root().join("root");
    fs::create_dir(&home).expect("make");
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("chmod");
    private.spec["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    private.spec["process"]["cwd"] = json!("/root");
    private.program().cwd = "/root".into();
    assert_eq!(private.run(), (0, "/root\n".to_owned()));

    for read_only in [false, true] {
        let mut missing = shell("pwd");
        missing.spec["root"]["readonly"] = json!(read_only);
        missing.spec["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        missing.spec["process"]["cwd"] = json!("/srv/app");
        missing.program().cwd = "/srv/app".into();
        missing.program().cwd_exists = false;
        assert_eq!(missing.run(), (0, "/srv/app\n".to_owned()));
    }
}

#[test]
fn user_of_a_program_may_open_its_standard_input() {
    let mut container = shell("busybox cat </dev/stdin");
    container.spec["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    let stdin = container.with_stdin();
    container.create().expect("create");
    container.start().expect("start");
    fs::File::from(stdin).write_all(b"hello\n").expect("write");
    assert_eq!(container.wait(), 0, "{}", container.output());
    assert_eq!(container.output(), "hello\n");
}

#[test]
fn native_script_runs_by_its_first_line_also_through_links() {
    let mut container = shell("");
    let script = container.root().join("etc/script");
    executables::write(&script, "#!/bin/sh -e\necho \"$0 $1\"\n");
    symlink("/etc/script", container.root().join("bin/link")).expect("link");
    container.program().argv = vec!["link".into(), "a b".into()];
    assert_eq!(container.run(), (0, "/bin/link a b\n".to_owned()));
}

const ON_A_TERMINAL: &str = "busybox tty; \
     busybox stat -c '%F %t,%T %u' $(busybox tty) /dev/console; \
     echo by name >/dev/tty; read -r line; echo got $line; read -r line";

#[test]
fn native_program_has_a_terminal_of_its_containers_devpts_as_its_console() {
    let mut container = shell(ON_A_TERMINAL);
    container.with_devpts();
    container.spec["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    container.on_a_terminal();
    container.create().expect("create");
    assert!(container.terminal().take_over(), "the container's own");
    container.start().expect("start");
    let shown = container.terminal().shown("by name\r\n");
    assert_eq!(
        shown,
        "/dev/pts/0\r\ncharacter special file 88,0 1000\r\n\
         character special file 88,0 1000\r\nby name\r\n"
    );
    container.terminal().type_keys("a line\n");
    container.terminal().shown("got a line\r\n");
    // ctrl-C reaches the program that is in the foreground: the shell has a handler, as process 1 of a
    // pid namespace needs it.
    container.terminal().type_keys("\x03");
    assert_eq!(container.wait(), 130);
    container.delete(false).expect("delete");
    container.assert_nothing_left();
}

#[test]
fn native_program_without_a_devpts_has_the_hosts_terminal() {
    let mut container = shell("echo by name >/dev/tty; read -r line; echo got $line");
    container.on_a_terminal();
    container.create().expect("create");
    assert!(
        !container.terminal().take_over(),
        "there is none in the container"
    );
    container.start().expect("start");
    container.terminal().shown("by name\r\n");
    container.terminal().type_keys("a line\n");
    container.terminal().shown("got a line\r\n");
    assert_eq!(container.wait(), 0);
    container.delete(false).expect("delete");
    container.assert_nothing_left();
}

/// CVE-2025-52565: whatever lies at its path must not be taken for the multiplexer.
#[test]
fn other_device_in_place_of_the_multiplexer_is_refused() {
    let mut container = shell("");
    let mounts = container.spec["mounts"].as_array_mut().expect("mounts");
    mounts.push(json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs" }));
    mounts.push(
        json!({ "destination": "/dev/pts/ptmx", "type": "bind", "source": "/dev/null",
        "options": ["bind"] }),
    );
    container.on_a_terminal();
    let error = container.create().expect_err("refused").to_string();
    assert!(error.contains("not the multiplexer of a devpts"), "{error}");
    container.delete(true).expect("delete");
    container.assert_nothing_left();
}
