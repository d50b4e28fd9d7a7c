//! Jobs on the node: copies the release there, and has the host's systemd run a unit that does the rest. Called by `agent`;
//! does not know Kubernetes.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::warn;
use wasm_interp_node::{
    DistributionChoice, HostRoot, JobAction, JobError, JobReport, NodeJob, PolicyChange, Release,
    ReleaseError,
};
use wasm_interp_workload::{Policy, PolicyError, with_causes};

/// How long after the end of a job's own limit its report may come.
const GRACE: Duration = Duration::from_secs(60);

/// The jobs on a node. [`HostJobs`] runs them; the tests against an API server have fake ones.
pub(crate) trait NodeJobs: Send + Sync + 'static {
    /// Runs one job to its end. A job that verifies also writes the chart's policy to the node. Blocks.
    fn run(&self, action: JobAction) -> Result<FinishedJob, NodeJobError>;
}

/// A job that has ended with a report.
pub(crate) struct FinishedJob {
    pub(crate) report: JobReport,
    /// The shim of the agent's own release: a path of the host.
    pub(crate) shim: PathBuf,
}

/// The chart's policy cannot be written to the node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChartPolicyError {
    #[error("cannot read the chart's policy {path:?}: {source}; check the volumes of this pod")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot use the chart's policy: {0}; correct the chart's value policy")]
    Policy(#[from] PolicyError),
}

/// A job could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeJobError {
    #[error(
        "cannot run a job: the node has no systemd at {}; install by hand as \
         docs/operate/install-node.md says, and keep the chart off this node with its value \
         nodeSelector", .0.display()
    )]
    NoSystemd(PathBuf),
    #[error(transparent)]
    Release(#[from] ReleaseError),
    #[error(transparent)]
    Job(#[from] JobError),
}

impl NodeJobError {
    /// Whether another job runs, which ends by itself.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Job(JobError::Busy(_)))
    }

    /// Whether no job has ever run on the node, because none can.
    pub(crate) fn means_unchanged(&self) -> bool {
        matches!(self, Self::NoSystemd(_))
    }
}

/// The jobs of the node whose directories are mounted into the pod.
pub(crate) struct HostJobs {
    host: HostRoot,
    release: Release,
    distribution: DistributionChoice,
    policy: Option<PathBuf>,
}

impl HostJobs {
    pub(crate) fn new(
        root: &Path,
        base: &Path,
        release: &Path,
        distribution: DistributionChoice,
        policy: Option<PathBuf>,
    ) -> Self {
        Self {
            host: HostRoot::new(root).with_base(base),
            release: Release::in_folder(release, env!("CARGO_PKG_VERSION")),
            distribution,
            policy,
        }
    }
}

impl HostJobs {
    /// Ends this process if an uninstall has removed the folder of releases from the node. The pod still has the old
    /// folder; its next process gets the current one.
    fn restart_if_folder_is_gone(&self) {
        let folder = self.host.base();
        if is_removed(&self.host.at(folder)) {
            warn!(
                "an uninstall has removed {} from the node: this process starts again",
                folder.display()
            );
            std::process::exit(1);
        }
    }

    /// The change of the node's policy file for the chart's policy. A policy that the shim would refuse is an error.
    fn chart_policy(&self) -> Result<PolicyChange, ChartPolicyError> {
        let Some(path) = &self.policy else {
            return Ok(PolicyChange::Remove);
        };
        Policy::load(path)?;
        let text = fs::read_to_string(path).map_err(|source| ChartPolicyError::Read {
            path: path.clone(),
            source,
        })?;
        Ok(PolicyChange::Write(text))
    }
}

impl NodeJobs for HostJobs {
    fn run(&self, action: JobAction) -> Result<FinishedJob, NodeJobError> {
        // Before the release is copied: a node without systemd gets no files.
        if !self.host.systemd().exists() {
            return Err(NodeJobError::NoSystemd(self.host.systemd().to_owned()));
        }
        self.restart_if_folder_is_gone();
        let placed = self.host.place(&self.release)?;
        let limit = action.limit() + GRACE;
        // An invalid policy does not stop the check of the node.
        let (policy, refused) = match action {
            JobAction::Verify => match self.chart_policy() {
                Ok(change) => (change, None),
                Err(error) => (PolicyChange::Keep, Some(with_causes(&error))),
            },
            _ => (PolicyChange::Keep, None),
        };
        let job = NodeJob::new(action, &placed)
            .on(self.distribution)
            .with_policy(policy);
        let ticket = self.host.start(&job)?;
        let mut report = self.host.wait(&ticket, limit)?;
        report.policy_error = report.policy_error.or(refused);
        Ok(FinishedJob {
            report,
            shim: placed.shim(),
        })
    }
}

/// Whether the folder exists only because this process still has it.
fn is_removed(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|folder| folder.nlink() == 0)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn policy_that_the_shim_would_refuse_does_not_reach_the_node() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.json");
        let host = |policy| {
            let nowhere = Path::new("/nowhere");
            HostJobs::new(nowhere, nowhere, nowhere, DistributionChoice::Auto, policy)
        };
        let with_text = |text: &str| {
            fs::write(&path, text).unwrap();
            host(Some(path.clone())).chart_policy()
        };
        let error = with_text(r#"{"stack_bytes": 1}"#).unwrap_err();
        let text = with_causes(&error);
        assert!(text.contains("512 KiB"), "{text}");
        let fine = r#"{"stack_bytes": 8388608}"#;
        let change = with_text(fine).unwrap();
        assert_eq!(change, PolicyChange::Write(fine.to_owned()));
        assert_eq!(host(None).chart_policy().unwrap(), PolicyChange::Remove);
    }

    #[test]
    fn removed_folder_that_is_still_mounted_is_detected() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("releases");
        fs::create_dir(&folder).unwrap();
        let held = fs::File::open(&folder).unwrap();
        // A mount holds it in the same way.
        let reached = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
        assert!(!is_removed(&reached));
        fs::remove_dir(&folder).unwrap();
        assert!(is_removed(&reached));
        assert!(!is_removed(&folder), "a missing folder can be created");
    }
}
