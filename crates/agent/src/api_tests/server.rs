//! The API server of the tests, as its administrator uses it, and the agents and hooks that use it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use http::{Method, Request};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::client::{Body, ClientBuilder};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tower::util::MapRequestLayer;

use super::fake_node::{FakeJobs, HeldJobs};
use crate::names::READY_LABEL;
use crate::node_state::{NodeState, Phase, is_labelled};
use crate::run::{self, AgentArgs};
use crate::uninstall::{self, UninstallArgs, UninstallError};

pub(super) const NAMESPACE: &str = "wasm-interp";
pub(super) const CONFIG_MAP: &str = "wasm-interp-wanted";
pub(super) const LEASE: &str = "wasm-interp-restart-0";
/// The service account of the agents.
pub(super) const AGENT: &str = "wasm-interp-agent";
/// The service account of the uninstall hook.
const HOOK: &str = "wasm-interp-uninstall";
/// The deadline of every wait. It only ends a test that hangs: a request takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(60);
/// The pause after a failed installation: no test waits for its end.
const PAUSE: Duration = Duration::from_secs(86_400);
const POLL: Duration = Duration::from_millis(50);

/// Waits until the condition is true. `what` completes "the test waits for …".
pub(super) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < DEADLINE, "the test waits for {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// The health of a node, as the condition `Ready` of its Node says.
#[derive(Clone, Copy)]
pub(super) enum NodeReady {
    True,
    Unknown,
}

impl NodeReady {
    fn status(self) -> Value {
        let ready = match self {
            Self::True => "True",
            Self::Unknown => "Unknown",
        };
        json!({ "status": { "conditions": [{ "type": "Ready", "status": ready }] } })
    }
}

/// How often an agent or a hook has read the chart's ConfigMap: once in each of its rounds.
#[derive(Clone, Default)]
pub(super) struct Rounds(Arc<AtomicU32>);

impl Rounds {
    fn count(&self, request: &Request<Body>) {
        if request.method() == Method::GET && request.uri().path().ends_with(CONFIG_MAP) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until a whole round has begun and ended after the call.
    pub(super) async fn until_another(&self) {
        let before = self.0.load(Ordering::Relaxed);
        // The first may be the end of a round that began before, so the second ends one that began after.
        eventually("two more rounds, and the begin of a third", async || {
            self.0.load(Ordering::Relaxed) >= before + 3
        })
        .await;
    }
}

/// A node with a running agent.
pub(super) struct RunningAgent {
    /// Name of the node.
    pub(super) name: String,
    pub(super) node: FakeJobs,
    pub(super) rounds: Rounds,
    task: JoinHandle<()>,
}

/// A running uninstall hook.
pub(super) struct RunningHook {
    pub(super) rounds: Rounds,
    task: JoinHandle<Result<(), UninstallError>>,
}

impl RunningHook {
    pub(super) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits for its end.
    pub(super) async fn end(self) -> Result<(), UninstallError> {
        let end = timeout(DEADLINE, self.task).await;
        end.expect("the hook ends").unwrap()
    }
}

impl RunningAgent {
    /// Ends the agent, as the end of its node would.
    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        self.node.with(|script| script.held = HeldJobs::None);
        self.task.abort();
    }
}

/// The command line of an agent.
#[derive(Parser)]
struct AgentCommandLine {
    #[command(flatten)]
    args: AgentArgs,
}

/// How often an agent checks its node.
#[derive(Clone, Copy)]
pub(super) enum Checks {
    EverySecond,
    /// Only after a change of the ConfigMap.
    AfterChanges,
}

pub(super) struct TestServer {
    pub(super) admin: Client,
    pub(super) nodes: Api<Node>,
}

