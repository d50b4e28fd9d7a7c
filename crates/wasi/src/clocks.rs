//! Clocks: the kernel's, read through the C library, which needs no system call for most.
#![forbid(unsafe_code)]

use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_getres, clock_gettime},
};

use crate::{
    abi::types,
    errno::{Errno, Result},
};

fn kernel(id: types::Clockid) -> ClockId {
    match id {
        types::Clockid::Realtime => ClockId::CLOCK_REALTIME,
        types::Clockid::Monotonic => ClockId::CLOCK_MONOTONIC,
        types::Clockid::ProcessCputimeId => ClockId::CLOCK_PROCESS_CPUTIME_ID,
        types::Clockid::ThreadCputimeId => ClockId::CLOCK_THREAD_CPUTIME_ID,
    }
}

/// Nanoseconds; EOVERFLOW for what preview 1 cannot say, a clock before 1970 or after 2554.
fn nanoseconds(time: TimeSpec) -> Result<types::Timestamp> {
    let seconds = u64::try_from(time.tv_sec()).map_err(|_| Errno::Overflow)?;
    let rest = u64::try_from(time.tv_nsec()).map_err(|_| Errno::Overflow)?;
    let total = seconds.checked_mul(1_000_000_000);
    total
        .and_then(|total| total.checked_add(rest))
        .ok_or(Errno::Overflow)
}

/// The time of a clock.
pub(crate) fn now(id: types::Clockid) -> Result<types::Timestamp> {
    nanoseconds(clock_gettime(kernel(id))?)
}

/// The resolutions of all clocks. Read once: nothing changes them, and a running guest's filter needs no
/// call for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resolutions([Result<types::Timestamp>; CLOCKS.len()]);

const CLOCKS: [types::Clockid; 4] = [
    types::Clockid::Realtime,
    types::Clockid::Monotonic,
    types::Clockid::ProcessCputimeId,
    types::Clockid::ThreadCputimeId,
];

impl Resolutions {
    pub(crate) fn of_kernel() -> Self {
        Self(CLOCKS.map(|id| nanoseconds(clock_getres(kernel(id))?)))
    }

    /// The resolution of a clock.
    pub(crate) fn get(&self, id: types::Clockid) -> Result<types::Timestamp> {
        let place = CLOCKS.iter().position(|one| *one == id);
        place.map_or(Err(Errno::Inval), |place| self.0[place])
    }
}
