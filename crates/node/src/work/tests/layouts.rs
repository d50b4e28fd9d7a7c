//! One folder a distribution in `tests/layouts`: the node's files before, and those that install
//! changes after. `UPDATE_GOLDEN=1` writes what it now gives, for you to read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::fake::{FakeNode, Kind, collect};
use crate::report::Outcome;
use crate::work::Done;

pub(super) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/layouts")
        .join(name)
}

pub(super) fn kind(name: &str) -> Kind {
    let text = fs::read(folder(name).join("node.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
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
fn every_distribution_gets_what_it_reads_and_gets_its_bytes_back() {
    for name in layouts().iter().filter(|name| kind(name).refused.is_none()) {
        let root = tempfile::tempdir().unwrap();
        let node = FakeNode::new(root.path(), kind(name), &folder(name).join("before"));
        let before = node.files();
        let folder_1 = node.release("1");
        let done = node
            .install(&folder_1)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            done,
            Done {
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
            Done {
                changed: false,
                restarted: false
            },
            "{name}: a second time"
        );
        assert_eq!(node.restarts(), restarts, "{name}: a second time");

        let folder_2 = node.release("2");
        // A link leads to the new one without a restart.
        let restarted = node.install(&folder_2).unwrap().restarted;
        assert_eq!(restarted, node.kind.runtime_path, "{name}: upgrade");
        assert!(
            !node.host.at(&folder_1).exists(),
            "{name}: nobody uses the old release"
        );

        node.uninstall()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(node.running().unwrap().runtime, None, "{name}");
        assert_eq!(node.files(), before, "{name}: uninstall");
        for ours in ["opt/wasm-interp", "var/lib/wasm-interp"] {
            assert!(!root.path().join(ours).exists(), "{name}: {ours} is left");
        }
        node.uninstall().unwrap();
        assert_eq!(node.files(), before, "{name}: uninstall again");
    }
}

#[test]
fn what_cannot_work_is_refused_with_the_way_out_and_nothing_is_touched() {
    let mut refused = 0;
    for name in layouts() {
        let kind = kind(&name);
        let Some(words) = kind.refused.clone() else {
            continue;
        };
        refused += 1;
        let root = tempfile::tempdir().unwrap();
        let node = FakeNode::new(root.path(), kind, &folder(&name).join("before"));
        let before = node.files();
        let folder_1 = node.release("1");
        let error = node.install(&folder_1).unwrap_err();
        assert!(error.to_string().contains(&words), "{name}: {error}");
        assert_eq!(error.outcome(), Outcome::Refused, "{name}");
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
        "{name}: UPDATE_GOLDEN=1 writes what install gives now"
    );
}
