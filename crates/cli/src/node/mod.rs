//! `wasm-interp node`: installs this release on a node, and uninstalls it. This module has the arguments and prints the
//! report; `crates/node` does the work.

mod print;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use thiserror::Error;
use wasm_interp_node::{
    BASE, Distribution, DistributionChoice, ExecuteError, HostRoot, JobAction, JobError, JobReport,
    KUBERNETES_NAMESPACE, NodeJob, PlacedRelease, PrewarmRequest, Release, ReleaseError,
    RestartPolicy,
};

/// How long to wait for the report. The job has a shorter limit of its own.
const WAIT: Duration = Duration::from_secs(1200);

/// Install the container runtime on this node, check it, or uninstall it.
///
/// Install copies this release into a folder of its own, adds the runtime handler wasm-interp to
/// containerd's configuration, restarts containerd and runs a test program through it. Running
/// containers continue. If containerd does not start, install restores the old configuration and
/// restarts containerd with it.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NodeArgs {
    #[command(subcommand)]
    subcommand: NodeSubcommand,
    #[command(flatten)]
    options: NodeOptions,
}

const EXAMPLES: &str = "\
Exits with 0 only if the node is then as requested.

Examples:
  On a node, as root:
    wasm-interp node install
    wasm-interp node status

  In the file system of a node image, before the node is started:
    wasm-interp node install --root /mnt/image --no-restart

  In a script:
    wasm-interp node verify --json | jq -r .message

  Before the first pod that uses an image:
    wasm-interp node prewarm registry.example.com/team/app:1.0

Files:
  /opt/wasm-interp/VERSION      the executables; older releases stay while a container uses them
  /var/lib/wasm-interp/node     the record of all changes, with the original content of each file
  /run/wasm-interp/node         the report of a job, until this command has read it
The job runs as the unit wasm-interp-node.service: journalctl -u wasm-interp-node.";

#[derive(clap::Args)]
struct NodeOptions {
    /// Root of the node's file system.
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Layout of containerd on the node.
    #[arg(long, global = true, value_name = "NAME", default_value = "auto")]
    distribution: DistributionName,
    /// Folder of releases, a path on the node.
    #[arg(long, global = true, value_name = "DIR", default_value = BASE, value_parser = base)]
    base: PathBuf,
    /// Print the report as JSON.
    #[arg(long, global = true)]
    json: bool,
}

/// A folder whose name shows that it is for releases only.
fn base(folder: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(folder);
    if path.is_absolute() && path.file_name() == Path::new(BASE).file_name() {
        return Ok(path);
    }
    Err(format!(
        "cannot use {folder:?}: it is not an absolute path that ends in /wasm-interp; name one, \
         for example {BASE}"
    ))
}

/// The names of layouts that users know.
#[derive(Clone, Copy, ValueEnum)]
enum DistributionName {
    /// Detect it.
    Auto,
    /// A containerd with a service of its own, configured in /etc/containerd.
    #[value(aliases = ["debian", "ubuntu", "kubeadm", "kind", "eks", "aks", "gke"])]
    Containerd,
    K3s,
    Rke2,
    K0s,
    Microk8s,
}

impl From<DistributionName> for DistributionChoice {
    fn from(named: DistributionName) -> Self {
        match named {
            DistributionName::Auto => Self::Auto,
            DistributionName::Containerd => Self::Named(Distribution::Containerd),
            DistributionName::K3s => Self::Named(Distribution::K3s),
            DistributionName::Rke2 => Self::Named(Distribution::Rke2),
            DistributionName::K0s => Self::Named(Distribution::K0s),
            DistributionName::Microk8s => Self::Named(Distribution::MicroK8s),
        }
    }
}

