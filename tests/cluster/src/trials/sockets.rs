//! Servers and clients that are guests: a Service, the kubelet's probes, port-forward, grants by annotation.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::serde_json::{Value, json};

use crate::command::wait_for;
use crate::guests::C_PROGRAMS;
use crate::world::{PodNamespace, TestCluster, restarts};
use crate::{Outcome, expect};

/// A C program of the tests in a pod with annotations.
fn program(
    namespace: &PodNamespace<'_>,
    name: &str,
    annotations: &Value,
    mut spec: Value,
) -> Outcome {
    spec["runtimeClassName"] = "wasm-interp".into();
    spec["restartPolicy"] = "Never".into();
    for kind in ["initContainers", "containers"] {
        for container in spec[kind].as_array_mut().into_iter().flatten() {
            container["image"] = C_PROGRAMS.into();
            container["imagePullPolicy"] = "Never".into();
        }
    }
    let pod: k8s_openapi::api::core::v1::Pod = namespace.create(json!({
        "metadata": { "name": name, "labels": { "app": name }, "annotations": annotations },
        "spec": spec,
    }))?;
    drop(pod);
    Ok(())
}

/// The form of a C program in their image, by its folder there.
#[derive(Clone, Copy)]
enum ProgramForm {
    Module,
    Component,
}

impl ProgramForm {
    fn program(self, name: &str) -> String {
        match self {
            Self::Module => format!("/wasm/{name}.wasm"),
            Self::Component => format!("/component/{name}.wasm"),
        }
    }
}

fn server(namespace: &PodNamespace<'_>, form: ProgramForm) -> Outcome {
    let port = json!({ "port": 8080 });
    let http = json!({ "httpGet": { "path": "/healthz", "port": 8080 }, "periodSeconds": 1 });
    let annotations = json!({ "wasm-interp.io/listen": "tcp:8080" });
    let container = json!({
        "name": "main", "command": [form.program("http"), "tcp:0.0.0.0:8080"],
        "startupProbe": { "tcpSocket": port, "periodSeconds": 1, "failureThreshold": 60 },
        "readinessProbe": http, "livenessProbe": { "tcpSocket": port, "periodSeconds": 1 },
    });
    program(
        namespace,
        "server",
        &annotations,
        json!({ "containers": [container], "terminationGracePeriodSeconds": 120 }),
    )?;
    namespace.ready("server")
}

