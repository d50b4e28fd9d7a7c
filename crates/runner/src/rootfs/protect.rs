//! Makes paths of the container read-only or hides them (`linux.readonlyPaths`, `linux.maskedPaths`).
//!
//! Called by the module above once the container's root is this process's root.
#![forbid(unsafe_code)]

use std::{fmt, io::Error, os::fd::OwnedFd};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, fstat, makedev, openat},
    io::Errno,
};

use super::{
    attributes, detached,
    options::{AttributeChange, Depth, MountOptions},
};

/// What is done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    ReadOnly,
    Hidden,
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "read-only",
            Self::Hidden => "invisible",
        })
    }
}

/// A path that cannot be protected.
#[derive(Debug, thiserror::Error)]
#[error("cannot make {path} {protection} in the container: {source}")]
pub(crate) struct ProtectionError {
    path: String,
    protection: Protection,
    source: Error,
}

/// Protects what is at `path`. A path that does not exist needs no protection.
pub(super) fn path(
    path: &str,
    protection: Protection,
    label: Option<&str>,
) -> Result<(), ProtectionError> {
    let protected = || -> std::io::Result<()> {
        let place = match handle(path) {
            Err(Errno::NOENT) => return Ok(()),
            place => place?,
        };
        let cover = match protection {
            Protection::ReadOnly => {
                let tree = detached::copy_of(&place, Depth::Recursive)?;
                attributes::change(&tree, AttributeChange::READ_ONLY, Depth::Shallow)?;
                tree
            }
            Protection::Hidden => cover(&place, label)?,
        };
        detached::attach(&cover, &place)
    };
    protected().map_err(|source| ProtectionError {
        path: path.to_owned(),
        protection,
        source,
    })
}

/// Makes the root itself read-only.
pub(super) fn root() -> std::io::Result<()> {
    let root = handle("/")?;
    attributes::change(&root, AttributeChange::READ_ONLY, Depth::Shallow)
}

fn handle(path: &str) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// What hides `place`: an empty directory, or the null device.
fn cover(place: &OwnedFd, label: Option<&str>) -> std::io::Result<OwnedFd> {
    if FileType::from_raw_mode(fstat(place)?.st_mode) != FileType::Directory {
        return detached::copy_of(null()?, Depth::Shallow);
    }
    let options = MountOptions {
        attributes: AttributeChange::READ_ONLY,
        ..MountOptions::default()
    };
    detached::new_filesystem("tmpfs", None, &options, label)
}

/// The container's null device, which the image must not have replaced.
fn null() -> std::io::Result<OwnedFd> {
    let null = handle("/dev/null")?;
    let stat = fstat(&null)?;
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if device && stat.st_rdev == makedev(1, 3) {
        Ok(null)
    } else {
        Err(Error::other("/dev/null is not the null device"))
    }
}
