//! The runner and a guest that has broken out of its sandbox: native code in the guest's process, on
//! this machine's kernel, as root.
//!
//! Holds that the container and the filter of `src/confine` hold by themselves.

// What the other tests alone have a use for.
#[allow(dead_code)]
#[path = "support/mod.rs"]
mod support;

#[allow(dead_code)]
#[path = "support/guests.rs"]
mod guests;

#[path = "support/payload.rs"]
mod payload;

/// The list itself: the runner is a program, not a library.
#[allow(dead_code)]
#[path = "../src/confine/rules.rs"]
mod rules;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{IoSliceMut, Seek},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::{fs::MetadataExt, net::UnixListener},
    },
    thread,
};

use libc::{
    AT_FDCWD, CLONE_NEWNS, CLONE_NEWUSER, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED,
    PROT_EXEC, PROT_READ, PROT_WRITE,
};
use libseccomp::{ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags};
use nix::{
    cmsg_space,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};
use payload::{Argument, Call, artifact, artifact_of, call, text};
use serde_json::{Value, json};
use support::{TestContainer, status};
use wasm_interp_network::{Network, NetworkRules, parse_connect, parse_listen};
use wasm_interp_runner_client::RefusalReader;

/// 128 + SIGSYS.
const REFUSED: i32 = 159;
/// The guest's native code.
const ARTIFACT: i32 = 5;

fn escaped(calls: &[Call]) -> TestContainer {
    TestContainer::of_code(&artifact(calls))
}

/// What each call returns.
fn returned(mut container: TestContainer) -> Vec<i64> {
    container.create().expect("create");
    container.start().expect("start");
    let code = container.wait();
    let output = container.output();
    assert_eq!(code, 0, "{output}");
    let numbers = output.lines().map(|line| line.parse().expect("a number"));
    numbers.collect()
}

fn assert_refused(name: &str, number: i64, arguments: &[Argument]) {
    let container = escaped(&[call(number, arguments)]);
    assert_ends(name, number, container);
}

/// The container's process ends at this call.
fn assert_ends(name: &str, number: i64, mut container: TestContainer) {
    container.reasons = Some(tempfile::tempfile().expect("file"));
    let mut reasons = container.reasons.as_ref().and_then(|f| f.try_clone().ok());
    container.create().expect("create");
    container.start().expect("start");
    assert_eq!(container.wait(), REFUSED, "{name}: {}", container.output());
    let line = format!("wasm-interp: the guest's process was ended at system call {number},");
    let output = container.output();
    assert!(output.starts_with(&line), "{name}: {output}");
    let reasons: &mut File = reasons.as_mut().expect("the termination log");
    reasons.rewind().expect("rewind");
    let noted = std::io::read_to_string(reasons).expect("read");
    assert_eq!(noted, output, "{name}");
}

fn bytes(length: usize) -> Argument {
    Argument::Bytes(vec![0; length])
}

#[test]
fn native_code_of_a_test_runs_in_the_place_of_a_guest() {
    let page = 4096;
    let results = returned(escaped(&[
        call(
            libc::SYS_lseek,
            &[0.into(), 0.into(), libc::SEEK_CUR.into()],
        ),
        call(
            libc::SYS_mmap,
            &[
                0.into(),
                page.into(),
                (PROT_READ | PROT_WRITE).into(),
                (MAP_PRIVATE | MAP_ANONYMOUS).into(),
                (-1).into(),
            ],
        ),
        call(libc::SYS_munmap, &[Argument::Previous, page.into()]),
    ]));
    assert_eq!(results[0], 0);
    assert!(results[1] > 0, "{results:?}");
    assert_eq!(results[2], 0);
}

