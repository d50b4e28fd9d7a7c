//! What a job does when things are not as they should be.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::unistd::geteuid;

use super::fake::FakeNode;
use super::layouts::{folder, kind};
use crate::host::Host;
use crate::job::{Action, Job};
use crate::mounts_of_its_own;
use crate::names::EXECUTABLES;
use crate::process::Restart;
use crate::release::Placed;
use crate::report::{Outcome, Step};
use crate::work::{Done, Work};

const CONFIG: &str = "/etc/containerd/config.toml";

fn kubeadm(root: &Path) -> FakeNode {
    FakeNode::new(root, kind("kubeadm"), &folder("kubeadm").join("before"))
}

#[test]
fn a_containerd_that_does_not_start_with_it_gets_its_bytes_back() {
    for name in ["debian", "kubeadm", "kubeadm-2", "k3s", "rke2", "microk8s"] {
        let root = tempfile::tempdir().unwrap();
        let node = FakeNode::new(root.path(), kind(name), &folder(name).join("before"));
        let before = node.files();
        node.breaks_with_ours();
        let folder_1 = node.release("1");
        let error = node.install(&folder_1).unwrap_err();
        assert_eq!(error.outcome(), Outcome::RolledBack, "{name}: {error}");
        assert!(
            error
                .to_string()
                .contains("containerd.service did not come up"),
            "{name}: {error}"
        );
        assert_eq!(node.files(), before, "{name}");
        assert_eq!(node.running().unwrap().runtime, None, "{name}");
    }
}

#[test]
fn a_failed_upgrade_goes_back_to_the_release_before_not_to_nothing() {
    let root = tempfile::tempdir().unwrap();
    let node = kubeadm(root.path());
    let before = node.files();
    let folder_1 = node.release("1");
    node.install(&folder_1).unwrap();
    let installed = node.files();
    node.breaks_with_ours();
    // The old one would not start either: the worst case. Its bytes are back all the same.
    let error = node.install(&node.release("2")).unwrap_err();
    assert_eq!(error.outcome(), Outcome::Failed, "{error}");
    assert!(
        error
            .to_string()
            .contains("does not come back with that either"),
        "{error}"
    );
    assert_eq!(node.files(), installed);
    // Mended, the next job starts it again.
    node.is_mended();
    node.install(&folder_1).unwrap();
    node.uninstall().unwrap();
    assert_eq!(node.files(), before);
}

#[test]
fn a_release_that_runs_nothing_here_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let node = kubeadm(root.path());
    let before = node.files();
    node.runs_nothing();
    let error = node.install(&node.release("1")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("/opt/wasm-interp/1 does not run on this node"),
        "{error}"
    );
    assert_eq!(node.files(), before);
    assert_eq!(node.restarts(), 0);
}

#[test]
fn uninstall_takes_only_its_own_out_of_a_file_that_changed_since() {
    let root = tempfile::tempdir().unwrap();
    let node = kubeadm(root.path());
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
    let node = kubeadm(root.path());
    let before = node.files();
    node.install(&node.release("1")).unwrap();
    fs::remove_dir_all(node.host.at("/var/lib/wasm-interp")).unwrap();
    node.uninstall().unwrap();
    assert_eq!(node.files(), before);
}

#[test]
fn uninstall_takes_what_killed_askers_left() {
    let root = tempfile::tempdir().unwrap();
    let node = kubeadm(root.path());
    node.install(&node.release("1")).unwrap();
    let run = node.host.run_dir();
    fs::create_dir_all(&run).unwrap();
    let copy = node.host.at("/opt/wasm-interp/.copying-x");
    fs::create_dir_all(&copy).unwrap();
    let report = run.join("report-1-1.json");
    fs::write(&report, "{}").unwrap();
    node.install(&node.release("2")).unwrap();
    assert!(report.exists());
    node.uninstall().unwrap();
    assert!(!report.exists());
    assert!(!copy.exists());
}

