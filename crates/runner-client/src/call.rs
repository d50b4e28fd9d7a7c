//! A running call of the runner, and its response.
//!
//! Made by [`super::spawn`], and finished by [`super::Runner`].

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    process::Child,
};

use crate::{error::RunnerError, protocol::Response};

/// A response is one line of at most this many bytes. A runner that writes more is broken. A plan holds the
/// arguments and the environment of a process, of which a request of containerd has at most 4 MiB.
const RESPONSE_MAX: u64 = 32 << 20;

/// A running call of the runner.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) child: Child,
    pub(super) response: File,
}

impl Call {
    /// Blocks until the runner has ended. It waits for that process only.
    pub(super) fn finish(mut self, verb: &'static str) -> Result<Response, RunnerError> {
        // Reads one line, not to the end of file: if the runner is killed, other processes may hold the pipe open.
        let mut line = Vec::new();
        let read = BufReader::new(self.response.take(RESPONSE_MAX)).read_until(b'\n', &mut line);
        let status = self.child.wait().map_err(RunnerError::Request)?;
        let garbled = |detail: String| RunnerError::Garbled { verb, detail };
        read.map_err(|e| garbled(e.to_string()))?;
        if line.is_empty() {
            return Err(RunnerError::Died { verb, status });
        }
        match serde_json::from_slice(&line).map_err(|e| garbled(e.to_string()))? {
            Response::Failed { reason } => Err(RunnerError::Failed { reason }),
            response => Ok(response),
        }
    }
}
