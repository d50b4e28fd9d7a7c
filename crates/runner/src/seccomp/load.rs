//! seccomp(2): loads a program into the kernel.
#![allow(unsafe_code)]

use std::{
    io::{Error, ErrorKind, Result},
    os::fd::{FromRawFd, OwnedFd, RawFd},
    ptr,
};

use libc::{c_long, c_ulong, sock_filter, sock_fprog};

use super::Question;

/// The calls that load a filter without flags: a profile may forbid one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loader {
    /// seccomp(2).
    Seccomp,
    /// prctl(2), which is older.
    Prctl,
}

impl Loader {
    /// The call that it makes.
    pub(crate) fn question(self) -> Question {
        match self {
            Self::Seccomp => Question::of(
                "seccomp",
                libc::SYS_seccomp,
                [libc::SECCOMP_SET_MODE_FILTER.into(), 0, 0, 0, 0, 0],
            ),
            Self::Prctl => Question::of(
                "prctl",
                libc::SYS_prctl,
                [SET_SECCOMP, libc::SECCOMP_MODE_FILTER.into(), 0, 0, 0, 0],
            ),
        }
    }
}

const SET_SECCOMP: u64 = libc::PR_SET_SECCOMP as u64;

/// The kernel logs every action but an allowed call.
pub(super) const LOG: u32 = 1 << 1;
/// The kernel does not switch on its mitigation of speculative store bypass, which costs speed.
pub(super) const SPEC_ALLOW: u32 = 1 << 2;
/// The call returns a descriptor for notifications.
pub(super) const NEW_LISTENER: u32 = 1 << 3;
/// What waits for a listener can be ended by a fatal signal only (Linux 5.19).
pub(super) const WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// Whether this kernel knows the flags.
pub(super) fn is_supported(flags: u32) -> bool {
    // SAFETY: without a program nothing is loaded; the kernel looks at the flags first and fails with
    // EINVAL, or with EFAULT for the program.
    let result = unsafe { seccomp(flags, ptr::null()) };
    result < 0 && Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

/// Loads `program` for this thread. Returns the descriptor for notifications, if the flags ask for it.
pub(super) fn load(program: &[sock_filter], flags: u32) -> Result<Option<OwnedFd>> {
    let len = u16::try_from(program.len()).map_err(|e| Error::new(ErrorKind::InvalidInput, e))?;
    let program = sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `program` points to as many steps as it says, which live until the call returns; the
    // kernel copies them and writes nothing.
    let result = unsafe { seccomp(flags, &raw const program) };
    if result < 0 {
        return Err(Error::last_os_error());
    }
    if flags & NEW_LISTENER == 0 {
        return Ok(None);
    }
    let fd = RawFd::try_from(result).map_err(Error::other)?;
    // SAFETY: with this flag the result is a new descriptor, which nothing else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Loads `program` for this thread, which has given up new privileges.
pub(super) fn load_by_prctl(program: &[sock_filter]) -> Result<()> {
    let len = u16::try_from(program.len()).map_err(|e| Error::new(ErrorKind::InvalidInput, e))?;
    let program = sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: as in `load`.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            c_ulong::from(libc::SECCOMP_MODE_FILTER),
            &raw const program,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(Error::last_os_error())
    }
}

/// # Safety
/// `program` is null, or points to a program that is valid during the call.
unsafe fn seccomp(flags: u32, program: *const sock_fprog) -> c_long {
    // SAFETY: the caller's contract.
    unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            program,
        )
    }
}
