//! The states of a task, one type each: a move that is not a method does not exist.
//!
//! ```text
//! Created ──started──▶ Running ──exited──▶ Stopped ──deleted──▶ Deleted
//!    └───────────────────exited──────────────▲
//! ```
//!
//! Used by `task`. Knows no process; the words of the errors are those of runc's shim.
#![forbid(unsafe_code)]

use containerd_shim_protos::api::Status;

use crate::error::Error;
use crate::exits::Exit;

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Created(Created),
    Running(Running),
    Stopped(Stopped),
    Deleted(Deleted),
}

/// The init process waits for its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Created;

/// The guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Running;

/// The init process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    pub(crate) exit: Exit,
}

/// Nothing is left but this word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deleted;

impl Created {
    pub(crate) fn started(self) -> Running {
        Running
    }
}

impl Stopped {
    pub(crate) fn deleted(self) -> Deleted {
        Deleted
    }
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            State::Created(_) => "created",
            State::Running(_) => "running",
            State::Stopped(_) => "stopped",
            State::Deleted(_) => "deleted",
        }
    }

    fn refuse(&self, verb: &'static str) -> Error {
        Error::State {
            verb,
            state: self.name(),
        }
    }

    /// What `start` needs.
    pub(crate) fn startable(&self) -> Result<Created, Error> {
        match self {
            State::Created(created) => Ok(*created),
            other => Err(other.refuse("start")),
        }
    }

    /// What `delete` needs.
    pub(crate) fn deletable(&self) -> Result<Stopped, Error> {
        match self {
            State::Stopped(stopped) => Ok(*stopped),
            other => Err(other.refuse("delete")),
        }
    }

    /// The init process has ended, whatever it was doing. Only the first end counts.
    pub(crate) fn exited(&mut self, exit: Exit) {
        if matches!(self, State::Created(_) | State::Running(_)) {
            *self = State::Stopped(Stopped { exit });
        }
    }

    /// How it ended, if it has.
    pub(crate) fn exit(&self) -> Option<Exit> {
        match self {
            State::Stopped(stopped) => Some(stopped.exit),
            State::Created(_) | State::Running(_) | State::Deleted(_) => None,
        }
    }

    /// containerd's word for it.
    pub(crate) fn status(&self) -> Status {
        match self {
            State::Created(_) => Status::CREATED,
            State::Running(_) => Status::RUNNING,
            State::Stopped(_) => Status::STOPPED,
            State::Deleted(_) => Status::UNKNOWN,
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
    fn illegal_moves_are_refused_in_runcs_words() {
        let running = State::Running(Created.started());
        let stopped = State::Stopped(Stopped { exit: EXIT });
        for (result, words) in [
            (
                running.startable().map(drop),
                "cannot start a running process",
            ),
            (
                stopped.startable().map(drop),
                "cannot start a stopped process",
            ),
            (
                running.deletable().map(drop),
                "cannot delete a running process",
            ),
        ] {
            assert_eq!(result.expect_err("refused").to_string(), words);
        }
    }

    #[test]
    fn the_first_end_counts() {
        let mut state = State::Created(Created);
        state.exited(EXIT);
        state.exited(Exit { status: 9, ..EXIT });
        assert_eq!(state.exit(), Some(EXIT));
        assert_eq!(state.status(), Status::STOPPED);
    }
}
