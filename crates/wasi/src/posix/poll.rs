//! POSIX's poll, over all kinds of descriptors. select is the C library's, by it.
#![forbid(unsafe_code)]

use std::{
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags};
use wiggle::{GuestMemory, GuestPtr};

use crate::{
    abi::types,
    errno::{Errno, Result},
    guest::Guest,
    limits, memory,
    wait::poll_until,
};

/// What a guest may wait for.
const EVENTS: PollFlags = PollFlags::IN
    .union(PollFlags::PRI)
    .union(PollFlags::OUT)
    .union(PollFlags::RDNORM)
    .union(PollFlags::RDBAND)
    .union(PollFlags::WRNORM)
    .union(PollFlags::WRBAND)
    .union(PollFlags::RDHUP);

/// `pollfd` of the witx file: its bytes, and where what has happened is written.
const ENTRY: types::Size = 8;
const REVENTS: usize = 6;

/// What an entry of the list stands for.
enum Polled<'a> {
    File(PollFd<'a>),
    NotOpen,
    /// Its number is negative.
    Nothing,
}

impl Guest {
    fn polled(&self, entry: &[u8; ENTRY as usize]) -> Polled<'_> {
        let [a, b, c, d, e, f, ..] = *entry;
        let Ok(number) = u32::try_from(i32::from_le_bytes([a, b, c, d])) else {
            return Polled::Nothing;
        };
        match self.descriptors.get(types::Fd::from(number)) {
            Ok(file) => {
                let events = PollFlags::from_bits_truncate(u16::from_le_bytes([e, f])) & EVENTS;
                Polled::File(PollFd::from_borrowed_fd(file.as_ref().as_fd(), events))
            }
            Err(_) => Polled::NotOpen,
        }
    }

    pub(super) fn poll_descriptors(
        &self,
        memory: &mut GuestMemory<'_>,
        list: GuestPtr<types::Pollfd>,
        count: types::Size,
        timeout: i64,
    ) -> Result<types::Size> {
        if count > limits::SUBSCRIPTIONS {
            return Err(Errno::Inval);
        }
        let length = count.checked_mul(ENTRY).ok_or(Errno::Inval)?;
        let entries = memory::slice_mut(memory, GuestPtr::new((list.offset(), length)))?;
        let entries = entries.as_chunks_mut::<{ ENTRY as usize }>().0;
        let mut fds = Vec::with_capacity(entries.len());
        let mut all_open = true;
        for entry in &*entries {
            match self.polled(entry) {
                Polled::File(fd) => fds.push(fd),
                Polled::NotOpen => all_open = false,
                Polled::Nothing => {}
            }
        }
        // With one that is not open the answer is there already.
        let timeout = if all_open { timeout } else { 0 };
        // In nanoseconds; none if it is negative.
        let timeout = u64::try_from(timeout).ok().map(Duration::from_nanos);
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        poll_until(&mut fds, deadline)?;
        // Nothing is written before: an error leaves the list as it was.
        let mut answers = fds.iter().map(PollFd::revents);
        let mut ready: types::Size = 0;
        for entry in entries {
            let happened = match self.polled(entry) {
                Polled::File(_) => answers.next().unwrap_or(PollFlags::empty()),
                Polled::NotOpen => PollFlags::NVAL,
                Polled::Nothing => PollFlags::empty(),
            };
            entry[REVENTS..].copy_from_slice(&happened.bits().to_le_bytes());
            ready += types::Size::from(!happened.is_empty());
        }
        Ok(ready)
    }
}
