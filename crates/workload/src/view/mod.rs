//! A view of a container's files before the container exists: names, kinds and contents, as they will
//! be once the spec's mounts are made over the root filesystem.
//!
//! The root filesystem is hostile and the caller is root. So the kernel never resolves a whole path of
//! it: [`layers`] walks the path component by component, and [`host`] opens each step beneath an open
//! directory.

#[cfg(any(test, fuzzing))]
pub(crate) mod fake;
mod host;
mod layers;

use std::ffi::OsString;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use self::host::{RootfsView, mount_places, open_root};
pub use crate::mounts::KernelFs;

use crate::causes::quoted;
use crate::error_kind::ErrorKind;
use crate::mounts::PATH_MAX;

/// A read-only view of the files of a container that is about to be made.
///
/// Paths are absolute paths in the container. Symlinks are followed as in the container.
pub trait View {
    /// An open regular file, positioned at its start.
    type File: Read + Seek;

    /// Finds what is at `path`.
    ///
    /// # Errors
    /// [`ViewError::NotFound`] if nothing is there, others if the lookup fails.
    fn resolve(&self, path: &Path) -> Result<Resolved, ViewError>;

    /// Opens the regular file at `path` for reading. Other kinds of files are never opened.
    ///
    /// # Errors
    /// As [`View::resolve`], and [`ViewError::NotRegular`].
    fn open(&self, path: &Path) -> Result<Self::File, ViewError>;

    /// The names in the directory at `path`, sorted: the first `most` that the file system lists. Names
    /// that exist only because of a mount of the spec are not listed.
    ///
    /// # Errors
    /// As [`View::resolve`], and [`ViewError::NotFound`] if it is not a directory.
    fn names(&self, path: &Path, most: usize) -> Result<Vec<OsString>, ViewError>;

    /// What each mount of the spec becomes, in the spec's order.
    fn mounts(&self) -> &[MountPoint];

    /// Whose network the container has.
    ///
    /// # Errors
    /// [`ViewError::Network`] if that cannot be said.
    fn network(&self) -> Result<HostNetwork, ViewError>;
}

/// Whether a container shares the network of its node: a pod with `hostNetwork`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostNetwork {
    /// It has the node's.
    Shared,
    /// It has its own, or its pod's.
    Separate,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The path without symlinks, `.` and `..`.
    pub path: PathBuf,
    /// Its kind.
    pub kind: FileKind,
    /// Whether a guest may be unable to use the requested path: WASI hosts refuse a symlink that is
    /// absolute or that climbs, even if it stays beneath the root.
    pub detour: bool,
}

/// Kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular,
    /// A device, socket or FIFO.
    Other,
}

/// What a mount of the spec becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// Its destination without symlinks, `.` and `..`.
    pub path: PathBuf,
    /// What is there.
    pub content: MountContent,
    /// The kernel's own file systems that come with a recursive bind mount, as paths in the
    /// container.
    pub brings: Vec<(PathBuf, KernelFs)>,
}

/// The content of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountContent {
    /// A directory.
    Directory,
    /// A single file.
    File,
    /// Something that a Wasm guest does not get. It is not mounted.
    Refused(MountRefusal),
}

/// Why a Wasm guest does not get a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountRefusal {
    /// It is one of the kernel's own file systems.
    Kernel(KernelFs),
    /// It is a device node other than the few that every program needs.
    Device,
    /// It is a socket.
    Socket,
}

impl MountRefusal {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Kernel(fs) => fs.reason(),
            Self::Device => "a Wasm guest gets no device but null, zero, full, random and urandom",
            Self::Socket => "no rule lets it connect to this socket",
        }
    }
}

