//! The end of a container's cgroup: as root, on this machine's kernel and cgroups.
//!
//! Holds that all of the container goes, whatever it made inside, and that nothing of anybody else's does.

// Other tests use the rest of it.
#[allow(dead_code)]
#[path = "support/mod.rs"]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use nix::unistd::Pid;
use serde_json::{Value, json};
use support::{
    TestContainer,
    cgroups::{cgroup_file, cgroups_named},
};
use tempfile::TempDir;
use wasm_interp_test_support::executables;

/// A cgroup of a hierarchy that no runtime manages, as containerd's is in `/system.slice/containerd.service` of
/// `name=systemd`: a process is in it, and whatever a runner makes that is started from there.
struct Unit {
    cgroup: PathBuf,
    process: Child,
    /// Holds a runner that joins it.
    directory: TempDir,
}

impl Unit {
    /// `None`: this machine has no such hierarchy.
    fn make(name: &str) -> Option<Self> {
        let top = Path::new("/sys/fs/cgroup/systemd");
        if !top.join("cgroup.procs").exists() {
            return None;
        }
        let cgroup = top.join(format!("runner-unit-{}-{name}", std::process::id()));
        fs::create_dir(&cgroup).expect("make the unit's cgroup");
        let process = Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::null())
            .spawn()
            .expect("start a process beside");
        join(&cgroup, pid_of(&process));
        let directory = tempfile::tempdir().expect("temporary directory");
        let script = format!(
            "#!/bin/sh\necho $$ > {}/cgroup.procs\nexec {} \"$@\"\n",
            cgroup.display(),
            env!("CARGO_BIN_EXE_wasm-interp-runner")
        );
        let unit = Self {
            cgroup,
            process,
            directory,
        };
        executables::write(&unit.runner(), &script);
        Some(unit)
    }

    fn runner(&self) -> PathBuf {
        self.directory.path().join("runner")
    }

    /// Whether the process beside the container lives, and nothing else is in here.
    fn is_as_before(&self) -> bool {
        members(&self.cgroup) == [pid_of(&self.process)]
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir(&self.cgroup);
    }
}

fn pid_of(process: &Child) -> i32 {
    i32::try_from(process.id()).expect("a process id")
}

fn join(cgroup: &Path, pid: i32) {
    fs::write(cgroup.join("cgroup.procs"), pid.to_string()).expect("move a process");
}

fn members(cgroup: &Path) -> Vec<i32> {
    fs::read_to_string(cgroup.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .map(|line| line.parse().expect("a process id"))
        .collect()
}

/// A shell that waits, with another process beside it.
fn with_a_child() -> TestContainer {
    TestContainer::native(&[
        "sh",
        "-c",
        "busybox sleep 1000 & echo ready; read -r line; exit 3",
    ])
}

fn share_the_hosts_pids(container: &mut TestContainer) {
    let namespaces = container.spec["linux"]["namespaces"].as_array_mut();
    namespaces
        .expect("namespaces")
        .retain(|namespace| namespace["type"] != "pid");
}

/// Makes cgroups in each of the container's and moves its second process into the innermost.
fn nest(container: &TestContainer) -> i32 {
    let own = cgroups_named(&container.id);
    assert!(!own.is_empty(), "the container has no cgroup");
    let init = container.process().as_raw();
    let child = members(&own[0])
        .into_iter()
        .find(|&pid| pid != init)
        .expect("the second process");
    for cgroup in &own {
        let inside = cgroup.join("inside/deep");
        fs::create_dir_all(&inside).expect("make a cgroup inside");
        fs::create_dir(cgroup.join("empty")).expect("make a cgroup inside");
        // A cgroup of cpuset takes no process before these are written. With version 2 it has no such files.
        for level in [inside.parent().expect("inside"), &inside] {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let (above, own) = (level.parent().expect("above"), level.join(file));
                if own.exists() {
                    let value = fs::read_to_string(above.join(file)).expect("read it");
                    fs::write(own, value.trim()).expect("fill it");
                }
            }
        }
        join(&inside, child);
    }
    child
}

