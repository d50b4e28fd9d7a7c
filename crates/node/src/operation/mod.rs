//! The operations on a node: install, verify, uninstall and status. Called by `execute`.
//!
//! Each step can be repeated. If the process is killed between two steps, the next operation, or `settle`, which systemd
//! runs after each job, goes back to the old content or completes the new one. containerd runs in either case.
//!
//! containerd and its service are behind [`NodeContainerd`], the host's files behind [`HostRoot`], and the caller passes
//! the time.

mod apply;
mod error;
mod install;
mod link;
mod releases;
mod reverts;
mod settle;
mod status;
#[cfg(test)]
mod tests;
mod uninstall;
mod verify;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config_plan::ConfigPlanner;
use crate::containerd::{NodeContainerd, NodeContainerdError};
use crate::files::{self, FileError};
use crate::host::HostRoot;
use crate::layout::NodeLayout;
use crate::names::DEFAULT_CONTAINERD_STATE;
use crate::report::JobStep;
use wasm_interp_containerd_config::ShimLocation;

pub use error::OperationError;
pub(crate) use link::is_linked;
pub(crate) use status::status_without_layout;
pub(crate) use uninstall::uninstall_without_layout;

/// Whether an operation may restart containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// If it is necessary.
    Allowed,
    /// No: the user restarts it later.
    Never,
}

/// What an operation that succeeded has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// Whether it changed a configuration file.
    pub(crate) changed: bool,
    /// Whether it restarted containerd.
    pub(crate) restarted: bool,
}

/// How long to wait for a restarted containerd.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestartTiming {
    /// Until it lists the handler.
    pub(crate) limit: Duration,
    /// Between two queries.
    pub(crate) poll: Duration,
}

impl Default for RestartTiming {
    fn default() -> Self {
        Self {
            limit: Duration::from_secs(60),
            poll: Duration::from_millis(200),
        }
    }
}

/// One operation: its node, and the steps that it has done.
pub(crate) struct Operation<'a> {
    pub(crate) host: &'a HostRoot,
    pub(crate) layout: &'a NodeLayout,
    pub(crate) containerd: &'a dyn NodeContainerd,
    pub(crate) restart: RestartPolicy,
    pub(crate) timing: RestartTiming,
    /// The time, in seconds since 1970.
    pub(crate) now_unix: u64,
    /// Called with the name of each step before it. Tests kill the process there.
    pub(crate) before_step: &'a dyn Fn(&str),
    pub(crate) steps: Vec<JobStep>,
}

impl Operation<'_> {
    fn planner(&self) -> ConfigPlanner<'_> {
        ConfigPlanner {
            host: self.host,
            layout: self.layout,
            containerd: self.containerd,
        }
    }

    fn step(&mut self, name: &str, detail: impl Into<String>) {
        self.steps.push(JobStep::new(name, &detail.into()));
    }

    fn before(&self, step: &str) {
        (self.before_step)(step);
    }

    /// Waits until the running containerd uses that shim for our handler, or does not list the handler.
    fn wait_for_shim(&self, wanted: Option<&ShimLocation>) -> Result<(), NodeContainerdError> {
        let end = Instant::now() + self.timing.limit;
        loop {
            let last = match self.containerd.running_shim() {
                Ok(shim) if shim.as_ref() == wanted => return Ok(()),
                Ok(_) => None,
                Err(error) => Some(error),
            };
            if Instant::now() > end {
                return Err(last.unwrap_or(NodeContainerdError::NotApplied(self.timing.limit)));
            }
            std::thread::sleep(self.timing.poll);
        }
    }

    /// Waits until containerd answers, with any shim.
    fn wait_for_containerd(&self) -> Result<(), NodeContainerdError> {
        let end = Instant::now() + self.timing.limit;
        loop {
            match self.containerd.running_shim() {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => std::thread::sleep(self.timing.poll),
            }
        }
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, FileError> {
        files::read(&self.host.at(path))
    }

    /// Replaces a file of the host, or removes it.
    fn write(&self, path: &Path, bytes: Option<&[u8]>) -> Result<(), FileError> {
        let path = self.host.to_write(path)?;
        match bytes {
            Some(bytes) => files::write(&path, bytes, 0o644),
            None => {
                files::remove_unfinished(path.parent().unwrap_or(&path))?;
                files::remove(&path)
            }
        }
    }

    /// containerd's state directory, a path of the host.
    fn containerd_state(&self) -> PathBuf {
        // If the configuration cannot be read, containerd would use the default.
        let configured = || self.planner().dump().ok()?.state();
        self.layout
            .state
            .clone()
            .or_else(configured)
            .unwrap_or_else(|| DEFAULT_CONTAINERD_STATE.into())
    }
}