/// All that is tried to leave a container, to see another process or to get code or rights.
#[test]
fn escaped_guest_makes_no_call_that_leads_out() {
    let cwd = || Argument::from(AT_FDCWD);
    let sh = || text("/bin/sh");
    for (name, number, arguments) in [
        (
            "socket",
            libc::SYS_socket,
            vec![libc::AF_INET.into(), libc::SOCK_STREAM.into()],
        ),
        (
            "unix socket",
            libc::SYS_socket,
            vec![libc::AF_UNIX.into(), libc::SOCK_STREAM.into()],
        ),
        (
            "socketpair",
            libc::SYS_socketpair,
            vec![
                libc::AF_UNIX.into(),
                libc::SOCK_STREAM.into(),
                0.into(),
                bytes(8),
            ],
        ),
        (
            "connect",
            libc::SYS_connect,
            vec![0.into(), bytes(16), 16.into()],
        ),
        ("execve", libc::SYS_execve, vec![sh(), bytes(8), bytes(8)]),
        (
            "execveat",
            libc::SYS_execveat,
            vec![cwd(), sh(), bytes(8), bytes(8), 0.into()],
        ),
        ("clone", libc::SYS_clone, vec![libc::SIGCHLD.into()]),
        ("clone3", libc::SYS_clone3, vec![bytes(64), 64.into()]),
        (
            "ptrace",
            libc::SYS_ptrace,
            vec![libc::PTRACE_ATTACH.into(), 1.into()],
        ),
        (
            "process_vm_readv",
            libc::SYS_process_vm_readv,
            vec![1.into(), bytes(16), 1.into(), bytes(16), 1.into()],
        ),
        ("pidfd_open", libc::SYS_pidfd_open, vec![1.into()]),
        (
            "kill",
            libc::SYS_kill,
            vec![(-1).into(), libc::SIGKILL.into()],
        ),
        (
            "tkill",
            libc::SYS_tkill,
            vec![1.into(), libc::SIGKILL.into()],
        ),
        (
            "tgkill",
            libc::SYS_tgkill,
            vec![1.into(), 1.into(), libc::SIGKILL.into()],
        ),
        (
            "mount",
            libc::SYS_mount,
            vec![text("proc"), text("/data"), text("proc")],
        ),
        ("fsopen", libc::SYS_fsopen, vec![text("proc"), 0.into()]),
        (
            "open_tree",
            libc::SYS_open_tree,
            vec![cwd(), text("/"), 1.into()],
        ),
        (
            "move_mount",
            libc::SYS_move_mount,
            vec![0.into(), text(""), cwd(), text("/data")],
        ),
        (
            "mount_setattr",
            libc::SYS_mount_setattr,
            vec![cwd(), text("/"), 0.into(), bytes(32), 32.into()],
        ),
        (
            "umount2",
            libc::SYS_umount2,
            vec![text("/dev"), libc::MNT_DETACH.into()],
        ),
        (
            "pivot_root",
            libc::SYS_pivot_root,
            vec![text("/"), text("/data")],
        ),
        ("chroot", libc::SYS_chroot, vec![text("/data")]),
        (
            "unshare",
            libc::SYS_unshare,
            vec![(CLONE_NEWUSER | CLONE_NEWNS).into()],
        ),
        ("setns", libc::SYS_setns, vec![0.into(), 0.into()]),
        ("setuid", libc::SYS_setuid, vec![0.into()]),
        ("setgroups", libc::SYS_setgroups, vec![0.into(), 0.into()]),
        ("capset", libc::SYS_capset, vec![bytes(8), bytes(24)]),
        (
            "prctl",
            libc::SYS_prctl,
            vec![libc::PR_SET_DUMPABLE.into(), 1.into()],
        ),
        (
            "seccomp",
            libc::SYS_seccomp,
            vec![libc::SECCOMP_SET_MODE_FILTER.into(), 0.into(), bytes(16)],
        ),
        (
            "open_by_handle_at",
            libc::SYS_open_by_handle_at,
            vec![0.into(), bytes(32), 0.into()],
        ),
        (
            "name_to_handle_at",
            libc::SYS_name_to_handle_at,
            vec![cwd(), text("/"), bytes(32), bytes(8)],
        ),
        (
            "io_uring_setup",
            libc::SYS_io_uring_setup,
            vec![8.into(), bytes(120)],
        ),
        ("bpf", libc::SYS_bpf, vec![0.into(), bytes(64), 64.into()]),
        (
            "perf_event_open",
            libc::SYS_perf_event_open,
            vec![bytes(64)],
        ),
        ("userfaultfd", libc::SYS_userfaultfd, vec![0.into()]),
        (
            "keyctl",
            libc::SYS_keyctl,
            vec![libc::KEYCTL_READ.into(), 1.into()],
        ),
        (
            "add_key",
            libc::SYS_add_key,
            vec![text("user"), text("k"), text("v"), 1.into(), (-3).into()],
        ),
        (
            "memfd_create",
            libc::SYS_memfd_create,
            vec![text("code"), 0.into()],
        ),
        ("kexec_load", libc::SYS_kexec_load, vec![]),
        (
            "init_module",
            libc::SYS_init_module,
            vec![bytes(8), 8.into(), text("")],
        ),
        ("reboot", libc::SYS_reboot, vec![0.into()]),
        ("swapon", libc::SYS_swapon, vec![text("/data/x")]),
        (
            "sethostname",
            libc::SYS_sethostname,
            vec![text("x"), 1.into()],
        ),
        (
            "setxattr",
            libc::SYS_setxattr,
            vec![text("/data"), text("trusted.x"), text("v"), 1.into()],
        ),
        (
            "personality",
            libc::SYS_personality,
            vec![0x0040_0000.into()],
        ),
        (
            "rt_sigaction",
            libc::SYS_rt_sigaction,
            vec![libc::SIGSYS.into(), bytes(32), 0.into(), 8.into()],
        ),
        (
            "rt_sigqueueinfo",
            libc::SYS_rt_sigqueueinfo,
            vec![1.into(), 9.into(), bytes(128)],
        ),
        ("shmat", libc::SYS_shmat, vec![0.into()]),
        (
            "mq_open",
            libc::SYS_mq_open,
            vec![text("q"), 0o102.into(), 0o600.into()],
        ),
        (
            "setrlimit",
            libc::SYS_prlimit64,
            vec![0.into(), 7.into(), bytes(16)],
        ),
        ("chdir", libc::SYS_chdir, vec![text("/data")]),
        ("inotify_init1", libc::SYS_inotify_init1, vec![0.into()]),
        ("fanotify_init", libc::SYS_fanotify_init, vec![0.into()]),
        (
            "landlock",
            libc::SYS_landlock_create_ruleset,
            vec![0.into(), 0.into(), 1.into()],
        ),
        ("modify_ldt or nothing", 10_000, vec![]),
    ] {
        assert_refused(name, number, &arguments);
    }
}

