//! The one engine recipe: every setting that native code depends on, in one place.

/// Version of Wasmtime that makes and loads artifacts; equal to the workspace's pin (a test holds it).
pub const WASMTIME_VERSION: &str = "48.0.8";
