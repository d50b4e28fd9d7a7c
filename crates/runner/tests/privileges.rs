//! The runner and what a container's process gives up: as root, on this machine's kernel.
//!
//! Holds that nothing that protects is left out in silence, and that nothing harmless refuses a start.

// Other tests use the rest of it.
#[allow(dead_code)]
#[path = "support/mod.rs"]
mod support;

#[allow(dead_code)]
#[path = "support/guests.rs"]
mod guests;

use std::{
    fs,
    io::IoSliceMut,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixListener,
    },
    path::Path,
    process::Command,
};

use libseccomp::{ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags};
use nix::{
    cmsg_space,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};
use rustix::{
    process::{Resource, getrlimit},
    thread::{CapabilitySet, capabilities},
};
use serde_json::{Value, json};
use support::{TestContainer, status};

/// What busybox, a static program and the runner itself need; the newest is `statx`.
const ALLOWED: &[&str] = &[
    "accept4",
    "access",
    "arch_prctl",
    "brk",
    "capget",
    "capset",
    "chdir",
    "close",
    "dup",
    "dup2",
    "dup3",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "eventfd2",
    "execve",
    "exit",
    "exit_group",
    "fcntl",
    "fork",
    "fstat",
    "fstatfs",
    "futex",
    "getcwd",
    "getdents64",
    "getegid",
    "geteuid",
    "getgid",
    "getpid",
    "getppid",
    "getrandom",
    "gettid",
    "getuid",
    "ioctl",
    "kill",
    "lseek",
    "lstat",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "newfstatat",
    "open",
    "openat",
    "pipe2",
    "poll",
    "ppoll",
    "pread64",
    "prctl",
    "prlimit64",
    "pwrite64",
    "read",
    "readlink",
    "readlinkat",
    "readv",
    "recvfrom",
    "recvmsg",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "sendmsg",
    "sendto",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
    "socket",
    "socketpair",
    "stat",
    "statx",
    "tgkill",
    "uname",
    "wait4",
    "write",
    "writev",
];

fn shell(script: &str) -> TestContainer {
    TestContainer::native(&["sh", "-c", script])
}

fn profile(more: &[Value]) -> Value {
    let mut rules = vec![json!({ "names": ALLOWED, "action": "SCMP_ACT_ALLOW" })];
    rules.extend_from_slice(more);
    json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules })
}

/// Puts a program into the container that makes the system calls whose numbers it is given, and says
/// how each ends.
fn add_caller(container: &TestContainer) {
    let source = container.root().join("caller.c");
    let text = r#"
        #define _GNU_SOURCE
        #include <errno.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <unistd.h>
        int main(int count, char **numbers) {
            for (int i = 1; i < count; i++) {
                errno = 0;
                syscall(atol(numbers[i]), -1L, -1L, -1L, -1L, -1L, -1L);
                printf("%d\n", errno);
            }
            return 0;
        }"#;
    fs::write(&source, text).expect("write");
    let built = Command::new("cc")
        .args(["-static", "-o"])
        .arg(container.root().join("bin/caller"))
        .arg(&source)
        .status()
        .expect("run cc");
    assert!(built.success());
}

#[test]
fn call_newer_than_the_profile_gets_enosys_and_an_older_one_the_default_action() {
    for no_new_privileges in [true, false] {
        let mut container = TestContainer::native(&["caller"]);
        add_caller(&container);
        let numbers = [
            libc::SYS_mkdirat,
            libc::SYS_clone3,
            libc::SYS_close_range,
            1000,
        ];
        let argv = &mut container.program().argv;
        argv.extend(numbers.iter().map(ToString::to_string));
        container.spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
        container.spec["linux"]["seccomp"] = profile(&[]);
        let (code, output) = container.run();
        let expected = format!(
            "{}\n{}\n{}\n{}\n",
            libc::EPERM,
            libc::ENOSYS,
            libc::ENOSYS,
            libc::ENOSYS
        );
        assert_eq!((code, output), (0, expected));
    }
}

/// Docker's and containerd's profiles allow clone(2) by a masked argument; without it there is neither
/// a process nor a thread.
#[test]
fn profile_may_allow_processes_and_forbid_namespaces() {
    let clone = json!({ "names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [
        { "index": 0, "value": 0x7E02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" },
    ] });
    let names: Vec<_> = ALLOWED.iter().filter(|name| **name != "fork").collect();
    let mut container = shell("(echo child); echo $?");
    container.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }, clone],
    });
    assert_eq!(container.run(), (0, "child\n0\n".to_owned()));
}

#[test]
fn a_guest_runs_under_the_filter_of_its_spec() {
    let mut container = TestContainer::of(&guests::reader());
    container.spec["linux"]["seccomp"] = profile(&[]);
    let stdin = container.with_stdin();
    let pid = container.create().expect("create");
    container.start().expect("start");
    container.wait_for_output("ready");
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    assert_eq!(status(&text, "Seccomp"), "2");
    assert_eq!(status(&text, "NoNewPrivs"), "1");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(&text, set), "0000000000000000", "{set}");
    }
    drop(stdin);
    assert_eq!(container.wait(), 0, "{}", container.output());
}

