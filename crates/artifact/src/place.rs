//! Where the node's store is, for all who use it: the shim, the command line, the node's jobs.

use std::env;
use std::path::PathBuf;

/// Names another directory than [`cache_dir`]'s default.
pub const CACHE_ENV: &str = "WASM_INTERP_CACHE_DIR";

/// The directory of the node's store.
#[must_use]
pub fn cache_dir() -> PathBuf {
    env::var_os(CACHE_ENV)
        .filter(|value| !value.is_empty())
        .map_or_else(|| "/var/lib/wasm-interp/cache".into(), PathBuf::from)
}
