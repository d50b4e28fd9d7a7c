//! Where things are on this node: the policy, the artifact store, and the executables beside ours.
//! The same places as the shim's.

use std::env;
use std::io;
use std::path::PathBuf;

pub(crate) use wasm_interp_artifact::{CACHE_ENV, cache_dir};
pub(crate) use wasm_interp_workload::policy_file;

/// The executable that compiles: this one.
pub(crate) fn compiler() -> io::Result<PathBuf> {
    env::current_exe()
}
