//! What the fuzz targets share: generated containers, what holds for every plan, and planted faults.

pub mod component;
pub mod contained;
pub mod container;
pub mod host;
pub mod hosts;
pub mod plans;
pub mod scratch;
mod stack;

use std::sync::LazyLock;

/// Fails if the environment asks for planted faults and `found` holds. Each target calls it with a
/// condition that takes more than a seed to reach; `scripts/fuzz --planted` demands that it is reached.
pub fn planted(found: bool) {
    static PLANTED: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("WASM_INTERP_FUZZ_PLANTED").is_some());
    assert!(!(found && *PLANTED), "planted fault");
}

/// A result as text, to compare two decisions on equal inputs.
pub fn described<T: std::fmt::Debug, E: std::error::Error>(result: &Result<T, E>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => {
            let mut text = error.to_string();
            assert!(!text.is_empty(), "an error says what is wrong");
            let mut cause = error.source();
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            text
        }
    }
}
