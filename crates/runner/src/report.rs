//! Reports of the new processes to the runner, and its permission to go on.
//!
//! Each process has a pair of sockets. If one side ends, the other reads the end of the stream.
#![forbid(unsafe_code)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
};

use serde::{Deserialize, Serialize};

/// What a process reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The init process has this number in the runner's pid namespace.
    Forked(i32),
    /// The root file system is assembled, and the runtime's hooks are due.
    HooksDue,
    /// The container is made. Its process still has to become what the spec says.
    ContainerMade,
    /// The process has failed, for this reason.
    Failed(String),
}

/// The runner's end.
pub(crate) struct ReportReceiver(BufReader<UnixStream>);

/// The other end.
pub(crate) struct Reporter(UnixStream);

/// Both ends; the second goes to the new process, by a fork.
pub(crate) fn pair() -> std::io::Result<(ReportReceiver, Reporter)> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok((ReportReceiver(BufReader::new(ours)), Reporter(theirs)))
}

impl ReportReceiver {
    /// The next report; `None` once every sender has ended.
    pub(crate) fn next(&mut self) -> std::io::Result<Option<Report>> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&line)?))
    }

    /// Lets the process that reported go on.
    pub(crate) fn go_on(&mut self) -> std::io::Result<()> {
        self.0.get_mut().write_all(b"\n")
    }
}

impl Reporter {
    pub(crate) fn report(&mut self, report: &Report) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(report)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }

    /// Waits until the runner lets this process go on. Fails if the runner ends.
    pub(crate) fn wait(&mut self) -> std::io::Result<()> {
        self.0.read_exact(&mut [0])
    }
}

impl std::os::fd::AsRawFd for Reporter {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}
