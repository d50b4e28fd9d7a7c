//! The system calls that neither `std` nor `nix` wraps. A leaf: called by
//! `exits`, `cgroup`, `stdio`, `service` and `serve`.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor for the process, close-on-exec (pidfd_open(2), Linux 5.3).
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to the very process that the descriptor was opened for (pidfd_send_signal(2)).
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call, `siginfo` may be null.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Registers a descriptor with the runtime, to wait until it is readable.
pub(crate) fn readable(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    // SAFETY: the borrow keeps the descriptor open, and with the same number, for as long as the
    // registration lives, and a `BorrowedFd` always names the same descriptor.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE)? })
}

/// Keeps the heap of this long-lived process small: one arena for all threads, and freed memory
/// goes back to the kernel at once.
#[cfg(target_env = "gnu")]
pub(crate) fn keep_heap_small() {
    // SAFETY: mallopt only sets tunables; it is called before any other thread exists.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 * 1024);
    }
}

/// Other C libraries have no such tunables.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn keep_heap_small() {}

/// Gives what the heap does not use back to the kernel. For after a burst of work.
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes a number and is safe to call from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
