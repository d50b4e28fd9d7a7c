//! The system calls that no safe library offers in a form that fits, each a safe function with its
//! proof.
//!
//! A leaf: knows nothing of guests.
#![allow(unsafe_code)]

use std::{
    ffi::CStr,
    ops::Range,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use rustix::io::{Errno, Result};

/// Ends the process at once: no destructor, no `atexit`, nothing flushed.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` is async-signal-safe and does not return.
    unsafe { libc::_exit(code) }
}

/// A standard stream: descriptor 0, 1 or 2 of this process, for as long as it lives.
pub(crate) fn standard(stream: Standard) -> BorrowedFd<'static> {
    // SAFETY: std opens what is missing of 0, 1 and 2 before main, and no code of ours closes or
    // replaces them while a guest runs: a guest's own numbers are entries of its table.
    unsafe { BorrowedFd::borrow_raw(stream as i32) }
}

/// Whether someone has a FIFO open to write to it. It is open to be read, and does not let a reader wait. Nothing is read:
/// there is no room for it.
#[cfg(feature = "components")]
pub(crate) fn has_writer(fifo: BorrowedFd<'_>) -> Result<bool> {
    // SAFETY: nothing is at this address, and the kernel looks before it writes.
    match checked(unsafe { libc::read(fifo.as_raw_fd(), std::ptr::null_mut(), 1) }) {
        Ok(_) => Ok(false),
        // There is nothing yet, or something.
        Err(Errno::AGAIN | Errno::FAULT) => Ok(true),
        Err(error) => Err(error),
    }
}

/// One of the three standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standard {
    /// Descriptor 0.
    Input = 0,
    /// Descriptor 1.
    Output = 1,
    /// Descriptor 2.
    Error = 2,
}

impl Standard {
    pub(crate) const ALL: [Self; 3] = [Self::Input, Self::Output, Self::Error];
}

impl std::fmt::Display for Standard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Input => "standard input",
            Self::Output => "standard output",
            Self::Error => "standard error",
        })
    }
}

/// A position for a call that has none of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// The description's, which moves.
    Cursor,
    Offset(u64),
}

/// A buffer for the kernel. `None` if the range is not within `memory`.
fn buffer(memory: *mut u8, length: usize, range: &Range<usize>) -> Option<libc::iovec> {
    if range.start > range.end || range.end > length {
        return None;
    }
    Some(libc::iovec {
        // In bounds by the check above, so the address cannot wrap.
        iov_base: memory.wrapping_add(range.start).cast(),
        iov_len: range.end - range.start,
    })
}

/// Makes the kernel's list of buffers. `None` if a range is not within `memory`.
fn buffers(memory: *mut u8, length: usize, ranges: &[Range<usize>]) -> Option<Vec<libc::iovec>> {
    let buffers = ranges.iter().map(|range| buffer(memory, length, range));
    buffers.collect()
}

/// The same for one message: one buffer, which is the common case, needs no allocation.
fn with_buffers<T>(
    memory: *mut u8,
    length: usize,
    ranges: &[Range<usize>],
    call: impl FnOnce(&mut [libc::iovec]) -> Result<T>,
) -> Result<T> {
    match ranges {
        [range] => call(&mut [buffer(memory, length, range).ok_or(Errno::FAULT)?]),
        ranges => call(&mut buffers(memory, length, ranges).ok_or(Errno::FAULT)?),
    }
}

