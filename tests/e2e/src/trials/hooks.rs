//! attach, probes and lifecycle hooks: what works, and the words where people look when it does not.

use k8s_openapi::serde_json::json;

use super::expect;
use super::native::{shell, with_shared};
use crate::Outcome;
use crate::command::{self, wait_for};
use crate::world::{Namespace, World, python, restarts, status};

/// What refuses an exec, whoever asked for it.
const NO_EXEC: [&str; 2] = ["exec", "not supported"];

pub(super) fn attach_streams_both_ways(world: &World) -> Outcome {
    let namespace = world.namespace(None)?;
    let mut main =
        python("import sys\nfor line in sys.stdin: print('got', line.strip())\nprint('end')");
    main["stdin"] = true.into();
    main["stdinOnce"] = true.into();
    namespace.pod("attached", json!({ "containers": [main] }))?;
    namespace.until_started("attached", 0)?;
    let attach = [
        "--namespace",
        &namespace.name,
        "attach",
        "--stdin",
        "attached",
    ];
    let attached = command::run(
        world.kubectl_command(&attach),
        Some(b"one line\nand another\n"),
    )?;
    attached
        .expect_code(0)?
        .expect_stdout("got one line\ngot and another\nend\n")?;
    // stdinOnce: the end of the attached input is the script's.
    namespace.succeeded("attached").map(drop)
}

pub(super) fn attach_prints_what_comes(world: &World) -> Outcome {
    let namespace = world.namespace(None)?;
    namespace.python(
        "attached",
        "import time\nwhile True: print('on and on'); time.sleep(0.1)",
    )?;
    namespace.until_started("attached", 0)?;
    let attached = namespace.kubectl_beside(&["attach", "attached"])?;
    let printed = wait_for("lines from kubectl attach", || {
        Ok(attached
            .stdout()?
            .contains("on and on\non and on\n")
            .then_some(()))
    });
    let attached = attached.end()?;
    printed.map_err(|_| format!("attach prints nothing of a running script: {attached}"))?;
    namespace.delete("attached")
}

pub(super) fn a_terminal_is_refused_in_words(world: &World) -> Outcome {
    let namespace = world.namespace(None)?;
    let mut main = python("print('must not run')");
    main["tty"] = true.into();
    namespace.pod("terminal", json!({ "containers": [main] }))?;
    until_told(&namespace, "terminal", &["terminal", "not supported"])
}

pub(super) fn an_exec_probe_is_refused_in_words(world: &World) -> Outcome {
    let namespace = world.namespace(None)?;
    let probe = json!({ "exec": { "command": ["python", "-c", "print(1)"] }, "periodSeconds": 1, "failureThreshold": 1 });
    for (name, kind) in [("ready", "readinessProbe"), ("alive", "livenessProbe")] {
        let mut main = python("import time; print('up'); time.sleep(3600)");
        main[kind] = probe.clone();
        namespace.pod(
            name,
            json!({ "restartPolicy": "Always", "containers": [main] }),
        )?;
    }
    for name in ["ready", "alive"] {
        namespace.until_printed(name, "up")?;
        until_told(&namespace, name, &NO_EXEC)?;
    }
    // The kubelet takes it for a probe that has not answered yet: never ready, and never killed, however often.
    wait_for("three probes of the pod alive", || {
        let of_pod = "--field-selector=reason=Unhealthy,involvedObject.name=alive";
        let counts =
            namespace.kubectl(&["get", "events", of_pod, "-o=jsonpath={.items[*].count}"])?;
        let counts = counts.expect_code(0)?.stdout;
        let probes: u32 = counts
            .split(' ')
            .filter_map(|count| count.parse::<u32>().ok())
            .sum();
        Ok((probes >= 3).then_some(()))
    })?;
    let is_ready = status(&namespace.get("ready")?, 0).map(|status| status.ready);
    expect(&is_ready, &Some(false))?;
    namespace.ready("alive")?;
    expect(&restarts(&namespace.get("alive")?), &0)?;
    namespace.delete("ready")?;
    namespace.delete("alive")
}

