//! Tests under a real Docker: `docker run --runtime io.containerd.wasm-interp.v1`, beside Docker's own runc.
//!
//! `scripts/test-docker` (or `make test-docker`) runs them; this program starts one containerd and one dockerd of its
//! own, loads its images, runs every trial, takes everything away again and fails if something is left. Containers have
//! no network: a bridge would change this machine's. [`engine`] is what a trial has to work with.
#![forbid(unsafe_code)]

mod engine;
mod trials;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::Arguments;
use wasm_interp_test_support::leftovers::{self, Leftovers};
use wasm_interp_test_support::signals::clean_up_on_signal;
use wasm_interp_test_support::suite::{self, NamedTrial, expect_nothing_left};

use crate::engine::{DockerSettings, Engine};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list {
        libtest_mimic::run(&arguments, Vec::new()).exit();
    }
    let Some(settings) = DockerSettings::from_env() else {
        println!("skipped: no Docker is named, run scripts/test-docker");
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
    let engine = match Engine::start(settings.clone()) {
        Ok(engine) => Arc::new(engine),
        Err(error) => {
            eprintln!("cannot start: {}", error.message().unwrap_or("unknown"));
            leftovers::sweep(&settings.run, &before);
            return ExitCode::FAILURE;
        }
    };
    let trials = trials::ALL.iter().map(|&(name, trial)| -> NamedTrial {
        let engine = Arc::clone(&engine);
        (name, Box::new(move || trial(&engine)))
    });
    let trials: Vec<_> = trials.collect();
    let explain = || engine.print_logs();
    let ending = Arc::clone(&engine);
    suite::run(&arguments, trials, explain, move || {
        let stopped = ending.stop();
        let left = before.what_is_new();
        leftovers::sweep(&settings.run, &before);
        stopped.and(expect_nothing_left(&left))
    })
}
