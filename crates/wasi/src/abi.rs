//! What wiggle makes of the witx files: `types`, and per namespace a trait for the host functions
//! and the lowered functions that read and write the guest's memory.

wiggle::from_witx!({
    witx: ["witx/wasi_snapshot_preview1.witx", "witx/posix.witx"],
    tracing: false,
    wasmtime: false,
});

impl wiggle::GuestErrorType for types::Errno {
    fn success() -> Self {
        Self::Success
    }
}
