//! `helm upgrade` to another build while pods run: they keep the shim that they were started with.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::serde_json::json;

use super::nodes::{COUNT, counts_on, on_node};
use crate::cluster::Cluster;
use crate::command::wait_for;
use crate::images;
use crate::node::ClusterNode;
use crate::provision;
use crate::world::{PodNamespace, TestCluster, python, restarts, status};
use crate::{Outcome, expect};

/// Leads to the shim of the release that a node was given last.
const LINK: &str = "/usr/local/bin/containerd-shim-wasm-interp-v1";
/// Says how often it was started, and ends with 40 and that number once `/shared/end-NUMBER` is there.
const AGAIN: &str = "import os, sys, time
open('/shared/runs', 'a').write('.')
run = os.stat('/shared/runs').st_size
print('run', run, sys.platform)
while not os.path.exists(f'/shared/end-{run}'): time.sleep(0.1)
sys.exit(40 + run)";

/// A node in the upgrade: what it was given before, and after.
struct Swapped<'a> {
    node: &'a ClusterNode,
    before: PathBuf,
    after: PathBuf,
}

pub(super) fn running_pods_keep_their_shim(world: &TestCluster) -> Outcome {
    let cluster = world.cluster()?;
    cluster.node(1)?;
    let archive = images::another_release(&cluster.settings)?;
    let mut nodes = Vec::new();
    for node in cluster.nodes() {
        node.import_image(archive)?;
        let before = shim(node)?;
        nodes.push((node, before));
    }
    let namespace = world.namespace(None)?;
    for node in cluster.nodes() {
        on_node(&namespace, &counting(node), node.name, COUNT)?;
        starting_again(&namespace, node)?;
    }
    for node in cluster.nodes() {
        namespace.until_printed(&counting(node), "3\n")?;
        namespace.until_printed(&again(node), "run 1 wasi\n")?;
    }

    let tag = format!("image.tag={}", images::ANOTHER);
    let options = ["--set", &tag, "--set", "verifySeconds=10"];
    provision::upgrade(cluster, &options)?;
    let mut swapped = Vec::new();
    for (node, before) in nodes {
        let after = shim(node)?;
        swapped.push(Swapped {
            node,
            before,
            after,
        });
    }
    let outcome = swapped
        .iter()
        .try_for_each(|swapped| goes_on(&namespace, swapped));
    outcome?;
    for Swapped { node, .. } in &swapped {
        node.must(&["systemctl", "restart", "containerd"])?;
    }
    for swapped in &swapped {
        outlives_a_restart(&namespace, swapped)?;
    }
    for swapped in &swapped {
        goes_when_unused(&namespace, swapped)?;
    }
    and_back(&namespace, cluster, &swapped)
}

/// After the upgrade: old pods run on their shim, new ones on the new.
fn goes_on(namespace: &PodNamespace<'_>, swapped: &Swapped<'_>) -> Outcome {
    let Swapped {
        node,
        before,
        after,
    } = swapped;
    let (old, new) = (release(before), release(after));
    let is_another_build = new
        .strip_prefix(&old)
        .is_some_and(|rest| rest.starts_with('+'));
    expect(&is_another_build, &true)
        .map_err(|_| format!("{new:?} is no folder for another build of {old:?}"))?;
    counts_on(namespace, &counting(node))?;
    for pod in [counting(node), again(node)] {
        expect(&restarts(&namespace.get(&pod)?), &0)?;
        expect(&namespace.process(&pod)?.shim()?, before)?;
    }
    on_node(namespace, &late(node), node.name, COUNT)?;
    namespace.until_printed(&late(node), "3\n")?;
    expect(&namespace.process(&late(node))?.shim()?, after)
}

/// After a restart of containerd too, and a container that ends in an old pod is started again there.
fn outlives_a_restart(namespace: &PodNamespace<'_>, swapped: &Swapped<'_>) -> Outcome {
    let Swapped {
        node,
        before,
        after,
    } = swapped;
    for (pod, shim) in [(counting(node), before), (late(node), after)] {
        counts_on(namespace, &pod)?;
        expect(&namespace.process(&pod)?.shim()?, shim)?;
    }
    let pod = again(node);
    fs::write(namespace.process(&pod)?.root("/shared/end-1"), "")?;
    let ended = namespace.until(&pod, "be started again", |pod| {
        let status = status(pod, 0)?;
        status.state.as_ref()?.running.as_ref()?;
        Some(status.last_state.as_ref()?.terminated.as_ref()?.exit_code)
    })?;
    expect(&ended, &41)?;
    expect(&restarts(&namespace.get(&pod)?), &1)?;
    namespace.until_printed(&pod, "run 2 wasi\n")?;
    let previous = namespace.kubectl(&["logs", "--previous", &pod])?;
    expect(&previous.expect_code(0)?.stdout, &"run 1 wasi\n".to_owned())?;
    // A pod has one shim, for as long as it lives.
    expect(&namespace.process(&pod)?.shim()?, before)
}

/// The old release is on the node as long as a pod uses it, and no longer.
fn goes_when_unused(namespace: &PodNamespace<'_>, swapped: &Swapped<'_>) -> Outcome {
    let Swapped {
        node,
        before,
        after,
    } = swapped;
    let is_there = |shim: &Path| node.path(&shim.display().to_string()).exists();
    expect(&(is_there(before), is_there(after)), &(true, true))?;
    for pod in [counting(node), again(node), late(node)] {
        namespace.delete(&pod)?;
    }
    wait_for("the old release to be removed", || {
        Ok((!is_there(before)).then_some(()))
    })?;
    expect(&is_there(after), &true)
}

/// `helm rollback` is an upgrade too, and puts everything back to what other trials find.
fn and_back(namespace: &PodNamespace<'_>, cluster: &Cluster, swapped: &[Swapped<'_>]) -> Outcome {
    provision::roll_back(cluster)?;
    for Swapped { node, before, .. } in swapped {
        // Helm has been seen to return while one node was still at it.
        wait_for("the release before to be back", || {
            Ok((shim(node)? == *before).then_some(()))
        })?;
        on_node(namespace, node.name, node.name, COUNT)?;
        namespace.until_printed(node.name, "3\n")?;
        expect(&namespace.process(node.name)?.shim()?, before)?;
        namespace.delete(node.name)?;
    }
    Ok(())
}

fn counting(node: &ClusterNode) -> String {
    format!("counts-{}", node.name)
}

fn again(node: &ClusterNode) -> String {
    format!("again-{}", node.name)
}

fn late(node: &ClusterNode) -> String {
    format!("late-{}", node.name)
}

fn starting_again(namespace: &PodNamespace<'_>, node: &ClusterNode) -> Outcome {
    let mut main = python(AGAIN);
    main["volumeMounts"] = json!([{ "name": "shared", "mountPath": "/shared" }]);
    let spec = json!({
        "nodeSelector": { "kubernetes.io/hostname": node.name },
        "restartPolicy": "Always", "containers": [main],
        "volumes": [{ "name": "shared", "emptyDir": {} }],
    });
    namespace.pod(&again(node), spec)?;
    Ok(())
}

/// The shim of the node's release: a path of the node.
fn shim(node: &ClusterNode) -> Outcome<PathBuf> {
    Ok(fs::read_link(node.path(LINK))?)
}

/// The folder of its release.
fn release(shim: &Path) -> String {
    let folder = shim.parent().unwrap_or(shim);
    folder.display().to_string()
}
