//! From a created container to its exit code: signals go to the init process, its end comes back.

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

/// Signals that a person or a service manager means for the guest.
const FORWARDED: [c_int; 6] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];

/// The container got out of our hands.
#[derive(Debug, Error)]
pub(crate) enum SuperviseError {
    #[error("cannot catch signals: {0}")]
    Catch(#[source] io::Error),
    #[error("cannot become the parent of the container: {0}; a kernel from 3.4 can")]
    Adopt(#[source] Errno),
    #[error("cannot wait for the container's init process {pid}: {source}")]
    Wait { pid: i32, source: Errno },
}

/// Signals to this process, caught rather than blocked: a mask would be inherited by the guest.
pub(super) struct Signals(Caught);

impl Signals {
    pub(super) fn catch() -> Result<Self, SuperviseError> {
        Caught::new(FORWARDED.into_iter().chain([SIGCHLD]))
            .map(Self)
            .map_err(SuperviseError::Catch)
    }

    /// The signal that wants an end, if one came while there is no container yet.
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

/// Waits for the end of `init`, to which signals are passed on, and says its exit code.
pub(super) fn wait(init: Pid, signals: &mut Signals) -> Result<u8, SuperviseError> {
    loop {
        // Before the first wait too: the end may have come before anybody looked.
        if let Some(code) = ended(init)? {
            return Ok(code);
        }
        for signal in signals.0.wait() {
            if let (true, Ok(signal)) = (FORWARDED.contains(&signal), Signal::try_from(signal)) {
                match kill(init, signal) {
                    // It has ended; the next look says so.
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

/// The kernel hands on eight bits of an exit code.
fn low_byte(code: i32) -> u8 {
    code.to_le_bytes()[0]
}
