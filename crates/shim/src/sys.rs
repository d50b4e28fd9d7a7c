//! System calls that neither `std` nor `nix` wraps. A leaf file with unsafe code, called by
//! `reaper`, `cgroup`, `io`, `service` and `serve`.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor for the process, close-on-exec (pidfd_open(2), Linux 5.3).
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and accesses no memory of this process.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the process that the descriptor was opened for has ended, waited for or not.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut files = [PollFd::new(pidfd, PollFlags::POLLIN)];
    loop {
        match poll(&mut files, PollTimeout::ZERO) {
            Err(Errno::EINTR) => {}
            ready => return Ok(ready? > 0),
        }
    }
}

/// Sends a signal to the process that the descriptor was opened for, and never to a later process
/// with its number (pidfd_send_signal(2)).
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
pub(crate) struct EndedChild {
    pub(crate) pid: i32,
    /// Its exit status, or 128+n if signal n ended it.
    pub(crate) status: u32,
}

/// Waits until the child of the descriptor has ended, and reaps it.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> io::Result<EndedChild> {
    let id = pidfd.as_raw_fd().unsigned_abs();
    wait(libc::P_PIDFD, id, libc::WEXITED)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
}

/// Reaps a child if it has ended.
pub(crate) fn reap_now(pid: i32) -> io::Result<Option<EndedChild>> {
    wait(
        libc::P_PID,
        pid.unsigned_abs(),
        libc::WEXITED | libc::WNOHANG,
    )
}

/// Finds a child that has ended, and does not reap it.
pub(crate) fn any_ended() -> io::Result<Option<EndedChild>> {
    wait(
        libc::P_ALL,
        0,
        libc::WEXITED | libc::WNOHANG | libc::WNOWAIT,
    )
}

/// waitid(2). nix's function fails for a child that a real-time signal killed: the status would be
/// lost, and the children after it would never be seen.
fn wait(
    kind: libc::idtype_t,
    id: libc::id_t,
    options: libc::c_int,
) -> io::Result<Option<EndedChild>> {
    // SAFETY: a siginfo_t of zeroes is valid, and the call writes to nothing else.
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
    // SAFETY: waitid fills these fields, or leaves them zero if no child has ended.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let status = status.unsigned_abs();
    Ok((pid != 0).then_some(EndedChild {
        pid,
        status: match info.si_code {
            libc::CLD_EXITED => status,
            _ => 128 + status,
        },
    }))
}

/// Registers a descriptor with the runtime, to wait until it is readable.
pub(crate) fn readable(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    // SAFETY: the borrow keeps the descriptor open, with the same number, for as long as the
    // registration lives.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE)? })
}

/// The ends of a new pseudoterminal of the host (pty(7)): the master, which does not block, and the slave.
pub(crate) fn open_pty() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the path is a valid C string.
    let master = unsafe { libc::open(c"/dev/ptmx".as_ptr(), flags | libc::O_NONBLOCK) };
    if master < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
    let master = unsafe { OwnedFd::from_raw_fd(master) };
    let unlocked: libc::c_int = 0;
    // SAFETY: the call reads one int.
    if unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call takes flags by value (ioctl_tty(2), Linux 4.13).
    let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    if slave < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    Ok((master, unsafe { OwnedFd::from_raw_fd(slave) }))
}

/// Sets the size of a terminal, in characters.
pub(crate) fn resize_terminal(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the call reads one structure of this type.
    if unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// How many bytes a pipe holds (FIONREAD, ioctl_pipe(2)).
pub(crate) fn unread(pipe: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the call writes one int.
    if unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut bytes) } < 0 {
        return Err(io::Error::last_os_error());
    }
    usize::try_from(bytes).map_err(io::Error::other)
}

/// Registers a descriptor with the runtime for as long as the result lives.
pub(crate) fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the registration owns the descriptor, which keeps its number until it is closed with it. Its users
    // get it by shared reference alone, so none can put another in its place.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest)? })
}

/// Keeps the heap of this long-lived process small: all threads share one arena, and freed memory
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

/// Gives unused memory of the heap back to the kernel, after a burst of work.
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes a number and is safe to call from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
