//! Operations that are killed by SIGKILL before each of their steps, in a process of their own. After each, the command
//! that systemd runs then leaves a running containerd, and the next operation succeeds.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::fake::{FakeNode, NOW};
use super::layouts::{behavior, node_with_layout};
use crate::names::SHIM_LINK;
use crate::operation::{Effects, OperationError};

/// The environment of the child process.
const ROOT: &str = "WASM_INTERP_TEST_ROOT";
const LAYOUT: &str = "WASM_INTERP_TEST_LAYOUT";
const OPERATION: &str = "WASM_INTERP_TEST_OPERATION";
const KILL_AT: &str = "WASM_INTERP_TEST_KILL_AT";

const LAYOUTS: [&str; 5] = ["debian", "debian-old", "kubeadm-2", "k3s", "k0s"];

/// `what` is `uninstall`, or the version to install.
fn operate(
    node: &FakeNode,
    what: &str,
    before_step: &dyn Fn(&str),
) -> Result<Effects, OperationError> {
    node.operate(NOW, before_step, |operation| match what {
        "uninstall" => operation.uninstall(false),
        version => operation.install(&Path::new("/opt/wasm-interp").join(version)),
    })
}

/// Not a test, but the process that is killed.
#[test]
fn child() {
    let Ok(root) = std::env::var(ROOT) else {
        return;
    };
    let [layout, what, kill_at] =
        [LAYOUT, OPERATION, KILL_AT].map(|name| std::env::var(name).unwrap());
    let node = FakeNode::existing(Path::new(&root), behavior(&layout));
    let before_step = |step: &str| {
        if step == kill_at {
            kill(Pid::this(), Signal::SIGKILL).unwrap();
        }
    };
    // The parent process checks the result.
    let _ = operate(&node, &what, &before_step);
}

/// A node after these operations.
fn prepared(root: &Path, layout: &str, before: &[&str]) -> FakeNode {
    let node = node_with_layout(root, layout);
    node.release("2");
    for one in before {
        operate(&node, one, &|_| {}).unwrap();
        node.release("2");
    }
    node
}

/// Whether containerd starts with our table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Works,
    Fails,
}

/// Kills the operation `what` before each of its steps, on a node after the operations `before`.
fn kill_before_each_step(before: &[&str], what: &str, start: Start) {
    let fails = start == Start::Fails;
    for layout in LAYOUTS {
        if fails && layout == "k0s" {
            // k0s itself restarts containerd, and only a timeout says that the start failed.
            continue;
        }
        let steps = RefCell::new(BTreeSet::new());
        let root = tempfile::tempdir().unwrap();
        let node = prepared(root.path(), layout, before);
        let old = node.files();
        if fails {
            node.break_start_with_our_runtime();
        }
        let outcome = operate(&node, what, &|step| {
            steps.borrow_mut().insert(step.to_owned());
        });
        assert_eq!(outcome.is_err(), fails, "{layout} {what}");
        let (new, wants) = (node.files(), node.running_shim().unwrap());
        let steps = steps.into_inner();
        assert!(steps.len() > 3, "{layout} {what}: {steps:?}");

        for step in &steps {
            let told = format!("{layout}: {what} killed before {step:?}");
            let root = tempfile::tempdir().unwrap();
            let node = prepared(root.path(), layout, before);
            if fails {
                node.break_start_with_our_runtime();
            }
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "operation::tests::kills::child", "--nocapture"])
                .env(ROOT, root.path())
                .env(LAYOUT, layout)
                .env(OPERATION, what)
                .env(KILL_AT, step)
                .output()
                .unwrap()
                .status;
            assert_eq!(status.signal(), Some(9), "{told}: it was not");
            // systemd does this after the unit's process.
            node.operate(NOW, &|_| {}, |operation| {
                operation.settle().map(|()| Effects::default())
            })
            .unwrap();
            node.running_shim()
                .unwrap_or_else(|error| panic!("{told}: {error}"));
            let settled = node.files();
            let relevant = match (layout, what) {
                // The link alone names the shim, so it belongs to the result.
                ("debian-old", "1" | "2") => |files| files,
                _ => without_the_link,
            };
            let settled = relevant(settled);
            assert!(
                settled == relevant(old.clone()) || settled == relevant(new.clone()),
                "{told}: {settled:#?}"
            );
            let again = operate(&node, what, &|_| {});
            assert_eq!(again.is_err(), fails, "{told}: again");
            assert_eq!(node.files(), new, "{told}: again");
            assert_eq!(node.running_shim().unwrap(), wants, "{told}: again");
        }
    }
}

/// Where our table names the shim, the link is harmless.
fn without_the_link(mut files: BTreeMap<PathBuf, String>) -> BTreeMap<PathBuf, String> {
    files.remove(Path::new(SHIM_LINK.trim_start_matches('/')));
    files
}

#[test]
fn killed_install_is_completed_or_undone() {
    kill_before_each_step(&[], "1", Start::Works);
}

#[test]
fn killed_upgrade_is_completed_or_undone() {
    kill_before_each_step(&["1"], "2", Start::Works);
}

#[test]
fn killed_uninstall_is_completed_or_undone() {
    kill_before_each_step(&["1"], "uninstall", Start::Works);
}

#[test]
fn killed_rollback_is_completed() {
    kill_before_each_step(&[], "1", Start::Fails);
}
