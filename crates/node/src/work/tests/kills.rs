//! The job killed before each of its steps, by SIGKILL, in a process of its own. Whatever it had done
//! by then, what systemd runs afterwards leaves a running containerd, and the next job gets through.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::fake::FakeNode;
use super::layouts::{folder, kind};
use crate::work::{Done, WorkError};

/// What the child is told.
const ROOT: &str = "WASM_INTERP_TEST_ROOT";
const LAYOUT: &str = "WASM_INTERP_TEST_LAYOUT";
const ACT: &str = "WASM_INTERP_TEST_ACT";
const KILL_AT: &str = "WASM_INTERP_TEST_KILL_AT";

const LAYOUTS: [&str; 5] = ["debian", "debian-old", "kubeadm-2", "k3s", "k0s"];

fn act(node: &FakeNode, act: &str, watch: &dyn Fn(&str)) -> Result<Done, WorkError> {
    node.job(1_000_000, watch, |work| match act {
        "uninstall" => work.uninstall(false),
        release => work.install(&Path::new("/opt/wasm-interp").join(release)),
    })
}

/// Not a test: the process that is killed.
#[test]
fn child() {
    let Ok(root) = std::env::var(ROOT) else {
        return;
    };
    let [layout, what, kill_at] = [LAYOUT, ACT, KILL_AT].map(|name| std::env::var(name).unwrap());
    let node = FakeNode::again(Path::new(&root), kind(&layout));
    let watch = |step: &str| {
        if step == kill_at {
            kill(Pid::this(), Signal::SIGKILL).unwrap();
        }
    };
    // What comes of it is seen by the parent.
    let _ = act(&node, &what, &watch);
}

/// A node on which `before` was done.
fn prepared(root: &Path, layout: &str, before: &[&str]) -> FakeNode {
    let node = FakeNode::new(root, kind(layout), &folder(layout).join("before"));
    node.release("2");
    for one in before {
        act(&node, one, &|_| {}).unwrap();
        node.release("2");
    }
    node
}

/// Kills `what` before each of its steps, on a node on which `before` was done; `breaks`: containerd
/// does not start with our table.
fn killed_everywhere(before: &[&str], what: &str, breaks: bool) {
    for layout in LAYOUTS {
        if breaks && layout == "k0s" {
            // There it is k0s that restarts, and nothing but time tells that it failed.
            continue;
        }
        let steps = RefCell::new(BTreeSet::new());
        let root = tempfile::tempdir().unwrap();
        let node = prepared(root.path(), layout, before);
        let old = node.files();
        if breaks {
            node.breaks_with_ours();
        }
        let outcome = act(&node, what, &|step| {
            steps.borrow_mut().insert(step.to_owned());
        });
        assert_eq!(outcome.is_err(), breaks, "{layout} {what}");
        let (new, wants) = (node.files(), node.running().unwrap());
        let steps = steps.into_inner();
        assert!(steps.len() > 3, "{layout} {what}: {steps:?}");

        for step in &steps {
            let told = format!("{layout}: {what} killed before {step:?}");
            let root = tempfile::tempdir().unwrap();
            let node = prepared(root.path(), layout, before);
            if breaks {
                node.breaks_with_ours();
            }
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "work::tests::kills::child", "--nocapture"])
                .env(ROOT, root.path())
                .env(LAYOUT, layout)
                .env(ACT, what)
                .env(KILL_AT, step)
                .output()
                .unwrap()
                .status;
            assert_eq!(status.signal(), Some(9), "{told}: it was not");
            // As systemd does after the unit's process.
            let nothing = Done {
                changed: false,
                restarted: false,
            };
            node.job(1_000_000, &|_| {}, |work| work.settle().map(|()| nothing))
                .unwrap();
            node.running()
                .unwrap_or_else(|error| panic!("{told}: {error}"));
            let settled = node.files();
            let counts = match (layout, what) {
                // The link alone names the shim.
                ("debian-old", "1" | "2") => |files| files,
                _ => but_the_link,
            };
            let settled = counts(settled);
            assert!(
                settled == counts(old.clone()) || settled == counts(new.clone()),
                "{told}: {settled:#?}"
            );
            let again = act(&node, what, &|_| {});
            assert_eq!(again.is_err(), breaks, "{told}: again");
            assert_eq!(node.files(), new, "{told}: again");
            assert_eq!(node.running().unwrap(), wants, "{told}: again");
        }
    }
}

/// The link is made beside the change of the file, and harms nobody without it.
fn but_the_link(mut files: BTreeMap<PathBuf, String>) -> BTreeMap<PathBuf, String> {
    files.remove(Path::new(
        super::super::install::LINK.trim_start_matches('/'),
    ));
    files
}

#[test]
fn install() {
    killed_everywhere(&[], "1", false);
}

#[test]
fn upgrade() {
    killed_everywhere(&["1"], "2", false);
}

#[test]
fn uninstall() {
    killed_everywhere(&["1"], "uninstall", false);
}

#[test]
fn an_install_that_is_taken_back() {
    killed_everywhere(&[], "1", true);
}