#[test]
fn escaped_guest_gets_no_executable_memory() {
    let page = || Argument::from(4096);
    let rwx = || Argument::from(PROT_READ | PROT_WRITE | PROT_EXEC);
    for (name, number, arguments) in [
        (
            "anonymous",
            libc::SYS_mmap,
            vec![
                0.into(),
                page(),
                rwx(),
                (MAP_PRIVATE | MAP_ANONYMOUS).into(),
                (-1).into(),
            ],
        ),
        (
            "of a file",
            libc::SYS_mmap,
            vec![
                0.into(),
                page(),
                (PROT_READ | PROT_EXEC).into(),
                MAP_PRIVATE.into(),
                ARTIFACT.into(),
            ],
        ),
        (
            "over what is there",
            libc::SYS_mmap,
            vec![
                0x10000.into(),
                page(),
                rwx(),
                (MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED).into(),
                (-1).into(),
            ],
        ),
        (
            "by mprotect",
            libc::SYS_mprotect,
            vec![0x10000.into(), page(), PROT_EXEC.into()],
        ),
        (
            "by pkey_mprotect",
            libc::SYS_pkey_mprotect,
            vec![0x10000.into(), page(), rwx(), (-1).into()],
        ),
        (
            "by remap_file_pages",
            libc::SYS_remap_file_pages,
            vec![0.into(), page()],
        ),
    ] {
        assert_refused(name, number, &arguments);
    }
    // Nor does it change the native code that others share.
    let shared = [
        0.into(),
        page(),
        (PROT_READ | PROT_WRITE).into(),
        MAP_SHARED.into(),
        ARTIFACT.into(),
    ];
    let results = returned(escaped(&[
        call(libc::SYS_mmap, &shared),
        call(libc::SYS_write, &[ARTIFACT.into(), text("x"), 1.into()]),
        call(libc::SYS_ftruncate, &[ARTIFACT.into(), 0.into()]),
        call(libc::SYS_fchmod, &[ARTIFACT.into(), 0o777.into()]),
    ]));
    let error = |errno: i32| -i64::from(errno);
    assert_eq!(
        results[..3],
        [error(libc::EACCES), error(libc::EBADF), error(libc::EINVAL)]
    );
    assert_eq!(results[3], error(libc::EROFS), "{results:?}");
}

#[test]
fn escaped_guest_makes_neither_set_id_files_nor_devices() {
    let cwd = || Argument::from(AT_FDCWD);
    let file = || text("/data/file");
    let make = libc::O_CREAT | libc::O_RDWR;
    let mut container = escaped(&[
        call(
            libc::SYS_openat,
            &[cwd(), file(), make.into(), 0o755.into()],
        ),
        call(libc::SYS_fchmod, &[Argument::Previous, 0o4755.into()]),
        call(libc::SYS_fchmodat, &[cwd(), file(), 0o2755.into()]),
        call(
            libc::SYS_openat,
            &[cwd(), text("/data/other"), make.into(), 0o4755.into()],
        ),
        call(
            libc::SYS_mkdirat,
            &[cwd(), text("/data/other"), 0o2755.into()],
        ),
        call(
            libc::SYS_mknodat,
            &[cwd(), text("/data/other"), 0o014_600.into()],
        ),
    ]);
    let data = container.root().join("data");
    container.spec["process"]["user"] = json!({ "uid": 0, "gid": 0 });
    container.create().expect("create");
    container.start().expect("start");
    assert_eq!(container.wait(), 0, "{}", container.output());
    let output = container.output();
    let refused: Vec<_> = output.lines().skip(1).collect();
    assert_eq!(refused, ["-1"; 5], "all but the first are EPERM: {output}");
    assert_eq!(
        fs::metadata(data.join("file")).expect("stat").mode() & 0o7777,
        0o755
    );
    assert!(!data.join("other").exists());

    let node = |kind: u32| {
        vec![
            cwd(),
            text("/data/mem"),
            (kind | 0o600).into(),
            0x101.into(),
        ]
    };
    for (name, number, arguments) in [
        ("a character device", libc::SYS_mknodat, node(libc::S_IFCHR)),
        ("a block device", libc::SYS_mknodat, node(libc::S_IFBLK)),
        ("a socket", libc::SYS_mknodat, node(libc::S_IFSOCK)),
        (
            "fchmodat2",
            452,
            vec![cwd(), file(), 0o4755.into(), 0.into()],
        ),
        (
            "a whiteout",
            libc::SYS_renameat2,
            vec![
                cwd(),
                file(),
                cwd(),
                text("/data/other"),
                libc::RENAME_WHITEOUT.into(),
            ],
        ),
        (
            "TIOCSTI",
            libc::SYS_ioctl,
            vec![0.into(), (libc::TIOCSTI as i64).into(), text("x")],
        ),
        (
            "F_SETOWN",
            libc::SYS_fcntl,
            vec![0.into(), libc::F_SETOWN.into(), 1.into()],
        ),
    ] {
        assert_refused(name, number, &arguments);
    }
}

