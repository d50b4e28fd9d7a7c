//! `wasm-interp node`: brings this release onto a node, and off it again. The arguments and what is
//! printed; what is done is `wasm_interp_node`'s.

mod print;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use thiserror::Error;
use wasm_interp_node::{
    Action, BASE, Choice, Distribution, Host, Job, JobError, KUBERNETES, Outcome, Placed, Prewarm,
    Release, ReleaseError, Report, Restart, SettleError,
};

/// How long to wait for the job; it has limits of its own.
const WAIT: Duration = Duration::from_secs(1200);

/// Install the container runtime on this node, check it, or take it away.
///
/// Install copies this release into a folder of its own, adds the runtime handler wasm-interp to
/// containerd's configuration, restarts containerd and runs a tiny program through it. Running
/// containers are not touched. If containerd does not come back, the old configuration is put back
/// and containerd restarted with it.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    act: Act,
    #[command(flatten)]
    options: Options,
}

const EXAMPLES: &str = "\
Exits with 0 only if what was asked for holds.

Examples:
  On a node, as root:
    wasm-interp node install
    wasm-interp node status

  Into the file system of a node image, which is started later:
    wasm-interp node install --root /mnt/image --no-restart

  In a script:
    wasm-interp node verify --json | jq -r .message

  Before the first pod of an image:
    wasm-interp node prewarm registry.example.com/team/app:1.0

Files:
  /opt/wasm-interp/VERSION      the three executables; older ones stay while a container uses them
  /var/lib/wasm-interp/node     what was changed, and the bytes from before
  /run/wasm-interp/node         the report of a job on its way
The change itself runs as the unit wasm-interp-node.service: journalctl -u wasm-interp-node.";

#[derive(clap::Args)]
struct Options {
    /// File system of the node.
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// How containerd is set up there.
    #[arg(long, global = true, value_name = "NAME", default_value = "auto")]
    distribution: Named,
    /// Directory of releases: a path on the node.
    #[arg(long, global = true, value_name = "DIR", default_value = BASE, value_parser = base)]
    base: PathBuf,
    /// Print the report as JSON.
    #[arg(long, global = true)]
    json: bool,
}

/// A folder that is for releases alone, by its name.
fn base(folder: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(folder);
    if path.is_absolute() && path.file_name() == Path::new(BASE).file_name() {
        return Ok(path);
    }
    Err(format!(
        "{folder:?} is no absolute path that ends in /wasm-interp, as {BASE} does"
    ))
}

/// Names that people know their nodes by.
#[derive(Clone, Copy, ValueEnum)]
enum Named {
    /// Find out.
    Auto,
    /// A containerd of its own, configured in /etc/containerd.
    #[value(aliases = ["debian", "ubuntu", "kubeadm", "kind", "eks", "aks", "gke"])]
    Containerd,
    K3s,
    Rke2,
    K0s,
    Microk8s,
}

impl From<Named> for Choice {
    fn from(named: Named) -> Self {
        match named {
            Named::Auto => Self::Auto,
            Named::Containerd => Self::Named(Distribution::Containerd),
            Named::K3s => Self::Named(Distribution::K3s),
            Named::Rke2 => Self::Named(Distribution::Rke2),
            Named::K0s => Self::Named(Distribution::K0s),
            Named::Microk8s => Self::Named(Distribution::MicroK8s),
        }
    }
}

#[derive(Subcommand)]
enum Act {
    /// Configure containerd for this release and verify it.
    ///
    /// Again: changes nothing and restarts nothing if all is well. From another release: an upgrade;
    /// running containers keep the release that they were started with.
    Install {
        /// Write the configuration and leave the restart of containerd to you.
        #[arg(long)]
        no_restart: bool,
    },
    /// Check that containerd has the handler, and run a tiny program with it.
    Verify,
    /// Take everything away again.
    ///
    /// The configuration gets its old bytes back, or, if it was changed since, loses our table only.
    /// Refused while containers of this runtime run.
    Uninstall {
        /// Do it from under running containers; they keep their executables until they end.
        #[arg(long)]
        force: bool,
        /// Write the configuration and leave the restart of containerd to you.
        #[arg(long)]
        no_restart: bool,
    },
    /// Say what is installed, configured, running and in use.
    Status,
    /// Compile the interpreters of images into the node's cache, before the first container of them.
    ///
    /// An image that containerd does not have yet is pulled by its CRI: mirrors and credentials of its
    /// configuration count, pull secrets of pods do not. Compiled is what the image's ENTRYPOINT and CMD
    /// run; where that is no Wasm, every Wasm program on its PATH. Nothing is compiled twice.
    Prewarm {
        /// Names of images, as pods have them.
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
        /// containerd's namespace of the images; into another than k8s.io none is pulled.
        #[arg(long, value_name = "NAME", default_value = KUBERNETES)]
        namespace: String,
        /// containerd's socket, instead of the one of this node's layout.
        #[arg(long, value_name = "PATH")]
        address: Option<PathBuf>,
    },
    /// The unit's process.
    #[command(name = "__job", hide = true)]
    Job { job: String },
    /// What runs after it.
    #[command(name = "__settle", hide = true)]
    Settle { job: String },
}

