//! The system calls that neither the standard library nor nix offers in a form that fits, each a
//! safe function with its proof.
//!
//! A leaf: knows nothing of containers or guests.
#![allow(unsafe_code)]

use std::{
    ffi::CString,
    os::fd::{AsFd, BorrowedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl, open},
    sys::stat::{Mode, SFlag, fstat, makedev},
    unistd::{dup2_stderr, dup2_stdout},
};

/// Descriptor of the standard input.
pub(crate) const STDIN: RawFd = 0;
/// Descriptor of the standard output.
pub(crate) const STDOUT: RawFd = 1;
/// Descriptor of the standard error.
pub(crate) const STDERR: RawFd = 2;

/// Ends the process at once: no destructor, no `atexit`, nothing flushed.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` is async-signal-safe and does not return.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor that is not in `keep`, which has to be sorted.
///
/// The owners of the closed descriptors must never run again: for use by a process that ends by
/// [`exit_now`].
pub(crate) fn close_all_except(keep: &[RawFd]) -> std::io::Result<()> {
    let mut first: libc::c_uint = 0;
    for &fd in keep {
        let fd = libc::c_uint::try_from(fd).map_err(std::io::Error::other)?;
        if first < fd {
            close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close_range(first, libc::c_uint::MAX)
}

fn close_range(first: libc::c_uint, last: libc::c_uint) -> std::io::Result<()> {
    // SAFETY: closes descriptors, touches no memory. That their owners do not use them again is
    // the contract of `close_all_except`.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    // Before Linux 5.9, or hidden by an old seccomp profile: one by one. No descriptor can lie
    // beyond the hard limit, and what is inherited here was opened from the lowest number up.
    if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) {
        return Err(error);
    }
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for the write.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    let end = limit.rlim_max.min(1 << 20).min(u64::from(last) + 1);
    for fd in u64::from(first)..end {
        // SAFETY: as above; a number that is not open gives EBADF, which is as good as closed.
        unsafe { libc::close(fd as RawFd) };
    }
    Ok(())
}

/// Closes one descriptor that an inherited owner will never use again in this process.
pub(crate) fn close_inherited(fd: RawFd) {
    // SAFETY: closes a descriptor, touches no memory; the copy of the owner that this forked
    // process holds is never used or dropped, because the process ends by `exit_now`.
    unsafe { libc::close(fd) };
}

/// Borrows one of the three standard descriptors.
pub(crate) fn standard(fd: RawFd) -> BorrowedFd<'static> {
    debug_assert!((STDIN..=STDERR).contains(&fd));
    // SAFETY: 0, 1 and 2 are open for the whole life of the process: the caller passes them and
    // `close_all_except` is given them to keep.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Makes standard output and error writable where they are a `/dev/null` that can only be read.
///
/// libcontainer 0.7 puts the container's own in the place of the host's, on all three descriptors,
/// and opens it for reading only.
pub(crate) fn make_null_writable() -> std::io::Result<()> {
    for fd in [STDOUT, STDERR] {
        let stream = standard(fd);
        let flags = OFlag::from_bits_retain(fcntl(stream, FcntlArg::F_GETFL)?);
        if flags & OFlag::O_ACCMODE != OFlag::O_RDONLY || !is_null(stream)? {
            continue;
        }
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        if !is_null(null.as_fd())? {
            return Err(std::io::Error::other("/dev/null is not the null device"));
        }
        match fd {
            STDOUT => dup2_stdout(&null)?,
            _ => dup2_stderr(&null)?,
        }
    }
    Ok(())
}

fn is_null(fd: BorrowedFd<'_>) -> nix::Result<bool> {
    let stat = fstat(fd)?;
    let device = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFCHR;
    Ok(device && stat.st_rdev == makedev(1, 3))
}

/// What ending a process by a signal looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnSignal {
    /// End with 128 + the signal's number, as if the signal's default action had struck: process 1
    /// of a pid namespace has no default actions.
    ExitWithItsNumber,
    /// End with 0, as the pause container of Kubernetes does.
    ExitSuccessfully,
}

static SUCCESSFULLY: AtomicBool = AtomicBool::new(false);

