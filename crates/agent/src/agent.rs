//! The agent of one node: reads the desired state, runs the job for it, and reports the result. It reads everything again
//! in each check, so it may be killed at any point.
//!
//! A node has the label only while a program is known to run through its runtime, the runtime of any release. If a check
//! gives no result, the label stays, but not for more than [`UNKNOWN_CHECKS`] checks in a row.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::runtime::events::EventType;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};
use wasm_interp_node::{JobAction, JobOutcome, JobReport, NodeStatus, RuntimeContainer};
use wasm_interp_workload::with_causes;

use crate::backoff::{Backoff, LONGEST_PAUSE};
use crate::desired_state::{DesiredState, now_unix};
use crate::kube_api::{KubeApi, KubeApiError, LabelChange};
use crate::node_jobs::{FinishedJob, NodeJobError, NodeJobs};
use crate::node_state::{NodeState, Phase, is_labelled};
use crate::prewarm::{PrewarmResult, PrewarmTask};
use crate::readiness::Readiness;
use crate::restart_lease::{HeldLease, RestartLeases};

/// The interval of checks while something is expected to change soon.
const SOON: Duration = Duration::from_secs(5);
/// The pause after the first failed installation, which may have restarted containerd.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// How often a node is checked again that has processes of the runtime, but no container.
const EXTRA_CHECKS: u32 = 2;
/// How many checks in a row without a result leave the label on the node.
const UNKNOWN_CHECKS: u32 = 3;

/// The agent of one node.
pub(crate) struct Agent<J> {
    api: KubeApi,
    jobs: Arc<J>,
    leases: RestartLeases,
    readiness: Readiness,
    /// Notified when the desired state may have changed, or when prewarming ends.
    changed: Arc<Notify>,
    check_interval: Duration,
    /// The desired state at the last check.
    last_desired: Option<BTreeMap<String, String>>,
    /// Failures in a row, and the pause in which nothing is installed. The runtime on the node is still checked.
    backoff: Backoff,
    /// How many checks in a row had no result, since this process started.
    unknown_checks: u32,
    /// Whether this process has installed its release.
    installed: bool,
    prewarming: PrewarmTask,
}

impl<J: NodeJobs> Agent<J> {
    pub(crate) fn new(
        api: KubeApi,
        jobs: J,
        leases: RestartLeases,
        readiness: Readiness,
        changed: Arc<Notify>,
        check_interval: Duration,
        prewarming: PrewarmTask,
    ) -> Self {
        Self {
            api,
            jobs: Arc::new(jobs),
            leases,
            readiness,
            changed,
            check_interval,
            last_desired: None,
            backoff: Backoff::new(FIRST_PAUSE),
            unknown_checks: 0,
            installed: false,
            prewarming,
        }
    }

    /// The same agent with another pause after the first failed installation.
    pub(crate) fn with_first_pause(mut self, pause: Duration) -> Self {
        self.backoff = Backoff::new(pause);
        self
    }

    /// Checks the node again and again. Never returns.
    pub(crate) async fn run(&mut self) {
        loop {
            let pause = match self.check().await {
                Ok(pause) => pause,
                Err(error) => {
                    warn!("{}", with_causes(&error));
                    SOON
                }
            };
            // Whether it was notified or not, it checks the node now.
            let _ = timeout(pause, self.changed.notified()).await;
        }
    }

    /// Takes the next step to the desired state. Returns the pause before the next check.
    async fn check(&mut self) -> Result<Duration, KubeApiError> {
        let node = self.api.node().await?;
        // After the Node: the uninstall hook writes its request first and then reads the nodes. So either the hook sees
        // our annotation, or we see its request.
        let Some(map) = self.api.config_map().await? else {
            // The release is being created or deleted: there is no desired state.
            self.readiness.set(false).await;
            return Ok(SOON);
        };
        // After a change, a failed installation is tried again at once.
        if self.last_desired != map.data {
            self.last_desired.clone_from(&map.data);
            self.backoff.end_pause();
        }
        let desired = match DesiredState::of(&map, now_unix()) {
            Ok(desired) => desired,
            Err(error) => {
                let name = map.metadata.name.unwrap_or_default();
                warn!("cannot use ConfigMap {name}: {error}");
                return Ok(self.check_interval);
            }
        };
        let expires = desired.expires_unix();
        let pause = self.step_towards(desired, &node).await?;
        // A request ends by itself if its hook does not withdraw it.
        Ok(expires.map_or(pause, |unix| pause.min(until(unix).max(SOON))))
    }

