//! The executables that the tests run.

use std::path::PathBuf;

use wasm_interp_runner_client::Runner;

/// What `scripts/bootstrap busybox` has unpacked, or the environment names.
pub(super) fn busybox() -> PathBuf {
    let cache = || {
        std::env::var_os("XDG_CACHE_HOME").map_or_else(
            || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache"),
            PathBuf::from,
        )
    };
    let path = std::env::var_os("WASM_INTERP_TEST_BUSYBOX").map_or_else(
        || cache().join("wasm-interp/busybox/bin/busybox"),
        PathBuf::from,
    );
    assert!(
        path.exists(),
        "no {}: run scripts/bootstrap busybox",
        path.display()
    );
    path
}

pub(crate) fn runner() -> Runner {
    Runner::new(env!("CARGO_BIN_EXE_wasm-interp-runner"))
}
