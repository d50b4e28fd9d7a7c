//! Whether a call would wait: the oracle makes only those that do not.

use std::os::fd::OwnedFd;

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{self, AtFlags, FileType, OFlags},
};

/// What a write to a FIFO takes at once, or not at all.
const PIPE_BUF: u64 = 4096;

/// A FIFO that is opened for one direction waits for the other.
pub(super) fn opening_waits(directory: &OwnedFd, path: &[u8], flags: OFlags) -> bool {
    if flags.contains(OFlags::NONBLOCK) || flags & OFlags::ACCMODE == OFlags::RDWR {
        return false;
    }
    fs::statat(directory, path, AtFlags::empty())
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

fn is_waiting_fifo(fd: &OwnedFd) -> bool {
    let is_fifo =
        fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    is_fifo && fs::fcntl_getfl(fd).is_ok_and(|flags| !flags.contains(OFlags::NONBLOCK))
}

fn is_ready(fd: &OwnedFd, events: PollFlags) -> bool {
    let now = rustix::time::Timespec::default();
    let mut fds = [PollFd::new(fd, events)];
    poll(&mut fds, Some(&now)).expect("poll of an open descriptor") > 0
}

pub(super) fn reading_waits(fd: &OwnedFd) -> bool {
    is_waiting_fifo(fd) && !is_ready(fd, PollFlags::IN)
}

pub(super) fn writing_waits(fd: &OwnedFd, sizes: &[u32]) -> bool {
    let bytes: u64 = sizes.iter().map(|&size| u64::from(size)).sum();
    is_waiting_fifo(fd) && (bytes > PIPE_BUF || !is_ready(fd, PollFlags::OUT))
}