/// The files of the container are all that there are: by a path, and by a descriptor.
#[test]
fn escaped_guest_finds_no_file_but_its_container_s() {
    let open = |path: &str, flags: i32| {
        call(
            libc::SYS_openat,
            &[AT_FDCWD.into(), text(path), flags.into()],
        )
    };
    let (read, write) = (libc::O_RDONLY, libc::O_WRONLY | libc::O_CREAT);
    let host = tempfile::NamedTempFile::new().expect("file");
    let secret = host.path().display();
    let up = "..".to_owned() + &"/..".repeat(40);
    let mut calls = vec![
        open("/proc/1/root/etc/shadow", read),
        open("/proc/self/mem", libc::O_RDWR),
        open("/sys/kernel/uevent_helper", write),
        open("/sys/fs/cgroup/release_agent", write),
        open("/dev/mem", read),
        open("/dev/kmsg", read),
        open("/dev/tty", read),
        open(&format!("{up}{secret}"), read),
        // In the image: a node that is one of the five elsewhere, and one that is not.
        open("/etc/null", read),
        open("/data/mem", read),
        // A read-only mount, and a way around it.
        open("/etc/locked/file", write),
        open("/data/../etc/locked/file", libc::O_RDWR),
    ];
    let paths = calls.len();
    let numbers = 3..64;
    calls.extend(numbers.clone().map(|fd| {
        let name = text("..");
        call(libc::SYS_openat, &[fd.into(), name, (libc::O_PATH).into()])
    }));
    let mut container = escaped(&calls);
    let root = container.root();
    node(&root.join("etc/null"), 3);
    node(&root.join("data/mem"), 1);
    let volume = tempfile::tempdir().expect("directory");
    fs::write(volume.path().join("file"), "kept").expect("write");
    let mounts = container.spec["mounts"].as_array_mut().expect("mounts");
    mounts.push(json!({
        "destination": "/etc/locked", "type": "bind", "source": volume.path(),
        "options": ["rbind", "ro", "rro"],
    }));
    let results = returned(container);
    let errno = |index: usize| i32::try_from(-results[index]).expect("an errno");
    for index in 0..8 {
        assert_eq!(errno(index), libc::ENOENT, "{index}: {results:?}");
    }
    for index in 8..10 {
        assert_eq!(errno(index), libc::EACCES, "{index}: {results:?}");
    }
    for index in 10..paths {
        assert_eq!(errno(index), libc::EROFS, "{index}: {results:?}");
    }
    // Whatever it holds that is a directory is its own root, above which is nothing.
    for (fd, index) in numbers.zip(paths..) {
        let expected = [libc::EBADF, libc::ENOTDIR].contains(&errno(index));
        assert!(expected || results[index] >= 0, "{fd}: {results:?}");
    }
    let kept = fs::read_to_string(volume.path().join("file")).expect("read");
    assert_eq!(kept, "kept");
}

fn node(path: &std::path::Path, minor: u32) {
    let device = rustix::fs::makedev(1, minor);
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, device).expect("make a node");
}

/// What the kernel says of a running guest's process.
#[test]
fn guest_has_five_capabilities_at_most_no_new_privileges_and_a_filter_of_its_own() {
    for uid in [0, 1000] {
        let mut container = TestContainer::of(&guests::reader());
        let all: Vec<_> = [
            "CAP_CHOWN",
            "CAP_DAC_OVERRIDE",
            "CAP_FOWNER",
            "CAP_FSETID",
            "CAP_NET_BIND_SERVICE",
            "CAP_MKNOD",
            "CAP_NET_RAW",
            "CAP_SETUID",
            "CAP_SYS_CHROOT",
            "CAP_KILL",
            "CAP_SETFCAP",
            "CAP_SYS_ADMIN",
        ]
        .into();
        container.spec["process"]["user"] = json!({ "uid": uid, "gid": uid });
        container.spec["process"]["noNewPrivileges"] = json!(false);
        container.spec["process"]["capabilities"] = json!({
            "bounding": all, "effective": all, "permitted": all, "inheritable": all, "ambient": all,
        });
        let stdin = container.with_stdin();
        let pid = container.create().expect("create");
        container.start().expect("start");
        container.wait_for_output("ready");
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).expect("read");
        let text = read("status");
        // CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, FSETID 4, NET_BIND_SERVICE 10.
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status(&text, set), "000000000000041b", "{set} of {uid}");
        }
        assert_eq!(status(&text, "NoNewPrivs"), "1");
        assert_eq!(status(&text, "Seccomp"), "2");
        assert_eq!(status(&text, "Seccomp_filters"), "1");
        // The kernel gives root what a process is that must not be traced or dumped.
        let memory = fs::metadata(format!("/proc/{pid}/mem")).expect("stat");
        assert_eq!(memory.uid(), 0, "of {uid}");
        drop(stdin);
        assert_eq!(container.wait(), 0, "{}", container.output());
    }
}

fn profile(default: &str, refused: &[&str]) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": refused, "action": default }],
    })
}

