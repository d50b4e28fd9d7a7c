//! The streams that keep what the kernel has not taken yet, with and without a handle.
//!
//! Nothing runs beside the guest's calls. So each call that waits, for whatever it waits, gets on with these streams
//! too, by the same ppoll(2), and each other call does now and then. A guest that has written need not come back to the
//! stream: the other side gets all of it.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, btree_map::Entry},
    os::fd::{AsFd as _, BorrowedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::event::PollFlags;

use super::output::OutputHandle;
use crate::{
    limits,
    wait::{Awaited, Meanwhile, PollSet, poll_until},
};

/// How long the other side of a stream without a handle may take nothing.
pub(in crate::p2) const PATIENCE: Duration = Duration::from_secs(60);

/// A guest that calls again and again gets on with what is kept so often, and not at each call: asking costs more than
/// most calls do.
const PAUSE: Duration = Duration::from_millis(1);

/// All streams of a guest that keep something.
#[derive(Debug)]
pub struct Unsent {
    patience: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// By the address of the stream, which it has as long as it is here.
    streams: BTreeMap<usize, Keeping>,
    /// What all of them keep.
    bytes: usize,
    /// When they got on last.
    last: Instant,
}

/// A stream that keeps something.
#[derive(Debug)]
struct Keeping {
    stream: OutputHandle,
    bytes: usize,
    /// Without a handle: since when the other side has taken nothing.
    idle: Option<Instant>,
}

/// Those that keep something when a wait begins.
pub(in crate::p2) struct KeptStreams {
    streams: Vec<OutputHandle>,
    /// When one of them has lingered too long.
    pub(in crate::p2) until: Option<Instant>,
}

impl KeptStreams {
    /// Waits for them too.
    pub(in crate::p2) fn add_to<'a>(&'a self, files: &mut PollSet<'a>) -> Vec<Awaited> {
        let add = |stream: &'a OutputHandle| files.add(stream.as_fd(), PollFlags::OUT);
        self.streams.iter().map(add).collect()
    }

    /// Those that the kernel takes more of.
    pub(in crate::p2) fn ready(
        &self,
        files: &PollSet<'_>,
        awaited: &[Awaited],
    ) -> Vec<OutputHandle> {
        let all = self.streams.iter().zip(awaited);
        all.filter(|(_, awaited)| !files.happened(**awaited).is_empty())
            .map(|(stream, _)| OutputHandle::clone(stream))
            .collect()
    }
}

