//! The node's containerd as the job needs it. One seam: the real one is [`crate::live`], tests put
//! one in its place that they can break.

use std::path::{Path, PathBuf};

use crate::config::{Dump, Shim};
use crate::in_use::Publisher;
use crate::live::LiveError;

/// What a job asks of containerd and its service.
pub(crate) trait Daemon {
    /// What containerd makes of that configuration file (a path of the host, which need not exist).
    fn dump(&self, config: &Path) -> Result<Dump, LiveError>;
    /// What the running containerd says of itself.
    fn running(&self) -> Result<Running, LiveError>;
    /// Makes containerd read its configuration again, and waits for its service to be up.
    fn restart(&self) -> Result<(), LiveError>;
    /// Runs the tiny program through the running containerd, with that shim or the one that it finds
    /// itself.
    fn trial(&self, shim: &Shim) -> Result<(), LiveError>;
    /// Kills processes of the node that fill the store.
    fn kill(&self, publishers: &[Publisher]);
    /// Ends the unit that prewarms, if it runs.
    fn end_prewarming(&self) -> Result<(), LiveError>;
}

/// A running containerd's CRI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Running {
    /// How our handler's shim is found, if the handler is listed.
    pub(crate) runtime: Option<Shim>,
}

impl Running {
    /// The shim, if the configuration names one.
    pub(crate) fn shim(&self) -> Option<PathBuf> {
        match &self.runtime {
            Some(Shim::Path(path)) => Some(path.clone()),
            _ => None,
        }
    }
}
