//! Tests of `wasm-interp node` on a real node: a Debian booted by systemd-nspawn, with systemd as its first process
//! and containerd as its service.
//!
//! `scripts/test-node SERIES` (or `make test-node`) runs them. The trials take turns on one node ([`world`]). Each begins
//! and ends without the runtime on it; after one that failed, a new node is booted.
#![forbid(unsafe_code)]

mod trials;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::Arguments;
use wasm_interp_test_support::leftovers::{self, Leftovers};
use wasm_interp_test_support::signals::clean_up_on_signal;
use wasm_interp_test_support::suite::{self, NamedTrial, expect_nothing_left};

use crate::world::{NodeSettings, SharedNode};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share the node.
    arguments.test_threads = Some(1);
    if arguments.list {
        libtest_mimic::run(&arguments, Vec::new()).exit();
    }
    let Some(settings) = NodeSettings::from_env() else {
        println!("skipped: no distribution is named, run scripts/test-node SERIES");
        return ExitCode::SUCCESS;
    };
    let before = Leftovers::record(settings.run.name());
    if let Err(error) = clean_up_on_signal("cleaning up", {
        let (settings, before) = (settings.clone(), before.clone());
        move || leftovers::sweep(&settings.run, &before)
    }) {
        eprintln!("cannot watch for signals: {error}");
        return ExitCode::FAILURE;
    }
    if let Err(error) = std::fs::create_dir(settings.run.folder()) {
        eprintln!("cannot make {}: {error}", settings.run.folder().display());
        return ExitCode::FAILURE;
    }

    let world = Arc::new(SharedNode::new(settings.clone()));
    let trials = trials::ALL.iter().map(|trial| -> NamedTrial {
        let world = Arc::clone(&world);
        (trial.name, Box::new(move || world.run_trial(trial.run)))
    });
    let trials: Vec<_> = trials.collect();
    suite::run(
        &arguments,
        trials,
        || {},
        move || {
            let ended = world.end();
            leftovers::remove_cgroups(&settings.run);
            let mut left = before.what_is_new();
            // What the node makes has the run's name in its path; the rest is other programs'.
            left.retain(|line| line.contains(settings.run.name()));
            leftovers::sweep(&settings.run, &before);
            ended.and(expect_nothing_left(&left))
        },
    )
}
