//! Gives a component's imports the host functions.
#![forbid(unsafe_code)]

use std::sync::Arc;

use wasmtime::{
    Store, StoreContextMut,
    component::{HasSelf, Linker, Resource},
};

use super::{
    bindings::{
        Command, LinkOptions,
        wasi::{filesystem::types::Host, io::streams},
    },
    functions::write_file,
    guest::{ComponentGuest, HasComponentGuest},
    handles::{FileHandle, OutputHandle, Pollable},
    in_place::GuestBytes,
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
    linker.allow_shadowing(true);
    write_file_in_place(linker)?;
    write_stream_in_place(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// At the beginning of each call.
fn called<T: HasComponentGuest>(data: &mut T) -> &mut ComponentGuest {
    data.component_guest().called()
}

/// Replaces the function by one that writes out of the guest's memory, without a copy of it.
fn write_file_in_place<T: HasComponentGuest>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    type Parameters = (Resource<FileHandle>, GuestBytes, u64);
    let write = |mut store: StoreContextMut<'_, T>, (file, bytes, offset): Parameters| {
        let guest = called(store.data_mut());
        let others = Arc::clone(&guest.unsent);
        let file = guest.table.get(&file)?.clone();
        let written = write_file(&file, bytes.of(&store), offset, &*others);
        let written = match written {
            Ok(count) => Ok(count),
            Err(failure) => {
                let guest = store.data_mut().component_guest();
                Err(Host::convert_error_code(guest, failure)?)
            }
        };
        Ok((written,))
    };
    linker
        .instance(&format!("wasi:filesystem/types@{NEWEST}"))?
        .func_wrap("[method]descriptor.write", write)
}

/// The same.
fn write_stream_in_place<T: HasComponentGuest>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    type Parameters = (Resource<OutputHandle>, GuestBytes);
    let write = |mut store: StoreContextMut<'_, T>, (stream, bytes): Parameters| {
        let guest = called(store.data_mut());
        let others = Arc::clone(&guest.unsent);
        let stream = OutputHandle::clone(guest.table.get(&stream)?);
        let written = stream.write(bytes.of(&store), &*others);
        others.note(&stream);
        let written = match written {
            Ok(()) => Ok(()),
            Err(failure) => {
                let guest = store.data_mut().component_guest();
                Err(streams::Host::convert_stream_error(guest, failure)?)
            }
        };
        Ok((written,))
    };
    linker
        .instance(&format!("wasi:io/streams@{NEWEST}"))?
        .func_wrap("[method]output-stream.write", write)
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