/// What a system call returns, or the kernel's error if that is negative.
pub(crate) fn checked(result: impl TryInto<usize>) -> Result<usize> {
    result
        .try_into()
        .map_err(|_| Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

fn count(list: &[libc::iovec]) -> Result<i32> {
    i32::try_from(list.len()).map_err(|_| Errno::INVAL)
}

/// Where the kernel is to read or write, as its signed number; it refuses a negative one.
fn signed(offset: u64) -> i64 {
    offset.cast_signed()
}

/// readv(2) or preadv(2) into several parts of `memory`, which may overlap.
pub(crate) fn read_vectors(
    fd: BorrowedFd<'_>,
    memory: &mut [u8],
    ranges: &[Range<usize>],
    at: At,
) -> Result<usize> {
    let list = buffers(memory.as_mut_ptr(), memory.len(), ranges).ok_or(Errno::FAULT)?;
    let (fd, count) = (fd.as_raw_fd(), count(&list)?);
    // SAFETY: `list` has `count` entries, each within `memory` as `buffers` has checked, and `memory`
    // is borrowed for writing until the kernel is done. Bytes have no invalid values. No reference
    // into a part exists, so that parts may overlap.
    checked(unsafe {
        match at {
            At::Cursor => libc::readv(fd, list.as_ptr(), count),
            At::Offset(offset) => libc::preadv(fd, list.as_ptr(), count, signed(offset)),
        }
    })
}

/// writev(2) or pwritev(2) from several parts of `memory`, which may overlap.
pub(crate) fn write_vectors(
    fd: BorrowedFd<'_>,
    memory: &[u8],
    ranges: &[Range<usize>],
    at: At,
) -> Result<usize> {
    let list = buffers(memory.as_ptr().cast_mut(), memory.len(), ranges).ok_or(Errno::FAULT)?;
    let (fd, count) = (fd.as_raw_fd(), count(&list)?);
    // SAFETY: as in `read_vectors`; the kernel only reads the parts.
    checked(unsafe {
        match at {
            At::Cursor => libc::writev(fd, list.as_ptr(), count),
            At::Offset(offset) => libc::pwritev(fd, list.as_ptr(), count, signed(offset)),
        }
    })
}

/// pread(2) with an offset that may be out of range, which the kernel then refuses.
pub(crate) fn read_at(fd: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize> {
    // SAFETY: the pointer and length are those of `buffer`, which is borrowed for writing.
    checked(unsafe {
        libc::pread(
            fd.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            signed(offset),
        )
    })
}

/// pwrite(2) with an offset that may be out of range, which the kernel then refuses.
pub(crate) fn write_at(fd: BorrowedFd<'_>, buffer: &[u8], offset: u64) -> Result<usize> {
    // SAFETY: the pointer and length are those of `buffer`.
    checked(unsafe {
        libc::pwrite(
            fd.as_raw_fd(),
            buffer.as_ptr().cast(),
            buffer.len(),
            signed(offset),
        )
    })
}

/// What recvmsg(2) tells of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) bytes: usize,
    pub(crate) flags: i32,
    /// Of the sender's address, which may have been longer than the room for it.
    pub(crate) name_length: usize,
}

/// recvmsg(2) without ancillary data: what there is of it is dropped, descriptors too. The sender's
/// address is written to `name`.
pub(crate) fn receive(
    fd: BorrowedFd<'_>,
    memory: &mut [u8],
    ranges: &[Range<usize>],
    flags: i32,
    name: &mut [u8],
) -> Result<Received> {
    with_buffers(memory.as_mut_ptr(), memory.len(), ranges, |list| {
        // SAFETY: zeros are a valid msghdr: no address, no buffers, no ancillary data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = list.as_mut_ptr();
        message.msg_iovlen = list.len();
        message.msg_name = name.as_mut_ptr().cast();
        message.msg_namelen = u32::try_from(name.len()).map_err(|_| Errno::INVAL)?;
        // SAFETY: `message` names `list`, whose entries are within `memory`, as in `read_vectors`, and
        // `name` by its pointer and length.
        let bytes = checked(unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags) })?;
        Ok(Received {
            bytes,
            flags: message.msg_flags,
            name_length: message.msg_namelen as usize,
        })
    })
}

/// sendmsg(2) without ancillary data, to the address `name` if there is one.
pub(crate) fn send(
    fd: BorrowedFd<'_>,
    memory: &[u8],
    ranges: &[Range<usize>],
    flags: i32,
    name: &[u8],
) -> Result<usize> {
    with_buffers(memory.as_ptr().cast_mut(), memory.len(), ranges, |list| {
        // SAFETY: zeros are a valid msghdr: no address, no buffers, no ancillary data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = list.as_mut_ptr();
        message.msg_iovlen = list.len();
        if !name.is_empty() {
            message.msg_name = name.as_ptr().cast_mut().cast();
            message.msg_namelen = u32::try_from(name.len()).map_err(|_| Errno::INVAL)?;
        }
        // SAFETY: `message` names `list`, whose entries are within `memory`, and `name`; the kernel reads
        // them.
        checked(unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) })
    })
}

