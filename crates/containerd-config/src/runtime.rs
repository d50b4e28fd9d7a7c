//! Our runtime, as containerd's configuration names it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The runtime's name in containerd's configuration, and the `handler` of a RuntimeClass.
pub const HANDLER: &str = "wasm-interp";
/// The runtime's type in containerd. containerd makes the file name of the shim from it.
pub const RUNTIME_TYPE: &str = "io.containerd.wasm-interp.v1";

/// The annotations of pods and containers that reach the shim.
pub(crate) const ANNOTATIONS: &str = "wasm-interp.io/*";

/// How containerd finds the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShimLocation {
    /// By the path in our table.
    Path(PathBuf),
    /// By the runtime's type, on containerd's PATH, where our link is.
    Link,
}
