//! The runner with real containers: as root, on this machine's kernel and cgroups.
//!
//! Holds what a container may see, how it ends and that nothing of it is left.

#[allow(dead_code)]
#[path = "support/guests.rs"]
mod guests;
// Other tests use the rest of it.
#[allow(dead_code)]
#[path = "support/mod.rs"]
mod support;

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::json;
use support::{AfterKill, TestContainer, cgroups_named, grant};
use tempfile::TempDir;
use wasm_interp_runner_client::{EXIT_TRAP, Lifetime, RunnerError, SharedCeiling};
use wasm_interp_workload::{GrantKind, MountAccess};

const O_CREAT: i32 = 1;

#[test]
fn every_exit_code_is_passed_on() {
    for code in [0, 3, 126, 130, 255] {
        assert_eq!(
            TestContainer::of(&guests::hello(code)).run(),
            (code, "hello\n".to_owned())
        );
    }
}

#[test]
fn only_the_lowest_byte_of_an_exit_code_counts() {
    assert_eq!(TestContainer::of(&guests::hello(0x1_03)).run().0, 3);
}

#[test]
fn trap_has_its_own_exit_code_and_a_backtrace() {
    let (code, output) = TestContainer::of(&guests::trap()).run();
    assert_eq!(code, EXIT_TRAP);
    assert!(output.contains("integer divide by zero"), "{output}");
    assert!(output.contains("inner"), "{output}");
}

#[test]
fn endless_recursion_traps_and_the_message_names_the_stack() {
    let (code, output) = TestContainer::of(&guests::recursion()).run();
    assert_eq!(code, EXIT_TRAP);
    assert!(output.contains("its stack of 1024 KiB"), "{output}");
}

#[test]
fn allocation_beyond_the_memory_limit_fails_and_kills_no_process() {
    let mut container = TestContainer::of(&guests::hungry());
    container.plan.limits.memory_bytes = Some(32 << 20);
    assert_eq!(container.run().0, 7);
    assert_eq!(TestContainer::of(&guests::hungry()).run().0, 0);
}

/// Wasmtime collects garbage in steps, between which it yields.
#[test]
fn garbage_is_collected_while_a_guest_runs() {
    for guest in [guests::thrower(50_000), guests::litterer(20_000)] {
        let mut container = TestContainer::of(&guest);
        container.plan.limits.memory_bytes = Some(32 << 20);
        assert_eq!(container.run(), (0, String::new()));
    }
    let mut keeper = TestContainer::of(&guests::keeper());
    keeper.plan.limits.memory_bytes = Some(32 << 20);
    let (code, output) = keeper.run();
    assert_eq!(code, EXIT_TRAP);
    assert!(output.contains("memory"), "{output}");
}

#[test]
fn table_whose_size_overflows_gives_a_guest_no_more_memory() {
    let mut container = TestContainer::of(&guests::overflower());
    container.plan.limits.memory_bytes = Some(100 << 20);
    assert_eq!(container.run().0, 6);
}

