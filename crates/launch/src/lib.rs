//! From an OCI spec to a created container: the one pipeline of the shim, of `wasm-interp run` and, as far as [`plan()`],
//! of `wasm-interp inspect`.
//!
//! ```text
//! Pipeline::plan ──▶ PlannedContainer ──▶ Pipeline::prepare ──▶ PreparedContainer ──▶ Pipeline::create ──▶ pid
//!   spec + policy + files                  native code, spec                            runner
//! ```
//!
//! Each stage is a call of its own, so that a caller can measure it, report progress, or stop between two
//! stages. `exec` is the same for a further process of a running container. The caller owns what surrounds a container: mounts, stdio, waiting, signals, removal. Nothing here
//! knows containerd, ttrpc or a terminal.
#![forbid(unsafe_code)]

mod exec;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};

use oci_spec::runtime::Spec;
use thiserror::Error;
use wasm_interp_artifact::{
    Artifact, ArtifactError, CodeRequest, CompileProgress, Origin, Store, cache_dir,
    compiler_beside_current_exe,
};
use wasm_interp_policy::{CachePolicy, Policy, PolicyError, policy_file};
use wasm_interp_runner_client::{
    CreatedContainer, Creation, InitRuns, ModuleStamp, Runner, RunnerError, SessionKeyring,
    Workload,
};
use wasm_interp_workload::{
    self as workload, ContainerKind, ErrorKind, NativePlan, Plan, PlanError, Planned, RootfsView,
    ViewError,
};

pub use self::exec::{PreparedProcess, ProcessStreams, RunningContainer};

/// The runner's spec, in the bundle that the runner is given.
const CONFIG: &str = "config.json";

/// Why there is no container.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The node's policy cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The container's files cannot be looked at.
    #[error(transparent)]
    View(#[from] ViewError),
    /// There is no plan for the spec.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// There is no native code for the interpreter.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The runner did not create the container.
    #[error(transparent)]
    Runner(#[from] RunnerError),
    /// The path of the calling program is unknown, and so are those of the executables beside it.
    #[error("cannot find this executable: {0}; mount /proc")]
    Locate(#[source] io::Error),
    /// The runner's spec cannot be written.
    #[error("cannot write {path:?}: {source}; check the space and permissions there")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl LaunchError {
    /// The class that a caller's protocol reports; `None` for a failure of this node, which has none.
    #[must_use]
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Policy(_) => Some(ErrorKind::FailedPrecondition),
            Self::View(error) => Some(error.kind()),
            Self::Plan(error) => Some(error.kind()),
            Self::Artifact(error) => error.refusal().map(|_| ErrorKind::InvalidArgument),
            Self::Runner(_) | Self::Locate(_) | Self::Write { .. } => None,
        }
    }
}

/// What all containers that a process launches have in common.
pub struct Pipeline {
    /// Makes containers.
    pub runner: Runner,
    /// Keeps native code. Opened when the first guest needs it: a sandbox never does.
    pub store: LazyLock<Store, Box<dyn FnOnce() -> Store + Send>>,
    /// The executable that compiles.
    pub compiler: PathBuf,
    /// The node's policy, read again for each container.
    pub policy_file: PathBuf,
    /// The ceiling of containers that share this machine's network.
    pub host_network: HostNetworkCeiling,
}

/// The ceiling of the policy that holds for a container that shares this machine's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostNetworkCeiling {
    /// `network.host_network_ceiling`: for pods with `hostNetwork`.
    Own,
    /// `network.ceiling`: where this machine's network stands for the network of a pod.
    OfPods,
}

/// What a container will run, before there is native code for it.
#[derive(Debug)]
pub enum PlannedContainer {
    /// A pod's sandbox, which runs no program.
    Sandbox,
    /// A native program of the container's files.
    Native(NativePlan),
    /// A Wasm guest.
    Wasm {
        /// What it does.
        plan: Box<Plan>,
        /// The very file that is identified, compiled and run, whatever its path leads to later.
        interpreter: File,
        /// The policy of the store.
        cache: CachePolicy,
    },
}

/// A container that only has to be created.
#[derive(Debug)]
pub struct PreparedContainer {
    /// The spec for the runner: the caller's, with the plan's decisions written over it.
    spec: Spec,
    workload: Workload,
    artifact: Option<Artifact>,
    /// Which file the interpreter is. `None` if it is native, or its file system does not say.
    module: Option<ModuleStamp>,
}

/// The module of a container's init process, with its native code: a further process of the container that
/// runs the same module needs neither the store nor a compile.
#[derive(Debug)]
pub struct KeptModule {
    stamp: ModuleStamp,
    code: File,
}

