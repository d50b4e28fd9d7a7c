//! Turns the container options of the command line into an OCI spec and a root filesystem. `run` and
//! `inspect` share it.

mod image;
mod mount;
mod network;
mod spec;
mod values;

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxMemory, LinuxResources, Mount, Spec};
use thiserror::Error;
use wasm_interp_image::{Archive, UnpackedImage};
use wasm_interp_launch::HostNetworkCeiling;
use wasm_interp_workload::{
    INTERPRETER_ANNOTATION, SpecParseError, SpecWarning, parse_spec, printable,
};

pub(crate) use self::image::ImageError;
pub(crate) use self::network::{NetworkArgs, separate_network, share_network};
pub(crate) use self::spec::{add_kernel_file_systems, set_cgroup, set_terminal_type};
use self::values::{Bytes, User, Variable};

/// The options that describe a container: its target, and changes to its spec.
#[derive(clap::Args)]
pub(crate) struct ContainerArgs {
    /// An OCI archive or layout (an image on disk), a directory with a root filesystem, or an OCI bundle
    /// (it holds config.json).
    #[arg(value_name = "IMAGE|ROOTFS|BUNDLE")]
    target: PathBuf,

    /// Program and arguments. They replace those of an image (ENTRYPOINT and CMD) or of a bundle.
    ///
    /// Options of this command stand before the program: what follows it is the program's. After -- the program may
    /// begin with a dash.
    #[arg(trailing_var_arg = true, value_name = "ARGS")]
    args: Vec<String>,

    /// The image's name, if an archive or layout holds several images.
    #[arg(long, value_name = "NAME")]
    image: Option<String>,

    /// Mount a directory or file of this machine, or memory (type=tmpfs).
    ///
    /// Keys: type (bind or tmpfs), src, dst, ro, size (of a tmpfs), options (separated by colons).
    #[arg(
        long = "mount",
        value_name = "type=bind,src=PATH,dst=PATH[,ro]",
        value_parser = mount::parse
    )]
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

    /// Memory limit: bytes, or a number with a unit, as 128M or 1GiB (powers of 1024).
    #[arg(short, long, value_name = "SIZE", value_parser = values::bytes)]
    memory: Option<Bytes>,

    /// Make the root filesystem read-only.
    #[arg(long)]
    read_only: bool,

    /// The interpreter's .wasm in the container, if the arguments do not lead to it.
    #[arg(long, value_name = "PATH")]
    interpreter: Option<String>,

    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

/// A container as the command line describes it.
pub(crate) struct DescribedContainer {
    pub(crate) spec: Spec,
    /// Absolute.
    pub(crate) rootfs: PathBuf,
    pub(crate) shape: Shape,
    /// The parts of the bundle's spec that the container does not get.
    pub(crate) warnings: Vec<SpecWarning>,
    /// Keeps the unpacked image from being removed.
    _image: Option<UnpackedImage>,
}

/// The kind of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A root filesystem of the user or of the cache: the guest must not write to it.
    Rootfs,
    /// A bundle: the container may write to its root filesystem.
    Bundle,
}

/// Warns on stderr about the parts of a spec that the container does not get.
pub(crate) fn warn(warnings: &[impl Display]) {
    for warning in warnings {
        let warning = printable(&warning.to_string());
        eprintln!("wasm-interp: the spec is not followed in full: {warning}");
    }
}

