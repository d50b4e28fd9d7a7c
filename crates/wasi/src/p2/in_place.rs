//! A list of bytes of the guest, where it lies in its memory: for functions that write it somewhere, however long it is.
//!
//! Wasmtime copies a list as a whole, and bounds all lists of a call by what may be copied ([`limits::CALL`]). What is not
//! copied needs no bound.
//!
//! This is a leaf file with unsafe code: the traits are Wasmtime's own for its macros, and a pointer is kept for a call.
//!
//! [`limits::CALL`]: crate::limits::CALL
#![allow(unsafe_code)]

use std::slice;

use wasmtime::{
    AsContext, Error, Result,
    component::{
        __internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext},
        ComponentType, Lift,
    },
};

/// A `list<u8>` that a function of the host is called with. It is made by the call, and goes with it.
pub(super) struct GuestBytes {
    start: *const u8,
    length: usize,
}

// SAFETY: it only reads, and only where the store is borrowed, which may itself be sent.
unsafe impl Send for GuestBytes {}
// SAFETY: the same.
unsafe impl Sync for GuestBytes {}

impl GuestBytes {
    /// The bytes. As long as they are used, nothing runs in the store: so the memory is neither written nor moved.
    pub(super) fn of<'a>(&'a self, _: &'a impl AsContext) -> &'a [u8] {
        // SAFETY: it is a part of the memory of the guest that has called, by `bytes_of`; the call has not returned, and the
        // store, which owns that memory, is borrowed.
        unsafe { slice::from_raw_parts(self.start, self.length) }
    }
}

// SAFETY: all of it is that of `[u8]`.
unsafe impl ComponentType for GuestBytes {
    type Lower = <[u8] as ComponentType>::Lower;

    const ABI: CanonicalAbiInfo = <[u8] as ComponentType>::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        <[u8] as ComponentType>::typecheck(ty, types)
    }
}

// SAFETY: what a list is in the canonical ABI, an address and a length of 32 bits each, is read as Wasmtime's own
// implementation for lists reads it, and the memory through a slice.
unsafe impl Lift for GuestBytes {
    fn linear_lift_from_flat(
        cx: &mut LiftContext<'_>,
        _: InterfaceType,
        [address, length]: &Self::Lower,
    ) -> Result<Self> {
        bytes_of(cx.memory(), address.get_u32(), length.get_u32())
    }

    fn linear_lift_from_memory(
        cx: &mut LiftContext<'_>,
        _: InterfaceType,
        bytes: &[u8],
    ) -> Result<Self> {
        match bytes.as_chunks().0 {
            [address, length] => bytes_of(
                cx.memory(),
                u32::from_le_bytes(*address),
                u32::from_le_bytes(*length),
            ),
            _ => Err(Error::msg("a list is an address and a length")),
        }
    }
}

fn bytes_of(memory: &[u8], address: u32, length: u32) -> Result<GuestBytes> {
    let list = memory
        .get(address as usize..)
        .and_then(|rest| rest.get(..length as usize))
        .ok_or_else(|| Error::msg("list pointer/length out of bounds of memory"))?;
    Ok(GuestBytes {
        start: list.as_ptr(),
        length: list.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_within_memory() {
        let memory: Vec<u8> = (0..100).collect();
        let store = wasmtime::Store::new(&wasmtime::Engine::default(), ());
        let bytes = |address, length| bytes_of(&memory, address, length);
        let seen = |address, length| {
            let bytes = bytes(address, length).expect("inside");
            bytes.of(&store).to_vec()
        };
        assert_eq!(seen(0, 100), memory);
        assert_eq!(seen(97, 3), [97, 98, 99]);
        assert_eq!(seen(100, 0), [0; 0]);
        for (address, length) in [(100, 1), (101, 0), (1, 100), (u32::MAX, u32::MAX)] {
            let error = bytes(address, length).err().expect("outside");
            assert!(error.to_string().contains("out of bounds"), "{error}");
        }
    }
}
