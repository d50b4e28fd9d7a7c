//! The cluster: etcd, API server, controller manager and scheduler in this program's network
//! namespace, joined by a bridge with the nodes. All of it ends with the namespaces.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use k8s_openapi::serde_json::{Value, json};
use nix::mount::{MsFlags, mount};
use wasm_interp_test_support::boot::of_the_distribution;

use crate::Outcome;
use crate::addresses::{BRIDGE, GATEWAY, REGISTRY, SERVER, SERVICES};
use crate::command::{self, wait_for};
use crate::node::{ClusterNode, NODES};
use crate::pki::Authority;
use crate::settings::ClusterSettings;
use crate::{images, registry};

/// A cluster of our own.
pub(crate) struct Cluster {
    pub(crate) settings: ClusterSettings,
    /// For the cluster's administrator.
    pub(crate) kubeconfig: PathBuf,
    authority: Authority,
    nodes: [OnceLock<ClusterNode>; 2],
    joining: Mutex<()>,
    /// Puts this project onto a node.
    provision: fn(&Self, &ClusterNode) -> Outcome,
}

impl Cluster {
    /// Brings up the control plane and the first node. A node is ready when the kubelet says so;
    /// `provision` then puts this project onto it.
    pub(crate) fn start(
        settings: &ClusterSettings,
        provision: fn(&Self, &ClusterNode) -> Outcome,
    ) -> Outcome<Self> {
        let folder = settings.run.folder();
        fs::create_dir_all(folder.join("logs"))?;
        network()?;
        // Nothing inside reaches the sockets and states of the machine's own services.
        mount(
            Some("tmpfs"),
            "/run",
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=755"),
        )?;
        images::write(settings, &folder.join("images"))?;
        let authority = Authority::create(&folder.join("pki"))?;
        let kubeconfig = control_plane(settings, &authority)?;
        registry::fill(settings)?;
        let cluster = Self {
            settings: settings.clone(),
            kubeconfig,
            authority,
            nodes: Default::default(),
            joining: Mutex::new(()),
            provision,
        };
        // A benchmark boots the node that it measures, without this project on it.
        if settings.bench.is_none() {
            cluster.node(0)?;
        }
        wait_for("the service account of the default namespace", || {
            let account = cluster.kubectl(&["get", "serviceaccount", "default"])?;
            Ok((account.code == 0).then_some(()))
        })?;
        Ok(cluster)
    }

    /// The node of that number. The first call boots and provisions it.
    pub(crate) fn node(&self, number: usize) -> Outcome<&ClusterNode> {
        self.join(number, |node| (self.provision)(self, node))
    }

    /// The same, with nothing of this project on it.
    pub(crate) fn bare_node(&self, number: usize) -> Outcome<&ClusterNode> {
        self.join(number, |_| Ok(()))
    }

    fn join(
        &self,
        number: usize,
        then: impl FnOnce(&ClusterNode) -> Outcome,
    ) -> Outcome<&ClusterNode> {
        let _one_at_a_time = self
            .joining
            .lock()
            .map_err(|_| "an earlier attempt to boot a node failed")?;
        if let Some(node) = self.nodes[number].get() {
            return Ok(node);
        }
        let plan = &NODES[number];
        println!("==> booting the node {}", plan.name);
        let node = ClusterNode::boot(&self.settings, plan, &self.authority, SERVER)?;
        node.import_images()?;
        wait_for(&format!("the node {} to be ready", plan.name), || {
            let ready = "-o=jsonpath={.status.conditions[?(@.type=='Ready')].status}";
            let state = self.kubectl(&["get", "node", plan.name, ready])?;
            Ok((state.stdout == "True").then_some(()))
        })?;
        then(&node)?;
        Ok(self.nodes[number].get_or_init(|| node))
    }

