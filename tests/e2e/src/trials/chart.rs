//! The chart after `helm install`, which put this project onto the nodes: its own test, and the way back.

use std::fs;

use k8s_openapi::serde_json::json;

use super::expect;
use crate::Outcome;
use crate::command::wait_for;
use crate::node::Node;
use crate::provision::{self, CONFIG, RELEASE, helm, label, original};
use crate::world::{World, python};

/// All that a node gets beside containerd's configuration.
const PLACES: [&str; 5] = [
    "/opt/wasm-interp",
    "/etc/wasm-interp",
    "/var/lib/wasm-interp",
    "/usr/local/bin/containerd-shim-wasm-interp-v1",
    "/run/systemd/transient/wasm-interp-node.service",
];

pub(super) fn helm_test_runs_a_script(world: &World) -> Outcome {
    let words = ["test", RELEASE, "--logs", "--timeout=3m"];
    let tested = helm(world.cluster()?, &words)?.expect_code(0)?;
    tested.expect_stdout("Python 3.12")?.expect_stdout("wasi")?;
    Ok(())
}

pub(super) fn uninstalling_waits_for_no_pod(world: &World) -> Outcome {
    let cluster = world.cluster()?;
    let namespace = world.namespace(None)?;
    namespace.python("stays", "import time; print('up'); time.sleep(3600)")?;
    namespace.until_printed("stays", "up\n")?;
    let refused = helm(cluster, &["uninstall", RELEASE, "--timeout=6m"])?.expect_failure()?;
    let hook = format!("job/{RELEASE}-uninstall");
    let said = world.kubectl(&["--namespace", RELEASE, "logs", &hook])?;
    let pod = format!("{}/stays", namespace.name);
    if !said.stdout.contains(&pod) && !said.stderr.contains(&pod) {
        return Err(format!("the hook does not name {pod}: {said}\n{refused}").into());
    }
    for node in cluster.nodes() {
        wait_for("the label to be back", || {
            Ok((label(cluster, node)? == "true").then_some(()))
        })?;
    }
    namespace.ready("stays")?;
    namespace.delete("stays")?;
    expect(
        &namespace.printed("more", "print('still here')")?,
        &"still here\n".to_owned(),
    )
}

pub(super) fn uninstalling_leaves_nodes_as_they_were(world: &World) -> Outcome {
    let cluster = world.cluster()?;
    cluster.node(1)?;
    // Those of earlier trials go without anybody's waiting, and hold the runtime until they are gone.
    wait_for("no pod to use the runtime", || {
        let pods =
            r#"-o=jsonpath={.items[?(@.spec.runtimeClassName=="wasm-interp")].metadata.name}"#;
        let pods = world.kubectl(&["get", "pods", "--all-namespaces", pods])?;
        Ok(pods.expect_code(0)?.stdout.is_empty().then_some(()))
    })?;
    helm(cluster, &["uninstall", RELEASE, "--wait", "--timeout=6m"])?.expect_code(0)?;
    for node in cluster.nodes() {
        is_as_it_was(world, node).map_err(|error| {
            let error = error.message().unwrap_or_default();
            format!("the node {}: {error}", node.name)
        })?;
    }

    provision::install(cluster)?;
    let namespace = world.namespace(None)?;
    for node in cluster.nodes() {
        expect(&label(cluster, node)?, &"true".to_owned())?;
        let spec = json!({
            "nodeSelector": { "kubernetes.io/hostname": node.name }, "containers": [python("print('again')")],
        });
        namespace.pod(node.name, spec)?;
        expect(&namespace.succeeded(node.name)?, &"again\n".to_owned())?;
    }
    Ok(())
}

fn is_as_it_was(world: &World, node: &Node) -> Outcome {
    let cluster = world.cluster()?;
    let now = fs::read_to_string(node.path(CONFIG))?;
    expect(&now, &fs::read_to_string(original(cluster, node))?)?;
    for place in PLACES {
        let left = node.run(&["find", place])?.stdout;
        expect(&left, &String::new())?;
    }
    expect(&label(cluster, node)?, &String::new())?;
    let annotations = "-o=jsonpath={.metadata.annotations}";
    let annotations = world.kubectl(&["get", "node", node.name, annotations])?;
    let annotations = annotations.expect_code(0)?.stdout;
    if annotations.contains("wasm-interp.io/") {
        return Err(format!("annotations are left: {annotations}").into());
    }
    Ok(())
}