impl Unsent {
    /// `patience`: see [`PATIENCE`].
    pub(in crate::p2) fn new(patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            patience,
            inner: Mutex::new(Inner {
                streams: BTreeMap::new(),
                bytes: 0,
                last: Instant::now(),
            }),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much more may be kept, of all streams together.
    pub(in crate::p2) fn room(&self) -> usize {
        limits::KEPT.saturating_sub(self.inner().bytes)
    }

    /// A function of `stream` has been called, after which it may keep something.
    pub(in crate::p2) fn note(&self, stream: &OutputHandle) {
        self.inner().note(stream, Instant::now());
    }

    /// The last handle of `stream` is gone. What it keeps is still sent, as long as the other side takes it.
    pub(in crate::p2) fn linger(&self, stream: &OutputHandle) {
        stream.settle();
        let (inner, now) = (&mut *self.inner(), Instant::now());
        inner.note(stream, now);
        if let Some(keeping) = inner.streams.get_mut(&key(stream)) {
            keeping.idle = Some(now);
        }
        let lingering = inner.streams.values().filter(|one| one.idle.is_some());
        if lingering.count() > limits::LINGERING {
            let without_handle = inner.streams.iter().filter(|(_, one)| one.idle.is_some());
            let longest = without_handle.min_by_key(|(_, one)| one.idle);
            if let Some(key) = longest.map(|(key, _)| *key) {
                inner.cut_off(key);
            }
        }
    }

    /// The streams to wait for besides.
    pub(in crate::p2) fn kept(&self) -> KeptStreams {
        let inner = self.inner();
        let streams = inner.streams.values();
        let since = streams.clone().filter_map(|one| one.idle).min();
        KeptStreams {
            streams: streams
                .map(|one| OutputHandle::clone(&one.stream))
                .collect(),
            until: since.map(|since| since + self.patience),
        }
    }

    /// Sends what `ready` keep, as far as the kernel takes it, and cuts off those that have lingered too long.
    pub(in crate::p2) fn settle(&self, ready: &[OutputHandle]) {
        let inner = &mut *self.inner();
        if inner.streams.is_empty() {
            return;
        }
        let now = Instant::now();
        for stream in ready {
            stream.settle();
            inner.note(stream, now);
        }
        inner.last = now;
        let too_long = |one: &Keeping| one.idle.is_some_and(|idle| idle + self.patience <= now);
        let late = inner.streams.iter().filter(|(_, one)| too_long(one));
        for key in late.map(|(key, _)| *key).collect::<Vec<_>>() {
            inner.cut_off(key);
        }
    }

    /// Gets on with what is kept, if that has not been done just now. For calls that do not wait.
    pub(in crate::p2) fn now_and_then(&self) {
        let is_time = {
            let inner = self.inner();
            !inner.streams.is_empty() && inner.last.elapsed() >= PAUSE
        };
        if is_time {
            // The next call tries again.
            let _ = self.round(Some(Instant::now()));
        }
    }

    /// Gets on until a time has come.
    pub(in crate::p2) fn pass(&self, until: Instant) -> rustix::io::Result<()> {
        while Instant::now() < until {
            self.round(Some(until))?;
        }
        Ok(())
    }

    /// Waits until nothing is kept any more, or the deadline has come. Then the other sides are told that there was
    /// more.
    pub(in crate::p2) fn drain(&self, deadline: Instant) {
        while !self.inner().streams.is_empty() && Instant::now() < deadline {
            // What cannot be waited for is lost, as at the deadline.
            if self.round(Some(deadline)).is_err() {
                return;
            }
        }
    }

    /// One ppoll(2) over all that keep something, and what follows.
    fn round(&self, deadline: Option<Instant>) -> rustix::io::Result<()> {
        let kept = self.kept();
        let mut files = PollSet::default();
        let awaited = kept.add_to(&mut files);
        let polled = poll_until(files.entries(), earlier(deadline, kept.until));
        let ready = kept.ready(&files, &awaited);
        drop(files);
        self.settle(&ready);
        polled.map(drop)
    }
}

impl Meanwhile for Unsent {
    fn is_idle(&self) -> bool {
        self.inner().streams.is_empty()
    }

    fn wait_for(
        &self,
        file: BorrowedFd<'_>,
        events: PollFlags,
        deadline: Option<Instant>,
    ) -> rustix::io::Result<bool> {
        loop {
            let kept = self.kept();
            let mut files = PollSet::default();
            let asked = files.add(file, events);
            let awaited = kept.add_to(&mut files);
            poll_until(files.entries(), earlier(deadline, kept.until))?;
            let happened = !files.happened(asked).is_empty();
            let ready = kept.ready(&files, &awaited);
            drop(files);
            self.settle(&ready);
            if happened {
                return Ok(true);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
        }
    }
}

impl Inner {
    fn note(&mut self, stream: &OutputHandle, now: Instant) {
        let bytes = stream.kept();
        let before = match self.streams.entry(key(stream)) {
            Entry::Vacant(_) if bytes == 0 => 0,
            Entry::Vacant(vacant) => {
                vacant.insert(Keeping {
                    stream: OutputHandle::clone(stream),
                    bytes,
                    idle: None,
                });
                0
            }
            Entry::Occupied(occupied) if bytes == 0 => occupied.remove().bytes,
            Entry::Occupied(occupied) => {
                let keeping = occupied.into_mut();
                if bytes < keeping.bytes && keeping.idle.is_some() {
                    keeping.idle = Some(now);
                }
                std::mem::replace(&mut keeping.bytes, bytes)
            }
        };
        self.bytes = self.bytes - before + bytes;
    }

    /// What it keeps is lost, and the other side does not take what it has for all of it.
    fn cut_off(&mut self, key: usize) {
        if let Some(keeping) = self.streams.remove(&key) {
            self.bytes -= keeping.bytes;
            keeping.stream.abandon();
        }
    }
}

/// No other stream has this number as long as this one is there.
fn key(stream: &OutputHandle) -> usize {
    Arc::as_ptr(stream).addr()
}

/// The earlier of two times, if there are.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}