    /// The nodes that have been booted.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &ClusterNode> {
        self.nodes.iter().filter_map(OnceLock::get)
    }

    /// kubectl as the administrator.
    pub(crate) fn kubectl(&self, words: &[&str]) -> Outcome<command::Finished> {
        command::run(self.kubectl_command(words), None)
    }

    /// The same with an object on its standard input.
    fn kubectl_with(&self, words: &[&str], object: &Value) -> Outcome<command::Finished> {
        let object = object.to_string();
        command::run(self.kubectl_command(words), Some(object.as_bytes()))
    }

    fn kubectl_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.settings.components.join("kubectl"));
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(words)
            .env("HOME", self.settings.run.folder());
        command
    }

    /// Does something while metrics-server runs. Its API is part of what the API server offers, so no other trial
    /// may run meanwhile.
    pub(crate) fn with_metrics<T>(&self, act: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let shown = |path: &Path| path.display().to_string();
        let user = "system:metrics-server";
        let config = self.authority.kubeconfig(SERVER, user, "system:masters")?;
        let folder = self.settings.run.folder().join("metrics-server");
        let mut server = Command::new(self.settings.components.join("metrics-server"));
        server
            .arg(format!("--kubeconfig={}", shown(&config)))
            .arg(format!("--authentication-kubeconfig={}", shown(&config)))
            .arg(format!("--authorization-kubeconfig={}", shown(&config)))
            .arg(format!("--secure-port={METRICS}"))
            .arg(format!("--cert-dir={}", shown(&folder)))
            .arg(format!(
                "--kubelet-certificate-authority={}",
                shown(&self.authority.certificate())
            ))
            .args([
                "--kubelet-preferred-address-types=InternalIP",
                // A request may not take longer than one round.
                "--metric-resolution=10s",
                "--kubelet-request-timeout=5s",
            ]);
        let mut server = start(&self.settings, "metrics-server", server)?;
        let way = way_to_metrics();
        let outcome = self
            .kubectl_with(&["apply", "--filename=-"], &way)
            .and_then(|applied| applied.expect_code(0))
            .and_then(|_| act());
        let deleted = self.kubectl_with(&["delete", "--filename=-"], &way);
        server.kill()?;
        server.wait()?;
        deleted?.expect_code(0)?;
        outcome
    }
}

fn network() -> Outcome {
    let address = format!("{GATEWAY}/24");
    for words in [
        vec!["link", "set", "lo", "up"],
        vec!["link", "add", BRIDGE, "type", "bridge"],
        vec!["address", "add", &address, "dev", BRIDGE],
        vec!["link", "set", BRIDGE, "up"],
    ] {
        let mut command = Command::new("ip");
        command.args(&words);
        command::run(command, None)?.expect_code(0)?;
    }
    for plan in &NODES {
        let mut command = Command::new("ip");
        command.args(["route", "add", &format!("{}.0/24", plan.pods())]);
        command.args(["via", &plan.address().to_string()]);
        command::run(command, None)?.expect_code(0)?;
    }
    Ok(())
}

/// Starts a program with a log of its name; it ends with the namespace.
fn start(settings: &ClusterSettings, name: &str, mut command: Command) -> Outcome<Child> {
    let log = File::create(
        settings
            .run
            .folder()
            .join("logs")
            .join(format!("{name}.log")),
    )?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot start {name}: {error}").into())
}