#[test]
fn guest_runs_behind_a_profile_that_refuses_one_way_to_load_filters() {
    for refused in [
        &["seccomp"][..],
        &["prctl"],
        &["seccomp", "landlock_restrict_self"],
    ] {
        for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"] {
            let mut container = TestContainer::of(&guests::hello(0));
            container.spec["linux"]["seccomp"] = profile(action, refused);
            // The profile itself is loaded by the call that it refuses from then on.
            container.create().expect("create");
            container.start().expect("start");
            assert_eq!(container.wait(), 0, "{refused:?}: {}", container.output());
            assert_eq!(container.output(), "hello\n");
            let told = |name: &str| {
                let words = format!("linux.seccomp: the profile refuses {name};");
                container.warnings.iter().any(|w| w.starts_with(&words))
            };
            assert_eq!(told("seccomp"), refused.contains(&"seccomp"));
            assert!(!told("openat2"));
        }
    }
}

/// With any error: profiles of hardened nodes differ in it.
#[test]
fn guest_opens_its_files_behind_a_profile_that_refuses_openat2() {
    const EXIST: i32 = 20;
    for errno in [libc::EPERM, libc::ENOSYS, libc::EACCES, libc::EAGAIN] {
        // Makes a file, and finds one that is there.
        for (path, expected) in [("data/new", 0), ("etc/there", EXIST)] {
            let mut container = TestContainer::of(&guests::opener(path, 1 | 4));
            fs::write(container.root().join("etc/there"), "").expect("write");
            container.spec["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{
                    "names": ["openat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno,
                }],
            });
            container.create().expect("create");
            let told = "linux.seccomp: the profile refuses openat2; the guest's files are opened \
                        by openat";
            assert_eq!(container.warnings, [told]);
            container.start().expect("start");
            assert_eq!(container.wait(), expected, "{path}, refused with {errno}");
        }
    }
}

#[test]
fn profile_that_refuses_every_way_is_a_failed_create_with_the_way_out() {
    let mut container = TestContainer::of(&guests::hello(0));
    container.spec["linux"]["seccomp"] = profile("SCMP_ACT_ERRNO", &["seccomp", "prctl"]);
    let error = container.create().expect_err("refused").to_string();
    for words in [
        "linux.seccomp",
        "seccomp(2) and prctl(2)",
        "allow it in the profile",
    ] {
        assert!(error.contains(words), "{error}");
    }
    container.assert_nothing_left();
}

/// One device of the five that lies elsewhere, and one that no guest may have: in the image and on a
/// volume.
#[test]
fn guest_opens_no_device_outside_of_dev() {
    const ACCES: i32 = 2;
    for minor in [1, 3] {
        let mut container = TestContainer::of(&guests::opener("etc/node", 0));
        node(&container.root().join("etc/node"), minor);
        assert_eq!(container.run().0, ACCES, "in the image, minor {minor}");

        let volume = tempfile::tempdir().expect("directory");
        node(&volume.path().join("node"), minor);
        for options in [&["rbind", "rw"][..], &["bind", "dev"], &["rbind", "rdev"]] {
            container = TestContainer::of(&guests::opener("data/node", 0));
            let mounts = container.spec["mounts"].as_array_mut().expect("mounts");
            mounts.push(json!({
                "destination": "/data", "type": "bind", "source": volume.path(), "options": options,
            }));
            assert_eq!(container.run().0, ACCES, "{options:?}, minor {minor}");
        }
    }
    let null = TestContainer::of(&guests::opener("dev/null", 0));
    assert_eq!(null.run().0, 0);
}

/// Paths could begin there, outside of the container.
#[test]
fn guest_gets_no_directory_of_the_host_for_a_stream() {
    let outside = tempfile::tempdir().expect("a directory");
    fs::write(outside.path().join("secret"), "of the host").expect("write");
    let mut container = TestContainer::of(&guests::opener_from(0, "secret", 0));
    container.stdin = Some(File::open(outside.path()).expect("open").into());
    let (code, output) = container.run();
    assert_eq!(code, 125, "{output}");
    assert!(
        output.contains("standard input to the guest: it is a directory"),
        "{output}"
    );
}

/// What a container is granted of the network.
fn network(listen: &str, connect: &str) -> Network {
    let rules = NetworkRules {
        listen: parse_listen(listen).expect(listen),
        connect: parse_connect(connect).expect(connect),
        ..NetworkRules::none()
    };
    Network::new(rules.clone(), rules).expect("within itself")
}

#[test]
fn guest_makes_the_sockets_that_it_is_granted() {
    let mut container = TestContainer::of(&guests::granted_sockets());
    container.plan.network = network("tcp:8080, udp:*, unix:/tmp/*", "unix:/tmp/*");
    assert_eq!(container.run(), (0, String::new()));
}

/// The resolver asks a socket which address can be reached, if the guest may have one.
#[test]
fn guest_looks_up_localhost_whatever_it_is_granted() {
    for (listen, connect) in [
        ("", ""),
        ("unix:/tmp/*", ""),
        ("tcp:8080", ""),
        ("", "udp:*:53"),
        ("", "dns"),
    ] {
        let mut container = TestContainer::of(&guests::look_up());
        container.plan.network = network(listen, connect);
        assert_eq!(container.run(), (0, String::new()), "{listen} {connect}");
    }
}

