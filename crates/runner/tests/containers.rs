//! The runner with real containers: as root, on this machine's kernel and cgroups.
//!
//! Holds what a container may see, how it ends and that nothing of it is left.

#[path = "support/guests.rs"]
mod guests;
// What the tests of native programs alone have a use for.
#[allow(dead_code)]
#[path = "support/mod.rs"]
mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::json;
use support::{Container, cgroups_named, grant};
use wasm_interp_runner::client::{EXIT_TRAP, Lifetime, RunnerError};
use wasm_interp_workload::{DirectoryRights, GrantKind};

const O_CREAT: i32 = 1;

#[test]
fn every_exit_code_is_passed_on() {
    for code in [0, 3, 126, 130, 255] {
        assert_eq!(
            Container::of(&guests::hello(code)).run(),
            (code, "hello\n".to_owned())
        );
    }
}

#[test]
fn an_exit_code_beyond_a_byte_keeps_its_lowest_as_on_linux() {
    assert_eq!(Container::of(&guests::hello(0x1_03)).run().0, 3);
}

#[test]
fn a_trap_is_told_from_a_kill_and_says_where() {
    let (code, output) = Container::of(&guests::trap()).run();
    assert_eq!(code, EXIT_TRAP);
    assert!(output.contains("integer divide by zero"), "{output}");
    assert!(output.contains("inner"), "{output}");
}

#[test]
fn recursion_that_is_too_deep_traps_in_words() {
    let (code, output) = Container::of(&guests::recursion()).run();
    assert_eq!(code, EXIT_TRAP);
    assert!(output.contains("its stack of 1024 KiB"), "{output}");
}

#[test]
fn memory_beyond_the_ceiling_is_refused_not_killed() {
    let mut container = Container::of(&guests::hungry());
    container.plan.limits.memory_bytes = Some(32 << 20);
    assert_eq!(container.run().0, 7);
    assert_eq!(Container::of(&guests::hungry()).run().0, 0);
}

#[test]
fn signals_end_the_guest_at_once_wherever_it_is() {
    for (signal, code) in [
        (Signal::SIGTERM, 143),
        (Signal::SIGINT, 130),
        (Signal::SIGHUP, 129),
        (Signal::SIGQUIT, 131),
        (Signal::SIGKILL, 137),
    ] {
        let mut busy = Container::of(&guests::busy());
        busy.create().expect("create");
        busy.start().expect("start");
        busy.wait_for_output("ready");
        busy.signal(signal);
        assert_eq!(busy.wait(), code, "in a loop");

        let mut blocked = Container::of(&guests::reader());
        let _open = blocked.with_stdin();
        blocked.create().expect("create");
        blocked.start().expect("start");
        blocked.wait_for_output("ready");
        blocked.signal(signal);
        assert_eq!(blocked.wait(), code, "in a read");

        let mut created = Container::of(&guests::busy());
        created.create().expect("create");
        created.signal(signal);
        assert_eq!(created.wait(), code, "before start");
        created.delete(false).expect("delete");
        created.assert_nothing_left();
    }
}

/// libcontainer makes links in /dev, and removes a ptmx, by the host's eyes.
#[test]
fn a_dev_that_is_a_symlink_leads_nobody_to_the_host() {
    for guest in [true, false] {
        let outside = tempfile::tempdir().expect("directory");
        fs::write(outside.path().join("ptmx"), "the host's").expect("write");
        let mut container = if guest {
            Container::of(&guests::hello(0))
        } else {
            Container::pause()
        };
        let root = container.root();
        fs::remove_dir(root.join("dev")).expect("remove");
        symlink(outside.path(), root.join("dev")).expect("link");
        // For a tmpfs, which libcontainer mounts beneath the root.
        let inside = outside.path().strip_prefix("/").expect("absolute");
        fs::create_dir_all(root.join(inside)).expect("make");
        let reason = container.create().expect_err("refused").to_string();
        assert!(reason.contains("/dev in the root filesystem"), "{reason}");
        let names: Vec<_> = fs::read_dir(outside.path())
            .expect("read")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        assert_eq!(names, ["ptmx"]);
        let ptmx = fs::read_to_string(outside.path().join("ptmx")).expect("read");
        assert_eq!(ptmx, "the host's");
        container.assert_nothing_left();
    }
}

