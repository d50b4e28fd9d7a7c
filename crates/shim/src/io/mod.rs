//! What a process of a container reads and writes, and the file that tells why it ended.
//!
//! | module | owns |
//! |---|---|
//! | [`stream`] | what containerd names: FIFOs, files, URIs |
//! | [`stdio`] | the open stdin, stdout and stderr of a process |
//! | [`terminal`] | the terminal that takes their place |
//! | [`termination_log`] | the file of which Kubernetes shows the content |
//!
//! Called by `launch`, `task` and `service`. Nothing here knows a task or the Task API.
#![forbid(unsafe_code)]

mod stdio;
mod stream;
mod terminal;
mod termination_log;

pub(crate) use stdio::{HeldStdio, ProcessStdio};
pub(crate) use stream::{StdioError, StdioPaths};
pub(crate) use termination_log::TerminationLog;
