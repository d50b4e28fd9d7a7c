//! The containers that trials compare.

use wasm_interp_test_support::Outcome;
use wasm_interp_test_support::guests::{NATIVE, PYTHON};

use crate::engine::{DockerContainer, Engine, OURS, RUNC};

pub(super) fn shell<'engine>(
    engine: &'engine Engine,
    runtime: &'static str,
    script: &str,
) -> DockerContainer<'engine> {
    engine
        .container(runtime, NATIVE)
        .arguments(&["sh", "-c", script])
}

pub(super) fn python<'engine>(engine: &'engine Engine, script: &str) -> DockerContainer<'engine> {
    engine
        .container(OURS, PYTHON)
        .arguments(&["python", "-u", "-c", script])
}

/// Fails unless both runtimes give the same.
pub(super) fn same(
    what: &str,
    mut under: impl FnMut(&'static str) -> Outcome<Vec<String>>,
) -> Outcome {
    let (runc, ours) = (under(RUNC)?, under(OURS)?);
    if runc == ours {
        return Ok(());
    }
    let at = runc
        .iter()
        .zip(&ours)
        .take_while(|(one, other)| one == other);
    let at = at.count();
    Err(format!(
        "{what}, answer {at}: under runc\n{:?}\nunder ours\n{:?}",
        runc.get(at),
        ours.get(at)
    )
    .into())
}
