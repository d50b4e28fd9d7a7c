//! Leaves a guest the five devices that every program may have, and nothing else.
//!
//! Called by `container::create` when the container's namespaces stand and its init process waits
//! for `start`. libcontainer always makes a terminal device and a few links as well; inside they
//! can no longer be removed, because the user is dropped by then, so it is done from outside,
//! through the init process's root.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
    unistd::{UnlinkatFlags, unlinkat},
};

/// What libcontainer makes beyond null, zero, full, random and urandom.
const SURPLUS: [&str; 7] = ["tty", "ptmx", "fd", "stdin", "stdout", "stderr", "core"];

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
    let root = open(
        format!("/proc/{init}/root").as_str(),
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(error(""))?;
    // The root is the image's: a /dev that is a link must not lead us out of it.
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let dev = openat2(root.as_fd(), "dev", how).map_err(error(""))?;
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
