//! The system interface of a component: WASI 0.2, thin over the kernel as preview 1 is here.
//!
//! The functions are those of the WIT files in `wit/`, from which Wasmtime's macro makes `bindings`: the traits that
//! `functions` implements for [`ComponentGuest`], a file per interface. What a guest's handles stand for is in
//! `handles`, which knows neither guest nor interface. `crate::interfaces` lists the functions for callers that only
//! check a component.
//!
//! There is no event loop and no other thread. What waits is a `handles::Pollable`, and waiting is one ppoll(2) over
//! all of them. A call that must not block asks the kernel whether it would. So a guest that spins on
//! `would-block` sees each change at once: nothing else has to run for it. What a stream has not sent yet is sent by the
//! calls too, whatever they are for: `handles::Unsent` gets on beside each wait, and now and then at each other call.
//!
//! Rights are the kernel's, paths are resolved by [`crate::paths`], sockets are asked of their grants in
//! `crate::sockets`. The rules for host functions in [`crate`] hold here too.

mod bindings;
mod convert;
mod failure;
mod functions;
#[cfg(fuzzing)]
pub mod fuzzing;
mod guest;
mod handles;
mod in_place;
mod link;
#[cfg(test)]
mod tests;

pub use self::{
    bindings::CommandPre,
    guest::{ComponentGuest, HasComponentGuest},
    link::{add_to_linker, bound_calls},
};
