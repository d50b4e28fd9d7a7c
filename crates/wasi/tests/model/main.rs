//! The model test: random operations on two equal trees, one by a guest through preview 1 and the
//! namespace of our own, one by the kernel's own calls. Results, errors and data are compared step by step, and the trees at
//! the end of each sequence.
//!
//! `operation` is the language of both sides, `generate` makes sentences of it, `kernel` and
//! `guest` understand it, `outcome` compares what they answer, and `run` does it all. What
//! preview 1 cannot say as Linux does is listed in `exemptions`. Needs root, for mounts.
//!
//! `WASM_INTERP_MODEL_STEPS` and `WASM_INTERP_MODEL_SEED` set how many steps are taken, and from
//! which seed; `make test-model` takes a million.
#![forbid(unsafe_code)]

mod exemptions;
mod generate;
mod guest;
mod kernel;
mod operation;
mod outcome;
mod questions;
mod run;
mod trampoline;
mod tree;

use std::env;

use libtest_mimic::{Arguments, Failed, Trial};
use wasm_interp_test_support::random::Random;
use wasm_interp_wasi::LateMounts;

use self::exemptions::Exemption;
use self::guest::{Fault, GuestSide};
use self::run::{Process, Source, prepare_thread, sequence, shrink};

/// Operations between two pictures of the trees.
const SEQUENCE: usize = 250;
/// Differences that are reported before the test ends.
const REPORTS: usize = 10;
const STEPS: u64 = 50_000;
const SEED: u64 = 1;

/// A file system of the host's that no tree has, so that every path is checked and none refused.
const CHECKED: LateMounts = LateMounts::Checked(|_| false);

/// As which users, with which umask, and with which way of the host functions to resolve paths.
/// `cargo test` takes a part of the steps as each.
const PROCESSES: [(&str, Process); 4] = [
    (
        "guest_and_kernel_agree_as_root",
        Process {
            root: true,
            umask: 0o022,
            late_mounts: LateMounts::Impossible,
        },
    ),
    (
        "guest_and_kernel_agree_as_another_user",
        Process {
            root: false,
            umask: 0o022,
            late_mounts: LateMounts::Impossible,
        },
    ),
    (
        "guest_and_kernel_agree_as_root_where_mounts_may_appear",
        Process {
            root: true,
            umask: 0,
            late_mounts: CHECKED,
        },
    ),
    (
        "guest_and_kernel_agree_as_another_user_where_mounts_may_appear",
        Process {
            root: false,
            umask: 0,
            late_mounts: CHECKED,
        },
    ),
];

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|error| panic!("{variable}={text} is no number: {error}"))
    })
}

fn agree(process: Process, steps: u64, seed: u64) -> Result<(), Failed> {
    prepare_thread();
    let folder = tempfile::tempdir()?;
    let mut random = Random::new(seed);
    let mut left = usize::try_from(steps)?;
    let mut reports = Vec::new();
    while left > 0 && reports.len() < REPORTS {
        let steps = left.min(SEQUENCE);
        let seed = random.next();
        let source = Source::Generated { seed, steps };
        if let Err(found) = sequence(folder.path(), process, source, None) {
            let short = shrink(folder.path(), process, found, None);
            let report = short.report();
            reports.push(format!("sequence {seed} as {process:?} differs:\n{report}"));
        }
        left -= steps;
    }
    if reports.is_empty() {
        return Ok(());
    }
    Err(reports.join("\n").into())
}

/// Guards against a test that finds nothing: each planted fault has to be found and shrunk.
fn planted(fault: Fault) -> Result<(), Failed> {
    prepare_thread();
    let folder = tempfile::tempdir()?;
    let process = PROCESSES[0].1;
    for seed in 0..200 {
        let steps = SEQUENCE;
        let source = Source::Generated { seed, steps };
        if let Err(found) = sequence(folder.path(), process, source, Some(fault)) {
            let short = shrink(folder.path(), process, found, Some(fault));
            if short.steps.len() <= 8 {
                return Ok(());
            }
            return Err(format!("{fault:?} is not shrunk:\n{}", short.report()).into());
        }
    }
    Err(format!("{fault:?} is not found in 200 sequences").into())
}

fn ask(question: fn(&mut GuestSide)) -> Result<(), Failed> {
    prepare_thread();
    let folder = tempfile::tempdir()?;
    for (_, process) in &PROCESSES[..] {
        if process.root {
            run::ask(folder.path(), *process, question);
        }
    }
    Ok(())
}

fn main() {
    let arguments = Arguments::from_args();
    let steps = number("WASM_INTERP_MODEL_STEPS", STEPS) / PROCESSES.len() as u64;
    let seed = number("WASM_INTERP_MODEL_SEED", SEED);
    eprintln!(
        "model: {steps} steps as each of {} processes, seed {seed}",
        PROCESSES.len()
    );
    let agreeing = PROCESSES
        .iter()
        .map(|&(name, process)| Trial::test(name, move || agree(process, steps, seed)));
    let planted = Fault::ALL.iter().map(|&fault| {
        let name = format!("planted_fault_is_found_and_shrunk::{fault:?}");
        Trial::test(name, move || planted(fault))
    });
    let suite = questions::ALL
        .iter()
        .map(|question| ("as_the_suite_asks", question));
    let linux = questions::CONFINEMENT
        .iter()
        .map(|question| ("as_linux", question));
    let questions = suite.chain(linux).map(|(how, &(name, question))| {
        Trial::test(format!("answered_{how}::{name}"), move || ask(question))
    });
    let documented = Trial::test("exemptions_are_those_of_the_documentation", || {
        exemptions::are_those_of_the_documentation()
    });
    let all = questions
        .chain(agreeing)
        .chain(planted)
        .chain([documented])
        .collect();
    let conclusion = libtest_mimic::run(&arguments, all);
    let is_whole = arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.list;
    if is_whole && !conclusion.has_failed() {
        let unneeded = Exemption::unneeded();
        for exemption in &unneeded {
            eprintln!(
                "no operation needs the exemption {exemption:?}: {}",
                exemption.reason()
            );
        }
        assert!(
            unneeded.is_empty(),
            "remove what is not needed from the list of exemptions"
        );
    }
    conclusion.exit();
}