/// A server, a Service in front of it, and a client that reads a page.
fn serve_and_fetch(namespace: &PodNamespace<'_>, form: ProgramForm) -> Outcome {
    server(namespace, form)?;
    let service: Service = namespace.create(json!({
        "metadata": { "name": "server" },
        "spec": { "selector": { "app": "server" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    }))?;
    let address = service.spec.and_then(|spec| spec.cluster_ip);
    let address = address.ok_or("the service has no address")?;
    // The test cluster has no nameserver: the name is in the pod's /etc/hosts.
    let client = json!({
        "containers": [{ "name": "main", "command": [form.program("fetch"), "server", "80", "/"] }],
        "hostAliases": [{ "ip": address, "hostnames": ["server"] }],
    });
    let annotations = json!({ "wasm-interp.io/connect": "tcp:server:80" });
    // What the kube-proxy of the client's node knows comes a moment after the service.
    let mut number = 0;
    let fetched = wait_for("an answer of the service", || {
        number += 1;
        let name = format!("client-{number}");
        program(namespace, &name, &annotations, client.clone())?;
        let succeeded = namespace.ended(&name)? == "Succeeded";
        let log = namespace.logs(&name)?;
        if !succeeded && !log.contains("connect: ECONNREFUSED") {
            return Err(format!("the client printed:\n{log}").into());
        }
        Ok(succeeded.then_some(log))
    })?;
    expect(&fetched.contains("read: hello, world\n"), &true)
        .map_err(|_| format!("no page of the service:\n{fetched}"))?;
    expect(&restarts(&namespace.get("server")?), &0)
}

pub(super) fn a_service_leads_to_a_server_and_term_ends_it(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    serve_and_fetch(&namespace, ProgramForm::Module)?;
    // TERM ends it in its own way, long before its grace.
    let follower = namespace.kubectl_beside(&["logs", "--follow", "server"])?;
    namespace.start_deleting("server")?;
    follower
        .finish()?
        .expect_code(0)?
        .expect_stdout("served: ")?;
    Ok(())
}

pub(super) fn a_service_leads_to_a_component(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    serve_and_fetch(&namespace, ProgramForm::Component)?;
    // Its grace is two minutes: a component has no handler of TERM.
    namespace.delete("server")
}

/// A server and its clients in a pod, each with the grants of its own container.
pub(super) fn containers_of_a_pod_talk_by_every_kind_of_socket(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    let shared = json!([{ "name": "shared", "mountPath": "/run/app" }]);
    let server = json!({
        "name": "server", "restartPolicy": "Always", "volumeMounts": shared,
        "command": [
            "/wasm/echo.wasm", "tcp:0.0.0.0:7000", "udp:0.0.0.0:7000", "unix:/run/app/echo.sock",
        ],
        "startupProbe": {
            "tcpSocket": { "port": 7000 }, "periodSeconds": 1, "failureThreshold": 60,
        },
    });
    let clients = [
        (
            "tcp",
            &["tcp", "127.0.0.1", "7000"][..],
            "tcp:localhost:7000",
        ),
        ("udp", &["udp", "127.0.0.1", "7000"], "udp:localhost:7000"),
        ("unix", &["unix", "/run/app/echo.sock"], "unix:/run/app/*"),
    ];
    let containers = clients.map(|(name, words, _)| {
        let command = [&["/wasm/talk.wasm"], words, &["20"]].concat();
        json!({ "name": name, "command": command, "volumeMounts": shared })
    });
    let mut annotations = json!({
        "wasm-interp.io/listen.server": "tcp:7000, udp:7000, unix:/run/app/echo.sock",
    });
    for (name, _, rule) in clients {
        annotations[format!("wasm-interp.io/connect.{name}")] = rule.into();
    }
    program(
        &namespace,
        "talk",
        &annotations,
        json!({
            "initContainers": [server], "containers": containers,
            "volumes": [{ "name": "shared", "emptyDir": {} }],
            "terminationGracePeriodSeconds": 120,
        }),
    )?;
    let ended = namespace.ended("talk")?;
    let log = |container: &str| -> Outcome<String> {
        let words = ["logs", "talk", "--container", container];
        Ok(namespace.kubectl(&words)?.expect_code(0)?.stdout)
    };
    for (name, _, _) in clients {
        let printed = log(name)?;
        expect(&printed.ends_with("heard: 20 of 20\n"), &true)
            .map_err(|_| format!("the client {name} printed:\n{printed}"))?;
    }
    expect(&ended, &"Succeeded".to_owned())?;
    // When its clients had ended, it got TERM, and ended by its handler.
    let code = "-o=jsonpath={.status.initContainerStatuses[0].state.terminated.exitCode}";
    let code = namespace
        .kubectl(&["get", "pod", "talk", code])?
        .expect_code(0)?
        .stdout;
    expect(&code, &"0".to_owned())?;
    let printed = log("server")?;
    expect(&printed.ends_with("connections, 20 datagrams\n"), &true)
        .map_err(|_| format!("the server printed:\n{printed}").into())
}

pub(super) fn a_port_is_forwarded_to_a_server(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    server(&namespace, ProgramForm::Module)?;
    let forward = namespace.kubectl_beside(&["port-forward", "pod/server", ":8080"])?;
    let port: u16 = wait_for("the port that is forwarded", || {
        let printed = forward.stdout()?;
        let port = printed.split_once("127.0.0.1:").and_then(|(_, rest)| {
            let digits = rest.split(' ').next()?;
            digits.parse().ok()
        });
        Ok(port)
    })?;
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    connection.read_to_string(&mut page)?;
    forward.end()?;
    expect(&page.ends_with("\r\n\r\nhello, world\n"), &true)
        .map_err(|_| format!("another page: {page:?}"))?;
    namespace.delete("server")
}

pub(super) fn a_refusal_is_in_the_log(world: &TestCluster) -> Outcome {
    let namespace = world.namespace(None)?;
    program(
        &namespace,
        "refused",
        &json!({ "wasm-interp.io/connect": "tcp:10.1.2.0/24:443" }),
        json!({ "containers": [{
            "name": "main", "command": ["/wasm/talk.wasm", "tcp", "10.1.2.3", "5432", "1"],
        }] }),
    )?;
    expect(&namespace.ended("refused")?, &"Failed".to_owned())?;
    let log = namespace.logs("refused")?;
    for text in [
        "connect: EACCES",
        "tcp:10.1.2.3:5432",
        "wasm-interp.io/connect",
    ] {
        expect(&log.contains(text), &true).map_err(|_| format!("no {text:?} in:\n{log}"))?;
    }
    Ok(())
}
