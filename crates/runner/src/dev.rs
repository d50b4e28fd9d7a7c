//! Leaves a guest the five devices that every program may have, and nothing else.
//!
//! Called by `container::create`: [`check`] before anything is made, [`trim`] when the container's
//! namespaces stand and its init process waits for `start`. libcontainer always makes a terminal device and a few links as well; inside they
//! can no longer be removed, because the user is dropped by then, so it is done from outside,
//! through the init process's root.
#![forbid(unsafe_code)]

use std::{os::fd::AsFd, path::Path};

use nix::{
    errno::Errno,
    sys::stat::SFlag,
    unistd::{UnlinkatFlags, unlinkat},
};
use oci_spec::runtime::Mount;

use crate::inside::Root;

/// What libcontainer makes beyond null, zero, full, random and urandom.
const SURPLUS: [&str; 7] = ["tty", "ptmx", "fd", "stdin", "stdout", "stderr", "kcore"];

/// What is wrong with /dev.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevError {
    /// A device could not be taken away.
    #[error("remove /dev/{name} from the container: {source}")]
    Remove { name: &'static str, source: Errno },
    /// The image's /dev could not be looked at.
    #[error("look at /dev in the root filesystem: {0}")]
    Look(#[source] Errno),
    /// The image has something else there.
    #[error(
        "/dev in the root filesystem is a symlink or a file: devices would be made outside of the \
         container; make it a directory in the image, or remove it"
    )]
    NotADirectory,
    /// The spec mounts something of somebody's there.
    #[error(
        "a {kind} is mounted on /dev: devices would be made in it and files removed from it; mount \
         it elsewhere, or each of its files beneath /dev"
    )]
    NotOurs { kind: String },
}

/// Refuses a root file system whose /dev is anything but a directory or not there, and a mount on
/// it that outlives the container.
///
/// libcontainer makes its links in /dev, and removes a `ptmx`, by paths that it does not resolve
/// beneath the root: a symlink of the image would lead it to a directory of the host.
pub(crate) fn check(root: &Path, mounts: &[Mount]) -> Result<(), DevError> {
    let foreign = mounts
        .iter()
        .filter(|mount| mount.destination() == Path::new("/dev"))
        .map(|mount| mount.typ().as_deref().unwrap_or_default())
        .find(|kind| *kind != "tmpfs");
    if let Some(kind) = foreign {
        return Err(DevError::NotOurs {
            kind: kind.to_owned(),
        });
    }
    let root = Root::at(root).map_err(DevError::Look)?;
    match root.kind_of("dev") {
        Ok(SFlag::S_IFDIR) | Err(Errno::ENOENT) => Ok(()),
        Ok(_) => Err(DevError::NotADirectory),
        Err(error) => Err(DevError::Look(error)),
    }
}

/// Removes the surplus from /dev of the process `init`.
///
/// Nothing of `kept` is touched: names in /dev on which the spec mounts something itself.
pub(crate) fn trim(init: i32, kept: &[String]) -> Result<(), DevError> {
    let error = |name| move |source| DevError::Remove { name, source };
    let dev = Root::of_process(init)
        .and_then(|root| root.directory(Path::new("dev")))
        .map_err(error(""))?;
    for name in SURPLUS
        .into_iter()
        .filter(|name| !kept.iter().any(|k| k == name))
    {
        match unlinkat(dev.as_fd(), name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(source) => return Err(error(name)(source)),
        }
    }
    Ok(())
}
