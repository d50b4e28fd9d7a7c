//! Puts this project onto a node as people do, with the Helm chart: the one place that knows how a node comes
//! to run Wasm pods.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::Outcome;
use crate::cluster::Cluster;
use crate::command::{self, Finished, wait_for};
use crate::node::ClusterNode;

/// Namespace and name of the release.
pub(crate) const RELEASE: &str = "wasm-interp";
/// The node's configuration of containerd.
pub(crate) const CONFIG: &str = "/etc/containerd/config.toml";
/// The chart of this checkout.
pub(crate) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/wasm-interp");

/// Waits until the node runs Wasm pods. The first one has the chart installed; to one that joins later its
/// DaemonSet comes by itself.
pub(crate) fn provision(cluster: &Cluster, node: &ClusterNode) -> Outcome {
    fs::copy(node.path(CONFIG), original(cluster, node))?;
    if helm(cluster, &["status", RELEASE])?.code != 0 {
        make_namespace(cluster)?;
        install(cluster)?;
    }
    wait_for(&format!("the node {} to be provisioned", node.name), || {
        Ok((label(cluster, node)? == "true").then_some(()))
    })
    .map_err(|error| explained(cluster, error.message()))
}

/// The release's namespace, where the agent may reach the node.
pub(crate) fn make_namespace(cluster: &Cluster) -> Outcome {
    cluster
        .kubectl(&["create", "namespace", RELEASE])?
        .expect_code(0)?;
    let level = "pod-security.kubernetes.io/enforce=privileged";
    cluster
        .kubectl(&["label", "namespace", RELEASE, level])?
        .expect_code(0)?;
    Ok(())
}

/// What nodes have more than the defaults, and have to lose again: a policy, and native code.
const VALUES: [&str; 2] = [
    "--set=policy.stack_bytes=8388608",
    "--set=prewarm={localhost/wasm-interp/python:3.13}",
];

/// `helm install`, which returns when every node runs Wasm pods.
pub(crate) fn install(cluster: &Cluster) -> Outcome {
    settled(
        cluster,
        &[&["install", RELEASE, CHART][..], &VALUES].concat(),
    )
}

/// `helm upgrade`, with options like `--set`; returns when every node has the new release.
pub(crate) fn upgrade(cluster: &Cluster, options: &[&str]) -> Outcome {
    settled(
        cluster,
        &[&["upgrade", RELEASE, CHART][..], &VALUES, options].concat(),
    )
}

/// `helm rollback`, back to the release before.
pub(crate) fn roll_back(cluster: &Cluster) -> Outcome {
    settled(cluster, &["rollback", RELEASE])
}

fn settled(cluster: &Cluster, words: &[&str]) -> Outcome {
    let words = [words, &["--wait", "--timeout=3m"]].concat();
    let settled = helm(cluster, &words)?.expect_code(0);
    settled
        .map(drop)
        .map_err(|error| explained(cluster, error.message()))
}

/// The failure, with what the agents' pods and logs say of it.
pub(crate) fn explained(cluster: &Cluster, error: Option<&str>) -> libtest_mimic::Failed {
    let mut text = error.unwrap_or_default().to_owned();
    let all = "--selector=app.kubernetes.io/name=wasm-interp";
    for words in [&["describe", "pods", all][..], &["logs", all, "--tail=100"]] {
        let words = [&["--namespace", RELEASE], words].concat();
        match cluster.kubectl(&words) {
            Ok(said) => text += &format!("\n{}{}", said.stdout, said.stderr),
            Err(error) => text += &format!("\n{}", error.message().unwrap_or_default()),
        }
    }
    text.into()
}

/// `helm WORDS …` in the release's namespace, as the administrator.
pub(crate) fn helm(cluster: &Cluster, words: &[&str]) -> Outcome<Finished> {
    let mut command = Command::new(cluster.settings.components.join("helm"));
    command
        .args(words)
        .args(["--namespace", RELEASE, "--kubeconfig"])
        .arg(&cluster.kubeconfig)
        .env("HOME", cluster.settings.run.folder());
    command::run(command, None)
}

/// What containerd's configuration was before anything of ours was there.
pub(crate) fn original(cluster: &Cluster, node: &ClusterNode) -> PathBuf {
    let folder = cluster.settings.run.folder();
    folder.join(format!("{}-config.toml", node.name))
}

/// The node's label, or nothing.
pub(crate) fn label(cluster: &Cluster, node: &ClusterNode) -> Outcome<String> {
    let label = r"-o=jsonpath={.metadata.labels.wasm-interp\.io/ready}";
    let read = cluster.kubectl(&["get", "node", node.name, label])?;
    Ok(read.expect_code(0)?.stdout)
}
