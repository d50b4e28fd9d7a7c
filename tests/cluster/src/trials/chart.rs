//! The chart after `helm install`, which put this project onto the nodes: its own test, and the way back.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::serde_json::{Value, json};

use super::nodes::on_node;
use crate::command::wait_for;
use crate::node::ClusterNode;
use crate::provision::{self, CONFIG, RELEASE, helm, label, original};
use crate::world::TestCluster;
use crate::{Outcome, expect};

/// All that a node gets beside containerd's configuration.
const PLACES: [&str; 6] = [
    "/opt/wasm-interp",
    "/etc/wasm-interp",
    "/var/lib/wasm-interp",
    "/usr/local/bin/containerd-shim-wasm-interp-v1",
    "/run/systemd/transient/wasm-interp-node.service",
    "/run/wasm-interp/node",
];

pub(super) fn helm_test_runs_a_script(world: &TestCluster) -> Outcome {
    let words = ["test", RELEASE, "--logs", "--timeout=3m"];
    let tested = helm(world.cluster()?, &words)?.expect_code(0)?;
    tested.expect_stdout("Python 3.13")?.expect_stdout("wasi")?;
    Ok(())
}

pub(super) fn every_node_prewarms_its_images(world: &TestCluster) -> Outcome {
    let cluster = world.cluster()?;
    cluster.node(1)?;
    for node in cluster.nodes() {
        let of_node = format!(
            "--field-selector=reason=WasmInterpPrewarmed,involvedObject.name={}",
            node.name
        );
        wait_for(
            &format!("{} to say that it has prewarmed", node.name),
            || {
                let events =
                    world.kubectl(&["get", "events", "--all-namespaces", "-o=name", &of_node])?;
                Ok((!events.expect_code(0)?.stdout.is_empty()).then_some(()))
            },
        )?;
    }
    Ok(())
}

pub(super) fn uninstall_is_refused_while_a_pod_runs(world: &TestCluster) -> Outcome {
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

pub(super) fn nodes_are_reinstalled_when_an_uninstall_fails(world: &TestCluster) -> Outcome {
    let cluster = world.cluster()?;
    cluster.node(1)?;
    no_pod_is_left(world)?;
    // As the hook asks for it, and takes it back when a node has failed it.
    let map = format!("configmap/{RELEASE}-wanted");
    let words = ["--namespace", RELEASE];
    let revision = ["get", &map, "-o=jsonpath={.data.revision}"];
    let revision = world.kubectl(&[&words[..], &revision].concat())?;
    let revision = revision.expect_code(0)?.stdout;
    let ask = |request: Value| -> Outcome {
        let patch = json!({ "data": { "uninstall": request } }).to_string();
        let patch = ["patch", &map, "--type=merge", "--patch", &patch];
        world
            .kubectl(&[&words[..], &patch].concat())?
            .expect_code(0)
            .map(drop)
    };
    let expires = SystemTime::now() + Duration::from_secs(600);
    let expires = expires.duration_since(UNIX_EPOCH).unwrap_or_default();
    let remove = json!({
        "id": "test", "revision": revision, "step": "remove", "expires_unix": expires.as_secs(),
    });
    ask(remove.to_string().into())?;
    let removed = cluster.nodes().try_for_each(|node| {
        wait_for(&format!("the runtime to be off {}", node.name), || {
            Ok((state(world, node)?.is_empty()).then_some(()))
        })
    });
    ask(Value::Null)?;
    removed?;
    let namespace = world.namespace(None)?;
    for node in cluster.nodes() {
        wait_for(&format!("the runtime to be on {} again", node.name), || {
            Ok((label(cluster, node)? == "true").then_some(()))
        })?;
        on_node(&namespace, node.name, node.name, "print('again')")?;
        expect(&namespace.succeeded(node.name)?, &"again\n".to_owned())?;
    }
    Ok(())
}

pub(super) fn uninstall_restores_the_nodes(world: &TestCluster) -> Outcome {
    let cluster = world.cluster()?;
    cluster.node(1)?;
    no_pod_is_left(world)?;
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
        on_node(&namespace, node.name, node.name, "print('again')")?;
        expect(&namespace.succeeded(node.name)?, &"again\n".to_owned())?;
    }
    Ok(())
}

/// Those of earlier trials go without anybody's waiting, and hold the runtime until they are gone.
fn no_pod_is_left(world: &TestCluster) -> Outcome {
    wait_for("no pod to use the runtime", || {
        let pods =
            r#"-o=jsonpath={.items[?(@.spec.runtimeClassName=="wasm-interp")].metadata.name}"#;
        let pods = world.kubectl(&["get", "pods", "--all-namespaces", pods])?;
        Ok(pods.expect_code(0)?.stdout.is_empty().then_some(()))
    })
}

fn is_as_it_was(world: &TestCluster, node: &ClusterNode) -> Outcome {
    let cluster = world.cluster()?;
    let now = fs::read_to_string(node.path(CONFIG))?;
    expect(&now, &fs::read_to_string(original(cluster, node))?)?;
    for place in PLACES {
        let left = node.run(&["find", place])?.stdout;
        expect(&left, &String::new())?;
    }
    expect(&label(cluster, node)?, &String::new())?;
    expect(&state(world, node)?, &String::new())
}

/// What the agent says of the node, or nothing.
fn state(world: &TestCluster, node: &ClusterNode) -> Outcome<String> {
    let state = r"-o=jsonpath={.metadata.annotations.wasm-interp\.io/state}";
    let state = world.kubectl(&["get", "node", node.name, state])?;
    Ok(state.expect_code(0)?.stdout)
}
