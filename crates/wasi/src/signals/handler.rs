//! Where a signal meets a guest: the handler of the process, the two words in the guest's memory, and
//! the timers.
//!
//! A leaf. All of it is state of the process, as signals are; one guest at a time has words here.
//! What a handler does is async-signal-safe: it reads and writes atomic words and makes one system
//! call. See decision 0035.
#![allow(unsafe_code)]

use std::{
    io,
    ptr::null_mut,
    sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, Ordering::SeqCst},
};

use super::default_action::{DefaultAction, default_action};
use crate::{abi::types::SignalDisposition, sys};

/// Signal *n* is bit *n* - 1.
type SignalSet = u32;

/// What the kernel may send to a guest that can handle it.
const HANDLED: [i32; 9] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGPIPE,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGWINCH,
];
/// Interrupts a call once more. From outside it does no harm: it is ignored by default.
const KICK: i32 = libc::SIGURG;
/// How long a call may block, in nanoseconds, that a signal has come right before.
const KICK_AFTER: u64 = 50_000;
const NO_TIMER: i32 = -1;

/// The guest's words: null if it has none.
static PENDING: AtomicPtr<AtomicU32> = AtomicPtr::new(null_mut());
static MASK: AtomicPtr<AtomicU32> = AtomicPtr::new(null_mut());
/// What the guest does about each signal. In neither: the default.
static CAUGHT: AtomicU32 = AtomicU32::new(0);
static IGNORED: AtomicU32 = AtomicU32::new(0);
/// What the guest waits for by `sigtimedwait`, though it may be masked.
static AWAITED: AtomicU32 = AtomicU32::new(0);
/// Whether the guest is in a call that may block.
static BLOCKING: AtomicBool = AtomicBool::new(false);
/// Whether Linux drops signals that have their default action: for the first process of a pid namespace.
static FIRST_PROCESS: AtomicBool = AtomicBool::new(false);
/// How often a signal has come, whatever was done about it.
static INTERRUPTIONS: AtomicU32 = AtomicU32::new(0);
static KICK_TIMER: AtomicI32 = AtomicI32::new(NO_TIMER);
static ALARM_TIMER: AtomicI32 = AtomicI32::new(NO_TIMER);

/// The words of the guest that has registered some.
fn words() -> Option<(&'static AtomicU32, &'static AtomicU32)> {
    let (pending, mask) = (PENDING.load(SeqCst), MASK.load(SeqCst));
    if pending.is_null() || mask.is_null() {
        return None;
    }
    // SAFETY: `register` has checked that both are aligned and within the guest's memory, which stays
    // where it is and never shrinks, and `forget` is called before the memory is given back. The guest
    // accesses them only by plain loads and stores of its own on the same thread. A host function that
    // borrows all of the memory has no access to them but where the guest has passed their addresses as
    // a buffer, whose bytes are then the guest's mistake, as if the kernel had written them. That references to other
    // bytes do not matter is the assumption that decision 0035 names.
    unsafe { Some((&*pending, &*mask)) }
}

/// Takes words in `memory`, which must stay where it is until [`forget`]. `None` if they are not
/// aligned or not within it.
pub(crate) fn register(memory: &mut [u8], pending: usize, mask: usize) -> Option<()> {
    let length = memory.len();
    let base = memory.as_mut_ptr();
    let word = |at: usize| -> Option<*mut AtomicU32> {
        let fits = at.is_multiple_of(4) && at.checked_add(4)? <= length;
        let word: *mut AtomicU32 = base.wrapping_add(at).cast();
        (fits && word.is_aligned()).then_some(word)
    };
    let (pending, mask) = (word(pending)?, word(mask)?);
    PENDING.store(null_mut(), SeqCst);
    MASK.store(mask, SeqCst);
    PENDING.store(pending, SeqCst);
    Some(())
}

/// Forgets the words and all that the guest has said. From here on signals do what they do by default.
pub(crate) fn forget() {
    PENDING.store(null_mut(), SeqCst);
    MASK.store(null_mut(), SeqCst);
    for set in [&CAUGHT, &IGNORED, &AWAITED] {
        set.store(0, SeqCst);
    }
    BLOCKING.store(false, SeqCst);
}

