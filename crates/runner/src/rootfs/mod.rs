//! The container's root file system: its mounts, devices and links, and the way into it.
//!
//! [`sources`] runs in the runner, as the host's root; the rest in the container's init process, which
//! is then in all of its namespaces. Knows neither libcontainer nor what the container runs.

mod attributes;
pub(crate) mod cgroup_mount;
pub(crate) mod console;
mod copy;
mod detached;
pub(crate) mod error;
mod mounts;
pub(crate) mod nodes;
pub(crate) mod options;
pub(crate) mod parameters;
mod protect;
pub(crate) mod sources;

use std::{
    fs::File,
    io::{Error, Read as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use oci_spec::runtime::LinuxDevice;
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
    mount::{MountPropagationFlags, UnmountFlags, mount_bind_recursive, mount_change, unmount},
    process::{chdir, fchdir, pivot_root},
};

use self::{
    cgroup_mount::OwnCgroup,
    error::SpecMountError,
    mounts::Mounter,
    nodes::{DeviceSet, NodeError, NodeMethod},
    options::{AttributeChange, Depth, Propagation},
    protect::{Protection, ProtectionError},
    sources::{PreparedMount, PreparedSource},
};
use crate::{
    container_root::ContainerRoot,
    terminal::{Pty, Streams},
};
use wasm_interp_mounts::mountinfo::{self, MountInfo};

/// The root file system cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootfsError {
    #[error(transparent)]
    Mount(#[from] SpecMountError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("cannot {act} the root file system {root}: {source}")]
    Root {
        act: &'static str,
        root: PathBuf,
        source: Error,
    },
    #[error(transparent)]
    Protection(#[from] ProtectionError),
}

/// What the root file system of a container is to be.
#[derive(Debug)]
pub(crate) struct Rootfs<'a> {
    /// The host's directory.
    pub(crate) root: &'a Path,
    pub(crate) access: RootAccess,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) mounts: &'a [PreparedMount],
    pub(crate) devices: &'a [LinuxDevice],
    pub(crate) nodes: (DeviceSet, NodeMethod),
    pub(crate) streams: Streams,
    /// SELinux context of new file systems, if the host has SELinux.
    pub(crate) label: Option<&'a str>,
    pub(crate) read_only_paths: &'a [String],
    pub(crate) masked_paths: &'a [String],
}

/// Whether the container may write to its root file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RootAccess {
    ReadWrite,
    ReadOnly,
}

/// Whether something can be mounted in the container while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrivals {
    /// No mount receives mounts from elsewhere, and nothing in a guest's container mounts.
    Impossible,
    /// The host, or another container, may mount something that appears here too.
    Possible,
}

impl Arrivals {
    /// Whether one of the mounts of a guest's container receives mounts from elsewhere.
    pub(crate) fn of(mounts: &[MountInfo]) -> std::io::Result<Self> {
        if mounts.is_empty() {
            return Err(Error::other("the kernel shows none"));
        }
        Ok(if mounts.iter().any(MountInfo::receives) {
            Self::Possible
        } else {
            Self::Impossible
        })
    }
}

/// A root file system that this process has entered.
#[derive(Debug)]
pub(crate) struct EnteredRootfs {
    pub(crate) arrivals: Arrivals,
    /// The container's own terminal, if it is to have one and has a devpts.
    pub(crate) pty: Option<Pty>,
}

/// A root file system whose mounts and devices are made, and that no process has entered yet.
#[derive(Debug)]
pub(crate) struct AssembledRootfs {
    root: ContainerRoot,
    /// Mounts that become read-only once everything in them is made.
    read_only_later: Vec<OwnedFd>,
}