/// Why the command line describes no container.
#[derive(Debug, Error)]
pub(crate) enum ContainerError {
    #[error(
        "cannot open {path:?}: {source}; name an OCI archive or layout, a root filesystem or a \
         bundle"
    )]
    Target { path: PathBuf, source: io::Error },
    #[error("cannot use the spec {path:?}: {source}")]
    Config {
        path: PathBuf,
        source: SpecParseError,
    },
    #[error(
        "cannot run {target:?}: it names no program; add one, as in {target:?} -- python \
         main.py"
    )]
    NoArgs { target: PathBuf },
    #[error(
        "cannot look for the image {image:?}: {target:?} is not an OCI archive or layout; leave \
         out --image"
    )]
    NoImages { image: String, target: PathBuf },
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl ContainerArgs {
    /// What is wrong with the options together.
    pub(crate) fn contradiction(&self) -> Option<String> {
        self.network.contradiction()
    }

    /// The target as it was given.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Reads the target, and applies the other options to its spec.
    pub(crate) fn container(&self) -> Result<DescribedContainer, ContainerError> {
        let unopened = |source| ContainerError::Target {
            path: self.target.clone(),
            source,
        };
        let target = self.target.canonicalize().map_err(unopened)?;
        let found = target.metadata().map_err(unopened)?;
        let named = self.image.as_deref();
        let mut warnings = Vec::new();
        let (mut spec, shape, rootfs, image) = if found.is_file() || Archive::is_layout(&target) {
            let (spec, unpacked) = image::open(&target, named, self.user.is_some())?;
            let rootfs = unpacked.rootfs().to_owned();
            (spec, Shape::Rootfs, rootfs, Some(unpacked))
        } else if let Some(image) = named {
            return Err(ContainerError::NoImages {
                image: image.to_owned(),
                target: self.target.clone(),
            });
        } else {
            let config = target.join("config.json");
            match fs::read(&config) {
                Ok(text) => {
                    let (spec, unheeded) =
                        parse_spec(&text).map_err(|source| ContainerError::Config {
                            path: config,
                            source,
                        })?;
                    warnings = unheeded;
                    let root = spec.root().as_ref().map(|root| target.join(root.path()));
                    let rootfs = root.unwrap_or_else(|| target.join("rootfs"));
                    (spec, Shape::Bundle, rootfs, None)
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    (spec::of_rootfs(), Shape::Rootfs, target, None)
                }
                Err(error) => return Err(unopened(error)),
            }
        };
        let has_args = |spec: &Spec| {
            let process = spec.process().as_ref();
            process.is_some_and(|process| process.args().is_some())
        };
        if shape == Shape::Rootfs && self.args.is_empty() && !has_args(&spec) {
            return Err(ContainerError::NoArgs {
                target: self.target.clone(),
            });
        }
        self.change(&mut spec);
        if shape == Shape::Rootfs && self.network.is_some() {
            share_network(&mut spec);
        }
        spec::set_root(&mut spec, &rootfs, self.read_only);
        Ok(DescribedContainer {
            spec,
            rootfs,
            shape,
            _image: image,
            warnings,
        })
    }

    /// Applies the options to `spec`.
    fn change(&self, spec: &mut Spec) {
        let mut process = spec.process().clone().unwrap_or_default();
        if !self.args.is_empty() {
            process.set_args(Some(self.args.clone()));
        }
        let mut env = process.env().clone().unwrap_or_default();
        for variable in &self.env {
            env.retain(|entry| entry.split('=').next() != Some(&variable.name));
            env.push(format!("{}={}", variable.name, variable.value));
        }
        process.set_env(Some(env));
        if let Some(cwd) = &self.workdir {
            process.set_cwd(cwd.clone());
        }
        if let Some(user) = self.user {
            let mut changed = process.user().clone();
            changed
                .set_uid(user.uid)
                .set_gid(user.gid)
                .set_additional_gids(None);
            process.set_user(changed);
        }
        spec.set_process(Some(process));

        let mut mounts = spec.mounts().clone().unwrap_or_default();
        mounts.extend(self.mounts.iter().cloned());
        spec.set_mounts(Some(mounts));

        if let Some(interpreter) = &self.interpreter {
            spec::annotate(spec, INTERPRETER_ANNOTATION, interpreter);
        }
        self.network.annotate(spec);
        if let Some(bytes) = self.memory {
            let mut linux = spec.linux().clone().unwrap_or_default();
            let mut resources: LinuxResources = linux.resources().clone().unwrap_or_default();
            let mut memory: LinuxMemory = resources.memory().unwrap_or_default();
            memory.set_limit(Some(bytes.0));
            resources.set_memory(Some(memory));
            linux.set_resources(Some(resources));
            spec.set_linux(Some(linux));
        }
    }
}

impl DescribedContainer {
    /// What this machine's network is to the policy, if the container shares it.
    pub(crate) fn host_network(&self) -> HostNetworkCeiling {
        match self.shape {
            // It is shared because a person asked for it, and stands for the network of a pod.
            Shape::Rootfs => HostNetworkCeiling::OfPods,
            Shape::Bundle => HostNetworkCeiling::Own,
        }
    }

    /// Sets the container's root filesystem to the path of its mount.
    pub(crate) fn set_rootfs(&mut self, rootfs: &Path) {
        rootfs.clone_into(&mut self.rootfs);
        spec::set_root(&mut self.spec, rootfs, false);
    }
}
