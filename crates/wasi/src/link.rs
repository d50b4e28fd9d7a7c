//! Gives a module's imports the host functions.
#![forbid(unsafe_code)]

use wasmtime::{Caller, Linker};
use wiggle::GuestMemory;

use crate::{
    abi,
    errno::Errno,
    guest::Guest,
    imports::{POSIX, PREVIEW1, posix, preview1},
};

/// Adds each function of a namespace, by the lowered function of the same name in `abi::$module`.
macro_rules! link {
    ([$linker:ident $guest:ident $namespace:ident $module:ident]
     $($name:ident($($parameter:ident: $type:ident),*) $(-> $result:ident)?,)*) => {
        $($linker.func_wrap(
            $namespace.module,
            stringify!($name),
            move |mut caller: Caller<'_, T> $(, $parameter: $type)*| {
                let (guest, mut memory) = enter(&mut caller, $guest);
                let answer = abi::$module::$name(guest, &mut memory $(, $parameter)*);
                answered!(answer $(, $result)?)
            },
        )?;)*
    };
}

macro_rules! answered {
    // Ends the guest: whatever it says is no answer.
    ($answer:expr) => {
        $answer
    };
    ($answer:expr, i32) => {
        answer($answer)
    };
}

/// Adds the functions of [`crate::imports::NAMESPACES`] to `linker`. `guest` finds the context in the
/// store's data.
///
/// # Errors
/// If the linker has one of the functions already.
pub fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    guest: fn(&mut T) -> &mut Guest,
) -> wasmtime::Result<()> {
    preview1!(link linker guest PREVIEW1 wasi_snapshot_preview1);
    posix!(link linker guest POSIX wasm_interp_posix_v1);
    Ok(())
}

/// The context and memory of the guest that calls.
fn enter<'a, T: 'static>(
    caller: &'a mut Caller<'_, T>,
    guest: fn(&mut T) -> &mut Guest,
) -> (&'a mut Guest, GuestMemory<'a>) {
    let memory = match guest(caller.data_mut()).memory {
        Some(memory) => Some(memory),
        None => {
            let memory = caller
                .get_export("memory")
                .and_then(wasmtime::Extern::into_memory);
            // One of 32-bit addresses never moves: all of them are reserved (a test of the recipe).
            let stays = memory.is_some_and(|memory| !memory.ty(&*caller).is_64());
            let guest = guest(caller.data_mut());
            guest.memory = memory;
            guest.memory_stays = stays;
            memory
        }
    };
    match memory {
        Some(memory) => {
            let (bytes, data) = memory.data_and_store_mut(caller);
            (guest(data), GuestMemory::Unshared(bytes))
        }
        // Each address is out of bounds then.
        None => (guest(caller.data_mut()), GuestMemory::Unshared(&mut [])),
    }
}

/// What the guest gets: an argument that the interface does not allow is an errno too, not a trap.
fn answer(result: wasmtime::Result<i32>) -> wasmtime::Result<i32> {
    result.or_else(|error| {
        error
            .downcast::<wiggle::GuestError>()
            .map(|invalid| i32::from(u16::from(Errno::from(invalid))))
    })
}
