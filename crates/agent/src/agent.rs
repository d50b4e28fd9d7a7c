//! One node's agent: reads what is wanted, has it done on the node, says what came of it. Everything it knows is
//! read anew in each round, so it may be killed at any point.
//!
//! The label is on a node only while a program is known to run through the runtime there, whichever release's. What is
//! *not known* (no answer from the node) changes nothing, but not for ever: after [`UNKNOWN_ROUNDS`] in a row the
//! label goes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::runtime::events::EventType;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};
use wasm_interp_node::{Action, Choice, Outcome, Report, Status};
use wasm_interp_workload::with_causes;

use crate::backoff::{PATIENCE, pause_after};
use crate::cluster::{Cluster, ClusterError, Label};
use crate::host::{HostError, NodeHost, PolicyWanted, Ran, Runtime};
use crate::prewarm::{News, Prewarming};
use crate::ready::Readiness;
use crate::slots::{Slot, Slots};
use crate::state::{Phase, State, is_labelled};
use crate::wanted::{Wanted, now_unix};

/// Until the next look where something is expected to change soon.
const SOON: Duration = Duration::from_secs(5);
/// The least that a node which fails is left alone: a restart of containerd is not to be repeated all the time.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// So often a node is looked at that has processes of the runtime and no container.
const LAST_LOOKS: u32 = 2;
/// So many rounds in a row a node keeps its label though nobody can say whether it works.
const UNKNOWN_ROUNDS: u32 = 3;

/// Provision this node, and keep it so.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// This node's name.
    #[arg(long, env = "NODE_NAME")]
    node: String,
    /// Namespace of the release.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// This pod's name, for events.
    #[arg(long, env = "POD_NAME")]
    pod: Option<String>,
    /// ConfigMap that says what is wanted.
    #[arg(long, value_name = "NAME")]
    wanted: String,
    /// Lease that a node holds while its containerd may restart; repeat it to let more nodes at once.
    #[arg(long = "lease", value_name = "NAME", required = true)]
    leases: Vec<String>,
    /// Where the host's directories are mounted, each at its own place.
    #[arg(long, value_name = "DIR", default_value = "/host")]
    root: PathBuf,
    /// Folder on the host for releases.
    #[arg(long, value_name = "DIR", default_value = wasm_interp_node::BASE)]
    host_folder: PathBuf,
    /// Folder of the executables to install.
    #[arg(long, value_name = "DIR", default_value = "/release")]
    release: PathBuf,
    /// What runs containerd: auto, containerd, k3s, rke2, k0s or microk8s.
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = distribution)]
    distribution: Choice,
    /// Policy file for the node.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Seconds between two checks of the node.
    #[arg(long, value_name = "N", default_value_t = 300)]
    verify_seconds: u64,
    /// Image whose interpreter is compiled before the first pod asks; repeat it for more.
    #[arg(long, value_name = "IMAGE")]
    prewarm: Vec<String>,
    /// Port that is open while the node runs Wasm pods.
    #[arg(long, value_name = "PORT", default_value_t = 8086)]
    ready_port: u16,
}