#[test]
fn guest_without_a_grant_is_told_which_one_it_lacks() {
    let (log, end) = RefusalReader::new().expect("a pipe");
    let mut container = TestContainer::of(&guests::granted_sockets());
    container.refusals = Some(end);
    let (code, output) = container.run();
    // The third call binds.
    assert_eq!(code, 3, "{output}");
    let line = "the guest may not listen on unix:/tmp/of-the-guest.sock; add \
                \"unix:/tmp/of-the-guest.sock\" to the annotation wasm-interp.io/listen";
    assert!(
        output.starts_with(&format!("wasm-interp: {line}")),
        "{output}"
    );
    let logged = log.read().expect("read").expect("a line");
    assert!(logged.starts_with(line), "{logged}");
    assert_eq!(
        log.read().expect("its end"),
        None,
        "no other process has the pipe"
    );
}

/// What a grant adds for a guest that has escaped: sockets of its families and types, and no more.
#[test]
fn escaped_guest_with_sockets_makes_those_of_its_grant_alone() {
    let socket = |family: i32, kind: i32| {
        let kind = kind | libc::SOCK_CLOEXEC;
        vec![family.into(), kind.into(), 0.into()]
    };
    let (internet, unix) = (network("tcp:80", ""), network("unix:/tmp/*", ""));
    let option =
        |level: i32, option: i32| vec![0.into(), level.into(), option.into(), bytes(8), 8.into()];
    for (name, granted, number, arguments) in [
        (
            "unix",
            &internet,
            libc::SYS_socket,
            socket(libc::AF_UNIX, 1),
        ),
        (
            "internet",
            &unix,
            libc::SYS_socket,
            socket(libc::AF_INET, 1),
        ),
        ("raw", &internet, libc::SYS_socket, socket(libc::AF_INET, 3)),
        (
            "netlink",
            &internet,
            libc::SYS_socket,
            socket(libc::AF_NETLINK, 2),
        ),
        (
            "packet",
            &internet,
            libc::SYS_socket,
            socket(libc::AF_PACKET, 2),
        ),
        ("vsock", &unix, libc::SYS_socket, socket(libc::AF_VSOCK, 1)),
        ("alg", &unix, libc::SYS_socket, socket(libc::AF_ALG, 1)),
        (
            "multipath",
            &internet,
            libc::SYS_socket,
            vec![
                libc::AF_INET.into(),
                (libc::SOCK_STREAM | libc::SOCK_CLOEXEC).into(),
                libc::IPPROTO_MPTCP.into(),
            ],
        ),
        (
            "device",
            &internet,
            libc::SYS_setsockopt,
            option(libc::SOL_SOCKET, libc::SO_BINDTODEVICE),
        ),
        (
            "filter",
            &internet,
            libc::SYS_setsockopt,
            option(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
        ),
        (
            "tls",
            &internet,
            libc::SYS_setsockopt,
            option(libc::IPPROTO_TCP, libc::TCP_ULP),
        ),
        (
            "group",
            &internet,
            libc::SYS_setsockopt,
            option(libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP),
        ),
        (
            "credentials",
            &unix,
            libc::SYS_getsockopt,
            option(libc::SOL_SOCKET, libc::SO_PEERCRED),
        ),
        (
            "sendto with an address",
            &internet,
            libc::SYS_sendto,
            vec![0.into(), bytes(8), 8.into(), 0.into(), bytes(16), 16.into()],
        ),
        (
            "a pair, whose function its module does not import",
            &unix,
            libc::SYS_socketpair,
            socket(libc::AF_UNIX, 1),
        ),
        (
            "recvfrom",
            &internet,
            libc::SYS_recvfrom,
            vec![0.into(), bytes(8), 8.into()],
        ),
        (
            "sendmmsg",
            &internet,
            libc::SYS_sendmmsg,
            vec![0.into(), bytes(64), 1.into()],
        ),
        (
            "fast open",
            &internet,
            libc::SYS_sendmsg,
            vec![0.into(), bytes(56), libc::MSG_FASTOPEN.into()],
        ),
        (
            "errors of others",
            &internet,
            libc::SYS_recvmsg,
            vec![0.into(), bytes(56), libc::MSG_ERRQUEUE.into()],
        ),
        ("fchdir", &internet, libc::SYS_fchdir, vec![0.into()]),
        ("chdir", &unix, libc::SYS_chdir, vec![text("/tmp")]),
        ("epoll", &internet, libc::SYS_epoll_create1, vec![0.into()]),
    ] {
        let mut container = escaped(&[call(number, &arguments)]);
        container.plan.network = granted.clone();
        assert_ends(name, number, container);
    }
}

/// What it adds for a guest that has escaped that its module makes pairs of sockets.
#[test]
fn escaped_guest_with_pairs_sends_to_their_other_ends_alone() {
    const IMPORT: &str = r#"(import "wasm_interp_posix_v1" "socketpair"
        (func (param i32 i32 i32 i32 i32 i32) (result i32)))"#;
    let of = |calls: &[Call]| TestContainer::of_code(&artifact_of(IMPORT, calls));
    let pair = |family: i32, kind: i32| {
        let kind = kind | libc::SOCK_CLOEXEC;
        vec![family.into(), kind.into(), 0.into(), bytes(8)]
    };
    let made = returned(of(&[
        call(
            libc::SYS_socketpair,
            &pair(libc::AF_UNIX, libc::SOCK_STREAM),
        ),
        call(libc::SYS_socketpair, &pair(libc::AF_UNIX, libc::SOCK_DGRAM)),
        call(libc::SYS_sendmsg, &[0.into(), bytes(56)]),
        call(libc::SYS_accept4, &[0.into()]),
    ]));
    // The kernel gets to see the first two, and their room is code, which it does not write to.
    let (seen, refused) = (i64::from(-libc::EFAULT), i64::from(-libc::ENOTSOCK));
    assert_eq!(made, [seen, seen, refused, refused]);
    let to = |family: i32| {
        let mut address = vec![0; 16];
        address[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        Argument::Bytes(address)
    };
    let socket = |family: i32| vec![family.into(), (1 | libc::SOCK_CLOEXEC).into(), 0.into()];
    for (name, number, arguments) in [
        ("unix", libc::SYS_socket, socket(libc::AF_UNIX)),
        ("internet", libc::SYS_socket, socket(libc::AF_INET)),
        ("pair", libc::SYS_socketpair, pair(libc::AF_INET, 1)),
        ("packets", libc::SYS_socketpair, pair(libc::AF_UNIX, 5)),
        (
            "to a path",
            libc::SYS_sendto,
            vec![
                0.into(),
                bytes(8),
                8.into(),
                0.into(),
                to(libc::AF_UNIX),
                16.into(),
            ],
        ),
        (
            "connect",
            libc::SYS_connect,
            vec![0.into(), to(libc::AF_UNIX), 16.into()],
        ),
        (
            "bind",
            libc::SYS_bind,
            vec![0.into(), to(libc::AF_UNIX), 16.into()],
        ),
        ("listen", libc::SYS_listen, vec![0.into(), 1.into()]),
        (
            "credentials",
            libc::SYS_getsockopt,
            vec![
                0.into(),
                libc::SOL_SOCKET.into(),
                libc::SO_PEERCRED.into(),
                bytes(16),
                bytes(4),
            ],
        ),
    ] {
        assert_ends(name, number, of(&[call(number, &arguments)]));
    }
}

/// Where the kernel has Landlock's ports. An address is the host functions' alone.
#[test]
fn escaped_guest_binds_and_connects_no_other_tcp_port() {
    let address = |port: u16| {
        let family = libc::AF_INET as u16;
        let host = [127, 0, 0, 1];
        let parts = [
            &family.to_ne_bytes()[..],
            &port.to_be_bytes(),
            &host,
            &[0; 8],
        ];
        Argument::Bytes(parts.concat())
    };
    let to = |number: i64, port: u16| {
        [
            call(
                libc::SYS_socket,
                &[
                    libc::AF_INET.into(),
                    (libc::SOCK_STREAM | libc::SOCK_CLOEXEC).into(),
                    0.into(),
                ],
            ),
            call(number, &[Argument::Previous, address(port), 16.into()]),
        ]
    };
    let calls: Vec<_> = [
        to(libc::SYS_bind, 8080),
        to(libc::SYS_bind, 8081),
        to(libc::SYS_connect, 5432),
        to(libc::SYS_connect, 5433),
    ]
    .concat();
    let mut container = escaped(&calls);
    container.plan.network = network("tcp:8080", "tcp:localhost:5432");
    let results = returned(container);
    let refused = i64::from(-libc::EACCES);
    assert_ne!(results[1], refused, "{results:?}");
    assert_ne!(results[5], refused, "{results:?}");
    if landlock_abi() >= 4 {
        assert_eq!((results[3], results[7]), (refused, refused), "{results:?}");
    }
}

#[allow(unsafe_code)]
fn landlock_abi() -> i64 {
    // SAFETY: with this flag (LANDLOCK_CREATE_RULESET_VERSION) the call takes no structure.
    unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0,
            1,
        )
    }
}

