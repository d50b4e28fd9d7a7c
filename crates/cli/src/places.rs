//! Where things are on this node: the policy, the artifact store, and the executables beside ours.
//! The same places as the shim's.

use std::env;
use std::io;
use std::path::PathBuf;

pub(crate) use wasm_interp_artifact::{CACHE_ENV, cache_dir};

/// Names another policy file.
pub(crate) const POLICY_ENV: &str = "WASM_INTERP_POLICY";

/// The node's policy file, which need not exist.
pub(crate) fn policy_file() -> PathBuf {
    env::var_os(POLICY_ENV)
        .filter(|value| !value.is_empty())
        .map_or_else(|| "/etc/wasm-interp/policy.json".into(), PathBuf::from)
}

/// The executable that compiles: this one.
pub(crate) fn compiler() -> io::Result<PathBuf> {
    env::current_exe()
}
