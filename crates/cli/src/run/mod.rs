//! `wasm-interp run`: a container without containerd, by the same plan, store and runner as the
//! shim's. Whatever happens, nothing of it is left, but for an empty directory and an empty cgroup
//! where this process is killed: the kernel ends the container with it.

pub(crate) mod progress;
mod scratch;
mod supervise;

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{self, ExitCode};

use thiserror::Error;
use wasm_interp_artifact::{Artifact, ArtifactError, Origin, Store, StoreConfig};
use wasm_interp_runner::client::{Creation, Lifetime, Runner, RunnerError, Workload};
use wasm_interp_workload::{
    Kind, Plan, PlanError, Policy, PolicyError, RootfsView, ViewError, Work,
};

use self::progress::Compiling;
use self::scratch::{Scratch, ScratchError};
use self::supervise::{Signals, SuperviseError};
use crate::container::{self, ContainerArgs, ContainerError, Shape};
use crate::places;

/// Run a container without containerd.
///
/// The container gets namespaces, a cgroup and no capabilities, as a pod would, and reaches what
/// its spec and the mounts given here let it reach; it has no network. A root filesystem stays as it is:
/// what the guest writes to it is dropped at the end, so mount a directory for what is to be kept.
/// It does not know the ENV of the image that it is from: give with --env what the image has, as
/// PYTHONHOME of the Python image, whose modules also make --workdir count.
/// A bundle is run as its config.json says.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    container: ContainerArgs,
}

const EXAMPLES: &str = "\
Exits with the guest's code; 128 and the signal's number if a signal ended it, 134 if it trapped,
125 if it could not be started.

Examples:
  wasm-interp run ./rootfs -- python -c 'print(1)'
  wasm-interp run --mount src=.,dst=/app,ro --workdir /app --env PYTHONHOME=/opt/python ./rootfs -- python main.py
  wasm-interp run --env MODE=test --user 1000 --memory 128M ./rootfs -- /app/main.py
  wasm-interp run /path/to/bundle";

/// Why a container was not run to its end.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    #[error("run needs root, for namespaces and cgroups: use sudo")]
    NotRoot,
    #[error("this bundle is a pod sandbox, which runs nothing: name the bundle of a container")]
    Sandbox,
    #[error("cannot find this executable: {0}; mount /proc")]
    Locate(#[source] io::Error),
    #[error("cannot write {path:?}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot write the spec as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error(transparent)]
    Runner(#[from] RunnerError),
    #[error(transparent)]
    Supervise(#[from] SuperviseError),
}

impl From<PlanError> for RunError {
    fn from(error: PlanError) -> Self {
        Self::Container(error.into())
    }
}

impl From<ViewError> for RunError {
    fn from(error: ViewError) -> Self {
        Self::Container(error.into())
    }
}

impl From<PolicyError> for RunError {
    fn from(error: PolicyError) -> Self {
        Self::Container(error.into())
    }
}

/// Runs the container; its exit code is ours.
pub(crate) fn run(args: &Args) -> Result<ExitCode, RunError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(RunError::NotRoot);
    }
    let mut container = args.container.container()?;
    if container.kind == Kind::Sandbox {
        return Err(RunError::Sandbox);
    }
    let policy = Policy::load(&places::policy_file())?;
    let mut signals = Signals::catch()?;
    let scratch = Scratch::new()?;
    if container.shape == Shape::Rootfs {
        container.set_rootfs(&scratch.overlay(&container.rootfs)?);
    }

    let view = RootfsView::new(&container.rootfs, &container.spec)?;
    let (mut spec, workload, artifact) =
        match wasm_interp_workload::decide(&container.spec, &policy, &view)? {
            Work::Native(native) => {
                if container.shape == Shape::Rootfs {
                    container::add_kernel_file_systems(&mut container.spec);
                }
                let spec = wasm_interp_workload::native_spec(&container.spec, &native);
                let native = Box::new(native);
                (spec, Workload::Native { native }, None)
            }
            Work::Wasm(plan, interpreter) => {
                let artifact = compiled(&plan, &interpreter, &mut signals, &scratch)?;
                let spec = wasm_interp_workload::container_spec(&container.spec, &plan);
                (spec, Workload::Wasm { plan }, Some(artifact))
            }
        };

    let id = scratch.id();
    container::set_cgroup(&mut spec, &id);
    let config = scratch.bundle()?.join("config.json");
    fs::write(&config, serde_json::to_vec(&spec)?).map_err(|source| RunError::Write {
        path: config,
        source,
    })?;

    let runner = Runner::beside_current_exe()?.with_lifetime(Lifetime::Callers);
    let state = scratch.state()?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let stdio = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let init = supervise::adopt(|| {
        runner
            .create(&Creation {
                id: &id,
                bundle: &scratch.bundle()?,
                state: &state,
                workload: &workload,
                artifact: artifact.as_ref().map(|artifact| artifact.file.as_fd()),
                reasons: None,
                stdio,
            })
            .map_err(RunError::from)
    })?;
    let outcome = runner
        .start(&id, &state)
        .map_err(RunError::from)
        .and_then(|()| Ok(supervise::wait(init, &mut signals)?));
    let deleted = runner.delete(&id, &state, true);
    let code = outcome?;
    for warning in deleted? {
        eprintln!("wasm-interp: {warning}");
    }
    Ok(ExitCode::from(code))
}

/// The interpreter's native code, from the store or made for it now.
fn compiled(
    plan: &Plan,
    interpreter: &fs::File,
    signals: &mut Signals,
    scratch: &Scratch,
) -> Result<Artifact, RunError> {
    let store = Store::open(&places::cache_dir(), StoreConfig::default());
    let compiler = places::compiler().map_err(RunError::Locate)?;
    let mut compiling = Compiling::new(&plan.interpreter.path);
    let artifact = store.get(
        interpreter,
        &plan.interpreter.path,
        &compiler,
        &mut |progress| {
            if let Some(signal) = signals.ending() {
                // The store has no way to be told; what it began goes on without us.
                compiling.end();
                scratch.remove();
                process::exit(128 + signal);
            }
            compiling.show(progress);
        },
    )?;
    compiling.end();
    if let Origin::Uncached { reason, .. } = &artifact.origin {
        eprintln!("wasm-interp: the native code is not kept: {reason}");
    }
    Ok(artifact)
}
