//! `wasi:clocks`.
#![forbid(unsafe_code)]

use wasmtime::component::Resource;

use crate::{
    abi::types::Clockid,
    clocks,
    p2::{
        bindings::wasi::clocks::{
            monotonic_clock,
            wall_clock::{self, Datetime},
        },
        guest::ComponentGuest,
        handles::{Pollable, known, monotonic},
    },
};

const SECOND: u64 = 1_000_000_000;

fn datetime(nanoseconds: u64) -> Datetime {
    Datetime {
        seconds: nanoseconds / SECOND,
        // Less than a second.
        nanoseconds: (nanoseconds % SECOND) as u32,
    }
}

impl wall_clock::Host for ComponentGuest {
    fn now(&mut self) -> wasmtime::Result<Datetime> {
        known(clocks::now(Clockid::Realtime)).map(datetime)
    }

    fn resolution(&mut self) -> wasmtime::Result<Datetime> {
        known(self.resolutions.get(Clockid::Realtime)).map(datetime)
    }
}

impl monotonic_clock::Host for ComponentGuest {
    fn now(&mut self) -> wasmtime::Result<u64> {
        monotonic()
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        known(self.resolutions.get(Clockid::Monotonic))
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<Pollable>> {
        self.push(Pollable::Deadline(when))
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<Pollable>> {
        let when = monotonic()?.saturating_add(duration);
        self.push(Pollable::Deadline(when))
    }
}
