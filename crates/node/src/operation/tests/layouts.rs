//! One folder per distribution in `tests/layouts`: the node's files before, and the files that install changes.
//! `UPDATE_GOLDEN=1` writes the current result, for you to review.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::fake::{ContainerdBehavior, FakeNode, collect};
use crate::operation::Effects;
use crate::report::JobOutcome;

pub(super) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/layouts")
        .join(name)
}

pub(super) fn behavior(name: &str) -> ContainerdBehavior {
    let text = fs::read(folder(name).join("node.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// A node with the files and the containerd of that layout.
pub(super) fn node_with_layout(root: &Path, name: &str) -> FakeNode {
    FakeNode::new(root, behavior(name), &folder(name).join("before"))
}

fn layouts() -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() > 20, "{names:?}");
    names
}

#[test]
fn every_distribution_is_installed_and_uninstalled_byte_for_byte() {
    for name in layouts()
        .iter()
        .filter(|name| behavior(name).refused.is_none())
    {
        let root = tempfile::tempdir().unwrap();
        let node = node_with_layout(root.path(), name);
        let before = node.files();
        let folder_1 = node.release("1");
        let done = node
            .install(&folder_1)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            done,
            Effects {
                changed: true,
                restarted: true
            },
            "{name}"
        );
        let mut after = node.files();
        after.retain(|path, text| before.get(path) != Some(text));
        golden(name, &after);

        let restarts = node.restarts();
        let done = node.install(&folder_1).unwrap();
        assert_eq!(
            done,
            Effects {
                changed: false,
                restarted: false
            },
            "{name}: a second time"
        );
        assert_eq!(node.restarts(), restarts, "{name}: a second time");

        let folder_2 = node.release("2");
        // Where a link alone names the shim, an upgrade needs no restart.
        let restarted = node.install(&folder_2).unwrap().restarted;
        assert_eq!(restarted, node.behavior.runtime_path, "{name}: upgrade");
        assert!(
            !node.host.at(&folder_1).exists(),
            "{name}: the old release is not in use"
        );

        node.uninstall()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(node.running_shim().unwrap(), None, "{name}");
        assert_eq!(node.files(), before, "{name}: uninstall");
        for ours in ["opt/wasm-interp", "var/lib/wasm-interp"] {
            assert!(!root.path().join(ours).exists(), "{name}: {ours} is left");
        }
        node.uninstall().unwrap();
        assert_eq!(node.files(), before, "{name}: uninstall again");
    }
}

#[test]
fn unsupported_nodes_are_refused_with_the_way_out_and_unchanged() {
    let mut refused = 0;
    for name in layouts() {
        let Some(words) = behavior(&name).refused else {
            continue;
        };
        refused += 1;
        let root = tempfile::tempdir().unwrap();
        let node = node_with_layout(root.path(), &name);
        let before = node.files();
        let folder_1 = node.release("1");
        let error = node.install(&folder_1).unwrap_err();
        assert!(error.to_string().contains(&words), "{name}: {error}");
        assert_eq!(error.outcome(), JobOutcome::Refused, "{name}");
        assert_eq!(node.files(), before, "{name}");
    }
    assert!(refused >= 6);
}

fn golden(name: &str, after: &BTreeMap<PathBuf, String>) {
    let expected = folder(name).join("after");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let _ = fs::remove_dir_all(&expected);
        for (path, text) in after {
            let path = expected.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }
    let mut there = BTreeMap::new();
    collect(&expected, &expected, &mut there);
    assert_eq!(
        after, &there,
        "{name}: UPDATE_GOLDEN=1 writes the current result"
    );
}
