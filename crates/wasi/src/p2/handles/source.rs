//! The open file of a stream, and what is asked about one.
#![forbid(unsafe_code)]

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno as Kernel,
};

use super::socket::SocketFd;
use crate::{
    sys::{self, Standard},
    wait::uninterrupted,
};

/// The open file of a stream.
#[derive(Clone, Debug)]
pub enum Source {
    /// One of the container's streams. Others share its description, so its flags stay as they are.
    Standard(Standard),
    /// A file, FIFO or device of the guest's.
    Own(Arc<OwnedFd>),
    /// A socket of the guest's, which never lets a call wait.
    Socket(Arc<SocketFd>),
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Standard(stream) => sys::standard(*stream),
            Self::Own(fd) => fd.as_fd(),
            Self::Socket(fd) => fd.as_fd(),
        }
    }
}

impl Source {
    /// A call has failed, so that the connection is lost, if it is one.
    pub(super) fn lose(&self, why: Kernel) {
        if let Self::Socket(fd) = self {
            fd.lose(why);
        }
    }

    /// Why it has not ended but is lost, though the kernel now says no more than that nothing follows.
    pub(super) fn lost(&self) -> Option<Kernel> {
        match self {
            Self::Socket(fd) => fd.lost(),
            Self::Standard(_) | Self::Own(_) => None,
        }
    }
}

/// Whether a stream is at its end, has failed, or was ended. Shared by what waits for it, and by its socket.
#[derive(Clone, Debug, Default)]
pub struct InputEnd(Arc<AtomicBool>);

impl InputEnd {
    pub(in crate::p2) fn reach(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_reached(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What has to be asked about what a guest waits for.
pub(in crate::p2) enum Interest<'a> {
    Nothing,
    Deadline(u64),
    File(BorrowedFd<'a>, PollFlags),
}

/// Whether a file is ready now.
pub(in crate::p2) fn is_ready(file: impl AsFd, events: PollFlags) -> rustix::io::Result<bool> {
    let now = Timespec::default();
    let ready = uninterrupted(|| {
        let mut files = [PollFd::from_borrowed_fd(file.as_fd(), events)];
        poll(&mut files, Some(&now))
    })?;
    Ok(ready > 0)
}