pub(crate) fn set_action(signal: i32, action: SignalDisposition) {
    let bit = bit(signal);
    let put = |set: &AtomicU32, on: bool| {
        if on {
            set.fetch_or(bit, SeqCst);
        } else {
            set.fetch_and(!bit, SeqCst);
        }
    };
    // Between both stores it is caught or ignored, never at its default unless it was or will be.
    if action == SignalDisposition::Catch {
        put(&CAUGHT, true);
        put(&IGNORED, false);
    } else {
        put(&IGNORED, action == SignalDisposition::Ignore);
        put(&CAUGHT, false);
    }
}

/// Removes those of `set` that are pending, and returns them.
pub(crate) fn take(set: SignalSet) -> SignalSet {
    words().map_or(0, |(pending, _)| pending.fetch_and(!set, SeqCst) & set)
}

/// Whether a call that would block has to end: a signal is pending that the guest has not masked.
pub(crate) fn pending() -> bool {
    words().is_some_and(|(pending, mask)| is_pending(pending, mask))
}

/// Counts what may have interrupted a call. It wraps around.
pub(crate) fn interruptions() -> u32 {
    INTERRUPTIONS.load(SeqCst)
}

/// Whether a signal is pending that the guest has not masked, and that is not one of `set`.
pub(crate) fn pending_besides(set: SignalSet) -> bool {
    words().is_some_and(|(pending, mask)| pending.load(SeqCst) & !mask.load(SeqCst) & !set != 0)
}

fn is_pending(pending: &AtomicU32, mask: &AtomicU32) -> bool {
    pending.load(SeqCst) & (!mask.load(SeqCst) | AWAITED.load(SeqCst)) != 0
}

/// While it lives, the guest waits for the signals of a set.
#[derive(Debug)]
pub(crate) struct Awaiting;

impl Awaiting {
    pub(crate) fn set(set: SignalSet) -> Self {
        AWAITED.store(set, SeqCst);
        Self
    }
}

impl Drop for Awaiting {
    fn drop(&mut self) {
        AWAITED.store(0, SeqCst);
    }
}

/// While it lives, a signal interrupts the call that is made, now or soon.
///
/// A signal that comes right before the call enters the kernel would be lost: the handler has run, and
/// the call blocks. So the handler then sets a timer that interrupts again, until this is dropped.
///
/// Without words there is none: then no handler reads `BLOCKING` to any effect, as [`arrive`] and
/// [`pending`] look for the words first. None can appear before the call has ended: [`register`] and
/// [`forget`] are called by the guest's thread alone, which is in this call, and by no handler. With
/// words all is in one order: a handler reads `BLOCKING` after it has set its bit, and the bit is read
/// here after `BLOCKING` is set, so that at least one of both sees the other.
#[derive(Debug)]
pub(crate) struct Interruptible;

impl Interruptible {
    pub(crate) fn enter() -> Option<Self> {
        let (pending, mask) = words()?;
        BLOCKING.store(true, SeqCst);
        // From here on the handler sees that a call is being made. What came before is seen here.
        if is_pending(pending, mask) {
            kick();
        }
        Some(Self)
    }
}

impl Drop for Interruptible {
    fn drop(&mut self) {
        BLOCKING.store(false, SeqCst);
    }
}

/// What has to be done about a signal to the process itself that has come or that the guest raises.
pub(crate) fn arrive(signal: i32) -> Option<DefaultAction> {
    let bit = bit(signal);
    if let Some((pending, mask)) = words() {
        let masked = mask.load(SeqCst) & bit != 0;
        let awaited = AWAITED.load(SeqCst) & bit != 0;
        let ignored = IGNORED.load(SeqCst) & bit != 0;
        if masked || awaited || CAUGHT.load(SeqCst) & bit != 0 {
            pending.fetch_or(bit, SeqCst);
            if BLOCKING.load(SeqCst) && (awaited || !masked) {
                kick();
            }
            return None;
        }
        if ignored {
            return None;
        }
    }
    Some(default_action(signal))
}

