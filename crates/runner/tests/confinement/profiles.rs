//! A pod's seccomp profile that refuses what the runner or a guest needs.

use std::fs;

use serde_json::{Value, json};

use super::guests;
use crate::support::TestContainer;

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

/// Also one that would end the process at the call: it is not tried.
#[test]
fn guest_changes_modes_behind_a_profile_without_fchmodat2() {
    for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"] {
        // It changes the mode of a file by a path, among others.
        let mut container = TestContainer::of(&guests::everything());
        container.spec["linux"]["seccomp"] = profile(action, &["fchmodat2"]);
        container.create().expect("create");
        assert!(container.warnings.is_empty(), "{:?}", container.warnings);
        container.start().expect("start");
        assert_eq!(container.wait(), 0, "{action}: {}", container.output());
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