#[test]
fn keys_of_a_terminal_mean_to_a_guest_what_they_mean_elsewhere() {
    for (keys, code) in [
        ("hi\n", 3),
        // ctrl-D: the end of the input; ctrl-C and ctrl-\: signals of the terminal.
        ("\x04", 0),
        ("\x03", 130),
        ("\x1c", 131),
    ] {
        let mut container = TestContainer::of(&guests::reader());
        container.spec["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        container.on_a_terminal();
        container.create().expect("create");
        assert!(!container.terminal().take_over(), "a guest has the host's");
        container.start().expect("start");
        container.terminal().shown("ready\r\n");
        container.terminal().type_keys(keys);
        assert_eq!(container.wait(), code, "{keys:?}");
        container.delete(false).expect("delete");
        container.assert_nothing_left();
    }
}

/// The shim changes the ceiling when the container's memory limit is updated.
#[test]
fn ceiling_of_a_running_guest_follows_its_page_in_both_directions() {
    const MIB: u64 = 1 << 20;
    let mut container = TestContainer::of(&guests::grower());
    container.ceiling = Some(SharedCeiling::new(Some(24 * MIB)).expect("a page"));
    let stdin = fs::File::from(container.with_stdin());
    container.create().expect("create");
    container.start().expect("start");
    let mut expected = String::new();
    let mut ask = |bytes: Option<u64>, answer: &str| {
        container.ceiling.as_ref().expect("a page").set(bytes);
        (&stdin).write_all(b"more\n").expect("ask");
        expected.push_str(answer);
        container.wait_for_output(&expected);
        assert_eq!(container.output(), expected);
    };
    ask(Some(24 * MIB), "granted\n");
    ask(Some(24 * MIB), "refused\n");
    ask(Some(40 * MIB), "granted\n");
    ask(Some(20 * MIB), "refused\n");
    ask(None, "granted\n");
    drop(stdin);
    assert_eq!(container.wait(), 0);
    container.delete(false).expect("delete");
    container.assert_nothing_left();
}

#[test]
fn signals_end_the_guest_in_a_loop_in_a_call_and_before_start() {
    for (signal, code) in [
        (Signal::SIGTERM, 143),
        (Signal::SIGINT, 130),
        (Signal::SIGHUP, 129),
        (Signal::SIGQUIT, 131),
        (Signal::SIGKILL, 137),
    ] {
        let mut busy = TestContainer::of(&guests::busy());
        busy.create().expect("create");
        busy.start().expect("start");
        busy.wait_for_output("ready");
        busy.signal(signal);
        assert_eq!(busy.wait(), code, "in a loop");

        let mut blocked = TestContainer::of(&guests::reader());
        let _open = blocked.with_stdin();
        blocked.create().expect("create");
        blocked.start().expect("start");
        blocked.wait_for_output("ready");
        blocked.signal(signal);
        assert_eq!(blocked.wait(), code, "in a read");

        let mut created = TestContainer::of(&guests::busy());
        created.create().expect("create");
        created.signal(signal);
        assert_eq!(created.wait(), code, "before start");
        created.delete(false).expect("delete");
        created.assert_nothing_left();
    }
}

/// libcontainer makes links in /dev, and removes a ptmx, by the host's eyes.
#[test]
fn image_whose_dev_is_a_symlink_is_refused_and_the_host_unchanged() {
    for guest in [true, false] {
        let outside = tempfile::tempdir().expect("directory");
        fs::write(outside.path().join("ptmx"), "the host's").expect("write");
        let mut container = if guest {
            TestContainer::of(&guests::hello(0))
        } else {
            TestContainer::pause()
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

/// A volume on /dev would get the devices and lose what has a name of theirs, however the spec
/// spells `/dev`.
#[test]
fn volume_on_dev_is_refused_and_unchanged() {
    for (destination, typ, option) in [
        ("/dev", "bind", "rbind"),
        ("/dev", "tmpfs", "rbind"),
        ("/dev", "none", "bind"),
        ("/dev/", "bind", "rbind"),
        ("dev", "bind", "rbind"),
        ("./dev", "bind", "rbind"),
        ("//dev/.", "bind", "rbind"),
        ("/data/../dev", "bind", "rbind"),
        ("/../dev", "bind", "rbind"),
        ("/missing/../dev", "bind", "rbind"),
        ("/link", "bind", "rbind"),
        ("/far/link", "tmpfs", "bind"),
        ("/proc/self/../../dev", "bind", "rbind"),
    ] {
        for mut container in [
            TestContainer::of(&guests::hello(0)),
            TestContainer::native(&["sh", "-c", "exit 0"]),
            TestContainer::pause(),
        ] {
            let volume = tempfile::tempdir().expect("directory");
            for name in ["core", "ptmx", "fd", "full"] {
                fs::write(volume.path().join(name), "kept").expect("write");
            }
            let root = container.root();
            symlink("dev", root.join("link")).expect("link");
            symlink("/data/there", root.join("far")).expect("link");
            fs::create_dir(root.join("data/there")).expect("make");
            symlink("/../dev/../dev", root.join("data/there/link")).expect("link");
            let mounts = container.spec["mounts"].as_array_mut().expect("mounts");
            mounts.push(json!({
                "destination": destination, "type": typ, "source": volume.path(),
                "options": [option],
            }));
            let what = format!("{destination} {typ} {option}");
            let reason = container.create().expect_err(&what).to_string();
            assert!(reason.contains("mounted on /dev"), "{what}: {reason}");
            let mut names: Vec<_> = fs::read_dir(volume.path())
                .expect("read")
                .map(|entry| entry.expect("entry").file_name())
                .collect();
            names.sort();
            assert_eq!(names, ["core", "fd", "full", "ptmx"], "{what}");
            container.assert_nothing_left();
        }
    }
}

/// What lies on the way to /dev may be spelled in any way too.
#[test]
fn tmpfs_on_dev_and_a_file_in_it_are_accepted_in_every_spelling() {
    let mut container = TestContainer::of(&guests::busy());
    symlink("dev", container.root().join("link")).expect("link");
    let file = container.root().join("etc/file");
    fs::write(&file, "kept").expect("write");
    let option = |options: &[&str]| json!(options);
    container.spec["mounts"] = json!([
        { "destination": "/data/../dev", "type": "tmpfs", "source": "tmpfs",
          "options": option(&["nosuid", "ro"]) },
        { "destination": "/link/other", "type": "bind", "source": file,
          "options": option(&["bind"]) },
    ]);
    let pid = container.create().expect("create");
    let dev = format!("/proc/{pid}/root/dev");
    let mut names: Vec<_> = fs::read_dir(&dev)
        .expect("dev")
        .map(|e| e.expect("entry").file_name().into_string().expect("name"))
        .collect();
    names.sort();
    let links = ["fd", "stderr", "stdin", "stdout"];
    names.retain(|name| !links.contains(&name.as_str()));
    assert_eq!(
        names,
        ["full", "null", "other", "random", "urandom", "zero"]
    );
    let kept = fs::read_to_string(format!("{dev}/other")).expect("read");
    assert_eq!(kept, "kept");
}

#[test]
fn the_process_is_named_after_the_interpreter_and_shows_the_guests_arguments() {
    let mut container = TestContainer::of(&guests::busy());
    let pid = container.create().expect("create");
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).expect("comm");
    assert_eq!(comm, "guest.wasm\n");
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).expect("cmdline");
    assert_eq!(arguments, b"guest\0argument\0");
}

#[test]
fn guest_runs_under_a_limit_of_one_task() {
    let mut container = TestContainer::of(&guests::busy());
    container.spec["linux"]["resources"] = json!({ "pids": { "limit": 1 } });
    let pid = container.create().expect("create");
    container.start().expect("start");
    container.wait_for_output("ready");
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .expect("tasks")
        .count();
    assert_eq!(threads, 1);
    assert_eq!(
        support::cgroups::cgroup_file(&container.id, "pids.max").as_deref(),
        Some("1")
    );
}

#[test]
fn end_of_input_reaches_the_guest() {
    let mut container = TestContainer::of(&guests::reader());
    drop(container.with_stdin());
    assert_eq!(container.run().0, 0);

    let mut container = TestContainer::of(&guests::reader());
    let input = container.with_stdin();
    fs::File::from(input).write_all(b"12345").expect("write");
    assert_eq!(container.run().0, 5);
}

#[test]
fn a_poll_of_input_ends_by_the_clock_or_by_input() {
    let mut container = TestContainer::of(&guests::poller());
    let _open = container.with_stdin();
    assert_eq!(container.run().0, 10, "nothing to read");

    let mut container = TestContainer::of(&guests::poller());
    let input = container.with_stdin();
    container.create().expect("create");
    fs::File::from(input).write_all(b"x").expect("write");
    container.start().expect("start");
    assert!([20, 30].contains(&container.wait()), "something to read");
}

#[test]
fn missing_imports_fail_at_create_with_the_whole_list() {
    let mut container = TestContainer::of_unchecked(&guests::foreign());
    let error = container.create().expect_err("must not be created");
    assert!(matches!(error, RunnerError::Failed { .. }), "{error}");
    let text = error.to_string();
    let imports = "env.first (function), env.second (function)";
    assert!(
        text.starts_with("cannot run /usr/bin/guest.wasm: "),
        "{text}"
    );
    assert!(text.contains(imports), "{text}");
    container.assert_nothing_left();
}

#[test]
fn a_failed_mount_is_named_and_leaves_nothing() {
    let mut container = TestContainer::of(&guests::hello(0));
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
fn repeated_kills_and_deletes_leave_nothing() {
    let mut container = TestContainer::of(&guests::busy());
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
fn termination_log_gets_the_reason_of_a_trap_if_it_is_empty() {
    for (before, expected) in [("", "trapped"), ("the guest's own", "the guest's own")] {
        let mut container = TestContainer::of(&guests::trap());
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
    let mut container = TestContainer::of(&guests::hello(0));
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
fn delete_succeeds_with_an_incomplete_state() {
    let mut container = TestContainer::of(&guests::busy());
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
    let mut container = TestContainer::of(&guests::busy());
    container.create().expect("create");
    container.start().expect("start");
    let error = container.start().expect_err("twice").to_string();
    assert!(error.contains("running"), "{error}");
}

/// The forms of `cgroupsPath` for a container, each with the directory that it names.
fn forms(container: &TestContainer) -> [(String, String); 4] {
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
        let mut container = TestContainer::of(&guests::busy());
        let (path, expected) = forms(&container)[form].clone();
        container.spec["linux"]["cgroupsPath"] = json!(path);
        let pid = container.create().expect("create");
        let memberships = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup");
        if support::cgroups::unified() {
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
        let mut container = TestContainer::of(&guests::busy());
        let (path, _) = forms(&container)[form].clone();
        container.spec["linux"]["cgroupsPath"] = json!(path);
        container.spec["linux"]["resources"] = json!({
            "memory": { "limit": 64 << 20, "reservation": 32 << 20 },
            "cpu": { "shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0" },
            "pids": { "limit": 7 },
        });
        container.create().expect("create");
        let expected: &[(&str, &str)] = if support::cgroups::unified() {
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
                support::cgroups::cgroup_file(&container.id, file).as_deref(),
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
fn files_of_cgroup_v2_that_the_spec_names_are_written() {
    if !support::cgroups::unified() {
        return;
    }
    for form in 0..4 {
        let mut container = TestContainer::of(&guests::busy());
        let (path, _) = forms(&container)[form].clone();
        container.spec["linux"]["cgroupsPath"] = json!(path);
        let files = [
            ("memory.oom.group", "1"),
            ("memory.high", "50331648"),
            ("cpu.weight", "200"),
        ];
        let unified: HashMap<_, _> = files.iter().copied().collect();
        container.spec["linux"]["resources"] = json!({ "unified": unified });
        container.create().expect("create");
        for (file, value) in files {
            assert_eq!(
                support::cgroups::cgroup_file(&container.id, file).as_deref(),
                Some(value),
                "{file} of {path}"
            );
        }
        container.delete(true).expect("delete");
        container.assert_nothing_left();
    }
}

#[test]
fn cgroup_allows_no_other_device_in_any_form_of_its_path() {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    const MEMORY: u64 = 1;
    const EPERM: i32 = 63;
    // The kernel's log, and what every program may have.
    for (minor, expected) in [(11, EPERM), (5, 0)] {
        for form in 0..4 {
            let mut container = TestContainer::of(&guests::opener("dev/device", 0));
            let (path, _) = forms(&container)[form].clone();
            container.spec["linux"]["cgroupsPath"] = json!(path);
            let pid = container.create().expect("create");
            // Elsewhere the mount forbids it before the cgroup is asked.
            let device = PathBuf::from(format!("/proc/{pid}/root/dev/device"));
            let mode = Mode::from_bits_truncate(0o666);
            mknod(&device, SFlag::S_IFCHR, mode, makedev(MEMORY, minor)).expect("mknod");
            container.start().expect("start");
            assert_eq!(container.wait(), expected, "1:{minor} in {path}");
        }
    }
}

#[test]
fn dev_holds_five_devices_and_the_cgroup_allows_no_other() {
    let mut container = TestContainer::of(&guests::busy());
    let pid = container.create().expect("create");
    let mut names: Vec<_> = fs::read_dir(format!("/proc/{pid}/root/dev"))
        .expect("dev")
        .map(|e| e.expect("entry").file_name().into_string().expect("name"))
        .collect();
    names.sort();
    let links = ["fd", "stderr", "stdin", "stdout"];
    names.retain(|name| !links.contains(&name.as_str()));
    assert_eq!(names, ["full", "null", "random", "urandom", "zero"]);
    for link in links {
        let target = fs::read_link(format!("/proc/{pid}/root/dev/{link}")).expect(link);
        // Of what a guest does not have; its host functions know the names.
        assert!(target.starts_with("/proc/self/fd"), "{link}");
    }
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
fn user_groups_umask_and_limits_of_the_spec_apply() {
    let mut container = TestContainer::of(&guests::opener("tmp/made", O_CREAT));
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
    let mut container = TestContainer::of(&guests::busy());
    let pid = container.create().expect("create");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let groups = status
        .lines()
        .find(|l| l.starts_with("Groups:"))
        .expect("line");
    assert_eq!(groups.trim(), "Groups:");
}

#[test]
fn kernel_refuses_to_write_to_a_read_only_root_whatever_the_plan_says() {
    const EROFS: i32 = 69;
    let mut container = TestContainer::of(&guests::opener("tmp/made", O_CREAT));
    container.plan.grants = vec![grant("/", GrantKind::Directory, MountAccess::Writable)];
    container.spec["root"]["readonly"] = json!(true);
    let (code, _) = container.run();
    assert_eq!(code, EROFS);
}

#[test]
fn no_nss_module_of_the_image_is_loaded() {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    let mut container = TestContainer::of(&guests::hello(0));
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
fn sandbox_waits_for_a_signal_ends_with_zero_and_needs_little_memory() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut container = TestContainer::pause();
        let pid = container.create().expect("create");
        container.start().expect("start");
        container.wait_for_descriptors(3);
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
fn error_names_the_runner_that_is_missing() {
    let runner = wasm_interp_runner_client::Runner::new("/no/such/runner");
    let error = runner
        .start("x", Path::new("/tmp"), &mut |_| ())
        .expect_err("not there")
        .to_string();
    assert!(error.contains("/no/such/runner"), "{error}");
}

#[test]
fn unknown_apparmor_profile_fails_the_create() {
    let mut container = TestContainer::of(&guests::hello(0));
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
        let mut container = TestContainer::of(&guests::hello(0));
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
fn missing_working_directory_is_made_in_the_mount_that_it_is_in() {
    let volume = tempfile::tempdir().expect("volume");
    let mut container = TestContainer::of(&guests::hello(0));
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
        let mut container = TestContainer::of(&guests::hello(0));
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

/// Set in the process that acts as the caller of a container, to what it does.
const ACT_AS_THE_CALLER: &str = "RUNNER_TEST_ACT_AS_THE_CALLER";
const WITH_A_TIED_CONTAINER: &str = "with a tied container";
const WITH_AN_OWN_CONTAINER: &str = "with a container of its own";

/// A process with a running container.
struct Caller {
    process: Child,
    /// Keeps the container's files, which the process does not remove if it is killed.
    _directory: TempDir,
    /// The init process of the container.
    pid: Pid,
    id: String,
    state: PathBuf,
}

impl Caller {
    fn start(act: &str) -> Self {
        nix::sys::prctl::set_child_subreaper(true).expect("become a subreaper");
        let directory = tempfile::tempdir().expect("temporary directory");
        let mut process = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "act_as_the_caller", "--nocapture"])
            .env(ACT_AS_THE_CALLER, act)
            .env("TMPDIR", directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the caller");
        let line = BufReader::new(process.stdout.take().expect("piped"))
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("runs ").map(str::to_owned))
            .expect("the caller says what runs");
        let (pid, rest) = line.split_once(' ').expect("pid");
        let (id, state) = rest.split_once(' ').expect("id and state");
        Self {
            process,
            _directory: directory,
            pid: Pid::from_raw(pid.parse().expect("pid")),
            id: id.to_owned(),
            state: state.into(),
        }
    }

    /// Kills the process. Its container is then a child of this one.
    fn kill(&mut self) {
        self.process.kill().expect("kill the caller");
        self.process.wait().expect("wait for the caller");
    }
}

#[test]
fn container_tied_to_its_caller_ends_with_it() {
    let mut caller = Caller::start(WITH_A_TIED_CONTAINER);
    caller.kill();
    assert_eq!(support::wait(caller.pid), Some(137));
    support::runner()
        .delete(&caller.id, &caller.state, false, &mut |_| ())
        .expect("delete");
    assert!(cgroups_named(&caller.id).is_empty());
    support::remove_parents(&caller.id);
}

/// Or else an interrupted run of these tests leaves containers that keep a processor busy.
#[test]
fn container_of_a_killed_test_process_is_removed() {
    let mut caller = Caller::start(WITH_AN_OWN_CONTAINER);
    assert!(!cgroups_named(&caller.id).is_empty());
    caller.kill();
    assert_eq!(support::wait(caller.pid), Some(137));
    let parent = caller.id.replace('-', "");
    support::wait_until("everything of it is removed", || {
        !caller.state.exists()
            && cgroups_named(&caller.id).is_empty()
            && (support::cgroups::unified() || cgroups_named(&parent).is_empty())
    });
}

#[test]
fn act_as_the_caller() {
    let Some(act) = std::env::var_os(ACT_AS_THE_CALLER) else {
        return;
    };
    let mut container = TestContainer::of(&guests::busy());
    if act == WITH_A_TIED_CONTAINER {
        container.lifetime = Lifetime::Callers;
        container.after_kill = AfterKill::Leave;
    }
    let pid = container.create().expect("create");
    container.start().expect("start");
    container.wait_for_output("ready");
    println!(
        "\nruns {pid} {} {}",
        container.id,
        container.state().display()
    );
    loop {
        std::thread::park();
    }
}
