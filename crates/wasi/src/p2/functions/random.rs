//! `wasi:random`: the kernel's random numbers, also where less would do.
#![forbid(unsafe_code)]

use rustix::rand::{GetRandomFlags, getrandom};

use crate::{
    limits,
    p2::{
        bindings::wasi::random::{insecure, insecure_seed, random},
        guest::ComponentGuest,
    },
    wait::uninterrupted,
};

fn fill(bytes: &mut [u8]) -> wasmtime::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        filled += uninterrupted(|| getrandom(&mut *rest, GetRandomFlags::empty()))?;
    }
    Ok(())
}

fn bytes(length: u64) -> wasmtime::Result<Vec<u8>> {
    // No errors are in the interface, so that too much is a trap.
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= limits::LIST)
        .ok_or_else(|| {
            wasmtime::Error::msg(format!(
                "{length} random bytes at once are more than the {} that a call returns",
                limits::LIST
            ))
        })?;
    let mut bytes = vec![0; length];
    fill(&mut bytes)?;
    Ok(bytes)
}

fn number() -> wasmtime::Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

impl random::Host for ComponentGuest {
    fn get_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        bytes(length)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        number()
    }
}

impl insecure::Host for ComponentGuest {
    fn get_insecure_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        bytes(length)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        number()
    }
}

impl insecure_seed::Host for ComponentGuest {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((number()?, number()?))
    }
}
