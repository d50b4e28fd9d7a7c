//! What a job is to do. The client makes it; the job's process gets it as one argument.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::distribution::DistributionChoice;
use crate::names::{JOB_UNIT, KUBERNETES_NAMESPACE, PREWARM_UNIT};
use crate::policy_file::PolicyChange;
use crate::release::PlacedRelease;

/// The limit of a job: two restarts of containerd (of k3s and RKE2 with everything that they start), and programs that
/// run through it.
const LIMIT: Duration = Duration::from_secs(900);
/// The limit of a job that pulls images and compiles.
const PREWARM_LIMIT: Duration = Duration::from_secs(7800);
/// How long that job works. The rest is for its report, which waits while another job runs.
pub(crate) const PREWARM_TIME: Duration = PREWARM_LIMIT.saturating_sub(LIMIT.saturating_mul(2));

/// What to do on the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobAction {
    /// Configure containerd for the release, restart it if necessary, and verify.
    Install,
    /// Check that the runtime works. It changes nothing.
    Verify,
    /// Remove everything, if no container of the runtime runs.
    Uninstall {
        /// Also while containers run.
        #[serde(default)]
        force: bool,
    },
    /// Report the state of the node.
    Status,
    /// Compile the interpreters of images before the first container needs them.
    Prewarm(PrewarmRequest),
}

/// The images to prewarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PrewarmRequest {
    /// Names of images, as in a pod's spec.
    pub images: Vec<String>,
    /// containerd's namespace of the images. Only into [`KUBERNETES_NAMESPACE`] are they pulled.
    pub namespace: String,
    /// containerd's socket, if it is not that of the node's layout.
    #[serde(default)]
    pub socket: Option<PathBuf>,
}

impl PrewarmRequest {
    /// These images, for pods.
    #[must_use]
    pub fn new(images: Vec<String>) -> Self {
        Self {
            images,
            namespace: KUBERNETES_NAMESPACE.to_owned(),
            socket: None,
        }
    }
}

impl JobAction {
    /// The name on the command line and in reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Verify => "verify",
            Self::Uninstall { .. } => "uninstall",
            Self::Status => "status",
            Self::Prewarm(_) => "prewarm",
        }
    }

    /// The description of the job's unit.
    pub(crate) fn description(&self) -> String {
        match self {
            Self::Prewarm(_) => "wasm-interp: compile the interpreters of images".to_owned(),
            _ => format!("wasm-interp: {} the container runtime", self.name()),
        }
    }

    /// The name of the job's unit.
    pub(crate) fn unit(&self) -> &'static str {
        match self {
            Self::Prewarm(_) => PREWARM_UNIT,
            _ => JOB_UNIT,
        }
    }

    /// The limit of the job's unit.
    #[must_use]
    pub fn limit(&self) -> Duration {
        match self {
            Self::Prewarm(_) => PREWARM_LIMIT,
            _ => LIMIT,
        }
    }
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NodeJob {
    pub(crate) id: String,
    pub(crate) action: JobAction,
    #[serde(default)]
    pub(crate) distribution: DistributionChoice,
    /// The folder of releases, a path of the host.
    pub(crate) base: PathBuf,
    /// The folder of the release that does it, a path of the host.
    pub(crate) folder: PathBuf,
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) policy: PolicyChange,
}

impl NodeJob {
    /// A job of that release, on a layout that it detects.
    #[must_use]
    pub fn new(action: JobAction, release: &PlacedRelease) -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let base = release
            .folder
            .parent()
            .map_or_else(PathBuf::new, Into::into);
        Self {
            id: format!("{:x}-{:x}", since.as_nanos(), std::process::id()),
            action,
            distribution: DistributionChoice::Auto,
            base,
            folder: release.folder.clone(),
            version: release.version.clone(),
            policy: PolicyChange::Keep,
        }
    }

    /// On that layout.
    #[must_use]
    pub fn on(mut self, distribution: DistributionChoice) -> Self {
        self.distribution = distribution;
        self
    }

    /// The job also changes the node's policy file, before its action. If it cannot, it reports that as `policy_error` and
    /// does its action all the same. An uninstall removes a policy that a job wrote in any case.
    #[must_use]
    pub fn with_policy(mut self, change: PolicyChange) -> Self {
        self.policy = change;
        self
    }
}
