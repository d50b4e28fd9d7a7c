//! Gives a component's imports the host functions.
#![forbid(unsafe_code)]

use wasmtime::component::{HasSelf, Linker};

use super::{
    bindings::{Command, LinkOptions},
    guest::ComponentGuest,
};

/// Adds the functions of [`crate::interfaces::INTERFACES`] to `linker`. `guest` finds the context in the store's
/// data.
///
/// # Errors
/// If the linker has one of the functions already.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    guest: fn(&mut T) -> &mut ComponentGuest,
) -> wasmtime::Result<()> {
    let mut options = LinkOptions::default();
    options.network_error_code(true);
    Command::add_to_linker::<T, HasSelf<ComponentGuest>>(linker, &options, guest)
}
