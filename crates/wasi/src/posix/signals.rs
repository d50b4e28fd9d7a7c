//! Signals: what a C library registers and asks for, and timers.
#![forbid(unsafe_code)]

use rustix::{event::poll, io::Errno as Kernel};
use wiggle::{GuestMemory, GuestPtr};

use crate::{
    abi::types,
    clocks,
    errno::{Errno, Result},
    guest::Guest,
    memory,
    signals::{Alarm, DefaultAction, handler, pending},
    stat, sys, wait,
};

/// A number that a guest passes.
fn signal(number: types::SignalNumber) -> Result<i32> {
    match number {
        1..=31 => Ok(number.into()),
        _ => Err(Errno::Inval),
    }
}

impl Guest {
    pub(super) fn register_signals(
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

    pub(super) fn set_signal_action(
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

    pub(super) fn take_signals(&self, set: types::Signalset) -> types::Signalset {
        handler::take(set)
    }

    /// As a signal from outside, but that its default action ends the first process of a pid namespace
    /// too, as `proc_raise` does.
    pub(super) fn raise_signal(&self, number: types::SignalNumber) -> Result<()> {
        let number = signal(number)?;
        match handler::arrive(number) {
            None | Some(DefaultAction::Ignore) => Ok(()),
            Some(DefaultAction::Stop) => Err(Errno::Notsup),
            Some(DefaultAction::End | DefaultAction::EndUnlessFirst) => sys::exit_now(128 + number),
        }
    }

    /// Waits for any signal that is not masked.
    pub(super) fn suspend(&self) -> Result<std::convert::Infallible> {
        loop {
            if pending() {
                return Err(Errno::Intr);
            }
            wait::once(|| poll(&mut [], None))?;
        }
    }

    pub(super) fn await_signal(
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
            // One of the set may have come since, which is no other's interruption.
            if handler::pending_besides(set) {
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

    pub(super) fn timer(&self) -> Result<types::Itimer> {
        let now = clocks::now(types::Clockid::Monotonic)?;
        let unset = types::Itimer {
            interval: 0,
            value: 0,
        };
        Ok(self.signals.alarm.map_or(unset, |alarm| alarm.left(now)))
    }

    pub(super) fn set_timer(
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
    fn numbers_of_signals_are_those_of_the_set() {
        for number in [0, 32, 64, 255] {
            assert_eq!(signal(number), Err(Errno::Inval));
        }
        assert_eq!(signal(31), Ok(31));
    }
}
