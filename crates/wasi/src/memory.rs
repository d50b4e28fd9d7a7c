//! The guest's memory as system calls see it: bytes, and vectors of buffers in it.
//!
//! Data goes between the guest's memory and the kernel without a copy in between. The memory is not
//! shared with another thread, so a borrow of it lasts for the whole call.
#![forbid(unsafe_code)]

use std::ops::Range;

use wiggle::{GuestMemory, GuestPtr, GuestType};

use crate::{
    abi::types,
    errno::{Errno, Result},
    limits,
};

/// Buffers of a vectored call, as ranges of the guest's memory that are all within it. Empty ones
/// are left out. They may overlap.
#[derive(Debug)]
pub(crate) enum Vectors {
    /// The common case, which needs no list.
    One(Range<usize>),
    Many(Vec<Range<usize>>),
}

const EMPTY: Range<usize> = 0..0;

/// A buffer of a vectored call.
pub(crate) trait Vector: GuestType {
    fn start_and_length(self) -> (u32, u32);
}

impl Vector for types::Iovec {
    fn start_and_length(self) -> (u32, u32) {
        (self.buf.offset(), self.buf_len)
    }
}

impl Vector for types::Ciovec {
    fn start_and_length(self) -> (u32, u32) {
        (self.buf.offset(), self.buf_len)
    }
}

/// All bytes of the guest's memory.
pub fn bytes<'a>(memory: &'a mut GuestMemory<'_>) -> Result<&'a mut [u8]> {
    match memory {
        GuestMemory::Unshared(bytes) => Ok(bytes),
        // The compiler's check refuses shared memories.
        GuestMemory::Shared(_) => Err(Errno::Notsup),
    }
}

/// The bytes at `pointer`, as far as they are in the guest's memory.
pub fn range(memory: &GuestMemory<'_>, pointer: GuestPtr<[u8]>) -> Result<Range<usize>> {
    let (start, length) = pointer.offset();
    match memory.as_slice(pointer)? {
        Some(_) => Ok(start as usize..start as usize + length as usize),
        None => Err(Errno::Notsup),
    }
}

/// The bytes at `pointer`, for reading.
pub fn slice<'a>(memory: &'a GuestMemory<'_>, pointer: GuestPtr<[u8]>) -> Result<&'a [u8]> {
    memory.as_slice(pointer)?.ok_or(Errno::Notsup)
}

/// The bytes at `pointer`, for writing.
pub fn slice_mut<'a>(
    memory: &'a mut GuestMemory<'_>,
    pointer: GuestPtr<[u8]>,
) -> Result<&'a mut [u8]> {
    memory.as_slice_mut(pointer)?.ok_or(Errno::Notsup)
}

impl Vectors {
    /// As a list.
    pub(crate) fn ranges(&self) -> &[Range<usize>] {
        match self {
            Self::One(range) => std::slice::from_ref(range),
            Self::Many(ranges) => ranges,
        }
    }

    /// The beginning of the first buffer, at most `length` bytes.
    pub(crate) fn first(&self, length: usize) -> Range<usize> {
        let first = match self {
            Self::One(range) => range,
            Self::Many(ranges) => ranges.first().unwrap_or(&EMPTY),
        };
        first.start..first.end.min(first.start + length)
    }

    /// The bytes of all of them.
    pub(crate) fn length(&self) -> usize {
        self.ranges().iter().map(Range::len).sum()
    }

    /// What is behind the first `count` bytes.
    pub(crate) fn after(&self, mut count: usize) -> Self {
        let ranges = self.ranges().iter().filter_map(|range| {
            let taken = count.min(range.len());
            count -= taken;
            (taken < range.len()).then_some(range.start + taken..range.end)
        });
        let mut ranges: Vec<_> = ranges.collect();
        match ranges.len() {
            0 => Self::One(EMPTY),
            1 => Self::One(ranges.remove(0)),
            _ => Self::Many(ranges),
        }
    }

    /// Reads the guest's list of buffers.
    pub(crate) fn read<V: Vector>(memory: &GuestMemory<'_>, list: GuestPtr<[V]>) -> Result<Self> {
        if list.len() > limits::VECTORS {
            return Err(Errno::Inval);
        }
        let mut vectors = Self::One(0..0);
        for pointer in list.iter() {
            let (start, length) = memory.read(pointer?)?.start_and_length();
            if length == 0 {
                continue;
            }
            let next = range(memory, GuestPtr::new((start, length)))?;
            match &mut vectors {
                Self::One(first) if first.start == first.end => *first = next,
                Self::One(first) => vectors = Self::Many(vec![first.clone(), next]),
                Self::Many(ranges) => ranges.push(next),
            }
        }
        Ok(vectors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_behind_some_are_those_that_are_left() {
        let all = Vectors::Many(vec![10..14, 20..23, 30..35]);
        assert_eq!(all.length(), 12);
        let left = |vectors: &Vectors, count| {
            let left = vectors.after(count);
            let bounds = left.ranges().iter().map(|range| (range.start, range.end));
            bounds.collect::<Vec<_>>()
        };
        for (count, expected) in [
            (0, &[(10, 14), (20, 23), (30, 35)][..]),
            (3, &[(13, 14), (20, 23), (30, 35)]),
            (4, &[(20, 23), (30, 35)]),
            (6, &[(22, 23), (30, 35)]),
            (7, &[(30, 35)]),
            (11, &[(34, 35)]),
            (12, &[(0, 0)]),
        ] {
            assert_eq!(left(&all, count), expected, "{count}");
        }
        assert_eq!(left(&Vectors::One(5..9), 1), [(6, 9)]);
    }
}