/// Why nothing was done, or nothing is known of it.
#[derive(Debug, Error)]
pub(crate) enum NodeError {
    #[error("cannot find this executable: {0}; mount /proc")]
    Locate(#[source] io::Error),
    #[error(transparent)]
    Release(#[from] ReleaseError),
    #[error(transparent)]
    Job(#[from] JobError),
    #[error(transparent)]
    Settle(#[from] SettleError),
    #[error("cannot print the report: {0}")]
    Print(#[from] io::Error),
    #[error("cannot write the report as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Does it and prints what came of it.
pub(crate) fn node(args: &Args) -> Result<ExitCode, NodeError> {
    let options = &args.options;
    let host = Host::new(&options.root).with_base(&options.base);
    let (action, restart) = match &args.act {
        Act::Install { no_restart } => (Action::Install, restart(*no_restart)),
        Act::Verify => (Action::Verify, Restart::Never),
        Act::Uninstall { force, no_restart } => {
            (Action::Uninstall { force: *force }, restart(*no_restart))
        }
        Act::Status => (Action::Status, Restart::Never),
        Act::Prewarm {
            images,
            namespace,
            address,
        } => {
            let wish = Prewarm {
                images: images.clone(),
                namespace: namespace.clone(),
                socket: address.clone(),
            };
            (Action::Prewarm(wish), Restart::Never)
        }
        Act::Job { job } => {
            let report = Host::new("/").run_unit(job)?;
            print::lines(&report)?;
            return Ok(exit(&report));
        }
        Act::Settle { job } => {
            Host::new("/").settle_unit(job)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let report = match report(&host, action.clone(), restart, options) {
        Ok(report) => report,
        Err(error) if options.json => failed(&action, &error),
        Err(error) => return Err(error),
    };
    if options.json {
        print::json(&report)?;
    } else {
        print::lines(&report)?;
    }
    Ok(exit(&report))
}

fn restart(never: bool) -> Restart {
    if never {
        Restart::Never
    } else {
        Restart::Allowed
    }
}

fn report(
    host: &Host,
    action: Action,
    restart: Restart,
    options: &Options,
) -> Result<Report, NodeError> {
    let version = env!("CARGO_PKG_VERSION");
    let installs = action == Action::Install;
    let placed = if installs || restart == Restart::Allowed {
        let own = std::env::current_exe().map_err(NodeError::Locate)?;
        let folder = own.parent().unwrap_or(&own);
        host.place(&Release::in_folder(folder, version))?
    } else {
        Placed {
            folder: host.base().join(version),
            version: version.into(),
            copied: false,
        }
    };
    let job = Job::new(action, &placed).on(options.distribution.into());
    Ok(match restart {
        // What restarts nothing needs no unit to outlive us.
        Restart::Never => job.run(host, restart),
        Restart::Allowed => host.wait(&host.start(&job)?, WAIT)?,
    })
}

/// A report of what never became a job, for those who asked for JSON.
fn failed(action: &Action, error: &NodeError) -> Report {
    Report {
        ticket: String::new(),
        action: action.name().to_owned(),
        version: env!("CARGO_PKG_VERSION").into(),
        outcome: Outcome::Failed,
        message: wasm_interp_workload::with_causes(error),
        steps: Vec::new(),
        status: None,
        images: Vec::new(),
    }
}

fn exit(report: &Report) -> ExitCode {
    if report.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_releases_is_for_nothing_else() {
        for fine in ["/opt/wasm-interp", "/srv/wasm-interp/"] {
            assert!(base(fine).is_ok(), "{fine}");
        }
        for wrong in [
            "/opt",
            "/usr/local/lib",
            "wasm-interp",
            "/",
            "/opt/wasm-interp/..",
        ] {
            let error = base(wrong).unwrap_err();
            assert!(error.contains("ends in /wasm-interp"), "{error}");
        }
    }
}
