//! The files that have our table: drop-ins with additions, and tables that move to another file.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::fake::{FakeNode, NOW};
use super::layouts::node_with_layout;

const CONFIG: &str = "/etc/containerd/config.toml";
const OUR_DROP_IN: &str = "/etc/containerd/conf.d/wasm-interp.toml";

/// Layouts whose containerd reads a drop-in.
const DROP_INS: [(&str, &str, &str); 3] = [
    ("kubeadm-2", "/etc/containerd/conf.d", "version = 3"),
    ("k0s", "/etc/k0s/containerd.d", "version = 2"),
    (
        "k3s-drop-in",
        "/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d",
        "version = 3",
    ),
];

/// The table of another runtime.
fn kata(version: &str) -> String {
    let plugin = match version {
        "version = 2" => "io.containerd.grpc.v1.cri",
        _ => "io.containerd.cri.v1.runtime",
    };
    format!(
        "# The team's own.\n[plugins.\"{plugin}\".containerd.runtimes.kata]\nruntime_type = 'k' # \
         by hand\n"
    )
}

#[test]
fn additions_to_our_drop_in_stay() {
    for (name, folder_of_drop_ins, version) in DROP_INS {
        let root = tempfile::tempdir().unwrap();
        let node = node_with_layout(root.path(), name);
        let path = node.host.at(folder_of_drop_ins).join("wasm-interp.toml");
        node.install(&node.release("1")).unwrap();
        let ours = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{ours}\n{}", kata(version))).unwrap();

        node.install(&node.release("2")).unwrap();
        let ours = ours.replace("/1/", "/2/");
        let upgraded = fs::read_to_string(&path).unwrap();
        assert_eq!(upgraded, format!("{ours}\n{}", kata(version)), "{name}");

        node.uninstall().unwrap();
        let left = fs::read_to_string(&path).unwrap();
        assert_eq!(left, format!("{version}\n\n{}", kata(version)), "{name}");
    }
}

#[test]
fn foreign_file_with_our_drop_ins_name_is_restored() {
    for (name, folder_of_drop_ins, version) in DROP_INS {
        let root = tempfile::tempdir().unwrap();
        let node = node_with_layout(root.path(), name);
        let path = node.host.at(folder_of_drop_ins).join("wasm-interp.toml");
        let foreign = format!("# Not of the installer.\n{version}\n{}", kata(version));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for record_is_lost in [false, true] {
            fs::write(&path, &foreign).unwrap();
            node.install(&node.release("1")).unwrap();
            node.install(&node.release("2")).unwrap();
            let there = fs::read_to_string(&path).unwrap();
            assert!(there.starts_with(&foreign), "{name}: {there}");
            if record_is_lost {
                fs::remove_dir_all(node.host.at("/var/lib/wasm-interp")).unwrap();
            }
            node.uninstall().unwrap();
            let left = fs::read_to_string(&path).unwrap();
            assert_eq!(left, foreign, "{name}");
        }
    }
}

#[test]
fn foreign_file_with_our_drop_ins_name_is_left_alone_if_it_cannot_be_edited() {
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), "kubeadm-2");
    let foreign = "# Without a version.\n[debug]\nlevel = 'info'\n";
    fs::create_dir_all(node.host.at(OUR_DROP_IN).parent().unwrap()).unwrap();
    fs::write(node.host.at(OUR_DROP_IN), foreign).unwrap();
    let before = node.files();
    node.install(&node.release("1")).unwrap();
    let there = fs::read_to_string(node.host.at(OUR_DROP_IN)).unwrap();
    assert_eq!(there, foreign);
    node.uninstall().unwrap();
    assert_eq!(node.files(), before);
}

