//! What a trial works with: a cluster, and a namespace of its own in it that goes away.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ContainerStatus, Namespace as NamespaceObject, Pod};
use k8s_openapi::serde_json::{Value, from_value, json};
use kube::api::{Api, DeleteParams, ListParams, LogParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use crate::Outcome;
use crate::cluster::Cluster;
use crate::command::{self, Finished, Running, wait_for};
use crate::provision;
use crate::run::{Concurrency, Turns};
use crate::settings::ClusterSettings;

/// The context of a cluster of our own.
pub(crate) const CONTEXT: &str = "e2e";

/// The cluster that the trials share.
pub(crate) struct TestCluster {
    runtime: Runtime,
    client: Client,
    /// How the cluster is reached.
    pub(crate) kubeconfig: PathBuf,
    pub(crate) context: String,
    kubectl: PathBuf,
    home: PathBuf,
    /// `None` for a cluster that someone else made: its nodes are not ours to touch.
    cluster: Option<Cluster>,
    counter: AtomicU32,
    turns: Turns,
}

impl TestCluster {
    /// A cluster of our own, brought up now.
    pub(crate) fn own(settings: &ClusterSettings) -> Outcome<Self> {
        let cluster = Cluster::start(settings, provision::provision).inspect_err(|_| {
            keep(&settings.run.folder().join("logs"), &settings.logs);
        })?;
        let kubeconfig = cluster.kubeconfig.clone();
        let program = settings.components.join("kubectl");
        Self::new(
            &kubeconfig,
            CONTEXT,
            &program,
            settings.run.folder(),
            Some(cluster),
        )
    }

    /// A cluster that runs already.
    pub(crate) fn given(
        kubeconfig: &Path,
        context: &str,
        programs: Option<&Path>,
    ) -> Outcome<Self> {
        let read = Kubeconfig::read_from(kubeconfig)?;
        let current = read.current_context.as_deref().unwrap_or("none");
        if current != context {
            return Err(format!(
                "E2E_CONTEXT is {context:?}, but the current context of {} is {current:?}: \
                 nothing is done in a cluster that was not meant",
                kubeconfig.display()
            )
            .into());
        }
        let program = programs.map_or_else(|| "kubectl".into(), |folder| folder.join("kubectl"));
        Self::new(kubeconfig, context, &program, &std::env::temp_dir(), None)
    }

    fn new(
        kubeconfig: &Path,
        context: &str,
        program: &Path,
        home: &Path,
        cluster: Option<Cluster>,
    ) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let client = runtime.block_on(async {
            let options = KubeConfigOptions {
                context: Some(context.to_owned()),
                ..KubeConfigOptions::default()
            };
            let read = Kubeconfig::read_from(kubeconfig)?;
            let config = Config::from_custom_kubeconfig(read, &options).await?;
            Outcome::Ok(Client::try_from(config)?)
        })?;
        Ok(Self {
            runtime,
            client,
            kubeconfig: kubeconfig.to_owned(),
            context: context.to_owned(),
            kubectl: program.to_owned(),
            home: home.to_owned(),
            cluster,
            counter: AtomicU32::new(0),
            turns: Turns::default(),
        })
    }

    /// Runs one trial, beside others or alone; what the nodes logged meanwhile is kept if it fails.
    pub(crate) fn run_trial(
        &self,
        name: &str,
        kind: Concurrency,
        trial: fn(&Self) -> Outcome,
    ) -> Outcome {
        let began = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let outcome = self.turns.take(kind, || trial(self));
        if outcome.is_err()
            && let Some(cluster) = &self.cluster
        {
            let folder = cluster.settings.logs.join(name.replace("::", "-"));
            keep(&cluster.settings.run.folder().join("logs"), &folder);
            for node in cluster.nodes() {
                let journal = node.journal(began).unwrap_or_else(|error| {
                    format!("no journal: {}", error.message().unwrap_or_default())
                });
                report(fs::write(
                    folder.join(format!("{}.log", node.name)),
                    journal,
                ));
            }
            println!("{name}: logs of the nodes are kept in {}", folder.display());
        }
        outcome
    }

    /// The cluster, for trials that need its nodes.
    pub(crate) fn cluster(&self) -> Outcome<&Cluster> {
        self.cluster
            .as_ref()
            .ok_or_else(|| "this trial needs a cluster of our own".into())
    }

    /// Whether it is there to be measured.
    pub(crate) fn measures(&self) -> bool {
        let settings = self.cluster.as_ref().map(|cluster| &cluster.settings);
        settings.is_some_and(|settings| settings.bench.is_some())
    }

    /// Whether it is there for the trials of applications.
    pub(crate) fn tests_apps(&self) -> bool {
        let settings = self.cluster.as_ref().map(|cluster| &cluster.settings);
        settings.is_some_and(|settings| settings.browser.is_some())
    }

    /// Whether trials may reach the nodes.
    pub(crate) fn has_nodes(&self) -> bool {
        self.cluster.is_some()
    }

    /// `kubectl WORDS …`, not yet run.
    pub(crate) fn kubectl_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command
            .arg(format!("--kubeconfig={}", self.kubeconfig.display()))
            .arg(format!("--context={}", self.context))
            .args(words)
            .env_remove("KUBECONFIG")
            .env("HOME", &self.home);
        command
    }

    /// `kubectl WORDS …`, to its end.
    pub(crate) fn kubectl(&self, words: &[&str]) -> Outcome<Finished> {
        command::run(self.kubectl_command(words), None)
    }

    /// Creates an object of any kind. The caller deletes it.
    pub(crate) fn apply(&self, object: &Value) -> Outcome {
        let command = self.kubectl_command(&["create", "--filename=-"]);
        command::run(command, Some(object.to_string().as_bytes()))?.expect_code(0)?;
        Ok(())
    }

    /// Goes on beside what waits, until the cluster ends.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// A namespace of the trial's own, with Pod Security's `level`, or the cluster's default.
    pub(crate) fn namespace(&self, level: Option<&str>) -> Outcome<PodNamespace<'_>> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let name = format!("wasm-interp-e2e-{}-{number}", std::process::id());
        let mut object = json!({ "metadata": { "name": name } });
        if let Some(level) = level {
            object["metadata"]["labels"] = json!({ "pod-security.kubernetes.io/enforce": level });
        }
        let api: Api<NamespaceObject> = Api::all(self.client.clone());
        self.runtime
            .block_on(api.create(&PostParams::default(), &from_value(object)?))?;
        let namespace = PodNamespace { world: self, name };
        wait_for("the service account of the namespace", || {
            let account = namespace.kubectl(&["get", "serviceaccount", "default"])?;
            Ok((account.code == 0).then_some(()))
        })?;
        Ok(namespace)
    }
}

