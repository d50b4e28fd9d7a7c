//! The examples of `deployments/`, as users apply them.

use crate::command::wait_for;
use crate::world::TestCluster;
use crate::{Outcome, expect};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deployments");
const NAMESPACE: &str = "wasm-interp-examples";
/// Of the one that Pod Security allows nowhere else.
const PRIVILEGED: &str = "wasm-interp-hostpath";

/// A line of each Job's log.
const PRINTED: [(&str, &str, &str); 7] = [
    (NAMESPACE, "job/hello", "hello Kubernetes, from Python"),
    (NAMESPACE, "job/script", r#""arguments": ["1", "2"]"#),
    (NAMESPACE, "job/init-container", "sum: 55"),
    (NAMESPACE, "job/sidecar", "load: "),
    (NAMESPACE, "job/volumes", "volume: 1 runs so far"),
    (NAMESPACE, "job/report-now", "report of 20"),
    (PRIVILEGED, "job/hostpath", r#"the node runs "Debian"#),
];

pub(super) fn every_example_works_unchanged(world: &TestCluster) -> Outcome {
    let applied = world.kubectl(&["apply", "--filename", FOLDER]);
    let outcome = applied.and_then(|applied| {
        // What Pod Security or the API server would rather not see is a warning there.
        expect(&applied.expect_code(0)?.stderr, &String::new())?;
        work(world).map_err(|error| {
            let state = [NAMESPACE, PRIVILEGED].map(|namespace| {
                world
                    .kubectl(&["--namespace", namespace, "get", "pods,events"])
                    .map_or_else(|_| String::new(), |described| described.stdout)
            });
            let error = error.message().unwrap_or_default();
            format!("{error}\n{}", state.concat()).into()
        })
    });
    let deleted = world.kubectl(&["delete", "--filename", FOLDER, "--timeout=170s"]);
    outcome?;
    deleted?.expect_code(0)?;
    for (kind, name) in [
        ("namespace", NAMESPACE),
        ("namespace", PRIVILEGED),
        ("persistentvolume", NAMESPACE),
    ] {
        let left = world.kubectl(&["get", kind, name, "--ignore-not-found"])?;
        expect(&left.expect_code(0)?.stdout, &String::new())?;
    }
    Ok(())
}

fn work(world: &TestCluster) -> Outcome {
    let examples = |namespace: &str, words: &[&str]| -> Outcome<String> {
        let words = [&["--namespace", namespace], words].concat();
        Ok(world.kubectl(&words)?.expect_code(0)?.stdout)
    };
    let level = r"-o=jsonpath={.metadata.labels.pod-security\.kubernetes\.io/enforce}";
    let level = examples(NAMESPACE, &["get", "namespace", NAMESPACE, level])?;
    expect(&level, &"restricted".to_owned())?;
    // As its first line says.
    let at_once = ["create", "job", "--from=cronjob/report", "report-now"];
    examples(NAMESPACE, &at_once)?;
    let complete = ["wait", "--for=condition=complete", "--timeout=170s"];
    for (namespace, job, line) in PRINTED {
        examples(namespace, &[&complete[..], &[job]].concat())?;
        // Of the script: a sidecar is an init container.
        let printed = examples(namespace, &["logs", job])?;
        expect(&printed.contains(line), &true)
            .map_err(|_| format!("no {line:?} in the log of {job}:\n{printed}"))?;
    }
    let status = ["rollout", "status", "deployment/clock", "--timeout=170s"];
    examples(NAMESPACE, &status)?;
    let page = format!("/api/v1/namespaces/{NAMESPACE}/services/clock:http/proxy/");
    wait_for("the page of the service", || {
        let page = world.kubectl(&["get", "--raw", &page])?;
        Ok(page.stdout.contains(" clock-").then_some(()))
    })?;
    let restarts = "-o=jsonpath={.items[*].status.containerStatuses[*].restartCount}";
    let restarts = examples(NAMESPACE, &["get", "pods", restarts])?;
    let never = restarts.split_whitespace().all(|count| count == "0");
    expect(&never, &true).map_err(|_| format!("containers were restarted: {restarts}").into())
}
