//! Where things are on this node: the policy, the artifact store, and the executables beside ours.
//! The same places as the shim's.

use std::env;
use std::io;
use std::path::PathBuf;

/// Names another policy file.
pub(crate) const POLICY_ENV: &str = "WASM_INTERP_POLICY";
/// Names another directory for native code.
pub(crate) const CACHE_ENV: &str = "WASM_INTERP_CACHE_DIR";

/// The node's policy file, which need not exist.
pub(crate) fn policy_file() -> PathBuf {
    from_env(POLICY_ENV, "/etc/wasm-interp/policy.json")
}

/// The artifact store's directory.
pub(crate) fn cache_dir() -> PathBuf {
    from_env(CACHE_ENV, "/var/lib/wasm-interp/cache")
}

/// The executable that compiles: this one.
pub(crate) fn compiler() -> io::Result<PathBuf> {
    env::current_exe()
}

fn from_env(name: &str, default: &str) -> PathBuf {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map_or_else(|| default.into(), PathBuf::from)
}