impl PreparedContainer {
    /// What the container will run.
    #[must_use]
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Native code of the interpreter, if the container is a Wasm guest.
    #[must_use]
    pub fn artifact(&self) -> Option<&Artifact> {
        self.artifact.as_ref()
    }

    /// What the init process is.
    #[must_use]
    pub fn init_runs(&self) -> InitRuns {
        match self.workload {
            Workload::Wasm { .. } => InitRuns::Guest,
            Workload::Native { .. } | Workload::Pause => InitRuns::Other,
        }
    }

    /// What further processes of the container need of it.
    #[must_use]
    pub fn into_module(self) -> Option<KeptModule> {
        Some(KeptModule {
            stamp: self.module?,
            code: self.artifact?.file,
        })
    }

    /// Why the native code could not be kept, if that is so. Then each start compiles again.
    #[must_use]
    pub fn uncached(&self) -> Option<&str> {
        self.artifact.as_ref().and_then(uncached)
    }
}

fn uncached(artifact: &Artifact) -> Option<&str> {
    match &artifact.origin {
        Origin::Uncached { reason, .. } => Some(reason),
        Origin::Cached | Origin::Compiled { .. } => None,
    }
}

/// Where a container is created, and what it is connected to.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Container id.
    pub id: &'a str,
    /// Directory for the runner's spec; made by the call.
    pub bundle: &'a Path,
    /// Directory for the runner's state; made by the call.
    pub state: &'a Path,
    /// Standard input, output and error of the container.
    pub stdio: [BorrowedFd<'a>; 3],
    /// A file, open for writing, for the reason of an end that the guest did not choose. The runner writes
    /// nothing to a file that already holds something.
    pub termination_message: Option<BorrowedFd<'a>>,
    /// A [`SharedCeiling`](wasm_interp_runner_client::SharedCeiling) of a guest's memory, for a caller that may
    /// change it.
    pub ceiling: Option<BorrowedFd<'a>>,
    /// The session keyring of the container's processes.
    pub keyring: SessionKeyring,
    /// A socket, if [`Self::stdio`] is one terminal. A native program in a container with a devpts gets a terminal of
    /// that instead, and the socket its master.
    pub console: Option<BorrowedFd<'a>>,
    /// The pipe of a [`RefusalReader`](wasm_interp_runner_client::RefusalReader), for a caller that has a log of what a
    /// guest is refused.
    pub refusals: Option<BorrowedFd<'a>>,
}

/// Decides what the container that `spec` describes will run, without effects. `root` is its root directory, open:
/// beneath it are the files that the container will see before the spec's mounts are made. It ends early once
/// `cancelled` is true.
///
/// # Errors
/// If the policy cannot be read, or the spec asks for what is not there, not supported or not allowed.
pub fn plan(
    spec: &Spec,
    root: OwnedFd,
    policy_file: &Path,
    host_network: HostNetworkCeiling,
    cancelled: Arc<AtomicBool>,
) -> Result<PlannedContainer, LaunchError> {
    if workload::container_kind(spec) == ContainerKind::Sandbox {
        return Ok(PlannedContainer::Sandbox);
    }
    let mut policy = Policy::load(policy_file)?;
    if host_network == HostNetworkCeiling::OfPods {
        policy.network.host_network_ceiling = policy.network.ceiling.clone();
    }
    let view = RootfsView::beneath_until(root, spec, cancelled)?;
    Ok(match workload::decide(spec, &policy, &view)? {
        Planned::Native(native) => PlannedContainer::Native(native),
        Planned::Wasm(plan, interpreter) => PlannedContainer::Wasm {
            plan,
            interpreter,
            cache: policy.cache,
        },
    })
}

impl Pipeline {
    /// The pipeline with the executables beside the calling one, and this node's policy and store. `prepare_store`
    /// is called when the store is opened.
    ///
    /// # Errors
    /// If the path of the calling program is unknown.
    pub fn of_this_node(
        prepare_store: impl FnOnce(Store) -> Store + Send + 'static,
    ) -> Result<Self, LaunchError> {
        Ok(Self {
            runner: Runner::beside_current_exe()?,
            store: LazyLock::new(Box::new(|| prepare_store(Store::open(&cache_dir())))),
            compiler: compiler_beside_current_exe().map_err(LaunchError::Locate)?,
            policy_file: policy_file(),
            host_network: HostNetworkCeiling::Own,
        })
    }