/// Copies the files of a folder to where people find them after the run.
fn keep(from: &Path, to: &Path) {
    report(fs::create_dir_all(to));
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        report(fs::copy(entry.path(), to.join(entry.file_name())).map(drop));
    }
}

fn report(done: std::io::Result<()>) {
    if let Err(error) = done {
        eprintln!("cannot keep logs: {error}");
    }
}

/// A namespace of one trial.
pub(crate) struct PodNamespace<'world> {
    world: &'world TestCluster,
    pub(crate) name: String,
}

impl PodNamespace<'_> {
    /// Its objects of a kind.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.world.client.clone(), &self.name)
    }

    /// Creates an object.
    pub(crate) fn create<K>(&self, object: Value) -> Outcome<K>
    where
        K: Resource<Scope = NamespaceResourceScope> + Serialize + DeserializeOwned,
        K: Clone + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let object: K = from_value(object)?;
        Ok(self
            .world
            .runtime
            .block_on(self.api::<K>().create(&PostParams::default(), &object))?)
    }

    /// Creates a pod of the RuntimeClass under test, unless `spec` says otherwise.
    pub(crate) fn pod(&self, name: &str, mut spec: Value) -> Outcome<Pod> {
        if let Some(fields) = spec.as_object_mut() {
            fields
                .entry("runtimeClassName")
                .or_insert("wasm-interp".into());
            fields.entry("restartPolicy").or_insert("Never".into());
            fields
                .entry("terminationGracePeriodSeconds")
                .or_insert(30.into());
        }
        self.create(
            json!({ "metadata": { "name": name, "labels": { "app": name } }, "spec": spec }),
        )
    }

    /// A pod of one container that runs Python code.
    pub(crate) fn python(&self, name: &str, code: &str) -> Outcome<Pod> {
        self.pod(name, json!({ "containers": [python(code)] }))
    }

    /// The pod as it is now.
    pub(crate) fn get(&self, name: &str) -> Outcome<Pod> {
        Ok(self.world.runtime.block_on(self.api::<Pod>().get(name))?)
    }

    /// All pods as they are now.
    pub(crate) fn pods(&self, selector: &str) -> Outcome<Vec<Pod>> {
        let list = ListParams::default().labels(selector);
        Ok(self
            .world
            .runtime
            .block_on(self.api::<Pod>().list(&list))?
            .items)
    }

    /// Asks about the pod until `ask` has an answer; says how the pod is if it never has.
    pub(crate) fn until<T>(
        &self,
        name: &str,
        what: &str,
        ask: impl Fn(&Pod) -> Option<T>,
    ) -> Outcome<T> {
        wait_for(&format!("pod {name} to {what}"), || {
            Ok(ask(&self.get(name)?))
        })
        .map_err(|error| {
            let described = self
                .kubectl(&["describe", "pod", name])
                .map(|described| described.stdout)
                .unwrap_or_default();
            format!("{}:\n{described}", error.message().unwrap_or_default()).into()
        })
    }

    /// Waits for the end of the pod; returns its phase.
    pub(crate) fn ended(&self, name: &str) -> Outcome<String> {
        self.until(name, "end", |pod| {
            let phase = pod.status.as_ref()?.phase.clone()?;
            matches!(phase.as_str(), "Succeeded" | "Failed").then_some(phase)
        })
    }

    /// Waits until the pod is ready.
    pub(crate) fn ready(&self, name: &str) -> Outcome {
        self.until(name, "be ready", |pod| is_ready(pod).then_some(()))
    }

    /// Waits for the end of a pod that must succeed; returns its log.
    pub(crate) fn succeeded(&self, name: &str) -> Outcome<String> {
        let phase = self.ended(name)?;
        let log = self.logs(name)?;
        if phase == "Succeeded" {
            return Ok(log);
        }
        let described = self.kubectl(&["describe", "pod", name])?.stdout;
        Err(format!("pod {name} has {phase}, and printed:\n{log}\n{described}").into())
    }

    /// Runs Python code in a pod of its own to its successful end; returns what it printed.
    pub(crate) fn printed(&self, name: &str, code: &str) -> Outcome<String> {
        self.python(name, code)?;
        self.succeeded(name)
    }

    /// What the pod's only container has printed.
    pub(crate) fn logs(&self, name: &str) -> Outcome<String> {
        Ok(self
            .world
            .runtime
            .block_on(self.api::<Pod>().logs(name, &LogParams::default()))?)
    }

    /// Waits until the container of that place was started.
    pub(crate) fn until_started(&self, name: &str, container: usize) -> Outcome {
        self.until(name, "start", |pod| {
            let state = status(pod, container)?.state.as_ref()?;
            (state.running.is_some() || state.terminated.is_some()).then_some(())
        })
    }

    /// The process of the pod's only container.
    pub(crate) fn process(&self, name: &str) -> Outcome<ProcessOnNode> {
        let pod = self.get(name)?;
        let on = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let node = self
            .world
            .cluster()?
            .nodes()
            .find(|node| Some(node.name) == on)
            .ok_or_else(|| format!("pod {name} is on no node of ours: {on:?}"))?;
        let id = status(&pod, 0)
            .and_then(|status| status.container_id.as_deref()?.split_once("://"))
            .map(|(_, id)| id.to_owned())
            .ok_or_else(|| format!("pod {name} has no container yet"))?;
        let tasks = node.must(&["ctr", "--namespace=k8s.io", "task", "ls"])?;
        let pid = tasks
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|words| words.first() == Some(&id.as_str()))
            .and_then(|words| words.get(1).copied().map(str::to_owned))
            .ok_or_else(|| format!("no task {id} in:\n{tasks}"))?;
        Ok(ProcessOnNode {
            folder: node.path("/proc").join(pid),
        })
    }

    /// Waits until the pod has printed `text`.
    pub(crate) fn until_printed(&self, name: &str, text: &str) -> Outcome {
        self.until_started(name, 0)?;
        wait_for(&format!("{text:?} from pod {name}"), || {
            Ok(self.logs(name)?.contains(text).then_some(()))
        })
    }

    /// Asks for the pod's deletion, with the grace that it asks for.
    pub(crate) fn start_deleting(&self, name: &str) -> Outcome {
        let pods = self.api::<Pod>();
        let grace = DeleteParams::default();
        self.world.runtime.block_on(pods.delete(name, &grace))?;
        Ok(())
    }

    /// The same for all its pods at once.
    pub(crate) fn start_deleting_all(&self) -> Outcome {
        let pods = self.api::<Pod>();
        let (grace, all) = (DeleteParams::default(), ListParams::default());
        let deleted = pods.delete_collection(&grace, &all);
        self.world.runtime.block_on(deleted)?;
        Ok(())
    }

    /// Deletes the pod, with the grace that it asks for, and waits until it is gone.
    pub(crate) fn delete(&self, name: &str) -> Outcome {
        let api = self.api::<Pod>();
        self.start_deleting(name)?;
        wait_for(&format!("pod {name} to be gone"), || {
            let left = self.world.runtime.block_on(api.get_opt(name))?;
            Ok(left.is_none().then_some(()))
        })
    }

    /// `kubectl --namespace … WORDS …`.
    pub(crate) fn kubectl(&self, words: &[&str]) -> Outcome<Finished> {
        let own = ["--namespace", self.name.as_str()];
        self.world.kubectl(&[&own, words].concat())
    }

    /// The same without waiting for its end.
    pub(crate) fn kubectl_beside(&self, words: &[&str]) -> Outcome<Running> {
        let own = ["--namespace", self.name.as_str()];
        Running::start(self.world.kubectl_command(&[&own, words].concat()), None)
    }

    /// The same on a terminal on which a trial types.
    pub(crate) fn kubectl_on_a_terminal(&self, words: &[&str]) -> Outcome<Running> {
        let own = ["--namespace", self.name.as_str()];
        Running::start_on_a_terminal(&self.world.kubectl_command(&[&own, words].concat()))
    }
}