fn distribution(name: &str) -> Result<Choice, String> {
    serde_json::from_value(name.into())
        .map_err(|_| format!("{name:?} is none of auto, containerd, k3s, rke2, k0s and microk8s"))
}

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error("cannot find the API server: is this a pod with a service account?")]
    Incluster(#[from] kube::config::InClusterError),
    #[error("cannot speak to the API server")]
    Client(#[source] Box<kube::Error>),
    #[error("cannot wait for signals")]
    Signal(#[from] std::io::Error),
}

/// A client for the service account of this pod.
pub(crate) fn client() -> Result<Client, AgentError> {
    let config = kube::Config::incluster()?;
    Client::try_from(config).map_err(|error| AgentError::Client(Box::new(error)))
}

/// Runs until TERM. A job that runs on the node then goes on; the next agent finds out what came of it.
pub(crate) async fn run(args: Args) -> Result<(), AgentError> {
    let client = client()?;
    let mut term = signal(SignalKind::terminate())?;
    let runtime = NodeHost::new(
        &args.root,
        &args.host_folder,
        &args.release,
        args.distribution,
        args.policy.clone(),
    );
    info!("node {}: release {}", args.node, env!("CARGO_PKG_VERSION"));
    tokio::select! {
        () = serve(client, args, runtime) => {}
        _ = term.recv() => info!("told to end"),
    }
    Ok(())
}

/// Looks after one node, for ever.
pub(crate) async fn serve(client: Client, args: Args, runtime: impl Runtime) {
    let maps = Api::namespaced(client.clone(), &args.namespace);
    let mut agent = Agent {
        cluster: Cluster::new(&client, &args.node, &args.namespace, &args.wanted, args.pod),
        runtime: Arc::new(runtime),
        slots: Slots::new(client, &args.namespace, &args.leases, &args.node),
        readiness: Readiness::closed(args.ready_port),
        changed: Arc::new(Notify::new()),
        verify: Duration::from_secs(args.verify_seconds),
        failures: 0,
        unknown: 0,
        alone_until: Instant::now(),
        installed: false,
        prewarming: Prewarming::new(args.prewarm),
    };
    tokio::select! {
        () = watch(maps, args.wanted, agent.changed.clone()) => {}
        () = agent.rounds() => {}
    }
}

/// Says when the ConfigMap changes. What it then holds is read by each round for itself.
async fn watch(maps: Api<ConfigMap>, name: String, changed: Arc<Notify>) {
    let mut changes = watcher::watch_object(maps, &name).default_backoff().boxed();
    let mut last = None;
    loop {
        match changes.next().await {
            // A watch that begins anew tells what is known, as after each restart of the API server.
            Some(Ok(map)) => {
                let data = map.and_then(|map| map.data);
                if last.as_ref() != Some(&data) {
                    last = Some(data);
                    changed.notify_one();
                }
            }
            Some(Err(error)) => warn!("cannot watch ConfigMap {name}: {}", with_causes(&error)),
            // It never ends; and if it did, rounds would still come.
            None => sleep(SOON).await,
        }
    }
}

struct Agent<R> {
    cluster: Cluster,
    runtime: Arc<R>,
    slots: Slots,
    readiness: Readiness,
    changed: Arc<Notify>,
    verify: Duration,
    /// How often in a row the node could not be provisioned.
    failures: u32,
    /// How often in a row, since this process began, the node did not say whether its runtime works.
    unknown: u32,
    /// Until then nothing is installed, as that failed; the runtime that the node has is looked at meanwhile.
    alone_until: Instant,
    /// Whether this agent's own release was installed by this process.
    installed: bool,
    prewarming: Prewarming,
}

impl<R: Runtime> Agent<R> {
    async fn rounds(&mut self) {
        loop {
            let pause = match self.round().await {
                Ok(pause) => pause,
                Err(error) => {
                    warn!("{}", with_causes(&error));
                    SOON
                }
            };
            // Either ends the pause. What failed is worth another try if something was changed.
            if timeout(pause, self.changed.notified()).await.is_ok() {
                self.alone_until = Instant::now();
            }
        }
    }

    /// Looks, and does the next thing; returns how long that is enough.
    async fn round(&mut self) -> Result<Duration, ClusterError> {
        let node = self.cluster.node().await?;
        // After the node: whoever asks for an uninstallation writes first and looks at nodes then, so either they
        // see our annotation or we see their request.
        let Some(map) = self.cluster.map().await? else {
            // The release is being deleted, or not whole yet. Nothing is wanted.
            self.readiness.set(false).await;
            return Ok(SOON);
        };
        let wanted = match Wanted::of(&map, now_unix()) {
            Ok(wanted) => wanted,
            Err(error) => {
                warn!(
                    "ConfigMap {}: {error}",
                    map.metadata.name.unwrap_or_default()
                );
                return Ok(self.verify);
            }
        };
        let expires = wanted.expires_unix();
        let pause = self.pursue(wanted, &node).await?;
        // A request that nobody takes back ends by itself.
        Ok(expires.map_or(pause, |unix| pause.min(until(unix).max(SOON))))
    }

    async fn pursue(&mut self, wanted: Wanted, node: &Node) -> Result<Duration, ClusterError> {
        match (wanted, State::of(node)) {
            (Wanted::Installed, None) => {
                let state = State::new(Phase::Preparing, "about to look at the node");
                self.cluster.say(node, &state, Label::Keep).await?;
                Ok(Duration::ZERO)
            }
            (Wanted::Installed, Some(_)) => self.install(node).await,
            // Nothing of ours is there.
            (_, None) => {
                self.readiness.set(false).await;
                Ok(self.verify)
            }
            // It has its answer already.
            (Wanted::Released { request, .. }, Some(state))
                if state.request.as_ref() == Some(&request)
                    && state.phase != Phase::Uninstalling =>
            {
                Ok(self.verify)
            }
            (Wanted::Removed { request, .. }, Some(state))
                if state.request.as_ref() == Some(&request)
                    && matches!(state.phase, Phase::InUse | Phase::Failed) =>
            {
                Ok(self.verify)
            }
            (Wanted::Released { request, .. }, Some(state)) => {
                self.release(node, &state, &request).await
            }
            (
                Wanted::Removed {
                    request,
                    expires_unix,
                },
                Some(_),
            ) => self.remove(node, &request, expires_unix).await,
        }
    }

    /// The node shall run Wasm pods.
    async fn install(&mut self, node: &Node) -> Result<Duration, ClusterError> {
        let settled = self.settle_policy(PolicyWanted::AsTheChartSays).await;
        // Whatever came of the policy: the label is about what runs now.
        let (label, verified) = match self.verify(node).await {
            (_, Err(error)) if error.is_busy() => return Ok(SOON),
            verified => verified,
        };
        if let Err(error) = settled {
            return self.failed(node, &with_causes(&error), label).await;
        }
        match verified {
            Ok(Ran { report, shim }) => {
                let status = report.status.as_ref();
                let is_ours = self.installed
                    || status.is_some_and(|status| status.running.as_ref() == Some(&shim));
                let lingers = status.is_some_and(|status| lingers(status, &shim));
                if report.holds() && is_ours && !lingers {
                    return self.ready(node).await;
                }
                info!("to be installed: {}", report.message);
                // In an upgrade the older release serves meanwhile.
                if !report.holds() && is_labelled(node) {
                    self.readiness.set(false).await;
                    let state = State::new(Phase::Failed, &report.message);
                    self.cluster.say(node, &state, Label::Remove).await?;
                }
                let alone = self.alone_until.saturating_duration_since(Instant::now());
                if !alone.is_zero() {
                    return Ok(self.pause(node, label, alone));
                }
            }
            Err(error) => return self.failed(node, &with_causes(&error), label).await,
        }

        let Some(slot) = self.slot(node).await? else {
            return Ok(Duration::ZERO);
        };
        let state = State::new(
            Phase::Installing,
            "containerd is configured, and restarted if that changed it",
        );
        let said = self.say_now(&state, Label::Keep).await;
        let outcome = match said {
            Ok(()) => Ok(self.job(Action::Install).await),
            Err(error) => Err(error),
        };
        slot.give_back().await;
        let outcome = outcome?;
        let node = &self.cluster.node().await?;
        let (message, pause) = match outcome {
            Ok(report) if report.holds() => {
                self.installed = true;
                return self.ready(node).await;
            }
            Ok(report) => match report.outcome {
                Outcome::Reverted {
                    retry_after_unix, ..
                } => (report.message, Some(until(retry_after_unix).max(SOON))),
                _ => (report.message, None),
            },
            Err(error) if error.is_busy() => return Ok(SOON),
            Err(error) => (with_causes(&error).to_string(), None),
        };
        // What worked before need not do so after what was tried, nor after it was taken back.
        let label = if is_labelled(node) {
            self.verify(node).await.0
        } else {
            Label::Keep
        };
        self.failed(node, &message, label).await?;
        let pause = pause.unwrap_or_else(|| pause_after(self.failures, FIRST_PAUSE));
        self.alone_until = Instant::now() + pause;
        Ok(self.pause(node, label, pause))
    }

    /// How long a node is left alone: one that keeps its label is looked at as often as one that is ready.
    fn pause(&self, node: &Node, label: Label, alone: Duration) -> Duration {
        if label == Label::Keep && is_labelled(node) {
            alone.min(self.verify)
        } else {
            alone
        }
    }

    /// Runs a program through the runtime that the node has. What becomes of a label that is there: it stays if that
    /// works.
    async fn verify(&mut self, node: &Node) -> (Label, Result<Ran, HostError>) {
        let verified = self.run_job(Action::Verify).await;
        let label = match &verified {
            Ok(Ran { report, .. }) => {
                self.unknown = 0;
                if report.holds() {
                    Label::Keep
                } else {
                    Label::Remove
                }
            }
            // Somebody's job runs, and is limited in time.
            Err(error) if error.is_busy() => Label::Keep,
            Err(_) => {
                self.unknown = self.unknown.saturating_add(1);
                if self.unknown > UNKNOWN_ROUNDS {
                    if is_labelled(node) {
                        warn!(
                            "the label goes: {UNKNOWN_ROUNDS} times nobody could say whether the runtime works"
                        );
                    }
                    Label::Remove
                } else {
                    Label::Keep
                }
            }
        };
        (label, verified)
    }

    /// As [`Cluster::say`], about the node as it is now.
    async fn say_now(&self, state: &State, label: Label) -> Result<(), ClusterError> {
        let node = self.cluster.node().await?;
        self.cluster.say(&node, state, label).await
    }

    async fn ready(&mut self, node: &Node) -> Result<Duration, ClusterError> {
        self.failures = 0;
        self.say_ready(node).await?;
        self.readiness.set(true).await;
        // Only now, and beside everything else: pods run without it, and compile for themselves.
        let news = self
            .prewarming
            .look(&self.runtime, &self.changed, self.verify);
        let (kind, reason, note) = match &news {
            None => return Ok(self.verify),
            Some(News::Done(note)) => (EventType::Normal, "WasmInterpPrewarmed", note),
            Some(News::Failed(note)) => {
                warn!("{note}");
                (EventType::Warning, "WasmInterpPrewarmFailed", note)
            }
        };
        self.cluster.publish(node, kind, reason, note).await;
        let node = &self.cluster.node().await?;
        self.say_ready(node).await?;
        Ok(self.verify)
    }

    async fn say_ready(&self, node: &Node) -> Result<(), ClusterError> {
        let runs = "runs Wasm pods";
        let message = match self.prewarming.complaint() {
            None => runs.to_owned(),
            Some(complaint) => format!("{runs}; {complaint}"),
        };
        let state = State::new(Phase::Ready, message);
        self.cluster.say(node, &state, Label::Set).await
    }

    async fn failed(
        &mut self,
        node: &Node,
        message: &str,
        label: Label,
    ) -> Result<Duration, ClusterError> {
        warn!("{message}");
        self.readiness.set(false).await;
        self.cluster
            .say(node, &State::new(Phase::Failed, message), label)
            .await?;
        self.failures += 1;
        Ok(self.pause(node, label, pause_after(self.failures, FIRST_PAUSE)))
    }

    /// The node shall take no new Wasm pods, and say whether there are any.
    async fn release(
        &mut self,
        node: &Node,
        state: &State,
        request: &str,
    ) -> Result<Duration, ClusterError> {
        self.readiness.set(false).await;
        // The label first: the kubelet refuses what the scheduler sent before.
        self.cluster.say(node, state, Label::Remove).await?;
        let node = &self.cluster.node().await?;
        let released = || {
            State::new(Phase::Released, "takes no Wasm pods any more, and has none")
                .answering(request)
        };
        match self.last_look().await {
            Ok(Report {
                status: Some(status),
                ..
            }) => match users(&status) {
                users if users.is_empty() => {
                    self.cluster.say(node, &released(), Label::Remove).await?;
                }
                users => self.in_use(node, users, request).await?,
            },
            Ok(report) => self.cannot(node, &report.message, request).await?,
            Err(error) if error.is_busy() => return Ok(SOON),
            Err(error) if error.means_untouched() => {
                self.cluster.say(node, &released(), Label::Remove).await?;
            }
            Err(error) => self.cannot(node, &with_causes(&error), request).await?,
        }
        Ok(self.verify)
    }

    /// What uses the runtime, once the processes of containers that are gone had time to end.
    async fn last_look(&self) -> Result<Report, HostError> {
        for _ in 0..LAST_LOOKS {
            let report = self.job(Action::Status).await?;
            let ends = report
                .status
                .as_ref()
                .is_some_and(|status| status.containers.is_empty() && !users(status).is_empty());
            if !ends {
                return Ok(report);
            }
            sleep(SOON).await;
        }
        self.job(Action::Status).await
    }

    /// Nothing of ours shall be on the node.
    async fn remove(
        &mut self,
        node: &Node,
        request: &str,
        expires_unix: u64,
    ) -> Result<Duration, ClusterError> {
        self.readiness.set(false).await;
        let Some(slot) = self.slot_for(node, Some(request)).await? else {
            return Ok(Duration::ZERO);
        };
        if now_unix() >= expires_unix {
            // It was waited for too long: nobody asks any more.
            slot.give_back().await;
            return Ok(Duration::ZERO);
        }
        let state = State::new(Phase::Uninstalling, "the runtime is taken away").answering(request);
        if let Err(error) = self.say_now(&state, Label::Remove).await {
            slot.give_back().await;
            return Err(error);
        }
        self.installed = false;
        self.prewarming.forget();
        // The policy first: the job removes its folder if nothing else is in it. A round of `install` brings it back.
        let outcome = match self.settle_policy(PolicyWanted::None).await {
            Ok(()) => self.job(Action::Uninstall { force: false }).await,
            Err(error) => Err(error),
        };
        slot.give_back().await;
        let node = &self.cluster.node().await?;
        match outcome {
            Ok(report) if report.holds() => self.cluster.forget(node, &report.message).await?,
            Ok(Report {
                outcome: Outcome::InUse { containers },
                ..
            }) => {
                let users = containers.iter().map(user).collect();
                self.in_use(node, users, request).await?;
            }
            Ok(report) => self.cannot(node, &report.message, request).await?,
            Err(error) if error.is_busy() => return Ok(SOON),
            Err(error) if error.means_untouched() => {
                self.cluster.forget(node, "nothing was installed").await?;
            }
            Err(error) => self.cannot(node, &with_causes(&error), request).await?,
        }
        Ok(self.verify)
    }

    /// It stays, so it may be used: with the policy, which a removal takes away first, and if it works.
    async fn in_use(
        &self,
        node: &Node,
        users: BTreeSet<String>,
        request: &str,
    ) -> Result<(), ClusterError> {
        let names: Vec<&str> = users.iter().map(String::as_str).collect();
        let message = format!(
            "cannot be uninstalled while it is used by {}",
            names.join(", ")
        );
        warn!("{message}");
        let works = match self.settle_policy(PolicyWanted::AsTheChartSays).await {
            Ok(()) => self.job(Action::Verify).await,
            Err(error) => Err(error),
        };
        let label = match works {
            Ok(report) if report.holds() => Label::Set,
            Ok(report) => {
                warn!("it gets no label: {}", report.message);
                Label::Remove
            }
            Err(error) => {
                warn!("it gets no label: {}", with_causes(&error));
                Label::Remove
            }
        };
        let state = State::new(Phase::InUse, message)
            .answering(request)
            .used_by(users);
        self.cluster.say(node, &state, label).await
    }

    async fn cannot(&self, node: &Node, message: &str, request: &str) -> Result<(), ClusterError> {
        warn!("{message}");
        let state = State::new(Phase::Failed, message).answering(request);
        self.cluster.say(node, &state, Label::Remove).await?;
        // Said first: this ends the process if the removal came as far as the policy's folder.
        if let Err(error) = self.settle_policy(PolicyWanted::AsTheChartSays).await {
            warn!("{}", with_causes(&error));
        }
        Ok(())
    }

    async fn slot(&mut self, node: &Node) -> Result<Option<Slot>, ClusterError> {
        self.slot_for(node, None).await
    }

    /// Waits for the right to restart containerd; `None` if something else is wanted meanwhile, or it is time to look
    /// at the node again.
    async fn slot_for(
        &mut self,
        node: &Node,
        request: Option<&str>,
    ) -> Result<Option<Slot>, ClusterError> {
        let began = Instant::now();
        let mut said = false;
        loop {
            if let Some(slot) = self.slots.try_take().await? {
                return Ok(Some(slot));
            }
            if !said {
                let mut state =
                    State::new(Phase::Waiting, "other nodes restart their containerd first");
                state.request = request.map(str::to_owned);
                self.cluster.say(node, &state, Label::Keep).await?;
                said = true;
            }
            let changed = timeout(SOON, self.changed.notified()).await.is_ok();
            if changed || began.elapsed() > self.verify {
                return Ok(None);
            }
        }
    }

    async fn job(&self, action: Action) -> Result<Report, HostError> {
        Ok(self.run_job(action).await?.report)
    }

    async fn run_job(&self, action: Action) -> Result<Ran, HostError> {
        let runtime = self.runtime.clone();
        off_thread(move || runtime.run(action)).await
    }

    async fn settle_policy(&self, wanted: PolicyWanted) -> Result<(), HostError> {
        let runtime = self.runtime.clone();
        off_thread(move || runtime.settle_policy(wanted)).await
    }
}

/// Runs what blocks beside this thread.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Whether an older release is on the node that nobody uses any more: installing ours once more takes it away.
fn lingers(status: &Status, shim: &Path) -> bool {
    status
        .releases
        .iter()
        .any(|release| !release.in_use && !shim.starts_with(&release.folder))
}

/// Its containers; where there are none, processes that an uninstallation would stop at.
fn users(status: &Status) -> BTreeSet<String> {
    if !status.containers.is_empty() {
        return status.containers.iter().map(user).collect();
    }
    let processes = status.releases.iter().flat_map(|release| {
        let folder = release.folder.display();
        let pids = release.pids.iter();
        pids.map(move |pid| format!("process {pid}, which runs from {folder}"))
    });
    processes.collect()
}

fn user(container: &wasm_interp_node::Container) -> String {
    container
        .pod
        .clone()
        .unwrap_or_else(|| container.to_string())
}

fn until(unix: u64) -> Duration {
    Duration::from_secs(unix.saturating_sub(now_unix())).min(PATIENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_have_the_names_of_the_node_installer() {
        use wasm_interp_node::Distribution::{Containerd, K0s, K3s, MicroK8s, Rke2};
        assert_eq!(distribution("auto"), Ok(Choice::Auto));
        let named = [
            ("containerd", Containerd),
            ("k3s", K3s),
            ("rke2", Rke2),
            ("k0s", K0s),
            ("microk8s", MicroK8s),
        ];
        for (name, wanted) in named {
            assert_eq!(distribution(name), Ok(Choice::Named(wanted)), "{name}");
        }
        assert!(distribution("bottlerocket").is_err_and(|text| text.contains("microk8s")));
    }
}
