//! Runs the trials of one program, looks as a trial of its own at what they left, and says last what failed.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Trial};

use crate::Outcome;

/// A trial and its name.
pub type NamedTrial = (&'static str, Box<dyn FnOnce() -> Outcome + Send>);

/// Runs `trials`, and then `look_at_leftovers`. `explain` prints more if a trial has failed.
pub fn run(
    arguments: &Arguments,
    trials: impl IntoIterator<Item = NamedTrial>,
    explain: impl FnOnce(),
    look_at_leftovers: impl FnOnce() -> Outcome + Send + 'static,
) -> ExitCode {
    let failures: Arc<Mutex<Vec<String>>> = Arc::default();
    let trials = trials.into_iter().map(|(name, trial)| {
        let failures = Arc::clone(&failures);
        Trial::test(name, move || {
            trial().inspect_err(|error| {
                let reason = error.message().unwrap_or("unknown");
                let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                failures.push(format!("{name}: {reason}"));
            })
        })
    });
    let mut failed = libtest_mimic::run(arguments, trials.collect()).has_failed();
    if failed {
        explain();
    }
    // So that what is left behind is reported as any other failure.
    let ending = Trial::test("nothing_is_left_behind", look_at_leftovers);
    failed |= libtest_mimic::run(&Arguments::default(), vec![ending]).has_failed();
    // Last, where a reader of a long log looks first.
    for failure in &*failures.lock().unwrap_or_else(PoisonError::into_inner) {
        eprintln!("failed: {failure}");
    }
    ExitCode::from(u8::from(failed))
}

/// Fails if anything is `left`.
pub fn expect_nothing_left(left: &[String]) -> Outcome {
    if left.is_empty() {
        return Ok(());
    }
    Err(format!("left behind:\n  {}", left.join("\n  ")).into())
}