impl TestServer {
    /// A server without nodes, with the ConfigMap and Lease as the chart makes them.
    pub(super) async fn fresh() -> Self {
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
        server.withdraw_request().await;
        server.patch_lease(json!({ "spec": null })).await;
        server
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), NAMESPACE)
    }

    pub(super) fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.admin.clone(), NAMESPACE)
    }

    pub(super) fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.admin.clone(), NAMESPACE)
    }

    pub(super) async fn patch_lease(&self, patch: Value) -> Lease {
        let patch = Patch::Merge(patch);
        let parameters = PatchParams::default();
        let patched = self.leases().patch(LEASE, &parameters, &patch).await;
        patched.unwrap()
    }

    pub(super) async fn patch_map(&self, patch: Value) {
        self.maps()
            .patch(CONFIG_MAP, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// Removes the request to uninstall from the ConfigMap.
    pub(super) async fn withdraw_request(&self) {
        self.patch_map(json!({ "data": { "uninstall": null } }))
            .await;
    }

    /// Writes a request to uninstall into the ConfigMap, as the hook would.
    pub(super) async fn request(&self, id: &str, step: &str, expires_unix: u64) {
        let revision = self.value("revision").await.unwrap();
        let request =
            json!({ "id": id, "revision": revision, "step": step, "expires_unix": expires_unix });
        self.patch_map(json!({ "data": { "uninstall": request.to_string() } }))
            .await;
    }

    /// The value of a key of the ConfigMap.
    pub(super) async fn value(&self, key: &str) -> Option<String> {
        let map = self.maps().get(CONFIG_MAP).await.unwrap();
        map.data.and_then(|mut data| data.remove(key))
    }

    /// Changes the ConfigMap, so that every agent checks its node at once.
    pub(super) async fn trigger_checks(&self) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let now = COUNT.fetch_add(1, Ordering::Relaxed).to_string();
        self.patch_map(json!({ "data": { "touched": now } })).await;
    }

    pub(super) async fn add_node(&self, ready: NodeReady) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("node-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": name, "labels": { "zone": "a" }, "annotations": { "note": "b" } },
        });
        let node = serde_json::from_value(node).unwrap();
        self.nodes
            .create(&PostParams::default(), &node)
            .await
            .unwrap();
        self.set_ready(&name, ready).await;
        name
    }

    /// A node that an older release has labelled.
    pub(super) async fn add_labelled_node(&self) -> String {
        let name = self.add_node(NodeReady::True).await;
        let labelled = json!({ "metadata": { "labels": { READY_LABEL: "true" } } });
        self.nodes
            .patch(&name, &PatchParams::default(), &Patch::Merge(labelled))
            .await
            .unwrap();
        name
    }

    pub(super) async fn set_ready(&self, name: &str, ready: NodeReady) {
        let status = Patch::Merge(ready.status());
        self.nodes
            .patch_status(name, &PatchParams::default(), &status)
            .await
            .unwrap();
    }

    /// The Node as it is now.
    pub(super) async fn node(&self, name: &str) -> Node {
        self.nodes.get(name).await.unwrap()
    }

    /// A client with the token of a pod on that node.
    pub(super) async fn client_on(&self, node: &str) -> Client {
        Client::try_from(self.config_on(node).await).unwrap()
    }

    async fn config_on(&self, node: &str) -> Config {
        let name = format!("{AGENT}-{node}");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
            "spec": {
                "serviceAccountName": AGENT,
                "nodeName": node,
                "automountServiceAccountToken": false,
                "containers": [{ "name": "agent", "image": "agent" }],
            },
        });
        let pod = serde_json::from_value(pod).unwrap();
        let pod = self.pods().create(&PostParams::default(), &pod).await;
        let bound = BoundObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(name),
            uid: pod.unwrap().uid(),
        };
        self.config_of(AGENT, Some(bound)).await
    }

    /// A client with a token of that account, which names no pod.
    pub(super) async fn unbound_client(&self, account: &str) -> Client {
        Client::try_from(self.config_of(account, None).await).unwrap()
    }

    /// The configuration of a client with a token of that account.
    async fn config_of(&self, account: &str, bound: Option<BoundObjectReference>) -> Config {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin.clone(), NAMESPACE);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                bound_object_ref: bound,
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let response = accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .unwrap();
        let mut config = config().await;
        config.auth_info.token = response.status.unwrap().token.map(Into::into);
        config
    }

    /// Starts an agent on a new node.
    pub(super) async fn start(&self, node: FakeJobs) -> RunningAgent {
        let name = self.add_node(NodeReady::True).await;
        self.start_on(name, node, Checks::EverySecond, &[]).await
    }

    /// Starts an agent on that node, with more arguments.
    pub(super) async fn start_on(
        &self,
        name: String,
        node: FakeJobs,
        checks: Checks,
        more: &[&str],
    ) -> RunningAgent {
        let rounds = Rounds::default();
        let client = counting(self.config_on(&name).await, &rounds);
        let interval = match checks {
            Checks::EverySecond => "1",
            Checks::AfterChanges => "600",
        };
        let words = [
            "run",
            "--node",
            &name,
            "--namespace",
            NAMESPACE,
            "--wanted",
            CONFIG_MAP,
            "--lease",
            LEASE,
            "--ready-port",
            "0",
            "--verify-seconds",
            interval,
        ];
        let args = AgentCommandLine::parse_from(words.iter().chain(more)).args;
        RunningAgent {
            task: tokio::spawn(run::serve(client, args, node.clone(), PAUSE)),
            name,
            node,
            rounds,
        }
    }

    /// Runs the uninstall hook to its end.
    pub(super) async fn uninstall(&self, hook: Hook) -> Result<(), UninstallError> {
        self.start_hook(hook, None).await.end().await
    }

    /// Starts the uninstall hook, which reaches the server through the proxy if there is one.
    pub(super) async fn start_hook(&self, hook: Hook, proxy: Option<&Proxy>) -> RunningHook {
        let mut config = self.config_of(HOOK, None).await;
        if let Some(proxy) = proxy {
            config.cluster_url = format!("https://{}", proxy.address).parse().unwrap();
        }
        let rounds = Rounds::default();
        let client = counting(config, &rounds);
        let args = UninstallArgs {
            namespace: NAMESPACE.into(),
            wanted: CONFIG_MAP.into(),
            id: hook.id.into(),
            timeout_seconds: hook.timeout_seconds,
            skip_unreachable: hook.unreachable == Unreachable::Skip,
        };
        RunningHook {
            task: tokio::spawn(async move { uninstall::uninstall(client, &args).await }),
            rounds,
        }
    }

    pub(super) async fn until_requested(&self, id: &str) {
        eventually(&format!("the request {id}"), async || {
            let request = self.value("uninstall").await;
            request.is_some_and(|request| request.contains(id))
        })
        .await;
    }

    pub(super) async fn until(
        &self,
        name: &str,
        what: &str,
        condition: impl Fn(&Node) -> bool,
    ) -> Node {
        let began = Instant::now();
        loop {
            let node = self.node(name).await;
            if condition(&node) {
                return node;
            }
            assert!(
                began.elapsed() < DEADLINE,
                "{name} is not {what}: {:?}",
                NodeState::of(&node)
            );
            tokio::time::sleep(POLL).await;
        }
    }

    pub(super) async fn until_ready(&self, name: &str) -> Node {
        self.until(name, "ready", |node| {
            is_labelled(node) && phase(node) == Some(Phase::Ready)
        })
        .await
    }

    pub(super) async fn until_unlabelled(&self, name: &str) -> Node {
        self.until(name, "without label", |node| !is_labelled(node))
            .await
    }

    pub(super) async fn until_phase(&self, name: &str, wanted: Phase) -> Node {
        let what = format!("{wanted:?}");
        self.until(name, &what, |node| phase(node) == Some(wanted))
            .await
    }

    /// The reasons of the events about a node.
    pub(super) async fn events(&self, node: &str) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.admin.clone(), "default");
        let list = events.list(&ListParams::default()).await.unwrap();
        let is_about_node = |event: &Event| {
            let object = event.regarding.as_ref();
            object.and_then(|object| object.name.as_deref()) == Some(node)
        };
        list.items
            .into_iter()
            .filter(is_about_node)
            .filter_map(|event| event.reason)
            .collect()
    }
}

