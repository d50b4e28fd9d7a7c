//! The system calls of sockets that take an address or the value of an option as bytes.
//!
//! A leaf: knows nothing of guests and grants.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::io::Result;

use super::address::KernelAddress;
use crate::sys::checked;

fn length(bytes: &[u8]) -> libc::socklen_t {
    // Addresses and values of options are short.
    bytes.len() as libc::socklen_t
}

/// bind(2).
pub(crate) fn bind(fd: BorrowedFd<'_>, address: &KernelAddress) -> Result<()> {
    let bytes = address.bytes();
    // SAFETY: pointer and length are those of `bytes`, which the kernel reads.
    checked(unsafe { libc::bind(fd.as_raw_fd(), bytes.as_ptr().cast(), length(bytes)) }).map(drop)
}

/// connect(2).
pub(crate) fn connect(fd: BorrowedFd<'_>, address: &KernelAddress) -> Result<()> {
    let bytes = address.bytes();
    // SAFETY: pointer and length are those of `bytes`, which the kernel reads.
    checked(unsafe { libc::connect(fd.as_raw_fd(), bytes.as_ptr().cast(), length(bytes)) })
        .map(drop)
}

/// Makes a call that writes an address to the room that it is given, and how long that is.
fn ask(
    call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int,
) -> Result<(libc::c_int, KernelAddress)> {
    let mut room = [0; KernelAddress::ROOM];
    let mut size = length(&room);
    let result = call(room.as_mut_ptr().cast(), &raw mut size);
    checked(result)?;
    Ok((result, KernelAddress::new(room, size as usize)))
}

/// getsockname(2).
pub(crate) fn local(fd: BorrowedFd<'_>) -> Result<KernelAddress> {
    // SAFETY: the kernel writes at most `size` bytes to `room`, which `ask` has made that long, and then
    // the length to `size`.
    ask(|room, size| unsafe { libc::getsockname(fd.as_raw_fd(), room, size) })
        .map(|(_, address)| address)
}

/// getpeername(2).
pub(crate) fn peer(fd: BorrowedFd<'_>) -> Result<KernelAddress> {
    // SAFETY: as in `local`.
    ask(|room, size| unsafe { libc::getpeername(fd.as_raw_fd(), room, size) })
        .map(|(_, address)| address)
}

/// accept4(2).
pub(crate) fn accept(fd: BorrowedFd<'_>, flags: libc::c_int) -> Result<(OwnedFd, KernelAddress)> {
    let flags = flags | libc::SOCK_CLOEXEC;
    // SAFETY: as in `local`.
    let (accepted, peer) =
        ask(|room, size| unsafe { libc::accept4(fd.as_raw_fd(), room, size, flags) })?;
    // SAFETY: the result is a new descriptor, which nothing else owns.
    let accepted = unsafe { OwnedFd::from_raw_fd(accepted) };
    Ok((accepted, peer))
}

/// getsockopt(2): the value's length.
pub(crate) fn option(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &mut [u8],
) -> Result<usize> {
    let mut size = length(value);
    // SAFETY: the kernel writes at most `size` bytes into `value`, and then the length to `size`.
    checked(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            option,
            value.as_mut_ptr().cast(),
            &raw mut size,
        )
    })?;
    Ok(size as usize)
}

/// setsockopt(2).
pub(crate) fn set_option(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &[u8],
) -> Result<()> {
    // SAFETY: pointer and length are those of `value`, which the kernel reads.
    checked(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            value.as_ptr().cast(),
            length(value),
        )
    })
    .map(drop)
}
