//! What a cluster's monitoring learns of a pod.

use k8s_openapi::serde_json::{Value, from_str};

use crate::command::wait_for;
use crate::world::{PodNamespace, TestCluster};
use crate::{Outcome, expect};

pub(super) fn kubectl_top_and_the_kubelet_know_what_a_pod_uses(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    namespace.python("busy", "print('ready')\nwhile True: pass")?;
    namespace.until_printed("busy", "ready")?;
    let node = namespace.get("busy")?.spec.and_then(|spec| spec.node_name);
    let node = node.unwrap_or_default();
    world.cluster()?.with_metrics(|| {
        // Thousandths of a processor, and MiB.
        let top = |words: &[&str]| -> Outcome<(u64, u64)> {
            wait_for(&format!("kubectl {words:?} to have an answer"), || {
                let words = [&["top"], words, &["--no-headers"]].concat();
                let answer = namespace.kubectl(&words)?.stdout;
                // A node has percentages too.
                let mut numbers = answer.split_whitespace().skip(1).filter_map(|word| {
                    let number = word.trim_end_matches(char::is_alphabetic);
                    number.parse().ok()
                });
                Ok(numbers.next().zip(numbers.next()))
            })
        };
        let (processor, memory) = top(&["pod", "busy"])?;
        let (_, memory_of_node) = top(&["node", &node])?;
        let holds = processor > 0 && memory > 0 && memory < memory_of_node;
        expect(&holds, &true).map_err(|_| {
            format!("a busy pod uses {processor}m and {memory}Mi, its node {memory_of_node}Mi")
        })?;
        Ok(())
    })?;
    let bytes = in_the_summary(world, &namespace, &node)?;
    expect(&bytes.is_some_and(|bytes| bytes > 1 << 20), &true)
        .map_err(|_| format!("the summary has no memory of the container: {bytes:?}"))?;
    let labels = [
        r#"container="main""#.to_owned(),
        format!(r#"namespace="{}""#, namespace.name),
        r#"pod="busy""#.to_owned(),
    ];
    for endpoint in ["metrics/resource", "metrics/cadvisor"] {
        let metrics = of_kubelet(world, &node, endpoint)?;
        let memory: Option<f64> = metrics.lines().find_map(|line| {
            let line = line.strip_prefix("container_memory_working_set_bytes{")?;
            let (of, value) = line.split_once("} ")?;
            let ours = labels.iter().all(|label| of.contains(label));
            // A time may follow.
            value.split(' ').next().filter(|_| ours)?.parse().ok()
        });
        expect(&memory.is_some_and(|bytes| bytes > 0.0), &true)
            .map_err(|_| format!("{endpoint} has no memory of {labels:?}: {memory:?}"))?;
    }
    namespace.delete("busy")
}

/// The memory of the pod's container in the kubelet's summary.
fn in_the_summary(
    world: &TestCluster,
    namespace: &PodNamespace<'_>,
    node: &str,
) -> Outcome<Option<u64>> {
    let summary: Value = from_str(&of_kubelet(world, node, "stats/summary")?)?;
    let pods = summary["pods"].as_array().into_iter().flatten();
    let mut ours = pods.filter(|pod| {
        let reference = &pod["podRef"];
        reference["name"] == "busy" && reference["namespace"] == namespace.name.as_str()
    });
    Ok(ours
        .next()
        .and_then(|pod| pod["containers"][0]["memory"]["workingSetBytes"].as_u64()))
}

fn of_kubelet(world: &TestCluster, node: &str, path: &str) -> Outcome<String> {
    let path = format!("/api/v1/nodes/{node}/proxy/{path}");
    let answer = world.kubectl(&["get", "--raw", &path])?;
    Ok(answer.expect_code(0)?.stdout)
}
