//! Modes of files that a guest sets.
#![forbid(unsafe_code)]

use crate::{
    abi::types,
    errno::{Errno, Result},
};

/// The set-user-id and set-group-id bits.
const SET_ID: u32 = 0o6000;

/// Refuses what would let another user run a program with the guest's rights. The filter of a running
/// guest's system calls refuses it too.
pub(super) fn without_set_id(mode: types::Mode) -> Result<rustix::fs::Mode> {
    if mode & SET_ID != 0 {
        return Err(Errno::Perm);
    }
    // The type of the file may be among the bits, which no call looks at.
    Ok(rustix::fs::Mode::from_raw_mode(mode & 0o1777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_id_bits_are_refused_and_types_ignored() {
        for mode in [0o4755, 0o2755, 0o6000] {
            assert_eq!(without_set_id(mode), Err(Errno::Perm));
        }
        assert_eq!(
            without_set_id(0o101_755).map(rustix::fs::Mode::as_raw_mode),
            Ok(0o1755)
        );
    }
}
