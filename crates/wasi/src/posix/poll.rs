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
    limits,
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

impl Guest {
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
        let mut asked = Vec::with_capacity(count as usize);
        for pointer in list.as_array(count).iter() {
            asked.push(memory.read(pointer?)?);
        }
        let mut ready: types::Size = 0;
        let mut fds = Vec::with_capacity(asked.len());
        let mut places = Vec::with_capacity(asked.len());
        for one in &mut asked {
            one.revents = 0;
            let Ok(number) = u32::try_from(one.fd) else {
                continue;
            };
            match self.descriptors.get(types::Fd::from(number)) {
                Ok(file) => {
                    let events = PollFlags::from_bits_truncate(one.events) & EVENTS;
                    fds.push(PollFd::from_borrowed_fd(file.as_ref().as_fd(), events));
                    places.push(&mut one.revents);
                }
                Err(_) => {
                    one.revents = PollFlags::NVAL.bits();
                    ready += 1;
                }
            }
        }
        // With one that is not open the answer is there already.
        let timeout = if ready > 0 { 0 } else { timeout };
        // In nanoseconds; none if it is negative.
        let timeout = u64::try_from(timeout).ok().map(Duration::from_nanos);
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        poll_until(&mut fds, deadline)?;
        for (fd, place) in fds.iter().zip(places) {
            *place = fd.revents().bits();
            ready += types::Size::from(*place != 0);
        }
        for (pointer, one) in list.as_array(count).iter().zip(asked) {
            memory.write(pointer?, one)?;
        }
        Ok(ready)
    }
}
