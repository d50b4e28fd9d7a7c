//! What the plan may know of a container's files before the container exists: names, kinds and
//! contents, as they will be once the spec's mounts lie over the root filesystem.
//!
//! The root filesystem is hostile and the caller is root, so no path of it is ever given to the
//! kernel to resolve freely: [`layers`] walks it component by component, [`host`] opens each step
//! beneath an open directory.

#[cfg(test)]
pub(crate) mod fake;
mod host;
mod layers;

use std::ffi::OsString;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use self::host::RootfsView;
pub use crate::mounts::KernelFs;

use crate::error::ErrorKind;

/// A read-only look at the files of a container that is about to be made.
///
/// Paths are the container's own, absolute; symlinks are followed as the container would.
pub trait View {
    /// An open regular file, positioned at its start.
    type File: Read + Seek;

    /// Says what is at `path`.
    ///
    /// # Errors
    /// [`ViewError::NotFound`] if there is nothing, and others if it cannot be known.
    fn resolve(&self, path: &Path) -> Result<Resolved, ViewError>;

    /// Opens the regular file at `path` for reading. Anything else there is never opened.
    ///
    /// # Errors
    /// As [`View::resolve`], and [`ViewError::NotRegular`].
    fn open(&self, path: &Path) -> Result<Self::File, ViewError>;

    /// The names in the directory at `path`, sorted; no more than `most` of them, as the file system
    /// gives them. Names that are only there because a mount of the spec is are not among them.
    ///
    /// # Errors
    /// As [`View::resolve`], and [`ViewError::NotFound`] if it is no directory.
    fn names(&self, path: &Path, most: usize) -> Result<Vec<OsString>, ViewError>;

    /// What each mount of the spec becomes, in the spec's order.
    fn mounts(&self) -> &[MountPoint];
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The path without symlinks, `.` and `..`.
    pub path: PathBuf,
    /// Its kind.
    pub kind: FileKind,
    /// Whether a guest might not get there by the path it was asked for: an absolute symlink, or
    /// one that climbs, is refused by WASI hosts even where it stays beneath the root.
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
    pub content: Content,
    /// The kernel's own file systems that a recursive bind mount brings along, by their place in
    /// the container.
    pub brings: Vec<(PathBuf, KernelFs)>,
}

/// What a mount holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A directory.
    Directory,
    /// A single file.
    File,
    /// Something that a Wasm guest does not get; it stays unmounted.
    Refused(Refusal),
}

/// Why a mount is not for a Wasm guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is one of the kernel's own file systems.
    Kernel(KernelFs),
    /// It is a device node other than the few that every program needs.
    Device,
    /// It is a socket.
    Socket,
}

impl Refusal {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Kernel(fs) => fs.reason(),
            Self::Device => "a Wasm guest gets no device but null, zero, full, random and urandom",
            Self::Socket => "WASI preview 1 cannot connect to a socket",
        }
    }
}

/// Why the container's files could not be looked at.
#[derive(Debug, Error)]
pub enum ViewError {
    /// Nothing is there.
    #[error("{path:?} is not in the container: correct the path or add the file")]
    NotFound {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// Symlinks lead in a circle, or through too many of them.
    #[error("{path:?} passes through more than 40 symlinks: remove the loop from the image")]
    Loop {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// A directory, device, socket or FIFO where a file is needed.
    #[error("{path:?} is not a regular file, so it is not opened: correct the path")]
    NotRegular {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// The root filesystem is not there.
    #[error(
        "cannot open the root filesystem {path:?}: {source}; mount it before the container is created"
    )]
    Root {
        /// Where it should be.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The source of a bind mount is not there.
    #[error(
        "cannot bind {host:?} to {destination:?}: {source}; create it on the node or correct the mount"
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
    #[error("cannot bind {host:?} to {destination:?}: the source is not absolute; name it from /")]
    RelativeSource {
        /// The mount's source.
        host: PathBuf,
        /// The mount's destination.
        destination: PathBuf,
    },
    /// A mount would replace the root filesystem.
    #[error(
        "cannot mount over {destination:?}, which is the root of the container: mount beneath a directory of its own"
    )]
    MountOverRoot {
        /// The mount's destination, perhaps a symlink of the image.
        destination: PathBuf,
    },
    /// The node's own mounts could not be listed.
    #[error("cannot read the node's mounts from {path:?}: {source}; mount proc there")]
    MountTable {
        /// The table.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The kernel refused a look.
    #[error("cannot look up {path:?} in the container: {source}")]
    Io {
        /// The path that was asked for.
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
            Self::NotRegular { .. } | Self::RelativeSource { .. } | Self::MountOverRoot { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::Loop { .. }
            | Self::Root { .. }
            | Self::BindSource { .. }
            | Self::MountTable { .. }
            | Self::Io { .. } => ErrorKind::FailedPrecondition,
        }
    }
}