impl Drop for PodNamespace<'_> {
    // Not waited for: a trial that failed must not hold up the next ones.
    fn drop(&mut self) {
        let api: Api<NamespaceObject> = Api::all(self.world.client.clone());
        let deleted = self
            .world
            .runtime
            .block_on(api.delete(&self.name, &DeleteParams::default()));
        if let Err(error) = deleted {
            eprintln!("cannot delete the namespace {}: {error}", self.name);
        }
    }
}

/// A container that runs Python code.
pub(crate) fn python(code: &str) -> Value {
    json!({
        "name": "main", "image": crate::guests::PYTHON, "imagePullPolicy": "Never",
        "command": ["python", "-uc", code],
    })
}

/// What the kubelet says of the container of that place.
pub(crate) fn status(pod: &Pod, container: usize) -> Option<&ContainerStatus> {
    pod.status
        .as_ref()?
        .container_statuses
        .as_ref()?
        .get(container)
}

/// How the pod's only container has ended.
pub(crate) fn exit_code(pod: &Pod) -> Option<i32> {
    let state = status(pod, 0)?.state.as_ref()?;
    Some(state.terminated.as_ref()?.exit_code)
}

/// How often the pod's only container was started again.
pub(crate) fn restarts(pod: &Pod) -> i32 {
    status(pod, 0).map_or(0, |status| status.restart_count)
}

