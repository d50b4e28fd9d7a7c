//! install and verify on nodes where something fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use nix::mount::{MsFlags, mount};
use nix::unistd::geteuid;

use super::fake::{FakeNode, NOW};
use super::layouts::node_with_layout;
use crate::job::{JobAction, NodeJob};
use crate::operation::{Effects, Operation, RestartPolicy};
use crate::policy_file::PolicyChange;
use crate::release::PlacedRelease;
use crate::report::{JobOutcome, JobStep};
use crate::test_mounts::in_own_namespace;

const CONFIG: &str = "/etc/containerd/config.toml";

also_by_the_link! {
    release_that_fails_its_test_changes_nothing
    install_succeeds_if_an_old_release_cannot_be_removed
    reverted_file_is_written_again_after_growing_pauses
    configured_handler_that_does_not_run_costs_one_restart
    verify_names_what_is_missing
}

#[test]
fn failed_start_restores_the_file() {
    for name in [
        "debian",
        "debian-old",
        "kubeadm",
        "kubeadm-2",
        "k3s",
        "rke2",
        "microk8s",
    ] {
        let root = tempfile::tempdir().unwrap();
        let node = node_with_layout(root.path(), name);
        let before = node.files();
        node.break_start_with_our_runtime();
        let folder_1 = node.release("1");
        let error = node.install(&folder_1).unwrap_err();
        assert_eq!(error.outcome(), JobOutcome::RolledBack, "{name}: {error}");
        assert!(
            error
                .to_string()
                .contains("cannot start containerd.service"),
            "{name}: {error}"
        );
        assert_eq!(node.files(), before, "{name}");
        assert_eq!(node.running_shim().unwrap(), None, "{name}");
    }
}

#[test]
fn failed_upgrade_restores_the_release_before() {
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), "kubeadm");
    let before = node.files();
    let folder_1 = node.release("1");
    node.install(&folder_1).unwrap();
    let installed = node.files();
    node.break_start_with_our_runtime();
    // containerd does not start with the old release either, but the file has its old content.
    let error = node.install(&node.release("2")).unwrap_err();
    assert_eq!(error.outcome(), JobOutcome::Failed, "{error}");
    assert!(
        error
            .to_string()
            .contains("containerd does not start with that either"),
        "{error}"
    );
    assert_eq!(node.files(), installed);
    // Once the fault is repaired, the next job starts containerd.
    node.repair_start();
    node.install(&folder_1).unwrap();
    node.uninstall().unwrap();
    assert_eq!(node.files(), before);
}

fn release_that_fails_its_test_changes_nothing(layout: &str) {
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), layout);
    let before = node.files();
    node.break_self_test();
    let error = node.install(&node.release("1")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("cannot use the release in /opt/wasm-interp/1 on this node"),
        "{error}"
    );
    assert_eq!(node.files(), before);
    assert_eq!(node.restarts(), 0);
}

#[test]
fn node_where_no_link_can_be_made_is_refused_unchanged() {
    let is_refused = |node: &FakeNode, before: &BTreeMap<PathBuf, String>| {
        let error = node.install(&node.release("1")).unwrap_err();
        assert_eq!(error.outcome(), JobOutcome::Refused, "{error}");
        let said = error.to_string();
        let begins = "cannot make the link /usr/local/bin/containerd-shim-wasm-interp-v1, by which";
        assert!(said.starts_with(begins), "{said}");
        assert_eq!(&node.files(), before);
        assert_eq!(node.restarts(), 0);
    };
    for layout in ["debian", "debian-old"] {
        let root = tempfile::tempdir().unwrap();
        let node = node_with_layout(root.path(), layout);
        let bin = node.host.at("/usr/local/bin");
        // A read-only mount stops root too.
        if geteuid().is_root() {
            let before = node.files();
            in_own_namespace(|| {
                let none: Option<&str> = None;
                let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                mount(Some(&bin), &bin, none, MsFlags::MS_BIND, none).unwrap();
                mount(none, &bin, none, read_only, none).unwrap();
                is_refused(&node, &before);
            });
        }
        fs::remove_dir_all(&bin).unwrap();
        let before = node.files();
        is_refused(&node, &before);
        fs::create_dir_all(&bin).unwrap();
        node.install(&node.release("1")).unwrap();
    }
}

#[test]
fn link_that_alone_names_the_shim_leads_to_a_working_release() {
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), "debian-old");
    let (folder_1, folder_2) = (node.release("1"), node.release("2"));
    node.install(&folder_1).unwrap();
    let installed = node.files();
    let upgrade = |breaks_before: &str| {
        let before_step = |step: &str| {
            if step == breaks_before {
                node.break_self_test_of(&folder_2);
            }
        };
        let error = node.operate(NOW, &before_step, |operation| {
            operation.install(&node.release("2"))
        });
        let error = error.unwrap_err();
        assert_eq!(node.files(), installed, "{error}");
        assert!(node.host.at(&folder_1).exists());
        node.repair_self_test();
        error
    };
    // The test by path fails: the link is not switched.
    let error = upgrade("plan");
    assert_eq!(error.outcome(), JobOutcome::Refused, "{error}");
    // The test by the link fails.
    let error = upgrade("link");
    assert_eq!(error.outcome(), JobOutcome::Refused, "{error}");
    // The test at the end fails.
    let error = upgrade("verify");
    assert_eq!(error.outcome(), JobOutcome::RolledBack, "{error}");
    let said = error.to_string();
    assert!(
        said.starts_with("cannot run a program with the release in /opt/wasm-interp/2: ")
            && said.contains("the link leads to /opt/wasm-interp/1/"),
        "{said}"
    );
    node.install(&node.release("2")).unwrap();
    assert_ne!(node.files(), installed);
    assert!(!node.host.at(&folder_1).exists());
}

