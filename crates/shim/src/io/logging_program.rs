//! A program of the node that reads the output of a container's process: `binary://` and `binary-v2://`.
//!
//! As under containerd's shim for runc, it gets the process's stdout as descriptor 3, its stderr as descriptor 4,
//! and tells by descriptor 5 that it is ready. Its environment is `CONTAINER_ID` and `CONTAINER_NAMESPACE` alone.
//! Nothing is between it and the process: it reads the other ends of the pipes that the process writes to. So it
//! reads end of file once no process has them open any more.
//!
//! It is a child of the shim and an orphan to the reaper, which reaps it whenever it ends. Here a pidfd is held,
//! which never means another process.
#![forbid(unsafe_code)]

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use log::{debug, warn};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;
use wasm_interp_runner_client::spawn_with;

use super::stream::{LoggerReadiness, ProgramUri, StdioError};
use crate::reaper::Reaper;
use crate::sys;

/// The numbers of its descriptors.
const STDOUT: i32 = 3;
const STDERR: i32 = 4;
const READY: i32 = 5;

/// How long it may take to get ready.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// How often a create is looked at that may be cancelled meanwhile.
const CANCELLED_CHECK: Duration = Duration::from_millis(100);
/// How long it may read after the end of its streams, before SIGTERM.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// How long it may take to end after SIGTERM, before SIGKILL: as under containerd's shim for runc.
const TERM_LIMIT: Duration = Duration::from_secs(12);

/// Whose output it is, and who may lose interest in it.
#[derive(Clone, Copy)]
pub(crate) struct LogContext<'a> {
    /// The container's id, or the exec's.
    pub(crate) id: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) reaper: &'a Reaper,
    /// Whether the process is not wanted any more.
    pub(crate) cancelled: &'a dyn Fn() -> bool,
}

/// A running logging program. Its drop kills it: [`Self::end`] lets it read to the end.
#[derive(Debug)]
pub(crate) struct LoggingProgram {
    path: PathBuf,
    pidfd: OwnedFd,
}

/// The ends of the pipes that the process writes to.
#[derive(Debug)]
pub(super) struct LoggedStreams {
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

impl LoggingProgram {
    /// Starts the program, and waits until it is ready.
    pub(super) fn start(
        program: &ProgramUri,
        context: &LogContext<'_>,
    ) -> Result<(Self, LoggedStreams), StdioError> {
        Self::start_within(READY_LIMIT, program, context)
    }

    fn start_within(
        limit: Duration,
        program: &ProgramUri,
        context: &LogContext<'_>,
    ) -> Result<(Self, LoggedStreams), StdioError> {
        let failed = |source: io::Error| StdioError::StartLogger {
            program: program.path.clone(),
            source,
        };
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed(errno.into()));
        let (their_stdout, stdout) = pipe()?;
        let (their_stderr, stderr) = pipe()?;
        let (ready, their_ready) = pipe()?;
        let mut command = Command::new(&program.path);
        command
            .args(&program.arguments)
            .env_clear()
            .env("CONTAINER_ID", context.id)
            .env("CONTAINER_NAMESPACE", context.namespace)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let pidfd = {
            // It may end before its pidfd is open.
            let _pause = context.reaper.pause();
            let descriptors = [
                (Some(their_stdout.as_fd()), STDOUT),
                (Some(their_stderr.as_fd()), STDERR),
                (Some(their_ready.as_fd()), READY),
            ];
            let child = spawn_with(command, descriptors).map_err(failed)?;
            sys::pidfd_open(child.id().cast_signed()).map_err(failed)?
        };
        drop((their_stdout, their_stderr, their_ready));
        let logger = Self {
            path: program.path.clone(),
            pidfd,
        };
        logger.wait_until_ready(ready, program.readiness, limit, context.cancelled)?;
        Ok((logger, LoggedStreams { stdout, stderr }))
    }

