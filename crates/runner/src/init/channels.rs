//! What connects the runner with the processes that it forks: two streams of reports, and libcontainer's
//! two channels.
//!
//! Made by the runner before it forks; the stage takes the children's ends.
#![forbid(unsafe_code)]

use libcontainer::process::channel::{
    ChannelError, InitReceiver, InitSender, MainReceiver, MainSender, init_channel, main_channel,
};

use super::error::{InitError, failed, of_libcontainer};
use crate::report::{self, ReportReceiver, Reporter};

/// The runner's ends.
pub(super) struct RunnerEnds {
    pub(super) from_stage: ReportReceiver,
    pub(super) from_init: ReportReceiver,
    pub(super) receiver: MainReceiver,
    pub(super) answers: InitSender,
}

/// The ends of the new processes.
pub(super) struct ChildEnds {
    pub(super) stage: Reporter,
    pub(super) init: Reporter,
    pub(super) sender: MainSender,
    pub(super) answers: InitReceiver,
}

pub(super) fn connect() -> Result<(RunnerEnds, ChildEnds), InitError> {
    let sockets = || report::pair().map_err(failed("make sockets"));
    let channels = |error: ChannelError| of_libcontainer(&error);
    let (from_stage, stage) = sockets()?;
    let (from_init, init) = sockets()?;
    let (sender, receiver) = main_channel().map_err(channels)?;
    let (to_init, answers) = init_channel().map_err(channels)?;
    let ours = RunnerEnds {
        from_stage,
        from_init,
        receiver,
        answers: to_init,
    };
    let theirs = ChildEnds {
        stage,
        init,
        sender,
        answers,
    };
    Ok((ours, theirs))
}

impl RunnerEnds {
    /// libcontainer's channels do not close by themselves.
    pub(super) fn close(self) -> Result<(), ChannelError> {
        self.receiver.close()?;
        self.answers.close()
    }
}

impl ChildEnds {
    pub(super) fn close(self) -> Result<(), ChannelError> {
        self.sender.close()?;
        self.answers.close()
    }
}
