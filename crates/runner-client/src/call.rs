//! A running call of the runner, and its response.
//!
//! Made by [`super::spawn`], and finished by [`super::Runner`].

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
    os::fd::AsFd,
    process::Child,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::retry_on_intr,
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{error::RunnerError, protocol::Response};

/// A response is one line of at most this many bytes. A runner that writes more is broken. A plan holds the
/// arguments and the environment of a process, of which a request of containerd has at most 4 MiB.
const RESPONSE_MAX: usize = 32 << 20;

/// A running call of the runner.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) child: Child,
    pub(super) response: File,
}

impl Call {
    /// Blocks until the runner has ended. It waits for that process only.
    pub(super) fn finish(self, verb: &'static str) -> Result<Response, RunnerError> {
        let Self {
            mut child,
            response,
        } = self;
        // Closed then, so that a runner that writes more does not wait for a reader.
        let read = line(&child, response);
        let status = child.wait().map_err(RunnerError::Request)?;
        let garbled = |detail: String| RunnerError::Garbled { verb, detail };
        let line = read.map_err(|e| garbled(e.to_string()))?;
        if line.is_empty() {
            return Err(RunnerError::Died { verb, status });
        }
        match serde_json::from_slice(&line).map_err(|e| garbled(e.to_string()))? {
            Response::Failed { reason } => Err(RunnerError::Failed { reason }),
            response => Ok(response),
        }
    }
}

/// Reads one line. Not to the end of file, and not after the end of the runner: if that is killed, other processes may
/// hold the pipe open, and one of them may wait for something that never comes.
fn line(runner: &Child, mut response: File) -> io::Result<Vec<u8>> {
    // Without a descriptor to spare: to the end of the line or of the file.
    let Ok(runner) = pidfd_open(Pid::from_child(runner), PidfdFlags::empty()) else {
        let mut line = Vec::new();
        let most = u64::try_from(RESPONSE_MAX).unwrap_or(u64::MAX);
        BufReader::new(response.take(most)).read_until(b'\n', &mut line)?;
        line.pop_if(|last| *last == b'\n');
        return Ok(line);
    };
    let now = Timespec::default();
    let mut line = Vec::new();
    let mut chunk = [0; 16 * 1024];
    while line.len() < RESPONSE_MAX {
        // Looked at before the pipe, which then holds all that it wrote.
        let has_ended = is_first_ready(&mut [entry(&runner)], Some(&now))?;
        let mut both = [entry(&response), entry(&runner)];
        let is_there = is_first_ready(&mut both, has_ended.then_some(&now))?;
        match (is_there, has_ended) {
            (true, _) => {}
            (false, true) => break,
            (false, false) => continue,
        }
        let count = response.read(&mut chunk)?;
        let read = &chunk[..count];
        match read.iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                line.extend_from_slice(&read[..end]);
                break;
            }
            None if count == 0 => break,
            None => line.extend_from_slice(read),
        }
    }
    Ok(line)
}

fn entry(file: &impl AsFd) -> PollFd<'_> {
    PollFd::new(file, PollFlags::IN)
}

/// Waits for one of the files. Whether the first is ready.
fn is_first_ready(files: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> io::Result<bool> {
    retry_on_intr(|| poll(files, timeout))?;
    Ok(!files[0].revents().is_empty())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{PipeWriter, Write as _, pipe},
        os::fd::OwnedFd,
        process::Command,
        thread,
        time::Duration,
    };

    use rustix::process::{Signal, kill_process};

    use super::*;

    /// A runner that is this script, and the end of the pipe that another process may hold.
    fn call(script: &str) -> (Call, PipeWriter) {
        let (response, writer) = pipe().expect("a pipe");
        let own = writer.try_clone().expect("a duplicate");
        let mut command = Command::new("sh");
        let child = command.args(["-c", script]).stdout(own).spawn();
        let call = Call {
            child: child.expect("spawn"),
            response: File::from(OwnedFd::from(response)),
        };
        (call, writer)
    }

    #[test]
    fn killed_runner_has_no_response_although_others_hold_the_pipe() {
        let (call, mut other) = call("exec sleep 1000");
        let pid = Pid::from_child(&call.child);
        let finished = thread::spawn(|| call.finish("create"));
        thread::sleep(Duration::from_millis(20));
        kill_process(pid, Signal::KILL).expect("kill");
        let error = finished.join().expect("join").expect_err("killed");
        assert!(matches!(error, RunnerError::Died { .. }), "{error}");
        other.write_all(b"still open").expect_err("no reader");
    }

    #[test]
    fn response_is_read_whole_whether_or_not_the_runner_has_ended() {
        // In two writes, of which the second comes later: right before its end, and some time before.
        for script in [
            r#"printf '{"answer":'; sleep 0.02; echo '"started"}'"#,
            r#"printf '{"answer":'; sleep 0.02; echo '"started"}'; sleep 0.02"#,
        ] {
            let (call, _other) = call(script);
            let response = call.finish("start").expect("a response");
            assert!(matches!(response, Response::Started), "{response:?}");
        }
        // More than a pipe holds.
        let reason = "x".repeat(100_000);
        let script = format!(r#"echo '{{"answer":"failed","reason":"{reason}"}}'"#);
        let (call, _other) = call(&script);
        let error = call.finish("start").expect_err("it says so");
        assert_eq!(error.to_string(), reason);
    }
}
