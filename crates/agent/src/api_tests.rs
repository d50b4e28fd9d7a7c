//! The agent and the uninstall hook against a real API server, with the chart's accounts, rights and admission
//! policy. Only the node itself is played: what jobs do to one is tested where there is one (tests/e2e).
//!
//! `make test-api` starts the server, installs the chart on it and runs these; they share its ConfigMap and Lease,
//! so one runs at a time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use wasm_interp_node::{Action, Container, InstalledRelease, JobError, Outcome, Report, Status};

use crate::agent;
use crate::host::{HostError, PolicyWanted, Ran, Runtime};
use crate::names::{READY_LABEL, STATE_ANNOTATION};
use crate::policy::PolicyFileError;
use crate::state::{Phase, State, is_labelled};
use crate::uninstall::{self, UninstallError};
use crate::wanted::now_unix;

const NAMESPACE: &str = "wasm-interp";
const MAP: &str = "wasm-interp-wanted";
const SHIM: &str = "/opt/wasm-interp/2/shim";
const LEASE: &str = "wasm-interp-restart-0";
/// A round trip takes milliseconds; this is to say that something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a played node does when it is asked.
#[derive(Default)]
struct Play {
    configured: bool,
    /// containerd does not list the handler.
    broken: bool,
    /// containerd lists it, and starts no program with it.
    trial_fails: bool,
    /// No job says what came of it.
    lost: bool,
    verifies: u32,
    cannot_install: bool,
    /// What was tried does harm, though it is taken back.
    install_breaks: bool,
    /// Whose shim is configured, if it is another release's.
    release: Option<std::path::PathBuf>,
    containers: Vec<Container>,
    /// Containers that come when the node has already said that it has none.
    late: Vec<Container>,
    cannot_uninstall: bool,
    /// Older releases on the node, which an installation removes unless they are in use.
    older: Vec<InstalledRelease>,
    installs: u32,
    at_once: u32,
    most_at_once: u32,
    held: bool,
    policies: Vec<PolicyWanted>,
    foreign_policy: bool,
    /// What prewarming says; without a text it works.
    cannot_prewarm: Option<&'static str>,
    prewarming_held: bool,
    prewarmed: Vec<Vec<String>>,
}

#[derive(Clone, Default)]
struct PlayedNode(Arc<(Mutex<Play>, Condvar)>);

impl PlayedNode {
    fn set<R>(&self, change: impl FnOnce(&mut Play) -> R) -> R {
        let result = change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
        result
    }

    fn report(play: &Play, action: &Action, outcome: Outcome, message: &str) -> Report {
        let status = Status {
            containerd_answers: true,
            handler_listed: play.configured && !play.broken,
            running: (play.configured && !play.broken)
                .then(|| play.release.clone().unwrap_or_else(|| SHIM.into())),
            containers: play.containers.clone(),
            releases: play.older.clone(),
            ..Status::default()
        };
        Report {
            ticket: "1".into(),
            action: action.name().into(),
            version: "1".into(),
            outcome,
            message: message.into(),
            steps: Vec::new(),
            status: Some(status),
            images: Vec::new(),
        }
    }
}

impl Runtime for PlayedNode {
    fn run(&self, action: Action) -> Result<Ran, HostError> {
        let (play, changed) = &*self.0;
        let mut play = play.lock().unwrap();
        play.verifies += u32::from(matches!(action, Action::Verify));
        if play.lost {
            return Err(JobError::Lost("wasm-interp-node.service").into());
        }
        let done = Outcome::Done {
            changed: true,
            restarted: true,
        };
        let (outcome, message) = match action {
            Action::Verify if play.configured && !play.broken && !play.trial_fails => {
                (done, "works")
            }
            Action::Verify if play.configured && !play.broken => {
                (Outcome::Failed, "no program runs with it")
            }
            Action::Verify => (Outcome::Failed, "the handler is not there"),
            Action::Install => {
                play.at_once += 1;
                play.installs += 1;
                play.most_at_once = play.most_at_once.max(play.at_once);
                let mut play_now = changed.wait_while(play, |play| play.held).unwrap();
                play_now.at_once -= 1;
                play = play_now;
                play.trial_fails |= play.install_breaks;
                if play.cannot_install {
                    (Outcome::RolledBack, "containerd did not come back with it")
                } else {
                    play.configured = true;
                    (play.broken, play.trial_fails) = (false, false);
                    play.release = None;
                    play.older.retain(|release| release.in_use);
                    (done, "installed")
                }
            }
            Action::Uninstall { .. } if !(play.containers.is_empty() && play.late.is_empty()) => {
                let containers = [&play.containers[..], &play.late].concat();
                (Outcome::InUse { containers }, "in use")
            }
            Action::Uninstall { .. } if play.cannot_uninstall => {
                (Outcome::Failed, "the file cannot be written")
            }
            Action::Uninstall { .. } => {
                play = changed.wait_while(play, |play| play.held).unwrap();
                play.configured = false;
                (done, "uninstalled")
            }
            Action::Status => (done, "so it is"),
            Action::Prewarm(ref wish) => {
                play = changed
                    .wait_while(play, |play| play.prewarming_held)
                    .unwrap();
                play.prewarmed.push(wish.images.clone());
                match play.cannot_prewarm {
                    Some(message) => (Outcome::Failed, message),
                    None => (done, "2 images prewarmed: compiled 1 interpreter"),
                }
            }
        };
        Ok(Ran {
            report: Self::report(&play, &action, outcome, message),
            shim: SHIM.into(),
        })
    }

