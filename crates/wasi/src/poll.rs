//! `poll_oneoff` and `poll`: waiting for files, sockets and clocks together, by one ppoll(2). The work for
//! one descriptor does not depend on how many there are.
#![forbid(unsafe_code)]

use std::{os::fd::AsFd as _, sync::Arc};

use rustix::{
    event::{PollFlags, poll},
    fs::{FileType, fstat, tell},
    io::ioctl_fionread,
};
use wiggle::{GuestMemory, GuestPtr};

use crate::{
    abi::types,
    clocks,
    descriptors::Description,
    errno::{Errno, Result},
    guest::Guest,
    limits, stat,
    wait::{PollSet, once},
};

/// What a guest waits for.
enum Waited {
    File {
        file: Arc<Description>,
        kind: types::Eventtype,
    },
    Clock {
        id: types::Clockid,
        deadline: types::Timestamp,
    },
    /// It has the answer already: the error.
    Failed {
        kind: types::Eventtype,
        error: Errno,
    },
}

impl Guest {
    pub(crate) fn poll(
        &self,
        memory: &mut GuestMemory<'_>,
        subscriptions: GuestPtr<types::Subscription>,
        events: GuestPtr<types::Event>,
        count: types::Size,
    ) -> Result<types::Size> {
        if count == 0 || count > limits::SUBSCRIPTIONS {
            return Err(Errno::Inval);
        }
        // All are read before the first event is written: both may be the same memory.
        let mut waited = Vec::with_capacity(count as usize);
        for pointer in subscriptions.as_array(count).iter() {
            let subscription = memory.read(pointer?)?;
            waited.push((subscription.userdata, self.waited(&subscription.u)?));
        }
        let happened = wait_for(&waited)?;
        let mut pointer = events;
        let mut stored = 0;
        for ((userdata, waited), revents) in waited.iter().zip(happened) {
            if let Some(event) = event(*userdata, waited, revents) {
                memory.write(pointer, event)?;
                pointer = pointer.add(1)?;
                stored += 1;
            }
        }
        Ok(stored)
    }

    fn waited(&self, subscription: &types::SubscriptionU) -> Result<Waited> {
        let (fd, kind) = match subscription {
            types::SubscriptionU::Clock(clock) => return deadline(clock),
            types::SubscriptionU::FdRead(read) => (read.file_descriptor, types::Eventtype::FdRead),
            types::SubscriptionU::FdWrite(write) => {
                (write.file_descriptor, types::Eventtype::FdWrite)
            }
        };
        Ok(match self.descriptors.get(fd) {
            Ok(file) => Waited::File {
                file: Arc::clone(file),
                kind,
            },
            Err(error) => Waited::Failed { kind, error },
        })
    }
}

fn deadline(clock: &types::SubscriptionClock) -> Result<Waited> {
    let id = clock.id;
    // Such a clock stands still while the guest waits.
    if !matches!(id, types::Clockid::Realtime | types::Clockid::Monotonic) {
        return Err(Errno::Notsup);
    }
    let absolute = types::Subclockflags::SUBSCRIPTION_CLOCK_ABSTIME;
    Ok(if clock.flags.contains(absolute) {
        let deadline = clock.timeout;
        Waited::Clock { id, deadline }
    } else {
        // A duration is not changed by setting the time.
        let id = types::Clockid::Monotonic;
        let deadline = clocks::now(id)?.saturating_add(clock.timeout);
        Waited::Clock { id, deadline }
    })
}

/// Waits until one of them has happened. Returns what has, one entry for each: for a file what ppoll
/// says, for a clock anything if it has come.
fn wait_for(waited: &[(u64, Waited)]) -> Result<Vec<PollFlags>> {
    loop {
        let mut happened = vec![PollFlags::empty(); waited.len()];
        let mut any = false;
        let mut left: Option<u64> = None;
        for ((_, waited), happened) in waited.iter().zip(&mut happened) {
            let rest = match waited {
                Waited::File { .. } => continue,
                Waited::Failed { .. } => 0,
                Waited::Clock { id, deadline } => deadline.saturating_sub(clocks::now(*id)?),
            };
            if rest == 0 {
                any = true;
                *happened = PollFlags::ERR;
            }
            left = Some(left.map_or(rest, |left| left.min(rest)));
        }
        let (mut files, mut asked) = (PollSet::default(), Vec::new());
        for (place, (_, waited)) in waited.iter().enumerate() {
            if let Waited::File { file, kind } = waited {
                let events = match kind {
                    types::Eventtype::FdRead => PollFlags::IN,
                    _ => PollFlags::OUT,
                };
                asked.push((place, files.add(file.as_ref().as_fd(), events)));
            }
        }
        let timeout = left.map(stat::timespec);
        if once(|| poll(files.entries(), timeout.as_ref()))?.is_none() {
            continue;
        }
        for (place, awaited) in asked {
            happened[place] = files.happened(awaited);
            any |= !happened[place].is_empty();
        }
        // Time may be up only now, or not quite: then the clock is asked again.
        if any {
            return Ok(happened);
        }
    }
}

fn event(userdata: u64, waited: &Waited, revents: PollFlags) -> Option<types::Event> {
    if revents.is_empty() {
        return None;
    }
    let (kind, error, fd_readwrite) = match waited {
        Waited::Clock { .. } => (types::Eventtype::Clock, Errno::Success, nothing()),
        Waited::Failed { kind, error } => (*kind, *error, nothing()),
        Waited::File { kind, .. } if revents.contains(PollFlags::NVAL) => {
            (*kind, Errno::Badf, nothing())
        }
        Waited::File { file, kind } => (*kind, Errno::Success, state(file, *kind, revents)),
    };
    Some(types::Event {
        userdata,
        error,
        type_: kind,
        fd_readwrite,
    })
}

fn nothing() -> types::EventFdReadwrite {
    types::EventFdReadwrite {
        nbytes: 0,
        flags: types::Eventrwflags::empty(),
    }
}

/// How much can be read, and whether the other side is gone.
fn state(
    file: &Description,
    kind: types::Eventtype,
    revents: PollFlags,
) -> types::EventFdReadwrite {
    let hangup = revents.intersects(PollFlags::HUP | PollFlags::ERR);
    let mut flags = types::Eventrwflags::empty();
    flags.set(types::Eventrwflags::FD_READWRITE_HANGUP, hangup);
    let nbytes = match kind {
        types::Eventtype::FdRead => available(file),
        _ => u64::from(!hangup),
    };
    types::EventFdReadwrite { nbytes, flags }
}

fn available(file: &Description) -> u64 {
    let regular = fstat(file)
        .ok()
        .filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    match regular {
        Some(stat) => {
            let size = u64::try_from(stat.st_size).unwrap_or_default();
            size.saturating_sub(tell(file).unwrap_or_default())
        }
        // A device that does not count, such as /dev/zero, always has something.
        None => ioctl_fionread(file).unwrap_or(1),
    }
}