extern "C" fn end(signal: libc::c_int) {
    let code = if SUCCESSFULLY.load(Ordering::Relaxed) {
        0
    } else {
        128 + signal
    };
    // SAFETY: `_exit` is async-signal-safe.
    unsafe { libc::_exit(code) }
}

/// Makes `signals` end the process at once, wherever it is: also in guest code and in a blocked
/// system call. Unblocks them.
pub(crate) fn end_on(signals: &[libc::c_int], how: OnSignal) -> std::io::Result<()> {
    SUCCESSFULLY.store(how == OnSignal::ExitSuccessfully, Ordering::Relaxed);
    // SAFETY: zeroed is a valid sigaction and a valid sigset_t; every pointer is to a local.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = end as extern "C" fn(libc::c_int) as usize;
        // On Wasmtime's alternate stack where there is one: the guest's own may be used up.
        action.sa_flags = libc::SA_ONSTACK;
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            if libc::sigaction(signal, &raw const action, std::ptr::null_mut()) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            libc::sigaddset(&raw mut set, signal);
        }
        if libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Gives every signal its default action and blocks none, as a program expects to find them: Rust
/// ignores SIGPIPE, and whoever started containerd may have ignored others.
pub(crate) fn default_signals() -> std::io::Result<()> {
    // The kernel's own sigaction, which has no more than these words on any architecture: the C
    // library's function would leave out the signals that it keeps for itself.
    const DEFAULT: [u64; 4] = [0; 4];
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // SAFETY: the kernel reads at most the four words, whose zeros mean the default action, no
        // flags and an empty mask of 8 bytes, and it writes nothing.
        let set = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                std::ptr::null::<u64>(),
                8,
            )
        };
        if set != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    // SAFETY: zeroed is a valid sigset_t; the pointers are to a local.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Sets the name that process lists show as the command, cut to the kernel's 15 bytes.
pub(crate) fn set_name(name: &str) -> std::io::Result<()> {
    let short: Vec<u8> = name.bytes().filter(|&b| b != 0).take(15).collect();
    let name = CString::new(short).map_err(std::io::Error::other)?;
    // SAFETY: `name` is a valid C string of at most 16 bytes.
    if unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

/// Forbids others of the same user to trace this process or to read its memory.
pub(crate) fn forbid_dumps() -> std::io::Result<()> {
    // SAFETY: changes an attribute of the process, touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

/// Has the kernel kill this process when its parent ends.
///
/// The order outlives neither a change of user nor an exec.
pub(crate) fn end_with_parent() -> std::io::Result<()> {
    // SAFETY: changes an attribute of the process, touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

/// Reads once, blocking, whatever flags the shared description has; `EINTR` is retried.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match nix::unistd::read(fd, buffer) {
            Ok(n) => return Ok(n),
            Err(nix::Error::EINTR) => {}
            Err(nix::Error::EAGAIN) => wait_for(fd, nix::poll::PollFlags::POLLIN)?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes everything, blocking, whatever flags the shared description has.
pub(crate) fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match nix::unistd::write(fd, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(nix::Error::EINTR) => {}
            Err(nix::Error::EAGAIN) => wait_for(fd, nix::poll::PollFlags::POLLOUT)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn wait_for(fd: BorrowedFd<'_>, what: nix::poll::PollFlags) -> std::io::Result<()> {
    let mut fds = [nix::poll::PollFd::new(fd, what)];
    match nix::poll::poll(&mut fds, nix::poll::PollTimeout::NONE) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a read would return now: data, end of file or an error.
pub(crate) fn readable_now(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [nix::poll::PollFd::new(fd, nix::poll::PollFlags::POLLIN)];
    // An error of poll itself: let the read report it.
    !matches!(
        nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO),
        Ok(0)
    )
}

/// Has the event loop tell when `fd` can be read from; fails for files, which always can.
pub(crate) fn watch(
    fd: BorrowedFd<'static>,
) -> std::io::Result<tokio::io::unix::AsyncFd<BorrowedFd<'static>>> {
    // SAFETY: a borrow for the whole life of the process keeps its descriptor open and its number
    // the same, which is what the event loop asks for.
    unsafe { tokio::io::unix::AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE) }
        .map_err(Into::into)
}
