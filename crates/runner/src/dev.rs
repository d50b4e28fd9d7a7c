//! Refuses an image whose /dev is a symlink or a file.
//!
//! Called by `container::create` before anything is made; `spec` has checked what is mounted on /dev.
#![forbid(unsafe_code)]

use std::path::Path;

use rustix::{fs::FileType, io::Errno};

use crate::container_root::ContainerRoot;

/// What is wrong with /dev.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootfsDevError {
    /// The image's /dev could not be looked at.
    #[error("cannot look at /dev in the root filesystem: {0}")]
    Look(#[source] Errno),
    /// The image's /dev is a symlink or a file.
    #[error(
        "cannot make devices: /dev in the root filesystem is a symlink or a file, which may lead \
         out of the container; make it a directory in the image, or remove it"
    )]
    NotADirectory,
}

/// Refuses a root file system whose /dev exists and is not a directory.
///
/// Devices never leave the container's root, but with such a /dev they would be where no program looks
/// for them.
pub(crate) fn check(root: &Path) -> Result<(), RootfsDevError> {
    let root = ContainerRoot::open(root).map_err(RootfsDevError::Look)?;
    match root.kind_of("dev") {
        Ok(FileType::Directory) | Err(Errno::NOENT) => Ok(()),
        Ok(_) => Err(RootfsDevError::NotADirectory),
        Err(error) => Err(RootfsDevError::Look(error)),
    }
}
