//! The beginning of a list of bytes of the guest: for a function that may take less than the guest passes, and says
//! how much it has taken.
//!
//! Wasmtime copies a list as a whole, and that copy is no part of the memory that the guest's ceiling counts.
//!
//! This is a leaf file with unsafe code: the traits are Wasmtime's own for its macros.
#![allow(unsafe_code)]

use wasmtime::{
    Error, Result,
    component::{
        __internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext},
        ComponentType, Lift,
    },
};

use crate::limits;

/// At most [`limits::TRANSFER`] bytes of a `list<u8>`.
pub(super) struct FirstBytes(pub(super) Vec<u8>);

// SAFETY: all of it is that of `[u8]`.
unsafe impl ComponentType for FirstBytes {
    type Lower = <[u8] as ComponentType>::Lower;

    const ABI: CanonicalAbiInfo = <[u8] as ComponentType>::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        <[u8] as ComponentType>::typecheck(ty, types)
    }
}

// SAFETY: what a list is in the canonical ABI, an address and a length of 32 bits each, is read as Wasmtime's own
// implementation for lists reads it, and the memory through a slice.
unsafe impl Lift for FirstBytes {
    fn linear_lift_from_flat(
        cx: &mut LiftContext<'_>,
        _: InterfaceType,
        [address, length]: &Self::Lower,
    ) -> Result<Self> {
        first_of(cx.memory(), address.get_u32(), length.get_u32())
    }

    fn linear_lift_from_memory(
        cx: &mut LiftContext<'_>,
        _: InterfaceType,
        bytes: &[u8],
    ) -> Result<Self> {
        match bytes.as_chunks().0 {
            [address, length] => first_of(
                cx.memory(),
                u32::from_le_bytes(*address),
                u32::from_le_bytes(*length),
            ),
            _ => Err(Error::msg("a list is an address and a length")),
        }
    }
}

fn first_of(memory: &[u8], address: u32, length: u32) -> Result<FirstBytes> {
    let list = memory
        .get(address as usize..)
        .and_then(|rest| rest.get(..length as usize))
        .ok_or_else(|| Error::msg("list pointer/length out of bounds of memory"))?;
    let first = list.len().min(limits::TRANSFER);
    Ok(FirstBytes(list[..first].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_within_memory_and_its_beginning_is_copied() {
        let memory = vec![7; limits::TRANSFER + 10];
        let first = |address, length| first_of(&memory, address, length).map(|first| first.0.len());
        let end = u32::try_from(memory.len()).expect("small");
        assert_eq!(first(0, end).expect("inside"), limits::TRANSFER);
        assert_eq!(first(end - 3, 3).expect("inside"), 3);
        assert_eq!(first(end, 0).expect("inside"), 0);
        for (address, length) in [(end, 1), (end + 1, 0), (1, end), (u32::MAX, u32::MAX)] {
            let error = first(address, length).expect_err("outside");
            assert!(error.to_string().contains("out of bounds"), "{error}");
        }
    }
}