#[test]
fn every_call_of_sockets_is_made_by_a_guest() {
    let mut container = TestContainer::of(&guests::granted_sockets());
    container.plan.network = network("tcp:8080, udp:*, unix:/tmp/*", "unix:/tmp/*");
    let made = calls_of(container, Openat2::Allowed);
    let unused: Vec<_> = rules::SOCKETS
        .iter()
        .chain(rules::ALL_SOCKETS)
        .chain(rules::PAIRS)
        .filter(|rule| !made.contains(&rule.number))
        .map(|rule| rule.name)
        // No listener sees it: the runner makes the listener's handover of it. The guest has exited
        // with 0, so it was made.
        .filter(|name| *name != "SYS_sendmsg")
        .collect();
    assert!(unused.is_empty(), "no test makes these calls: {unused:?}");
}

/// Whether its streams are sockets or not: the filter answers, and the guest goes on.
#[test]
fn guest_learns_that_no_stream_of_its_own_is_a_socket() {
    let guest = TestContainer::of(&guests::sockets());
    assert_eq!(guest.run(), (0, String::new()));
    let mut guest = TestContainer::of(&guests::sockets());
    let (mine, its) = std::os::unix::net::UnixStream::pair().expect("sockets");
    guest.stdin = Some(its.into());
    assert_eq!(guest.run(), (0, String::new()));
    drop(mine);
}

