//! Arguments, environment, random data, and how a guest ends itself.
#![forbid(unsafe_code)]

use std::ffi::CString;

use rustix::rand::{GetRandomFlags, getrandom};
use wiggle::{GuestMemory, GuestPtr};

use crate::{
    abi::types,
    errno::{Errno, Result},
    limits, memory, sys,
    wait::uninterrupted,
};

/// Writes strings one after the other to `buffer`, and their addresses to `list`.
pub(crate) fn write_strings(
    memory: &mut GuestMemory<'_>,
    strings: &[CString],
    list: GuestPtr<GuestPtr<u8>>,
    buffer: GuestPtr<u8>,
) -> Result<()> {
    let (mut entry, mut address) = (list, buffer);
    for text in strings {
        let bytes = text.as_bytes_with_nul();
        let length = u32::try_from(bytes.len()).map_err(|_| Errno::Overflow)?;
        memory.copy_from_slice(bytes, address.as_array(length))?;
        memory.write(entry, address)?;
        entry = entry.add(1)?;
        address = address.add(length)?;
    }
    Ok(())
}

/// Fills a buffer with random data.
pub(crate) fn random(memory: &mut GuestMemory<'_>, buffer: GuestPtr<[u8]>) -> Result<()> {
    for part in memory::slice_mut(memory, buffer)?.chunks_mut(limits::RANDOM) {
        let mut filled = 0;
        while filled < part.len() {
            let rest = &mut part[filled..];
            filled += uninterrupted(|| getrandom(&mut *rest, GetRandomFlags::empty()))?;
        }
    }
    Ok(())
}

/// Ends the container as its program asks: with the low 8 bits of the code, as exit(3).
///
/// At once. Wasmtime's own way out turns codes from 126 on into traps, and the kernel takes back
/// the guest's memory faster than we could.
pub(crate) fn exit(code: types::Exitcode) -> ! {
    sys::exit_now((code & 0xff).cast_signed())
}

/// What a signal to itself does to a program that handles none.
pub(crate) fn raise(signal: types::Signal) -> Result<()> {
    use types::Signal as S;
    let number = match signal {
        S::None | S::Chld | S::Cont | S::Urg | S::Winch => return Ok(()),
        // A container is stopped by its runtime, not by itself.
        S::Stop | S::Tstp | S::Ttin | S::Ttou => return Err(Errno::Notsup),
        S::Hup => libc::SIGHUP,
        S::Int => libc::SIGINT,
        S::Quit => libc::SIGQUIT,
        S::Ill => libc::SIGILL,
        S::Trap => libc::SIGTRAP,
        S::Abrt => libc::SIGABRT,
        S::Bus => libc::SIGBUS,
        S::Fpe => libc::SIGFPE,
        S::Kill => libc::SIGKILL,
        S::Usr1 => libc::SIGUSR1,
        S::Segv => libc::SIGSEGV,
        S::Usr2 => libc::SIGUSR2,
        S::Pipe => libc::SIGPIPE,
        S::Alrm => libc::SIGALRM,
        S::Term => libc::SIGTERM,
        S::Xcpu => libc::SIGXCPU,
        S::Xfsz => libc::SIGXFSZ,
        S::Vtalrm => libc::SIGVTALRM,
        S::Prof => libc::SIGPROF,
        S::Poll => libc::SIGPOLL,
        S::Pwr => libc::SIGPWR,
        S::Sys => libc::SIGSYS,
    };
    // The exit code of a program that a signal has ended.
    sys::exit_now(128 + number)
}
