//! Turns [`crate::recipe::SETTINGS`] into Wasmtime's configuration; the compiler and the loader
//! both start here, so that what one makes the other takes.
#![forbid(unsafe_code)]

use wasmtime::Config;

use crate::recipe::{Collector, SETTINGS};

/// Everything that native code depends on.
pub(crate) fn config() -> Config {
    let mut config = Config::new();
    match SETTINGS.collector {
        Collector::DeferredReferenceCounting => {
            config.collector(wasmtime::Collector::DeferredReferenceCounting);
        }
    }
    config
        .wasm_exceptions(SETTINGS.exceptions.is_on())
        .wasm_tail_call(SETTINGS.tail_calls.is_on())
        .wasm_simd(SETTINGS.simd.is_on())
        .wasm_relaxed_simd(SETTINGS.relaxed_simd.is_on())
        .epoch_interruption(SETTINGS.epoch_interruption.is_on())
        .consume_fuel(SETTINGS.fuel.is_on())
        .concurrency_support(SETTINGS.concurrency.is_on())
        .memory_init_cow(SETTINGS.memory_init_cow.is_on())
        .memory_guaranteed_dense_image_size(SETTINGS.dense_image_bytes)
        .memory_reservation(SETTINGS.memory_reservation)
        .memory_guard_size(SETTINGS.memory_guard);
    // `threads` has no switch here: it is off because the cargo feature is (a test holds it).
    config
}