/// A node whose main file lost its imports after our drop-in was installed, and the files that it would have without our
/// installation.
fn without_its_imports(root: &Path) -> (FakeNode, BTreeMap<PathBuf, String>) {
    let node = node_with_layout(root, "kubeadm-2");
    let mut before = node.files();
    node.install(&node.release("1")).unwrap();
    let without_imports = fs::read_to_string(node.host.at(CONFIG)).unwrap();
    let without_imports =
        without_imports.replace("imports = ['/etc/containerd/conf.d/*.toml']\n", "");
    fs::write(node.host.at(CONFIG), &without_imports).unwrap();
    node.restart_containerd();
    before.insert(CONFIG.trim_start_matches('/').into(), without_imports);
    (node, before)
}

#[test]
fn table_that_moves_to_another_file_is_removed_from_the_old_one() {
    let root = tempfile::tempdir().unwrap();
    let (node, before) = without_its_imports(root.path());
    assert!(node.host.at(OUR_DROP_IN).exists());
    node.install(&node.release("1")).unwrap();
    assert!(!node.host.at("/etc/containerd/conf.d").exists());
    assert_ne!(node.files(), before);
    node.uninstall().unwrap();
    assert_eq!(node.files(), before);
}

#[test]
fn uninstall_removes_our_table_from_a_file_that_is_not_read_any_more() {
    let root = tempfile::tempdir().unwrap();
    let (node, before) = without_its_imports(root.path());
    node.uninstall().unwrap();
    assert_eq!(node.files(), before);
}

#[test]
fn killed_removal_from_an_old_file_is_completed() {
    let record = "/var/lib/wasm-interp/node/record.json";
    for (killed_before, uninstalls) in [
        ("leave", true),
        ("leave", false),
        ("left", true),
        ("left", false),
    ] {
        let root = tempfile::tempdir().unwrap();
        let (node, before) = without_its_imports(root.path());
        let (record, drop_in) = (node.host.at(record), node.host.at(OUR_DROP_IN));
        let then = RefCell::new(None);
        let before_step = |step: &str| {
            if step == killed_before {
                let read = |path: &Path| fs::read(path).ok();
                *then.borrow_mut() = Some((read(&record), read(&drop_in)));
            }
        };
        let install = |before_step: &dyn Fn(&str)| {
            let folder_1 = node.release("1");
            node.operate(NOW, before_step, |operation| operation.install(&folder_1))
                .unwrap();
        };
        install(&before_step);
        let installed = node.files();
        let (then_record, then_drop_in) = then.into_inner().unwrap();
        fs::write(&record, then_record.unwrap()).unwrap();
        if let Some(bytes) = then_drop_in {
            fs::create_dir_all(drop_in.parent().unwrap()).unwrap();
            fs::write(&drop_in, bytes).unwrap();
        }
        if !uninstalls {
            install(&|_| {});
            assert_eq!(node.files(), installed, "{killed_before}");
        }
        node.uninstall().unwrap();
        assert_eq!(node.files(), before, "{killed_before}");
    }
}

#[test]
fn newer_template_gets_our_block() {
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), "k3s");
    let folder = node.host.at("/var/lib/rancher/k3s/agent/etc/containerd");
    let older = folder.join("config.toml.tmpl");
    let newer = folder.join("config-v3.toml.tmpl");
    let theirs = "# The team's own.\nversion = 2\n";
    fs::write(&older, theirs).unwrap();
    node.restart_containerd();
    node.install(&node.release("1")).unwrap();
    assert!(fs::read_to_string(&older).unwrap().contains("wasm-interp"));

    fs::write(&newer, "{{ template \"base\" . }}\n").unwrap();
    node.restart_containerd();
    node.install(&node.release("1")).unwrap();
    assert!(fs::read_to_string(&newer).unwrap().contains("wasm-interp"));
    assert_eq!(fs::read_to_string(&older).unwrap(), theirs);

    node.uninstall().unwrap();
    assert_eq!(fs::read_to_string(&older).unwrap(), theirs);
    assert_eq!(
        fs::read_to_string(&newer).unwrap(),
        "{{ template \"base\" . }}\n"
    );
}
