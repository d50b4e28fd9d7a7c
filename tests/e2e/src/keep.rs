//! A cluster kept for people to play with: how they reach it, and that it waits for them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use crate::settings::Settings;

/// File with the number that the machine gives the first process inside.
const PID: &str = "pid";

/// Writes programs that reach into the cluster, says where they are, and waits for the signal that
/// ends it all from outside.
pub(crate) fn until_the_end(settings: &Settings) -> ExitCode {
    if let Err(error) = write_programs(settings) {
        eprintln!("cannot write how the cluster is reached: {error}");
        return ExitCode::FAILURE;
    }
    let bin = settings.folder().join("bin");
    println!(
        "
the cluster runs until Ctrl-C or `make cluster-down`; in another shell:

    export PATH={bin}:$PATH
    kubectl get nodes                    # kubectl and helm, as the cluster's administrator
    on-node first journalctl --follow     # a command on a node: first (containerd 1.6), second (2.4)
    kubectl run --rm -i hello --image=localhost/wasm-interp/hello:latest --image-pull-policy=Never \\
        --restart=Never --overrides='{{\"spec\":{{\"runtimeClassName\":\"wasm-interp\"}}}}'

nothing of this machine's network is touched; the registry is {registry} on the nodes",
        bin = bin.display(),
        registry = crate::cluster::REGISTRY,
    );
    loop {
        thread::park();
    }
}

fn write_programs(settings: &Settings) -> io::Result<()> {
    let bin = settings.folder().join("bin");
    fs::create_dir_all(&bin)?;
    let folder = settings.folder().display();
    let components = settings.components.display();
    let enter = format!("nsenter --target \"$(cat '{folder}/{PID}')\"");
    for program in ["kubectl", "helm"] {
        write_program(
            &bin.join(program),
            &format!(
                "export KUBECONFIG='{folder}/pki/admin.kubeconfig'\nexec {enter} --net '{components}/{program}' \"$@\"\n"
            ),
        )?;
    }
    write_program(
        &bin.join("on-node"),
        &format!(
            "node=$1\nshift\nexec {enter} --net --mount --pid sh -c 'exec nsenter --target \"$(cat \"$0\")\" --all -- \"$@\"' '{folder}'/\"$node\"/pid \"$@\"\n"
        ),
    )
}

fn write_program(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, format!("#!/bin/sh\nset -eu\n{text}"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// What `make cluster-down` ends: outside, which takes all of it away.
fn kept(settings: &Settings) -> PathBuf {
    settings.logs.with_file_name("cluster.pid")
}

/// The kept cluster is gone.
pub(crate) fn forget(settings: &Settings) {
    if settings.keep {
        // Nobody reads it where it cannot be removed: the number is checked.
        let _ = fs::remove_file(kept(settings));
    }
}

/// Tells the programs above where inside is, the child of the program that made the namespaces, and
/// `make cluster-down` where outside is.
pub(crate) fn write_pids(settings: &Settings, parent: u32) -> io::Result<()> {
    if let Some(folder) = settings.logs.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(kept(settings), std::process::id().to_string())?;
    let children = format!("/proc/{parent}/task/{parent}/children");
    loop {
        let inside = fs::read_to_string(&children)?;
        if !inside.trim().is_empty() {
            return fs::write(settings.folder().join(PID), inside.trim());
        }
        thread::sleep(Duration::from_millis(20));
    }
}
