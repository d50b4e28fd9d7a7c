//! Modes of files that a guest sets.
#![forbid(unsafe_code)]

use std::{
    ffi::CStr,
    os::fd::{AsFd as _, BorrowedFd},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, chmodat},
    io::{Errno as Kernel, Result as Answer},
};

use crate::{
    abi::types,
    errno::{Errno, Result},
    paths::{self, Follow, LateMounts, Paths},
    sys,
};

/// The call that changes modes by a path. The filter of a running guest allows the one that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModesBy {
    /// Which acts on the last link of a path or on its target, as it is told, and on a descriptor of a
    /// name alone.
    Fchmodat2,
    /// Of kernels before 6.6, and behind filters that are older. It always follows the last link.
    Fchmodat,
}

impl ModesBy {
    /// The one that this process can make.
    #[must_use]
    pub fn of_kernel() -> Self {
        if sys::has_change_mode() {
            Self::Fchmodat2
        } else {
            Self::Fchmodat
        }
    }

    /// fchmodat(3): EOPNOTSUPP for a link that is not followed, since Linux keeps no mode of a link.
    pub(crate) fn change(
        self,
        paths: &Paths,
        directory: BorrowedFd<'_>,
        path: &CStr,
        follow: Follow,
        mode: Mode,
    ) -> Answer<()> {
        match (self, paths.late_mounts()) {
            (Self::Fchmodat2, LateMounts::Impossible) => {
                sys::change_mode(directory, path, mode, paths::flags(follow))
            }
            (Self::Fchmodat2, LateMounts::Checked(_)) => {
                let found = paths.name(directory, path, follow)?;
                sys::change_mode(found.as_fd(), c"", mode, AtFlags::EMPTY_PATH)
            }
            (Self::Fchmodat, _) => {
                // The C library opens the name and goes through /proc, which a guest's process lacks. So
                // a link that takes the place of the file between both calls is followed: within the
                // container, and with the guest's rights.
                if follow == Follow::No {
                    let found = paths.metadata(directory, path, Follow::No)?;
                    if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
                        return Err(Kernel::OPNOTSUPP);
                    }
                }
                let place = paths.place_of_target(directory, path)?;
                chmodat(&place, place.name(), mode, AtFlags::empty())
            }
        }
    }
}

/// The set-user-id and set-group-id bits.
const SET_ID: u32 = 0o6000;

/// Refuses what would let another user run a program with the guest's rights. The filter of a running
/// guest's system calls refuses it too.
pub(crate) fn without_set_id(mode: types::Mode) -> Result<Mode> {
    if mode & SET_ID != 0 {
        return Err(Errno::Perm);
    }
    // The type of the file may be among the bits, which no call looks at.
    Ok(Mode::from_raw_mode(mode & 0o1777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_id_bits_are_refused_and_types_ignored() {
        for mode in [0o4755, 0o2755, 0o6000] {
            assert_eq!(without_set_id(mode), Err(Errno::Perm));
        }
        assert_eq!(without_set_id(0o101_755).map(Mode::as_raw_mode), Ok(0o1755));
    }
}
