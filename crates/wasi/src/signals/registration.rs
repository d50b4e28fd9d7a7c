//! What a guest has registered: its words, and its timer.
#![forbid(unsafe_code)]

use super::handler;
use crate::abi::types;

/// The words of a guest, given back with it.
#[derive(Debug, Default)]
pub(crate) struct Registration {
    pub(crate) registered: bool,
    pub(crate) alarm: Option<Alarm>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.registered {
            handler::forget();
        }
    }
}

/// What the guest's timer is set to, in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alarm {
    pub(crate) deadline: u64,
    pub(crate) interval: u64,
}

impl Alarm {
    /// What is left of it at `now`; 0 if it has come.
    pub(crate) fn left(self, now: u64) -> types::Itimer {
        let Self { deadline, interval } = self;
        let value = match deadline.checked_sub(now) {
            Some(left) if left > 0 => left,
            _ if interval > 0 => interval - (now - deadline) % interval,
            _ => 0,
        };
        types::Itimer {
            // As setitimer(2): a timer that has come has no interval either.
            interval: if value == 0 { 0 } else { interval },
            value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timer_that_has_come_is_unset_unless_it_repeats() {
        let left = |deadline, interval, now| {
            let left = Alarm { deadline, interval }.left(now);
            (left.value, left.interval)
        };
        assert_eq!(left(100, 0, 40), (60, 0));
        assert_eq!(left(100, 0, 100), (0, 0));
        assert_eq!(left(100, 0, 101), (0, 0));
        assert_eq!(left(100, 30, 40), (60, 30));
        assert_eq!(left(100, 30, 100), (30, 30));
        assert_eq!(left(100, 30, 170), (20, 30));
    }
}