#[test]
fn uninstall_refuses_while_containers_run_unless_forced() {
    let root = tempfile::tempdir().unwrap();
    let node = kubeadm(root.path());
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
            .contains("1 container of this runtime run on this node: k8s.io/abc"),
        "{error}"
    );
    assert!(matches!(error.outcome(), Outcome::InUse { containers } if containers.len() == 1));
    assert_eq!(node.files(), installed);

    // An upgrade leaves it its release.
    node.install(&node.release("2")).unwrap();
    assert!(node.host.at(&shim).exists());
    node.job(0, &|_| {}, |work| work.uninstall(true)).unwrap();
    assert!(node.host.at(&shim).exists());
    fs::remove_dir_all(node.host.at("/run/containerd")).unwrap();
    node.uninstall().unwrap();
    assert!(!node.host.at("/opt/wasm-interp").exists());
    assert_eq!(node.files(), before);
}

#[test]
fn a_release_that_cannot_be_removed_is_no_failure_of_the_next_one() {
    // A mount point cannot be removed, also not by root.
    if !geteuid().is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let node = kubeadm(root.path());
    node.install(&node.release("1")).unwrap();
    let (folder_1, folder_2) = (node.host.at("/opt/wasm-interp/1"), node.release("2"));
    mounts_of_its_own(|| {
        let none: Option<&str> = None;
        mount(Some(&folder_1), &folder_1, none, MsFlags::MS_BIND, none).unwrap();
        let act = |work: &mut Work<'_>| {
            let done = work.install(&folder_2);
            let said = |step: &Step| step.name == "keep" && step.detail.contains("cannot rename");
            assert!(work.steps.iter().any(said), "{:?}", work.steps);
            done
        };
        node.job(1_000_000, &|_| {}, act).unwrap();
    });
    assert!(folder_1.exists());
    node.install(&folder_2).unwrap();
    assert!(!folder_1.exists());
}

#[test]
fn uninstall_refuses_a_container_that_starts_while_prewarming_is_ended() {
    let root = tempfile::tempdir().unwrap();
    let node = kubeadm(root.path());
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
        .job(1_000_000, &start, |work| work.uninstall(false))
        .unwrap_err();
    assert!(matches!(error.outcome(), Outcome::InUse { containers } if containers.len() == 1));
    fs::remove_dir_all(node.host.at("/run/containerd")).unwrap();
    assert_eq!(node.files(), installed);
}

#[test]
fn a_file_that_is_changed_back_is_written_again_ever_more_seldom() {
    let root = tempfile::tempdir().unwrap();
    let node = kubeadm(root.path());
    let original = fs::read(node.host.at(CONFIG)).unwrap();
    let folder_1 = node.release("1");
    let mut now = 1_000_000;
    let install = |now| node.job(now, &|_| {}, |work| work.install(&folder_1));
    install(now).unwrap();
    let revert = || fs::write(node.host.at(CONFIG), &original).unwrap();

    // Once may be a reboot.
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
            Outcome::Reverted {
                times,
                retry_after_unix
            },
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains(&format!("was changed back {times} times")),
            "{error}"
        );
        assert_eq!(node.restarts(), restarts, "left alone");
        now = retry_after_unix;
        install(now).unwrap();
        restarts += 1;
        assert_eq!(node.restarts(), restarts);
    }
    // After a day of peace it counts from nothing.
    revert();
    install(now + 25 * 3600).unwrap();
}

#[test]
fn a_handler_that_is_configured_and_not_running_costs_one_restart() {
    let root = tempfile::tempdir().unwrap();
    let node = kubeadm(root.path());
    let folder_1 = node.release("1");
    node.install(&folder_1).unwrap();
    // Written back by somebody, after containerd was started without it.
    let installed = fs::read(node.host.at(CONFIG)).unwrap();
    fs::write(node.host.at(CONFIG), "version = 2\n").unwrap();
    let layout = node.layout().unwrap();
    crate::daemon::Daemon::restart(&node.containerd(&layout)).unwrap();
    fs::write(node.host.at(CONFIG), installed).unwrap();
    let done = node.install(&folder_1).unwrap();
    assert_eq!(
        done,
        Done {
            changed: false,
            restarted: true
        }
    );
}

#[test]
fn verify_says_what_is_missing() {
    let root = tempfile::tempdir().unwrap();
    let node = kubeadm(root.path());
    let verify = |node: &FakeNode| {
        let nothing = Done {
            changed: false,
            restarted: false,
        };
        node.job(0, &|_| {}, |work| work.verify().map(|()| nothing))
    };
    let error = verify(&node).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("runs without the handler wasm-interp"),
        "{error}"
    );
    node.install(&node.release("1")).unwrap();
    verify(&node).unwrap();
    node.runs_nothing();
    let error = verify(&node).unwrap_err();
    assert!(error.to_string().contains("ended with code 125"), "{error}");
}

