//! The application of `deployments/apps/django` on the cluster, from its images to its end. Trials use it as its clients do.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use k8s_openapi::serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::command::{self, Running, wait_for};
use crate::node::{ClusterNode, NODES};
use crate::world::TestCluster;
use crate::{Outcome, expect, images};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deployments/apps/django");
/// What asks it, in Python.
const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../python");
const NAMESPACE: &str = "wasm-interp-django";
/// The name under which browsers may ask it.
pub(crate) const HOST: &str = "board";
/// As the Secret has it.
pub(crate) const TOKEN: &str = "change-this-token";
/// The superuser that [`Board::create_superuser`] makes.
const USER: &str = "admin";
const PASSWORD: &str = "the board 1";
/// The folder of the database on the node.
const DATA: &str = "/srv/board";

/// The application with its database, while a trial uses it.
pub(crate) struct Board<'world> {
    world: &'world TestCluster,
    /// A node's address, and the port there that leads to the Service.
    pub(crate) address: String,
}

/// Deploys the application for as long as `act` takes.
pub(crate) fn with_board(world: &TestCluster, act: impl FnOnce(&Board<'_>) -> Outcome) -> Outcome {
    let cluster = world.cluster()?;
    let node = cluster.node(0)?;
    images::import_apps(&cluster.settings, node)?;
    let outcome = deploy(world, cluster, node)
        .and_then(|board| act(&board))
        .map_err(|error| explained(world, error.message()));
    let removed = remove(world, node);
    outcome.and(removed)
}

/// From nothing to a rollout that is complete.
fn deploy<'world>(
    world: &'world TestCluster,
    cluster: &Cluster,
    node: &ClusterNode,
) -> Outcome<Board<'world>> {
    let path = node.path(DATA);
    fs::create_dir(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
    world.apply(&volume(node.name))?;
    for file in ["namespace", "settings", "postgresql"] {
        kubectl(
            world,
            &["apply", &format!("--filename={FOLDER}/{file}.yaml")],
        )?;
    }
    let address = "-o=jsonpath={.spec.clusterIP}";
    let address = kubectl(world, &["get", "service", "postgresql", address])?;
    let folder = overlay(cluster, &address)?;
    let folder = folder.display().to_string();
    kubectl(world, &["apply", "--kustomize", &folder])?;
    for words in [
        ["rollout", "status", "statefulset/postgresql"],
        ["wait", "--for=condition=complete", "job/migrate"],
        ["rollout", "status", "deployment/board"],
    ] {
        kubectl(world, &[&words[..], &["--timeout=170s"]].concat())?;
    }
    world.apply(&json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "outside", "namespace": NAMESPACE },
        "spec": { "type": "NodePort", "selector": { "app": "board" },
            "ports": [{ "port": 80, "targetPort": "http" }] },
    }))?;
    let port = "-o=jsonpath={.spec.ports[0].nodePort}";
    let port = kubectl(world, &["get", "service", "outside", port])?;
    let address = format!("{}:{port}", NODES[0].address());
    wait_for_service(&address)?;
    Ok(Board { world, address })
}

/// The node's kube-proxy learns of the Service and its pods after the API server has them. Until then the node refuses
/// connections to the port.
fn wait_for_service(address: &str) -> Outcome {
    let what = format!("the Service to accept a connection at {address}");
    wait_for(&what, || match TcpStream::connect(address) {
        Ok(_) => Ok(Some(())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(None),
        Err(error) => Err(format!("cannot connect to {address}: {error}").into()),
    })
}

/// What the database's claim gets: the test's cluster has no StorageClass.
fn volume(node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": NAMESPACE },
        "spec": {
            "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": { "namespace": NAMESPACE, "name": "data-postgresql-0" },
            "local": { "path": DATA },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
                { "key": "kubernetes.io/hostname", "operator": "In", "values": [node] }] }] } },
        },
    })
}

/// The manifests with one change: the test's cluster has no nameserver, so the database's name is in the pods' /etc/hosts.
fn overlay(cluster: &Cluster, database: &str) -> Outcome<PathBuf> {
    let folder = cluster.settings.run.folder().join("board");
    let base = folder.join("base");
    fs::create_dir_all(&base)?;
    for entry in fs::read_dir(FOLDER)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|ext| ext == "yaml") {
            fs::copy(entry.path(), base.join(entry.file_name()))?;
        }
    }
    let patch = json!([{
        "op": "add", "path": "/spec/template/spec/hostAliases",
        "value": [{ "ip": database, "hostnames": ["postgresql"] }],
    }])
    .to_string();
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": ["base"],
        "patches": [
            { "target": { "kind": "Job" }, "patch": patch },
            { "target": { "kind": "Deployment" }, "patch": patch },
        ],
    });
    fs::write(folder.join("kustomization.yaml"), kustomization.to_string())?;
    Ok(folder)
}

/// Takes everything away, also what a failed deployment has left.
fn remove(world: &TestCluster, node: &ClusterNode) -> Outcome {
    for (kind, name) in [("namespace", NAMESPACE), ("persistentvolume", NAMESPACE)] {
        let words = ["delete", kind, name, "--ignore-not-found", "--timeout=170s"];
        world.kubectl(&words)?.expect_code(0)?;
    }
    fs::remove_dir_all(node.path(DATA))?;
    Ok(())
}

