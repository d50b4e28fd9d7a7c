//! Installs a release on a node, and uninstalls it: finds containerd's configuration, changes it, restarts containerd with
//! a way back, and tells which containers and processes use a release. Also starts the job that prewarms. Called by
//! `wasm-interp node` and by the Kubernetes agent. It does not know Kubernetes' API or Wasmtime.
//!
//! There are two sides, which share only files and one argument:
//!
//! | side | runs | does | modules |
//! |---|---|---|---|
//! | client | anywhere: in a user's shell, in a pod without capabilities | copies the release, starts the job, reads its report | `release`, `client` |
//! | job | on the host, as a transient unit of systemd, from the release's own `wasm-interp` | everything else | `execute`, `operation`, `prewarm` |
//!
//! So the job continues if the client ends. The client needs the same three directories of the host on every
//! distribution: the folder of releases (`/opt/wasm-interp`), that of systemd's private socket (`/run/systemd`) and that
//! of the reports (`/run/wasm-interp`).
//!
//! # Example: the agent
//! ```no_run
//! # use wasm_interp_node::{HostRoot, JobAction, NodeJob, Release};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The host's directories are mounted beneath /host, at their own paths.
//! let host = HostRoot::new("/host");
//! let release = Release::in_folder("/release", env!("CARGO_PKG_VERSION"));
//! let placed = host.place(&release)?;
//! let job = host.start(&NodeJob::new(JobAction::Install, &placed))?;
//! let report = host.wait(&job, JobAction::Install.limit())?;
//! assert!(report.succeeded(), "{}", report.message);
//! # Ok(())
//! # }
//! ```
//! Every function blocks: call it from `spawn_blocking`. `wasm-interp node … --json` prints a [`JobReport`] as JSON.
#![forbid(unsafe_code)]

mod client;
mod config_plan;
mod containerd;
mod distribution;
mod execute;
mod files;
mod host;
mod job;
mod layout;
mod lock;
mod names;
mod operation;
mod policy_file;
mod prewarm;
mod record;
mod release;
mod report;
mod report_files;
mod systemd;
#[cfg(test)]
mod test_mounts;
mod usage;

pub use client::{JobError, StartedJob};
pub use distribution::{Distribution, DistributionChoice};
pub use execute::ExecuteError;
pub use host::HostRoot;
pub use job::{JobAction, NodeJob, PrewarmRequest};
pub use names::{BASE, HANDLER, KUBERNETES_NAMESPACE, RUNTIME_TYPE};
pub use operation::{OperationError, RestartPolicy};
pub use policy_file::PolicyChange;
pub use release::{PlacedRelease, Release, ReleaseError};
pub use report::{
    InstalledRelease, JobOutcome, JobReport, JobStep, NodeStatus, PrewarmedImage,
    PrewarmedInterpreter, Reverts, RuntimeContainer,
};
pub use report_files::ReportError;
pub use systemd::{DbusError, SystemdError};
