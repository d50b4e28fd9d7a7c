//! `wasm-interp policy`: checks a node's policy, and says what it means.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use oci_spec::runtime::Spec;
use thiserror::Error;
use wasm_interp_workload::{
    HostNetwork, NativePolicy, PlanError, Policy, PolicyError, explain_network,
    explain_network_rules, network_of,
};

use crate::container::NetworkArgs;
use crate::places;

/// Check a node's policy, and say what it means.
#[derive(clap::Args)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Subcommand)]
enum PolicyCommand {
    Check(CheckArgs),
}

/// Check a policy, and say what it grants.
///
/// Says what containers get of the network without annotations, and the most that annotations grant. With --listen,
/// --connect or --network it says what a container with these annotations gets, or why it is refused.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
struct CheckArgs {
    /// The policy [default: this node's].
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Ask for a container that shares the node's network, as a pod with hostNetwork does.
    #[arg(long)]
    host_network: bool,

    #[command(flatten)]
    network: NetworkArgs,
}

const EXAMPLES: &str = "\
Exits with 1 if the policy cannot be used, or refuses what was asked for; the text says why.

Examples:
  Before a policy is put onto a node:
    wasm-interp policy check ./policy.json

  Whether this node would grant a pod's annotations:
    wasm-interp policy check --listen tcp:8080 --connect tcp:db.prod:5432,dns";

impl PolicyArgs {
    /// What is wrong with the options together.
    pub(crate) fn contradiction(&self) -> Option<String> {
        let PolicyCommand::Check(args) = &self.command;
        args.network.contradiction()
    }
}

/// Why a policy cannot be used, or refuses something.
#[derive(Debug, Error)]
pub(crate) enum PolicyCheckError {
    #[error("cannot find policy {path:?}; name the file, or leave it out for this node's policy")]
    Missing { path: PathBuf },
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Refused(#[from] PlanError),
    #[error("cannot print the result: {0}; check where standard output leads")]
    Print(#[from] io::Error),
}

/// Runs a command on a policy.
pub(crate) fn policy(args: &PolicyArgs) -> Result<ExitCode, PolicyCheckError> {
    let PolicyCommand::Check(args) = &args.command;
    let path = match &args.file {
        Some(file) if !file.exists() => {
            return Err(PolicyCheckError::Missing { path: file.clone() });
        }
        Some(file) => file.clone(),
        None => places::policy_file(),
    };
    let policy = Policy::load(&path)?;
    let mut text = match path.exists() {
        true => format!("policy {}\n", path.display()),
        false => format!("policy {} does not exist: defaults\n", path.display()),
    };
    if args.network.is_empty() {
        whole(&mut text, &policy);
    } else {
        let mut spec = Spec::default();
        args.network.annotate(&mut spec);
        let host = match args.host_network {
            true => HostNetwork::Shared,
            false => HostNetwork::Separate,
        };
        let (network, withheld) = network_of(&spec, &policy, host)?;
        text.push_str(&explain_network(&network));
        for item in &withheld {
            let _ = writeln!(text, "without {}: {}", item.path, item.reason);
        }
    }
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn whole(text: &mut String, policy: &Policy) {
    let native = match policy.native {
        NativePolicy::Allow => "run as under any other runtime",
        NativePolicy::Deny => "are refused",
    };
    let _ = writeln!(text, "native programs {native}");
    for (name, rules) in [
        ("network without annotations", &policy.network.default),
        ("network by annotations, at most", &policy.network.ceiling),
        (
            "network with hostNetwork, at most",
            &policy.network.host_network_ceiling,
        ),
    ] {
        let _ = writeln!(text, "{name}");
        text.push_str(&explain_network_rules(rules));
    }
}
