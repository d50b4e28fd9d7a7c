//! Tests against a real containerd: the shim as `ctr` and containerd see it.
//!
//! `scripts/test-containerd SERIES` (or `make test-containerd`) runs them; this program starts one
//! containerd of its own, imports its images once, runs every trial, takes everything away again and
//! fails if a process, mount, cgroup, socket or file is left. Each trial is a function in
//! [`trials`]; [`world`] is what a trial has to work with.
#![forbid(unsafe_code)]

mod daemon;
mod settings;
mod trials;
mod world;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Trial};
use wasm_interp_test_support::signals::clean_up_on_signal;
use wasm_interp_test_support::{
    Outcome, command, expect, expect_equal, guests, hostile, image, leftovers, lines, random, run,
};

use crate::leftovers::Leftovers;
use crate::settings::{Settings, Suite};
use crate::world::World;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list {
        libtest_mimic::run(&arguments, Vec::new()).exit();
    }
    let settings = match Settings::from_env() {
        Ok(Some(settings)) => settings,
        Ok(None) => {
            println!("skipped: no containerd is named, run scripts/test-containerd SERIES");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let before = Leftovers::record(settings.run().name());
    if let Err(error) = clean_up_on_signal("cleaning up", {
        let (settings, before) = (settings.clone(), before.clone());
        move || leftovers::sweep(settings.run(), &before)
    }) {
        eprintln!("cannot watch for signals: {error}");
        return ExitCode::FAILURE;
    }

    let world = match World::start(settings.clone()) {
        Ok(world) => Arc::new(world),
        Err(error) => {
            eprintln!("cannot start: {}", error.message().unwrap_or("unknown"));
            leftovers::sweep(settings.run(), &before);
            return ExitCode::FAILURE;
        }
    };
    let all = match settings.suite {
        Suite::Runtime => trials::ALL,
        Suite::Languages => trials::LANGUAGES,
        Suite::Robustness => trials::ROBUSTNESS,
    };
    let failures = Arc::new(Mutex::new(Vec::new()));
    let trials = all.iter().map(|trial| {
        let (world, failures) = (Arc::clone(&world), Arc::clone(&failures));
        Trial::test(trial.name, move || {
            world.run_trial(trial.kind, trial.run).inspect_err(|error| {
                let reason = error.message().unwrap_or("unknown");
                let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                failures.push(format!("{}: {reason}", trial.name));
            })
        })
    });
    let mut failed = libtest_mimic::run(&arguments, trials.collect()).has_failed();
    if failed {
        world.print_log();
    }

    // A trial of its own, so that what is left behind is reported as any other failure.
    let ending = Trial::test("nothing_is_left_behind", move || {
        let tasks = world.stop();
        let left = before.what_is_new();
        leftovers::sweep(settings.run(), &before);
        tasks?;
        if left.is_empty() {
            return Ok(());
        }
        Err(format!("left behind:\n  {}", left.join("\n  ")).into())
    });
    let all = Arguments::default();
    failed |= libtest_mimic::run(&all, vec![ending]).has_failed();
    // Last, where a reader of a long log looks first.
    for failure in &*failures.lock().unwrap_or_else(PoisonError::into_inner) {
        eprintln!("failed: {failure}");
    }
    ExitCode::from(u8::from(failed))
}
