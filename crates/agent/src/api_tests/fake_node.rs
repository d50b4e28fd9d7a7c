//! A node whose jobs are fake: each test says how they end.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};

use wasm_interp_node::{
    InstalledRelease, JobAction, JobError, JobOutcome, JobReport, NodeStatus, RuntimeContainer,
};

use crate::node_jobs::{FinishedJob, NodeJobError, NodeJobs};

/// The shim of the agent's own release.
const SHIM: &str = "/opt/wasm-interp/2/shim";
const OLDER_SHIM: &str = "/opt/wasm-interp/1/shim";

/// The runtime on the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Health {
    /// Nothing is configured.
    #[default]
    NotInstalled,
    /// A program runs.
    Works,
    /// containerd lists the handler, but no program runs.
    RunsNothing,
    /// The configuration has the runtime, but containerd does not list the handler.
    NotListed,
}

/// The release that containerd's configuration names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ConfiguredRelease {
    /// The agent's own.
    #[default]
    Own,
    Older,
}

/// How an installation ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum InstallEnd {
    #[default]
    Succeeds,
    /// The old configuration is restored, and works as before.
    RollsBack,
    /// The old configuration is restored, but no program runs with it any more.
    RollsBackBroken,
}

/// How an uninstall ends if no container runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum UninstallEnd {
    #[default]
    Succeeds,
    Fails,
}

/// How prewarming ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PrewarmEnd {
    #[default]
    Succeeds,
    Fails(&'static str),
}

/// Whether a job's report arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reports {
    #[default]
    Arrive,
    AreLost,
}

/// The jobs that do not end until the test lets them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum HeldJobs {
    #[default]
    None,
    /// Those that install or uninstall.
    Changes,
    Prewarming,
}

/// The state of the node, the ends of its jobs, and what the agent has done.
#[derive(Default)]
pub(super) struct NodeScript {
    pub(super) health: Health,
    pub(super) release: ConfiguredRelease,
    pub(super) install: InstallEnd,
    pub(super) uninstall: UninstallEnd,
    pub(super) prewarm: PrewarmEnd,
    pub(super) reports: Reports,
    pub(super) held: HeldJobs,
    /// Why the chart's policy cannot be written.
    pub(super) policy_error: Option<&'static str>,
    pub(super) containers: Vec<RuntimeContainer>,
    /// Containers that start after the node has reported that it has none.
    pub(super) late_containers: Vec<RuntimeContainer>,
    /// Other releases. An installation removes those that are not in use.
    pub(super) other_releases: Vec<InstalledRelease>,
    pub(super) verifies: u32,
    pub(super) installs: u32,
    /// The images of each job that prewarmed.
    pub(super) prewarmed: Vec<Vec<String>>,
    running_installs: u32,
    pub(super) most_running_installs: u32,
}

impl NodeScript {
    fn report(&self, action: &JobAction, outcome: JobOutcome, message: &str) -> JobReport {
        let is_listed = matches!(self.health, Health::Works | Health::RunsNothing);
        let shim = match self.release {
            ConfiguredRelease::Own => SHIM,
            ConfiguredRelease::Older => OLDER_SHIM,
        };
        let status = NodeStatus {
            containerd_answers: true,
            handler_listed: is_listed,
            running: is_listed.then(|| PathBuf::from(shim)),
            containers: self.containers.clone(),
            releases: self.other_releases.clone(),
            ..NodeStatus::default()
        };
        let policy_error = match action {
            JobAction::Verify => self.policy_error,
            _ => None,
        };
        JobReport {
            job_id: "1".into(),
            action: action.name().into(),
            version: "1".into(),
            outcome,
            message: message.into(),
            steps: Vec::new(),
            status: Some(status),
            images: Vec::new(),
            policy_error: policy_error.map(str::to_owned),
        }
    }

    fn finish_install(&mut self) -> (JobOutcome, &'static str) {
        match self.install {
            InstallEnd::Succeeds => {
                self.health = Health::Works;
                self.release = ConfiguredRelease::Own;
                self.other_releases.retain(|release| release.in_use);
                (DONE, "installed")
            }
            InstallEnd::RollsBack => (JobOutcome::RolledBack, ROLLED_BACK),
            InstallEnd::RollsBackBroken => {
                self.health = Health::RunsNothing;
                (JobOutcome::RolledBack, ROLLED_BACK)
            }
        }
    }
}

const DONE: JobOutcome = JobOutcome::Done {
    changed: true,
    restarted: true,
};
/// The message of an installation that is rolled back.
pub(super) const ROLLED_BACK: &str = "cannot start containerd with the runtime";

/// A fake node, shared by its agent and the test.
#[derive(Clone, Default)]
pub(super) struct FakeJobs(Arc<(Mutex<NodeScript>, Condvar)>);

impl FakeJobs {
    pub(super) fn new(prepare: impl FnOnce(&mut NodeScript)) -> Self {
        let node = Self::default();
        node.with(prepare);
        node
    }

    /// Reads or changes the script.
    pub(super) fn with<R>(&self, use_script: impl FnOnce(&mut NodeScript) -> R) -> R {
        let result = use_script(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
        result
    }
}

impl NodeJobs for FakeJobs {
    fn run(&self, action: JobAction) -> Result<FinishedJob, NodeJobError> {
        let (script, changed) = &*self.0;
        let mut script = script.lock().unwrap();
        script.verifies += u32::from(matches!(action, JobAction::Verify));
        if script.reports == Reports::AreLost {
            return Err(JobError::Lost("wasm-interp-node.service").into());
        }
        let (outcome, message) = match &action {
            JobAction::Verify => match script.health {
                Health::Works => (DONE, "works"),
                Health::RunsNothing => (JobOutcome::Failed, "no program runs with it"),
                Health::NotListed | Health::NotInstalled => {
                    (JobOutcome::Failed, "the handler is not listed")
                }
            },
            JobAction::Install => {
                script.installs += 1;
                script.running_installs += 1;
                script.most_running_installs =
                    script.most_running_installs.max(script.running_installs);
                script = changed
                    .wait_while(script, |script| script.held == HeldJobs::Changes)
                    .unwrap();
                script.running_installs -= 1;
                script.finish_install()
            }
            JobAction::Uninstall { .. } => {
                let containers = [&script.containers[..], &script.late_containers].concat();
                if !containers.is_empty() {
                    (JobOutcome::InUse { containers }, "in use")
                } else if script.uninstall == UninstallEnd::Fails {
                    (JobOutcome::Failed, "cannot write the file")
                } else {
                    script = changed
                        .wait_while(script, |script| script.held == HeldJobs::Changes)
                        .unwrap();
                    script.health = Health::NotInstalled;
                    (DONE, "uninstalled")
                }
            }
            JobAction::Status => (DONE, "status"),
            JobAction::Prewarm(request) => {
                script = changed
                    .wait_while(script, |script| script.held == HeldJobs::Prewarming)
                    .unwrap();
                script.prewarmed.push(request.images.clone());
                match script.prewarm {
                    PrewarmEnd::Succeeds => (DONE, "2 images prewarmed: compiled 1 interpreter"),
                    PrewarmEnd::Fails(message) => (JobOutcome::Failed, message),
                }
            }
        };
        Ok(FinishedJob {
            report: script.report(&action, outcome, message),
            shim: SHIM.into(),
        })
    }
}

/// A container of a pod, named `NAMESPACE/NAME`.
pub(super) fn pod(name: &str) -> RuntimeContainer {
    RuntimeContainer {
        namespace: "k8s.io".into(),
        id: "0123456789abcdef".into(),
        pod: Some(name.into()),
    }
}
