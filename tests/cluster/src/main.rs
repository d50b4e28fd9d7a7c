//! Tests on a real Kubernetes cluster: pods as the API server, the kubelet and containerd run them.
//!
//! `make e2e` runs them. This program starts itself again in namespaces of its own ([`outside`]), brings up
//! a cluster there ([`cluster`], [`node`]), puts this project onto its nodes ([`provision`]), runs every trial
//! of [`trials`], takes everything away again and fails if anything is left. `make cluster` does the same
//! without the trials, for people, and `make bench-cluster` measures there ([`bench`]).
//! `make e2e-apps` runs the trials of real applications ([`board`]).
#![forbid(unsafe_code)]

mod addresses;
mod bench;
mod board;
mod cluster;
mod images;
mod keep;
mod node;
mod outside;
mod pki;
mod provision;
mod registry;
mod settings;
mod trials;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use wasm_interp_test_support::{Outcome, command, expect, guests, image, leftovers, lines, run};

use crate::settings::ClusterChoice;
use crate::trials::Needs;
use crate::world::TestCluster;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list {
        libtest_mimic::run(&arguments, Vec::new()).exit();
    }
    match ClusterChoice::from_env() {
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        Ok(ClusterChoice::None) => {
            println!("skipped: no cluster is named, run make e2e");
            ExitCode::SUCCESS
        }
        // The first process of a namespace is the one that was started for the cluster.
        Ok(ClusterChoice::Own(settings)) if std::process::id() != 1 => outside::run(&settings),
        Ok(ClusterChoice::Own(settings)) => match TestCluster::own(&settings) {
            Ok(world) if settings.keep => keep::until_the_end(&settings, &world),
            world => run(&arguments, world),
        },
        Ok(ClusterChoice::Given {
            kubeconfig,
            context,
            programs,
        }) => run(
            &arguments,
            TestCluster::given(&kubeconfig, &context, programs.as_deref()),
        ),
    }
}

fn run(arguments: &Arguments, world: Outcome<TestCluster>) -> ExitCode {
    let world = match world {
        Ok(world) => Arc::new(world),
        Err(error) => {
            eprintln!("cannot start: {}", error.message().unwrap_or("unknown"));
            return ExitCode::FAILURE;
        }
    };
    let all = if world.measures() {
        bench::ALL
    } else if world.tests_apps() {
        trials::APPS
    } else {
        trials::ALL
    };
    let trials = all.iter().map(|trial| {
        let beyond_reach = trial.needs == Needs::Nodes && !world.has_nodes();
        if beyond_reach {
            println!("{}: skipped, it needs access to the nodes", trial.name);
        }
        let world = Arc::clone(&world);
        let run = move || {
            println!("{}: {}", trial.name, trial.about);
            world.run_trial(trial.name, trial.kind, trial.run)
        };
        Trial::test(trial.name, run).with_ignored_flag(beyond_reach)
    });
    libtest_mimic::run(arguments, trials.collect()).exit_code()
}
