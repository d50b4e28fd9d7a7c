//! What a process of a container reads and writes, and the file that tells why it ended.
//!
//! | module | owns |
//! |---|---|
//! | [`stream`] | what containerd names: FIFOs, files, URIs |
//! | [`stdio`] | the open stdin, stdout and stderr of a process |
//! | [`fifo`] | an output FIFO, and the client that has not come yet |
//! | [`log_file`] | a log file, and the pipe between it and the process |
//! | [`logging_program`] | a program of the node that reads the output |
//! | [`terminal`] | the terminal that takes their place |
//! | [`termination_log`] | the file of which Kubernetes shows the content |
//!
//! Called by `launch`, `task` and `service`. Nothing here knows a task or the Task API.
#![forbid(unsafe_code)]

mod fifo;
mod log_file;
mod logging_program;
mod stdio;
mod stream;
mod terminal;
mod termination_log;

pub(crate) use logging_program::LogContext;
pub(crate) use stdio::{HeldStdio, ProcessStdio};
pub(crate) use stream::{StdioError, StdioPaths};
pub(crate) use termination_log::TerminationLog;
