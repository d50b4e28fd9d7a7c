//! `wasm-interp-agent run`: its arguments, and the loop that looks after one node until TERM.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{info, warn};
use wasm_interp_node::DistributionChoice;
use wasm_interp_workload::with_causes;

use crate::agent::{Agent, FIRST_PAUSE};
use crate::kube_api::{ClientError, KubeApi, client};
use crate::node_jobs::{HostJobs, NodeJobs};
use crate::prewarm::PrewarmTask;
use crate::readiness::Readiness;
use crate::restart_lease::RestartLeases;

/// The pause after a watch has ended, which does not happen.
const WATCH_PAUSE: Duration = Duration::from_secs(5);

/// Install the runtime on this node, and keep it installed.
#[derive(clap::Args)]
pub(crate) struct AgentArgs {
    /// This node's name.
    #[arg(long, env = "NODE_NAME")]
    node: String,
    /// Namespace of the release.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// This pod's name, for events.
    #[arg(long, env = "POD_NAME")]
    pod: Option<String>,
    /// ConfigMap with the desired state of the nodes.
    #[arg(long, value_name = "NAME")]
    wanted: String,
    /// Lease that a node holds while its containerd may restart. Repeat it to let more nodes restart at once.
    #[arg(long = "lease", value_name = "NAME", required = true)]
    leases: Vec<String>,
    /// Folder in which the host's directories are mounted, each at its own path.
    #[arg(long, value_name = "DIR", default_value = "/host")]
    root: PathBuf,
    /// Folder on the host for releases.
    #[arg(long, value_name = "DIR", default_value = wasm_interp_node::BASE)]
    host_folder: PathBuf,
    /// Folder of the executables to install.
    #[arg(long, value_name = "DIR", default_value = "/release")]
    release: PathBuf,
    /// Layout of containerd: auto, containerd, k3s, rke2, k0s or microk8s.
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = distribution)]
    distribution: DistributionChoice,
    /// Policy file for the node.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Seconds between two checks of the node.
    #[arg(long, value_name = "N", default_value_t = 300)]
    verify_seconds: u64,
    /// Image whose interpreter is compiled before the first pod needs it. Repeat it for more images.
    #[arg(long, value_name = "IMAGE")]
    prewarm: Vec<String>,
    /// Port that is open while the node runs Wasm pods.
    #[arg(long, value_name = "PORT", default_value_t = 8086)]
    ready_port: u16,
}

fn distribution(name: &str) -> Result<DistributionChoice, String> {
    serde_json::from_value(name.into())
        .map_err(|_| format!("{name:?} is none of auto, containerd, k3s, rke2, k0s and microk8s"))
}

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentRunError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot wait for signals: {0}; raise the limit of open files")]
    Signal(#[from] std::io::Error),
}

/// Runs until TERM. A job that runs on the node then continues, and the next agent finds out its result.
pub(crate) async fn run(args: AgentArgs) -> Result<(), AgentRunError> {
    let client = client()?;
    let mut term = signal(SignalKind::terminate())?;
    let jobs = HostJobs::new(
        &args.root,
        &args.host_folder,
        &args.release,
        args.distribution,
        args.policy.clone(),
    );
    info!("node {}: release {}", args.node, env!("CARGO_PKG_VERSION"));
    tokio::select! {
        () = serve(client, args, jobs, FIRST_PAUSE) => {}
        _ = term.recv() => info!("received TERM"),
    }
    Ok(())
}

/// Looks after one node. Never returns. `first_pause` is that after the first failed installation.
pub(crate) async fn serve(
    client: Client,
    args: AgentArgs,
    jobs: impl NodeJobs,
    first_pause: Duration,
) {
    let maps = Api::namespaced(client.clone(), &args.namespace);
    let changed = Arc::new(Notify::new());
    let check_interval = Duration::from_secs(args.verify_seconds);
    let api = KubeApi::new(&client, &args.node, &args.namespace, &args.wanted, args.pod);
    let leases = RestartLeases::new(client, &args.namespace, &args.leases, &args.node);
    let mut agent = Agent::new(
        api,
        jobs,
        leases,
        Readiness::closed(args.ready_port),
        changed.clone(),
        check_interval,
        PrewarmTask::new(args.prewarm, check_interval),
    )
    .with_first_pause(first_pause);
    tokio::select! {
        () = watch(maps, args.wanted, changed) => {}
        () = agent.run() => {}
    }
}

/// Notifies when the content of the ConfigMap changes. The agent reads the content itself.
async fn watch(maps: Api<ConfigMap>, name: String, changed: Arc<Notify>) {
    let mut changes = watcher::watch_object(maps, &name).default_backoff().boxed();
    let mut last = None;
    loop {
        match changes.next().await {
            // A new watch, as after each restart of the API server, begins with the content that is known already.
            Some(Ok(map)) => {
                let data = map.and_then(|map| map.data);
                if last.as_ref() != Some(&data) {
                    last = Some(data);
                    changed.notify_one();
                }
            }
            Some(Err(error)) => warn!("cannot watch ConfigMap {name}: {}", with_causes(&error)),
            // It does not end. If it did, the agent would still check the node at its intervals.
            None => sleep(WATCH_PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_have_the_names_of_the_command_line() {
        use wasm_interp_node::Distribution::{Containerd, K0s, K3s, MicroK8s, Rke2};
        assert_eq!(distribution("auto"), Ok(DistributionChoice::Auto));
        let named = [
            ("containerd", Containerd),
            ("k3s", K3s),
            ("rke2", Rke2),
            ("k0s", K0s),
            ("microk8s", MicroK8s),
        ];
        for (name, wanted) in named {
            assert_eq!(
                distribution(name),
                Ok(DistributionChoice::Named(wanted)),
                "{name}"
            );
        }
        assert!(distribution("bottlerocket").is_err_and(|text| text.contains("microk8s")));
    }
}