    async fn step_towards(
        &mut self,
        desired: DesiredState,
        node: &Node,
    ) -> Result<Duration, KubeApiError> {
        match (desired, NodeState::of(node)) {
            (DesiredState::Installed, None) => {
                let state = NodeState::new(Phase::Preparing, "about to check the node");
                self.api
                    .report_state(node, &state, LabelChange::Keep)
                    .await?;
                Ok(Duration::ZERO)
            }
            (DesiredState::Installed, Some(_)) => self.install(node).await,
            // The node has nothing of ours.
            (_, None) => {
                self.readiness.set(false).await;
                Ok(self.check_interval)
            }
            // The node has replied to this request already.
            (DesiredState::Released { request, .. }, Some(state))
                if state.request.as_ref() == Some(&request)
                    && state.phase != Phase::Uninstalling =>
            {
                Ok(self.check_interval)
            }
            (DesiredState::Removed { request, .. }, Some(state))
                if state.request.as_ref() == Some(&request)
                    && matches!(state.phase, Phase::InUse | Phase::Failed) =>
            {
                Ok(self.check_interval)
            }
            (DesiredState::Released { request, .. }, Some(state)) => {
                self.release(node, &state, &request).await
            }
            (
                DesiredState::Removed {
                    request,
                    expires_unix,
                },
                Some(_),
            ) => self.remove(node, &request, expires_unix).await,
        }
    }

    /// Verifies the runtime, and installs it if necessary.
    async fn install(&mut self, node: &Node) -> Result<Duration, KubeApiError> {
        let (label, verified) = self.verify(node).await;
        let FinishedJob { report, shim } = match verified {
            Ok(job) => job,
            Err(error) if error.is_busy() => return Ok(SOON),
            Err(error) => {
                let pause = self.failed(node, &with_causes(&error), label).await?;
                return Ok(self.limited_pause(node, label, pause));
            }
        };
        // The label depends on what runs now, not on the policy.
        if let Some(error) = &report.policy_error {
            let pause = self.failed(node, error, label).await?;
            return Ok(self.limited_pause(node, label, pause));
        }
        if !self.needs_install(&report, &shim) {
            return self.ready(node).await;
        }
        info!("installing the runtime: {}", report.message);
        // During an upgrade, the older release continues to serve.
        if !report.succeeded() && is_labelled(node) {
            self.readiness.set(false).await;
            let state = NodeState::new(Phase::Failed, &report.message);
            self.api
                .report_state(node, &state, LabelChange::Remove)
                .await?;
        }
        let rest = self.backoff.remaining();
        if !rest.is_zero() {
            return Ok(self.limited_pause(node, label, rest));
        }
        let Some(lease) = self.acquire_lease(node, None).await? else {
            return Ok(Duration::ZERO);
        };
        self.install_with(lease).await
    }

    /// Whether the runtime does not work, is that of another release, or has left an unused release on the node.
    fn needs_install(&self, report: &JobReport, shim: &Path) -> bool {
        let status = report.status.as_ref();
        let runs_ours = status.is_some_and(|status| status.running.as_deref() == Some(shim));
        let has_unused_release = status.is_some_and(|status| has_unused_release(status, shim));
        !report.succeeded() || !(self.installed || runs_ours) || has_unused_release
    }

