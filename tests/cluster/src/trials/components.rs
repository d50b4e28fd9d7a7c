//! Components of WASI 0.2 as containers of pods: files, clocks, ends, and those that attack.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::serde_json::{Value, json};

use crate::command::wait_for;
use crate::guests::{C_PROGRAMS, COMPONENT_IMPORTS, JAVASCRIPT_APP, PYTHON_APP};
use crate::lines::difference;
use crate::world::{PodNamespace, TestCluster, exit_code, python, restarts, status};
use crate::{Outcome, expect};

/// A program of the tests as a container, by its path in their image.
fn container(name: &str, program: &str, arguments: &[&str]) -> Value {
    json!({
        "name": name, "image": C_PROGRAMS, "imagePullPolicy": "Never",
        "command": [program], "args": arguments,
    })
}

pub(super) fn applications_run(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    namespace.create::<ConfigMap>(json!({
        "metadata": { "name": "note" }, "data": { "note.txt": "from a config map\n" },
    }))?;
    for (language, image) in [("python", PYTHON_APP), ("javascript", JAVASCRIPT_APP)] {
        let container = |arguments: &[&str]| {
            json!({
                "containers": [{
                    "name": "main", "image": image, "imagePullPolicy": "Never",
                    "args": arguments, "env": [{ "name": "GREETING", "value": "hello" }],
                    "volumeMounts": [{ "name": "note", "mountPath": "/data" }],
                }],
                "volumes": [{ "name": "note", "configMap": { "name": "note" } }],
            })
        };
        let [show, read, code] = ["show", "read", "code"].map(|what| format!("{language}-{what}"));
        namespace.pod(&show, container(&["show", "one", "two"]))?;
        namespace.pod(&read, container(&["read", "/data/note.txt"]))?;
        namespace.pod(&code, container(&["code", "42"]))?;
        expect(
            &namespace.succeeded(&show)?,
            &"arguments: one two\ngreeting: hello\ndirectory: /\n".to_owned(),
        )?;
        expect(
            &namespace.succeeded(&read)?,
            &"from a config map\n".to_owned(),
        )?;
        expect(&namespace.ended(&code)?, &"Failed".to_owned())?;
        expect(&exit_code(&namespace.get(&code)?), &Some(42))?;
    }
    Ok(())
}

pub(super) fn files_are_those_of_a_native_program(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    // On a volume, and on the container's own file system.
    for (what, place) in [("volume", "/data"), ("root", "/tmp")] {
        let name = |kind: &str| format!("{kind}-{what}");
        for (kind, program) in [
            ("native", "/native/files"),
            ("component", "/component/files.wasm"),
        ] {
            let mut container = container("main", program, &[place]);
            container["volumeMounts"] = json!([{ "name": "data", "mountPath": "/data" }]);
            namespace.pod(
                &name(kind),
                json!({
                    "containers": [container], "volumes": [{ "name": "data", "emptyDir": {} }],
                }),
            )?;
        }
        let expected = namespace.succeeded(&name("native"))?;
        let printed = namespace.succeeded(&name("component"))?;
        if let Some(difference) = difference(place, &printed, &expected) {
            return Err(difference.into());
        }
    }
    Ok(())
}

pub(super) fn clocks_and_ends_are_those_of_the_container(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let pod = |name: &str, program: &str, arguments: &[&str]| {
        namespace.pod(
            name,
            json!({ "containers": [container("main", program, arguments)] }),
        )
    };
    pod("clocks", "/component/clocks.wasm", &[])?;
    let ends: [(_, _, &[&str], _, _); 4] = [
        ("success", "ends", &["exit", "0"], 0, ""),
        ("failure", "ends", &["exit", "3"], 1, ""),
        ("trap", "ends", &["abort"], 134, "unreachable"),
        ("panic", "rust_questions", &["panic"], 134, "as asked"),
    ];
    for (name, program, arguments, _, _) in &ends {
        pod(name, &format!("/component/{program}.wasm"), arguments)?;
    }
    namespace.succeeded("clocks")?;
    for (name, program, _, code, said) in ends {
        namespace.ended(name)?;
        expect(&exit_code(&namespace.get(name)?), &Some(code))?;
        let log = namespace.logs(name)?;
        expect(&log.contains(said), &true)
            .map_err(|_| format!("no {said:?} in what {name} printed:\n{log}"))?;
        if code == 134 {
            namespace
                .kubectl(&["describe", "pod", name])?
                .expect_code(0)?
                .expect_stdout(&format!("/component/{program}.wasm trapped"))?;
        }
    }
    Ok(())
}

pub(super) fn missing_interfaces_are_described(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let container =
        json!({ "name": "main", "image": COMPONENT_IMPORTS, "imagePullPolicy": "Never" });
    namespace.pod("imports", json!({ "containers": [container] }))?;
    namespace.until("imports", "fail to start", |pod| {
        let terminated = status(pod, 0)?.state.as_ref()?.terminated.as_ref()?;
        (terminated.exit_code != 0).then_some(())
    })?;
    let described = namespace.kubectl(&["describe", "pod", "imports"])?;
    let mut described = described.expect_code(0)?;
    for import in [
        "wasi:http/types@0.2.4 (interface)",
        "wasi:cli/environment@0.2.99 (a newer version)",
        "wasi:clocks/monotonic-clock@0.3.0 (another WASI)",
    ] {
        described = described.expect_stdout(import)?;
    }
    Ok(())
}

/// The attacks go on in one pod with a script, which prints a line again and again.
pub(super) fn hostile_ones_leave_their_neighbour_alone(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let attacks = [
        // For files, WASI 0.2 has no error of its own for this.
        ("files", 1, "open: ENOMEM"),
        ("sockets", 1, "socket: EMFILE"),
        ("pollables", 134, "no free keys"),
        ("streams", 134, "no free keys"),
    ];
    let mut neighbour = python("import time\nwhile True:\n    print('tick')\n    time.sleep(0.1)");
    neighbour["name"] = "neighbour".into();
    let mut containers = vec![neighbour];
    for (name, _, _) in attacks {
        let mut attack = container(name, "/component/hostile.wasm", &[name]);
        attack["resources"] = json!({ "limits": { "memory": "64Mi" } });
        containers.push(attack);
    }
    namespace.create::<Pod>(json!({
        "metadata": {
            "name": "attacked",
            "annotations": { "wasm-interp.io/connect.sockets": "tcp:127.0.0.1:7001" },
        },
        "spec": {
            "runtimeClassName": "wasm-interp", "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 30, "containers": containers,
        },
    }))?;
    for (name, code, said) in attacks {
        let ended = namespace.until("attacked", &format!("have {name} end"), |pod| {
            let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
            let status = statuses.iter().find(|status| status.name == name)?;
            Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
        })?;
        let log = log(&namespace, name)?;
        expect(&(ended, log.contains(said)), &(code, true)).map_err(|_| {
            format!("expected code {code} and {said:?}, {name} ended by {ended}:\n{log}")
        })?;
    }
    let before = log(&namespace, "neighbour")?.len();
    wait_for("the neighbour to go on", || {
        Ok((log(&namespace, "neighbour")?.len() > before).then_some(()))
    })?;
    expect(&restarts(&namespace.get("attacked")?), &0)?;
    namespace.delete("attacked")
}

fn log(namespace: &PodNamespace<'_>, container: &str) -> Outcome<String> {
    let words = ["logs", "attacked", "--container", container];
    Ok(namespace.kubectl(&words)?.expect_code(0)?.stdout)
}
