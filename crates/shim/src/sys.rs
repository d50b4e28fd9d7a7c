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

/// A child that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dead {
    pub(crate) pid: i32,
    /// 0–255 as it said, 128+n for signal n.
    pub(crate) status: u32,
}

/// Waits for the process of the descriptor, which is a child, and reaps it.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Dead> {
    let id = pidfd.as_raw_fd().unsigned_abs();
    wait(libc::P_PIDFD, id, libc::WEXITED)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
}

/// Reaps a child if it has ended.
pub(crate) fn reap_now(pid: i32) -> io::Result<Option<Dead>> {
    wait(
        libc::P_PID,
        pid.unsigned_abs(),
        libc::WEXITED | libc::WNOHANG,
    )
}

/// Any child that has ended, left unreaped.
pub(crate) fn any_dead() -> io::Result<Option<Dead>> {
    wait(
        libc::P_ALL,
        0,
        libc::WEXITED | libc::WNOHANG | libc::WNOWAIT,
    )
}

/// waitid(2). nix's knows no real-time signals: a child that one of them killed would be an error,
/// its status lost, and the other children behind it never seen.
fn wait(kind: libc::idtype_t, id: libc::id_t, options: libc::c_int) -> io::Result<Option<Dead>> {
    // SAFETY: zeroed is a valid siginfo_t, and the call writes to it only.
    let info = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        while libc::waitid(kind, id, &raw mut info, options) < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        info
    };
    // SAFETY: waitid fills these fields, or leaves zeroes where no child has ended.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let status = status.unsigned_abs();
    Ok((pid != 0).then_some(Dead {
        pid,
        status: match info.si_code {
            libc::CLD_EXITED => status,
            _ => 128 + status,
        },
    }))
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