/// Those of every guest, and of the guests that need more.
fn all_rules() -> impl Iterator<Item = &'static rules::Rule> {
    rules::RULES
        .iter()
        .chain(rules::SIGNALS)
        .chain(rules::PAIRS)
}

#[test]
fn every_call_of_the_list_is_made_by_a_guest() {
    for guest in [guests::everything(), guests::timer(), guests::pairs()] {
        assert_eq!(TestContainer::of(&guest).run(), (0, String::new()));
    }
    let mut made = BTreeSet::new();
    for guest in [
        guests::everything(),
        guests::trap(),
        guests::recursion(),
        guests::hungry(),
        guests::timer(),
        guests::pairs(),
    ] {
        made.extend(calls_of(TestContainer::of(&guest), Openat2::Allowed));
    }
    let guest = TestContainer::of(&guests::everything());
    made.extend(calls_of(guest, Openat2::Refused));
    // The allocator's, which has room at the start: when it asks for more depends on its history.
    let heap = escaped(&[call(libc::SYS_brk, &[0.into()])]);
    made.extend(calls_of(heap, Openat2::Allowed));
    let unused: Vec<_> = all_rules()
        .filter(|rule| matches!(rule.answer, rules::Answer::Allow(_)))
        .filter(|rule| !made.contains(&rule.number))
        .map(|rule| rule.name)
        .collect();
    assert!(unused.is_empty(), "no test makes these calls: {unused:?}");
}

/// Its handlers and timers are there already; without them its process has no use for the call.
#[test]
fn calls_of_a_guest_that_handles_signals_are_refused_to_others() {
    let mut container = escaped(&[call(libc::SYS_timer_settime, &[0.into(), 0.into()])]);
    container.create().expect("create");
    container.start().expect("start");
    assert_eq!(container.wait(), REFUSED);
}

/// What the pod's profile says of openat2(2), without which a guest's files are opened by openat(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Openat2 {
    Allowed,
    Refused,
}

/// The calls of the list that a guest's process makes behind its filter.
///
/// The pod's profile asks a listener about each of them, and this one lets all of them through.
fn calls_of(mut container: TestContainer, openat2: Openat2) -> BTreeSet<i64> {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("listener");
    let listener = UnixListener::bind(&path).expect("bind");
    // Of these two the runner makes the handover of the listener's own descriptor.
    let all = all_rules().chain(rules::SOCKETS).chain(rules::ALL_SOCKETS);
    let names: BTreeSet<_> = all.map(|rule| &rule.name["SYS_".len()..]).collect();
    let names: Vec<_> = names
        .into_iter()
        .filter(|name| !["write", "sendmsg"].contains(name))
        .chain(["seccomp"])
        .collect();
    container.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path,
        "syscalls": [{ "names": names, "action": "SCMP_ACT_NOTIFY" }],
    });
    let watcher = thread::spawn(move || watch(&listener, openat2));
    container.create().expect("create");
    container.start().expect("start");
    container.wait();
    let mut made = watcher.join().expect("the listener");
    if !container.output().is_empty() {
        made.insert(libc::SYS_write);
    }
    made
}

fn watch(listener: &UnixListener, openat2: Openat2) -> BTreeSet<i64> {
    let (connection, _) = listener.accept().expect("accept");
    let mut text = vec![0; 65536];
    let mut control = cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(
        connection.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        flags,
    );
    let message = message.expect("receive");
    let notifications = message
        .cmsgs()
        .expect("control messages")
        .find_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        })
        .expect("a descriptor");
    let notifications = owned(notifications);
    let mut made = BTreeSet::new();
    loop {
        let mut fds = [PollFd::new(notifications.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).expect("poll");
        // No process has the filter any more.
        if fds[0]
            .revents()
            .is_some_and(|r| r.contains(PollFlags::POLLHUP))
        {
            return made;
        }
        let Ok(request) = ScmpNotifReq::receive(notifications.as_raw_fd()) else {
            continue;
        };
        let number = i64::from(request.data.syscall.as_raw_syscall());
        if number == libc::SYS_seccomp {
            made.clear();
        } else {
            made.insert(number);
        }
        let flags = ScmpNotifRespFlags::empty();
        let answer = if number == libc::SYS_openat2 && openat2 == Openat2::Refused {
            ScmpNotifResp::new_error(request.id, -libc::EPERM, flags)
        } else {
            ScmpNotifResp::new_continue(request.id, flags)
        };
        // A signal may have ended the call meanwhile (ENOENT); it is then made again, and asked about again.
        let _ = answer.respond(notifications.as_raw_fd());
    }
}

#[allow(unsafe_code)]
fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel made it for the message, and nothing else closes it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