    /// Runs the job that installs, releases the Lease in any case, and reports what came of it.
    async fn install_with(&mut self, lease: HeldLease) -> Result<Duration, KubeApiError> {
        let message = "a job configures containerd, and restarts it if necessary";
        let state = NodeState::new(Phase::Installing, message);
        if let Err(error) = self.report_current(&state, LabelChange::Keep).await {
            lease.release().await;
            return Err(error);
        }
        let job = self.run_job(JobAction::Install).await;
        lease.release().await;
        self.finish_install(job.map(|job| job.report)).await
    }

    async fn finish_install(
        &mut self,
        installed: Result<JobReport, NodeJobError>,
    ) -> Result<Duration, KubeApiError> {
        let node = &self.api.node().await?;
        let (message, retry_at) = match installed {
            Ok(report) if report.succeeded() => {
                self.installed = true;
                return self.ready(node).await;
            }
            Ok(report) => match report.outcome {
                JobOutcome::Reverted {
                    retry_after_unix, ..
                } => (report.message, Some(retry_after_unix)),
                _ => (report.message, None),
            },
            Err(error) if error.is_busy() => return Ok(SOON),
            Err(error) => (with_causes(&error), None),
        };
        // A runtime that worked before may not work after the attempt, even if the attempt was undone.
        let label = if is_labelled(node) {
            self.verify(node).await.0
        } else {
            LabelChange::Keep
        };
        let pause = self.failed(node, &message, label).await?;
        let pause = retry_at.map_or(pause, |unix| until(unix).max(SOON));
        self.backoff.pause(pause);
        Ok(self.limited_pause(node, label, pause))
    }

    /// A node that keeps its label is checked as often as a node that is ready.
    fn limited_pause(&self, node: &Node, label: LabelChange, pause: Duration) -> Duration {
        if label == LabelChange::Keep && is_labelled(node) {
            pause.min(self.check_interval)
        } else {
            pause
        }
    }

    /// Runs a program through the runtime on the node. Also returns what has to become of a label that the node has.
    async fn verify(&mut self, node: &Node) -> (LabelChange, Result<FinishedJob, NodeJobError>) {
        let verified = self.run_job(JobAction::Verify).await;
        let label = match &verified {
            Ok(job) => {
                self.unknown_checks = 0;
                if job.report.succeeded() {
                    LabelChange::Keep
                } else {
                    LabelChange::Remove
                }
            }
            // Another job runs, and has a limit.
            Err(error) if error.is_busy() => LabelChange::Keep,
            Err(_) => {
                self.unknown_checks = self.unknown_checks.saturating_add(1);
                if self.unknown_checks <= UNKNOWN_CHECKS {
                    LabelChange::Keep
                } else {
                    if is_labelled(node) {
                        warn!(
                            "removing the label: more than {UNKNOWN_CHECKS} checks in a row had \
                             no result"
                        );
                    }
                    LabelChange::Remove
                }
            }
        };
        (label, verified)
    }

    /// Reports the state of the Node as it is now.
    async fn report_current(
        &self,
        state: &NodeState,
        label: LabelChange,
    ) -> Result<(), KubeApiError> {
        let node = self.api.node().await?;
        self.api.report_state(&node, state, label).await
    }

    async fn ready(&mut self, node: &Node) -> Result<Duration, KubeApiError> {
        self.backoff.reset();
        self.report_ready(node).await?;
        self.readiness.set(true).await;
        // Only now, and in the background: pods run without it, and compile for themselves.
        let (kind, reason, note) = match self.prewarming.poll(&self.jobs, &self.changed) {
            None => return Ok(self.check_interval),
            Some(PrewarmResult::Done(note)) => (EventType::Normal, "WasmInterpPrewarmed", note),
            Some(PrewarmResult::Failed(note)) => {
                warn!("{note}");
                (EventType::Warning, "WasmInterpPrewarmFailed", note)
            }
        };
        self.api.publish_event(node, kind, reason, &note).await;
        let node = &self.api.node().await?;
        self.report_ready(node).await?;
        Ok(self.check_interval)
    }