pub(super) fn exec_hooks_are_refused_in_words(world: &World) -> Outcome {
    let namespace = world.namespace(None)?;
    let exec = json!({ "exec": { "command": ["python", "-c", "print(1)"] } });
    let mut main = python("import time; print('up'); time.sleep(3600)");
    main["lifecycle"] = json!({ "postStart": exec });
    namespace.pod(
        "post-start",
        json!({ "restartPolicy": "Always", "containers": [main] }),
    )?;
    // The event says only which hook it was; the container's state has the words.
    namespace.until("post-start", "say why it does not stay", |pod| {
        let waiting = status(pod, 0)?.state.as_ref()?.waiting.as_ref()?;
        let message = waiting.message.as_deref()?;
        (waiting.reason.as_deref() == Some("PostStartHookError")
            && NO_EXEC.iter().all(|word| message.contains(word)))
        .then_some(())
    })?;
    until_told(&namespace, "post-start", &["FailedPostStartHook"])?;
    namespace.delete("post-start")?;

    main = python("import time; print('up'); time.sleep(3600)");
    main["lifecycle"] = json!({ "preStop": exec });
    // Longer than any wait of these tests: the end does not wait for a hook that cannot run.
    namespace.pod(
        "pre-stop",
        json!({ "terminationGracePeriodSeconds": 3600, "containers": [main] }),
    )?;
    namespace.until_printed("pre-stop", "up")?;
    namespace.delete("pre-stop")?;
    wait_for("the event of the hook", || {
        let events =
            namespace.kubectl(&["get", "events", "--field-selector=reason=FailedPreStopHook"])?;
        Ok(events.stdout.contains("pre-stop").then_some(()))
    })
}

pub(super) fn http_hooks_and_probes_ask_a_sidecar(world: &World) -> Outcome {
    let namespace = world.namespace(None)?;
    let mut sidecar = shell(
        "sidecar",
        "echo up >/shared/index.html; exec busybox httpd -f -p 8080 -h /shared",
    );
    let http = json!({ "path": "/index.html", "port": 8080 });
    sidecar["restartPolicy"] = "Always".into();
    sidecar["startupProbe"] =
        json!({ "httpGet": http, "periodSeconds": 1, "failureThreshold": 60 });
    // A guest has no sockets; its pod has one address, so what asks the script's container asks the sidecar.
    let mut main = python("import time; print('up'); time.sleep(3600)");
    main["lifecycle"] =
        json!({ "postStart": { "httpGet": http }, "preStop": { "sleep": { "seconds": 1 } } });
    main["readinessProbe"] = json!({ "httpGet": http, "periodSeconds": 1 });
    main["livenessProbe"] = json!({ "tcpSocket": { "port": 8080 }, "periodSeconds": 1 });
    let mut spec = json!({
        "restartPolicy": "Always", "initContainers": [sidecar], "containers": [main],
        // The server, as process 1, ignores the TERM.
        "terminationGracePeriodSeconds": 5,
    });
    with_shared(&mut spec);
    namespace.pod("asked", spec)?;
    namespace.ready("asked")?;
    expect(&restarts(&namespace.get("asked")?), &0)?;
    namespace.delete("asked")?;
    let events = namespace.kubectl(&[
        "get",
        "events",
        "--field-selector=involvedObject.name=asked",
    ])?;
    let events = events.expect_code(0)?.stdout;
    expect(&events.contains("Hook"), &false).map_err(|_| format!("a hook failed:\n{events}").into())
}

/// Waits until `kubectl describe` has all of `texts`.
fn until_told(namespace: &Namespace<'_>, pod: &str, texts: &[&str]) -> Outcome {
    let mut last = String::new();
    wait_for(&format!("{texts:?} of pod {pod}"), || {
        let described = namespace.kubectl(&["describe", "pod", pod])?;
        last = described.expect_code(0)?.stdout;
        let told = texts.iter().all(|text| last.contains(text));
        Ok(told.then_some(()))
    })
    .map_err(|error| format!("{}:\n{last}", error.message().unwrap_or_default()).into())
}
