//! What a job does, step by step. Each step is safe to repeat, and whatever kills the job between
//! two steps, the next job (or systemd, which runs `settle` after every one) brings the node back
//! to the old bytes or on to the new ones, with a running containerd either way.
//!
//! Called by [`crate::job`]. containerd and its service are behind [`Daemon`], the host's files behind
//! [`Host`]; the clock is told.

mod change;
mod install;
mod status;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod uninstall;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::config::Shim;
use crate::daemon::{Daemon, Running};
use crate::files::{self, FileError};
use crate::host::Host;
use crate::layout::{Layout, LayoutError};
use crate::live::LiveError;
use crate::plan::{Node, PlanError};
pub(crate) use crate::process::Restart;
use crate::record::RecordError;
use crate::report::{Container, Outcome, Step};
pub(crate) use install::LINK;

/// A job's own end, other than success.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The layout cannot be served.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Nothing fits.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// containerd is not there to begin with.
    #[error("{0}; start containerd first: nothing was changed")]
    NotRunning(#[source] LiveError),
    /// The release does not work here.
    #[error("the release in {folder} does not run on this node, nothing was changed: {source}")]
    Unfit {
        /// Its folder.
        folder: std::path::PathBuf,
        /// What happened.
        source: LiveError,
    },
    /// There is no place for the link.
    #[error(
        "{link} cannot be made, where containerd looks for the shim; nothing was changed: {source}. Make \
         its folder, or mount something writable there (a folder or an overlay, where /usr is read-only), \
         or keep the installer off this node"
    )]
    NoLink {
        /// The link.
        link: std::path::PathBuf,
        /// Why.
        source: FileError,
    },
    /// The old configuration is back.
    #[error(
        "containerd did not come back with the runtime in {path}, so the file is as it was and \
         containerd runs with it: {reason}"
    )]
    RolledBack {
        /// The file.
        path: std::path::PathBuf,
        /// What was wrong with the new one.
        reason: String,
    },
    /// The release before is the one that runs.
    #[error(
        "no program runs with the release in {folder}, so containerd finds {before} again: {reason}"
    )]
    SwitchedBack {
        /// The new release's folder.
        folder: std::path::PathBuf,
        /// The shim from before.
        before: std::path::PathBuf,
        /// What was wrong with the new one.
        reason: String,
    },
    /// The old configuration is back, and does not work either.
    #[error(
        "containerd did not come back with the runtime in {path} ({reason}); the file is as it was, \
         and containerd does not come back with that either: {source}"
    )]
    StillDown {
        /// The file.
        path: std::path::PathBuf,
        /// What was wrong with the new one.
        reason: String,
        /// What is wrong now.
        source: Box<LiveError>,
    },
    /// Something changes the file back.
    #[error(
        "{path} was changed back {times} times since {since} s ago: find what manages that file (a \
         node agent, configuration management) and let it keep the table of wasm-interp; this node \
         is left alone for another {wait} s"
    )]
    Reverted {
        /// The file.
        path: std::path::PathBuf,
        /// How often.
        times: u32,
        /// Since when.
        since: u64,
        /// Until when.
        wait: u64,
        /// The same as a time.
        retry_after_unix: u64,
    },
    /// Containers run.
    #[error(
        "{} of this runtime run on this node: {}; delete them, or use --force, which leaves them \
         running until they end",
        count(.0), list(.0)
    )]
    InUse(Vec<Container>),
    /// Containers were started between the last look and the end of containerd's restart.
    #[error(
        "the runtime is taken out of containerd's configuration, but this was started before: {}; delete it and \
         uninstall again, what it runs from is still there",
        list(.0)
    )]
    StartedMeanwhile(Vec<Container>),
    /// All is gone but what processes run from.
    #[error("all is uninstalled but {}; end that, then uninstall again", kept(.0))]
    Kept(Vec<Kept>),
    /// The handler is not there.
    #[error(
        "containerd runs without the handler wasm-interp: run wasm-interp node install, or restart \
         containerd if {0} has it"
    )]
    NotListed(std::path::PathBuf),
    /// See the error.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// See the error.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// See the error.
    #[error(transparent)]
    File(#[from] FileError),
}

fn count(containers: &[Container]) -> String {
    match containers.len() {
        1 => "1 container".into(),
        many => format!("{many} containers"),
    }
}

