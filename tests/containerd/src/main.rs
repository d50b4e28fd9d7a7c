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
use std::sync::Arc;

use libtest_mimic::Arguments;
use wasm_interp_test_support::signals::clean_up_on_signal;
use wasm_interp_test_support::suite::{self, NamedTrial, expect_nothing_left};
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
    let trials = all.iter().map(|trial| -> NamedTrial {
        let world = Arc::clone(&world);
        let run = move || world.run_trial(trial.kind, trial.run);
        (trial.name, Box::new(run))
    });
    let trials: Vec<_> = trials.collect();
    let explain = || world.print_log();
    let ending = Arc::clone(&world);
    suite::run(&arguments, trials, explain, move || {
        let tasks = ending.stop();
        let left = before.what_is_new();
        leftovers::sweep(settings.run(), &before);
        tasks.and(expect_nothing_left(&left))
    })
}
