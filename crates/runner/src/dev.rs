//! Leaves a guest the five devices that every program may have, and nothing else.
//!
//! Called by `container::create` when the container's namespaces stand and its init process waits
//! for `start`. libcontainer always makes a terminal device and a few links as well; inside they
//! can no longer be removed, because the user is dropped by then, so it is done from outside,
//! through the init process's root.
#![forbid(unsafe_code)]

use std::{os::fd::AsFd, path::Path};

use nix::{
    errno::Errno,
    unistd::{UnlinkatFlags, unlinkat},
};

use crate::inside::Root;

/// What libcontainer makes beyond null, zero, full, random and urandom.
const SURPLUS: [&str; 7] = ["tty", "ptmx", "fd", "stdin", "stdout", "stderr", "kcore"];

/// A device could not be taken away.
#[derive(Debug, thiserror::Error)]
#[error("remove /dev/{name} from the container: {source}")]
pub(crate) struct DevError {
    name: &'static str,
    source: Errno,
}

/// Removes the surplus from /dev of the process `init`.
///
/// Nothing of `kept` is touched: names in /dev on which the spec mounts something itself.
pub(crate) fn trim(init: i32, kept: &[String]) -> Result<(), DevError> {
    let error = |name| move |source| DevError { name, source };
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
