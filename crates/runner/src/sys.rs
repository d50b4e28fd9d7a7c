//! The system calls that neither the standard library nor nix offers in a form that fits, each a
//! safe function with its proof.
//!
//! A leaf: knows nothing of containers or guests.
#![allow(unsafe_code)]

use std::{
    ffi::CString,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    sys::stat::{Mode, fstat, makedev},
    unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout},
};
use rustix::{
    fs::FileType,
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
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

/// The parent of a forked process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parent {
    /// The process that forks.
    ThisProcess,
    /// The parent of the process that forks.
    ItsParent,
}

/// Proof that this process has one thread.
#[derive(Debug)]
pub(crate) struct OnlyThread(());

impl OnlyThread {
    /// Looks into the host's /proc. No part of this program starts a thread, so it stays true.
    pub(crate) fn check() -> std::io::Result<Self> {
        // A test has threads; what it forks must not allocate.
        let threads = std::fs::read_dir("/proc/self/task")?.count();
        if threads != 1 && !cfg!(test) {
            let text = format!("this process has {threads} threads, and only one may fork");
            return Err(std::io::Error::other(text));
        }
        Ok(Self(()))
    }
}

/// Has a new process run `body` and end with the code that it returns.
///
/// This program has one thread, so the new process finds everything as it is here. With more it fails:
/// one of them might hold a lock, which the new process would wait for.
pub(crate) fn fork(parent: Parent, body: impl FnOnce() -> i32) -> std::io::Result<Pid> {
    fork_alone(&OnlyThread::check()?, parent, body)
}

/// [`fork`] where the host's /proc is not to be had.
pub(crate) fn fork_alone(
    _: &OnlyThread,
    parent: Parent,
    body: impl FnOnce() -> i32,
) -> std::io::Result<Pid> {
    let flags = match parent {
        Parent::ThisProcess => libc::SIGCHLD,
        // The parent gets SIGCHLD at its end, as for ours.
        Parent::ItsParent => libc::CLONE_PARENT | libc::SIGCHLD,
    };
    // SAFETY: without CLONE_VM and with no stack of its own the call is fork(2): the new process
    // goes on from here on a copy of everything. No other thread could hold a lock, as checked above.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match pid {
        0 => exit_now(body()),
        pid if pid < 0 => Err(std::io::Error::last_os_error()),
        pid => i32::try_from(pid)
            .map(Pid::from_raw)
            .map_err(std::io::Error::other),
    }
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

/// The highest number of an open descriptor. Reads the host's /proc.
pub(crate) fn highest_descriptor() -> std::io::Result<RawFd> {
    let mut highest = STDERR;
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name();
        let number = number.to_str().and_then(|number| number.parse().ok());
        highest = highest.max(number.ok_or_else(|| {
            std::io::Error::other("/proc/self/fd names something that is no descriptor")
        })?);
    }
    Ok(highest)
}

/// Closes every descriptor above the standard streams that is neither in `keep` nor a socket or a
/// pipe. The rest leads to no file.
///
/// `highest` is what [`highest_descriptor`] said earlier. The owners of the closed descriptors must never
/// use them again.
pub(crate) fn close_files_except(keep: &[RawFd], highest: RawFd) -> std::io::Result<()> {
    // The kernel gives the lowest free number, so what was opened since then is below this.
    const SINCE_THEN: RawFd = 1024;
    let end = highest.saturating_add(SINCE_THEN);
    for fd in STDERR + 1..end {
        if keep.contains(&fd) || !leads_to_a_file(fd)? {
            continue;
        }
        close_inherited(fd);
    }
    close_range(end.unsigned_abs(), libc::c_uint::MAX)
}

fn leads_to_a_file(fd: RawFd) -> std::io::Result<bool> {
    // SAFETY: zeroed is a valid stat, which the call writes to; a number that is not open gives
    // EBADF.
    let stat = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        if libc::fstat(fd, &raw mut stat) < 0 {
            let error = std::io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::EBADF) => Ok(false),
                _ => Err(error),
            };
        }
        stat
    };
    Ok(!matches!(
        FileType::from_raw_mode(stat.st_mode),
        FileType::Socket | FileType::Fifo
    ))
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

/// Puts the container's null device in the place of the host's on the standard descriptors, for
/// reading and writing. A container without one keeps the host's.
pub(crate) fn take_null_of_the_container() -> std::io::Result<()> {
    for fd in [STDIN, STDOUT, STDERR] {
        if !is_null(standard(fd))? {
            continue;
        }
        let null = match open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(()),
            null => null?,
        };
        if !is_null(null.as_fd())? {
            return Err(std::io::Error::other("/dev/null is not the null device"));
        }
        match fd {
            STDIN => dup2_stdin(&null)?,
            STDOUT => dup2_stdout(&null)?,
            _ => dup2_stderr(&null)?,
        }
    }
    Ok(())
}

/// Sets up the loopback device of this process's network, as netdevice(7) says.
pub(crate) fn set_loopback_up() -> std::io::Result<()> {
    // A socket of any family will do.
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    // SAFETY: all of it may be zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (at, byte) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *at = libc::c_char::from_ne_bytes([*byte]);
    }
    // SAFETY: the call reads the name and writes the flags, both of the structure.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the call has written this field.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    // SAFETY: the call reads the structure.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

/// The slave of a pseudoterminal, which is unlocked (ioctl_tty(2), Linux 4.13). No path takes part.
pub(crate) fn open_peer(master: BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    let unlocked: libc::c_int = 0;
    // SAFETY: the call reads one int.
    if unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the call takes flags by value.
    let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    if slave < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(slave) })
}

/// Makes the terminal the controlling one of this process, which has to lead a session without one.
pub(crate) fn control_terminal(terminal: BorrowedFd<'_>) -> std::io::Result<()> {
    // SAFETY: the call takes a number.
    if unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

fn is_null(fd: BorrowedFd<'_>) -> nix::Result<bool> {
    let stat = fstat(fd)?;
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    Ok(device && stat.st_rdev == makedev(1, 3))
}

/// How a process ends on a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnSignal {
    /// End with 128 + the signal's number, as by the signal's default action: process 1
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
/// ignores SIGPIPE, and the process that started containerd may have ignored others.
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
/// A change of user, or the exec of a set-user-ID program, resets this.
pub(crate) fn end_with_parent() -> std::io::Result<()> {
    // SAFETY: changes an attribute of the process, touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

/// Undoes [`end_with_parent`].
pub(crate) fn outlive_parent() -> std::io::Result<()> {
    // SAFETY: changes an attribute of the process, touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0, 0, 0, 0) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
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
