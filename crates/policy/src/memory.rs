//! How much memory a guest may use: `memory` in the policy file.

use serde::{Deserialize, Serialize};

use crate::bound::MIB;

/// How a guest's linear memory is bounded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryPolicy {
    /// The least difference in bytes between the guest's limit and its cgroup's limit. The runner itself
    /// uses that memory: for its stacks, page tables and WASI buffers, and for the pages of the compiled
    /// interpreter that the kernel charges to this cgroup.
    #[serde(deserialize_with = "crate::size::deserialize")]
    pub headroom_bytes: u64,
    /// The same as a percentage of the cgroup's limit. The larger of the two counts.
    pub headroom_percent: u8,
    /// Limit for every guest in bytes, even if its cgroup allows more. Absent: Wasm's own 4 GiB.
    #[serde(deserialize_with = "crate::size::deserialize_option")]
    pub max_bytes: Option<u64>,
}

impl Default for MemoryPolicy {
    fn default() -> Self {
        Self {
            headroom_bytes: 16 * MIB,
            headroom_percent: 12,
            max_bytes: None,
        }
    }
}

impl MemoryPolicy {
    /// Limit of the linear memory of a guest whose cgroup allows `limit` bytes.
    #[must_use]
    pub fn guest_ceiling(&self, limit: Option<u64>) -> Option<u64> {
        const WASM_MAX: u64 = 4 << 30;
        const WASM_PAGE: u64 = 64 << 10;
        let beneath_limit = limit.map(|limit| {
            let share = limit / 100 * u64::from(self.headroom_percent);
            // Never more than half: with a small limit the guest's allocator should fail, with the
            // guest's own error, rather than the start of the guest.
            limit - share.max(self.headroom_bytes).min(limit / 2)
        });
        [beneath_limit, self.max_bytes]
            .into_iter()
            .flatten()
            .min()
            .filter(|bytes| *bytes < WASM_MAX)
            .map(|bytes| bytes / WASM_PAGE * WASM_PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headroom_grows_with_the_limit_and_never_takes_more_than_half() {
        let memory = |limit| MemoryPolicy::default().guest_ceiling(Some(limit));
        assert_eq!(memory(128 * MIB), Some(112 * MIB));
        assert_eq!(memory(1000 * MIB), Some(880 * MIB));
        assert_eq!(memory(20 * MIB), Some(10 * MIB));
        assert_eq!(memory(64 << 30), None, "Wasm ends at 4 GiB by itself");
        assert_eq!(MemoryPolicy::default().guest_ceiling(None), None);
    }

    #[test]
    fn the_ceiling_wins_over_the_limit() {
        let policy = MemoryPolicy {
            max_bytes: Some(64 * MIB),
            ..MemoryPolicy::default()
        };
        assert_eq!(policy.guest_ceiling(Some(1 << 30)), Some(64 * MIB));
        assert_eq!(policy.guest_ceiling(None), Some(64 * MIB));
    }
}
