//! Paths on this node: the policy, the artifact store, and the compiler. The shim uses the same paths.

use std::path::Path;

pub(crate) use wasm_interp_artifact::{
    CACHE_ENV, cache_dir, compiler_beside_current_exe as compiler,
};
pub(crate) use wasm_interp_workload::policy_file;

/// The unpacked images of a cache.
pub(crate) fn images(cache: &Path) -> wasm_interp_image::Images {
    wasm_interp_image::Images::beneath(cache.join("images"))
}
