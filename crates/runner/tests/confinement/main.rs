//! The runner and a guest that has broken out of its sandbox: native code in the guest's process, on
//! this machine's kernel, as root.
//!
//! Holds that the container and the filter of `src/confine` hold by themselves.

// What the other tests alone have a use for.
#[allow(dead_code)]
#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code)]
#[path = "../support/guests.rs"]
mod guests;

#[path = "../support/payload.rs"]
mod payload;

/// The list itself: the runner is a program, not a library.
#[allow(dead_code)]
#[path = "../../src/confine/rules.rs"]
mod rules;

mod calls;
mod profiles;
mod sockets;

use std::{
    fs::{self, File},
    io::Seek,
    os::unix::fs::MetadataExt,
};

use libc::{
    AT_FDCWD, CLONE_NEWNS, CLONE_NEWUSER, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED,
    PROT_EXEC, PROT_READ, PROT_WRITE,
};
use serde_json::json;
use wasm_interp_wasi::{ModesBy, SYS_FCHMODAT2};

use payload::{Argument, Call, artifact, call, text};
use support::{TestContainer, status};

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
    let (by_path, other) = match ModesBy::of_kernel() {
        ModesBy::Fchmodat2 => (SYS_FCHMODAT2, libc::SYS_fchmodat),
        ModesBy::Fchmodat => (libc::SYS_fchmodat, SYS_FCHMODAT2),
    };
    let mut container = escaped(&[
        call(
            libc::SYS_openat,
            &[cwd(), file(), make.into(), 0o755.into()],
        ),
        call(libc::SYS_fchmod, &[Argument::Previous, 0o4755.into()]),
        call(by_path, &[cwd(), file(), 0o2755.into(), 0.into()]),
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
            "the other way to change a mode",
            other,
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
