//! Why an operation did not succeed, and the outcome that the report gets.

use std::path::PathBuf;

use wasm_interp_image::CacheError;

use crate::config_plan::ConfigPlanError;
use crate::containerd::NodeContainerdError;
use crate::files::FileError;
use crate::layout::LayoutError;
use crate::names::{DATA, IMAGES};
use crate::record::NodeRecordError;
use crate::report::{JobOutcome, RuntimeContainer};

/// An operation did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The layout is not supported.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// No change can be planned.
    #[error(transparent)]
    ConfigPlan(#[from] ConfigPlanError),
    /// containerd does not run.
    #[error("{0}; start containerd first: nothing was changed")]
    NotRunning(#[source] NodeContainerdError),
    /// The release does not work on this node.
    #[error("cannot use the release in {folder} on this node: {source}; nothing was changed")]
    Unfit {
        /// Its folder.
        folder: PathBuf,
        /// What failed.
        source: NodeContainerdError,
    },
    /// The link cannot be made.
    #[error(
        "cannot make the link {link}, by which containerd finds the shim: {source}; nothing was \
         changed. Create its folder, or mount something writable there (a folder or an overlay, \
         where /usr is read-only), or keep the installer off this node"
    )]
    NoLink {
        /// The link.
        link: PathBuf,
        /// Why.
        source: FileError,
    },
    /// containerd did not start with the change, and runs with the old configuration.
    #[error(
        "cannot start containerd with the runtime in {path}: {reason}; the file has its old \
         content, and containerd runs with it"
    )]
    RolledBack {
        /// The file.
        path: PathBuf,
        /// What was wrong with the new content.
        reason: String,
    },
    /// The link leads to the release before again.
    #[error(
        "cannot run a program with the release in {folder}: {reason}; the link leads to {before} \
         again"
    )]
    SwitchedBack {
        /// The new release's folder.
        folder: PathBuf,
        /// The shim from before.
        before: PathBuf,
        /// What was wrong with the new one.
        reason: String,
    },
    /// containerd starts neither with the change nor with the old configuration.
    #[error(
        "cannot start containerd with the runtime in {path}: {reason}; the file has its old \
         content, and containerd does not start with that either: {source}"
    )]
    StillDown {
        /// The file.
        path: PathBuf,
        /// What was wrong with the new content.
        reason: String,
        /// What is wrong now.
        source: Box<NodeContainerdError>,
    },
    /// Another program changes the file back.
    #[error(
        "cannot keep the runtime in {path}: another program changed the file back {times} times, \
         the last time within {since} s; find what manages that file (a node agent, configuration \
         management) and let it keep the table of wasm-interp; the next attempt is in {wait} s"
    )]
    Reverted {
        /// The file.
        path: PathBuf,
        /// How often.
        times: u32,
        /// Seconds since a job last wrote it.
        since: u64,
        /// Seconds until the next attempt.
        wait: u64,
        /// The time of the next attempt, in seconds since 1970.
        retry_after_unix: u64,
    },
    /// Containers of the runtime run.
    #[error(
        "cannot uninstall the runtime: {} of it run on this node: {}; delete them, or use \
         --force, which lets them run until they end",
        count(.0), list(.0)
    )]
    InUse(Vec<RuntimeContainer>),
    /// `wasm-interp run` uses unpacked images.
    #[error(
        "cannot uninstall the runtime: wasm-interp run uses an image in {IMAGES}; end it, or use \
         --force, which leaves {DATA} there"
    )]
    ImagesInUse,
    /// Containers started while containerd was restarted.
    #[error(
        "cannot remove the release: containerd's configuration does not have the runtime any \
         more, but this started before: {}; delete it and uninstall again",
        list(.0)
    )]
    StartedMeanwhile(Vec<RuntimeContainer>),
    /// Processes run from a release.
    #[error(
        "cannot remove {}; everything else is removed: end what uses it, then uninstall again",
        remaining(.0)
    )]
    StillUsed(Vec<RemainingRelease>),
    /// containerd runs without the handler.
    #[error(
        "cannot find the handler wasm-interp in the running containerd; run wasm-interp node \
         install, or restart containerd if {0} has it"
    )]
    NotListed(PathBuf),
    /// See the error.
    #[error(transparent)]
    Containerd(#[from] NodeContainerdError),
    /// See the error.
    #[error(transparent)]
    Images(#[from] CacheError),
    /// See the error.
    #[error(transparent)]
    Record(#[from] NodeRecordError),
    /// See the error.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A release that could not be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemainingRelease {
    pub(super) folder: PathBuf,
    /// The processes that run from it. None if only the bundle of a container names it.
    pub(super) pids: Vec<i32>,
}

fn count(containers: &[RuntimeContainer]) -> String {
    match containers.len() {
        1 => "1 container".into(),
        many => format!("{many} containers"),
    }
}

/// The first containers. The report has all of them.
fn list(containers: &[RuntimeContainer]) -> String {
    const SHOWN: usize = 10;
    let mut names: Vec<_> = containers
        .iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect();
    if containers.len() > SHOWN {
        names.push(format!("and {} more", containers.len() - SHOWN));
    }
    names.join(", ")
}

fn remaining(releases: &[RemainingRelease]) -> String {
    let one = |release: &RemainingRelease| {
        let folder = release.folder.display();
        let pids: Vec<_> = release.pids.iter().map(ToString::to_string).collect();
        match pids.len() {
            0 => format!("{folder}, which a container uses"),
            1 => format!("{folder}, from which process {} runs", pids[0]),
            _ => format!("{folder}, from which processes {} run", pids.join(", ")),
        }
    };
    releases.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl OperationError {
    /// The outcome for the report.
    pub(crate) fn outcome(&self) -> JobOutcome {
        match self {
            Self::Layout(LayoutError::File(_)) | Self::ConfigPlan(ConfigPlanError::File(_)) => {
                JobOutcome::Failed
            }
            Self::Layout(_)
            | Self::ConfigPlan(_)
            | Self::NotRunning(_)
            | Self::Unfit { .. }
            | Self::NoLink { .. }
            | Self::ImagesInUse => JobOutcome::Refused,
            Self::RolledBack { .. } | Self::SwitchedBack { .. } => JobOutcome::RolledBack,
            Self::InUse(containers) => JobOutcome::InUse {
                containers: containers.clone(),
            },
            Self::Reverted {
                times,
                retry_after_unix,
                ..
            } => JobOutcome::Reverted {
                times: *times,
                retry_after_unix: *retry_after_unix,
            },
            Self::StillDown { .. }
            | Self::StartedMeanwhile(_)
            | Self::StillUsed(_)
            | Self::NotListed(_)
            | Self::Containerd(_)
            | Self::Record(_)
            | Self::Images(_)
            | Self::File(_) => JobOutcome::Failed,
        }
    }
}
