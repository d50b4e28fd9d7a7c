//! What a guest can wait for, and the waiting.
#![forbid(unsafe_code)]

use std::{os::fd::AsFd as _, time::Instant};

use rustix::event::{PollFlags, poll};

use super::{
    output::OutputHandle,
    source::{InputEnd, Interest, Source},
    tcp::TcpHandle,
    unsent::Unsent,
};
use crate::{
    abi::types::Clockid,
    clocks,
    errno::Result,
    stat,
    wait::{PollSet, once},
};

/// What a guest can wait for.
#[derive(Debug)]
pub enum Pollable {
    /// It has always happened.
    Ready,
    /// The monotonic clock shows so many nanoseconds.
    Deadline(u64),
    /// The kernel says so of a file.
    File(Source, PollFlags),
    /// There is something in it to read, or it is at its end.
    Input(Source, InputEnd),
    /// There is room in it for more.
    Output(OutputHandle),
    /// What its state waits for, as it is when it is looked at.
    Tcp(TcpHandle),
}

impl Pollable {
    fn interest(&self) -> Interest<'_> {
        match self {
            Self::Ready => Interest::Nothing,
            Self::Deadline(when) => Interest::Deadline(*when),
            Self::File(source, events) => Interest::File(source.as_fd(), *events),
            Self::Input(_, end) if end.is_reached() => Interest::Nothing,
            Self::Input(source, _) => Interest::File(source.as_fd(), PollFlags::IN),
            Self::Output(stream) => stream.interest(),
            Self::Tcp(socket) => socket.interest(),
        }
    }

    /// Whether it has happened, now that the kernel has said something of its file.
    fn happened(&self) -> bool {
        match self {
            Self::Output(stream) => stream.settle(),
            Self::Ready | Self::Deadline(_) | Self::File(..) | Self::Input(..) | Self::Tcp(_) => {
                true
            }
        }
    }
}

/// A time of a clock that has a form here: the clocks of a Linux that runs do not fail, and only one before 1970 or after
/// 2554 has none.
pub(in crate::p2) fn known(time: Result<u64>) -> wasmtime::Result<u64> {
    time.map_err(|error| wasmtime::Error::msg(format!("the clock has no time to give: {error:?}")))
}

/// The time of the monotonic clock.
pub(in crate::p2) fn monotonic() -> wasmtime::Result<u64> {
    known(clocks::now(Clockid::Monotonic))
}

/// How long to wait if nothing has happened yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::p2) enum Patience {
    None,
    Endless,
}

/// Waits until one of `pollables` has happened, and returns the places of all that have. `others` get on
/// meanwhile.
pub(in crate::p2) fn wait(
    pollables: &[&Pollable],
    others: &Unsent,
    patience: Patience,
) -> wasmtime::Result<Vec<u32>> {
    loop {
        let now = monotonic()?;
        let kept = others.kept();
        let mut happened = Vec::new();
        let (mut files, mut asked) = (PollSet::default(), Vec::new());
        let mut left: Option<u64> = None;
        for (place, pollable) in (0..).zip(pollables) {
            match pollable.interest() {
                Interest::Nothing => happened.push(place),
                Interest::Deadline(when) if when <= now => happened.push(place),
                Interest::Deadline(when) => {
                    left = Some(left.map_or(when - now, |left| left.min(when - now)));
                }
                Interest::File(file, events) => {
                    asked.push((place, *pollable, files.add(file, events)));
                }
            }
        }
        if patience == Patience::None || !happened.is_empty() {
            left = Some(0);
        }
        let kept_awaited = kept.add_to(&mut files);
        if left == Some(0) && files.is_empty() {
            return Ok(happened);
        }
        if let Some(until) = kept.until {
            let until = until.saturating_duration_since(Instant::now());
            let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
            left = Some(left.map_or(until, |left| left.min(until)));
        }
        let timeout = left.map(stat::timespec);
        if once(|| poll(files.entries(), timeout.as_ref()))?.is_none() {
            continue;
        }
        for (place, pollable, awaited) in asked {
            if !files.happened(awaited).is_empty() && pollable.happened() {
                happened.push(place);
            }
        }
        let ready = kept.ready(&files, &kept_awaited);
        drop(files);
        others.settle(&ready);
        if patience == Patience::None || !happened.is_empty() {
            happened.sort_unstable();
            return Ok(happened);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Write as _, pipe},
        os::{fd::OwnedFd, unix::net::UnixStream},
        sync::Arc,
    };

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::*;
    use crate::p2::handles::{
        output::{OutputStream, WriteAt},
        unsent::PATIENCE,
    };

    fn waited(pollables: &[&Pollable], patience: Patience) -> Vec<u32> {
        wait(pollables, &Unsent::new(PATIENCE), patience).expect("a time")
    }

    #[test]
    fn all_that_has_happened_is_told_in_order() {
        let (reader, mut writer) = pipe().expect("a pipe");
        let source = Source::Own(Arc::new(OwnedFd::from(reader)));
        let file = Pollable::File(source, PollFlags::IN);
        let (past, never) = (Pollable::Deadline(0), Pollable::Deadline(u64::MAX));
        assert_eq!(waited(&[&never, &file], Patience::None), []);
        assert_eq!(waited(&[&never, &file, &past], Patience::Endless), [2]);
        writer.write_all(b"x").expect("write");
        assert_eq!(waited(&[&never, &file], Patience::Endless), [1]);
        let all = [&file, &never, &Pollable::Ready, &past];
        assert_eq!(waited(&all, Patience::Endless), [0, 2, 3]);
        let soon = Pollable::Deadline(monotonic().expect("a time") + 1_000_000);
        assert_eq!(waited(&[&never, &soon], Patience::Endless), [1]);
    }

    /// The kernel takes no longer list than `RLIMIT_NOFILE`. This is the longest that a guest may pass.
    #[test]
    fn list_may_be_longer_than_the_limit_of_open_files() {
        let (ours, mut peer) = UnixStream::pair().expect("a pair");
        let source = Source::Own(Arc::new(OwnedFd::from(ours)));
        let input = Pollable::File(source.clone(), PollFlags::IN);
        let stream = OutputStream::new(source, WriteAt::Next);
        let output = Pollable::Output(Arc::clone(&stream));
        let longest = crate::limits::SUBSCRIPTIONS as usize;
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        // Enough for all tests of this process.
        let current = Some(current.map_or(4096, |current| current.min(4096)));
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).expect("a lower limit");
        let mut list = vec![&input; longest];
        list[longest / 2] = &output;
        assert_eq!(waited(&list, Patience::Endless), [longest as u32 / 2]);
        peer.write_all(b"x").expect("write");
        assert_eq!(waited(&list, Patience::Endless).len(), longest);
    }
}