/// A volume on /dev would get the devices and lose what has a name of theirs.
#[test]
fn a_volume_on_dev_is_refused_untouched() {
    let volume = tempfile::tempdir().expect("directory");
    fs::write(volume.path().join("core"), "kept").expect("write");
    let mut container = Container::of(&guests::hello(0));
    container.spec["mounts"] = json!([{
        "destination": "/dev", "type": "bind", "source": volume.path(), "options": ["rbind"],
    }]);
    let reason = container.create().expect_err("refused").to_string();
    assert!(reason.contains("mounted on /dev"), "{reason}");
    assert!(volume.path().join("core").is_file());
    assert_eq!(fs::read_dir(volume.path()).expect("read").count(), 1);
    container.assert_nothing_left();
}

#[test]
fn no_descriptor_of_the_host_reaches_the_guest() {
    let mut container = Container::of(&guests::busy());
    container.plan.grants.push(grant(
        "/data",
        GrantKind::Directory,
        DirectoryRights::ReadOnly,
    ));
    let pid = container.create().expect("create");
    container.start().expect("start");
    container.wait_for_output("ready");
    let mut open: Vec<(i32, String)> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("descriptors")
        .map(|entry| {
            let entry = entry.expect("entry");
            let number = entry.file_name().to_string_lossy().parse().expect("number");
            let target = fs::read_link(entry.path()).expect("link");
            (number, target.display().to_string())
        })
        .collect();
    open.sort();
    let (standard, beyond): (Vec<_>, Vec<_>) = open.into_iter().partition(|(fd, _)| *fd <= 2);
    assert_eq!(standard.len(), 3);
    let sockets = fs::read_to_string(format!("/proc/{pid}/net/unix")).expect("sockets");
    let made_inside = |target: &str| {
        let socket = target
            .strip_prefix("socket:[")
            .and_then(|t| t.strip_suffix(']'));
        socket.is_some_and(|inode| sockets.lines().any(|l| l.split(' ').any(|w| w == inode)))
    };
    let mut others: Vec<String> = beyond
        .into_iter()
        .map(|(_, target)| target)
        // The event loop's own, which lead nowhere. In a build of the whole workspace that has a
        // pair of sockets too; what was made in the container is not the host's.
        .filter(|t| !t.starts_with("anon_inode:[event") && !made_inside(t))
        .collect();
    others.sort();
    assert_eq!(others.len(), 3, "{others:?}");
    assert_eq!(others[0], "/");
    assert!(
        others.iter().any(|t| t.ends_with("/artifact")),
        "{others:?}"
    );
    assert!(others.iter().any(|t| t.ends_with("/data")), "{others:?}");
}

#[test]
fn the_process_is_named_after_the_interpreter_and_shows_the_guests_arguments() {
    let mut container = Container::of(&guests::busy());
    let pid = container.create().expect("create");
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).expect("comm");
    assert_eq!(comm, "guest.wasm\n");
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).expect("cmdline");
    assert_eq!(arguments, b"guest\0argument\0");
}

#[test]
fn a_limit_of_one_task_is_enough_and_holds() {
    let mut container = Container::of(&guests::busy());
    container.spec["linux"]["resources"] = json!({ "pids": { "limit": 1 } });
    let pid = container.create().expect("create");
    container.start().expect("start");
    container.wait_for_output("ready");
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .expect("tasks")
        .count();
    assert_eq!(threads, 1);
    assert_eq!(
        support::cgroup_file(&container.id, "pids.max").as_deref(),
        Some("1")
    );
}

