//! What a job does when things are not as they should be.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

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
    node_like(root, "kubeadm")
}

fn node_like(root: &Path, layout: &str) -> FakeNode {
    FakeNode::new(root, kind(layout), &folder(layout).join("before"))
}

/// Runs these also where containerd finds the shim by the link alone.
macro_rules! also_by_the_link {
    ($($test:ident)*) => {
        mod by_path {
            $(#[test] fn $test() { super::$test("kubeadm"); })*
        }
        mod by_the_link {
            $(#[test] fn $test() { super::$test("debian-old"); })*
        }
    };
}

also_by_the_link! {
    a_release_that_runs_nothing_here_changes_nothing
    uninstall_takes_what_killed_askers_left
    uninstall_refuses_while_containers_run_unless_forced
    a_release_that_cannot_be_removed_is_no_failure_of_the_next_one
    uninstall_refuses_a_container_that_starts_while_prewarming_is_ended
    a_file_that_is_changed_back_is_written_again_ever_more_seldom
    a_handler_that_is_configured_and_not_running_costs_one_restart
    verify_says_what_is_missing
}

#[test]
fn a_containerd_that_does_not_start_with_it_gets_its_bytes_back() {
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

fn a_release_that_runs_nothing_here_changes_nothing(layout: &str) {
    let root = tempfile::tempdir().unwrap();
    let node = node_like(root.path(), layout);
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
fn a_node_that_takes_no_link_is_refused_before_anything_is_changed() {
    let is_refused = |node: &FakeNode, before: &BTreeMap<PathBuf, String>| {
        let error = node.install(&node.release("1")).unwrap_err();
        assert_eq!(error.outcome(), Outcome::Refused, "{error}");
        let said = error.to_string();
        let begins = "/usr/local/bin/containerd-shim-wasm-interp-v1 cannot be made, where";
        assert!(said.starts_with(begins), "{said}");
        assert_eq!(&node.files(), before);
        assert_eq!(node.restarts(), 0);
    };
    for layout in ["debian", "debian-old"] {
        let root = tempfile::tempdir().unwrap();
        let node = node_like(root.path(), layout);
        let bin = node.host.at("/usr/local/bin");
        // A mount is read-only also for root.
        if geteuid().is_root() {
            let before = node.files();
            mounts_of_its_own(|| {
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
fn a_link_that_alone_names_the_shim_leads_to_what_works() {
    let root = tempfile::tempdir().unwrap();
    let node = node_like(root.path(), "debian-old");
    let (folder_1, folder_2) = (node.release("1"), node.release("2"));
    node.install(&folder_1).unwrap();
    let installed = node.files();
    let upgrade = |breaks_before: &str| {
        let watch = |step: &str| {
            if step == breaks_before {
                node.runs_nothing_of(&folder_2);
            }
        };
        let error = node.job(1_000_000, &watch, |work| work.install(&node.release("2")));
        let error = error.unwrap_err();
        assert_eq!(node.files(), installed, "{error}");
        assert!(node.host.at(&folder_1).exists());
        node.runs_all_again();
        error
    };
    // By its path: nothing is switched.
    let error = upgrade("plan");
    assert_eq!(error.outcome(), Outcome::Refused, "{error}");
    // By the link: a containerd may not know the path.
    let error = upgrade("link");
    assert_eq!(error.outcome(), Outcome::Refused, "{error}");
    // In the end.
    let error = upgrade("verify");
    assert_eq!(error.outcome(), Outcome::RolledBack, "{error}");
    let said = error.to_string();
    assert!(
        said.starts_with("no program runs with the release in /opt/wasm-interp/2, so containerd finds /opt/wasm-interp/1/"),
        "{said}"
    );
    node.install(&node.release("2")).unwrap();
    assert_ne!(node.files(), installed);
    assert!(!node.host.at(&folder_1).exists());
}

fn uninstall_takes_what_killed_askers_left(layout: &str) {
    let root = tempfile::tempdir().unwrap();
    let node = node_like(root.path(), layout);
    node.install(&node.release("1")).unwrap();
    let run = node.host.run_dir();
    fs::create_dir_all(&run).unwrap();
    let copy = node.host.at("/opt/wasm-interp/.copying-x");
    fs::create_dir_all(&copy).unwrap();
    let report = run.join("report-1-1.json");
    fs::write(&report, "{}").unwrap();
    node.install(&node.release("2")).unwrap();
    assert!(report.exists());
    // Of jobs that were killed: a link that is not in its place yet, half a report, half a release.
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
    let node = node_like(root.path(), layout);
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

fn a_release_that_cannot_be_removed_is_no_failure_of_the_next_one(layout: &str) {
    // A mount point cannot be removed, also not by root.
    if !geteuid().is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let node = node_like(root.path(), layout);
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

fn uninstall_refuses_a_container_that_starts_while_prewarming_is_ended(layout: &str) {
    let root = tempfile::tempdir().unwrap();
    let node = node_like(root.path(), layout);
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

fn a_file_that_is_changed_back_is_written_again_ever_more_seldom(layout: &str) {
    let root = tempfile::tempdir().unwrap();
    let node = node_like(root.path(), layout);
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
    // Nor does a clock count that was years ahead when it was written.
    for _ in 0..2 {
        revert();
        install(now + 1_000_000_000).unwrap();
        revert();
        install(now).unwrap();
        now += 25 * 3600;
    }
}

fn a_handler_that_is_configured_and_not_running_costs_one_restart(layout: &str) {
    let root = tempfile::tempdir().unwrap();
    let node = node_like(root.path(), layout);
    let folder_1 = node.release("1");
    node.install(&folder_1).unwrap();
    // Written back by somebody, after containerd was started without it.
    let installed = fs::read(node.host.at(CONFIG)).unwrap();
    fs::write(node.host.at(CONFIG), "version = 2\n").unwrap();
    restart(&node);
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

fn verify_says_what_is_missing(layout: &str) {
    let root = tempfile::tempdir().unwrap();
    let node = node_like(root.path(), layout);
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

/// Layouts whose containerd takes a drop-in.
const DROP_INS: [(&str, &str, &str); 3] = [
    ("kubeadm-2", "/etc/containerd/conf.d", "version = 3"),
    ("k0s", "/etc/k0s/containerd.d", "version = 2"),
    (
        "k3s-drop-in",
        "/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d",
        "version = 3",
    ),
];

/// A runtime of somebody else's.
fn kata(version: &str) -> String {
    let plugin = match version {
        "version = 2" => "io.containerd.grpc.v1.cri",
        _ => "io.containerd.cri.v1.runtime",
    };
    format!(
        "# The team's own.\n[plugins.\"{plugin}\".containerd.runtimes.kata]\nruntime_type = 'k' # by hand\n"
    )
}

#[test]
fn what_others_add_to_our_drop_in_stays() {
    for (name, folder_of_drop_ins, version) in DROP_INS {
        let root = tempfile::tempdir().unwrap();
        let node = FakeNode::new(root.path(), kind(name), &folder(name).join("before"));
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
fn a_file_of_our_drop_ins_name_from_before_gets_its_bytes_back() {
    for (name, folder_of_drop_ins, version) in DROP_INS {
        let root = tempfile::tempdir().unwrap();
        let node = FakeNode::new(root.path(), kind(name), &folder(name).join("before"));
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
fn a_file_of_our_drop_ins_name_that_cannot_be_edited_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let node = node_like(root.path(), "kubeadm-2");
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

/// The node's containerd restarted by somebody else.
fn restart(node: &FakeNode) {
    let layout = node.layout().unwrap();
    crate::daemon::Daemon::restart(&node.containerd(&layout)).unwrap();
}

/// A node whose drop-in was installed, and whose main file then came without its imports; and its files
/// had nothing been installed.
fn without_its_imports(root: &Path) -> (FakeNode, BTreeMap<PathBuf, String>) {
    let node = node_like(root, "kubeadm-2");
    let mut before = node.files();
    node.install(&node.release("1")).unwrap();
    let anew = fs::read_to_string(node.host.at(CONFIG)).unwrap();
    let anew = anew.replace("imports = ['/etc/containerd/conf.d/*.toml']\n", "");
    fs::write(node.host.at(CONFIG), &anew).unwrap();
    restart(&node);
    before.insert(CONFIG.trim_start_matches('/').into(), anew);
    (node, before)
}

const OUR_DROP_IN: &str = "/etc/containerd/conf.d/wasm-interp.toml";

#[test]
fn a_table_that_comes_to_another_file_leaves_the_one_before() {
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
fn uninstall_finds_our_table_where_containerd_reads_no_longer() {
    let root = tempfile::tempdir().unwrap();
    let (node, before) = without_its_imports(root.path());
    node.uninstall().unwrap();
    assert_eq!(node.files(), before);
}

#[test]
fn a_job_killed_while_it_leaves_an_earlier_file_is_made_up_for() {
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
        let watch = |step: &str| {
            if step == killed_before {
                let read = |path: &Path| fs::read(path).ok();
                *then.borrow_mut() = Some((read(&record), read(&drop_in)));
            }
        };
        let install = |watch: &dyn Fn(&str)| {
            let folder_1 = node.release("1");
            node.job(1_000_000, watch, |work| work.install(&folder_1))
                .unwrap();
        };
        install(&watch);
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
fn a_newer_template_takes_the_block_over() {
    let root = tempfile::tempdir().unwrap();
    let node = node_like(root.path(), "k3s");
    let folder = node.host.at("/var/lib/rancher/k3s/agent/etc/containerd");
    let older = folder.join("config.toml.tmpl");
    let newer = folder.join("config-v3.toml.tmpl");
    let theirs = "# The team's own.\nversion = 2\n";
    fs::write(&older, theirs).unwrap();
    restart(&node);
    node.install(&node.release("1")).unwrap();
    assert!(fs::read_to_string(&older).unwrap().contains("wasm-interp"));

    fs::write(&newer, "{{ template \"base\" . }}\n").unwrap();
    restart(&node);
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