/// Why a lookup in the container's files failed.
#[derive(Debug, Error)]
pub enum ViewError {
    /// Nothing is there.
    #[error(
        "cannot find {path} in the container: it does not exist; correct the path or add the file",
        path = quoted(path)
    )]
    NotFound {
        /// The requested path.
        path: PathBuf,
    },
    /// The path passes through too many symlinks, or through a loop of them.
    #[error(
        "cannot look up {path} in the container: it passes through more than 40 symlinks; remove \
         the loop from the image",
        path = quoted(path)
    )]
    Loop {
        /// The requested path.
        path: PathBuf,
    },
    /// The look-ups of this container together have cost too much.
    #[error(
        "cannot look up {path} in the container: its paths lead through too many directories and \
         symlinks; give the image and the mounts shorter paths and PATH fewer directories",
        path = quoted(path)
    )]
    TooMuchWork {
        /// The requested path.
        path: PathBuf,
    },
    /// The caller does not want the result any more.
    #[error("cannot look up the container's files: the request was cancelled; repeat it")]
    Cancelled,
    /// A directory, device, socket or FIFO where a file is needed.
    #[error(
        "cannot open {path} in the container: it is not a regular file; correct the path",
        path = quoted(path)
    )]
    NotRegular {
        /// The requested path.
        path: PathBuf,
    },
    /// The root filesystem cannot be opened.
    #[error(
        "cannot open the root filesystem {path}: {source}; mount it before the container is \
         created",
        path = quoted(path)
    )]
    Root {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The source of a bind mount cannot be opened.
    #[error(
        "cannot bind {host} to {destination}: {source}; create it on the node or correct the \
         mount",
        host = quoted(host),
        destination = quoted(destination)
    )]
    BindSource {
        /// The mount's source.
        host: PathBuf,
        /// The mount's destination.
        destination: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The source of a bind mount is relative.
    #[error(
        "cannot bind {host} to {destination}: the source is not absolute; name it from /",
        host = quoted(host),
        destination = quoted(destination)
    )]
    RelativeSource {
        /// The mount's source.
        host: PathBuf,
        /// The mount's destination.
        destination: PathBuf,
    },
    /// The spec has too many mounts.
    #[error("cannot make {count} mounts: a container has {most} at most; mount their parents")]
    TooManyMounts {
        /// How many it has.
        count: usize,
        /// The limit.
        most: usize,
    },
    /// A mount's place is longer than a path may be.
    #[error(
        "cannot mount over {destination}: its path has {PATH_MAX} bytes or more, which is more \
         than Linux takes; give it a shorter destination",
        destination = quoted(destination)
    )]
    LongDestination {
        /// The mount's destination.
        destination: PathBuf,
    },
    /// A mount would replace the root filesystem.
    #[error(
        "cannot mount over {destination}: it is the root of the container; mount on a \
         directory beneath it",
        destination = quoted(destination)
    )]
    MountOverRoot {
        /// The mount's destination, perhaps a symlink of the image.
        destination: PathBuf,
    },
    /// The node's own mounts could not be listed.
    #[error(
        "cannot read the node's mounts from {path}: {source}; mount proc there",
        path = quoted(path)
    )]
    MountTable {
        /// The table.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The network namespace of the container cannot be looked at.
    #[error(
        "cannot look at the network namespace {path}: {source}; create it before the container \
         is created",
        path = quoted(path)
    )]
    Network {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A system call failed.
    #[error(
        "cannot look up {path} in the container: {source}; check the file system beneath it",
        path = quoted(path)
    )]
    Io {
        /// The requested path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl ViewError {
    /// The class that a caller's protocol reports.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::NotRegular { .. }
            | Self::RelativeSource { .. }
            | Self::TooManyMounts { .. }
            | Self::LongDestination { .. }
            | Self::MountOverRoot { .. } => ErrorKind::InvalidArgument,
            Self::Loop { .. }
            | Self::TooMuchWork { .. }
            | Self::Cancelled
            | Self::Root { .. }
            | Self::BindSource { .. }
            | Self::MountTable { .. }
            | Self::Network { .. }
            | Self::Io { .. } => ErrorKind::FailedPrecondition,
        }
    }
}
