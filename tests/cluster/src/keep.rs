//! A cluster kept for people to play with: how they reach it, and that it waits for them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use crate::settings::ClusterSettings;
use crate::world::{CONTEXT, TestCluster};

/// File with the number that the machine gives the first process inside.
const PID: &str = "pid";

/// Writes programs that reach into the cluster, says where they are, and waits for the signal that
/// ends it all from outside.
pub(crate) fn until_the_end(settings: &ClusterSettings, world: &TestCluster) -> ExitCode {
    // People expect what the trials have.
    if let Err(error) = world.cluster().and_then(|cluster| cluster.node(1)) {
        let error = error.message().unwrap_or("unknown").to_owned();
        eprintln!("cannot boot the second node: {error}");
        return ExitCode::FAILURE;
    }
    if let Err(error) = write_programs(settings) {
        eprintln!("cannot write how the cluster is reached: {error}");
        return ExitCode::FAILURE;
    }
    let bin = settings.run.folder().join("bin");
    println!(
        "
the cluster runs until Ctrl-C or `make cluster-down`; in another shell:

    export PATH={bin}:$PATH
    # kubectl and helm, as the cluster's administrator
    kubectl get nodes
    # a command on a node: first (containerd 1.6), second (2.4)
    on-node first journalctl --follow
    kubectl run --rm -i hello --image=localhost/wasm-interp/hello:latest \\
        --image-pull-policy=Never --restart=Never \\
        --overrides='{{\"spec\":{{\"runtimeClassName\":\"wasm-interp\"}}}}'
    # the trials that need no access to the nodes
    in-cluster env E2E_KUBECONFIG='{kubeconfig}' E2E_CONTEXT={CONTEXT} scripts/e2e

The chart is installed, as release wasm-interp in the namespace wasm-interp. To bring an image of
yours onto a node, or into the cluster's registry (which speaks plain HTTP):

    on-node first ctr --namespace k8s.io image import - <FILE.tar
    in-cluster buildah push --tls-verify=false IMAGE {registry}/NAME:TAG

nothing of this machine's network is touched",
        bin = bin.display(),
        kubeconfig = kubeconfig(settings).display(),
        registry = crate::addresses::REGISTRY,
    );
    loop {
        thread::park();
    }
}

fn write_programs(settings: &ClusterSettings) -> io::Result<()> {
    let bin = settings.run.folder().join("bin");
    fs::create_dir_all(&bin)?;
    let folder = settings.run.folder().display();
    let components = settings.components.display();
    let enter = format!("nsenter --target \"$(cat '{folder}/{PID}')\"");
    for program in ["kubectl", "helm"] {
        write_program(
            &bin.join(program),
            &format!(
                "export KUBECONFIG='{}'\nexec {enter} --net '{components}/{program}' \"$@\"\n",
                kubeconfig(settings).display()
            ),
        )?;
    }
    // Anything else of the machine, in the cluster's network.
    write_program(
        &bin.join("in-cluster"),
        &format!("exec {enter} --net \"$@\"\n"),
    )?;
    write_program(
        &bin.join("on-node"),
        &format!(
            r#"node=$1
shift
exec {enter} --net --mount --pid \
    sh -c 'exec nsenter --target "$(cat "$0")" --all -- "$@"' '{folder}'/"$node"/pid "$@"
"#
        ),
    )
}

/// The administrator's.
fn kubeconfig(settings: &ClusterSettings) -> PathBuf {
    settings.run.folder().join("pki/admin.kubeconfig")
}

fn write_program(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, format!("#!/bin/sh\nset -eu\n{text}"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// What `make cluster-down` ends: outside, which takes all of it away.
fn kept(settings: &ClusterSettings) -> PathBuf {
    settings.logs.with_file_name("cluster.pid")
}

/// The kept cluster is gone.
pub(crate) fn forget(settings: &ClusterSettings) {
    if settings.keep {
        // A file that stays does no harm: `make cluster-down` checks what the number belongs to.
        let _ = fs::remove_file(kept(settings));
    }
}

/// Tells the programs above where inside is, the child of the program that made the namespaces, and
/// `make cluster-down` where outside is.
pub(crate) fn write_pids(settings: &ClusterSettings, parent: u32) -> io::Result<()> {
    if let Some(folder) = settings.logs.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(kept(settings), std::process::id().to_string())?;
    let children = format!("/proc/{parent}/task/{parent}/children");
    loop {
        let inside = fs::read_to_string(&children)?;
        if !inside.trim().is_empty() {
            return fs::write(settings.run.folder().join(PID), inside.trim());
        }
        thread::sleep(Duration::from_millis(20));
    }
}
