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
    sys::Received,
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

/// Receives into `vectors` by `receive` until they are full, or no more comes, as MSG_WAITALL wants it of a stream. `peeks`:
/// what has come stays there, and the next call finds it too.
///
/// As in [`write_whole`], a signal that the guest masks or ignores must not cut it short.
pub(crate) fn receive_whole<E>(
    vectors: Vectors,
    peeks: bool,
    mut receive: impl FnMut(&Vectors) -> Result<Received, E>,
) -> Result<Received, E> {
    let mut rest = vectors;
    let mut before = signals::interruptions();
    let mut all = receive(&rest)?;
    let mut last = all.bytes;
    loop {
        let may_be_cut = before != signals::interruptions() && !signals::pending();
        if last == 0 || !may_be_cut || last >= rest.length() {
            return Ok(all);
        }
        if !peeks {
            rest = rest.after(last);
        }
        before = signals::interruptions();
        // The next call gets an error as well.
        let Ok(more) = receive(&rest) else {
            return Ok(all);
        };
        last = more.bytes;
        all.bytes = if peeks { last } else { all.bytes + last };
        all.flags |= more.flags;
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

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        signals::handler::testing::{HandlingGuest, USR1, interrupt, this_thread},
        sys,
    };

    /// Half of the bytes come before it, and half after it.
    #[test]
    fn masked_signal_does_not_cut_short_what_waits_for_all_bytes() {
        let _guest = HandlingGuest::that_masks(USR1);
        for flags in [libc::MSG_WAITALL, libc::MSG_WAITALL | libc::MSG_PEEK] {
            // Of a Unix socket, MSG_PEEK waits for no more than the first bytes.
            let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
            let address = listener.local_addr().expect("an address");
            let socket = TcpStream::connect(address).expect("connect");
            let (mut other, _) = listener.accept().expect("accept");
            let receiver = this_thread();
            let mut bytes = [0; 9];
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    other.write_all(b"half").expect("write");
                    for _ in 0..100 {
                        interrupt(receiver);
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    other.write_all(b"whole").expect("write");
                });
                let all = Vectors::Many(vec![0..3, 3..9]);
                let peeks = flags & libc::MSG_PEEK != 0;
                let received = receive_whole(all, peeks, |rest| {
                    interruptible(|| {
                        let ranges = rest.ranges();
                        sys::receive(socket.as_fd(), &mut bytes, ranges, flags, &mut [])
                    })
                });
                assert_eq!(received.expect("received").bytes, 9, "{flags:#x}");
            });
            assert_eq!(&bytes, b"halfwhole");
        }
    }

    #[test]
    fn end_of_a_stream_ends_what_waits_for_all_bytes() {
        let _guest = HandlingGuest::that_masks(USR1);
        let mut calls = 0;
        let received = receive_whole(Vectors::One(0..9), false, |_| {
            interrupt(this_thread());
            calls += 1;
            let bytes = if calls == 1 { 4 } else { 0 };
            Ok::<_, Errno>(Received {
                bytes,
                flags: 0,
                name_length: 0,
            })
        });
        assert_eq!((received.expect("received").bytes, calls), (4, 2));
    }
}