pub(super) fn phase(node: &Node) -> Option<Phase> {
    NodeState::of(node).map(|state| state.phase)
}

/// What the uninstall hook does with nodes that are not Ready.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreachable {
    WaitFor,
    Skip,
}

/// The arguments of an uninstall hook.
#[derive(Clone, Copy)]
pub(super) struct Hook {
    id: &'static str,
    timeout_seconds: u64,
    unreachable: Unreachable,
}

impl Hook {
    /// An attempt with enough time, which waits for all nodes.
    pub(super) fn new(id: &'static str) -> Self {
        Self {
            id,
            timeout_seconds: 60,
            unreachable: Unreachable::WaitFor,
        }
    }

    pub(super) fn with_timeout(mut self, seconds: u64) -> Self {
        self.timeout_seconds = seconds;
        self
    }

    pub(super) fn skipping_unreachable(mut self) -> Self {
        self.unreachable = Unreachable::Skip;
        self
    }
}

/// A proxy to the API server, which can be closed as the API server of a k3s server is while it restarts.
pub(super) struct Proxy {
    address: SocketAddr,
    forwarding: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(super) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            forwarding: Some(tokio::spawn(forward(listener).await)),
        }
    }

    /// Ends the connections, and refuses new ones.
    pub(super) async fn close(&mut self) {
        let forwarding = self.forwarding.take().unwrap();
        forwarding.abort();
        let _ = forwarding.await;
    }

    pub(super) async fn reopen(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.forwarding = Some(tokio::spawn(forward(listener).await));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.forwarding.iter().for_each(JoinHandle::abort);
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

/// A client that counts its rounds.
fn counting(config: Config, rounds: &Rounds) -> Client {
    let rounds = rounds.clone();
    let counting = MapRequestLayer::new(move |request: Request<Body>| {
        rounds.count(&request);
        request
    });
    let builder = ClientBuilder::try_from(config).unwrap();
    builder.with_layer(&counting).build()
}

async fn config() -> Config {
    let kubeconfig = kube::config::Kubeconfig::from_env()
        .unwrap()
        .expect("KUBECONFIG is not set: run `make test-api`");
    Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
        .await
        .unwrap()
}
