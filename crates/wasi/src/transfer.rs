//! Reading and writing: how a stream blocks whose flags others share.
#![forbid(unsafe_code)]

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

pub(crate) use crate::wait::PIPE_BUF;
use crate::{
    descriptors::Description,
    memory::Vectors,
    signals,
    sockets::sys as sockets,
    wait::{interruptible, once, poll_until, uninterrupted},
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
        None if file.as_socket().is_some() => within_time(file, direction, call),
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

/// Writes `vectors` by `write`, which says how many bytes it has written.
///
/// A signal cuts a write that blocks short. One that the guest masks or ignores must not, as it does not on Linux: then
/// the rest is written too.
pub(crate) fn write_whole<E>(
    vectors: Vectors,
    mut write: impl FnMut(&Vectors) -> Result<usize, E>,
) -> Result<usize, E> {
    let mut rest = vectors;
    let mut written = 0;
    loop {
        let before = signals::interruptions();
        match write(&rest) {
            Err(error) if written == 0 => return Err(error),
            // The next write gets it as well.
            Err(_) => return Ok(written),
            Ok(count) => {
                written += count;
                let may_be_cut = before != signals::interruptions() && !signals::pending();
                if count == 0 || !may_be_cut || count >= rest.length() {
                    return Ok(written);
                }
                rest = rest.after(count);
            }
        }
    }
}

/// Makes a call on a socket, which SO_RCVTIMEO or SO_SNDTIMEO may bound. That time would begin from its start with each try: what
/// is left of it after an interruption that is none of the guest's is waited here.
fn within_time<T>(
    file: &Description,
    direction: Direction,
    mut call: impl FnMut() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    let started = Instant::now();
    loop {
        if let Some(answer) = once(&mut call)? {
            return Ok(answer);
        }
        let option = match direction {
            Direction::Read => libc::SO_RCVTIMEO,
            Direction::Write => libc::SO_SNDTIMEO,
        };
        let Some(deadline) =
            timeout(file.as_fd(), option)?.and_then(|time| started.checked_add(time))
        else {
            continue;
        };
        let mut fds = [PollFd::from_borrowed_fd(file.as_fd(), direction.event())];
        if poll_until(&mut fds, Some(deadline))? == 0 {
            return Err(Errno::AGAIN);
        }
    }
}

/// SO_RCVTIMEO or SO_SNDTIMEO of a socket; `None` if there is no limit. Not by rustix, which asks for it by a number that
/// the guest's filter does not have.
pub(crate) fn timeout(
    fd: BorrowedFd<'_>,
    option: libc::c_int,
) -> rustix::io::Result<Option<Duration>> {
    let mut value = [0; 16];
    sockets::option(fd, libc::SOL_SOCKET, option, &mut value)?;
    // A timeval: seconds and microseconds, 0 if there is no limit.
    let [seconds, microseconds] = value
        .as_chunks::<8>()
        .0
        .first_chunk()
        .map_or([0; 2], |parts| parts.map(u64::from_ne_bytes));
    let limit = Duration::from_secs(seconds).saturating_add(Duration::from_micros(microseconds));
    Ok((!limit.is_zero()).then_some(limit))
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
