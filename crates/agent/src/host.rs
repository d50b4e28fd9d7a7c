//! Jobs on the node, through `crates/node`: the release is put there, and a unit of the host's systemd does the
//! rest. Called by `agent`; knows nothing of Kubernetes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::warn;
use wasm_interp_node::{Action, Choice, Host, Job, JobError, Release, ReleaseError, Report};

use crate::policy::{self, PolicyFile, PolicyFileError};

/// A job's own limit ends it; this much later nobody need wait for its report.
const GRACE: Duration = Duration::from_secs(60);

/// What the agent has done on its node. One implementation, [`NodeHost`]; the tests against an API server have
/// another.
pub(crate) trait Runtime: Send + Sync + 'static {
    /// Runs one job to its end. Blocks.
    fn run(&self, action: Action) -> Result<Ran, HostError>;
    /// Makes the node's policy file what the chart says, or takes ours away. Blocks.
    fn settle_policy(&self, wanted: PolicyWanted) -> Result<(), HostError>;
}

/// A job that ran.
pub(crate) struct Ran {
    pub(crate) report: Report,
    /// The shim of the agent's own release: a path of the host.
    pub(crate) shim: PathBuf,
}

/// What becomes of the node's policy file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolicyWanted {
    AsTheChartSays,
    None,
}

/// A job did not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error(
        "the node has no systemd ({} is not there): install by hand as docs/install-node.md says, and keep the chart \
         off this node with its value nodeSelector", .0.display()
    )]
    NoSystemd(PathBuf),
    #[error(transparent)]
    Release(#[from] ReleaseError),
    #[error(transparent)]
    Job(#[from] JobError),
    #[error(transparent)]
    Policy(#[from] PolicyFileError),
}

impl HostError {
    /// Whether it is a matter of waiting a little.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Job(JobError::Busy(_)))
    }

    /// Whether nothing of ours can be on the node, because nothing can run there.
    pub(crate) fn means_untouched(&self) -> bool {
        matches!(self, Self::NoSystemd(_))
    }
}

/// The node beneath the directories that are mounted into the pod.
pub(crate) struct NodeHost {
    host: Host,
    release: Release,
    distribution: Choice,
    policy: Option<PathBuf>,
}

impl NodeHost {
    pub(crate) fn new(
        root: &Path,
        base: &Path,
        release: &Path,
        distribution: Choice,
        policy: Option<PathBuf>,
    ) -> Self {
        Self {
            host: Host::new(root).with_base(base),
            release: Release::in_folder(release, env!("CARGO_PKG_VERSION")),
            distribution,
            policy,
        }
    }
}

impl NodeHost {
    /// Ends this process if a folder of the pod's is no longer the node's: an uninstallation removed it. A pod
    /// keeps the folder that was there when it started; its next process gets the one that is there then.
    fn reach_the_node(&self) {
        let policy = Path::new(policy::FILE).parent().unwrap_or(Path::new("/"));
        for folder in [self.host.base(), policy] {
            if is_removed(&self.host.at(folder)) {
                warn!(
                    "{} was removed from the node, with the runtime: starting again",
                    folder.display()
                );
                std::process::exit(1);
            }
        }
    }
}

impl Runtime for NodeHost {
    fn run(&self, action: Action) -> Result<Ran, HostError> {
        // Before anything is copied: what cannot run there should not lie there.
        if !self.host.systemd().exists() {
            return Err(HostError::NoSystemd(self.host.systemd().to_owned()));
        }
        self.reach_the_node();
        let placed = self.host.place(&self.release)?;
        let limit = action.limit() + GRACE;
        let ticket = self
            .host
            .start(&Job::new(action, &placed).on(self.distribution))?;
        Ok(Ran {
            report: self.host.wait(&ticket, limit)?,
            shim: placed.shim(),
        })
    }

    fn settle_policy(&self, wanted: PolicyWanted) -> Result<(), HostError> {
        let policy = PolicyFile {
            file: self.host.at(policy::FILE),
            record: self.host.at(policy::RECORD),
        };
        let wanted = match wanted {
            PolicyWanted::AsTheChartSays => {
                self.reach_the_node();
                self.policy.as_deref()
            }
            PolicyWanted::None => None,
        };
        Ok(policy.settle(wanted)?)
    }
}

/// Whether a folder that can still be reached has no name any more.
fn is_removed(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|folder| folder.nlink() == 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_folder_that_lost_its_name_is_known() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("releases");
        fs::create_dir(&folder).unwrap();
        let held = fs::File::open(&folder).unwrap();
        // As a mount holds it.
        let reached = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
        assert!(!is_removed(&reached));
        fs::remove_dir(&folder).unwrap();
        assert!(is_removed(&reached));
        assert!(!is_removed(&folder), "what is not there is made");
    }
}
