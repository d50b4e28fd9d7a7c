//! Supervises a created container: forwards signals to its init process, and returns its exit code.

use std::io;
use std::os::raw::c_int;

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals as Caught;
use thiserror::Error;

/// Signals that are forwarded to the guest: users and service managers send them.
const FORWARDED: [c_int; 6] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];

/// Why the container cannot be supervised.
#[derive(Debug, Error)]
pub(crate) enum SuperviseError {
    #[error("cannot catch signals: {0}; raise the limit of open files (ulimit -n)")]
    Catch(#[source] io::Error),
    #[error("cannot become the parent of the container: {0}; use Linux 3.4 or later")]
    Adopt(#[source] Errno),
    #[error(
        "cannot wait for the container's init process {pid}: {source}; end it with kill if it \
         still runs"
    )]
    Wait { pid: i32, source: Errno },
}

/// Signals to this process. They are caught rather than blocked, because the guest would inherit a mask.
pub(super) struct Signals(Caught);

impl Signals {
    pub(super) fn catch() -> Result<Self, SuperviseError> {
        Caught::new(FORWARDED.into_iter().chain([SIGCHLD]))
            .map(Self)
            .map_err(SuperviseError::Catch)
    }

    /// A pending signal that asks this process to end. For the time before there is a container.
    pub(super) fn ending(&mut self) -> Option<c_int> {
        self.0
            .pending()
            .find(|signal| [SIGTERM, SIGINT, SIGHUP, SIGQUIT].contains(signal))
    }
}

/// Runs `create`, whose container becomes a child of this process.
pub(super) fn adopt<E: From<SuperviseError>>(
    create: impl FnOnce() -> Result<i32, E>,
) -> Result<Pid, E> {
    set_child_subreaper(true).map_err(SuperviseError::Adopt)?;
    create().map(Pid::from_raw)
}

/// Forwards signals to `init` until it ends, and returns its exit code.
pub(super) fn wait(init: Pid, signals: &mut Signals) -> Result<u8, SuperviseError> {
    loop {
        // Before the first wait too, because the process may have ended already.
        if let Some(code) = ended(init)? {
            return Ok(code);
        }
        for signal in signals.0.wait() {
            if let (true, Ok(signal)) = (FORWARDED.contains(&signal), Signal::try_from(signal)) {
                match kill(init, signal) {
                    // The process has ended; the next check finds that.
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(source) => {
                        return Err(SuperviseError::Wait {
                            pid: init.as_raw(),
                            source,
                        });
                    }
                }
            }
        }
    }
}

fn ended(init: Pid) -> Result<Option<u8>, SuperviseError> {
    match waitpid(init, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => Ok(Some(low_byte(code))),
        Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Some(low_byte(128 + signal as i32))),
        Ok(_) | Err(Errno::EINTR) => Ok(None),
        Err(source) => Err(SuperviseError::Wait {
            pid: init.as_raw(),
            source,
        }),
    }
}

/// The kernel keeps eight bits of an exit code.
fn low_byte(code: i32) -> u8 {
    code.to_le_bytes()[0]
}
