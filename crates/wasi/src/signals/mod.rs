//! Signals for guests, as far as a C library asks for them: `signal_register` and what comes after it. The
//! functions are in `posix`.
//!
//! The library registers two words of the guest's memory. The handler of the process sets the bit of
//! a signal in the first; the guest says in the second what it has masked. A call that blocks ends with
//! EINTR ([`crate::wait`]), and the library runs the guest's handlers.
//!
//! The runner calls [`prepare`] for a guest that [imports](crate::imports::handles_signals) these
//! functions, before its filter. Without that nothing here has an effect: signals end the process by
//! the runner's own handler. See decision 0035.
#![deny(unsafe_code)]

mod default_action;
pub(crate) mod handler;
mod registration;

pub use self::handler::prepare;
pub(crate) use self::{
    default_action::DefaultAction,
    handler::{Interruptible, interruptions, pending},
    registration::{Alarm, Registration},
};