#[derive(Subcommand)]
enum NodeSubcommand {
    /// Configure containerd for this release and verify it.
    ///
    /// If the runtime works, a second install changes and restarts nothing. Install from another release
    /// is an upgrade: running containers keep the release that started them.
    Install {
        /// Write the configuration and leave the restart of containerd to you.
        #[arg(long)]
        no_restart: bool,
    },
    /// Check that containerd has the handler, and run a test program with it.
    Verify,
    /// Remove everything that install has added.
    ///
    /// Uninstall restores the original configuration of containerd. If the configuration was changed after
    /// install, uninstall removes only the table of wasm-interp. It refuses to run while containers of this
    /// runtime run.
    Uninstall {
        /// Uninstall while containers run; they keep their executables until they end.
        #[arg(long)]
        force: bool,
        /// Write the configuration and leave the restart of containerd to you.
        #[arg(long)]
        no_restart: bool,
    },
    /// Show what is installed, configured, running and in use.
    Status,
    /// Compile the interpreters of images into the node's cache, before the first container needs them.
    ///
    /// containerd's CRI pulls an image that is missing, with the mirrors and credentials of its
    /// configuration, but without the pull secrets of pods. The command compiles the program that the
    /// image's ENTRYPOINT and CMD run. If that is not Wasm, it compiles every Wasm program on the
    /// image's PATH. Code that is in the cache already is not compiled again.
    Prewarm {
        /// Names of images, as in a pod's spec.
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
        /// containerd's namespace of the images. Images are pulled only into k8s.io.
        #[arg(long, value_name = "NAME", default_value = KUBERNETES_NAMESPACE)]
        namespace: String,
        /// containerd's socket, instead of the socket of this node's layout.
        #[arg(long, value_name = "PATH")]
        address: Option<PathBuf>,
    },
    /// The unit's process.
    #[command(name = "__job", hide = true)]
    Job { job: String },
    /// The command that runs after it.
    #[command(name = "__settle", hide = true)]
    Settle { job: String },
}

/// Why there is no report: the job did not start, or its report could not be read or printed.
#[derive(Debug, Error)]
pub(crate) enum NodeCommandError {
    #[error("cannot find this executable: {0}; mount /proc")]
    Locate(#[source] io::Error),
    #[error(transparent)]
    Release(#[from] ReleaseError),
    #[error(transparent)]
    Job(#[from] JobError),
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    #[error("cannot print the report: {0}; check where standard output leads")]
    Print(#[from] io::Error),
    #[error("cannot write the report as JSON: {0}; leave out --json, and report this")]
    Json(#[from] serde_json::Error),
}

/// Runs the subcommand and prints the report.
pub(crate) fn node(args: &NodeArgs) -> Result<ExitCode, NodeCommandError> {
    let options = &args.options;
    let host = HostRoot::new(&options.root).with_base(&options.base);
    let (action, restart) = match &args.subcommand {
        NodeSubcommand::Install { no_restart } => (JobAction::Install, restart(*no_restart)),
        NodeSubcommand::Verify => (JobAction::Verify, RestartPolicy::Never),
        NodeSubcommand::Uninstall { force, no_restart } => {
            (JobAction::Uninstall { force: *force }, restart(*no_restart))
        }
        NodeSubcommand::Status => (JobAction::Status, RestartPolicy::Never),
        NodeSubcommand::Prewarm {
            images,
            namespace,
            address,
        } => {
            let request = PrewarmRequest {
                images: images.clone(),
                namespace: namespace.clone(),
                socket: address.clone(),
            };
            (JobAction::Prewarm(request), RestartPolicy::Never)
        }
        NodeSubcommand::Job { job } => {
            let report = HostRoot::new("/").run_unit(job)?;
            print::lines(&report)?;
            return Ok(exit(&report));
        }
        NodeSubcommand::Settle { job } => {
            HostRoot::new("/").settle_unit(job)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let report = match report(&host, action.clone(), restart, options) {
        Ok(report) => report,
        Err(error) if options.json => {
            let message = wasm_interp_workload::with_causes(&error);
            JobReport::not_started(action.name(), env!("CARGO_PKG_VERSION"), message)
        }
        Err(error) => return Err(error),
    };
    if options.json {
        writeln!(io::stdout(), "{}", print::json(&report)?)?;
    } else {
        print::lines(&report)?;
    }
    Ok(exit(&report))
}

fn restart(never: bool) -> RestartPolicy {
    if never {
        RestartPolicy::Never
    } else {
        RestartPolicy::Allowed
    }
}

fn report(
    host: &HostRoot,
    action: JobAction,
    restart: RestartPolicy,
    options: &NodeOptions,
) -> Result<JobReport, NodeCommandError> {
    let version = env!("CARGO_PKG_VERSION");
    let installs = action == JobAction::Install;
    let placed = if installs || restart == RestartPolicy::Allowed {
        let own = std::env::current_exe().map_err(NodeCommandError::Locate)?;
        let folder = own.parent().unwrap_or(&own);
        host.place(&Release::in_folder(folder, version))?
    } else {
        PlacedRelease {
            folder: host.base().join(version),
            version: version.into(),
            copied: false,
        }
    };
    let job = NodeJob::new(action, &placed).on(options.distribution.into());
    Ok(match restart {
        // A job that does not restart containerd needs no unit of its own.
        RestartPolicy::Never => job.run(host, restart),
        RestartPolicy::Allowed => host.wait(&host.start(&job)?, WAIT)?,
    })
}

fn exit(report: &JobReport) -> ExitCode {
    if report.succeeded() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_of_releases_has_a_name_of_its_own() {
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