/// sendto(2) without an address: to where the socket is connected.
pub(crate) fn send_connected(fd: BorrowedFd<'_>, bytes: &[u8], flags: i32) -> Result<usize> {
    // SAFETY: pointer and length are those of `bytes`, which the kernel reads.
    checked(unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// close(2) with its result, which a network file system uses to report a failed write.
pub(crate) fn close(fd: OwnedFd) -> Result<()> {
    match nix::unistd::close(fd) {
        // Linux has closed it all the same.
        Ok(()) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(Errno::from_raw_os_error(error as i32)),
    }
}

/// Ends the record locks that this process has of a file. One that cannot have locks has none.
pub(crate) fn unlock(fd: BorrowedFd<'_>) {
    let all = libc::flock {
        l_type: libc::F_UNLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let _ = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETLK(&all));
}

/// faccessat2(2): faccessat(2) of the C library makes several calls where it is given flags.
pub(crate) fn access(
    directory: BorrowedFd<'_>,
    path: &CStr,
    access: rustix::fs::Access,
    flags: rustix::fs::AtFlags,
) -> Result<()> {
    // SAFETY: the arguments are a descriptor, a string with its zero, and two numbers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_faccessat2,
            directory.as_raw_fd(),
            path.as_ptr(),
            access.bits(),
            flags.bits(),
        )
    };
    checked(result).map(drop)
}

/// The number of fchmodat2(2), which is the same on every architecture. The `libc` crate lacks it on some.
pub const SYS_FCHMODAT2: libc::c_long = 452;

/// fchmodat2(2), which Linux has since 6.6: fchmodat(2) with flags.
pub(crate) fn change_mode(
    directory: BorrowedFd<'_>,
    path: &CStr,
    mode: rustix::fs::Mode,
    flags: rustix::fs::AtFlags,
) -> Result<()> {
    // SAFETY: the arguments are a descriptor, a string with its zero, and two numbers.
    let result = unsafe {
        libc::syscall(
            SYS_FCHMODAT2,
            directory.as_raw_fd(),
            path.as_ptr(),
            mode.bits(),
            flags.bits(),
        )
    };
    checked(result).map(drop)
}

/// Whether the kernel has fchmodat2(2), and no filter of this process keeps it away. Changes nothing.
pub(crate) fn has_change_mode() -> bool {
    // SAFETY: the arguments are a number that is no descriptor, a string with its zero, and two numbers.
    let result = unsafe { libc::syscall(SYS_FCHMODAT2, -1, c".".as_ptr(), 0, 0) };
    checked(result) == Err(Errno::BADF)
}

/// The length of the kernel's own `struct termios`, for TCGETS and TCSETS.
pub(crate) const TERMINAL_SETTINGS: usize = 36;

/// When new settings of a terminal take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SettingsTake {
    Now,
    AfterOutput,
    AfterOutputDroppingInput,
}

/// The settings of a terminal, as the kernel lays them out: tcgetattr(3) has another structure in each C
/// library.
pub(crate) fn terminal_settings(fd: BorrowedFd<'_>) -> Result<[u8; TERMINAL_SETTINGS]> {
    // Aligned for its fields, and longer than the kernel writes on any architecture.
    let mut words = [0_u32; 16];
    // SAFETY: for TCGETS the kernel writes one `struct termios`, which is shorter than `words`.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TCGETS, words.as_mut_ptr()) })?;
    let mut settings = [0; TERMINAL_SETTINGS];
    for (part, word) in settings.chunks_exact_mut(4).zip(words) {
        part.copy_from_slice(&word.to_ne_bytes());
    }
    Ok(settings)
}

/// Changes the settings of a terminal.
pub(crate) fn set_terminal(
    fd: BorrowedFd<'_>,
    take: SettingsTake,
    settings: &[u8; TERMINAL_SETTINGS],
) -> Result<()> {
    let request = match take {
        SettingsTake::Now => libc::TCSETS,
        SettingsTake::AfterOutput => libc::TCSETSW,
        SettingsTake::AfterOutputDroppingInput => libc::TCSETSF,
    };
    let mut words = [0_u32; 16];
    for (word, part) in words.iter_mut().zip(settings.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*part);
    }
    // SAFETY: for these requests the kernel reads one `struct termios`, which is shorter than `words`.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), request, words.as_ptr()) }).map(drop)
}
