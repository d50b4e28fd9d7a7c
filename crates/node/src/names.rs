//! Names and paths that are the same on every node. Used by the whole crate; decides nothing.

pub use wasm_interp_containerd_config::{HANDLER, RUNTIME_TYPE};
pub use wasm_interp_prewarm::KUBERNETES_NAMESPACE;

/// The default folder of releases, which holds one folder per release.
pub const BASE: &str = "/opt/wasm-interp";

/// The shim in a release's folder.
pub(crate) const SHIM: &str = "containerd-shim-wasm-interp-v1";
/// The command line in a release's folder. A job runs it.
pub(crate) const COMMAND: &str = "wasm-interp";
/// The executable that compiles, in a release's folder.
pub(crate) const COMPILER: &str = "wasm-interp-compiler";
/// The executables of a release.
pub(crate) const EXECUTABLES: [&str; 4] = [SHIM, "wasm-interp-runner", COMPILER, COMMAND];
/// The link to a release's shim: every containerd has this folder on its PATH, and it can usually be written.
pub(crate) const SHIM_LINK: &str = "/usr/local/bin/containerd-shim-wasm-interp-v1";

/// The unit of a job that changes the node. All such jobs share it, so that only one of them can run.
pub(crate) const JOB_UNIT: &str = "wasm-interp-node.service";
/// The unit of a job that prewarms. It changes only the store, and other jobs do not wait for it.
pub(crate) const PREWARM_UNIT: &str = "wasm-interp-prewarm.service";
/// The folder of reports, which is also the lock of all jobs. It exists while a job runs or a report is not yet read.
pub(crate) const RUN: &str = "/run/wasm-interp/node";
/// The folder of the record and of the original bytes, which has to outlive a reboot.
pub(crate) const STATE: &str = "/var/lib/wasm-interp/node";
/// Everything that the runtime keeps on the node: native code, and [`STATE`].
pub(crate) const DATA: &str = "/var/lib/wasm-interp";
/// The images that `wasm-interp run` and `inspect` unpacked.
pub(crate) const IMAGES: &str = "/var/lib/wasm-interp/cache/images";
/// containerd's state directory, if neither its command line nor its configuration names another.
pub(crate) const DEFAULT_CONTAINERD_STATE: &str = "/run/containerd";
/// containerd's socket, if neither its command line nor its configuration names another.
pub(crate) const DEFAULT_CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
