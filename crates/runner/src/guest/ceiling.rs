//! Where the guest's memory ends, so that an interpreter sees a failed allocation before the
//! kernel kills the container.
//!
//! Asked by Wasmtime before a memory or table is made or grown.
#![forbid(unsafe_code)]

use wasmtime::ResourceLimiter;

/// What one element of a table costs: a pointer.
const ELEMENT: usize = size_of::<usize>();

/// A ceiling over all memories and tables of one guest together.
#[derive(Debug)]
pub(super) struct Ceiling {
    limit: usize,
    used: usize,
    refused: Option<usize>,
}

impl Ceiling {
    /// `None`: what the address space of a guest gives.
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self {
            limit: limit.map_or(usize::MAX, |l| usize::try_from(l).unwrap_or(usize::MAX)),
            used: 0,
            refused: None,
        }
    }

    /// The size in bytes that was last refused, if any was.
    pub(super) fn refused(&self) -> Option<usize> {
        self.refused
    }

    /// Whether something may grow whose units have so many bytes.
    fn grow(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
        unit: usize,
    ) -> bool {
        // Beyond its own maximum Wasmtime refuses after us; do not count it.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return false;
        }
        let by = desired.saturating_sub(current).saturating_mul(unit);
        match self.used.checked_add(by) {
            Some(total) if total <= self.limit => {
                self.used = total;
                true
            }
            total => {
                self.refused = Some(total.unwrap_or(usize::MAX));
                false
            }
        }
    }
}

impl ResourceLimiter for Ceiling {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, maximum, 1))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, maximum, ELEMENT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn memories_share_one_ceiling() {
        let mut ceiling = Ceiling::new(Some(10 * MIB as u64));
        assert!(ceiling.memory_growing(0, 6 * MIB, None).expect("no trap"));
        assert!(!ceiling.memory_growing(0, 6 * MIB, None).expect("no trap"));
        assert_eq!(ceiling.refused(), Some(12 * MIB));
        assert!(
            ceiling
                .memory_growing(6 * MIB, 10 * MIB, None)
                .expect("no trap")
        );
        assert!(!ceiling.table_growing(0, 1, None).expect("no trap"));
    }

    #[test]
    fn a_refusal_by_the_memory_itself_costs_nothing() {
        let mut ceiling = Ceiling::new(Some(10 * MIB as u64));
        assert!(
            !ceiling
                .memory_growing(0, 2 * MIB, Some(MIB))
                .expect("no trap")
        );
        assert_eq!(ceiling.refused(), None);
        assert!(ceiling.memory_growing(0, 10 * MIB, None).expect("no trap"));
    }

    #[test]
    fn without_a_limit_everything_is_granted() {
        let mut ceiling = Ceiling::new(None);
        assert!(
            ceiling
                .memory_growing(0, 4096 * MIB, None)
                .expect("no trap")
        );
    }
}