    async fn report_ready(&self, node: &Node) -> Result<(), KubeApiError> {
        let ready = "runs Wasm pods";
        let message = match self.prewarming.failure() {
            None => ready.to_owned(),
            Some(failure) => format!("{ready}; {failure}"),
        };
        let state = NodeState::new(Phase::Ready, message);
        self.api.report_state(node, &state, LabelChange::Set).await
    }

    /// Reports a failure. Returns the pause before the next attempt.
    async fn failed(
        &mut self,
        node: &Node,
        message: &str,
        label: LabelChange,
    ) -> Result<Duration, KubeApiError> {
        warn!("{message}");
        self.readiness.set(false).await;
        let state = NodeState::new(Phase::Failed, message);
        self.api.report_state(node, &state, label).await?;
        Ok(self.backoff.count_failure())
    }

    /// Removes the label, so that the node gets no new Wasm pods, and reports the pods that it has.
    async fn release(
        &mut self,
        node: &Node,
        state: &NodeState,
        request: &str,
    ) -> Result<Duration, KubeApiError> {
        self.readiness.set(false).await;
        // The label first: then the kubelet refuses pods that the scheduler has assigned before.
        self.api
            .report_state(node, state, LabelChange::Remove)
            .await?;
        let node = &self.api.node().await?;
        match self.status_after_last_processes().await {
            Ok(JobReport {
                status: Some(status),
                ..
            }) => match users(&status) {
                users if users.is_empty() => self.released(node, request).await?,
                users => self.in_use(node, users, request).await?,
            },
            Ok(report) => {
                self.cannot_uninstall(node, &report.message, request)
                    .await?;
            }
            Err(error) if error.is_busy() => return Ok(SOON),
            Err(error) if error.means_unchanged() => self.released(node, request).await?,
            Err(error) => {
                self.cannot_uninstall(node, &with_causes(&error), request)
                    .await?;
            }
        }
        Ok(self.check_interval)
    }

    async fn released(&self, node: &Node, request: &str) -> Result<(), KubeApiError> {
        let message = "has no Wasm pods and gets no new ones";
        let state = NodeState::new(Phase::Released, message).replying_to(request);
        self.api
            .report_state(node, &state, LabelChange::Remove)
            .await
    }

    /// The status of the node, after the processes of deleted containers had time to end.
    async fn status_after_last_processes(&self) -> Result<JobReport, NodeJobError> {
        for _ in 0..EXTRA_CHECKS {
            let report = self.run_job(JobAction::Status).await?.report;
            let has_only_processes = report
                .status
                .as_ref()
                .is_some_and(|status| status.containers.is_empty() && !users(status).is_empty());
            if !has_only_processes {
                return Ok(report);
            }
            sleep(SOON).await;
        }
        Ok(self.run_job(JobAction::Status).await?.report)
    }

    /// Removes the runtime from the node.
    async fn remove(
        &mut self,
        node: &Node,
        request: &str,
        expires_unix: u64,
    ) -> Result<Duration, KubeApiError> {
        self.readiness.set(false).await;
        let Some(lease) = self.acquire_lease(node, Some(request)).await? else {
            return Ok(Duration::ZERO);
        };
        if now_unix() >= expires_unix {
            // The request has expired while this node waited for the Lease.
            lease.release().await;
            return Ok(Duration::ZERO);
        }
        let state = NodeState::new(Phase::Uninstalling, "a job removes the runtime");
        let state = state.replying_to(request);
        if let Err(error) = self.report_current(&state, LabelChange::Remove).await {
            lease.release().await;
            return Err(error);
        }
        self.installed = false;
        self.prewarming.restart();
        let uninstalled = self.run_job(JobAction::Uninstall { force: false }).await;
        lease.release().await;
        let node = &self.api.node().await?;
        match uninstalled.map(|job| job.report) {
            Ok(report) if report.succeeded() => {
                self.api.clear_state(node, &report.message).await?;
            }
            Ok(JobReport {
                outcome: JobOutcome::InUse { containers },
                ..
            }) => {
                let users = containers.iter().map(user).collect();
                self.in_use(node, users, request).await?;
            }
            Ok(report) => {
                self.cannot_uninstall(node, &report.message, request)
                    .await?;
            }
            Err(error) if error.is_busy() => return Ok(SOON),
            Err(error) if error.means_unchanged() => {
                self.api.clear_state(node, "nothing was installed").await?;
            }
            Err(error) => {
                self.cannot_uninstall(node, &with_causes(&error), request)
                    .await?;
            }
        }
        Ok(self.check_interval)
    }

