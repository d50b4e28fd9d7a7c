//! The ranges of settings.

use std::ops::RangeInclusive;

pub(crate) const MIB: u64 = 1 << 20;

/// A setting's value and range.
pub(crate) struct Bound {
    pub(crate) name: &'static str,
    pub(crate) value: u64,
    pub(crate) range: RangeInclusive<u64>,
    /// The range for an error.
    pub(crate) words: &'static str,
}