/// The bit of a signal from 1 to 31.
fn bit(signal: i32) -> SignalSet {
    1_u32
        .checked_shl(signal.wrapping_sub(1).cast_unsigned())
        .unwrap_or(0)
}

extern "C" fn handle(signal: libc::c_int) {
    // SAFETY: the location is that of this thread's errno, which the interrupted code may be about to
    // read; nothing else runs on this thread meanwhile.
    let errno = unsafe { *libc::__errno_location() };
    INTERRUPTIONS.fetch_add(1, SeqCst);
    if signal == KICK {
        if BLOCKING.load(SeqCst) && pending() {
            kick();
        }
    } else {
        match arrive(signal) {
            None | Some(DefaultAction::Ignore | DefaultAction::Stop) => {}
            // As Linux does with the first process of a pid namespace.
            Some(DefaultAction::EndUnlessFirst) if FIRST_PROCESS.load(SeqCst) => {}
            Some(DefaultAction::End | DefaultAction::EndUnlessFirst) => sys::exit_now(128 + signal),
        }
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Handles signals for the guest of this thread, from here on and for good.
///
/// To be called before a filter that refuses rt_sigaction(2) and timer_create(2).
///
/// # Errors
/// The kernel's, with the call.
pub fn prepare() -> Result<(), String> {
    let failed = |call: &str| format!("{call}: {}", io::Error::last_os_error());
    FIRST_PROCESS.store(rustix::process::getpid().is_init(), SeqCst);
    for (place, signal) in [(&KICK_TIMER, KICK), (&ALARM_TIMER, libc::SIGALRM)] {
        let timer = create_timer(signal).ok_or_else(|| failed("timer_create"))?;
        place.store(timer, SeqCst);
        set_timer(timer, 0, 0).map_err(|_| failed("timer_settime"))?;
    }
    // SAFETY: zeroed is a valid sigaction and a valid sigset_t; every pointer is to a local. The handler
    // takes a signal's number and is async-signal-safe, as the head of this file says.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as extern "C" fn(libc::c_int) as usize;
        // No SA_RESTART: a blocked call has to end. On Wasmtime's alternate stack where there is one:
        // the guest's own may be used up.
        action.sa_flags = libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut action.sa_mask);
        for signal in HANDLED.into_iter().chain([KICK]) {
            libc::sigaddset(&raw mut action.sa_mask, signal);
        }
        for signal in HANDLED.into_iter().chain([KICK]) {
            if libc::sigaction(signal, &raw const action, null_mut()) != 0 {
                return Err(failed("sigaction"));
            }
        }
        if libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const action.sa_mask, null_mut()) != 0 {
            return Err(failed("sigprocmask"));
        }
    }
    Ok(())
}

/// A timer that sends `signal` to this thread.
fn create_timer(signal: i32) -> Option<i32> {
    let mut timer: libc::c_int = NO_TIMER;
    // SAFETY: zeroed is a valid sigevent; the kernel reads it, writes one int, and keeps no pointer.
    let made = unsafe {
        let mut event: libc::sigevent = std::mem::zeroed();
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        event.sigev_notify_thread_id = rustix::thread::gettid().as_raw_nonzero().get();
        libc::syscall(
            libc::SYS_timer_create,
            libc::CLOCK_MONOTONIC,
            &raw mut event,
            &raw mut timer,
        )
    };
    (made == 0).then_some(timer)
}

/// Has a timer come after `value` nanoseconds, and then each `interval`; 0: never.
fn set_timer(timer: i32, value: u64, interval: u64) -> rustix::io::Result<()> {
    const SECOND: u64 = 1_000_000_000;
    let time = |nanoseconds: u64| libc::timespec {
        tv_sec: (nanoseconds / SECOND).cast_signed(),
        tv_nsec: (nanoseconds % SECOND).cast_signed(),
    };
    let times = libc::itimerspec {
        it_interval: time(interval),
        it_value: time(value),
    };
    // SAFETY: `times` is valid for reads, and the kernel writes nothing where the last pointer is null.
    let set = unsafe {
        libc::syscall(
            libc::SYS_timer_settime,
            timer,
            0,
            &raw const times,
            null_mut::<libc::itimerspec>(),
        )
    };
    sys::checked(set).map(drop)
}

