//! The policy of the node's cache of native code, and of the compiles that fill it. The shim, the command
//! line and prewarming read it; the artifact store enforces it.

use serde::{Deserialize, Serialize};

use crate::bound::{Bound, MIB};

/// Bounds of the cache and of a compile: `cache` in the policy file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CachePolicy {
    /// Bytes of native code on disk. When a new entry exceeds it, the least recently used entries that
    /// no container holds are removed.
    #[serde(deserialize_with = "crate::size::deserialize")]
    pub max_bytes: u64,
    /// Bytes of the largest module that is compiled. A module is hashed, and copied into memory to be
    /// compiled, outside the container's limits.
    #[serde(deserialize_with = "crate::size::deserialize")]
    pub max_module_bytes: u64,
    /// Compiles at the same time on the node.
    pub compile_slots: usize,
    /// Bytes of private memory of one compile.
    #[serde(deserialize_with = "crate::size::deserialize")]
    pub compile_memory_bytes: u64,
    /// Seconds that a compile may take, without the wait for a slot.
    pub compile_seconds: u64,
}

impl Default for CachePolicy {
    /// Suits a node that runs interpreters of up to 100 MB.
    fn default() -> Self {
        Self {
            max_bytes: 4096 * MIB,
            max_module_bytes: 512 * MIB,
            compile_slots: 2,
            compile_memory_bytes: 4096 * MIB,
            compile_seconds: 300,
        }
    }
}

impl CachePolicy {
    /// The settings that have a range, with their ranges.
    pub(super) fn bounds(&self) -> [Bound; 4] {
        [
            Bound {
                name: "cache.max_module_bytes",
                value: self.max_module_bytes,
                range: MIB..=4096 * MIB,
                words: "from 1048576 (1 MiB) to 4294967296 (4 GiB)",
            },
            Bound {
                name: "cache.compile_slots",
                value: self.compile_slots as u64,
                range: 1..=1024,
                words: "from 1 to 1024",
            },
            Bound {
                name: "cache.compile_memory_bytes",
                value: self.compile_memory_bytes,
                range: 64 * MIB..=u64::MAX,
                words: "at least 67108864 (64 MiB)",
            },
            Bound {
                name: "cache.compile_seconds",
                value: self.compile_seconds,
                range: 1..=86400,
                words: "from 1 to 86400 (a day)",
            },
        ]
    }
}
