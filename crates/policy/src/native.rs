//! Whether native programs may run: `native` in the policy file.

use serde::{Deserialize, Serialize};

/// Whether native (ELF) programs run as containers of this runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NativePolicy {
    /// As under any other runtime: a pod of a Wasm container may have native ones too.
    #[default]
    Allow,
    /// Only Wasm runs.
    Deny,
}
