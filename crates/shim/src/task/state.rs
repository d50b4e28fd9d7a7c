//! The states of a process, and the moves between them. Pure.
//!
//! ```text
//! Created ──started──▶ Running ──exited──▶ Stopped ──deleted──▶ Deleted
//!    │       pausing │   ▲ resumed           ▲
//!    │               ▼   │                   │
//!    │            Pausing ──paused──▶ Paused │
//!    │               └────────────exited─────┤
//!    └────────────────────────────exited─────┘
//! ```
//!
//! Only an init process is paused itself: the pause freezes the whole container, so `container` derives the
//! status of the other processes. A pause that fails moves back to Running, as a resume does.
//!
//! The words of the errors are those of containerd's shim for runc.
#![forbid(unsafe_code)]

use containerd_shim_protos::api::Status;

use crate::error::Error;
use crate::reaper::Exit;

/// Where a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessState {
    /// It waits for its start.
    Created,
    /// It runs.
    Running,
    /// It runs, and is being frozen.
    Pausing,
    /// It is frozen.
    Paused,
    /// It has ended.
    Stopped(Exit),
    /// It has ended, and nothing is left of it.
    Deleted(Exit),
}

impl ProcessState {
    fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Pausing | Self::Paused => "paused",
            Self::Stopped(_) => "stopped",
            Self::Deleted(_) => "deleted",
        }
    }

    fn refuse(self, verb: &'static str) -> Error {
        Error::State {
            verb,
            state: self.name(),
        }
    }

    /// The state after a start.
    pub(super) fn started(self) -> Result<Self, Error> {
        match self {
            Self::Created => Ok(Self::Running),
            other => Err(other.refuse("start")),
        }
    }

    /// The state while the container is being paused.
    pub(super) fn pausing(self) -> Result<Self, Error> {
        match self {
            Self::Running => Ok(Self::Pausing),
            Self::Created => Err(Error::Frozen("cannot pause task in created state")),
            Self::Pausing | Self::Paused => Err(Error::Frozen("cannot pause a paused container")),
            Self::Stopped(_) | Self::Deleted(_) => {
                Err(Error::Frozen("cannot pause a stopped container"))
            }
        }
    }

    /// The state after a resumption.
    pub(super) fn resumed(self) -> Result<Self, Error> {
        match self {
            Self::Pausing | Self::Paused => Ok(Self::Running),
            Self::Created => Err(Error::Frozen("cannot resume task in created state")),
            Self::Running => Err(Error::Frozen("cannot resume a running process")),
            Self::Stopped(_) | Self::Deleted(_) => {
                Err(Error::Frozen("cannot resume a stopped container"))
            }
        }
    }

    /// The state after a deletion, and how the process ended.
    pub(super) fn deleted(self) -> Result<(Self, Exit), Error> {
        match self {
            Self::Stopped(exit) => Ok((Self::Deleted(exit), exit)),
            other => Err(other.refuse("delete")),
        }
    }

    /// The state after the end of the process. Only the first end counts.
    pub(super) fn exited(self, exit: Exit) -> Self {
        match self {
            Self::Created | Self::Running | Self::Pausing | Self::Paused => Self::Stopped(exit),
            other => other,
        }
    }

    /// How the process ended, if it has.
    pub(crate) fn exit(self) -> Option<Exit> {
        match self {
            Self::Stopped(exit) | Self::Deleted(exit) => Some(exit),
            Self::Created | Self::Running | Self::Pausing | Self::Paused => None,
        }
    }

    /// Whether the container is frozen, or is being frozen.
    pub(super) fn is_frozen(self) -> bool {
        matches!(self, Self::Pausing | Self::Paused)
    }

    /// The same in the Task API.
    pub(crate) fn status(self) -> Status {
        match self {
            Self::Created => Status::CREATED,
            Self::Running => Status::RUNNING,
            Self::Pausing => Status::PAUSING,
            Self::Paused => Status::PAUSED,
            Self::Stopped(_) => Status::STOPPED,
            Self::Deleted(_) => Status::UNKNOWN,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const EXIT: Exit = Exit {
        status: 3,
        at: UNIX_EPOCH,
    };

    #[test]
    fn process_is_started_and_deleted_in_order() {
        let running = ProcessState::Created.started().expect("start");
        assert_eq!(running.status(), Status::RUNNING);
        let stopped = running.exited(EXIT);
        assert_eq!(
            (stopped.status(), stopped.exit()),
            (Status::STOPPED, Some(EXIT))
        );
        let deleted = stopped.deleted().expect("delete");
        assert_eq!(deleted, (ProcessState::Deleted(EXIT), EXIT));
    }

    #[test]
    fn illegal_moves_are_refused_in_runcs_words() {
        let stopped = ProcessState::Stopped(EXIT);
        for (result, words) in [
            (
                ProcessState::Running.started().map(drop),
                "cannot start a running process",
            ),
            (
                stopped.started().map(drop),
                "cannot start a stopped process",
            ),
            (
                ProcessState::Running.deleted().map(drop),
                "cannot delete a running process",
            ),
            (
                ProcessState::Paused.deleted().map(drop),
                "cannot delete a paused process",
            ),
            (
                ProcessState::Paused.started().map(drop),
                "cannot start a paused process",
            ),
            (
                ProcessState::Created.pausing().map(drop),
                "cannot pause task in created state",
            ),
            (
                ProcessState::Paused.pausing().map(drop),
                "cannot pause a paused container",
            ),
            (
                stopped.pausing().map(drop),
                "cannot pause a stopped container",
            ),
            (
                ProcessState::Created.resumed().map(drop),
                "cannot resume task in created state",
            ),
            (
                ProcessState::Running.resumed().map(drop),
                "cannot resume a running process",
            ),
            (
                stopped.resumed().map(drop),
                "cannot resume a stopped container",
            ),
        ] {
            assert_eq!(result.expect_err("refused").to_string(), words);
        }
    }

    #[test]
    fn paused_process_runs_again_or_ends() {
        let pausing = ProcessState::Running.pausing().expect("pause");
        assert_eq!(pausing.status(), Status::PAUSING);
        assert!(pausing.is_frozen() && ProcessState::Paused.is_frozen());
        assert_eq!(ProcessState::Paused.status(), Status::PAUSED);
        let running = ProcessState::Paused.resumed().expect("resume");
        assert_eq!(running, ProcessState::Running);
        assert_eq!(
            ProcessState::Paused.exited(EXIT),
            ProcessState::Stopped(EXIT)
        );
        assert_eq!(ProcessState::Pausing.exited(EXIT).exit(), Some(EXIT));
    }

    #[test]
    fn only_the_first_end_counts() {
        let state = ProcessState::Created.exited(EXIT);
        let state = state.exited(Exit { status: 9, ..EXIT });
        assert_eq!(state.exit(), Some(EXIT));
    }
}