impl Rootfs<'_> {
    /// Mounts everything and makes the devices.
    pub(crate) fn assemble(&self, own: &OwnCgroup) -> Result<AssembledRootfs, RootfsError> {
        self.keep_apart()?;
        let root = ContainerRoot::open(self.root).map_err(self.failed("open"))?;
        let (set, method) = self.nodes;
        if set == DeviceSet::Guest {
            attributes::change(&root, AttributeChange::NO_DEVICES, Depth::Recursive)
                .map_err(self.failed("forbid devices in"))?;
        }
        let mounter = Mounter {
            root: &root,
            label: self.label,
            devices: set,
        };
        let mut read_only_later = Vec::new();
        for mount in self.mounts {
            match &mount.source {
                PreparedSource::Tree { tree, .. } => mounter.attach(mount, tree)?,
                PreparedSource::Cgroup => {
                    read_only_later.extend(cgroup_mount::mount(&mounter, own, mount)?);
                }
                PreparedSource::New { kind, from } => {
                    read_only_later.extend(mounter.make(mount, kind, from.as_deref())?);
                }
            }
        }
        nodes::make(&root, self.devices, set, method)?;
        Ok(AssembledRootfs {
            root,
            read_only_later,
        })
    }

    /// Keeps our mounts from reaching the host, and makes the root a mount, as pivot_root(2) wants it.
    fn keep_apart(&self) -> Result<(), RootfsError> {
        let initial = sources::initial(self.propagation);
        mount_change("/", flags(initial)).map_err(self.failed("keep mounts apart from"))?;
        // A mount on a shared one would appear on the host too, and could not become the root.
        let parent = if initial.to == MountPropagationFlags::DOWNSTREAM {
            MountPropagationFlags::DOWNSTREAM
        } else {
            MountPropagationFlags::PRIVATE
        };
        self.root
            .ancestors()
            .map(|path| mount_change(path, parent))
            // Not a mount: the one that it is in is further up.
            .find(|changed| *changed != Err(Errno::INVAL))
            .unwrap_or(Ok(()))
            .map_err(self.failed("keep mounts apart from"))?;
        mount_bind_recursive(self.root, self.root).map_err(self.failed("mount"))?;
        // A guest's paths need no check if nothing can be mounted in its root file system, where no
        // option asks for that.
        if self.nodes.0 == DeviceSet::Guest && self.propagation.is_none() {
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change(self.root, private).map_err(self.failed("keep mounts out of"))?;
        }
        Ok(())
    }

    /// Makes it the root of this process, and protects what the spec says.
    pub(crate) fn enter(&self, assembled: AssembledRootfs) -> Result<EnteredRootfs, RootfsError> {
        let AssembledRootfs {
            root,
            read_only_later,
        } = assembled;
        let table = pivot(&root).map_err(self.failed("enter"))?;
        let spread = [
            MountPropagationFlags::SHARED,
            MountPropagationFlags::UNBINDABLE,
        ];
        if let Some(propagation) = self.propagation.filter(|p| spread.contains(&p.to)) {
            mount_change("/", flags(propagation)).map_err(self.failed("set the propagation of"))?;
        }
        drop(root);
        // A read-only /dev is not read-only yet. A guest has no devpts.
        let pty = match (self.streams, self.nodes.0) {
            (Streams::Terminal, DeviceSet::Program) => {
                console::open_console().map_err(self.failed("make a terminal in"))?
            }
            (Streams::Separate, _) | (Streams::Terminal, DeviceSet::Guest) => None,
        };
        for mount in read_only_later {
            attributes::change(&mount, AttributeChange::READ_ONLY, Depth::Shallow)
                .map_err(self.failed("make a mount read-only in"))?;
        }
        if self.access == RootAccess::ReadOnly {
            protect::root().map_err(self.failed("make read-only"))?;
        }
        for path in self.read_only_paths {
            protect::path(path, Protection::ReadOnly, None)?;
        }
        for path in self.masked_paths {
            protect::path(path, Protection::Hidden, self.label)?;
        }
        let arrivals = arrivals(table).map_err(self.failed("read the mounts of"))?;
        Ok(EnteredRootfs { arrivals, pty })
    }

    fn failed<E: Into<Error>>(&self, act: &'static str) -> impl FnOnce(E) -> RootfsError {
        let root = self.root.to_owned();
        move |source| RootfsError::Root {
            act,
            root,
            source: source.into(),
        }
    }
}

/// For mount(2).
fn flags(propagation: Propagation) -> MountPropagationFlags {
    match propagation.depth {
        Depth::Recursive => propagation.to | MountPropagationFlags::REC,
        Depth::Shallow => propagation.to,
    }
}

fn arrivals(mut table: File) -> std::io::Result<Arrivals> {
    let mut text = Vec::new();
    table.read_to_end(&mut text)?;
    Arrivals::of(&mountinfo::parse(&text))
}

/// Changes into `root` and unmounts everything else. Returns the table of the mounts that are left,
/// open: it shows what is mounted when it is read.
///
/// With both paths the same, the old root lies on the new one, until it is taken away.
fn pivot(root: &ContainerRoot) -> Result<File, Errno> {
    let old = openat(
        CWD,
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    fchdir(root)?;
    pivot_root(".", ".")?;
    fchdir(&old)?;
    // The host's /proc is still to be had, and this process's root is already the new one.
    let table = openat(
        &old,
        "proc/thread-self/mountinfo",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    // Otherwise the unmount would spread to the host.
    mount_change(
        ".",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    Ok(table.into())
}
