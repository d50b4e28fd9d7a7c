//! What things are called on every node. Used everywhere in this crate; decides nothing.

/// The runtime's name in containerd's configuration, and the `handler` of a RuntimeClass.
pub const HANDLER: &str = "wasm-interp";
/// What containerd calls the runtime; its shim's file name is made from it.
pub const RUNTIME_TYPE: &str = "io.containerd.wasm-interp.v1";
/// Where releases lie, one folder each, unless somebody says otherwise.
pub const BASE: &str = "/opt/wasm-interp";

/// containerd's namespace of Kubernetes: of the images that its CRI pulls, and of the pods.
pub const KUBERNETES: &str = "k8s.io";

/// The shim in a release's folder.
pub(crate) const SHIM: &str = "containerd-shim-wasm-interp-v1";
/// The command line in a release's folder: the job runs from it.
pub(crate) const COMMAND: &str = "wasm-interp";
/// All that a release consists of.
pub(crate) const EXECUTABLES: [&str; 3] = [SHIM, "wasm-interp-runner", COMMAND];

/// Annotations that reach the shim.
pub(crate) const ANNOTATIONS: &str = "wasm-interp.io/*";

/// The job's unit. One name: so that two jobs cannot run at once.
pub(crate) const UNIT: &str = "wasm-interp-node.service";
/// That of the job that changes nothing but the store: it may take long, and nobody waits for it.
pub(crate) const PREWARM_UNIT: &str = "wasm-interp-prewarm.service";
/// Reports and the lock. There only while a job runs or its report waits for somebody.
pub(crate) const RUN: &str = "/run/wasm-interp/node";
/// What must outlive a reboot: the record of what was changed, and the bytes from before.
pub(crate) const STATE: &str = "/var/lib/wasm-interp/node";
