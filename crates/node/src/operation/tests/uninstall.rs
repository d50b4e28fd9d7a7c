//! uninstall, while containers and processes use the runtime, and after clients and jobs were killed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::fake::{FakeNode, NOW};
use super::layouts::node_with_layout;
use crate::host::HostRoot;
use crate::job::{JobAction, NodeJob};
use crate::names::EXECUTABLES;
use crate::operation::RestartPolicy;
use crate::policy_file::{self, PolicyChange};
use crate::release::PlacedRelease;
use crate::report::JobOutcome;

const CONFIG: &str = "/etc/containerd/config.toml";

also_by_the_link! {
    uninstall_removes_what_killed_clients_left
    uninstall_refuses_while_containers_run_unless_forced
    uninstall_refuses_a_container_that_starts_while_prewarming_stops
}

#[test]
fn uninstall_removes_only_our_table_from_a_changed_file() {
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), "kubeadm");
    let path = node.host.at(CONFIG);
    let before = fs::read_to_string(&path).unwrap();
    node.install(&node.release("1")).unwrap();
    let changed = fs::read_to_string(&path).unwrap() + "\n[debug]\nlevel = 'info'\n";
    fs::write(&path, changed).unwrap();
    node.install(&node.release("2")).unwrap();
    node.uninstall().unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        before + "\n[debug]\nlevel = 'info'\n"
    );
}

#[test]
fn uninstall_works_without_the_record() {
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), "kubeadm");
    let before = node.files();
    node.install(&node.release("1")).unwrap();
    fs::remove_dir_all(node.host.at("/var/lib/wasm-interp")).unwrap();
    node.uninstall().unwrap();
    assert_eq!(node.files(), before);
}

fn uninstall_removes_what_killed_clients_left(layout: &str) {
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), layout);
    node.install(&node.release("1")).unwrap();
    let run = node.host.run_dir();
    fs::create_dir_all(&run).unwrap();
    let copy = node.host.at("/opt/wasm-interp/.copying-x");
    fs::create_dir_all(&copy).unwrap();
    let report = run.join("report-1-1.json");
    fs::write(&report, "{}").unwrap();
    node.install(&node.release("2")).unwrap();
    assert!(report.exists());
    assert!(!copy.exists());
    fs::create_dir_all(&copy).unwrap();
    // Left by killed jobs: a link beside its place, an incomplete report, and a release that was being removed.
    let link = node
        .host
        .at("/usr/local/bin/containerd-shim-wasm-interp-v1.new");
    let _ = fs::remove_file(&link);
    symlink("/opt/wasm-interp/2/containerd-shim-wasm-interp-v1", &link).unwrap();
    fs::write(run.join(".wasm-interp-aB3xyZ"), "{").unwrap();
    fs::create_dir_all(node.host.at("/opt/wasm-interp/.removed-1")).unwrap();
    node.uninstall().unwrap();
    assert!(!link.is_symlink());
    assert!(!report.exists());
    assert!(!copy.exists());
}

fn uninstall_refuses_while_containers_run_unless_forced(layout: &str) {
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), layout);
    let before = node.files();
    let folder_1 = node.release("1");
    node.install(&folder_1).unwrap();
    let bundle = node
        .host
        .at("/run/containerd/io.containerd.runtime.v2.task/k8s.io/abc");
    fs::create_dir_all(&bundle).unwrap();
    let shim = folder_1.join("containerd-shim-wasm-interp-v1");
    fs::write(bundle.join("shim-binary-path"), shim.to_str().unwrap()).unwrap();
    let installed = node.files();
    let error = node.uninstall().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("1 container of it run on this node: k8s.io/abc"),
        "{error}"
    );
    assert!(matches!(error.outcome(), JobOutcome::InUse { containers } if containers.len() == 1));
    assert_eq!(node.files(), installed);

    // An upgrade keeps the release of the container.
    node.install(&node.release("2")).unwrap();
    assert!(node.host.at(&shim).exists());
    node.operate(0, &|_| {}, |operation| operation.uninstall(true))
        .unwrap();
    assert!(node.host.at(&shim).exists());
    fs::remove_dir_all(node.host.at("/run/containerd")).unwrap();
    node.uninstall().unwrap();
    assert!(!node.host.at("/opt/wasm-interp").exists());
    assert_eq!(node.files(), before);
}

