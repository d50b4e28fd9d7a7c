//! What happens to nodes under running pods, and many pods at once.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::serde_json::json;

use crate::command::wait_for;
use crate::node::{ClusterNode, NODES};
use crate::world::{PodNamespace, TestCluster, is_ready, python, restarts};
use crate::{Outcome, expect};

/// Prints a growing number for ever.
pub(super) const COUNT: &str =
    "import itertools, time\nfor n in itertools.count(): print(n); time.sleep(0.2)";

pub(super) fn a_second_node_joins_and_runs_pods(world: &TestCluster) -> Outcome {
    world.cluster()?.node(1)?;
    let namespace = world.namespace(None)?;
    for plan in &NODES {
        on_node(&namespace, plan.name, plan.name, "print('hello from here')")?;
    }
    for plan in &NODES {
        expect(
            &namespace.succeeded(plan.name)?,
            &"hello from here\n".to_owned(),
        )?;
    }
    Ok(())
}

pub(super) fn a_hundred_pods_run_at_once(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let mut main = python("import time; print('ready'); time.sleep(3600)");
    main["name"] = "main".into();
    namespace.create::<Deployment>(json!({
        "metadata": { "name": "many" },
        "spec": {
            "replicas": 100, "selector": { "matchLabels": { "app": "many" } },
            "template": { "metadata": { "labels": { "app": "many" } }, "spec": {
                "runtimeClassName": "wasm-interp", "nodeName": NODES[0].name, "containers": [main],
            }},
        },
    }))?;
    let mut last = 0;
    while last < 100 {
        last = wait_for("one more pod to be ready", || {
            let now = namespace
                .pods("app=many")?
                .iter()
                .filter(|pod| is_ready(pod))
                .count();
            Ok((now > last).then_some(now))
        })?;
    }
    expect(
        &namespace
            .pods("app=many")?
            .iter()
            .map(restarts)
            .sum::<i32>(),
        &0,
    )?;
    namespace
        .kubectl(&["delete", "deployment", "many", "--cascade=foreground"])?
        .expect_code(0)?;
    wait_for("the pods to be gone", || {
        Ok(namespace.pods("app=many")?.is_empty().then_some(()))
    })
}

pub(super) fn drain_moves_the_pods(world: &TestCluster) -> Outcome {
    let [first, second] =
        [0, 1].map(|number| world.cluster().and_then(|cluster| cluster.node(number)));
    let (first, second) = (first?, second?);
    let namespace = world.namespace(None)?;
    let mut main = python("import time; print('ready'); time.sleep(3600)");
    main["name"] = "main".into();
    namespace.create::<Deployment>(json!({
        "metadata": { "name": "moves" },
        "spec": {
            "replicas": 4, "selector": { "matchLabels": { "app": "moves" } },
            "template": {
                "metadata": { "labels": { "app": "moves" } },
                "spec": { "runtimeClassName": "wasm-interp", "containers": [main] },
            },
        },
    }))?;
    let all_ready_on = |nodes: &[&str]| {
        wait_for(&format!("four ready pods on {nodes:?}"), || {
            let ready = namespace.pods("app=moves")?.into_iter().filter(|pod| {
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
                is_ready(pod) && node.is_some_and(|node| nodes.contains(&node))
            });
            Ok((ready.count() == 4).then_some(()))
        })
    };
    all_ready_on(&[first.name, second.name])?;
    let drained = world
        .kubectl(&[
            "drain",
            second.name,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--timeout=120s",
        ])?
        .expect_code(0);
    let moved = drained.and_then(|_| all_ready_on(&[first.name]));
    world.kubectl(&["uncordon", second.name])?.expect_code(0)?;
    moved?;
    on_node(&namespace, "back", second.name, "print('back')")?;
    expect(&namespace.succeeded("back")?, &"back\n".to_owned())
}

pub(super) fn pods_outlive_the_kubelet(world: &TestCluster) -> Outcome {
    under_running_pods(world, |node| {
        node.must(&["systemctl", "restart", "kubelet"])?;
        Ok(())
    })
}

pub(super) fn pods_outlive_a_restart_of_containerd(world: &TestCluster) -> Outcome {
    under_running_pods(world, |node| {
        node.must(&["systemctl", "restart", "containerd"])?;
        Ok(())
    })
}

pub(super) fn pods_outlive_a_kill_of_containerd(world: &TestCluster) -> Outcome {
    under_running_pods(world, |node| {
        let before = node.must(&["systemctl", "show", "--property=MainPID", "containerd"])?;
        node.must(&[
            "systemctl",
            "kill",
            "--signal=KILL",
            "--kill-whom=main",
            "containerd",
        ])?;
        wait_for("systemd to start containerd again", || {
            let now = node.must(&["systemctl", "show", "--property=MainPID", "containerd"])?;
            Ok((now != before && now.trim() != "MainPID=0").then_some(()))
        })
    })
}

/// Does something to each node while a pod counts there; the pod must go on, be the same and its
/// end must still be seen.
fn under_running_pods(world: &TestCluster, act: impl Fn(&ClusterNode) -> Outcome) -> Outcome {
    let namespace = world.namespace(None)?;
    for plan in &NODES {
        on_node(&namespace, plan.name, plan.name, COUNT)?;
    }
    for (number, plan) in NODES.iter().enumerate() {
        namespace.until_printed(plan.name, "3\n")?;
        act(world.cluster()?.node(number)?)?;
        counts_on(&namespace, plan.name)?;
        namespace.delete(plan.name)?;
    }
    Ok(())
}

/// The pod, which runs [`COUNT`], has not been started again, has lost no line, and prints more.
pub(super) fn counts_on(namespace: &PodNamespace<'_>, name: &str) -> Outcome {
    // The kubelet may be on its way up, and answer nothing yet.
    let lines = || -> Outcome<Option<usize>> {
        let logs = namespace.kubectl(&["logs", name])?;
        Ok((logs.code == 0).then(|| logs.stdout.lines().count()))
    };
    let before = wait_for("the kubelet to answer", lines)?;
    wait_for(&format!("the pod {name} to print more"), || {
        Ok(lines()?.filter(|&now| now > before + 10).map(drop))
    })?;
    let printed = namespace.logs(name)?;
    let in_order = printed
        .lines()
        .enumerate()
        .all(|(n, line)| line == n.to_string());
    expect(&in_order, &true).map_err(|_| format!("lines were lost or repeated:\n{printed}"))?;
    namespace.ready(name)?;
    expect(&restarts(&namespace.get(name)?), &0)
}

/// A pod on one node.
pub(super) fn on_node(namespace: &PodNamespace<'_>, name: &str, node: &str, code: &str) -> Outcome {
    namespace.pod(
        name,
        json!({ "nodeSelector": { "kubernetes.io/hostname": node }, "containers": [python(code)] }),
    )?;
    Ok(())
}
