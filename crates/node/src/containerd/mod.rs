//! The node's containerd: its executable, its socket and its service. A trait, so that tests can replace the real one,
//! [`HostContainerd`], by one that fails as they need it.

mod host;
mod self_test;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wasm_interp_containerd::ContainerdError;

use crate::files::FileError;
use crate::systemd::SystemdError;
use crate::usage::CompileProcess;
use wasm_interp_containerd_config::{ConfigDump, ConfigError, ShimLocation};

pub(crate) use host::HostContainerd;

/// The node's containerd, or its service, did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeContainerdError {
    /// The executable cannot be run.
    #[error("cannot run {binary} on the node: {source}; check that the node can execute it")]
    Run {
        /// containerd.
        binary: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `config dump` failed.
    #[error(
        "cannot use {config}: containerd does not accept it: {reason}; correct the configuration"
    )]
    Rejected {
        /// The file.
        config: PathBuf,
        /// Its last words.
        reason: String,
    },
    /// The service did not start.
    #[error("cannot start {unit}: it is {state} ({result}); see journalctl -u {unit}")]
    Down {
        /// The unit.
        unit: String,
        /// Its state.
        state: String,
        /// systemd's word for how it ended.
        result: String,
    },
    /// containerd runs without the new configuration.
    #[error(
        "cannot confirm the configuration: containerd runs, but {} s after its restart its CRI \
         still has another shim for the runtime than the file; see journalctl -u containerd",
        .0.as_secs()
    )]
    NotApplied(Duration),
    /// There is no such service.
    #[error(
        "cannot restart containerd: none of {0} is active; start it, or restart containerd \
         yourself and run wasm-interp node verify"
    )]
    NoUnit(String),
    /// The test program did not print its line or end with its code.
    #[error(
        "cannot run the test program: it ended with code {code} and printed {printed:?} instead \
         of 42 and \"wasm-interp works\"; its errors: {errors:?}"
    )]
    SelfTest {
        /// Its exit code.
        code: u32,
        /// Its standard output.
        printed: String,
        /// Its standard error.
        errors: String,
    },
    /// See the error.
    #[error(transparent)]
    Api(#[from] ContainerdError),
    /// See the error.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// See the error.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// See the error.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What a job needs of containerd and its service.
pub(crate) trait NodeContainerd {
    /// The effective configuration of a configuration file that exists, a path of the host.
    fn dump(&self, config: &Path) -> Result<ConfigDump, NodeContainerdError>;
    /// The shim that the running containerd uses for our handler; `None` if it does not list the handler.
    fn running_shim(&self) -> Result<Option<ShimLocation>, NodeContainerdError>;
    /// Restarts containerd, and waits until its service is up.
    fn restart(&self) -> Result<(), NodeContainerdError>;
    /// Runs the test program through the running containerd with that shim.
    fn self_test(&self, shim: &ShimLocation) -> Result<(), NodeContainerdError>;
    /// Kills compiles on the node.
    fn kill(&self, compiles: &[CompileProcess]);
    /// Stops the unit that prewarms, if it runs.
    fn stop_prewarming(&self) -> Result<(), NodeContainerdError>;
}