    /// Pods use the runtime, so it stays. The node gets the label back if the runtime works with the chart's policy.
    async fn in_use(
        &self,
        node: &Node,
        users: BTreeSet<String>,
        request: &str,
    ) -> Result<(), KubeApiError> {
        let names: Vec<&str> = users.iter().map(String::as_str).collect();
        let message = format!(
            "cannot uninstall the runtime: it is used by {}",
            names.join(", ")
        );
        warn!("{message}");
        let problem = match self.run_job(JobAction::Verify).await {
            Ok(FinishedJob { report, .. }) if !report.succeeded() => Some(report.message),
            Ok(FinishedJob { report, .. }) => report.policy_error,
            Err(error) => Some(with_causes(&error)),
        };
        let label = match problem {
            None => LabelChange::Set,
            Some(problem) => {
                warn!("the node does not get the label back: {problem}");
                LabelChange::Remove
            }
        };
        let state = NodeState::new(Phase::InUse, message)
            .replying_to(request)
            .used_by(users);
        self.api.report_state(node, &state, label).await
    }

    async fn cannot_uninstall(
        &self,
        node: &Node,
        message: &str,
        request: &str,
    ) -> Result<(), KubeApiError> {
        warn!("{message}");
        let state = NodeState::new(Phase::Failed, message).replying_to(request);
        self.api
            .report_state(node, &state, LabelChange::Remove)
            .await
    }

    /// Waits for a Lease to restart containerd. `None` if the desired state changes, or if the next check is due.
    async fn acquire_lease(
        &mut self,
        node: &Node,
        request: Option<&str>,
    ) -> Result<Option<HeldLease>, KubeApiError> {
        let began = Instant::now();
        let mut is_reported = false;
        loop {
            if let Some(lease) = self.leases.try_acquire().await? {
                return Ok(Some(lease));
            }
            if !is_reported {
                let message = "other nodes restart their containerd first";
                let mut state = NodeState::new(Phase::Waiting, message);
                state.request = request.map(str::to_owned);
                self.api
                    .report_state(node, &state, LabelChange::Keep)
                    .await?;
                is_reported = true;
            }
            let changed = timeout(SOON, self.changed.notified()).await.is_ok();
            if changed || began.elapsed() > self.check_interval {
                return Ok(None);
            }
        }
    }

    /// Runs a job in a thread of its own: it blocks.
    async fn run_job(&self, action: JobAction) -> Result<FinishedJob, NodeJobError> {
        let jobs = self.jobs.clone();
        match tokio::task::spawn_blocking(move || jobs.run(action)).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// Whether the node has another release that is not in use. A second installation of ours removes it.
fn has_unused_release(status: &NodeStatus, shim: &Path) -> bool {
    status
        .releases
        .iter()
        .any(|release| !release.in_use && !shim.starts_with(&release.folder))
}

/// The containers of the runtime. If there are none, the processes that would stop an uninstall.
fn users(status: &NodeStatus) -> BTreeSet<String> {
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

fn user(container: &RuntimeContainer) -> String {
    container
        .pod
        .clone()
        .unwrap_or_else(|| container.to_string())
}

/// The time until then, but not more than the longest pause.
fn until(unix: u64) -> Duration {
    Duration::from_secs(unix.saturating_sub(now_unix())).min(LONGEST_PAUSE)
}
