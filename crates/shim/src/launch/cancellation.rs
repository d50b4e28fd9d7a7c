//! The runner that works for a request now, and its end if the request is given up: it may wait for something that
//! never comes, as a file system that does not answer.
//!
//! Made by `task`, for the creation of a container and for the start of a further process.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::warn;

use crate::sys;

/// The runner that works for a request, if one does.
#[derive(Debug, Default)]
pub(crate) struct CurrentRunner {
    pidfd: Mutex<Option<OwnedFd>>,
}

impl CurrentRunner {
    fn lock(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        // A panic cannot leave it half changed.
        self.pidfd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A runner has begun, which its caller has not waited for yet.
    pub(crate) fn set(&self, pid: u32) {
        match sys::pidfd_open(pid.cast_signed()) {
            Ok(pidfd) => *self.lock() = Some(pidfd),
            Err(error) => warn!(pid, error:%; "cannot open the runner; it cannot be killed"),
        }
    }

    /// It has ended.
    pub(crate) fn forget(&self) {
        *self.lock() = None;
    }

    pub(crate) fn kill(&self) {
        if let Some(pidfd) = &*self.lock()
            // It may have ended by itself.
            && let Err(error) = sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL)
            && error.raw_os_error() != Some(libc::ESRCH)
        {
            warn!(error:%; "cannot kill the runner of a request that is given up");
        }
    }
}

/// Whether a client has cancelled the creation of a container.
#[derive(Debug, Default)]
pub(crate) struct Cancellation {
    cancelled: Arc<AtomicBool>,
    runner: CurrentRunner,
}

impl Cancellation {
    /// Ends the runner that works on the creation. Compiles go on: their results serve the next container.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        self.runner.kill();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// What [`Self::is_cancelled`] reads, for a step that looks at it while it works.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancelled)
    }

    /// A runner has begun to make the container. If that is cancelled already, it is killed.
    pub(super) fn set_runner(&self, pid: u32) {
        self.runner.set(pid);
        if self.is_cancelled() {
            self.runner.kill();
        }
    }

    /// The runner has ended.
    pub(super) fn forget_runner(&self) {
        self.runner.forget();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Child, Command};

    use super::*;

    fn runner() -> Child {
        Command::new("sleep").arg("1000").spawn().expect("spawn")
    }

    #[test]
    fn cancelled_creation_kills_its_runner_whichever_comes_first() {
        let _alone = crate::reaper::tests::ALONE.lock();
        for cancelled_before in [false, true] {
            let cancellation = Cancellation::default();
            let mut runner = runner();
            if cancelled_before {
                cancellation.cancel();
            }
            cancellation.set_runner(runner.id());
            if !cancelled_before {
                cancellation.cancel();
            }
            let status = runner.wait().expect("wait");
            assert_eq!(status.signal(), Some(libc::SIGKILL));
            // It has ended, or is forgotten.
            cancellation.cancel();
            cancellation.forget_runner();
            cancellation.cancel();
        }
    }
}