fn is_there(pid: i32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[test]
fn a_container_that_made_cgroups_inside_is_deleted_with_force() {
    for shared in [false, true] {
        let mut container = with_a_child();
        if shared {
            share_the_hosts_pids(&mut container);
        }
        let _stdin = container.with_stdin();
        container.create().expect("create");
        container.start().expect("start");
        container.wait_for_output("ready");
        let child = nest(&container);
        container.delete(true).expect("delete");
        assert_eq!(container.wait(), 137);
        if shared {
            // It is this process's child now.
            assert_eq!(support::wait(Pid::from_raw(child)), Some(137));
        }
        assert!(!is_there(child), "shared: {shared}");
        container.assert_nothing_left();
    }
}

#[test]
fn a_container_that_made_cgroups_inside_is_deleted_after_its_end() {
    for shared in [false, true] {
        let mut container = with_a_child();
        if shared {
            share_the_hosts_pids(&mut container);
        }
        let stdin = container.with_stdin();
        container.create().expect("create");
        container.start().expect("start");
        container.wait_for_output("ready");
        let child = nest(&container);
        drop(stdin);
        assert_eq!(container.wait(), 3);
        assert_eq!(is_there(child), shared, "the kernel ends a pid namespace");
        container.delete(false).expect("delete");
        if shared {
            assert_eq!(support::wait(Pid::from_raw(child)), Some(137));
        }
        container.assert_nothing_left();
    }
}

/// Guards against killing and removing in containerd's own cgroups.
#[test]
fn hierarchy_that_no_runtime_manages_is_left_alone() {
    let Some(unit) = Unit::make("foreign") else {
        return;
    };
    let mut container = with_a_child();
    container.made_by(&unit.runner());
    let _stdin = container.with_stdin();
    container.create().expect("create");
    container.start().expect("start");
    container.wait_for_output("ready");
    let init = container.process().as_raw();
    assert!(members(&unit.cgroup).contains(&init), "it stays in there");
    let record = fs::read(container.state().join("record.json")).expect("record");
    let record: Value = serde_json::from_slice(&record).expect("record");
    let directories = record["directories"].as_array().expect("directories");
    let expected = format!("/{}/{}", container.parent(), container.id);
    assert!(!directories.is_empty());
    for directory in directories {
        let directory = directory.as_str().expect("a path");
        assert!(directory.ends_with(&expected), "{directory}");
    }
    container.delete(true).expect("delete");
    assert_eq!(container.wait(), 137);
    container.assert_nothing_left();
    assert!(unit.is_as_before());
}

/// What was the init process's number may belong to a process of containerd's own unit by now.
#[test]
fn process_of_containerds_unit_is_not_taken_for_the_init_process() {
    let Some(unit) = Unit::make("reused") else {
        return;
    };
    let mut container = with_a_child();
    container.made_by(&unit.runner());
    let stdin = container.with_stdin();
    container.create().expect("create");
    container.start().expect("start");
    container.wait_for_output("ready");
    drop(stdin);
    assert_eq!(container.wait(), 3);
    let path = container.state().join(&container.id).join("state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&path).expect("state")).expect("state");
    state["pid"] = json!(unit.process.id());
    state["status"] = json!("running");
    fs::write(&path, state.to_string()).expect("write");
    container
        .delete(false)
        .expect("another process is no reason to refuse");
    container.assert_nothing_left();
    assert!(unit.is_as_before());
}

/// Guards against killing what is in a cgroup that the spec names and another one uses.
#[test]
fn a_cgroup_that_is_in_use_is_refused() {
    let mut first = with_a_child();
    let _stdin = first.with_stdin();
    first.create().expect("create");
    first.start().expect("start");
    first.wait_for_output("ready");
    let used = first.spec["linux"]["cgroupsPath"].clone();
    let above = json!(format!("/{}", first.parent()));
    for path in [used, above] {
        let mut second = with_a_child();
        second.spec["linux"]["cgroupsPath"] = path;
        let error = second.create().expect_err("it is in use").to_string();
        assert!(error.contains("cannot use cgroup"), "{error}");
        assert!(error.contains(&first.process().to_string()), "{error}");
        second.delete(true).expect("delete");
        assert!(is_there(first.process().as_raw()));
    }
    first.delete(true).expect("delete");
    assert_eq!(first.wait(), 137);
    first.assert_nothing_left();
}

#[test]
fn concurrent_deletes_remove_the_container_once() {
    let mut container = with_a_child();
    let seen = container.root().with_file_name("seen");
    container.spec["hooks"] = json!({ "poststop": [
        { "path": "/bin/sh", "args": ["sh", "-c", format!("echo x >> {}", seen.display())] },
    ]});
    let _stdin = container.with_stdin();
    container.create().expect("create");
    container.start().expect("start");
    container.wait_for_output("ready");
    nest(&container);
    let (id, state) = (container.id.clone(), container.state());
    let deletions: Vec<_> = (0..8)
        .map(|_| {
            let (id, state) = (id.clone(), state.clone());
            thread::spawn(move || support::runner().delete(&id, &state, true, &mut |_| ()))
        })
        .collect();
    for deletion in deletions {
        let warnings = deletion.join().expect("join").expect("delete");
        assert_eq!(warnings, Vec::<String>::new());
    }
    assert_eq!(container.wait(), 137);
    assert_eq!(fs::read_to_string(&seen).expect("the hook ran"), "x\n");
    container.assert_nothing_left();
}

/// The value of a file of the container's cgroup, whatever the hierarchy that has it.
fn value(container: &TestContainer, file: &str) -> String {
    cgroup_file(&container.id, file).unwrap_or_else(|| panic!("no {file}"))
}

/// The names of version 1 and version 2.
fn on_either(v1: &'static str, v2: &'static str) -> &'static str {
    if support::cgroups::unified() { v2 } else { v1 }
}

#[test]
fn update_sets_what_it_names_and_leaves_the_rest() {
    const MIB: i64 = 1 << 20;
    let mut container = with_a_child();
    let _stdin = container.with_stdin();
    container.create().expect("create");
    container
        .update(json!({"pids": {"limit": 30}}))
        .expect("before the start");
    container.start().expect("start");
    container.wait_for_output("ready");
    let memory = on_either("memory.limit_in_bytes", "memory.max");
    let reservation = on_either("memory.soft_limit_in_bytes", "memory.low");
    assert_eq!(value(&container, "pids.max"), "30");

    container
        .update(json!({
            "memory": {"limit": 64 * MIB, "reservation": 32 * MIB},
            "cpu": {"shares": 512, "quota": 20000, "period": 50000},
        }))
        .expect("update");
    assert_eq!(value(&container, memory), (64 * MIB).to_string());
    assert_eq!(value(&container, reservation), (32 * MIB).to_string());
    assert_eq!(value(&container, "pids.max"), "30");
    let bandwidth = |container: &TestContainer| {
        if support::cgroups::unified() {
            value(container, "cpu.max")
        } else {
            let quota = value(container, "cpu.cfs_quota_us");
            format!("{quota} {}", value(container, "cpu.cfs_period_us"))
        }
    };
    assert_eq!(bandwidth(&container), "20000 50000");
    let weight = on_either("512", "59");
    assert_eq!(
        value(&container, on_either("cpu.shares", "cpu.weight")),
        weight
    );

    // Down and up, also where another limit is in the way.
    for limit in [16 * MIB, 128 * MIB] {
        container
            .update(json!({"memory": {"limit": limit, "swap": limit}, "cpu": {"quota": 30000}}))
            .expect("update");
        assert_eq!(value(&container, memory), limit.to_string());
        assert_eq!(bandwidth(&container), "30000 50000");
    }
    assert_eq!(value(&container, reservation), (32 * MIB).to_string());
    container
        .update(json!({"memory": {"limit": -1}, "cpu": {"quota": -1}, "pids": {"limit": -1}}))
        .expect("no limits");
    assert_eq!(value(&container, "pids.max"), "max");
    assert!(!bandwidth(&container).starts_with("30000"));
    assert_ne!(value(&container, memory), (128 * MIB).to_string());
    assert_eq!(
        value(&container, on_either("cpu.shares", "cpu.weight")),
        weight
    );

    container.delete(true).expect("delete");
    assert_eq!(container.wait(), 137);
    container.assert_nothing_left();
}

#[test]
fn update_that_fails_changes_nothing() {
    let mut container = with_a_child();
    container.spec["linux"]["resources"] = json!({"pids": {"limit": 40}});
    let _stdin = container.with_stdin();
    container.create().expect("create");
    container.start().expect("start");
    container.wait_for_output("ready");
    let memory = on_either("memory.limit_in_bytes", "memory.max");
    let before = value(&container, memory);
    let refused = |resources: Value| {
        let error = container
            .update(resources)
            .expect_err("refused")
            .to_string();
        assert_eq!(value(&container, "pids.max"), "40", "{error}");
        assert_eq!(value(&container, memory), before, "{error}");
        error
    };
    let error = refused(json!({
        "pids": {"limit": 50}, "memory": {"limit": 64 << 20}, "cpu": {"cpus": "4096"},
    }));
    assert!(error.contains("cannot update container"), "{error}");
    assert!(error.contains("cpuset.cpus"), "{error}");
    let error = refused(json!({
        "pids": {"limit": 50}, "hugepageLimits": [{"pageSize": "3MB", "limit": 0}],
    }));
    assert!(error.contains("no file hugetlb.3MB"), "{error}");
    if !support::cgroups::unified() {
        let error = refused(json!({"pids": {"limit": 50}, "unified": {"pids.max": "3"}}));
        assert!(error.contains("cgroup v2"), "{error}");
        // The kernel cannot take away what is used.
        let error = refused(json!({"memory": {"limit": 4096, "swap": 4096}}));
        assert!(error.contains("memory"), "{error}");
    }
    container.delete(true).expect("delete");
    assert_eq!(container.wait(), 137);
    container.assert_nothing_left();
    let error = container
        .update(json!({}))
        .expect_err("deleted")
        .to_string();
    assert!(error.contains("it is deleted"), "{error}");
}