    fn wait_until_ready(
        &self,
        ready: OwnedFd,
        readiness: LoggerReadiness,
        limit: Duration,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), StdioError> {
        let program = || self.path.clone();
        let failed = |source| StdioError::StartLogger {
            program: program(),
            source,
        };
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if readable_within(&ready, left.min(CANCELLED_CHECK)).map_err(failed)? {
                break;
            }
            if cancelled() {
                return Err(StdioError::LoggerCancelled { program: program() });
            }
            if left.is_zero() {
                return Err(StdioError::LoggerTimeout {
                    program: program(),
                    readiness,
                    limit,
                });
            }
        }
        let told = std::fs::File::from(ready).read(&mut [0]).map_err(failed)?;
        match (readiness, told) {
            (LoggerReadiness::Byte, 0) => Err(StdioError::LoggerNotReady { program: program() }),
            _ => Ok(()),
        }
    }

    /// Ends the program, once the shim has closed all ends that the process wrote to. It may read to the end first.
    /// Blocks until it has ended.
    pub(crate) fn end(self) {
        if let Err(error) = self.end_within(READ_LIMIT, TERM_LIMIT) {
            warn!(program:% = self.path.display(), error:%; "cannot end a logging program");
        }
    }

    fn end_within(&self, read: Duration, term: Duration) -> io::Result<()> {
        if readable_within(&self.pidfd, read)? {
            return Ok(());
        }
        debug!(
            program:% = self.path.display();
            "a logging program goes on after the end of its streams; it gets SIGTERM"
        );
        self.signal(libc::SIGTERM)?;
        if readable_within(&self.pidfd, term)? {
            return Ok(());
        }
        warn!(
            program:% = self.path.display();
            "a logging program does not end after SIGTERM; it gets SIGKILL"
        );
        self.signal(libc::SIGKILL)?;
        // It may be in the kernel, and the caller does not depend on its end.
        readable_within(&self.pidfd, term).map(drop)
    }

    /// A program that has ended is no error.
    fn signal(&self, signal: i32) -> io::Result<()> {
        match sys::pidfd_send_signal(self.pidfd.as_fd(), signal) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for LoggingProgram {
    fn drop(&mut self) {
        if let Err(error) = self.signal(libc::SIGKILL) {
            warn!(program:% = self.path.display(), error:%; "cannot kill a logging program");
        }
    }
}

/// Whether the descriptor is readable, or becomes so within a time. A pidfd is when its process has ended.
fn readable_within(fd: &OwnedFd, limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, so that it does not spin in the last millisecond.
        let milliseconds = left.as_micros().div_ceil(1000);
        let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::Path;

    use super::*;
    use crate::reaper::tests::ALONE;

    /// Long enough for any machine, and short for a test that waits for it in vain.
    const NEVER: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(120);

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("tempdir"))
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.path(name)).expect(name)
        }

        /// A program that is a script of the shell, in which `$1` is this folder.
        fn program(&self, readiness: LoggerReadiness, script: &str) -> ProgramUri {
            ProgramUri {
                readiness,
                path: "/bin/sh".into(),
                arguments: [
                    "-c",
                    script,
                    "logger",
                    self.0.path().to_str().expect("utf-8"),
                ]
                .map(Into::into)
                .to_vec(),
            }
        }
    }

    fn start_within(
        limit: Duration,
        program: &ProgramUri,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(LoggingProgram, LoggedStreams), StdioError> {
        let context = LogContext {
            id: "the-id",
            namespace: "the-namespace",
            reaper: &Reaper::default(),
            cancelled,
        };
        LoggingProgram::start_within(limit, program, &context)
    }

    fn start(program: &ProgramUri) -> Result<(LoggingProgram, LoggedStreams), StdioError> {
        start_within(LONG, program, &|| false)
    }

    fn write(end: OwnedFd, text: &str) {
        fs::File::from(end)
            .write_all(text.as_bytes())
            .expect("write");
    }

    fn has_ended(logger: &LoggingProgram) -> bool {
        readable_within(&logger.pidfd, Duration::ZERO).expect("poll")
    }

    #[test]
    fn program_gets_streams_environment_and_no_other_descriptor() {
        let _alone = ALONE.lock();
        let folder = Folder::new();
        let program = folder.program(
            LoggerReadiness::Byte,
            "env | sort >$1/env; ls /proc/$$/fd >$1/fds; printf r >&5; exec 5>&-; \
             cat <&3 >$1/out & cat <&4 >$1/err; wait; echo all >$1/done",
        );
        let (logger, streams) = start(&program).expect("ready");
        write(streams.stdout, "one\n");
        write(streams.stderr, "two\n");
        logger.end_within(LONG, LONG).expect("end");
        assert!(has_ended(&logger));
        let text = |name| folder.text(name);
        assert_eq!((text("out"), text("err")), ("one\n".into(), "two\n".into()));
        // It was not ended by a signal.
        assert_eq!(text("done"), "all\n");
        // The shell keeps one of its own as 10.
        assert_eq!(text("fds").replace("10\n", ""), "0\n1\n2\n3\n4\n5\n");
        let env = text("env");
        // The shell's own.
        let own = |line: &&str| {
            ["PWD=", "SHLVL=", "_="]
                .iter()
                .any(|name| line.starts_with(name))
        };
        let set: Vec<_> = env.lines().filter(|line| !own(line)).collect();
        assert_eq!(
            set,
            ["CONTAINER_ID=the-id", "CONTAINER_NAMESPACE=the-namespace"]
        );
    }

    #[test]
    fn closing_descriptor_5_is_ready_also_by_dying_but_not_for_version_2() {
        let _alone = ALONE.lock();
        let folder = Folder::new();
        for script in ["exec 5>&-; cat <&3", "printf x >&5; cat <&3", "exit 3"] {
            start(&folder.program(LoggerReadiness::Closed, script)).expect(script);
        }
        start(&folder.program(LoggerReadiness::Byte, "printf x >&5; cat <&3")).expect("one byte");
        for script in ["exec 5>&-; cat <&3", "exit 3"] {
            let error = start(&folder.program(LoggerReadiness::Byte, script)).expect_err(script);
            assert!(
                matches!(error, StdioError::LoggerNotReady { .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn program_that_is_not_ready_in_time_is_killed_and_the_error_says_what_is_missing() {
        let _alone = ALONE.lock();
        let folder = Folder::new();
        for (readiness, missing) in [
            (LoggerReadiness::Closed, "it has not closed descriptor 5"),
            (
                LoggerReadiness::Byte,
                "it has not written a byte to descriptor 5",
            ),
        ] {
            let script = "while :; do sleep 0.01; done";
            let program = folder.program(readiness, script);
            let error = start_within(NEVER, &program, &|| false).expect_err("never ready");
            let text = error.to_string();
            assert!(
                text.contains("\"/bin/sh\" is not ready after 0.2 s"),
                "{text}"
            );
            assert!(text.contains(missing), "{text}");
        }
        let program = folder.program(LoggerReadiness::Closed, "while :; do sleep 0.01; done");
        let error = start_within(LONG, &program, &|| true).expect_err("cancelled");
        assert!(
            matches!(error, StdioError::LoggerCancelled { .. }),
            "{error}"
        );
        assert_no_child_is_left(folder.0.path());
    }

    #[test]
    fn program_that_cannot_be_started_is_named() {
        let _alone = ALONE.lock();
        let program = ProgramUri {
            readiness: LoggerReadiness::Closed,
            path: "/nowhere/logger".into(),
            arguments: Vec::new(),
        };
        let text = start(&program).expect_err("not there").to_string();
        let start = "cannot start the logging program \"/nowhere/logger\": No such file";
        assert!(text.starts_with(start), "{text}");
    }

    #[test]
    fn program_gets_term_after_the_end_of_its_streams_and_then_kill() {
        let _alone = ALONE.lock();
        let folder = Folder::new();
        let flushes =
            "trap 'echo flushed >$1/out; exit' TERM; exec 5>&-; while :; do sleep 0.01; done";
        let (logger, streams) =
            start(&folder.program(LoggerReadiness::Closed, flushes)).expect("ready");
        drop(streams);
        logger.end_within(Duration::ZERO, LONG).expect("end");
        assert!(has_ended(&logger));
        assert_eq!(folder.text("out"), "flushed\n");

        let ignores = "trap '' TERM; exec 5>&-; while :; do sleep 0.01; done";
        let (logger, streams) =
            start(&folder.program(LoggerReadiness::Closed, ignores)).expect("ready");
        drop(streams);
        logger.end_within(Duration::ZERO, NEVER).expect("end");
        assert!(readable_within(&logger.pidfd, LONG).expect("poll"));
        assert_no_child_is_left(folder.0.path());
    }

    /// Reaps what has ended, and waits until no child of this process names the folder.
    fn assert_no_child_is_left(folder: &Path) {
        let deadline = Instant::now() + LONG;
        let folder = folder.display().to_string();
        let named = || {
            fs::read_dir("/proc")
                .expect("/proc")
                .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
                .any(|line| String::from_utf8_lossy(&line).contains(&folder))
        };
        while named() {
            assert!(Instant::now() < deadline, "a logging program is left");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
