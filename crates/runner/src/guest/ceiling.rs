//! Where the guest's memory ends, so that an interpreter sees a failed allocation before the
//! kernel kills the container.
//!
//! The limit may change while the guest runs: the shim writes it to a page that is mapped here read-only. Lowered
//! below what the guests of the container have, it refuses everything more.
//!
//! Asked by Wasmtime before a memory or table is made or grown.
#![forbid(unsafe_code)]

use std::sync::Arc;

use wasm_interp_runner_client::{CeilingView, NoRoom};
use wasmtime::ResourceLimiter;

/// What one element of a table costs: a pointer.
const ELEMENT: usize = size_of::<usize>();

/// A guest's limit in bytes. `None` in either: what the address space of a guest gives.
#[derive(Debug)]
pub(super) enum MemoryLimit {
    /// It holds for good.
    Fixed(Option<u64>),
    /// It may change at any time, and is for all guests of the container together.
    Shared(CeilingView),
}

impl MemoryLimit {
    /// Whether this guest may have so many bytes in all.
    fn admit(&self, bytes: u64) -> Result<(), NoRoom> {
        match self {
            Self::Fixed(Some(limit)) if bytes > *limit => Err(NoRoom {
                asked: bytes,
                limit: *limit,
            }),
            Self::Fixed(_) => Ok(()),
            Self::Shared(view) => view.request(bytes),
        }
    }

    /// This guest has only so many bytes in all.
    fn give_back_to(&self, bytes: u64) {
        match self {
            Self::Fixed(_) => {}
            Self::Shared(view) => view.give_back_to(bytes),
        }
    }
}

/// A ceiling over all memories and tables of one guest together.
#[derive(Debug)]
pub(super) struct Ceiling {
    limit: Arc<MemoryLimit>,
    used: usize,
    /// What was granted last, until it is known that the guest has it.
    granted: usize,
    refused: Option<NoRoom>,
}

impl Ceiling {
    pub(super) fn new(limit: Arc<MemoryLimit>) -> Self {
        Self {
            limit,
            used: 0,
            granted: 0,
            refused: None,
        }
    }

    /// What was last refused, if anything was.
    pub(super) fn refused(&self) -> Option<NoRoom> {
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
        let total = self.used.saturating_add(by);
        match self.limit.admit(total as u64) {
            Ok(()) if total < usize::MAX => {
                self.used = total;
                self.granted = by;
                true
            }
            Ok(()) => false,
            Err(refused) => {
                self.refused = Some(refused);
                false
            }
        }
    }

    /// The kernel has refused what was granted last.
    fn give_back(&mut self) {
        self.used -= std::mem::take(&mut self.granted);
        self.limit.give_back_to(self.used as u64);
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

    // For the guest it is a failed growth, as without these functions. It comes without a question only of a memory whose pages
    // have one byte, which is a feature that no module may use.
    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.give_back();
        Ok(())
    }

    // Wasmtime calls it without asking before, for sizes that overflow, and never for elements that it could not get after
    // it was granted them: that ends the guest. So nothing is given back.
    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use wasm_interp_runner_client::SharedCeiling;

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn fixed(limit: Option<usize>) -> Ceiling {
        let limit = limit.map(|bytes| bytes as u64);
        Ceiling::new(Arc::new(MemoryLimit::Fixed(limit)))
    }

    #[test]
    fn shared_limit_is_read_at_each_growth() {
        let shared = SharedCeiling::new(Some(2 * MIB as u64)).expect("a page");
        let view = CeilingView::map(shared.as_fd(), 0).expect("map");
        let mut ceiling = Ceiling::new(Arc::new(MemoryLimit::Shared(view)));
        let mut grow = |from, to| ceiling.memory_growing(from, to, None).expect("no trap");
        assert!(grow(0, 2 * MIB));
        assert!(!grow(2 * MIB, 3 * MIB));
        shared.set(Some(4 * MIB as u64));
        assert!(grow(2 * MIB, 3 * MIB));
        // Below what the guest has: it keeps that, and gets nothing more.
        shared.set(Some(MIB as u64));
        assert!(!grow(3 * MIB, 3 * MIB + 1));
        shared.set(None);
        assert!(grow(3 * MIB, 64 * MIB));
        let refused = ceiling.refused().expect("refused");
        assert_eq!(
            (refused.asked, refused.limit),
            (3 * MIB as u64 + 1, MIB as u64)
        );
    }

    #[test]
    fn what_the_kernel_refuses_is_given_back() {
        let shared = SharedCeiling::new(Some(10 * MIB as u64)).expect("pages");
        let view = |place| CeilingView::map(shared.as_fd(), place).expect("map");
        let mut ceiling = Ceiling::new(Arc::new(MemoryLimit::Shared(view(0))));
        assert!(ceiling.memory_growing(0, 2 * MIB, None).expect("no trap"));
        assert!(
            ceiling
                .memory_growing(2 * MIB, 9 * MIB, None)
                .expect("no trap")
        );
        let place = shared.place().expect("a place");
        let other = view(place.number());
        other.request(2 * MIB as u64).expect_err("no room");
        ceiling
            .memory_grow_failed(wasmtime::Error::msg("out of memory"))
            .expect("no trap");
        other.request(2 * MIB as u64).expect("given back");
        assert!(
            ceiling
                .memory_growing(2 * MIB, 3 * MIB, None)
                .expect("no trap")
        );
    }

    #[test]
    fn table_that_cannot_grow_gives_back_nothing_of_a_memory() {
        let mut ceiling = fixed(Some(4 * MIB));
        for step in 0..4 {
            let from = step * MIB;
            assert!(
                ceiling
                    .memory_growing(from, from + MIB, None)
                    .expect("no trap")
            );
            ceiling
                .table_grow_failed(wasmtime::Error::msg("overflow"))
                .expect("no trap");
        }
        let more = ceiling.memory_growing(4 * MIB, 5 * MIB, None);
        assert!(!more.expect("no trap"));
    }

    #[test]
    fn memories_share_one_ceiling() {
        let mut ceiling = fixed(Some(10 * MIB));
        assert!(ceiling.memory_growing(0, 6 * MIB, None).expect("no trap"));
        assert!(!ceiling.memory_growing(0, 6 * MIB, None).expect("no trap"));
        assert_eq!(ceiling.refused().map(|r| r.asked), Some(12 * MIB as u64));
        assert!(
            ceiling
                .memory_growing(6 * MIB, 10 * MIB, None)
                .expect("no trap")
        );
        assert!(!ceiling.table_growing(0, 1, None).expect("no trap"));
    }

    #[test]
    fn a_refusal_by_the_memory_itself_costs_nothing() {
        let mut ceiling = fixed(Some(10 * MIB));
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
        let mut ceiling = fixed(None);
        assert!(
            ceiling
                .memory_growing(0, 4096 * MIB, None)
                .expect("no trap")
        );
    }
}
