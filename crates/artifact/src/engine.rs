//! Turns [`crate::recipe::SETTINGS`] into Wasmtime's configuration. The compiler and the loader both
//! start from it, so that the loader accepts what the compiler makes.
#![forbid(unsafe_code)]

use wasmtime::Config;

use crate::recipe::{GarbageCollector, SETTINGS};

/// The configuration with all settings that native code depends on.
#[must_use]
pub fn config() -> Config {
    let mut config = Config::new();
    match SETTINGS.collector {
        GarbageCollector::DeferredReferenceCounting => {
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
        .wasm_component_model(SETTINGS.component_model.is_on())
        .concurrency_support(SETTINGS.concurrency.is_on())
        .table_lazy_init(SETTINGS.table_lazy_init.is_on())
        .memory_init_cow(SETTINGS.memory_init_cow.is_on())
        .memory_guaranteed_dense_image_size(SETTINGS.dense_image_bytes)
        .memory_reservation(SETTINGS.memory_reservation)
        .memory_guard_size(SETTINGS.memory_guard);
    // `threads` has no switch here: it is off because the cargo feature is (a test holds it).
    config
}
