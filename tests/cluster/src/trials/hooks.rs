//! attach, probes and lifecycle hooks: what works, and the words where people look when it does not.

use k8s_openapi::serde_json::json;

use super::native::{shell, with_shared};
use crate::command::{self, wait_for};
use crate::guests::COMPUTES;
use crate::world::{PodNamespace, TestCluster, python, restarts, status};
use crate::{Outcome, expect};

pub(super) fn attach_streams_both_ways(world: &TestCluster) -> Outcome {
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

pub(super) fn attach_prints_what_comes(world: &TestCluster) -> Outcome {
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

pub(super) fn a_terminal_is_given(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let mut main = python("import os; print('terminals:', os.isatty(0), os.isatty(1))");
    main["tty"] = true.into();
    main["stdin"] = true.into();
    namespace.pod("terminal", json!({ "containers": [main] }))?;
    namespace.succeeded("terminal")?;
    let printed = namespace.logs("terminal")?;
    expect(&printed.contains("terminals: True True"), &true)
}

pub(super) fn exec_gives_a_terminal(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let mut spec = json!({ "containers": [
        python("import time; print('ready'); time.sleep(3600)"),
        shell("native", "exec busybox sleep 3600"),
    ] });
    with_shared(&mut spec);
    namespace.pod("asked", spec)?;
    for container in [0, 1] {
        namespace.until_started("asked", container)?;
    }
    let on = |container: &str, command: &[&str]| {
        let exec = ["exec", "-it", "asked", "--container", container, "--"];
        namespace.kubectl_on_a_terminal(&[&exec, command].concat())
    };
    let mut prompt = on("main", &["python"])?;
    let mut seen = 0;
    prompt.wait_for_stdout(">>> ", &mut seen)?;
    for (typed, answer) in [
        ("for n in (20, 22):", "... "),
        ("    print(n + 1)", "... "),
        ("", "23"),
        ("1 / 0", "ZeroDivisionError"),
        ("import sys; sys.stdin.isatty()", "True"),
    ] {
        prompt.write(format!("{typed}\r").as_bytes())?;
        prompt.wait_for_stdout(typed, &mut seen)?;
        prompt.wait_for_stdout(answer, &mut seen)?;
    }
    prompt.wait_for_stdout(">>> ", &mut seen)?;
    prompt.write(b"\x04")?;
    prompt.finish()?.expect_code(0)?;
    let mut script = on("main", &["python", "-c", COMPUTES])?;
    script.wait_for_stdout("computes", &mut 0)?;
    script.write(b"\x03")?;
    script.finish()?.expect_code(130)?;

    let script = "busybox tty; echo ready; busybox cat; \
        set -m; trap : INT; sh -c 'while read -r line; do echo got $line; done'; \
        echo stopped $?; fg; exit 9";
    let mut terminal = on("native", &["sh", "-c", script])?;
    let mut seen = 0;
    terminal.wait_for_stdout("/dev/pts/", &mut seen)?;
    terminal.wait_for_stdout("ready", &mut seen)?;
    for (typed, answer) in [
        ("\x04", None),
        ("one\r", Some("got one")),
        ("\x1a", Some("stopped 148")),
        ("two\r", Some("got two")),
        ("\x03", None),
    ] {
        terminal.write(typed.as_bytes())?;
        if let Some(answer) = answer {
            terminal.wait_for_stdout(answer, &mut seen)?;
        }
    }
    terminal.finish()?.expect_code(9)?;
    namespace.delete("asked")
}

pub(super) fn a_probe_past_its_timeout_leaves_no_process(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let mut main = python("import time; print('ready'); time.sleep(3600)");
    main["readinessProbe"] = json!({
        "exec": { "command": [
            "python", "-c", "import time; open('/tmp/asked', 'w').close(); time.sleep(3600)",
        ] },
        // A kubelet that has just started lets a part of the period pass before the first probe.
        "periodSeconds": 8, "timeoutSeconds": 3,
    });
    namespace.pod("slow", json!({ "containers": [main] }))?;
    namespace.until_printed("slow", "ready")?;
    let process = namespace.process("slow")?;
    until_told(&namespace, "slow", &["Readiness probe failed", "timed out"])?;
    wait_for("a probe that has begun", || {
        Ok(process.root("/tmp/asked").exists().then_some(()))
    })?;
    let members = process.cgroup("memory")?.join("cgroup.procs");
    wait_for("the script alone in its cgroup", || {
        let alone = std::fs::read_to_string(&members)?.lines().count() == 1;
        Ok(alone.then_some(()))
    })?;
    namespace.delete("slow")
}

pub(super) fn exec_probes_ask_the_script(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let exists = |file: &str| {
        let script = format!("import os, sys; sys.exit(not os.path.exists('/tmp/{file}'))");
        json!({
            "exec": { "command": ["python", "-c", script] },
            "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 30,
        })
    };
    let mut main = python(
        "import os, time\nprint('up')\nwhile not os.path.exists('/tmp/go'): time.sleep(0.1)\n\
         open('/tmp/ready', 'w').close()\nprint('on')\ntime.sleep(3600)",
    );
    main["readinessProbe"] = exists("ready");
    namespace.pod("asked", json!({ "containers": [main] }))?;
    namespace.until_printed("asked", "up")?;
    until_told(&namespace, "asked", &["Readiness probe failed"])?;
    let is_ready = status(&namespace.get("asked")?, 0).map(|status| status.ready);
    expect(&is_ready, &Some(false))?;
    let go = "open('/tmp/go', 'w').close()";
    namespace
        .kubectl(&["exec", "asked", "--", "python", "-c", go])?
        .expect_code(0)?;
    namespace.ready("asked")?;
    namespace.delete("asked")?;

    // A liveness probe ends a container that does not answer it in time.
    let mut main = python("import time; print('up'); time.sleep(3600)");
    main["livenessProbe"] = json!({
        "exec": { "command": ["python", "-c", "import time; time.sleep(3600)"] },
        "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 1,
    });
    namespace.pod(
        "hung",
        json!({
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 1, "containers": [main],
        }),
    )?;
    wait_for("the restart of the pod hung", || {
        Ok((restarts(&namespace.get("hung")?) > 0).then_some(()))
    })?;
    namespace.delete("hung")
}

pub(super) fn exec_hooks_run_in_the_script_s_container(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let hook = |file: &str| {
        let script = format!("open('/tmp/{file}', 'w').close()");
        json!({ "exec": { "command": ["python", "-c", script] } })
    };
    let mut main = python(
        "import os, time\nwhile not os.path.exists('/tmp/begun'): time.sleep(0.1)\nprint('begun')\n\
         time.sleep(3600)",
    );
    main["lifecycle"] = json!({ "postStart": hook("begun"), "preStop": hook("ending") });
    namespace.pod("hooked", json!({ "containers": [main] }))?;
    namespace.until_printed("hooked", "begun")?;
    namespace.delete("hooked")?;
    let events = namespace.kubectl(&[
        "get",
        "events",
        "--field-selector=involvedObject.name=hooked",
    ])?;
    let events = events.expect_code(0)?.stdout;
    expect(&events.contains("Hook"), &false).map_err(|_| format!("a hook failed:\n{events}").into())
}

pub(super) fn http_hooks_and_probes_ask_a_sidecar(world: &TestCluster) -> Outcome {
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
fn until_told(namespace: &PodNamespace<'_>, pod: &str, texts: &[&str]) -> Outcome {
    let mut last = String::new();
    wait_for(&format!("{texts:?} of pod {pod}"), || {
        let described = namespace.kubectl(&["describe", "pod", pod])?;
        last = described.expect_code(0)?.stdout;
        let told = texts.iter().all(|text| last.contains(text));
        Ok(told.then_some(()))
    })
    .map_err(|error| format!("{}:\n{last}", error.message().unwrap_or_default()).into())
}
