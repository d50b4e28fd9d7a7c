//! How pods end other than by themselves, and what people are told.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::serde_json::json;

use crate::command;
use crate::guests::{IDLE, IMPORTS, LOOP, NO_INTERPRETER, TRAP};
use crate::world::{TestCluster, exit_code, python, status};
use crate::{Outcome, expect};

pub(super) fn term_ends_a_pod_long_before_its_grace(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    for (name, image) in [("idle", IDLE), ("loop", LOOP)] {
        // Longer than any wait of these tests: only the TERM can end it in time. The finalizer keeps
        // what the kubelet reports of the end.
        namespace.create::<Pod>(json!({
            "metadata": { "name": name, "finalizers": ["wasm-interp.test/keep"] },
            "spec": {
                "runtimeClassName": "wasm-interp", "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 3600,
                "containers": [{ "name": "main", "image": image, "imagePullPolicy": "Never" }],
            },
        }))?;
    }
    for name in ["idle", "loop"] {
        namespace.until_printed(name, "ready")?;
        namespace
            .kubectl(&["delete", "pod", name, "--wait=false"])?
            .expect_code(0)?;
    }
    let mut outcome = Ok(());
    for name in ["idle", "loop"] {
        outcome =
            outcome.and_then(|()| expect(&namespace.until(name, "end by TERM", exit_code)?, &143));
        let patch = r#"{"metadata":{"finalizers":null}}"#;
        namespace
            .kubectl(&["patch", "pod", name, "--type=merge", "--patch", patch])?
            .expect_code(0)?;
    }
    outcome
}

pub(super) fn a_trap_is_told_from_a_kill(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    namespace.pod(
        "trap",
        json!({ "containers": [{ "name": "main", "image": TRAP, "imagePullPolicy": "Never" }] }),
    )?;
    namespace.ended("trap")?;
    expect(&exit_code(&namespace.get("trap")?), &Some(134))?;
    let logs = namespace.logs("trap")?;
    expect(&logs.contains("unreachable"), &true)
        .map_err(|_| format!("the log does not say what trapped:\n{logs}").into())
}

pub(super) fn describe_says_what_trapped(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    for (name, policy) in [("file", "File"), ("logs", "FallbackToLogsOnError")] {
        namespace.pod(
            name,
            json!({ "containers": [{
                "name": "main", "image": TRAP, "imagePullPolicy": "Never",
                "terminationMessagePolicy": policy,
            }] }),
        )?;
    }
    for name in ["file", "logs"] {
        namespace.ended(name)?;
        let message = status(&namespace.get(name)?, 0)
            .and_then(|status| status.state.clone()?.terminated?.message)
            .unwrap_or_default();
        expect(&message.contains("unreachable"), &true).map_err(|_| {
            format!("the termination message does not say what trapped: {message:?}")
        })?;
        namespace
            .kubectl(&["describe", "pod", name])?
            .expect_code(0)?
            .expect_stdout("unreachable")?;
    }
    Ok(())
}

pub(super) fn a_failed_start_says_why(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    for (name, image, told) in [
        ("no-interpreter", NO_INTERPRETER, "no interpreter"),
        ("imports", IMPORTS, "launch_missiles"),
    ] {
        namespace.pod(
            name,
            json!({
                "containers": [{ "name": "main", "image": image, "imagePullPolicy": "Never" }],
            }),
        )?;
        namespace.until(name, "fail to start", |pod| {
            let state = status(pod, 0)?.state.as_ref()?;
            let failed = state.waiting.as_ref().is_some_and(|waiting| {
                waiting
                    .reason
                    .as_deref()
                    .is_some_and(|reason| reason.ends_with("Error"))
            });
            (failed || state.terminated.is_some()).then_some(())
        })?;
        namespace
            .kubectl(&["describe", "pod", name])?
            .expect_code(0)?
            .expect_stdout(told)?;
    }
    Ok(())
}

pub(super) fn exec_runs_python_beside_the_script(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    namespace.python("idle", "import time; print('ready'); time.sleep(3600)")?;
    namespace.until_printed("idle", "ready")?;
    let script = "import sys; print(sys.stdin.read().upper(), end=''); sys.exit(7)";
    let exec = [
        "--namespace",
        &namespace.name,
        "exec",
        "--stdin",
        "idle",
        "--",
        "python",
        "-c",
        script,
    ];
    command::run(world.kubectl_command(&exec), Some(b"one line\n"))?
        .expect_code(7)?
        .expect_stdout("ONE LINE\n")?;
    namespace
        .kubectl(&["exec", "idle", "--", "sh", "-c", "true"])?
        .expect_failure()?
        .expect_stderr(&["executable file not found in $PATH", "has no shell"])?;
    namespace.delete("idle")
}

pub(super) fn kubectl_cp_without_tar_is_refused_in_words(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    namespace.python("idle", "import time; print('ready'); time.sleep(3600)")?;
    namespace.until_printed("idle", "ready")?;
    namespace
        .kubectl(&["cp", "idle:/etc/hostname", "/nonexistent/file"])?
        .expect_failure()?
        .expect_stderr(&[
            "\"tar\": executable file not found in $PATH",
            "through stdin or stdout",
        ])?;
    namespace.delete("idle")
}

pub(super) fn a_pod_that_must_not_be_root_is_refused(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let mut main = python("print('must not run')");
    main["securityContext"] = json!({ "runAsNonRoot": true });
    namespace.pod("root", json!({ "containers": [main] }))?;
    namespace.until("root", "be refused", |pod| {
        let waiting = status(pod, 0)?.state.as_ref()?.waiting.as_ref()?;
        (waiting.reason.as_deref() == Some("CreateContainerConfigError")
            && waiting.message.as_deref()?.contains("run as root"))
        .then_some(())
    })
}
