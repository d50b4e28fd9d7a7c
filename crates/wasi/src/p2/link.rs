//! Gives a component's imports the host functions.
#![forbid(unsafe_code)]

use wasmtime::{
    Store, StoreContextMut,
    component::{HasSelf, Linker, Resource},
};

use super::{
    bindings::{
        Command, LinkOptions,
        wasi::filesystem::types::{Host, HostDescriptor},
    },
    first_bytes::FirstBytes,
    guest::{ComponentGuest, HasComponentGuest},
    handles::{FileHandle, Pollable},
};
use crate::{interfaces::NEWEST, limits};

/// Adds the functions of [`crate::interfaces::INTERFACES`] to `linker`.
///
/// # Errors
/// If the linker has one of the functions already.
pub fn add_to_linker<T: HasComponentGuest>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let mut options = LinkOptions::default();
    options.network_error_code(true);
    Command::add_to_linker::<T, HasSelf<ComponentGuest>>(linker, &options, called)?;
    write_short(linker)
}

/// At the beginning of each call.
fn called<T: HasComponentGuest>(data: &mut T) -> &mut ComponentGuest {
    data.component_guest().called()
}

/// Replaces the function by one that copies no more of the guest's list than it writes.
fn write_short<T: HasComponentGuest>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    type Parameters = (Resource<FileHandle>, FirstBytes, u64);
    let write = |mut store: StoreContextMut<'_, T>, (file, bytes, offset): Parameters| {
        let guest = called(store.data_mut());
        let written = match HostDescriptor::write(guest, file, bytes.0, offset) {
            Ok(count) => Ok(count),
            Err(failure) => Err(Host::convert_error_code(guest, failure)?),
        };
        Ok((written,))
    };
    linker.allow_shadowing(true);
    linker
        .instance(&format!("wasi:filesystem/types@{NEWEST}"))?
        .func_wrap("[method]descriptor.write", write)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Bounds what a call copies out of the guest's memory: that is no part of the memory that its ceiling counts. A list
/// or string that is longer is a trap.
pub fn bound_calls<T: 'static>(store: &mut Store<T>) {
    store.set_hostcall_fuel(limits::CALL);
}

// The longest lists that are of use fit.
const _: () = {
    let pollables = limits::SUBSCRIPTIONS as usize * size_of::<Resource<Pollable>>();
    assert!(pollables <= limits::CALL && limits::TRANSFER <= limits::CALL);
};
