//! The report of a job: one JSON document, which the client reads and `--json` prints. Fields are only ever added.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wasm_interp_workload::printable;

use crate::distribution::Distribution;

/// How a job ended, and what it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobReport {
    /// The job that this is about.
    #[serde(rename = "ticket")]
    pub job_id: String,
    /// `install`, `verify`, `uninstall`, `status` or `prewarm`.
    pub action: String,
    /// Version of the release that did it.
    pub version: String,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: JobOutcome,
    /// The outcome in words. Of a failure: what failed, on what, why, and the way out.
    pub message: String,
    /// What was done, in order.
    #[serde(default)]
    pub steps: Vec<JobStep>,
    /// The state of the node afterwards, as far as the job could find it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<NodeStatus>,
    /// The result of each image that was to be prewarmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<PrewarmedImage>,
    /// Why the node's policy file is not what the client requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_error: Option<String>,
}

impl JobReport {
    /// The report of a job that could not be started, for a client that prints reports.
    #[must_use]
    pub fn not_started(action: &str, version: &str, message: String) -> Self {
        JobResult::new(JobOutcome::Failed, message).into_report("", action, version)
    }

    /// Whether the node is now as the client requested.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        matches!(self.outcome, JobOutcome::Done { .. })
    }
}

/// What a report says besides the name of the job.
pub(crate) struct JobResult {
    pub(crate) outcome: JobOutcome,
    pub(crate) message: String,
    pub(crate) steps: Vec<JobStep>,
    pub(crate) status: Option<NodeStatus>,
    pub(crate) images: Vec<PrewarmedImage>,
    pub(crate) policy_error: Option<String>,
}

impl JobResult {
    pub(crate) fn new(outcome: JobOutcome, message: String) -> Self {
        Self {
            outcome,
            message,
            steps: Vec::new(),
            status: None,
            images: Vec::new(),
            policy_error: None,
        }
    }

    pub(crate) fn into_report(self, job_id: &str, action: &str, version: &str) -> JobReport {
        JobReport {
            job_id: job_id.to_owned(),
            action: action.to_owned(),
            version: version.to_owned(),
            outcome: self.outcome,
            message: self.message,
            steps: self.steps,
            status: self.status,
            images: self.images,
            policy_error: self.policy_error,
        }
    }
}

/// How a job ended. Only [`JobOutcome::Done`] means that the node is as the client requested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    tag = "outcome"
)]
pub enum JobOutcome {
    /// Success.
    Done {
        /// Whether the job changed a file of the host.
        changed: bool,
        /// Whether the job restarted containerd.
        restarted: bool,
    },
    /// Nothing was changed, because it cannot work on this node as it is.
    Refused,
    /// Nothing was changed, because containers of this runtime run.
    InUse {
        /// Those containers.
        containers: Vec<RuntimeContainer>,
    },
    /// containerd did not start with the new configuration, or no program ran with the new release. The old
    /// configuration is in place again.
    RolledBack,
    /// Another program on the node keeps changing the configuration back. The job did nothing.
    Reverted {
        /// How often.
        times: u32,
        /// When the next attempt may be made, in seconds since 1970.
        retry_after_unix: u64,
    },
    /// A step failed. The message names it; the steps say what was done before.
    Failed,
}

/// One step of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobStep {
    /// A short fixed name: `plan`, `write`, `restart` …
    pub name: String,
    /// What it did.
    pub detail: String,
}

impl JobStep {
    pub(crate) fn new(name: &str, detail: &str) -> Self {
        Self {
            name: name.to_owned(),
            detail: printable(detail),
        }
    }
}

/// The state of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NodeStatus {
    /// The layout of its containerd.
    pub distribution: Option<Distribution>,
    /// The configuration file that has the runtime's table, or would get it.
    pub config: Option<PathBuf>,
    /// The shim that the table names.
    pub configured: Option<PathBuf>,
    /// Whether containerd's CRI answers.
    pub containerd_answers: bool,
    /// Whether the running containerd lists the handler.
    pub handler_listed: bool,
    /// The shim that the running containerd uses.
    pub running: Option<PathBuf>,
    /// The releases on this node.
    #[serde(default)]
    pub releases: Vec<InstalledRelease>,
    /// The containers of this runtime, sandboxes of pods included.
    #[serde(default)]
    pub containers: Vec<RuntimeContainer>,
    /// Set if another program keeps changing the configuration back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverts: Option<Reverts>,
}

/// The result of one image that was to be prewarmed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PrewarmedImage {
    /// Its name, as it was requested.
    pub image: String,
    /// Its Wasm programs whose native code is in the node's store now.
    pub interpreters: Vec<PrewarmedInterpreter>,
    /// Why there is none, or why some are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A Wasm program of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PrewarmedInterpreter {
    /// Its path in the image.
    pub path: String,
    /// The entry in the node's store, as `wasm-interp cache ls` shows it.
    pub key: String,
    /// How long the compile took; absent if the code was there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile_seconds: Option<f64>,
}

/// How often another program changed the configuration back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reverts {
    /// How often.
    pub times: u32,
    /// When a job last noticed it, in seconds since 1970.
    pub last_unix: u64,
}

/// A release in its folder on the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct InstalledRelease {
    /// The folder, a path of the host.
    pub folder: PathBuf,
    /// Whether a container or a running process uses it.
    pub in_use: bool,
    /// Processes that run from it, except compiles. The processes of its containers are among them.
    #[serde(default)]
    pub pids: Vec<i32>,
}

/// A container of this runtime, or a pod's sandbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RuntimeContainer {
    /// containerd's namespace.
    pub namespace: String,
    /// Its id in that namespace.
    pub id: String,
    /// `NAMESPACE/NAME` of its pod, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
}

impl fmt::Display for RuntimeContainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:.13}", self.namespace, self.id)?;
        match &self.pod {
            Some(pod) => write!(f, " (pod {pod})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_an_image_are_escaped() {
        let step = JobStep::new("compiled", "/bin/\u{1b}[2J\u{9b}1m\u{202e}x\n\tok é \\ 漢");
        assert_eq!(step.detail, r"/bin/\u{1b}[2J\u{9b}1m\u{202e}x\n\tok é \ 漢");
        // An escaped text is not escaped again.
        assert_eq!(printable(&step.detail), step.detail);
    }

    #[test]
    fn report_of_the_release_before_is_readable() {
        let text = r#"{"ticket":"1-2","action":"install","version":"0.1.0","outcome":"done",
            "changed":true,"restarted":false,"message":"installed",
            "steps":[{"name":"link","detail":"/x"}],
            "status":{"distribution":"k3s","config":null,"configured":null,
                "containerd-answers":true,"handler-listed":true,
                "running":"/opt/wasm-interp/1/shim",
                "releases":[{"folder":"/a","in-use":false}]}}"#;
        let report: JobReport = serde_json::from_str(text).unwrap();
        assert!(report.succeeded());
        assert_eq!(report.job_id, "1-2");
        assert_eq!(report.policy_error, None);
        let status = report.status.as_ref().unwrap();
        assert_eq!(status.distribution, Some(Distribution::K3s));
        let again: JobReport =
            serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(again, report);
    }
}