    fn settle_policy(&self, wanted: PolicyWanted) -> Result<(), HostError> {
        self.set(|play| {
            play.policies.push(wanted);
            match play.foreign_policy {
                true => Err(PolicyFileError::Foreign.into()),
                false => Ok(()),
            }
        })
    }
}

/// The API server, as its administrator sees it.
struct Server {
    admin: Client,
    nodes: Api<Node>,
}

/// A node with a running agent.
struct Agent {
    name: String,
    play: PlayedNode,
    task: JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.play
            .set(|play| (play.held, play.prewarming_held) = (false, false));
        self.task.abort();
    }
}

impl Server {
    /// With no node, and the ConfigMap and Lease as the chart has them.
    async fn fresh() -> Self {
        let admin = Client::try_from(config().await).unwrap();
        let server = Self {
            nodes: Api::all(admin.clone()),
            admin,
        };
        let all = ListParams::default();
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        };
        server.pods().delete_collection(&now, &all).await.unwrap();
        server
            .nodes
            .delete_collection(&DeleteParams::default(), &all)
            .await
            .unwrap();
        server
            .patch_map(json!({ "data": { "uninstall": null } }))
            .await;
        server
            .leases()
            .patch(
                LEASE,
                &PatchParams::default(),
                &Patch::Merge(json!({ "spec": null })),
            )
            .await
            .unwrap();
        server
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), NAMESPACE)
    }

    fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.admin.clone(), NAMESPACE)
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.admin.clone(), NAMESPACE)
    }

    async fn patch_map(&self, patch: Value) {
        self.maps()
            .patch(MAP, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    async fn add_node(&self, ready: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("node-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": name, "labels": { "zone": "a" }, "annotations": { "note": "b" } },
        });
        self.nodes
            .create(
                &PostParams::default(),
                &serde_json::from_value(node).unwrap(),
            )
            .await
            .unwrap();
        let status = json!({ "status": { "conditions": [{ "type": "Ready", "status": ready }] } });
        self.nodes
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
        name
    }

    /// A client with the token that a pod of this account on that node would have.
    async fn client_on(&self, node: &str, account: &str) -> Client {
        let name = format!("{account}-{node}");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
            "spec": {
                "serviceAccountName": account, "nodeName": node, "automountServiceAccountToken": false,
                "containers": [{ "name": "agent", "image": "agent" }],
            },
        });
        let pod = self
            .pods()
            .create(
                &PostParams::default(),
                &serde_json::from_value(pod).unwrap(),
            )
            .await
            .unwrap();
        let bound = BoundObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(name),
            uid: pod.uid(),
        };
        self.client_as(account, Some(bound)).await
    }

    async fn client_as(&self, account: &str, bound: Option<BoundObjectReference>) -> Client {
        self.client_through(None, account, bound).await
    }

    /// One that speaks to the API server at another address.
    async fn client_through(
        &self,
        through: Option<SocketAddr>,
        account: &str,
        bound: Option<BoundObjectReference>,
    ) -> Client {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin.clone(), NAMESPACE);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                bound_object_ref: bound,
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .unwrap();
        let mut config = config().await;
        config.auth_info.token = answer.status.unwrap().token.map(Into::into);
        if let Some(address) = through {
            config.cluster_url = format!("https://{address}").parse().unwrap();
        }
        Client::try_from(config).unwrap()
    }

    async fn start(&self, play: PlayedNode) -> Agent {
        let name = self.add_node("True").await;
        self.start_on(name, play).await
    }

    async fn start_on(&self, name: String, play: PlayedNode) -> Agent {
        self.start_with(name, play, &[]).await
    }

    /// An agent whose command line has more words.
    async fn start_with(&self, name: String, play: PlayedNode, more: &[&str]) -> Agent {
        let client = self.client_on(&name, "wasm-interp-agent").await;
        let words = [
            "run",
            "--node",
            &name,
            "--namespace",
            NAMESPACE,
            "--wanted",
            MAP,
            "--lease",
            LEASE,
            "--ready-port",
            "0",
        ];
        let often = ["--verify-seconds", "1"];
        let often = often.iter().filter(|_| !more.contains(&often[0]));
        let args = RunArgs::parse_from(words.iter().chain(often).chain(more)).args;
        Agent {
            task: tokio::spawn(agent::serve(client, args, play.clone())),
            name,
            play,
        }
    }

    async fn uninstall(
        &self,
        id: &str,
        timeout_seconds: u64,
        skip_unreachable: bool,
    ) -> Result<(), UninstallError> {
        let client = self.client_as("wasm-interp-uninstall", None).await;
        uninstall_by(client, id, timeout_seconds, skip_unreachable).await
    }

    /// Has the ConfigMap hold a request, as the hook would write it.
    async fn ask_for(&self, id: &str, step: &str, expires_unix: u64) {
        let revision = self.value("revision").await.unwrap();
        let request =
            json!({ "id": id, "revision": revision, "step": step, "expires_unix": expires_unix });
        self.patch_map(json!({ "data": { "uninstall": request.to_string() } }))
            .await;
    }

    /// A key of the ConfigMap.
    async fn value(&self, key: &str) -> Option<String> {
        let map = self.maps().get(MAP).await.unwrap();
        map.data.and_then(|mut data| data.remove(key))
    }

    /// A change of what the ConfigMap holds wakes every agent before its pause is over.
    async fn wake(&self) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let now = COUNT.fetch_add(1, Ordering::Relaxed).to_string();
        self.patch_map(json!({ "data": { "touched": now } })).await;
    }

    async fn until_asked(&self, id: &str) {
        let began = Instant::now();
        while !self
            .value("uninstall")
            .await
            .is_some_and(|request| request.contains(id))
        {
            assert!(began.elapsed() < PATIENCE, "{id} asks for nothing");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn until(&self, name: &str, what: &str, holds: impl Fn(&Node) -> bool) -> Node {
        let began = Instant::now();
        loop {
            let node = self.nodes.get(name).await.unwrap();
            if holds(&node) {
                return node;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{name} is not {what}: {:?}",
                State::of(&node)
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn until_ready(&self, name: &str) -> Node {
        self.until(name, "ready", |node| {
            is_labelled(node) && phase(node) == Some(Phase::Ready)
        })
        .await
    }

    /// Reasons of the events about a node.
    async fn events(&self, node: &str) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.admin.clone(), "default");
        let list = events.list(&ListParams::default()).await.unwrap();
        let about = |event: &Event| {
            event
                .regarding
                .as_ref()
                .and_then(|about| about.name.as_deref())
                == Some(node)
        };
        list.items
            .into_iter()
            .filter(about)
            .filter_map(|event| event.reason)
            .collect()
    }
}

async fn uninstall_by(
    client: Client,
    id: &str,
    timeout_seconds: u64,
    skip_unreachable: bool,
) -> Result<(), UninstallError> {
    let args = uninstall::Args {
        namespace: NAMESPACE.into(),
        wanted: MAP.into(),
        id: id.into(),
        timeout_seconds,
        skip_unreachable,
    };
    uninstall::uninstall(client, &args).await
}

/// A way to the API server that can be closed, as it is while a server of k3s restarts.
struct Gate {
    address: SocketAddr,
    open: Option<JoinHandle<()>>,
}

impl Gate {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            address,
            open: Some(tokio::spawn(forward(listener).await)),
        }
    }

    /// Connections that are there end, new ones are refused.
    async fn close(&mut self) {
        let open = self.open.take().unwrap();
        open.abort();
        let _ = open.await;
    }

    async fn reopen(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.open = Some(tokio::spawn(forward(listener).await));
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open.iter().for_each(JoinHandle::abort);
    }
}

