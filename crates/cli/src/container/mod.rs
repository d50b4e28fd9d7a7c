//! What the command line says about a container, turned into an OCI spec and a root filesystem:
//! the part that `run` and `inspect` share.

mod mount;
mod spec;
mod values;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use thiserror::Error;
use wasm_interp_workload::{Kind, PlanError, PolicyError, ViewError};

pub(crate) use self::spec::{add_kernel_file_systems, set_cgroup};
use self::values::{Bytes, User, Variable};

/// The container: what is run, and what differs from what its spec says.
#[derive(clap::Args)]
pub(crate) struct ContainerArgs {
    /// A directory with a root filesystem, or an OCI bundle (it holds config.json).
    #[arg(value_name = "ROOTFS|BUNDLE")]
    target: PathBuf,

    /// Program and arguments. A bundle names its own, which these replace.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,

    /// Mount a directory or file of this machine, or memory (type=tmpfs).
    ///
    /// Keys: type (bind or tmpfs), src, dst, ro, size (of a tmpfs), options (separated by colons).
    #[arg(long = "mount", value_name = "type=bind,src=PATH,dst=PATH[,ro]", value_parser = mount::parse)]
    mounts: Vec<Mount>,

    /// Set an environment variable; a name alone takes the value of this shell.
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = values::variable)]
    env: Vec<Variable>,

    /// Working directory in the container.
    #[arg(short, long, value_name = "PATH")]
    workdir: Option<PathBuf>,

    /// User and group, by number.
    #[arg(short, long, value_name = "UID[:GID]", value_parser = values::user)]
    user: Option<User>,

    /// Memory limit: bytes, or with the unit K, M or G.
    #[arg(short, long, value_name = "SIZE", value_parser = values::bytes)]
    memory: Option<Bytes>,

    /// Make the root filesystem read-only.
    #[arg(long)]
    read_only: bool,

    /// The interpreter's .wasm in the container, where it cannot be found from the arguments.
    #[arg(long, value_name = "PATH")]
    interpreter: Option<String>,
}

/// A container as the command line describes it.
pub(crate) struct Container {
    pub(crate) spec: Spec,
    /// Absolute.
    pub(crate) rootfs: PathBuf,
    pub(crate) shape: Shape,
    pub(crate) kind: Kind,
}

/// What the target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A directory of somebody's: what the guest writes must not end up there.
    Rootfs,
    /// A bundle: its root filesystem is the container's to write.
    Bundle,
}

/// Why there is no plan for what the command line says.
#[derive(Debug, Error)]
pub(crate) enum ContainerError {
    #[error("cannot open {path:?}: {source}; name a root filesystem or a bundle")]
    Target { path: PathBuf, source: io::Error },
    #[error("{path:?} is not an OCI runtime spec: {source}; correct it")]
    Config {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("say what to run after the root filesystem, as in {target:?} -- python main.py")]
    NoArgs { target: PathBuf },
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl ContainerArgs {
    /// Reads the target and lays the other arguments over its spec.
    pub(crate) fn container(&self) -> Result<Container, ContainerError> {
        let unopened = |source| ContainerError::Target {
            path: self.target.clone(),
            source,
        };
        let target = self.target.canonicalize().map_err(unopened)?;
        let config = target.join("config.json");
        let (mut spec, shape) = match fs::read(&config) {
            Ok(text) => {
                let spec =
                    serde_json::from_slice(&text).map_err(|source| ContainerError::Config {
                        path: config,
                        source,
                    })?;
                (spec, Shape::Bundle)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.args.is_empty() {
                    return Err(ContainerError::NoArgs {
                        target: self.target.clone(),
                    });
                }
                (spec::of_rootfs(), Shape::Rootfs)
            }
            Err(error) => return Err(unopened(error)),
        };
        let rootfs = match (shape, spec.root()) {
            (Shape::Bundle, Some(root)) => target.join(root.path()),
            (Shape::Bundle, None) => target.join("rootfs"),
            (Shape::Rootfs, _) => target,
        };
        spec::change(&mut spec, self);
        spec::set_root(&mut spec, &rootfs, self.read_only);
        let kind = wasm_interp_workload::kind(&spec);
        Ok(Container {
            spec,
            rootfs,
            shape,
            kind,
        })
    }
}

impl Container {
    /// Moves the container's root filesystem to where it is mounted.
    pub(crate) fn set_rootfs(&mut self, rootfs: &Path) {
        rootfs.clone_into(&mut self.rootfs);
        spec::set_root(&mut self.spec, rootfs, false);
    }
}