    /// [`plan()`] by the node's policy.
    ///
    /// # Errors
    /// Those of [`plan()`].
    pub fn plan(
        &self,
        spec: &Spec,
        root: OwnedFd,
        cancelled: Arc<AtomicBool>,
    ) -> Result<PlannedContainer, LaunchError> {
        plan(spec, root, &self.policy_file, self.host_network, cancelled)
    }

    /// The ceiling of a guest's memory by the node's policy, if its cgroup allows `limit` bytes.
    ///
    /// # Errors
    /// If the policy cannot be read.
    pub fn guest_ceiling(&self, limit: Option<u64>) -> Result<Option<u64>, LaunchError> {
        Ok(Policy::load(&self.policy_file)?.memory.guest_ceiling(limit))
    }

    /// Gets native code for a planned guest, and fits `spec` to the plan. Blocks as long as a compile takes;
    /// `on_progress` is called with the interpreter's path while it does.
    ///
    /// # Errors
    /// If there is no native code to be had.
    pub fn prepare(
        &self,
        spec: &Spec,
        planned: PlannedContainer,
        on_progress: &mut dyn FnMut(&str, CompileProgress),
    ) -> Result<PreparedContainer, LaunchError> {
        Ok(match planned {
            PlannedContainer::Sandbox => PreparedContainer {
                spec: workload::sandbox_spec(spec),
                workload: Workload::Pause,
                artifact: None,
                module: None,
            },
            PlannedContainer::Native(native) => PreparedContainer {
                spec: workload::native_spec(spec, &native),
                workload: Workload::Native {
                    native: Box::new(native),
                },
                artifact: None,
                module: None,
            },
            PlannedContainer::Wasm {
                plan,
                interpreter,
                cache,
            } => {
                let name = plan.interpreter.path.as_str();
                let request = CodeRequest {
                    wasm: &interpreter,
                    name,
                    compiler: &self.compiler,
                    policy: cache,
                };
                let artifact = self
                    .store
                    .get(&request, &mut |progress| on_progress(name, progress))?;
                PreparedContainer {
                    spec: workload::container_spec(spec, &plan),
                    artifact: Some(artifact),
                    module: ModuleStamp::of(&interpreter).ok(),
                    workload: Workload::Wasm { plan },
                }
            }
        })
    }

    /// Creates the container, whose root filesystem is mounted at `root`, up to the point where it waits for its
    /// start. `spawned` gets the number of the runner, which may be killed before this returns.
    ///
    /// # Errors
    /// If the container cannot be created; then the runner has left nothing of it but what is in
    /// [`Place::bundle`] and [`Place::state`].
    pub fn create(
        &self,
        prepared: &PreparedContainer,
        root: &Path,
        place: &Place<'_>,
        spawned: &mut dyn FnMut(u32),
    ) -> Result<CreatedContainer, LaunchError> {
        for directory in [place.bundle, place.state] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(unwritten(directory))?;
        }
        let config = place.bundle.join(CONFIG);
        serde_json::to_vec(&with_root(&prepared.spec, root))
            .map_err(io::Error::from)
            .and_then(|text| fs::write(&config, text))
            .map_err(unwritten(&config))?;
        let creation = Creation {
            id: place.id,
            bundle: place.bundle,
            state: place.state,
            workload: &prepared.workload,
            artifact: prepared.artifact.as_ref().map(|code| code.file.as_fd()),
            reasons: place.termination_message,
            ceiling: place.ceiling,
            console: place.console,
            refusals: place.refusals,
            keyring: place.keyring,
            stdio: place.stdio,
        };
        Ok(self.runner.create(&creation, spawned)?)
    }
}

fn unwritten(path: &Path) -> impl FnOnce(io::Error) -> LaunchError {
    move |source| LaunchError::Write {
        path: path.to_owned(),
        source,
    }
}

/// The spec with an absolute root: the runner's bundle is another directory than the caller's.
fn with_root(spec: &Spec, path: &Path) -> Spec {
    let mut spec = spec.clone();
    let mut root = spec.root().clone().unwrap_or_default();
    root.set_path(path.to_owned());
    spec.set_root(Some(root));
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_keeps_readonly_and_gets_its_absolute_path() {
        let json = r#"{"ociVersion":"1.0.2","root":{"path":"rootfs","readonly":true}}"#;
        let spec: Spec = serde_json::from_str(json).expect("spec");
        let spec = with_root(&spec, Path::new("/b/rootfs"));
        let root = spec.root().as_ref().expect("root");
        assert_eq!(root.path(), Path::new("/b/rootfs"));
        assert_eq!(root.readonly(), Some(true));
    }
}
