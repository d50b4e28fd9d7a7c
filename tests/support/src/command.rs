//! Runs a command with a time limit and keeps what it wrote. Knows nothing of containers.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Outcome;

/// How long anything may take before a test says that it hangs. Far above what is normal: a hint
/// that something is stuck, never a measure of speed.
pub const LIVENESS: Duration = Duration::from_secs(180);

/// What a finished command left.
pub struct Finished {
    command: String,
    /// Exit code; 128+n if a signal ended it.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Finished {
    /// Fails with everything known, unless the exit code is `code`.
    pub fn expect_code(self, code: i32) -> Outcome<Self> {
        if self.code == code {
            return Ok(self);
        }
        Err(format!("expected exit code {code}: {self}").into())
    }

    /// Fails unless the command failed.
    pub fn expect_failure(self) -> Outcome<Self> {
        if self.code != 0 {
            return Ok(self);
        }
        Err(format!("expected a failure: {self}").into())
    }

    /// Fails unless standard output has `text`.
    pub fn expect_stdout(self, text: &str) -> Outcome<Self> {
        if self.stdout.contains(text) {
            return Ok(self);
        }
        Err(format!("expected {text:?} on stdout: {self}").into())
    }

    /// Fails unless standard error has every one of `texts`, whatever their case.
    pub fn expect_stderr(self, texts: &[&str]) -> Outcome<Self> {
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
pub struct Running {
    command: String,
    child: Child,
    /// Open as long as more is to be written.
    stdin: Option<ChildStdin>,
    stdout: File,
    stderr: File,
}

impl Running {
    /// Starts `command` in a process group of its own, so that a Ctrl-C reaches only this program.
    pub fn start(command: Command, stdin: Option<&[u8]>) -> Outcome<Self> {
        let input = if stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let mut running = Self::spawn(command, input)?;
        if let Some(bytes) = stdin {
            running.write(bytes)?;
            // Which is end of file.
            running.stdin = None;
        }
        Ok(running)
    }

    /// The same on a terminal of its own, on which [`Self::write`] types. Its standard output is what the
    /// terminal shows.
    pub fn start_on_a_terminal(command: &Command) -> Outcome<Self> {
        let words: Vec<String> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| format!("'{}'", word.display().to_string().replace('\'', r"'\''")))
            .collect();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command"]);
        script.args([&words.join(" "), "/dev/null"]);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        Self::spawn(script, Stdio::piped())
    }

    fn spawn(mut command: Command, stdin: Stdio) -> Outcome<Self> {
        let text = format!("{command:?}");
        let stdout = tempfile::tempfile()?;
        let stderr = tempfile::tempfile()?;
        let mut child = command
            .process_group(0)
            .stdin(stdin)
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            .spawn()
            .map_err(|error| format!("cannot run {text}: {error}"))?;
        Ok(Self {
            command: text,
            stdin: child.stdin.take(),
            child,
            stdout,
            stderr,
        })
    }

    /// Writes to its standard input: small enough for a pipe's buffer in every trial.
    pub fn write(&mut self, bytes: &[u8]) -> Outcome {
        let stdin = self.stdin.as_mut().ok_or("its standard input is closed")?;
        stdin.write_all(bytes)?;
        Ok(())
    }

    /// Waits until it has written `text` to standard output, after what `seen` counts. Counts what it
    /// waited for.
    pub fn wait_for_stdout(&self, text: &str, seen: &mut usize) -> Outcome {
        wait_for(&format!("{text:?} from {}", self.command), || {
            let all = self.stdout()?;
            let found = all.get(*seen..).and_then(|rest| rest.find(text));
            Ok(found.map(|at| *seen += at + text.len()))
        })
        .map_err(|_| {
            let all = self.stdout().unwrap_or_default();
            format!("{text:?} did not come from {}, but:\n{all}", self.command).into()
        })
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> Outcome<String> {
        read(&self.stdout)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Outcome {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        Ok(kill(pid, signal)?)
    }

    /// How much it has written to standard output so far.
    pub fn written(&self) -> Outcome<u64> {
        Ok(self.stdout.metadata()?.len())
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Outcome<Finished> {
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
    pub fn end(mut self) -> Outcome<Finished> {
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
pub fn run(command: Command, stdin: Option<&[u8]>) -> Outcome<Finished> {
    Running::start(command, stdin)?.finish()
}

/// Starts a daemon that writes to the end of the file `log`.
pub fn start_daemon(mut command: Command, log: &Path) -> Outcome<Child> {
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    command
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot run {command:?}: {error}").into())
}

/// Asks until the answer is there; `what` completes "waited in vain for …".
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
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