#[test]
fn seccomp_agent_gets_notifications_and_answers_them() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("listener");
    let listener = UnixListener::bind(&path).expect("bind");
    let mut container = shell("busybox mkdir /tmp/asked; echo $?");
    let mut seccomp = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
        "listenerMetadata": "for the test",
    });
    seccomp["listenerPath"] = json!(path);
    container.spec["linux"]["seccomp"] = seccomp;
    container.spec["annotations"] = json!({ "a": "b" });
    let pid = container.create().expect("create");

    let (connection, _) = listener.accept().expect("accept");
    let mut text = vec![0; 65536];
    let mut control = cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let message = recvmsg::<()>(
        connection.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .expect("receive");
    let length = message.bytes;
    let fds: Vec<RawFd> = message
        .cmsgs()
        .expect("control messages")
        .flat_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => fds,
            other => panic!("{other:?}"),
        })
        .collect();
    let state: Value = serde_json::from_slice(&text[..length]).expect("the state");
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["pid"], json!(pid));
    assert_eq!(state["metadata"], json!("for the test"));
    assert_eq!(state["state"]["id"], json!(container.id));
    assert_eq!(state["state"]["pid"], json!(pid));
    assert_eq!(state["state"]["annotations"], json!({ "a": "b" }));

    container.start().expect("start");
    let [notifications] = fds[..] else {
        panic!("{fds:?}");
    };
    let request = ScmpNotifReq::receive(notifications).expect("a request");
    ScmpNotifResp::new_error(request.id, -libc::EXDEV, ScmpNotifRespFlags::empty())
        .respond(notifications)
        .expect("answer");
    assert_eq!(container.wait(), 0);
    let output = container.output();
    assert!(output.contains("nvalid cross-device link"), "{output}");
    assert!(output.ends_with("1\n"), "{output}");
    drop(owned(notifications));
}

#[allow(unsafe_code)]
fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel made it for the message, and nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[test]
fn missing_seccomp_agent_fails_the_create() {
    let mut container = shell("");
    container.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
        "listenerPath": "/nowhere/listener",
    });
    let error = container.create().expect_err("refused").to_string();
    assert!(
        error.contains("cannot reach the listener at /nowhere/listener"),
        "{error}"
    );
    container.assert_nothing_left();
}

#[test]
fn unavailable_capability_is_a_warning() {
    let held = capabilities(None).expect("read").permitted;
    // What machines lack in practice; where nothing is lacking, what no machine has.
    let name = [
        ("CAP_SYS_RESOURCE", CapabilitySet::SYS_RESOURCE),
        ("CAP_SYS_RAWIO", CapabilitySet::SYS_RAWIO),
        ("CAP_MAC_ADMIN", CapabilitySet::MAC_ADMIN),
    ]
    .into_iter()
    .find_map(|(name, one)| (!held.contains(one)).then_some(name))
    .unwrap_or("CAP_FROM_THE_FUTURE");
    let names = ["CAP_CHOWN", name];
    let mut container = shell("busybox cat /proc/self/status");
    container.spec["process"]["capabilities"] = json!({
        "bounding": names, "effective": names, "permitted": names,
    });
    container.create().expect("create");
    container.start().expect("start");
    container.wait();
    let output = container.output();
    assert_eq!(status(&output, "CapBnd"), "0000000000000001");
    assert_eq!(status(&output, "CapEff"), "0000000000000001");
    assert!(
        container
            .warnings
            .iter()
            .any(|warning| warning.contains(name)),
        "{:?}",
        container.warnings
    );
}

/// Also one that is newer than every name that we know.
#[test]
fn capabilities_that_the_spec_does_not_name_are_dropped() {
    let mut container = shell("busybox cat /proc/self/status");
    container.spec["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"], "inheritable": ["CAP_CHOWN"],
        "ambient": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN"],
    });
    container.create().expect("create");
    container.start().expect("start");
    container.wait();
    let output = container.output();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(&output, set), "0000000000000001", "{set}");
    }
    assert_eq!(
        container.warnings,
        [
            "process.capabilities.ambient: CAP_KILL cannot be given: it is not both permitted and \
             inheritable; the container runs without it"
        ]
    );
}

#[test]
fn limit_that_cannot_be_set_fails_the_create_and_the_error_says_what_to_do() {
    let limits = |kind: &str, soft: u64, hard: u64| {
        let mut container = shell("ulimit -i");
        container.spec["process"]["rlimits"] =
            json!([{ "type": kind, "soft": soft, "hard": hard }]);
        container
    };
    let error = limits("RLIMIT_NOFILE", 20, 10)
        .create()
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("the soft limit of RLIMIT_NOFILE, 20, is above its hard limit, 10"),
        "{error}"
    );

    let held = getrlimit(Resource::Sigpending).maximum.expect("a limit");
    let mut container = limits("RLIMIT_SIGPENDING", held + 1, held + 1);
    let privileged = capabilities(None)
        .expect("read")
        .effective
        .contains(CapabilitySet::SYS_RESOURCE);
    if privileged {
        assert_eq!(container.run(), (0, format!("{}\n", held + 1)));
    } else {
        let error = container.create().expect_err("refused").to_string();
        for words in [
            format!("RLIMIT_SIGPENDING cannot be {}", held + 1),
            format!("may go to {held}"),
            "CAP_SYS_RESOURCE".to_owned(),
        ] {
            assert!(error.contains(&words), "{error}");
        }
        container.assert_nothing_left();
    }
}

#[test]
fn unknown_value_that_may_protect_is_refused_with_the_name_of_its_field() {
    for (change, words) in [
        (
            json!({ "process": { "rlimits": [{ "type": "RLIMIT_X", "soft": 1, "hard": 1 }] } }),
            "process.rlimits[0].type: unknown value `RLIMIT_X`",
        ),
        (
            json!({ "linux": { "namespaces": [{ "type": "galaxy" }] } }),
            "linux.namespaces[0].type: unknown value `galaxy`",
        ),
    ] {
        let mut container = shell("");
        for (part, members) in change.as_object().expect("parts") {
            for (name, value) in members.as_object().expect("members") {
                container.spec[part][name] = value.clone();
            }
        }
        let error = container.create().expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
        assert!(!Path::new(&container.state()).exists());
    }
}
