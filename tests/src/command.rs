//! Runs a command with a time limit and keeps what it wrote. Knows nothing of containers.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;

/// How long anything may take before a test says that it hangs. Far above what is normal: a hint
/// that something is stuck, never a measure of speed.
pub(crate) const LIVENESS: Duration = Duration::from_secs(180);

/// What a finished command left.
pub(crate) struct Finished {
    command: String,
    /// Exit code; 128+n if a signal ended it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Fails with everything known, unless the exit code is `code`.
    pub(crate) fn expect_code(self, code: i32) -> Outcome<Self> {
        if self.code == code {
            return Ok(self);
        }
        Err(format!("expected exit code {code}: {self}").into())
    }

    /// Fails unless the command failed.
    pub(crate) fn expect_failure(self) -> Outcome<Self> {
        if self.code != 0 {
            return Ok(self);
        }
        Err(format!("expected a failure: {self}").into())
    }

    /// Fails unless standard output has `text`.
    pub(crate) fn expect_stdout(self, text: &str) -> Outcome<Self> {
        if self.stdout.contains(text) {
            return Ok(self);
        }
        Err(format!("expected {text:?} on stdout: {self}").into())
    }

    /// Fails unless standard error has every one of `texts`, whatever their case.
    pub(crate) fn expect_stderr(self, texts: &[&str]) -> Outcome<Self> {
        let stderr = self.stderr.to_lowercase();
        for text in texts {
            if !stderr.contains(&text.to_lowercase()) {
                return Err(format!("expected {text:?} on stderr: {self}").into());
            }
        }
        Ok(self)
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            command,
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "{command}\nexit code {code}\n--- stdout\n{stdout}--- stderr\n{stderr}---"
        )
    }
}

/// A command under way.
pub(crate) struct Running {
    command: String,
    child: Child,
    stdout: File,
    stderr: File,
}

impl Running {
    /// Starts `command` in a process group of its own, so that a Ctrl-C reaches only this program.
    pub(crate) fn start(mut command: Command, stdin: Option<&[u8]>) -> Outcome<Self> {
        let text = format!("{command:?}");
        let stdout = tempfile::tempfile()?;
        let stderr = tempfile::tempfile()?;
        command
            .process_group(0)
            .stdin(if stdin.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?);
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot run {text}: {error}"))?;
        if let (Some(bytes), Some(mut pipe)) = (stdin, child.stdin.take()) {
            // Small enough for a pipe's buffer in every trial; dropped here, which is end of file.
            pipe.write_all(bytes)?;
        }
        Ok(Self {
            command: text,
            child,
            stdout,
            stderr,
        })
    }

    /// What it has written to standard output so far.
    pub(crate) fn stdout(&self) -> Outcome<String> {
        read(&self.stdout)
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Outcome<Finished> {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if began.elapsed() > LIVENESS {
                self.child.kill()?;
                self.child.wait()?;
                let finished = self.finished(124)?;
                return Err(format!("no end after {LIVENESS:?}: {finished}").into());
            }
            thread::sleep(Duration::from_millis(5));
        };
        self.finished(code(status))
    }

    /// Ends it and returns what it wrote.
    pub(crate) fn end(mut self) -> Outcome<Finished> {
        self.child.kill()?;
        let status = self.child.wait()?;
        self.finished(code(status))
    }

    fn finished(&self, code: i32) -> Outcome<Finished> {
        Ok(Finished {
            command: self.command.clone(),
            code,
            stdout: read(&self.stdout)?,
            stderr: read(&self.stderr)?,
        })
    }
}

/// Runs `command` to its end.
pub(crate) fn run(command: Command, stdin: Option<&[u8]>) -> Outcome<Finished> {
    Running::start(command, stdin)?.finish()
}

/// Asks until the answer is there; `what` completes "waited in vain for …".
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if began.elapsed() > LIVENESS {
            return Err(format!("waited in vain for {what}").into());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}

// By position: the child writes through the same description, whose offset must stay its own.
fn read(file: &File) -> Outcome<String> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len())?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
