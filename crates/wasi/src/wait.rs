//! Blocking: what interrupts a call.
//!
//! The signals that end a guest end the process in their handler, so no call has to look for them. A
//! signal that the guest handles ends a call that blocks with EINTR: every call that may wait for
//! another goes through `interruptible` or `once`. Any other interruption is none of the guest's
//! business, and the call is made again.
#![forbid(unsafe_code)]

use std::time::Instant;

use rustix::{
    event::{PollFd, Timespec, poll},
    io::Errno,
};

use crate::signals;

/// The most that is written to a pipe at once that must not block although its description may: with
/// so much room it is writable.
pub(crate) const PIPE_BUF: usize = 4096;

/// Repeats `call` while a signal interrupts it. For calls that wait for no other process.
pub fn uninterrupted<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Makes a call that may block, once, with one system call that blocks. EINTR only if the guest has a
/// signal to handle, also one that came right before the call. `None`: something else has interrupted
/// it, and the caller goes on, with what is left of a time-out.
///
/// A call that does not block is made in any case: whether it would is for the kernel to say.
pub(crate) fn once<T>(
    call: impl FnOnce() -> rustix::io::Result<T>,
) -> rustix::io::Result<Option<T>> {
    let _interruptible = signals::Interruptible::enter();
    match call() {
        Err(Errno::INTR) if signals::pending() => Err(Errno::INTR),
        Err(Errno::INTR) => Ok(None),
        result => result.map(Some),
    }
}

/// As [`once`], again and again until there is an answer.
pub(crate) fn interruptible<T>(
    mut call: impl FnMut() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    loop {
        if let Some(answer) = once(&mut call)? {
            return Ok(answer);
        }
    }
}

/// What a signal does to a wait that the guest has to handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtSignal {
    /// It ends with EINTR.
    End,
    /// It goes on, as it has an end of its own.
    GoOn,
}

/// ppoll(2) until one of `fds` is ready, or the deadline has come: how many are ready.
pub(crate) fn poll_until(
    fds: &mut [PollFd<'_>],
    deadline: Option<Instant>,
) -> rustix::io::Result<usize> {
    poll_for(fds, deadline, AtSignal::End)
}

/// As [`poll_until`], whatever a signal is to do.
pub(crate) fn poll_for(
    fds: &mut [PollFd<'_>],
    deadline: Option<Instant>,
    on_signal: AtSignal,
) -> rustix::io::Result<usize> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(Timespec::try_from).transpose();
        let timeout = timeout.map_err(|_| Errno::INVAL)?;
        let ready = match on_signal {
            AtSignal::End => once(|| poll(fds, timeout.as_ref()))?,
            AtSignal::GoOn => match poll(fds, timeout.as_ref()) {
                Err(Errno::INTR) => None,
                result => Some(result?),
            },
        };
        if let Some(ready) = ready {
            return Ok(ready);
        }
    }
}