/// As `find` sees a process: it runs that file of the node, with these words.
fn process(node: &FakeNode, pid: &str, executable: &Path, words: &str) {
    let folder = node.host.at("/proc").join(pid);
    fs::create_dir_all(&folder).unwrap();
    symlink(node.host.at(executable), folder.join("exe")).unwrap();
    fs::write(folder.join("cmdline"), words).unwrap();
}

#[test]
fn the_asker_and_publishers_keep_no_release() {
    let root = tempfile::tempdir().unwrap();
    let node = kubeadm(root.path());
    let before = node.files();
    let folder = node.release("1");
    node.install(&folder).unwrap();
    let command = folder.join("wasm-interp");
    process(&node, "4000001", &command, "wasm-interp\0node\0uninstall\0");
    process(&node, "4000002", &command, "wasm-interp\0__publish\0");
    process(
        &node,
        "4000003",
        &command,
        "wasm-interp\0__compile-confined\0",
    );
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

#[test]
fn what_a_process_runs_from_is_kept_and_told() {
    let root = tempfile::tempdir().unwrap();
    let node = kubeadm(root.path());
    let folder = node.release("1");
    node.install(&folder).unwrap();
    process(
        &node,
        "4000001",
        &folder.join("wasm-interp"),
        "wasm-interp\0run\0",
    );
    let error = node.uninstall().unwrap_err();
    assert_eq!(error.outcome(), Outcome::Failed);
    assert_eq!(
        error.to_string(),
        "all is uninstalled but /opt/wasm-interp/1, from which process 4000001 runs; end that, then uninstall again"
    );
    assert_eq!(node.running().unwrap().runtime, None);
    fs::remove_dir_all(node.host.at("/proc")).unwrap();
    node.uninstall().unwrap();
    assert!(!node.host.at("/opt/wasm-interp").exists());
}

#[test]
fn a_container_that_comes_before_the_restart_keeps_its_release() {
    let root = tempfile::tempdir().unwrap();
    let node = kubeadm(root.path());
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
        .job(1_000_000, &start, |work| work.uninstall(false))
        .unwrap_err();
    assert!(
        error.to_string().contains("default/abc") && error.outcome() == Outcome::Failed,
        "{error}"
    );
    assert!(node.host.at(&folder).exists());
    fs::remove_dir_all(node.host.at("/run/containerd")).unwrap();
    node.uninstall().unwrap();
    assert!(!node.host.at("/opt/wasm-interp").exists());
}

#[test]
fn what_is_no_release_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let node = kubeadm(root.path());
    let foreign = node.host.at("/opt/wasm-interp/plugins/bin");
    fs::create_dir_all(&foreign).unwrap();
    fs::write(foreign.join("bridge"), "theirs").unwrap();
    let old = node.release("1");
    node.install(&old).unwrap();
    let new = node.release("2");
    node.install(&new).unwrap();
    assert!(!node.host.at(&old).exists(), "nobody uses it");
    node.uninstall().unwrap();
    assert!(!node.host.at(&new).exists());
    assert_eq!(fs::read(foreign.join("bridge")).unwrap(), b"theirs");
}

#[test]
fn a_node_that_cannot_be_served_can_be_left() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::new(root.path());
    let folder = host.at("/opt/wasm-interp/1");
    fs::create_dir_all(&folder).unwrap();
    for name in EXECUTABLES {
        fs::write(folder.join(name), "").unwrap();
    }
    let placed = Placed {
        folder: "/opt/wasm-interp/1".into(),
        version: "1".into(),
        copied: true,
    };
    let run = |action| Job::new(action, &placed).run(&host, Restart::Allowed);
    let refused = run(Action::Install);
    assert_eq!(refused.outcome, Outcome::Refused);
    let status = run(Action::Status).status.unwrap();
    assert_eq!((status.releases.len(), status.containers.len()), (1, 0));
    let report = run(Action::Uninstall { force: false });
    assert!(report.holds(), "{}", report.message);
    assert!(!host.at("/opt/wasm-interp").exists() && !host.at("/run/wasm-interp/node").exists());
}