async fn forward(listener: TcpListener) -> impl Future<Output = ()> {
    let server = config().await.cluster_url;
    let server = server.authority().unwrap().to_string();
    async move {
        let mut connections = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let server = server.clone();
            connections.spawn(async move {
                let mut server = TcpStream::connect(server).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    }
}

#[derive(Parser)]
struct RunArgs {
    #[command(flatten)]
    args: agent::Args,
}

async fn config() -> Config {
    let kubeconfig = kube::config::Kubeconfig::from_env()
        .unwrap()
        .expect("KUBECONFIG is not set: run `make test-api`");
    Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
        .await
        .unwrap()
}

fn phase(node: &Node) -> Option<Phase> {
    State::of(node).map(|state| state.phase)
}

fn pod(name: &str) -> Container {
    Container {
        namespace: "k8s.io".into(),
        id: "0123456789abcdef".into(),
        pod: Some(name.into()),
    }
}

/// What an API server says to a patch of a node.
async fn patch(client: &Client, node: &str, patch: Value) -> Result<(), String> {
    let nodes: Api<Node> = Api::all(client.clone());
    match nodes
        .patch(node, &PatchParams::default(), &Patch::Merge(patch))
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(status.message),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn an_agent_changes_two_keys_of_its_own_node_and_nothing_else() {
    let server = Server::fresh().await;
    let (own, other) = (server.add_node("True").await, server.add_node("True").await);
    let client = server.client_on(&own, "wasm-interp-agent").await;

    // A policy takes a moment to be in force: until it refuses, nothing is tested.
    let began = Instant::now();
    let foreign = json!({ "metadata": { "labels": { "foreign": "1" } } });
    while patch(&client, &own, foreign.clone()).await.is_ok() {
        assert!(
            began.elapsed() < PATIENCE,
            "the admission policy is never in force"
        );
        server
            .nodes
            .patch(
                &own,
                &PatchParams::default(),
                &Patch::Merge(json!({ "metadata": { "labels": { "foreign": null } } })),
            )
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let ours = |value: Value| json!({ "metadata": { "labels": { READY_LABEL: value }, "annotations": { STATE_ANNOTATION: value } } });
    assert_eq!(patch(&client, &own, ours(json!("true"))).await, Ok(()));
    assert_eq!(patch(&client, &own, ours(json!("false"))).await, Ok(()));
    assert_eq!(patch(&client, &own, ours(json!(null))).await, Ok(()));

    let refused = [
        (&other, ours(json!("true")), "must not change node"),
        (&own, foreign, "another label"),
        (
            &own,
            json!({ "metadata": { "labels": { "zone": "b" } } }),
            "another label",
        ),
        (
            &own,
            json!({ "metadata": { "labels": { "zone": null } } }),
            "another label",
        ),
        (
            &own,
            json!({ "metadata": { "labels": { "wasm-interp.io/ready2": "1" } } }),
            "another label",
        ),
        (
            &own,
            json!({ "metadata": { "annotations": { "note": "c" } } }),
            "another annotation",
        ),
        (
            &own,
            json!({ "metadata": { "annotations": { "note": null } } }),
            "another annotation",
        ),
        (
            &own,
            json!({ "metadata": { "finalizers": ["example.com/never"] } }),
            "finalizers",
        ),
        (
            &own,
            json!({ "spec": { "taints": [{ "key": "k", "effect": "NoExecute" }] } }),
            "taints",
        ),
        (&own, json!({ "spec": { "unschedulable": true } }), "taints"),
    ];
    for (node, change, text) in refused {
        let error = patch(&client, node, change.clone())
            .await
            .expect_err(&change.to_string());
        assert!(error.contains(text), "{change}: {error}");
    }
    // A token that names no node changes none.
    let unbound = server.client_as("wasm-interp-agent", None).await;
    let error = patch(&unbound, &own, ours(json!("true")))
        .await
        .unwrap_err();
    assert!(error.contains("must not change node"), "{error}");
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn an_agent_has_no_other_rights() {
    let server = Server::fresh().await;
    let own = server.add_node("True").await;
    let client = server.client_on(&own, "wasm-interp-agent").await;
    let (here, all) = (NAMESPACE, ListParams::default());
    let nodes: Api<Node> = Api::all(client.clone());
    let pods: Api<Pod> = Api::namespaced(client.clone(), here);
    let status = Patch::Merge(json!({ "status": { "conditions": [] } }));
    let events: Api<Event> = Api::namespaced(client.clone(), "default");
    let note = Patch::Merge(json!({ "metadata": { "annotations": { "note": "x" } } }));
    let new_pod = json!({ "metadata": { "name": "x" }, "spec": { "containers": [{ "name": "x", "image": "x" }] } });
    let new_pod = serde_json::from_value(new_pod).unwrap();
    let refused = [
        ("list nodes", nodes.list(&all).await.err()),
        (
            "delete its node",
            nodes.delete(&own, &DeleteParams::default()).await.err(),
        ),
        (
            "patch its node's status",
            nodes
                .patch_status(&own, &PatchParams::default(), &status)
                .await
                .err(),
        ),
        ("list pods", pods.list(&all).await.err()),
        (
            "create a pod",
            pods.create(&PostParams::default(), &new_pod).await.err(),
        ),
        (
            "list secrets",
            Api::<Secret>::namespaced(client.clone(), here)
                .list(&all)
                .await
                .err(),
        ),
        (
            "list ConfigMaps",
            Api::<ConfigMap>::namespaced(client.clone(), here)
                .list(&all)
                .await
                .err(),
        ),
        (
            "read a Lease of others",
            Api::<Lease>::namespaced(client.clone(), "kube-node-lease")
                .get(&own)
                .await
                .err(),
        ),
        (
            "create a Lease",
            Api::<Lease>::namespaced(client.clone(), here)
                .create(&PostParams::default(), &Lease::default())
                .await
                .err(),
        ),
        ("list events", events.list(&all).await.err()),
        (
            "change an event",
            events
                .patch("any", &PatchParams::default(), &note)
                .await
                .err(),
        ),
        (
            "change another ConfigMap",
            Api::<ConfigMap>::namespaced(client.clone(), here)
                .patch("other", &PatchParams::default(), &note)
                .await
                .err(),
        ),
        (
            "change its ConfigMap",
            Api::<ConfigMap>::namespaced(client.clone(), here)
                .patch(MAP, &PatchParams::default(), &note)
                .await
                .err(),
        ),
    ];
    for (what, error) in refused {
        let Some(kube::Error::Api(status)) = error else {
            panic!("may {what}: {error:?}")
        };
        assert_eq!(status.code, 403, "{what}: {status:?}");
    }
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn a_node_gets_its_label_only_when_the_runtime_works() {
    let server = Server::fresh().await;
    let play = PlayedNode::default();
    play.set(|play| play.cannot_install = true);
    let agent = server.start(play.clone()).await;
    let failed = server
        .until(&agent.name, "failed", |node| {
            phase(node) == Some(Phase::Failed)
        })
        .await;
    assert!(!is_labelled(&failed));
    assert!(
        State::of(&failed)
            .unwrap()
            .message
            .contains("did not come back")
    );

    play.set(|play| play.cannot_install = false);
    // Somebody helps.
    server.wake().await;
    let node = server.until_ready(&agent.name).await;
    assert_eq!(node.labels()["zone"], "a", "other labels stay");
    let lease = server.leases().get(LEASE).await.unwrap();
    assert_eq!(
        lease.spec.and_then(|spec| spec.holder_identity),
        None,
        "the Lease is given back"
    );
    let events = server.events(&agent.name).await;
    for reason in [
        "WasmInterpPreparing",
        "WasmInterpInstalling",
        "WasmInterpFailed",
        "WasmInterpReady",
    ] {
        assert!(
            events.iter().any(|event| event == reason),
            "{reason} in {events:?}"
        );
    }
    assert!(play.set(|play| play.policies.contains(&PolicyWanted::AsTheChartSays)));
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn a_node_that_breaks_loses_its_label_and_is_mended() {
    let server = Server::fresh().await;
    let play = PlayedNode::default();
    let agent = server.start(play.clone()).await;
    server.until_ready(&agent.name).await;
    play.set(|play| (play.broken, play.held) = (true, true));
    server
        .until(&agent.name, "without label", |node| !is_labelled(node))
        .await;
    play.set(|play| play.held = false);
    server.until_ready(&agent.name).await;
    assert_eq!(play.set(|play| play.installs), 2);
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn a_handler_that_is_listed_and_starts_nothing_keeps_no_label() {
    let server = Server::fresh().await;
    let play = PlayedNode::default();
    let agent = server.start(play.clone()).await;
    server.until_ready(&agent.name).await;
    play.set(|play| (play.trial_fails, play.cannot_install) = (true, true));
    let failed = |node: &Node| !is_labelled(node) && phase(node) == Some(Phase::Failed);
    server
        .until(&agent.name, "failed without label", failed)
        .await;
    // Nor does it get it while pods use it that cannot be taken away.
    play.set(|play| play.containers = vec![pod("shop/worker-1")]);
    server.ask_for("one", "release", now_unix() + 600).await;
    let in_use = |node: &Node| phase(node) == Some(Phase::InUse);
    let node = server.until(&agent.name, "in use", in_use).await;
    assert!(!is_labelled(&node));
    play.set(|play| {
        play.containers.clear();
        play.cannot_install = false;
    });
    server
        .patch_map(json!({ "data": { "uninstall": null } }))
        .await;
    server.until_ready(&agent.name).await;
    // As often as it happened: an agent adds events, and changes none.
    let events = server.events(&agent.name).await;
    let ready = events.iter().filter(|event| *event == "WasmInterpReady");
    assert_eq!(ready.count(), 2, "{events:?}");
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn a_policy_that_cannot_be_written_hides_no_broken_runtime() {
    let server = Server::fresh().await;
    let play = PlayedNode::default();
    let agent = server.start(play.clone()).await;
    server.until_ready(&agent.name).await;
    play.set(|play| play.foreign_policy = true);
    let failed = |node: &Node| phase(node) == Some(Phase::Failed);
    let node = server.until(&agent.name, "failed", failed).await;
    assert!(is_labelled(&node), "what runs goes on");
    play.set(|play| play.trial_fails = true);
    server.wake().await;
    server
        .until(&agent.name, "without label", |node| !is_labelled(node))
        .await;
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn an_upgrade_that_fails_keeps_the_label_only_if_the_older_release_still_works() {
    let server = Server::fresh().await;
    for install_breaks in [false, true] {
        let play = PlayedNode::default();
        play.set(|play| {
            (play.configured, play.cannot_install) = (true, true);
            play.install_breaks = install_breaks;
            play.release = Some("/opt/wasm-interp/1/shim".into());
        });
        let name = server.add_node("True").await;
        let labelled = json!({ "metadata": { "labels": { READY_LABEL: "true" } } });
        server
            .nodes
            .patch(&name, &PatchParams::default(), &Patch::Merge(labelled))
            .await
            .unwrap();
        let agent = server.start_on(name, play.clone()).await;
        let failed = |node: &Node| {
            State::of(node).is_some_and(|state| state.message.contains("did not come back"))
        };
        let node = server.until(&agent.name, "failed", failed).await;
        assert_eq!(is_labelled(&node), !install_breaks);
        // It is looked at while it is not yet time for another try.
        play.set(|play| play.trial_fails = true);
        server
            .until(&agent.name, "without label", |node| !is_labelled(node))
            .await;
        assert_eq!(play.set(|play| play.installs), 1);
    }
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn what_nobody_knows_keeps_the_label_for_three_rounds() {
    let server = Server::fresh().await;
    let play = PlayedNode::default();
    let name = server.add_node("True").await;
    let seldom = ["--verify-seconds", "600"];
    let agent = server.start_with(name, play.clone(), &seldom).await;
    server.until_ready(&agent.name).await;
    let before = play.set(|play| {
        play.lost = true;
        play.verifies
    });
    let began = Instant::now();
    loop {
        server.wake().await;
        let rounds = play.set(|play| play.verifies) - before;
        if !is_labelled(&server.nodes.get(&agent.name).await.unwrap()) {
            break;
        }
        assert!(rounds <= 4, "it keeps its label in round {rounds}");
        assert!(began.elapsed() < PATIENCE, "there is no round");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        play.set(|play| play.verifies) - before >= 4,
        "it goes early"
    );
    play.set(|play| play.lost = false);
    server.wake().await;
    server.until_ready(&agent.name).await;
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn a_removal_that_goes_wrong_brings_the_policy_back_before_the_label() {
    let server = Server::fresh().await;
    let plays: [fn(&mut Play); 2] = [
        |play| play.late = vec![pod("shop/worker-1")],
        |play| play.cannot_uninstall = true,
    ];
    for (change, end) in plays.into_iter().zip([Phase::InUse, Phase::Failed]) {
        let agent = server.start(PlayedNode::default()).await;
        server.until_ready(&agent.name).await;
        agent.play.set(change);
        // No hook: nobody takes it back, after which everything is settled anew.
        server.ask_for("one", "remove", now_unix() + 600).await;
        let node = server
            .until(&agent.name, "told", |node| phase(node) == Some(end))
            .await;
        assert_eq!(is_labelled(&node), end == Phase::InUse);
        let began = Instant::now();
        let policies = || agent.play.set(|play| play.policies.clone());
        while policies().last() != Some(&PolicyWanted::AsTheChartSays) {
            assert!(
                end == Phase::Failed && began.elapsed() < PATIENCE,
                "{end:?}: {:?}",
                policies()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(policies().contains(&PolicyWanted::None));
        server
            .patch_map(json!({ "data": { "uninstall": null } }))
            .await;
    }
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn a_lease_is_given_back_though_the_node_cannot_be_read() {
    let server = Server::fresh().await;
    let held = json!({ "spec": { "holderIdentity": "another" } });
    let lease = async |patch: Value| {
        let patch = Patch::Merge(patch);
        server
            .leases()
            .patch(LEASE, &PatchParams::default(), &patch)
            .await
            .unwrap()
    };
    lease(held).await;
    let name = server.add_node("True").await;
    // It waits for the Lease, and looks at nothing else meanwhile.
    let seldom = ["--verify-seconds", "600"];
    let agent = server
        .start_with(name, PlayedNode::default(), &seldom)
        .await;
    let waiting = |node: &Node| phase(node) == Some(Phase::Waiting);
    server.until(&agent.name, "waiting", waiting).await;
    server
        .nodes
        .delete(&agent.name, &DeleteParams::default())
        .await
        .unwrap();
    let free = lease(json!({ "spec": null })).await;
    let began = Instant::now();
    loop {
        let lease = server.leases().get(LEASE).await.unwrap();
        let holder = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_ref());
        if holder.is_none() && lease.resource_version() != free.resource_version() {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "it is held by {holder:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn a_node_is_ready_before_its_images_are_and_though_they_fail() {
    let server = Server::fresh().await;
    let play = PlayedNode::default();
    play.set(|play| {
        play.prewarming_held = true;
        play.cannot_prewarm = Some("cannot prewarm 1 of 2 images: b: no such image");
    });
    let name = server.add_node("True").await;
    let images = ["--prewarm", "a", "--prewarm", "b"];
    let agent = server.start_with(name, play.clone(), &images).await;
    server.until_ready(&agent.name).await;
    let message = |node: &Node| State::of(node).unwrap().message;

    play.set(|play| play.prewarming_held = false);
    let complains = |node: &Node| message(node).contains("b: no such image");
    let node = server
        .until(&agent.name, "told what failed", complains)
        .await;
    assert!(is_labelled(&node), "it takes the label off no node");
    assert_eq!(phase(&node), Some(Phase::Ready));

    // It is tried again by itself, until it works.
    play.set(|play| play.cannot_prewarm = None);
    let node = server
        .until(&agent.name, "without complaint", |node| !complains(node))
        .await;
    assert_eq!(message(&node), "runs Wasm pods");
    let tried = play.set(|play| play.prewarmed.clone());
    assert!(tried.len() > 1 && tried.iter().all(|images| images == &["a", "b"]));
    let events = server.events(&agent.name).await;
    for reason in ["WasmInterpPrewarmFailed", "WasmInterpPrewarmed"] {
        assert!(
            events.iter().any(|event| event == reason),
            "{reason} in {events:?}"
        );
    }

    // Done once; but anew after an uninstallation, which takes the native code away.
    server.uninstall("one", 60, false).await.unwrap();
    server
        .patch_map(json!({ "data": { "uninstall": null } }))
        .await;
    server.until_ready(&agent.name).await;
    let began = Instant::now();
    while play.set(|play| play.prewarmed.len()) == tried.len() {
        assert!(began.elapsed() < PATIENCE, "it is not prewarmed again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn an_upgrade_installs_while_the_older_release_serves() {
    let server = Server::fresh().await;
    let play = PlayedNode::default();
    play.set(|play| (play.configured, play.held) = (true, true));
    play.set(|play| play.release = Some("/opt/wasm-interp/1/shim".into()));
    let name = server.add_node("True").await;
    let labelled = json!({ "metadata": { "labels": { READY_LABEL: "true" } } });
    server
        .nodes
        .patch(&name, &PatchParams::default(), &Patch::Merge(labelled))
        .await
        .unwrap();
    let agent = server.start_on(name, play.clone()).await;
    let installing = |node: &Node| phase(node) == Some(Phase::Installing);
    let node = server.until(&agent.name, "installing", installing).await;
    assert!(is_labelled(&node), "pods go on being scheduled");
    play.set(|play| play.held = false);
    server.until_ready(&agent.name).await;
    assert_eq!(
        play.set(|play| (play.installs, play.release.clone())),
        (1, None)
    );
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn an_older_release_goes_once_nobody_uses_it() {
    let server = Server::fresh().await;
    let play = PlayedNode::default();
    let older = |in_use| {
        let folder = "/opt/wasm-interp/1".into();
        vec![InstalledRelease {
            folder,
            in_use,
            pids: Vec::new(),
        }]
    };
    play.set(|play| play.older = older(true));
    let agent = server.start(play.clone()).await;
    server.until_ready(&agent.name).await;
    assert_eq!(play.set(|play| (play.installs, play.older.len())), (1, 1));
    play.set(|play| play.older = older(false));
    let began = Instant::now();
    while play.set(|play| !play.older.is_empty()) {
        assert!(began.elapsed() < PATIENCE, "the older release stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.until_ready(&agent.name).await;
    assert_eq!(play.set(|play| play.installs), 2, "and is the last one");
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn nodes_restart_containerd_one_after_another() {
    let server = Server::fresh().await;
    // One play for all: it counts how many install at once. While the second waits it must not look at it anew.
    let play = PlayedNode::default();
    play.set(|play| play.held = true);
    let seldom = ["--verify-seconds", "600"];
    let name = server.add_node("True").await;
    let first = server.start_with(name, play.clone(), &seldom).await;
    server
        .until(&first.name, "installing", |node| {
            phase(node) == Some(Phase::Installing)
        })
        .await;
    let name = server.add_node("True").await;
    let second = server.start_with(name, play.clone(), &seldom).await;
    server
        .until(&second.name, "waiting", |node| {
            phase(node) == Some(Phase::Waiting)
        })
        .await;
    // Both are to install: the second must not take the first one's work for its own.
    play.set(|play| (play.held, play.configured) = (false, false));
    server.until_ready(&first.name).await;
    server.until_ready(&second.name).await;
    assert_eq!(play.set(|play| (play.installs, play.most_at_once)), (2, 1));
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn uninstalling_leaves_nothing_on_any_node() {
    let server = Server::fresh().await;
    let agents = [
        server.start(PlayedNode::default()).await,
        server.start(PlayedNode::default()).await,
    ];
    for agent in &agents {
        server.until_ready(&agent.name).await;
    }
    server.add_node("Unknown").await; // never ours: nobody waits for it
    server.uninstall("one", 60, false).await.unwrap();
    for agent in &agents {
        let node = server.nodes.get(&agent.name).await.unwrap();
        assert_eq!(
            node.labels(),
            &BTreeMap::from([("zone".into(), "a".into())])
        );
        assert_eq!(
            node.annotations(),
            &BTreeMap::from([("note".into(), "b".into())])
        );
        assert!(!agent.play.set(|play| play.configured));
        assert_eq!(
            agent.play.set(|play| play.policies.last().copied()),
            Some(PolicyWanted::None)
        );
    }
    // Somebody without Helm has time to delete the release.
    let request = server.value("uninstall").await.unwrap();
    let request: Value = serde_json::from_str(&request).unwrap();
    assert!(request["expires_unix"].as_u64().unwrap() > now_unix() + 3000);
    // Nor do agents come back to it while Helm deletes the release, the ConfigMap before them.
    let map = server.maps().get(MAP).await.unwrap();
    server
        .maps()
        .delete(MAP, &DeleteParams::default())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    for agent in &agents {
        assert_eq!(phase(&server.nodes.get(&agent.name).await.unwrap()), None);
    }
    // A second installation works: the ConfigMap is there again, of a first revision.
    let mut again = map;
    again.metadata = kube::core::ObjectMeta {
        name: Some(MAP.into()),
        labels: again.metadata.labels,
        annotations: again.metadata.annotations,
        ..Default::default()
    };
    again.data = Some(BTreeMap::from([("revision".into(), "1".into())]));
    server
        .maps()
        .create(&PostParams::default(), &again)
        .await
        .unwrap();
    for agent in &agents {
        server.until_ready(&agent.name).await;
    }
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn a_pod_anywhere_stops_the_uninstallation_everywhere() {
    let server = Server::fresh().await;
    let (free, used) = (
        server.start(PlayedNode::default()).await,
        server.start(PlayedNode::default()).await,
    );
    for agent in [&free, &used] {
        server.until_ready(&agent.name).await;
    }
    used.play
        .set(|play| play.containers = vec![pod("shop/worker-1"), pod("shop/worker-2")]);
    let error = server
        .uninstall("one", 60, false)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&format!(
            "node {}: in use by shop/worker-1, shop/worker-2",
            used.name
        )),
        "{error}"
    );
    assert!(!error.contains(&free.name), "{error}");
    // Both are as before, and no configuration was touched.
    for agent in [&free, &used] {
        server.until_ready(&agent.name).await;
        assert_eq!(
            agent.play.set(|play| (play.installs, play.configured)),
            (1, true)
        );
    }
    used.play.set(|play| play.containers.clear());
    server.uninstall("two", 60, false).await.unwrap();
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn a_node_that_cannot_answer_is_named_or_skipped() {
    let server = Server::fresh().await;
    let agent = server.start(PlayedNode::default()).await;
    server.until_ready(&agent.name).await;
    agent.task.abort();
    let lost = json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } });
    server
        .nodes
        .patch_status(&agent.name, &PatchParams::default(), &Patch::Merge(lost))
        .await
        .unwrap();
    let error = server
        .uninstall("one", 1, false)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&agent.name) && error.contains("uninstall.skipUnreachable"),
        "{error}"
    );
    let map = server.maps().get(MAP).await.unwrap();
    assert!(
        !map.data.unwrap().contains_key("uninstall"),
        "the request is taken back"
    );
    server.uninstall("two", 30, true).await.unwrap();
    assert!(
        is_labelled(&server.nodes.get(&agent.name).await.unwrap()),
        "a skipped node is left as it is"
    );
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn an_api_server_that_restarts_ends_no_uninstallation() {
    let server = Server::fresh().await;
    let agent = server.start(PlayedNode::default()).await;
    server.until_ready(&agent.name).await;
    let mut gate = Gate::open().await;
    let client = server
        .client_through(Some(gate.address), "wasm-interp-uninstall", None)
        .await;
    agent.play.set(|play| play.held = true);
    let hook = tokio::spawn(async move { uninstall_by(client, "one", 60, false).await });
    let removing = |node: &Node| phase(node) == Some(Phase::Uninstalling);
    server.until(&agent.name, "uninstalling", removing).await;
    // Longer than between two looks at the nodes.
    gate.close().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!hook.is_finished(), "{:?}", hook.await);
    gate.reopen().await;
    agent.play.set(|play| play.held = false);
    hook.await.unwrap().unwrap();
    assert_eq!(phase(&server.nodes.get(&agent.name).await.unwrap()), None);
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn a_request_is_taken_back_once_the_api_server_answers_again() {
    let server = Server::fresh().await;
    let agent = server.start(PlayedNode::default()).await;
    server.until_ready(&agent.name).await;
    agent.play.set(|play| play.held = true);
    let mut gate = Gate::open().await;
    let client = server
        .client_through(Some(gate.address), "wasm-interp-uninstall", None)
        .await;
    let hook = tokio::spawn(async move { uninstall_by(client, "one", 8, false).await });
    let removing = |node: &Node| phase(node) == Some(Phase::Uninstalling);
    server.until(&agent.name, "uninstalling", removing).await;
    gate.close().await;
    // Its time is over before the API server is back.
    tokio::time::sleep(Duration::from_secs(13)).await;
    assert!(server.value("uninstall").await.is_some());
    gate.reopen().await;
    let error = hook.await.unwrap().unwrap_err();
    assert!(matches!(error, UninstallError::Cluster(_)), "{error}");
    assert_eq!(server.value("uninstall").await, None);
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn an_attempt_takes_back_no_request_but_its_own() {
    let server = Server::fresh().await;
    let agent = server.start(PlayedNode::default()).await;
    server.until_ready(&agent.name).await;
    agent.task.abort();
    let client = server.client_as("wasm-interp-uninstall", None).await;
    let first = tokio::spawn(async move { uninstall_by(client, "first", 60, false).await });
    server.until_asked("first").await;
    // Helm gave up on the first, and somebody tried again.
    server.ask_for("second", "release", now_unix() + 600).await;
    let began = Instant::now();
    let error = first.await.unwrap().unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(30), "it ends at once");
    assert!(
        error.to_string().contains("another attempt, second"),
        "{error}"
    );
    server.until_asked("second").await;

    // One that others took back, or an upgrade made void, ends too.
    for (change, why) in [
        (json!({ "uninstall": null }), "somebody took it back"),
        (json!({ "revision": "other" }), "made it void"),
    ] {
        let before = server.value("revision").await;
        let client = server.client_as("wasm-interp-uninstall", None).await;
        let hook = tokio::spawn(async move { uninstall_by(client, "third", 60, false).await });
        server.until_asked("third").await;
        server.patch_map(json!({ "data": change })).await;
        let error = hook.await.unwrap().unwrap_err().to_string();
        server
            .patch_map(json!({ "data": { "revision": before } }))
            .await;
        assert!(error.contains(why), "{error}");
        assert_eq!(server.value("uninstall").await, None);
    }
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn a_request_that_nobody_took_back_ends_and_a_rollback_does_not_revive_it() {
    let server = Server::fresh().await;
    let agent = server.start(PlayedNode::default()).await;
    server.until_ready(&agent.name).await;
    server.ask_for("killed", "release", now_unix() + 8).await;
    server
        .until(&agent.name, "released", |node| !is_labelled(node))
        .await;
    server.until_ready(&agent.name).await;

    // Its hook had come as far as to remove; then the release was upgraded, and rolled back.
    server.ask_for("killed", "remove", now_unix() - 1).await;
    let before = server.value("revision").await;
    for revision in [Some("upgraded".to_owned()), before] {
        server
            .patch_map(json!({ "data": { "revision": revision } }))
            .await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let node = server.nodes.get(&agent.name).await.unwrap();
        assert!(is_labelled(&node) && phase(&node) == Some(Phase::Ready));
    }
    let (installs, configured) = agent.play.set(|play| (play.installs, play.configured));
    assert!(installs == 1 && configured);
}
