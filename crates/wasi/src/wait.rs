//! Blocking: what interrupts a call.
//!
//! The signals that end a guest end the process in their handler, so no call has to look for them. A
//! signal that the guest handles ends a call that blocks with EINTR: every call that may wait for
//! another goes through `interruptible` or `once`. Any other interruption is none of the guest's
//! business, and the call is made again.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fmt::Debug,
    os::fd::{AsRawFd as _, BorrowedFd, RawFd},
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, write},
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

/// ppoll(2) until one of `fds` is ready, or the deadline has come: how many are ready.
pub(crate) fn poll_until(
    fds: &mut [PollFd<'_>],
    deadline: Option<Instant>,
) -> rustix::io::Result<usize> {
    interruptible(|| {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(Timespec::try_from).transpose();
        poll(fds, timeout.map_err(|_| Errno::INVAL)?.as_ref())
    })
}

/// What gets on while a call of the guest waits for something else.
pub(crate) trait Meanwhile: Debug + Send + Sync {
    /// Whether there is nothing to get on with. As long as the guest makes no other call it stays so, and a call may
    /// wait in the kernel by itself.
    fn is_idle(&self) -> bool;

    /// Waits until `file` is ready, or the deadline has come (`false`).
    fn wait_for(
        &self,
        file: BorrowedFd<'_>,
        events: PollFlags,
        deadline: Option<Instant>,
    ) -> rustix::io::Result<bool>;
}

/// Writes all to a stream of the container, and waits for its reader. One that takes nothing leaves nothing else to do, nor
/// does a signal that the guest has to handle.
pub(crate) fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8], beside: Option<&dyn Meanwhile>) {
    while !bytes.is_empty() {
        let mut part = bytes;
        if let Some(beside) = beside
            && !beside.is_idle()
        {
            if beside.wait_for(fd, PollFlags::OUT, None).is_err() {
                return;
            }
            part = &bytes[..bytes.len().min(PIPE_BUF)];
        }
        match once(|| write(fd, part)) {
            Ok(None) => {}
            Ok(Some(0)) | Err(_) => return,
            Ok(Some(written)) => bytes = &bytes[written..],
        }
    }
}

/// What ppoll(2) reports of a file that did not ask for it.
const ALWAYS: PollFlags = PollFlags::ERR.union(PollFlags::HUP).union(PollFlags::NVAL);

/// The files of one ppoll(2), each of them once, however often it is waited for.
///
/// The kernel refuses a list with more entries than `RLIMIT_NOFILE` (EINVAL). A guest may wait for input and output
/// of one socket, and by any number of handles: so many entries would reach that bound with half of the sockets that it
/// may have, or with a single one. With one entry per file a list is never longer than the files that are open.
#[derive(Default)]
pub(crate) struct PollSet<'a> {
    files: Vec<PollFd<'a>>,
    /// The place of each file, and all events that are waited for.
    places: BTreeMap<RawFd, (usize, PollFlags)>,
}

/// Some events of a file in a [`PollSet`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Awaited {
    place: usize,
    events: PollFlags,
}

impl<'a> PollSet<'a> {
    pub(crate) fn add(&mut self, file: BorrowedFd<'a>, events: PollFlags) -> Awaited {
        let next = self.files.len();
        let (place, all) = self
            .places
            .entry(file.as_raw_fd())
            .or_insert((next, PollFlags::empty()));
        *all |= events;
        let merged = PollFd::from_borrowed_fd(file, *all);
        match self.files.get_mut(*place) {
            Some(entry) => *entry = merged,
            None => self.files.push(merged),
        }
        Awaited {
            place: *place,
            events,
        }
    }

    #[cfg(feature = "components")]
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The entries, for ppoll(2).
    pub(crate) fn entries(&mut self) -> &mut [PollFd<'a>] {
        &mut self.files
    }

    /// What the last ppoll(2) says, as if these events alone had been asked for.
    pub(crate) fn happened(&self, awaited: Awaited) -> PollFlags {
        self.files[awaited.place].revents() & (awaited.events | ALWAYS)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::{fd::AsFd as _, unix::net::UnixStream},
    };

    use super::*;

    #[test]
    fn file_is_in_a_poll_set_once_and_each_hears_of_its_own_events() {
        let pair = || UnixStream::pair().expect("a pair");
        let ((one, mut peer), (other, gone)) = (pair(), pair());
        let mut set = PollSet::default();
        assert!(set.is_empty());
        let reads = set.add(one.as_fd(), PollFlags::IN);
        let of_other = set.add(other.as_fd(), PollFlags::IN);
        let writes = set.add(one.as_fd(), PollFlags::OUT);
        let both = set.add(one.as_fd(), PollFlags::IN | PollFlags::OUT);
        assert_eq!(set.entries().len(), 2);
        let mut look = || {
            poll(set.entries(), Some(&Timespec::default())).expect("poll");
            [reads, of_other, writes, both].map(|one| set.happened(one))
        };
        let (none, input, output) = (PollFlags::empty(), PollFlags::IN, PollFlags::OUT);
        assert_eq!(look(), [none, none, output, output]);
        peer.write_all(b"x").expect("write");
        assert_eq!(look(), [input, none, output, input | output]);
        drop(gone);
        let [_, of_other, ..] = look();
        assert_eq!(of_other, PollFlags::IN | PollFlags::HUP);
        drop(peer);
        (&one).read_exact(&mut [0]).expect("read");
        let [reads, _, writes, _] = look();
        // HUP needs no asking.
        assert_eq!(reads, PollFlags::IN | PollFlags::HUP);
        assert_eq!(writes, PollFlags::OUT | PollFlags::HUP);
    }
}