fn install_succeeds_if_an_old_release_cannot_be_removed(layout: &str) {
    // A mount point cannot be removed, not even by root.
    if !geteuid().is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), layout);
    node.install(&node.release("1")).unwrap();
    let (folder_1, folder_2) = (node.host.at("/opt/wasm-interp/1"), node.release("2"));
    in_own_namespace(|| {
        let none: Option<&str> = None;
        mount(Some(&folder_1), &folder_1, none, MsFlags::MS_BIND, none).unwrap();
        let act = |operation: &mut Operation<'_>| {
            let done = operation.install(&folder_2);
            let said =
                |step: &JobStep| step.name == "keep" && step.detail.contains("cannot rename");
            assert!(operation.steps.iter().any(said), "{:?}", operation.steps);
            done
        };
        node.operate(NOW, &|_| {}, act).unwrap();
    });
    assert!(folder_1.exists());
    node.install(&folder_2).unwrap();
    assert!(!folder_1.exists());
}

fn reverted_file_is_written_again_after_growing_pauses(layout: &str) {
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), layout);
    let original = fs::read(node.host.at(CONFIG)).unwrap();
    let folder_1 = node.release("1");
    let mut now = 1_000_000;
    let install = |now| node.operate(now, &|_| {}, |operation| operation.install(&folder_1));
    install(now).unwrap();
    let revert = || fs::write(node.host.at(CONFIG), &original).unwrap();

    // The first time has no pause: it may be a reboot.
    revert();
    now += 5;
    install(now).unwrap();
    let mut restarts = node.restarts();
    for (times, wait) in [(2, 60), (3, 120), (4, 240)] {
        revert();
        let error = install(now + wait - 1).unwrap_err();
        let retry_after_unix = now + wait;
        assert_eq!(
            error.outcome(),
            JobOutcome::Reverted {
                times,
                retry_after_unix
            },
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains(&format!("changed the file back {times} times")),
            "{error}"
        );
        assert_eq!(node.restarts(), restarts, "left alone");
        now = retry_after_unix;
        install(now).unwrap();
        restarts += 1;
        assert_eq!(node.restarts(), restarts);
    }
    // After a day without a revert, the count starts again.
    revert();
    install(now + 25 * 3600).unwrap();
    // A time in the future, from a clock that was ahead, counts as long ago.
    for _ in 0..2 {
        revert();
        install(now + 1_000_000_000).unwrap();
        revert();
        install(now).unwrap();
        now += 25 * 3600;
    }
}

fn configured_handler_that_does_not_run_costs_one_restart(layout: &str) {
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), layout);
    let folder_1 = node.release("1");
    node.install(&folder_1).unwrap();
    // Another program restores the file after containerd was started without our table.
    let installed = fs::read(node.host.at(CONFIG)).unwrap();
    fs::write(node.host.at(CONFIG), "version = 2\n").unwrap();
    node.restart_containerd();
    fs::write(node.host.at(CONFIG), installed).unwrap();
    let done = node.install(&folder_1).unwrap();
    assert_eq!(
        done,
        Effects {
            changed: false,
            restarted: true
        }
    );
}

fn verify_names_what_is_missing(layout: &str) {
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), layout);
    let verify = |node: &FakeNode| {
        node.operate(0, &|_| {}, |operation| {
            operation.verify().map(|()| Effects::default())
        })
    };
    let error = verify(&node).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("cannot find the handler wasm-interp in the running containerd"),
        "{error}"
    );
    node.install(&node.release("1")).unwrap();
    verify(&node).unwrap();
    node.break_self_test();
    let error = verify(&node).unwrap_err();
    assert!(error.to_string().contains("ended with code 125"), "{error}");
}

#[test]
fn verify_writes_the_policy_of_a_node_whose_runtime_is_broken() {
    let root = tempfile::tempdir().unwrap();
    let host = node_with_layout(root.path(), "kubeadm").host;
    let placed = PlacedRelease {
        folder: "/opt/wasm-interp/1".into(),
        version: "1".into(),
        copied: false,
    };
    let text = r#"{"stack_bytes": 8388608}"#;
    let verify = |change| {
        let job = NodeJob::new(JobAction::Verify, &placed).with_policy(change);
        job.run(&host, RestartPolicy::Never)
    };
    let report = verify(PolicyChange::Write(text.into()));
    assert_eq!(report.outcome, JobOutcome::Failed, "{}", report.message);
    assert_eq!(report.policy_error, None);
    let file = host.at("/etc/wasm-interp/policy.json");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    fs::write(&file, "{}").unwrap();
    let report = verify(PolicyChange::Write(text.into()));
    let error = report.policy_error.unwrap();
    assert!(error.contains("a policy of its own"), "{error}");
}
