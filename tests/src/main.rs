//! Tests against a real containerd: the shim as `ctr` and containerd see it.
//!
//! `scripts/test-containerd SERIES` (or `make test-containerd`) runs them; this program starts one
//! containerd of its own, imports its images once, runs every trial, takes everything away again and
//! fails if a process, mount, cgroup, socket or file is left. Each trial is a function in
//! [`trials`]; [`world`] is what a trial has to work with.
#![forbid(unsafe_code)]

mod command;
mod daemon;
mod guests;
#[allow(
    dead_code,
    reason = "tests/e2e shares it, and makes images of other kinds too"
)]
mod image;
mod leftovers;
mod run;
mod trials;
mod world;

use std::env;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use libtest_mimic::{Arguments, Trial};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::leftovers::Leftovers;
use crate::world::{Settings, World};

/// What a trial, or a part of one, comes to.
type Outcome<T = ()> = Result<T, libtest_mimic::Failed>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list {
        libtest_mimic::run(&arguments, Vec::new()).exit();
    }
    let Some(settings) = Settings::from_env() else {
        println!("skipped: no containerd is named, run scripts/test-containerd SERIES");
        return ExitCode::SUCCESS;
    };
    let before = Leftovers::record(settings.run().name());
    if let Err(error) = end_on_signal(settings.clone(), before.clone()) {
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
    let trials = trials::ALL.iter().map(|trial| {
        let world = Arc::clone(&world);
        Trial::test(trial.name, move || world.run_trial(trial))
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
    ExitCode::from(u8::from(failed))
}

/// Leaves nothing behind on Ctrl-C either.
fn end_on_signal(settings: Settings, before: Leftovers) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // Not eprintln, which panics where the terminal is gone: that is one of the reasons to be here.
            let _ = writeln!(std::io::stderr(), "signal {signal}: cleaning up");
            leftovers::sweep(settings.run(), &before);
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Path of the repository, whichever folder Cargo runs this from.
fn repository() -> std::path::PathBuf {
    let tests = env!("CARGO_MANIFEST_DIR");
    std::path::Path::new(tests)
        .parent()
        .unwrap_or_else(|| tests.as_ref())
        .to_owned()
}