fn kick() {
    let timer = KICK_TIMER.load(SeqCst);
    if timer != NO_TIMER {
        // `prepare` has made this call with the same timer: it does not fail.
        let _ = set_timer(timer, KICK_AFTER, 0);
    }
}

/// Has SIGALRM come, as [`set_timer`]. ENOSYS in a process that does not handle signals.
pub(crate) fn set_alarm(value: u64, interval: u64) -> rustix::io::Result<()> {
    match ALARM_TIMER.load(SeqCst) {
        NO_TIMER => Err(rustix::io::Errno::NOSYS),
        timer => set_timer(timer, value, interval),
    }
}

/// Whether this process handles signals for a guest.
pub(crate) fn is_prepared() -> bool {
    KICK_TIMER.load(SeqCst) != NO_TIMER
}

/// A guest that handles SIGUSR1, for tests: its words, and the handler of this process.
#[cfg(test)]
pub(crate) mod testing {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::*;

    /// A process has the words of one guest.
    static ONE: Mutex<()> = Mutex::new(());

    #[repr(align(8))]
    struct Words([u8; 8]);

    pub(crate) struct HandlingGuest {
        // Dropped after `forget`, and the last: until then the words are this guest's alone.
        words: Box<Words>,
        _alone: MutexGuard<'static, ()>,
    }

    impl HandlingGuest {
        /// One that has masked the signals of a set.
        pub(crate) fn that_masks(set: SignalSet) -> Self {
            let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
            let mut guest = Self {
                words: Box::new(Words([0; 8])),
                _alone: alone,
            };
            register(&mut guest.words.0, 0, 4).expect("aligned");
            let (_, mask) = words().expect("words");
            mask.store(set, SeqCst);
            set_action(libc::SIGUSR1, SignalDisposition::Catch);
            // SAFETY: zeroed is a valid sigaction, with an empty mask; the handler takes a signal's number and is
            // async-signal-safe.
            let set = unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = handle as extern "C" fn(libc::c_int) as usize;
                libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut())
            };
            assert_eq!(set, 0);
            guest
        }
    }

    impl Drop for HandlingGuest {
        fn drop(&mut self) {
            forget();
            // What still comes is nothing to the tests' process.
            set_action(libc::SIGUSR1, SignalDisposition::Ignore);
        }
    }

    pub(crate) const USR1: SignalSet = 1 << (libc::SIGUSR1 - 1);

    /// The number of this thread.
    pub(crate) fn this_thread() -> i32 {
        rustix::thread::gettid().as_raw_nonzero().get()
    }

    /// Sends SIGUSR1 to a thread that lives.
    pub(crate) fn interrupt(thread: i32) {
        let process = rustix::process::getpid().as_raw_nonzero().get();
        // SAFETY: the call takes numbers alone.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
        assert_eq!(sent, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::HandlingGuest, *};

    /// It may come between the look for it and the look for others, which then must not end the wait.
    #[test]
    fn signal_that_is_waited_for_is_none_of_the_others() {
        let _guest = HandlingGuest::that_masks(bit(libc::SIGUSR1));
        let (pending, _) = words().expect("words");
        {
            let _awaiting = Awaiting::set(bit(libc::SIGUSR1) | bit(libc::SIGUSR2));
            for signal in [libc::SIGUSR1, libc::SIGUSR2] {
                pending.store(bit(signal), SeqCst);
                assert!(super::pending(), "it ends a call that blocks");
                assert!(!pending_besides(AWAITED.load(SeqCst)));
            }
            pending.store(bit(libc::SIGTERM), SeqCst);
            assert!(pending_besides(AWAITED.load(SeqCst)));
        }
    }
}
