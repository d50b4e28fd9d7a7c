//! How long nameservers are waited for: as long as resolv.conf says, and not much longer than the guest's next signal.
//!
//! EINTR would be no answer to a signal. Of connect(2) it says that the connection is being made, which has not begun
//! before the names of rules are known. POSIX has no look-up of a name that a signal ends, so a library begins it again,
//! from the start. But a guest that is told to end must not wait for a nameserver that does not reply.
#![forbid(unsafe_code)]

use std::{cell::Cell, os::fd::BorrowedFd, time::Instant};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno as Kernel,
};

use crate::{
    limits,
    wait::{Meanwhile, once},
};

/// How long the look-ups of one call wait.
#[derive(Debug, Default)]
pub(in crate::sockets) struct LookUpTime<'a> {
    /// When it is over: a while after the first signal that the guest has to handle.
    end: Cell<Option<Instant>>,
    /// A component's streams, which get on meanwhile. It handles no signals.
    beside: Option<&'a dyn Meanwhile>,
}

impl<'a> LookUpTime<'a> {
    pub(super) fn beside(beside: Option<&'a dyn Meanwhile>) -> Self {
        Self {
            end: Cell::default(),
            beside,
        }
    }

    /// Whether no nameserver is waited for any more.
    pub(super) fn is_over(&self) -> bool {
        self.end.get().is_some_and(|end| Instant::now() >= end)
    }

    /// Waits until the socket is ready, or the deadline or its own end has come (`false`): also where more than can be
    /// read arrives all the time.
    pub(super) fn wait(
        &self,
        socket: BorrowedFd<'_>,
        events: PollFlags,
        deadline: Instant,
    ) -> rustix::io::Result<bool> {
        let mut fds = [PollFd::from_borrowed_fd(socket, events)];
        loop {
            let until = self.end.get().map_or(deadline, |end| deadline.min(end));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            if let Some(beside) = self.beside {
                return beside.wait_for(socket, events, Some(until));
            }
            let timeout = Timespec::try_from(left).map_err(|_| Kernel::INVAL)?;
            let mut ready = || poll(&mut fds, Some(&timeout));
            let outcome = match self.end.get() {
                None => once(ready),
                // The signal is still to be handled, and there is nothing more to hear of.
                Some(_) => match ready() {
                    Err(Kernel::INTR) => Ok(None),
                    outcome => outcome.map(Some),
                },
            };
            match outcome {
                Ok(Some(ready)) => return Ok(ready > 0),
                Ok(None) => {}
                Err(Kernel::INTR) => {
                    self.end.set(Some(Instant::now() + limits::AFTER_SIGNAL));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::{fd::AsFd as _, unix::net::UnixDatagram},
        time::Duration,
    };

    use super::*;

    #[test]
    fn socket_that_always_has_more_to_read_is_done_at_the_deadline() {
        let (socket, other) = UnixDatagram::pair().expect("a pair");
        other.send(b"no reply").expect("send");
        let time = LookUpTime::default();
        let wait = |deadline| time.wait(socket.as_fd(), PollFlags::IN, deadline);
        assert_eq!(wait(Instant::now()), Ok(false));
        let later = Instant::now() + Duration::from_secs(3600);
        assert_eq!(wait(later), Ok(true));
        assert!(!time.is_over());
    }
}