/// Starts what has no node. Returns the administrator's kubeconfig.
fn control_plane(settings: &ClusterSettings, authority: &Authority) -> Outcome<PathBuf> {
    let folder = settings.run.folder();
    let start = |name: &'static str, command: Command| -> Outcome<(&'static str, Child)> {
        Ok((name, start(settings, name, command)?))
    };
    let component = |name: &str| Command::new(settings.components.join(name));
    let shown = |path: &Path| path.display().to_string();
    let ca = shown(&authority.certificate());
    let tokens = authority.service_accounts();

    let mut etcd = of_the_distribution(&settings.distribution, "usr/bin/etcd");
    etcd.arg("--data-dir").arg(folder.join("etcd")).args([
        "--unsafe-no-fsync",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
    ]);

    let admission = folder.join("admission.yaml");
    fs::write(&admission, ADMISSION)?;
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "localhost",
    ];
    let addresses = [
        GATEWAY.into(),
        Ipv4Addr::new(10, 215, 0, 1).into(),
        Ipv4Addr::LOCALHOST.into(),
    ];
    let serving = authority.issue("kube-apiserver", "e2e", &names, &addresses)?;
    let kubelets = authority.issue("kube-apiserver-kubelet-client", "system:masters", &[], &[])?;
    let front = authority.issue("front-proxy-client", "e2e", &[], &[])?;
    let mut api = component("kube-apiserver");
    api.args([
        "--etcd-servers=http://127.0.0.1:2379",
        "--secure-port=6443",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        "--kubelet-preferred-address-types=InternalIP",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--enable-aggregator-routing=true",
    ])
    .arg(format!("--advertise-address={GATEWAY}"))
    .arg(format!("--service-cluster-ip-range={SERVICES}"))
    .arg(format!(
        "--admission-control-config-file={}",
        shown(&admission)
    ))
    .arg(format!(
        "--service-account-key-file={}",
        shown(&tokens.certificate)
    ))
    .arg(format!(
        "--service-account-signing-key-file={}",
        shown(&tokens.key)
    ))
    .arg(format!("--client-ca-file={ca}"))
    .arg(format!("--requestheader-client-ca-file={ca}"))
    .arg(format!("--kubelet-certificate-authority={ca}"))
    .arg(format!("--tls-cert-file={}", shown(&serving.certificate)))
    .arg(format!("--tls-private-key-file={}", shown(&serving.key)))
    .arg(format!(
        "--kubelet-client-certificate={}",
        shown(&kubelets.certificate)
    ))
    .arg(format!("--kubelet-client-key={}", shown(&kubelets.key)))
    .arg(format!(
        "--proxy-client-cert-file={}",
        shown(&front.certificate)
    ))
    .arg(format!("--proxy-client-key-file={}", shown(&front.key)));

    let with_kubeconfig = |name: &str| -> Outcome<Command> {
        let user = format!("system:{name}");
        let config = authority.kubeconfig(SERVER, &user, "e2e")?;
        let mut command = component(name);
        command
            .arg(format!("--kubeconfig={}", shown(&config)))
            .arg(format!("--authentication-kubeconfig={}", shown(&config)))
            .arg(format!("--authorization-kubeconfig={}", shown(&config)))
            .args(["--leader-elect=false", "--bind-address=127.0.0.1"])
            .arg(format!("--cert-dir={}", shown(&folder.join(name))));
        Ok(command)
    };
    let mut controllers = with_kubeconfig("kube-controller-manager")?;
    controllers
        .arg(format!("--root-ca-file={ca}"))
        .arg(format!(
            "--service-account-private-key-file={}",
            shown(&tokens.key)
        ))
        .args([
            "--use-service-account-credentials=true",
            "--node-monitor-grace-period=20s",
        ]);
    let scheduler = with_kubeconfig("kube-scheduler")?;

    let mut registry = component("crane");
    registry
        .args(["registry", "serve", "--address", REGISTRY])
        .arg("--disk")
        .arg(folder.join("registry"));
    fs::create_dir_all(folder.join("registry"))?;

    let mut daemons = vec![
        start("etcd", etcd)?,
        start("kube-apiserver", api)?,
        start("registry", registry)?,
    ];
    let kubeconfig = authority.kubeconfig(SERVER, "admin", "system:masters")?;
    wait_for("the API server to be ready", || {
        for (name, daemon) in &mut daemons {
            if let Some(status) = daemon.try_wait()? {
                return Err(format!("{name} ended with {status}").into());
            }
        }
        let mut kubectl = component("kubectl");
        kubectl.arg("--kubeconfig").arg(&kubeconfig);
        kubectl.args(["get", "--raw=/readyz"]);
        Ok((command::run(kubectl, None)?.code == 0).then_some(()))
    })?;
    // These give up where the API server has not made its own roles yet.
    start("kube-controller-manager", controllers)?;
    start("kube-scheduler", scheduler)?;
    Ok(kubeconfig)
}

/// Where metrics-server listens.
const METRICS: u16 = 4443;

/// Leads the API server to metrics-server, which is no pod here.
fn way_to_metrics() -> Value {
    let name = json!({ "name": "metrics-server", "namespace": "kube-system" });
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "Service", "metadata": name,
          "spec": { "ports": [{ "name": "https", "port": 443, "targetPort": METRICS }] } },
        { "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
          "metadata": { "name": "metrics-server", "namespace": "kube-system",
            "labels": { "kubernetes.io/service-name": "metrics-server" } },
          "ports": [{ "name": "https", "port": METRICS, "protocol": "TCP" }],
          "endpoints": [{ "addresses": [GATEWAY.to_string()], "conditions": { "ready": true } }] },
        { "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
          "metadata": { "name": "v1beta1.metrics.k8s.io" },
          "spec": { "group": "metrics.k8s.io", "version": "v1beta1",
            "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": name } },
    ]})
}

const ADMISSION: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults: { enforce: baseline, enforce-version: latest }
";
