//! The one engine recipe: every setting that native code depends on, in one place.
//!
//! The compiler and the loader build their engines from [`SETTINGS`]; the store puts [`id`] into
//! every key, so that code of another recipe is never found or loaded.

use serde::Serialize;

use crate::digest::Digest;

/// Version of Wasmtime that makes and loads artifacts; equal to the workspace's pin (a test holds it).
pub const WASMTIME_VERSION: &str = "48.0.8";

/// The garbage collector for the guest's exceptions and references.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GarbageCollector {
    /// Deferred reference counting. The null collector would leak memory with every throw.
    DeferredReferenceCounting,
}

/// The optimization level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptLevel {
    /// For fast code, because code is compiled once and runs many times.
    Speed,
}

/// A proposal or facility that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeatureSwitch {
    /// Available to guests.
    On,
    /// Refused.
    Off,
}

impl FeatureSwitch {
    /// As `bool`, for interfaces that take one.
    #[must_use]
    pub const fn is_on(self) -> bool {
        matches!(self, Self::On)
    }
}

/// All settings of an engine that native code depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EngineSettings {
    /// The collector; Wasmtime refuses code made for another.
    pub collector: GarbageCollector,
    /// Optimisation level of Cranelift.
    pub opt_level: OptLevel,
    /// Exceptions of the final proposal. The `setjmp` of C interpreters compiles to them.
    pub exceptions: FeatureSwitch,
    /// Tail calls.
    pub tail_calls: FeatureSwitch,
    /// 128-bit SIMD.
    pub simd: FeatureSwitch,
    /// Relaxed SIMD.
    pub relaxed_simd: FeatureSwitch,
    /// Shared memory and atomics. Off: neither WASI preview 1 nor WASI 0.2 has a way to start a thread.
    pub threads: FeatureSwitch,
    /// Epoch interruption. Off: a guest has a process of its own, and signals end it.
    pub epoch_interruption: FeatureSwitch,
    /// Fuel. Off, for the same reason.
    pub fuel: FeatureSwitch,
    /// Components beside modules. One recipe is for both: a file's content says which of them it is.
    pub component_model: FeatureSwitch,
    /// Component-model concurrency, which WASI 0.2 does not need and which changes the code of every call into the host.
    pub concurrency: FeatureSwitch,
    /// Tables filled at the first use of each entry. Off: each call through a pointer would ask whether its entry is there,
    /// and keep what it needs for the case that it is not.
    pub table_lazy_init: FeatureSwitch,
    /// Copy-on-write images of initial memory.
    pub memory_init_cow: FeatureSwitch,
    /// Initial memory up to this many bytes is always an image, however sparse: snapshots of
    /// interpreters start in a fraction of the time.
    pub dense_image_bytes: u64,
    /// Address space of a linear memory, so that it grows without moving and needs no bounds checks.
    pub memory_reservation: u64,
    /// Unmapped bytes after a linear memory.
    pub memory_guard: u64,
}

/// The settings of this version.
pub const SETTINGS: EngineSettings = EngineSettings {
    collector: GarbageCollector::DeferredReferenceCounting,
    opt_level: OptLevel::Speed,
    exceptions: FeatureSwitch::On,
    tail_calls: FeatureSwitch::On,
    simd: FeatureSwitch::On,
    relaxed_simd: FeatureSwitch::On,
    threads: FeatureSwitch::Off,
    epoch_interruption: FeatureSwitch::Off,
    fuel: FeatureSwitch::Off,
    component_model: FeatureSwitch::On,
    concurrency: FeatureSwitch::Off,
    table_lazy_init: FeatureSwitch::Off,
    memory_init_cow: FeatureSwitch::On,
    dense_image_bytes: 128 << 20,
    memory_reservation: 4 << 30,
    memory_guard: 32 << 20,
};

/// The input of the id's hash. It is readable, so that people can see why a key changed.
#[derive(Debug, Serialize)]
struct Described {
    wasmtime: &'static str,
    target: &'static str,
    cpu: Vec<&'static str>,
    settings: EngineSettings,
}

/// Names the recipe: 16 hex digits that change with Wasmtime's version, any of [`SETTINGS`], the
/// target, or the features of this machine's CPU (Cranelift uses the features that it detects).
#[must_use]
pub fn id() -> String {
    Digest::of_bytes(describe().as_bytes()).to_string()[..16].to_owned()
}

/// The recipe as JSON.
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

/// The CPU features that Cranelift detects.
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

/// The CPU features that Cranelift detects.
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
mod tests {
    use super::*;

    /// The runner keeps addresses in a guest's memory across its growth (decision 0035).
    #[test]
    fn memory_of_32_bit_addresses_is_reserved_whole_and_never_moves() {
        assert_eq!(SETTINGS.memory_reservation, 1 << 32);
    }

    #[test]
    fn engine_version_is_the_pinned_one() {
        let workspace = include_str!("../../../Cargo.toml");
        for name in ["wasmtime", "wiggle"] {
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
