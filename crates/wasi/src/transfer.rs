//! Reading and writing: how a stream blocks whose flags others share.
#![forbid(unsafe_code)]

use std::os::fd::AsFd as _;

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

pub(crate) use crate::wait::PIPE_BUF;
use crate::{
    descriptors::Description,
    wait::{interruptible, poll_until, uninterrupted},
};

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

impl Direction {
    fn event(self) -> PollFlags {
        match self {
            Self::Read => PollFlags::IN,
            Self::Write => PollFlags::OUT,
        }
    }
}

/// Makes a call that reads or writes `file`, and blocks if the guest wants that.
///
/// A description of the guest's own has the guest's flag, and the kernel does it all. The flag of a
/// stream belongs to all who share it: it may be set though the guest wants to block, and the other
/// way round.
pub(crate) fn transfer<T>(
    file: &Description,
    direction: Direction,
    mut call: impl FnMut() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    match file.stream_is_nonblocking() {
        None => interruptible(call),
        Some(true) => {
            if ready_now(file, direction)? {
                // It blocks if another process has been faster.
                interruptible(call)
            } else {
                Err(Errno::AGAIN)
            }
        }
        Some(false) => loop {
            match interruptible(&mut call) {
                Err(Errno::AGAIN) => wait(file, direction)?,
                result => return result,
            }
        },
    }
}

fn ready_now(file: &Description, direction: Direction) -> rustix::io::Result<bool> {
    let now = Timespec::default();
    let ready = uninterrupted(|| {
        let mut fds = [PollFd::from_borrowed_fd(file.as_fd(), direction.event())];
        poll(&mut fds, Some(&now))
    })?;
    Ok(ready > 0)
}

fn wait(file: &Description, direction: Direction) -> rustix::io::Result<()> {
    let mut fds = [PollFd::from_borrowed_fd(file.as_fd(), direction.event())];
    poll_until(&mut fds, None).map(drop)
}
