//! How many things of one kind a guest may have at a time.
//!
//! A handle costs the process little, and is counted with all others. Some stand for more: a socket, or memory that the
//! guest's ceiling does not count.
#![forbid(unsafe_code)]

use std::sync::Arc;

/// How many a guest may have, and has.
#[derive(Debug)]
pub(in crate::p2) struct Slots {
    most: usize,
    /// Each slot that is taken has another reference.
    taken: Arc<()>,
}

/// The slot of one thing, which is free again when this is dropped.
#[derive(Debug)]
pub(in crate::p2) struct CountedSlot {
    _taken: Arc<()>,
}

impl Slots {
    pub(in crate::p2) fn new(most: usize) -> Self {
        Self {
            most,
            taken: Arc::new(()),
        }
    }

    /// A slot for what is then made. Without one it is not made.
    pub(in crate::p2) fn take(&self) -> Option<CountedSlot> {
        (Arc::strong_count(&self.taken) <= self.most).then(|| CountedSlot {
            _taken: Arc::clone(&self.taken),
        })
    }
}