/// Whether the kubelet calls the pod ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The process of a container, as the node has it.
pub(crate) struct ProcessOnNode {
    /// Its folder in the node's /proc.
    folder: PathBuf,
}

impl ProcessOnNode {
    /// A field of its status; what is apart there is one space apart here.
    pub(crate) fn status(&self, field: &str) -> Outcome<String> {
        let status = fs::read_to_string(self.folder.join("status"))?;
        let value = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let words: Vec<&str> = value
            .ok_or_else(|| format!("no {field} in:\n{status}"))?
            .split_whitespace()
            .collect();
        Ok(words.join(" "))
    }

    /// The shim that the pod was started with, which is the process's parent: a path of the node.
    pub(crate) fn shim(&self) -> Outcome<PathBuf> {
        let parent = self.folder.with_file_name(self.status("PPid")?);
        Ok(fs::read_link(parent.join("exe"))?)
    }

    /// A file of the container.
    pub(crate) fn root(&self, path: &str) -> PathBuf {
        self.folder.join("root").join(path.trim_start_matches('/'))
    }

    /// Its cgroup in the hierarchy of a controller.
    pub(crate) fn cgroup(&self, controller: &str) -> Outcome<PathBuf> {
        let cgroups = fs::read_to_string(self.folder.join("cgroup"))?;
        let path = cgroups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let found = controllers.split(',').any(|name| name == controller);
            found.then(|| path.trim_start_matches('/').to_owned())
        });
        Ok(Path::new("/sys/fs/cgroup")
            .join(controller)
            .join(path.ok_or_else(|| format!("no {controller} in:\n{cgroups}"))?))
    }
}
