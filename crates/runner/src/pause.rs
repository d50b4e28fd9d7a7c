//! The pod sandbox's only process: holds the pod's namespaces and reaps orphans.
//!
//! Called by `executor` in the container. Must not touch Wasmtime: this process lives as long as
//! its pod and should need next to no memory.
#![forbid(unsafe_code)]

use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
};

/// Blocks the signal that [`wait`] waits for, so that none is missed before that.
pub(crate) fn prepare() -> nix::Result<()> {
    children().thread_block()
}

/// Waits until a signal's handler ends the process.
pub(crate) fn wait() -> nix::Result<std::convert::Infallible> {
    let children = children();
    loop {
        while matches!(
            waitpid(None, Some(WaitPidFlag::WNOHANG)),
            Ok(status) if status != WaitStatus::StillAlive
        ) {}
        match children.wait() {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn children() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set
}
