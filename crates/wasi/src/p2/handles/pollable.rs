//! What a guest can wait for, and the waiting.
#![forbid(unsafe_code)]

use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags, poll};

use super::{
    output::OutputHandle,
    source::{Interest, Source},
    tcp::TcpHandle,
};
use crate::{abi::types::Clockid, clocks, errno::Result, stat, wait::once};

/// What a guest can wait for.
#[derive(Debug)]
pub enum Pollable {
    /// It has always happened.
    Ready,
    /// The monotonic clock shows so many nanoseconds.
    Deadline(u64),
    /// The kernel says so of a file.
    File(Source, PollFlags),
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
            Self::Output(stream) => stream.interest(),
            Self::Tcp(socket) => socket.interest(),
        }
    }

    /// Whether it has happened, now that the kernel has said something of its file.
    fn happened(&self) -> bool {
        match self {
            Self::Output(stream) => stream.settle(),
            Self::Ready | Self::Deadline(_) | Self::File(..) | Self::Tcp(_) => true,
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

/// Waits until one of `pollables` has happened, and returns the places of all that have. Streams that linger get
/// on with what they hold.
pub(in crate::p2) fn wait(
    pollables: &[&Pollable],
    lingering: &mut Vec<OutputHandle>,
    patience: Patience,
) -> wasmtime::Result<Vec<u32>> {
    loop {
        let now = monotonic()?;
        let mut happened = Vec::new();
        let (mut files, mut places) = (Vec::new(), Vec::new());
        let mut left: Option<u64> = None;
        for (place, pollable) in (0..).zip(pollables) {
            match pollable.interest() {
                Interest::Nothing => happened.push(place),
                Interest::Deadline(when) if when <= now => happened.push(place),
                Interest::Deadline(when) => {
                    left = Some(left.map_or(when - now, |left| left.min(when - now)));
                }
                Interest::File(file, events) => {
                    files.push(PollFd::from_borrowed_fd(file, events));
                    places.push((place, *pollable));
                }
            }
        }
        if patience == Patience::None || !happened.is_empty() {
            if files.is_empty() {
                return Ok(happened);
            }
            left = Some(0);
        }
        let of_guest = files.len();
        for stream in lingering.iter() {
            files.push(PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::OUT));
        }
        let timeout = left.map(stat::timespec);
        if once(|| poll(&mut files, timeout.as_ref()))?.is_none() {
            continue;
        }
        for ((place, pollable), file) in places.into_iter().zip(&files[..of_guest]) {
            if !file.revents().is_empty() && pollable.happened() {
                happened.push(place);
            }
        }
        drop(files);
        lingering.retain(|stream| !stream.settle());
        if patience == Patience::None || !happened.is_empty() {
            happened.sort_unstable();
            return Ok(happened);
        }
    }
}