fn uninstall_refuses_a_container_that_starts_while_prewarming_stops(layout: &str) {
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), layout);
    let folder_1 = node.release("1");
    node.install(&folder_1).unwrap();
    let installed = node.files();
    let bundle = node
        .host
        .at("/run/containerd/io.containerd.runtime.v2.task/k8s.io/abc");
    let start = |step: &str| {
        if step == "end-prewarming" {
            fs::create_dir_all(&bundle).unwrap();
            let shim = folder_1.join("containerd-shim-wasm-interp-v1");
            fs::write(bundle.join("shim-binary-path"), shim.to_str().unwrap()).unwrap();
        }
    };
    let error = node
        .operate(NOW, &start, |operation| operation.uninstall(false))
        .unwrap_err();
    assert!(matches!(error.outcome(), JobOutcome::InUse { containers } if containers.len() == 1));
    fs::remove_dir_all(node.host.at("/run/containerd")).unwrap();
    assert_eq!(node.files(), installed);
}

/// Adds a process to `/proc`: it runs that file of the node, with that command line.
fn process(node: &FakeNode, pid: &str, executable: &Path, words: &str) {
    let folder = node.host.at("/proc").join(pid);
    fs::create_dir_all(&folder).unwrap();
    symlink(node.host.at(executable), folder.join("exe")).unwrap();
    fs::write(folder.join("cmdline"), words).unwrap();
}

#[test]
fn client_and_compiles_do_not_keep_a_release() {
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), "kubeadm");
    let before = node.files();
    let folder = node.release("1");
    node.install(&folder).unwrap();
    let command = folder.join("wasm-interp");
    process(&node, "4000001", &command, "wasm-interp\0node\0uninstall\0");
    let compiler = folder.join("wasm-interp-compiler");
    let stage = |name: &str| format!("wasm-interp-compiler\0{name}\0");
    process(&node, "4000002", &compiler, &stage("publish"));
    process(&node, "4000003", &compiler, &stage("compile-confined"));
    node.uninstall().unwrap();
    assert!(!node.host.at("/proc/4000002").exists() && !node.host.at("/proc/4000003").exists());
    assert!(
        node.host.at("/proc/4000001").exists(),
        "it waits for its report"
    );
    fs::remove_dir_all(node.host.at("/proc")).unwrap();
    assert_eq!(node.files(), before);
    assert!(!node.host.at("/opt/wasm-interp").exists());
}

/// The builds before `wasm-interp-compiler` compile by the command line.
#[test]
fn release_without_a_compiler_is_removed_when_it_is_not_in_use() {
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), "kubeadm");
    let older = |version: &str| {
        let folder = node.release(version);
        fs::remove_file(node.host.at(folder.join("wasm-interp-compiler"))).unwrap();
        folder
    };
    let pruned = older("1");
    node.install(&pruned).unwrap();
    let shim = pruned.join("containerd-shim-wasm-interp-v1");
    process(&node, "4000001", &shim, "shim\0");
    let new = node.release("2");
    node.install(&new).unwrap();
    assert!(node.host.at(&shim).exists(), "it is in use");
    fs::remove_dir_all(node.host.at("/proc")).unwrap();
    node.install(&new).unwrap();
    assert!(!node.host.at(&pruned).exists());

    let uninstalled = older("1");
    let command = uninstalled.join("wasm-interp");
    process(&node, "4000002", &command, "wasm-interp\0__publish\0");
    let confined = "/proc/self/exe\0__compile-confined\0";
    process(&node, "4000003", &command, confined);
    node.uninstall().unwrap();
    assert!(!node.host.at("/proc/4000002").exists() && !node.host.at("/proc/4000003").exists());
    assert!(!node.host.at("/opt/wasm-interp").exists());
}

#[test]
fn release_of_a_running_process_is_kept_and_reported() {
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), "kubeadm");
    let folder = node.release("1");
    node.install(&folder).unwrap();
    process(
        &node,
        "4000001",
        &folder.join("wasm-interp"),
        "wasm-interp\0run\0",
    );
    let error = node.uninstall().unwrap_err();
    assert_eq!(error.outcome(), JobOutcome::Failed);
    assert_eq!(
        error.to_string(),
        "cannot remove /opt/wasm-interp/1, from which process 4000001 runs; everything else is \
         removed: end what uses it, then uninstall again"
    );
    assert_eq!(node.running_shim().unwrap(), None);
    fs::remove_dir_all(node.host.at("/proc")).unwrap();
    node.uninstall().unwrap();
    assert!(!node.host.at("/opt/wasm-interp").exists());
}