/// The failure, with what pods and logs say of it.
fn explained(world: &TestCluster, error: Option<&str>) -> libtest_mimic::Failed {
    let mut text = error.unwrap_or_default().to_owned();
    for words in [
        &["get", "pods,jobs,persistentvolumeclaims", "--output=wide"][..],
        &["get", "events", "--sort-by=.lastTimestamp"],
        &["logs", "statefulset/postgresql", "--tail=30"],
        &["logs", "job/migrate", "--all-containers", "--tail=30"],
        &["logs", "--selector=app=board", "--prefix", "--tail=40"],
    ] {
        match kubectl_said(world, words) {
            Ok(said) => text += &format!("\n{}{}", said.stdout, said.stderr),
            Err(error) => text += &format!("\n{}", error.message().unwrap_or_default()),
        }
    }
    text.into()
}

fn kubectl_said(world: &TestCluster, words: &[&str]) -> Outcome<command::Finished> {
    world.kubectl(&[&["--namespace", NAMESPACE], words].concat())
}

/// What `kubectl WORDS …` prints in the application's namespace.
fn kubectl(world: &TestCluster, words: &[&str]) -> Outcome<String> {
    Ok(kubectl_said(world, words)?.expect_code(0)?.stdout)
}

impl Board<'_> {
    /// What `kubectl WORDS …` prints in the application's namespace.
    pub(crate) fn kubectl(&self, words: &[&str]) -> Outcome<String> {
        kubectl(self.world, words)
    }

    /// The same without waiting for its end.
    pub(crate) fn kubectl_beside(&self, words: &[&str]) -> Outcome<Running> {
        let words = [&["--namespace", NAMESPACE], words].concat();
        Running::start(self.world.kubectl_command(&words), None)
    }

    /// Makes the superuser as its administrator would, who types the password on a terminal.
    pub(crate) fn create_superuser(&self) -> Outcome {
        let own = ["--namespace", NAMESPACE, "exec", "-it", "deployment/board"];
        let create = ["--", "python", "manage.py", "createsuperuser"];
        let command = self.world.kubectl_command(&[&own[..], &create].concat());
        let mut terminal = Running::start_on_a_terminal(&command)?;
        let mut seen = 0;
        for (question, answer) in [
            ("Username", USER),
            ("Email address:", "admin@example.org"),
            ("Password:", PASSWORD),
            ("Password (again):", PASSWORD),
        ] {
            terminal.wait_for_stdout(question, &mut seen)?;
            terminal.write(format!("{answer}\r").as_bytes())?;
        }
        let finished = terminal.finish()?.expect_code(0)?;
        finished.expect_stdout("Superuser created successfully.")?;
        Ok(())
    }

    /// Every question of `tests/python/client.py`, by the Service.
    pub(crate) fn answers_its_client(&self) -> Outcome {
        let mut client = Command::new("python3");
        client.arg(format!("{CLIENTS}/client.py"));
        client.args(["board", &self.address, HOST]);
        let asked = command::run(client, None)?.expect_code(0)?;
        asked.expect_stdout("all answered\n").map(drop)
    }

    /// Logs in and makes a note in a browser, whose folder has a root with Chromium. Its picture is in the file then.
    pub(crate) fn is_used_by(&self, browser: &str, picture: &str) -> Outcome {
        let mut script = Command::new("python3");
        script.arg(format!("{CLIENTS}/browser.py"));
        script.args([browser, &self.address, HOST, USER, PASSWORD, picture]);
        command::run(script, None)?.expect_code(0).map(drop)
    }

    /// Names and addresses of the pods that are ready.
    pub(crate) fn ready_pods(&self) -> Outcome<Vec<(String, String)>> {
        let each = "-o=jsonpath={range .items[*]}{.metadata.name} {.status.podIP} \
                    {.status.conditions[?(@.type=='Ready')].status}{'\\n'}{end}";
        let pods = self.kubectl(&["get", "pods", "--selector=app=board", each])?;
        let pods = pods.lines().filter_map(|line| {
            let (name, rest) = line.split_once(' ')?;
            Some((name.to_owned(), rest.strip_suffix(" True")?.to_owned()))
        });
        Ok(pods.collect())
    }

    /// No container of the application was started again.
    pub(crate) fn never_restarted(&self) -> Outcome {
        let counts = "-o=jsonpath={.items[*].status.containerStatuses[*].restartCount}";
        let counts = self.kubectl(&["get", "pods", counts])?;
        let never = counts.split_whitespace().all(|count| count == "0");
        expect(&never, &true).map_err(|_| format!("containers were restarted: {counts}").into())
    }
}

/// A GET by a connection of its own.
pub(crate) fn get(address: &str, path: &str) -> Outcome<String> {
    let mut connection = TcpStream::connect(address)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    response(&mut connection)
}

/// The whole response of a connection that ends with it.
pub(crate) fn response(connection: &mut TcpStream) -> Outcome<String> {
    connection.set_read_timeout(Some(command::LIVENESS))?;
    let mut response = String::new();
    connection.read_to_string(&mut response)?;
    let whole = response
        .split_once("\r\n\r\n")
        .filter(|(head, body)| {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then_some(value)
            });
            length.and_then(|length| length.parse().ok()) == Some(body.len())
        })
        .is_some();
    expect(&whole, &true).map_err(|_| format!("half a response: {response:?}"))?;
    Ok(response)
}