#[test]
fn end_of_input_reaches_the_guest() {
    let mut container = Container::of(&guests::reader());
    drop(container.with_stdin());
    assert_eq!(container.run().0, 0);

    let mut container = Container::of(&guests::reader());
    let input = container.with_stdin();
    fs::File::from(input).write_all(b"12345").expect("write");
    assert_eq!(container.run().0, 5);
}

#[test]
fn a_poll_of_input_ends_by_the_clock_or_by_input() {
    let mut container = Container::of(&guests::poller());
    let _open = container.with_stdin();
    assert_eq!(container.run().0, 10, "nothing to read");

    let mut container = Container::of(&guests::poller());
    let input = container.with_stdin();
    container.create().expect("create");
    container.start().expect("start");
    std::thread::sleep(Duration::from_millis(5));
    fs::File::from(input).write_all(b"x").expect("write");
    assert!([20, 30].contains(&container.wait()), "something to read");
}

#[test]
fn missing_imports_fail_at_create_with_the_whole_list() {
    let mut container = Container::of_unchecked(&guests::foreign());
    let error = container.create().expect_err("must not be created");
    assert!(matches!(error, RunnerError::Failed { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("env.first, env.second"), "{text}");
    assert!(text.contains("/usr/bin/guest.wasm"), "{text}");
    container.assert_nothing_left();
}

#[test]
fn a_failed_mount_is_named_and_leaves_nothing() {
    let mut container = Container::of(&guests::hello(0));
    container.spec["mounts"].as_array_mut().expect("mounts").push(json!({
        "destination": "/data", "type": "bind", "source": "/no/such/source", "options": ["rbind"],
    }));
    let text = container
        .create()
        .expect_err("must not be created")
        .to_string();
    assert!(text.contains("/no/such/source"), "{text}");
    assert!(text.contains("No such file or directory"), "{text}");
    container.assert_nothing_left();
}

#[test]
fn killing_and_deleting_leaves_nothing_however_often() {
    let mut container = Container::of(&guests::busy());
    container.create().expect("create");
    container.start().expect("start");
    let refused = container.delete(false).expect_err("it runs");
    assert!(refused.to_string().contains("running"), "{refused}");
    container.delete(true).expect("delete with force");
    assert_eq!(container.wait(), 137);
    container.assert_nothing_left();
    container.delete(false).expect("delete what is not there");
    container.delete(true).expect("delete what is not there");
}

#[test]
fn the_reason_of_a_trap_is_noted_unless_there_is_one_already() {
    for (before, expected) in [("", "trapped"), ("the guest's own", "the guest's own")] {
        let mut container = Container::of(&guests::trap());
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        fs::write(file.path(), before).expect("fill it");
        let open = fs::File::options().append(true).open(file.path());
        container.reasons = Some(open.expect("open it"));
        assert_eq!(container.run().0, EXIT_TRAP);
        let noted = fs::read_to_string(file.path()).expect("read it");
        assert!(noted.contains(expected), "{noted}");
        assert!(before.is_empty() || noted == before, "{noted}");
    }
}

#[test]
fn a_failing_poststop_hook_is_a_warning_and_the_next_one_runs() {
    let mut container = Container::of(&guests::hello(0));
    let seen = container.root().with_file_name("seen");
    container.spec["hooks"] = json!({ "poststop": [
        { "path": "/bin/false" },
        { "path": "/bin/sh", "args": ["sh", "-c", format!("cat > {}", seen.display())] },
    ]});
    container.create().expect("create");
    container.start().expect("start");
    container.wait();
    let warnings = container.delete(false).expect("delete");
    assert!(
        matches!(&warnings[..], [one] if one.contains("poststop hook /bin/false")),
        "{warnings:?}"
    );
    let state = fs::read_to_string(&seen).expect("what the second hook was told");
    assert!(state.contains(r#""status":"stopped""#), "{state}");
    container.assert_nothing_left();
}

#[test]
fn a_half_written_state_does_not_keep_delete_from_its_work() {
    let mut container = Container::of(&guests::busy());
    container.create().expect("create");
    container.start().expect("start");
    let state = container.state().join(&container.id).join("state.json");
    let whole = fs::read(&state).expect("state");
    fs::write(&state, &whole[..whole.len() / 2]).expect("cut the state");
    container.delete(true).expect("delete");
    assert_eq!(container.wait(), 137);
    container.assert_nothing_left();
}

#[test]
fn a_second_start_is_refused() {
    let mut container = Container::of(&guests::busy());
    container.create().expect("create");
    container.start().expect("start");
    let error = container.start().expect_err("twice").to_string();
    assert!(error.contains("running"), "{error}");
}

/// The forms of `cgroupsPath` for a container, each with the directory that it names.
fn forms(container: &Container) -> [(String, String); 4] {
    let (id, parent) = (&container.id, container.parent());
    [
        (format!("/{parent}/{id}"), format!("/{parent}/{id}")),
        (format!("{parent}/{id}"), format!("/{parent}/{id}")),
        (
            format!("{parent}-pod1.slice:prefix:{id}"),
            format!("/{parent}.slice/{parent}-pod1.slice/prefix-{id}.scope"),
        ),
        (
            format!(":prefix:{id}"),
            format!("/system.slice/prefix-{id}.scope"),
        ),
    ]
}

#[test]
fn each_form_of_cgroups_path_leads_to_its_cgroup() {
    for form in 0..4 {
        let mut container = Container::of(&guests::busy());
        let (path, expected) = forms(&container)[form].clone();
        container.spec["linux"]["cgroupsPath"] = json!(path);
        let pid = container.create().expect("create");
        let memberships = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup");
        if support::unified() {
            assert_eq!(memberships, format!("0::{expected}\n"), "{path}");
        } else {
            for controller in ["memory", "cpu", "cpuset", "pids", "devices", "freezer"] {
                let line = memberships
                    .lines()
                    .find(|l| {
                        l.split(':')
                            .nth(1)
                            .is_some_and(|c| c.split(',').any(|c| c == controller))
                    })
                    .unwrap_or_else(|| panic!("no {controller} in {memberships}"));
                assert!(
                    line.ends_with(&format!(":{expected}")),
                    "{line}, not {expected}"
                );
            }
        }
        container.start().expect("start");
        container.wait_for_output("ready");
        container.delete(true).expect("delete");
        container.assert_nothing_left();
    }
}

#[test]
fn limits_are_in_force_in_each_form_of_cgroup() {
    for form in 0..4 {
        let mut container = Container::of(&guests::busy());
        let (path, _) = forms(&container)[form].clone();
        container.spec["linux"]["cgroupsPath"] = json!(path);
        container.spec["linux"]["resources"] = json!({
            "memory": { "limit": 64 << 20, "reservation": 32 << 20 },
            "cpu": { "shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0" },
            "pids": { "limit": 7 },
        });
        container.create().expect("create");
        let expected: &[(&str, &str)] = if support::unified() {
            &[
                ("memory.max", "67108864"),
                ("memory.low", "33554432"),
                ("cpu.max", "50000 100000"),
                ("cpu.weight", "59"),
                ("cpuset.cpus", "0"),
                ("cpuset.mems", "0"),
                ("pids.max", "7"),
            ]
        } else {
            &[
                ("memory.limit_in_bytes", "67108864"),
                ("memory.soft_limit_in_bytes", "33554432"),
                ("cpu.cfs_quota_us", "50000"),
                ("cpu.cfs_period_us", "100000"),
                ("cpu.shares", "512"),
                ("cpuset.cpus", "0"),
                ("cpuset.mems", "0"),
                ("pids.max", "7"),
            ]
        };
        for (file, value) in expected {
            assert_eq!(
                support::cgroup_file(&container.id, file).as_deref(),
                Some(*value),
                "{file} of {path}"
            );
        }
        container.delete(true).expect("delete");
        container.assert_nothing_left();
    }
}

/// The kubelet sets `memory.oom.group`, for which systemd has no property.
#[test]
fn files_of_version_2_are_written_as_the_spec_says() {
    if !support::unified() {
        return;
    }
    for form in 0..4 {
        let mut container = Container::of(&guests::busy());
        let (path, _) = forms(&container)[form].clone();
        container.spec["linux"]["cgroupsPath"] = json!(path);
        let files = [
            ("memory.oom.group", "1"),
            ("memory.high", "50331648"),
            ("cpu.weight", "200"),
        ];
        container.spec["linux"]["resources"] = json!({ "unified": files.iter().copied().collect::<std::collections::HashMap<_, _>>() });
        container.create().expect("create");
        for (file, value) in files {
            assert_eq!(
                support::cgroup_file(&container.id, file).as_deref(),
                Some(value),
                "{file} of {path}"
            );
        }
        container.delete(true).expect("delete");
        container.assert_nothing_left();
    }
}

#[test]
fn a_device_of_the_image_cannot_be_opened_in_any_form_of_cgroup() {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    const MEMORY: u64 = 1;
    const EPERM: i32 = 63;
    // The kernel's log, and what every program may have.
    for (minor, expected) in [(11, EPERM), (5, 0)] {
        for form in 0..4 {
            let mut container = Container::of(&guests::opener("data/device", 0));
            let (path, _) = forms(&container)[form].clone();
            container.spec["linux"]["cgroupsPath"] = json!(path);
            let device = container.root().join("data/device");
            let mode = Mode::from_bits_truncate(0o666);
            mknod(&device, SFlag::S_IFCHR, mode, makedev(MEMORY, minor)).expect("mknod");
            assert_eq!(container.run().0, expected, "1:{minor} in {path}");
        }
    }
}

#[test]
fn dev_holds_five_devices_and_the_cgroup_allows_no_other() {
    let mut container = Container::of(&guests::busy());
    let pid = container.create().expect("create");
    let mut names: Vec<_> = fs::read_dir(format!("/proc/{pid}/root/dev"))
        .expect("dev")
        .map(|e| e.expect("entry").file_name().into_string().expect("name"))
        .collect();
    names.sort();
    assert_eq!(names, ["full", "null", "random", "urandom", "zero"]);
    if let Some(rules) = cgroups_named(&container.id)
        .into_iter()
        .find_map(|c| fs::read_to_string(c.join("devices.list")).ok())
    {
        let mut rules: Vec<_> = rules.lines().collect();
        rules.sort_unstable();
        assert_eq!(
            rules,
            [
                "c 1:3 rwm",
                "c 1:5 rwm",
                "c 1:7 rwm",
                "c 1:8 rwm",
                "c 1:9 rwm"
            ]
        );
    }
}

#[test]
fn the_users_ids_umask_and_limits_are_honoured() {
    let mut container = Container::of(&guests::opener("tmp/made", O_CREAT));
    let tmp = container.root().join("tmp");
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o777)).expect("chmod");
    container.spec["process"]["user"] =
        json!({ "uid": 1234, "gid": 2345, "umask": 0o027, "additionalGids": [3456, 4567] });
    container.spec["process"]["rlimits"] =
        json!([{ "type": "RLIMIT_FSIZE", "soft": 4096, "hard": 8192 }]);
    let pid = container.create().expect("create");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    assert!(status.contains("Uid:\t1234\t1234\t1234\t1234"), "{status}");
    assert!(status.contains("Gid:\t2345\t2345\t2345\t2345"), "{status}");
    assert!(status.contains("Groups:\t3456 4567"), "{status}");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let size = limits
        .lines()
        .find(|l| l.starts_with("Max file size"))
        .expect("line");
    assert_eq!(
        size.split_whitespace().skip(3).collect::<Vec<_>>(),
        ["4096", "8192", "bytes"]
    );
    container.start().expect("start");
    assert_eq!(container.wait(), 0, "{}", container.output());
    let mode = fs::metadata(tmp.join("made"))
        .expect("the file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn groups_of_the_caller_are_not_inherited() {
    let mut container = Container::of(&guests::busy());
    let pid = container.create().expect("create");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let groups = status
        .lines()
        .find(|l| l.starts_with("Groups:"))
        .expect("line");
    assert_eq!(groups.trim(), "Groups:");
}

#[test]
fn a_read_only_grant_refuses_to_write() {
    const EROFS: i32 = 69;
    const EPERM: i32 = 63;
    let mut container = Container::of(&guests::opener("tmp/made", O_CREAT));
    container.plan.grants = vec![grant("/", GrantKind::Directory, DirectoryRights::ReadOnly)];
    container.spec["root"]["readonly"] = json!(true);
    let (code, _) = container.run();
    assert!([EROFS, EPERM].contains(&code), "{code}");
}

#[test]
fn nothing_of_the_image_is_loaded_to_look_up_a_user() {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    let mut container = Container::of(&guests::hello(0));
    let root = container.root();
    let library = root.join("lib/x86_64-linux-gnu");
    fs::create_dir_all(&library).expect("make");
    fs::write(
        root.join("etc/nsswitch.conf"),
        "passwd: evil\ngroup: evil\n",
    )
    .expect("write");
    fs::write(library.join("libnss_evil.so.2"), "not reached").expect("write");
    let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).expect("inotify");
    for directory in [&root.join("etc"), &library] {
        watch
            .add_watch(directory, AddWatchFlags::IN_OPEN | AddWatchFlags::IN_ACCESS)
            .expect("watch");
    }
    // The case in which libcontainer would look.
    container.spec["process"]["env"] = json!(["PATH=/bin", "HOME="]);
    container.spec["process"]["user"] = json!({ "uid": 1234, "gid": 1234 });
    container.create().expect("create");
    container.start().expect("start");
    assert_eq!(container.wait(), 0, "{}", container.output());
    assert_eq!(
        watch.read_events().expect_err("no event"),
        nix::Error::EAGAIN
    );
}

#[test]
fn a_sandbox_waits_ends_with_zero_and_weighs_little() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut container = Container::pause();
        let pid = container.create().expect("create");
        container.start().expect("start");
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("fds")
            .count()
            > 3
        {
            assert!(
                std::time::Instant::now() < end,
                "the host's descriptors stay open"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).expect("comm");
        assert_eq!(comm, "pause\n");
        let dirty = support::own_memory(pid);
        assert!(dirty < 1024, "{dirty} KiB");
        container.signal(signal);
        assert_eq!(container.wait(), 0);
        container.delete(false).expect("delete");
        container.assert_nothing_left();
    }
}

#[test]
fn a_runner_that_is_not_there_is_named() {
    let runner = wasm_interp_runner::client::Runner::new("/no/such/runner");
    let error = runner
        .start("x", Path::new("/tmp"))
        .expect_err("not there")
        .to_string();
    assert!(error.contains("/no/such/runner"), "{error}");
}

#[test]
fn a_profile_that_this_machine_lacks_fails_the_create() {
    let mut container = Container::of(&guests::hello(0));
    container.spec["process"]["apparmorProfile"] = json!("no-such-profile");
    let text = container.create().expect_err("must fail").to_string();
    assert!(
        text.contains("AppArmor profile \"no-such-profile\""),
        "{text}"
    );
    container.assert_nothing_left();
}

#[test]
fn a_missing_working_directory_is_made_for_root() {
    for read_only in [false, true] {
        let mut container = Container::of(&guests::hello(0));
        container.spec["process"]["cwd"] = json!("/srv/app/work");
        container.spec["process"]["user"] = json!({ "uid": 1234, "gid": 2345 });
        container.spec["root"]["readonly"] = json!(read_only);
        let made = container.root().join("srv/app/work");
        container.create().expect("create");
        container.start().expect("start");
        assert_eq!(container.wait(), 0, "{}", container.output());
        for directory in made.ancestors().take(3) {
            let metadata = fs::metadata(directory).expect("the directory");
            assert_eq!((metadata.uid(), metadata.gid()), (0, 0));
            assert_eq!(metadata.mode() & 0o7777, 0o755);
        }
    }
}

#[test]
fn a_missing_working_directory_is_made_in_the_mount_it_lies_in() {
    let volume = tempfile::tempdir().expect("volume");
    let mut container = Container::of(&guests::hello(0));
    let root = container.root();
    container.spec["process"]["cwd"] = json!("/data/work");
    container.spec["root"]["readonly"] = json!(true);
    container.spec["mounts"].as_array_mut().expect("mounts").push(json!({
        "destination": "/data", "type": "bind", "source": volume.path(), "options": ["rbind", "rw"],
    }));
    container.create().expect("create");
    assert!(volume.path().join("work").is_dir());
    assert!(!root.join("data/work").exists());
}

#[test]
fn a_working_directory_that_cannot_be_made_fails_the_create() {
    let outside = tempfile::tempdir().expect("outside");
    for (path, cause) in [("/file/work", "ENOTDIR"), ("/link/work", "ENOENT")] {
        let mut container = Container::of(&guests::hello(0));
        fs::write(container.root().join("file"), "").expect("write");
        std::os::unix::fs::symlink(outside.path(), container.root().join("link")).expect("link");
        container.spec["process"]["cwd"] = json!(path);
        let text = container.create().expect_err("must fail").to_string();
        assert!(text.contains(path) && text.contains(cause), "{text}");
        assert!(!text.contains("cleaning up"), "{text}");
        container.assert_nothing_left();
    }
    assert_eq!(fs::read_dir(outside.path()).expect("read").count(), 0);
}

/// Set in the process that plays the caller in `a_tied_container_ends_with_its_caller`.
const PLAY_THE_CALLER: &str = "RUNNER_TEST_PLAY_THE_CALLER";

#[test]
fn a_tied_container_ends_with_its_caller() {
    nix::sys::prctl::set_child_subreaper(true).expect("become a subreaper");
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut caller = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "play_the_caller", "--nocapture"])
        .env(PLAY_THE_CALLER, "")
        .env("TMPDIR", directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the caller");
    let line = BufReader::new(caller.stdout.take().expect("piped"))
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("runs ").map(str::to_owned))
        .expect("the caller says what runs");
    let (pid, rest) = line.split_once(' ').expect("pid");
    let (id, state) = rest.split_once(' ').expect("id and state");

    caller.kill().expect("kill the caller");
    caller.wait().expect("wait for the caller");
    // The orphan is ours now.
    assert_eq!(
        support::wait(Pid::from_raw(pid.parse().expect("pid"))),
        Some(137)
    );
    support::runner()
        .delete(id, Path::new(state), false)
        .expect("delete");
    assert!(cgroups_named(id).is_empty());
    // The caller's own clean-up died with it.
    support::remove_parents(id);
}

#[test]
fn play_the_caller() {
    if std::env::var_os(PLAY_THE_CALLER).is_none() {
        return;
    }
    let mut container = Container::of(&guests::busy());
    container.lifetime = Lifetime::Callers;
    let pid = container.create().expect("create");
    container.start().expect("start");
    container.wait_for_output("ready");
    println!(
        "\nruns {pid} {} {}",
        container.id,
        container.state().display()
    );
    std::thread::sleep(Duration::from_secs(60));
}
