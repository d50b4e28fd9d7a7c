//! Signals for guests, as far as a C library asks for them: `signal_register` and what comes after it.
//!
//! The library registers two words of the guest's memory. The handler of the process sets the bit of
//! a signal in the first; the guest says in the second what it has masked. A call that blocks ends with
//! EINTR ([`crate::wait`]), and the library runs the guest's handlers.
//!
//! The runner calls [`prepare`] for a guest that [imports](crate::imports::handles_signals) these
//! functions, before its filter. Without that nothing here has an effect: signals end the process by
//! the runner's own handler. See decision 0035.
#![deny(unsafe_code)]

mod handler;

use rustix::{event::poll, io::Errno as Kernel};
use wiggle::{GuestMemory, GuestPtr};

use crate::{
    abi::types,
    clocks,
    errno::{Errno, Result},
    guest::Guest,
    memory, stat, sys, wait,
};

pub use self::handler::prepare;
pub(crate) use self::handler::{Interruptible, pending};

/// Signal *n* is bit *n* - 1.
type SignalSet = u32;

/// What a signal does that the guest does nothing about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DefaultAction {
    End,
    /// As Linux has it, where a process that is the first of its pid namespace does not get it.
    EndUnlessFirst,
    Ignore,
    /// A container is stopped by its runtime, not by itself.
    Stop,
}

fn default_action(signal: i32) -> DefaultAction {
    match signal {
        libc::SIGCHLD | libc::SIGCONT | libc::SIGURG | libc::SIGWINCH | libc::SIGPIPE => {
            DefaultAction::Ignore
        }
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => DefaultAction::Stop,
        libc::SIGUSR1 | libc::SIGUSR2 | libc::SIGALRM => DefaultAction::EndUnlessFirst,
        _ => DefaultAction::End,
    }
}

/// A number that a guest passes.
fn signal(number: types::SignalNumber) -> Result<i32> {
    match number {
        1..=31 => Ok(number.into()),
        _ => Err(Errno::Inval),
    }
}

/// The words of a guest, given back with it.
#[derive(Debug, Default)]
pub(crate) struct Registration {
    registered: bool,
    alarm: Option<Alarm>,
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
struct Alarm {
    deadline: u64,
    interval: u64,
}

impl Alarm {
    /// What is left of it at `now`; 0 if it has come.
    fn left(self, now: u64) -> types::Itimer {
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

impl Guest {
    pub(crate) fn register_signals(
        &mut self,
        memory: &mut GuestMemory<'_>,
        pending: GuestPtr<types::Signalset>,
        mask: GuestPtr<types::Signalset>,
    ) -> Result<()> {
        if !handler::is_prepared() || !self.memory_stays {
            return Err(Errno::Nosys);
        }
        let (pending, mask) = (pending.offset() as usize, mask.offset() as usize);
        if !(pending.is_multiple_of(4) && mask.is_multiple_of(4)) {
            return Err(Errno::Inval);
        }
        let bytes = memory::bytes(memory)?;
        handler::register(bytes, pending, mask).ok_or(Errno::Fault)?;
        self.signals.registered = true;
        Ok(())
    }

    pub(crate) fn set_signal_action(
        &self,
        number: types::SignalNumber,
        action: types::SignalDisposition,
    ) -> Result<()> {
        let number = signal(number)?;
        if matches!(number, libc::SIGKILL | libc::SIGSTOP)
            && action != types::SignalDisposition::Default
        {
            return Err(Errno::Inval);
        }
        if !self.signals.registered {
            return Err(Errno::Perm);
        }
        handler::set_action(number, action);
        Ok(())
    }

    pub(crate) fn take_signals(&self, set: types::Signalset) -> types::Signalset {
        handler::take(set)
    }

    /// As a signal from outside, but that its default action ends the first process of a pid namespace
    /// too, as `proc_raise` does.
    pub(crate) fn raise_signal(&self, number: types::SignalNumber) -> Result<()> {
        let number = signal(number)?;
        match handler::arrive(number) {
            None | Some(DefaultAction::Ignore) => Ok(()),
            Some(DefaultAction::Stop) => Err(Errno::Notsup),
            Some(DefaultAction::End | DefaultAction::EndUnlessFirst) => sys::exit_now(128 + number),
        }
    }

    /// Waits for any signal that is not masked.
    pub(crate) fn suspend(&self) -> Result<std::convert::Infallible> {
        loop {
            if pending() {
                return Err(Errno::Intr);
            }
            wait::once(|| poll(&mut [], None))?;
        }
    }

    pub(crate) fn await_signal(
        &self,
        set: types::Signalset,
        timeout: i64,
    ) -> Result<types::SignalNumber> {
        let monotonic = types::Clockid::Monotonic;
        let deadline = match u64::try_from(timeout) {
            Ok(timeout) => Some(clocks::now(monotonic)?.saturating_add(timeout)),
            Err(_) => None,
        };
        let _awaiting = handler::Awaiting::set(set);
        loop {
            for number in (1..=31_u8).filter(|number| set & (1 << (number - 1)) != 0) {
                if handler::take(1 << (number - 1)) != 0 {
                    return Ok(number);
                }
            }
            if pending() {
                return Err(Errno::Intr);
            }
            let left = match deadline {
                Some(deadline) => Some(deadline.saturating_sub(clocks::now(monotonic)?)),
                None => None,
            };
            if left == Some(0) {
                return Err(Errno::Again);
            }
            let left = left.map(stat::timespec);
            match wait::once(|| poll(&mut [], left.as_ref())) {
                // Which of them it is, is seen above.
                Ok(_) | Err(Kernel::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) fn timer(&self) -> Result<types::Itimer> {
        let now = clocks::now(types::Clockid::Monotonic)?;
        let unset = types::Itimer {
            interval: 0,
            value: 0,
        };
        Ok(self.signals.alarm.map_or(unset, |alarm| alarm.left(now)))
    }

    pub(crate) fn set_timer(
        &mut self,
        interval: types::Timestamp,
        value: types::Timestamp,
    ) -> Result<types::Itimer> {
        // Beyond what the kernel's own numbers hold, some 292 years.
        if i64::try_from(value).is_err() || i64::try_from(interval).is_err() {
            return Err(Errno::Inval);
        }
        let before = self.timer()?;
        let now = clocks::now(types::Clockid::Monotonic)?;
        handler::set_alarm(value, interval)?;
        self.signals.alarm = (value > 0).then(|| Alarm {
            deadline: now.saturating_add(value),
            interval,
        });
        Ok(before)
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

    #[test]
    fn numbers_of_signals_are_those_of_the_set() {
        for number in [0, 32, 64, 255] {
            assert_eq!(signal(number), Err(Errno::Inval));
        }
        assert_eq!(signal(31), Ok(31));
    }
}