/// So many that a person sees what is meant; the report has them all.
fn list(containers: &[Container]) -> String {
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

/// A release that could not be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    folder: PathBuf,
    /// Who runs from it; nobody, if a container's bundle names it.
    pids: Vec<i32>,
}

fn kept(all: &[Kept]) -> String {
    let one = |kept: &Kept| {
        let folder = kept.folder.display();
        let pids: Vec<_> = kept.pids.iter().map(ToString::to_string).collect();
        match pids.len() {
            0 => format!("{folder}, which a container uses"),
            1 => format!("{folder}, from which process {} runs", pids[0]),
            _ => format!("{folder}, from which processes {} run", pids.join(", ")),
        }
    };
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl WorkError {
    /// As the report has it.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Layout(LayoutError::File(_)) | Self::Plan(PlanError::File(_)) => Outcome::Failed,
            Self::Layout(_)
            | Self::Plan(_)
            | Self::NotRunning(_)
            | Self::Unfit { .. }
            | Self::NoLink { .. } => Outcome::Refused,
            Self::RolledBack { .. } | Self::SwitchedBack { .. } => Outcome::RolledBack,
            Self::InUse(containers) => Outcome::InUse {
                containers: containers.clone(),
            },
            Self::Reverted {
                times,
                retry_after_unix,
                ..
            } => Outcome::Reverted {
                times: *times,
                retry_after_unix: *retry_after_unix,
            },
            Self::StillDown { .. }
            | Self::StartedMeanwhile(_)
            | Self::Kept(_)
            | Self::NotListed(_)
            | Self::Live(_)
            | Self::Record(_)
            | Self::File(_) => Outcome::Failed,
        }
    }
}

/// What of a job's outcome is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) changed: bool,
    pub(crate) restarted: bool,
}

/// How long to wait for what containerd does by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Until a restarted containerd says what it should.
    pub(crate) up: Duration,
    /// Between two looks.
    pub(crate) poll: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            up: Duration::from_secs(60),
            poll: Duration::from_millis(200),
        }
    }
}

/// One job's surroundings and what it has done so far.
pub(crate) struct Work<'a> {
    pub(crate) host: &'a Host,
    pub(crate) layout: &'a Layout,
    pub(crate) daemon: &'a dyn Daemon,
    pub(crate) restart: Restart,
    pub(crate) pace: Pace,
    /// Seconds since 1970.
    pub(crate) now: u64,
    /// Called before each step with its name; tests end the process there.
    pub(crate) watch: &'a dyn Fn(&str),
    pub(crate) steps: Vec<Step>,
}

impl Work<'_> {
    fn node(&self) -> Node<'_> {
        Node {
            host: self.host,
            layout: self.layout,
            daemon: self.daemon,
        }
    }

    fn step(&mut self, name: &str, detail: impl Into<String>) {
        self.steps.push(Step::new(name, &detail.into()));
    }

    fn before(&self, step: &str) {
        (self.watch)(step);
    }

    /// Waits until the running containerd says that of our runtime.
    fn wait_for(&self, wants: Option<&Shim>) -> Result<(), LiveError> {
        let until = Instant::now() + self.pace.up;
        loop {
            let last = match self.daemon.running() {
                Ok(Running { runtime }) if runtime.as_ref() == wants => return Ok(()),
                Ok(_) => None,
                Err(error) => Some(error),
            };
            if Instant::now() > until {
                return Err(last.unwrap_or(LiveError::NotTaken(self.pace.up)));
            }
            std::thread::sleep(self.pace.poll);
        }
    }

    /// Waits until containerd answers, whatever it says of our runtime.
    fn wait_for_any(&self) -> Result<(), LiveError> {
        let until = Instant::now() + self.pace.up;
        loop {
            match self.daemon.running() {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => std::thread::sleep(self.pace.poll),
            }
        }
    }

    fn read(&self, path: &std::path::Path) -> Result<Option<Vec<u8>>, FileError> {
        files::read(&self.host.at(path))
    }

    /// Replaces or removes a file of the host's.
    fn put(&self, path: &std::path::Path, bytes: Option<&[u8]>) -> Result<(), FileError> {
        let path = self.host.to_write(path)?;
        match bytes {
            Some(bytes) => files::write(&path, bytes, 0o644),
            None => {
                files::forget_unfinished(path.parent().unwrap_or(&path))?;
                files::remove(&path)
            }
        }
    }
}
