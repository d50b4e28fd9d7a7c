//! A directory for what a target puts on disk. `scripts/fuzz` names one in memory and removes it.

use std::path::PathBuf;
use std::sync::LazyLock;

/// This process's directory.
pub fn directory() -> &'static PathBuf {
    static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
        let directory = std::env::temp_dir().join(format!("fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        directory
    });
    &DIRECTORY
}
