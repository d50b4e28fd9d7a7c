//! The device nodes that a Wasm guest gets. The spec cannot add others.

use std::path::Path;

/// The device nodes that a Wasm guest gets.
const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// Whether a guest gets the device node at `path`.
pub(crate) fn is_common_device(path: &Path) -> bool {
    DEVICES.iter().any(|device| path == Path::new(device))
}
