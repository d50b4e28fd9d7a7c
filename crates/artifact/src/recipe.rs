//! The one engine recipe: every setting that native code depends on, in one place.
//!
//! The compiler and the loader build their engines from [`SETTINGS`]; the store puts [`id`] into
//! every key, so that code made by another recipe is never found, let alone loaded.

use serde::Serialize;

use crate::key::Digest;

/// Version of Wasmtime that makes and loads artifacts; equal to the workspace's pin (a test holds it).
pub const WASMTIME_VERSION: &str = "48.0.8";

/// Who frees what the guest's exceptions and references hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Collector {
    /// Deferred reference counting: stays flat where the null collector leaks with every throw.
    DeferredReferenceCounting,
}

/// How hard the compiler tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptLevel {
    /// For the speed of the code: it is compiled once and run ten thousand times.
    Speed,
}

/// A proposal or facility that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// Available to guests.
    On,
    /// Refused.
    Off,
}

impl Switch {
    /// For an interface that takes a `bool`.
    #[must_use]
    pub const fn is_on(self) -> bool {
        matches!(self, Self::On)
    }
}

/// Everything about an engine that native code depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// The collector; Wasmtime refuses code made for another.
    pub collector: Collector,
    /// Optimisation level of Cranelift.
    pub opt_level: OptLevel,
    /// Exceptions of the final proposal (what `setjmp` of C interpreters becomes).
    pub exceptions: Switch,
    /// Tail calls.
    pub tail_calls: Switch,
    /// 128-bit SIMD.
    pub simd: Switch,
    /// Relaxed SIMD.
    pub relaxed_simd: Switch,
    /// Shared memory and atomics. Off: WASI preview 1 has no way to start a thread.
    pub threads: Switch,
    /// Epoch interruption. Off: a guest has a process of its own, and signals end it.
    pub epoch_interruption: Switch,
    /// Fuel. Off, for the same reason.
    pub fuel: Switch,
    /// Component-model concurrency, which changes the code of every call into the host.
    pub concurrency: Switch,
    /// Copy-on-write images of initial memory.
    pub memory_init_cow: Switch,
    /// Initial memory up to this many bytes is always an image, however sparse: snapshots of
    /// interpreters start in a fraction of the time.
    pub dense_image_bytes: u64,
    /// Address space of a linear memory, so that it grows without moving and needs no bounds checks.
    pub memory_reservation: u64,
    /// Unmapped bytes after a linear memory.
    pub memory_guard: u64,
}

/// The settings of this version.
pub const SETTINGS: Settings = Settings {
    collector: Collector::DeferredReferenceCounting,
    opt_level: OptLevel::Speed,
    exceptions: Switch::On,
    tail_calls: Switch::On,
    simd: Switch::On,
    relaxed_simd: Switch::On,
    threads: Switch::Off,
    epoch_interruption: Switch::Off,
    fuel: Switch::Off,
    concurrency: Switch::Off,
    memory_init_cow: Switch::On,
    dense_image_bytes: 128 << 20,
    memory_reservation: 4 << 30,
    memory_guard: 32 << 20,
};

/// What the id is the hash of, for people who wonder why a key changed.
#[derive(Debug, Serialize)]
struct Described {
    wasmtime: &'static str,
    target: &'static str,
    cpu: Vec<&'static str>,
    settings: Settings,
}

/// Names the recipe: 16 hex digits that change with Wasmtime's version, any of [`SETTINGS`], the
/// target, or the features of this machine's CPU (Cranelift uses what it finds).
#[must_use]
pub fn id() -> String {
    Digest::of_bytes(describe().as_bytes()).to_string()[..16].to_owned()
}

/// The recipe in words (JSON).
#[must_use]
pub fn describe() -> String {
    let described = Described {
        wasmtime: WASMTIME_VERSION,
        target: TARGET,
        cpu: cpu_features(),
        settings: SETTINGS,
    };
    // A structure of plain fields always has a JSON form; the Debug form names it as well.
    serde_json::to_string(&described).unwrap_or_else(|_| format!("{described:?}"))
}

const TARGET: &str = if cfg!(target_arch = "x86_64") {
    "x86_64-linux"
} else if cfg!(target_arch = "aarch64") {
    "aarch64-linux"
} else {
    "other"
};

/// The features that Cranelift's detection of the host looks at.
#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<&'static str> {
    macro_rules! present {
        ($($name:tt),*) => {
            [$(($name, std::arch::is_x86_feature_detected!($name))),*]
        };
    }
    present!(
        "sse3",
        "ssse3",
        "sse4.1",
        "sse4.2",
        "popcnt",
        "avx",
        "avx2",
        "fma",
        "bmi1",
        "bmi2",
        "lzcnt",
        "avx512bitalg",
        "avx512dq",
        "avx512f",
        "avx512vl",
        "avx512vbmi",
        "cmpxchg16b"
    )
    .into_iter()
    .filter_map(|(name, there)| there.then_some(name))
    .collect()
}

/// The features that Cranelift's detection of the host looks at.
#[cfg(target_arch = "aarch64")]
fn cpu_features() -> Vec<&'static str> {
    macro_rules! present {
        ($($name:tt),*) => {
            [$(($name, std::arch::is_aarch64_feature_detected!($name))),*]
        };
    }
    present!("lse", "paca", "fp16")
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
        .collect()
}

/// Other architectures: Cranelift's defaults.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_features() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn version_is_the_workspaces_pin() {
        let workspace = include_str!("../../../Cargo.toml");
        for name in ["wasmtime", "wasmtime-wasi"] {
            let pin = format!("{name} = {{ version = \"={WASMTIME_VERSION}\"");
            assert!(workspace.contains(&pin), "{pin} not in Cargo.toml");
        }
    }

    #[test]
    fn id_is_stable_within_a_machine_and_covers_the_collector() {
        assert_eq!(id(), id());
        assert_eq!(id().len(), 16);
        let described = describe();
        for part in [
            "deferred-reference-counting",
            WASMTIME_VERSION,
            TARGET,
            "dense_image_bytes",
        ] {
            assert!(described.contains(part), "{part} not in {described}");
        }
    }
}