#[test]
fn uninstall_refuses_while_an_unpacked_image_is_in_use_unless_forced() {
    for lock_of in ["digest", "lock"] {
        let root = tempfile::tempdir().unwrap();
        let node = node_with_layout(root.path(), "kubeadm");
        node.install(&node.release("1")).unwrap();
        let installed = node.files();
        let image = node.host.at("/var/lib/wasm-interp/cache/images/digest");
        fs::create_dir_all(image.join("rootfs")).unwrap();
        // As a container locks its image, and an image that is being unpacked locks the cache.
        let path = image.with_file_name(lock_of);
        let file = match lock_of {
            "lock" => fs::File::create(&path).unwrap(),
            _ => fs::File::open(&path).unwrap(),
        };
        let lock = Flock::lock(file, FlockArg::LockSharedNonblock).unwrap();
        let error = node.uninstall().unwrap_err();
        assert_eq!(error.outcome(), JobOutcome::Refused, "{error}");
        assert_eq!(node.files(), installed, "{lock_of}");
        node.operate(NOW, &|_| {}, |operation| operation.uninstall(true))
            .unwrap();
        assert_eq!(node.running_shim().unwrap(), None);
        assert!(image.join("rootfs").exists(), "{lock_of}");
        drop(lock);
        node.uninstall().unwrap();
        assert!(!node.host.at("/var/lib/wasm-interp").exists());
    }
}

#[test]
fn container_that_starts_before_the_restart_keeps_its_release() {
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), "kubeadm");
    let folder = node.release("1");
    node.install(&folder).unwrap();
    let bundle = node
        .host
        .at("/run/containerd/io.containerd.runtime.v2.task/default/abc");
    let start = |step: &str| {
        if step == "look-again" {
            fs::create_dir_all(&bundle).unwrap();
            let shim = folder.join("containerd-shim-wasm-interp-v1");
            fs::write(bundle.join("shim-binary-path"), shim.to_str().unwrap()).unwrap();
        }
    };
    let error = node
        .operate(NOW, &start, |operation| operation.uninstall(false))
        .unwrap_err();
    assert!(
        error.to_string().contains("default/abc") && error.outcome() == JobOutcome::Failed,
        "{error}"
    );
    assert!(node.host.at(&folder).exists());
    fs::remove_dir_all(node.host.at("/run/containerd")).unwrap();
    node.uninstall().unwrap();
    assert!(!node.host.at("/opt/wasm-interp").exists());
}

#[test]
fn foreign_folders_beside_releases_are_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), "kubeadm");
    let foreign = node.host.at("/opt/wasm-interp/plugins/bin");
    fs::create_dir_all(&foreign).unwrap();
    fs::write(foreign.join("bridge"), "theirs").unwrap();
    let old = node.release("1");
    node.install(&old).unwrap();
    let new = node.release("2");
    node.install(&new).unwrap();
    assert!(!node.host.at(&old).exists(), "it is not in use");
    node.uninstall().unwrap();
    assert!(!node.host.at(&new).exists());
    assert_eq!(fs::read(foreign.join("bridge")).unwrap(), b"theirs");
}

#[test]
fn unsupported_node_can_be_uninstalled() {
    let root = tempfile::tempdir().unwrap();
    let host = HostRoot::new(root.path());
    let folder = host.at("/opt/wasm-interp/1");
    fs::create_dir_all(&folder).unwrap();
    for name in EXECUTABLES {
        fs::write(folder.join(name), "").unwrap();
    }
    let placed = PlacedRelease {
        folder: "/opt/wasm-interp/1".into(),
        version: "1".into(),
        copied: true,
    };
    let run = |action| NodeJob::new(action, &placed).run(&host, RestartPolicy::Allowed);
    let refused = run(JobAction::Install);
    assert_eq!(refused.outcome, JobOutcome::Refused);
    let status = run(JobAction::Status).status.unwrap();
    assert_eq!((status.releases.len(), status.containers.len()), (1, 0));
    let report = run(JobAction::Uninstall { force: false });
    assert!(report.succeeded(), "{}", report.message);
    assert!(!host.at("/opt/wasm-interp").exists() && !host.at("/run/wasm-interp/node").exists());
}

#[test]
fn refused_uninstall_keeps_the_charts_policy() {
    let root = tempfile::tempdir().unwrap();
    let node = node_with_layout(root.path(), "kubeadm");
    let before = node.files();
    let folder = node.release("1");
    node.install(&folder).unwrap();
    let text = r#"{"stack_bytes": 8388608}"#;
    policy_file::apply(&node.host, &PolicyChange::Write(text.into())).unwrap();
    let installed = node.files();
    let bundle = node
        .host
        .at("/run/containerd/io.containerd.runtime.v2.task/k8s.io/abc");
    fs::create_dir_all(&bundle).unwrap();
    let shim = folder.join("containerd-shim-wasm-interp-v1");
    fs::write(bundle.join("shim-binary-path"), shim.to_str().unwrap()).unwrap();
    node.uninstall().unwrap_err();
    fs::remove_dir_all(node.host.at("/run/containerd")).unwrap();
    assert_eq!(node.files(), installed);
    node.uninstall().unwrap();
    assert_eq!(node.files(), before);
}
