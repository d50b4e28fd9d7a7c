//! Puts this project onto a node: the one place that knows how a node comes to run Wasm pods.

use std::fs;

use k8s_openapi::serde_json::json;

use crate::Outcome;
use crate::cluster::Cluster;
use crate::command::wait_for;
use crate::node::{Node, Series};

/// Folder of the release on the node.
const RELEASE: &str = "/opt/wasm-interp/e2e";

/// Makes the node run Wasm pods, and says so by the label that the RuntimeClass asks for.
pub(crate) fn provision(cluster: &Cluster, node: &Node) -> Outcome {
    node.must(&["mkdir", "-p", RELEASE])?;
    for program in [
        "containerd-shim-wasm-interp-v1",
        "wasm-interp-runner",
        "wasm-interp",
    ] {
        let from = format!("/opt/e2e/dist/{program}");
        node.must(&["install", "-m755", &from, RELEASE])?;
    }
    let shim = format!("{RELEASE}/containerd-shim-wasm-interp-v1");
    // Also where `runtime_path` is read: containerd 2.4 forgets it for a pod's containers when it starts
    // again, and loses those whose shim is not on its PATH.
    node.must(&["ln", "-s", &shim, "/usr/local/bin/"])?;
    let (plugin, path_of_shim) = match node.series {
        // 1.6 reads it and looks on its PATH nevertheless.
        Series::Distribution => ("io.containerd.grpc.v1.cri", String::new()),
        Series::Newest => (
            "io.containerd.cri.v1.runtime",
            format!("  runtime_path = \"{shim}\"\n"),
        ),
    };
    let path = node.path("/etc/containerd/config.toml");
    let table = format!(
        r#"
[plugins."{plugin}".containerd.runtimes.wasm-interp]
  runtime_type = "io.containerd.wasm-interp.v1"
{path_of_shim}  pod_annotations = ["wasm-interp.io/*"]
  container_annotations = ["wasm-interp.io/*"]
"#
    );
    fs::write(&path, fs::read_to_string(&path)? + &table)?;
    node.must(&["systemctl", "restart", "containerd"])?;
    wait_for("containerd to answer", || {
        Ok((node.run(&["ctr", "version"])?.code == 0).then_some(()))
    })?;

    let class = cluster.settings.folder().join("runtime-class.json");
    fs::write(
        &class,
        json!({
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": { "name": "wasm-interp" },
            "handler": "wasm-interp",
            "scheduling": { "nodeSelector": { "wasm-interp.io/ready": "true" } },
        })
        .to_string(),
    )?;
    let class = class.display().to_string();
    cluster
        .kubectl(&["apply", "--filename", &class])?
        .expect_code(0)?;
    cluster
        .kubectl(&["label", "node", node.name, "wasm-interp.io/ready=true"])?
        .expect_code(0)?;
    Ok(())
}
