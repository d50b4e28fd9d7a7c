//! The open stdin, stdout and stderr of a process.
//!
//! The process gets the ends of containerd's FIFOs themselves, so nothing is copied. The shim holds:
//!
//! - A **read end** of stdout and of stderr, which it never reads ([`super::fifo`]). While containerd restarts, the
//!   process may meet a full pipe, but never a broken one.
//! - A **write end** of stdin. A process that reads before a client has opened its end waits, instead
//!   of reading end of file. The verb `closeIO` closes it.
//!
//! | stdout or stderr | the process writes to | which is read by |
//! |---|---|---|
//! | a FIFO | the FIFO | its client |
//! | a file, `file://` | a pipe | the shim, which copies ([`super::log_file`]) |
//! | `binary://`, `binary-v2://` | two pipes | a program of the node ([`super::logging_program`]) |
//! | no name | `/dev/null` | |
//!
//! A process with a terminal gets that as all three. Then the shim copies ([`super::terminal`]).
//!
//! No descriptor of the process is `O_NONBLOCK`. That flag belongs to the open file description, so
//! the process and other holders of the descriptor would share it.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use log::warn;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Gid, Uid, fchown};

use super::fifo::{HeldForClient, LateClient, OutputFifo};
use super::log_file::{LogCopy, NewLog};
use super::logging_program::{LogContext, LoggedStreams, LoggingProgram};
use super::stream::{StdioError, StdioPaths, StreamTarget};
use super::terminal::{NewTerminal, Terminal, TerminalOutput, set_nonblocking};
use crate::sys;

/// How long a slow disk may keep the exit of a process from being told.
const WRITTEN_AT_EXIT: Duration = Duration::from_secs(2);
/// How long it may keep a deletion waiting, as under runc.
const WRITTEN_AT_DELETION: Duration = Duration::from_secs(10);

/// Both sides of a process's stdio.
#[derive(Debug)]
pub(crate) struct ProcessStdio {
    ends: [OwnedFd; 3],
    stdin: StdinWriter,
    client_closed: Option<Inotify>,
    terminal: Option<NewTerminal>,
    kept: KeptOutputs,
    /// The stderr of a process with a terminal, to which nothing is written.
    unused: Option<OwnedFd>,
    logger: Option<LoggingProgram>,
}

/// What the shim holds for as long as the process exists.
#[derive(Debug)]
pub(crate) struct HeldStdio {
    stdin: StdinWriter,
    /// Notices when a client closes its write end of stdin.
    client_closed: Option<Inotify>,
    terminal: Option<Terminal>,
    logs: Vec<LogCopy>,
    /// Read ends of stdout and stderr.
    _readers: Vec<OwnedFd>,
    /// Write ends for clients that have not opened theirs yet.
    _late: Vec<HeldForClient>,
    /// The stderr of a process with a terminal, to which nothing is written.
    _unused: Option<OwnedFd>,
    /// The last, so that it is dropped after what it reads.
    logger: Option<LoggingProgram>,
}

/// The write end of stdin. `closeIO` and [`HeldStdio::early_close`] share it.
#[derive(Clone, Debug, Default)]
struct StdinWriter(Arc<Mutex<Option<OwnedFd>>>);

impl StdinWriter {
    fn new(writer: Option<OwnedFd>) -> Self {
        Self(Arc::new(Mutex::new(writer)))
    }

    fn close(&self) {
        // A panic cannot leave an option half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl ProcessStdio {
    /// Opens all streams, or a terminal in their place. Never waits for a client, but until a logging program is
    /// ready.
    pub(crate) fn open(paths: &StdioPaths, context: &LogContext<'_>) -> Result<Self, StdioError> {
        if paths.terminal {
            return Self::open_terminal(paths, context);
        }
        let stdin = open_stdin(&paths.stdin)?;
        let outputs = Outputs::open(paths, context)?;
        Ok(Self {
            ends: [stdin.end, outputs.stdout, outputs.stderr],
            stdin: StdinWriter::new(stdin.writer),
            client_closed: stdin.client_closed,
            terminal: None,
            kept: outputs.kept,
            unused: None,
            logger: outputs.logger,
        })
    }

    /// Opens a terminal between stdin and stdout. There is no stderr.
    fn open_terminal(paths: &StdioPaths, context: &LogContext<'_>) -> Result<Self, StdioError> {
        let stdin = open_stdin(&paths.stdin)?;
        let input = match stdin.writer {
            None => None,
            Some(_) => Some(File::from(stdin.end)),
        };
        let failed = StdioError::Terminal;
        let mut kept = KeptOutputs::default();
        let (mut unused, mut logger) = (None, None);
        let output = match StreamTarget::parse("stdout", &paths.stdout)? {
            StreamTarget::Program(program) => {
                let (running, LoggedStreams { stdout, stderr }) =
                    LoggingProgram::start(&program, context)?;
                (unused, logger) = (Some(stderr), Some(running));
                TerminalOutput::Fifo(stdout.into())
            }
            target => match OpenedOutput::open("stdout", target)? {
                OpenedOutput::Null(_) => TerminalOutput::Nowhere,
                OpenedOutput::Fifo(fifo) => {
                    kept.readers.push(fifo.reader);
                    kept.late.extend(fifo.late);
                    TerminalOutput::Fifo(fifo.writer.into())
                }
                OpenedOutput::File { file, .. } => TerminalOutput::File(file),
            },
        };
        // These descriptors are the shim's alone.
        if let Some(input) = &input {
            set_nonblocking(input).map_err(failed)?;
        }
        if let TerminalOutput::Fifo(fifo) = &output {
            set_nonblocking(fifo).map_err(failed)?;
        }
        let (terminal, slave) = NewTerminal::open(input, output).map_err(failed)?;
        let another = || slave.try_clone().map_err(failed);
        Ok(Self {
            ends: [another()?, another()?, slave],
            stdin: StdinWriter::new(stdin.writer),
            client_closed: None,
            terminal: Some(terminal),
            kept,
            unused,
            logger,
        })
    }

    /// Makes the user and the group the owners of those streams that are FIFOs or pipes.
    pub(crate) fn give_to(&self, uid: u32, gid: u32) -> Result<(), StdioError> {
        for end in &self.ends {
            let kind = fstat(end).map(|stat| SFlag::from_bits_truncate(stat.st_mode));
            let kind = kind.map_err(|errno| StdioError::Owner(errno.into()))? & SFlag::S_IFMT;
            if kind == SFlag::S_IFIFO {
                let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                fchown(end, owner.0, owner.1).map_err(|errno| StdioError::Owner(errno.into()))?;
            }
        }
        Ok(())
    }

    /// The socket by which the runner sends the master of a terminal of the container's own.
    pub(crate) fn console(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(NewTerminal::socket)
    }

    /// Sets the size of the terminal, before the process exists. Succeeds if there is none.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> Result<(), StdioError> {
        let terminal = self.terminal.as_ref();
        let resized = terminal.map_or(Ok(()), |terminal| terminal.resize(columns, rows));
        resized.map_err(StdioError::Resize)
    }

    /// What the process gets as descriptors 0, 1 and 2.
    pub(crate) fn ends(&self) -> [BorrowedFd<'_>; 3] {
        self.ends.each_ref().map(AsFd::as_fd)
    }

    /// Closes the shim's copies of the process's ends, and begins to copy for a terminal and for log files. To be
    /// called when the runner has ended, within the runtime.
    pub(crate) fn into_held(self) -> Result<HeldStdio, StdioError> {
        let terminal = self.terminal.map(NewTerminal::start);
        let logs = self.kept.logs.into_iter().map(|log| {
            let path = log.path().to_owned();
            let started = log.start();
            started.map_err(|source| StdioError::Copy { path, source })
        });
        Ok(HeldStdio {
            stdin: self.stdin,
            client_closed: self.client_closed,
            terminal: terminal.transpose().map_err(StdioError::Terminal)?,
            logs: logs.collect::<Result<_, _>>()?,
            _readers: self.kept.readers,
            _late: self.kept.late.into_iter().map(LateClient::start).collect(),
            _unused: self.unused,
            logger: self.logger,
        })
    }

    /// Gives the streams up. Blocks until a logging program has read to their end.
    pub(crate) fn abandon(self) {
        let Self {
            ends,
            terminal,
            kept,
            unused,
            logger,
            ..
        } = self;
        drop((ends, terminal, kept, unused));
        if let Some(logger) = logger {
            logger.end();
        }
    }

    /// Writes to the container's stderr why it is not created, for `kubectl logs`. To be called
    /// before [`Self::into_held`], because a reader stops at the first end of file.
    pub(crate) fn report(&self, reason: &str) {
        if let Some(terminal) = &self.terminal {
            if let Err(error) = terminal.report(&format!("wasm-interp: {reason}")) {
                warn!(error:%; "cannot write the reason of a failed create to the terminal");
            }
            return;
        }
        let kept = &self.kept;
        if let Some(log) = kept.stderr_log.and_then(|number| kept.logs.get(number)) {
            if let Err(error) = log.report(&format!("wasm-interp: {reason}")) {
                warn!(error:%; "cannot write the reason of a failed create to the container's log");
            }
            return;
        }
        let [_, _, stderr] = &self.ends;
        // No process shares the descriptor any more, and a full FIFO must not delay the response.
        let written = fcntl(
            stderr,
            FcntlArg::F_SETFL(OFlag::O_NONBLOCK | OFlag::O_APPEND),
        )
        .map_err(io::Error::from)
        .and_then(|_| stderr.try_clone())
        .and_then(|stderr| {
            File::from(stderr).write_all(format!("wasm-interp: {reason}\n").as_bytes())
        });
        if let Err(error) = written {
            warn!(error:%; "cannot write the reason of a failed create to the container's stderr");
        }
    }
}

impl HeldStdio {
    /// Sets the size of the terminal. Succeeds if there is none, as in runc's shim.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> Result<(), StdioError> {
        let terminal = self.terminal.as_ref();
        let resized = terminal.map_or(Ok(()), |terminal| terminal.resize(columns, rows));
        resized.map_err(StdioError::Resize)
    }

    /// To be called when the process has ended.
    pub(crate) fn process_ended(&self) {
        if let Some(terminal) = &self.terminal {
            terminal.process_ended();
        }
    }

    /// Waits for a limited time until what an ended process has printed is in its log files: a client that hears of
    /// the exit finds it there. `None`: there is no log file.
    pub(crate) fn logged(&self) -> Option<impl Future<Output = ()> + use<>> {
        self.written_within(WRITTEN_AT_EXIT)
    }

    /// Waits for a limited time until the output of an ended process is copied. `None`: nothing is copied.
    pub(crate) fn copied(&self) -> Option<impl Future<Output = ()> + use<>> {
        let terminal = self.terminal.as_ref().map(Terminal::copied);
        let logs = self.written_within(WRITTEN_AT_DELETION);
        if terminal.is_none() && logs.is_none() {
            return None;
        }
        Some(async move {
            if let Some(terminal) = terminal {
                terminal.await;
            }
            if let Some(logs) = logs {
                logs.await;
            }
        })
    }

    fn written_within(&self, limit: Duration) -> Option<impl Future<Output = ()> + use<>> {
        let logs: Vec<_> = self.logs.iter().map(LogCopy::written).collect();
        if logs.is_empty() {
            return None;
        }
        Some(async move {
            let written = async {
                for log in logs {
                    log.await;
                }
            };
            if tokio::time::timeout(limit, written).await.is_err() {
                warn!(
                    "the disk of a container's log is slow: not all of its output is written yet"
                );
            }
        })
    }

    /// Closes all. What comes back has to be ended, which may take seconds.
    pub(crate) fn close(self) -> Option<LoggingProgram> {
        self.logger
    }

    /// Closes the shim's end of stdin. The process reads end of file when no client writes either.
    pub(crate) fn close_stdin(&self) {
        self.stdin.close();
    }

    /// Waits until a client closes its end of stdin, and then closes the shim's. For a client that
    /// writes and ends before the task exists: it cannot send `closeIO`, and `echo x | ctr run` is
    /// that fast. To be awaited until shortly after the start. Later, the client that closes its end
    /// may be a containerd that restarts.
    pub(crate) fn early_close(&mut self) -> Option<impl Future<Output = ()> + use<>> {
        let inotify = self.client_closed.take()?;
        let stdin = self.stdin.clone();
        Some(async move {
            match sys::readable(inotify.as_fd()) {
                Ok(watched) => match watched.readable().await {
                    Ok(_) => stdin.close(),
                    Err(error) => warn!(error:%; "cannot watch a container's stdin"),
                },
                Err(error) => warn!(error:%; "cannot watch a container's stdin"),
            }
        })
    }
}

struct OpenedStdin {
    /// The process's end.
    end: OwnedFd,
    /// The shim's end, if stdin is a FIFO.
    writer: Option<OwnedFd>,
    client_closed: Option<Inotify>,
}

fn open_stdin(name: &str) -> Result<OpenedStdin, StdioError> {
    let path = match StreamTarget::parse("stdin", name)? {
        StreamTarget::Path(path) => path,
        StreamTarget::Null | StreamTarget::LogFile(_) | StreamTarget::Program(_) => {
            return Ok(OpenedStdin {
                end: null("stdin")?,
                writer: None,
                client_closed: None,
            });
        }
    };
    let failed = |source| StdioError::Open {
        stream: "stdin",
        path: path.clone(),
        source,
    };
    let is_fifo = fs::metadata(&path).map_err(failed)?.file_type().is_fifo();
    // The watch begins before a client can open its end, which waits until the process's end is open.
    let client_closed = if is_fifo {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .and_then(|inotify| {
                inotify.add_watch(&path, AddWatchFlags::IN_CLOSE_WRITE)?;
                Ok(inotify)
            })
            .map_err(|errno| failed(errno.into()))?;
        Some(inotify)
    } else {
        None
    };
    // Without this flag, opening the read end of a FIFO waits for a writer.
    let end = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path)
        .map_err(failed)?;
    // The module's doc says why the process must not get the flag.
    fcntl(&end, FcntlArg::F_SETFL(OFlag::empty())).map_err(|errno| failed(errno.into()))?;
    let writer = if is_fifo {
        let writer = File::options().write(true).open(&path).map_err(failed)?;
        Some(writer.into())
    } else {
        None
    };
    Ok(OpenedStdin {
        end: end.into(),
        writer,
        client_closed,
    })
}

/// What a process writes to, and what the shim keeps of it.
struct Outputs {
    stdout: OwnedFd,
    stderr: OwnedFd,
    kept: KeptOutputs,
    logger: Option<LoggingProgram>,
}

/// The shim's side of outputs that no program reads.
#[derive(Debug, Default)]
struct KeptOutputs {
    /// Read ends of FIFOs.
    readers: Vec<OwnedFd>,
    late: Vec<LateClient>,
    logs: Vec<NewLog>,
    /// Which of `logs` is stderr's.
    stderr_log: Option<usize>,
}

impl Outputs {
    fn open(paths: &StdioPaths, context: &LogContext<'_>) -> Result<Self, StdioError> {
        let mut kept = KeptOutputs::default();
        let stdout = match StreamTarget::parse("stdout", &paths.stdout)? {
            StreamTarget::Program(program) => {
                let (logger, LoggedStreams { stdout, stderr }) =
                    LoggingProgram::start(&program, context)?;
                return Ok(Self {
                    stdout,
                    stderr,
                    kept,
                    logger: Some(logger),
                });
            }
            target => OpenedOutput::open("stdout", target)?,
        };
        let stderr = OpenedOutput::open("stderr", StreamTarget::parse("stderr", &paths.stderr)?)?;
        let one_file = stdout.is_same_file(&stderr);
        let is_log = matches!(stderr, OpenedOutput::File { .. });
        let stdout = kept.end_of("stdout", stdout)?;
        let stderr = if one_file {
            // One pipe: what is printed to both keeps its order.
            let copy = stdout.try_clone();
            copy.map_err(|source| StdioError::Open {
                stream: "stderr",
                path: paths.stderr.clone().into(),
                source,
            })?
        } else {
            kept.end_of("stderr", stderr)?
        };
        if is_log {
            kept.stderr_log = kept.logs.len().checked_sub(1);
        }
        Ok(Self {
            stdout,
            stderr,
            kept,
            logger: None,
        })
    }
}

impl KeptOutputs {
    /// The process's end of an output.
    fn end_of(
        &mut self,
        stream: &'static str,
        output: OpenedOutput,
    ) -> Result<OwnedFd, StdioError> {
        match output {
            OpenedOutput::Null(end) => Ok(end),
            OpenedOutput::Fifo(fifo) => {
                self.readers.push(fifo.reader);
                self.late.extend(fifo.late);
                Ok(fifo.writer)
            }
            OpenedOutput::File { path, file } => {
                let log = NewLog::new(&path, file);
                let (log, end) = log.map_err(|source| StdioError::Open {
                    stream,
                    path,
                    source,
                })?;
                self.logs.push(log);
                Ok(end)
            }
        }
    }
}

/// An open output that no program reads.
enum OpenedOutput {
    Null(OwnedFd),
    Fifo(OutputFifo),
    /// Anything else, for appending.
    File {
        path: PathBuf,
        file: File,
    },
}

impl OpenedOutput {
    fn open(stream: &'static str, target: StreamTarget) -> Result<Self, StdioError> {
        let (path, create) = match target {
            StreamTarget::Null | StreamTarget::Program(_) => return null(stream).map(Self::Null),
            StreamTarget::Path(path) if path.as_os_str() == NULL => {
                return null(stream).map(Self::Null);
            }
            StreamTarget::Path(path) => (path, false),
            StreamTarget::LogFile(path) => (path, true),
        };
        let failed = |source| StdioError::Open {
            stream,
            path: path.clone(),
            source,
        };
        if create && let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(failed)?;
        }
        let is_fifo = match fs::metadata(&path) {
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => false,
            found => found.map_err(failed)?.file_type().is_fifo(),
        };
        if is_fifo {
            return OutputFifo::open(&path).map(Self::Fifo).map_err(failed);
        }
        let mut options = File::options();
        options.append(true).create(create).mode(0o644);
        let file = options.open(&path).map_err(failed)?;
        Ok(Self::File { path, file })
    }

    fn is_same_file(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File { path, .. }, Self::File { path: other, .. }) => path == other,
            _ => false,
        }
    }
}

const NULL: &str = "/dev/null";

fn null(stream: &'static str) -> Result<OwnedFd, StdioError> {
    File::options()
        .read(true)
        .write(true)
        .open(NULL)
        .map(OwnedFd::from)
        .map_err(|source| StdioError::Open {
            stream,
            path: NULL.into(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::Path;
    use std::time::Duration;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::reaper::Reaper;

    fn open(paths: &StdioPaths) -> ProcessStdio {
        let context = LogContext {
            id: "id",
            namespace: "namespace",
            reaper: &Reaper::default(),
            cancelled: &|| false,
        };
        ProcessStdio::open(paths, &context).expect("open")
    }

    fn fifo(dir: &Path, name: &str) -> String {
        let path = dir.join(name);
        mkfifo(&path, Mode::S_IRWXU).expect("mkfifo");
        path.display().to_string()
    }

    /// Stdio of which only stdin is a FIFO, and its path.
    fn stdio_with_stdin(dir: &Path) -> (ProcessStdio, String) {
        let paths = StdioPaths {
            stdin: fifo(dir, "in"),
            ..StdioPaths::default()
        };
        let stdio = open(&paths);
        (stdio, paths.stdin)
    }

    /// A duplicate of what the process gets as `number`.
    fn end_of(stdio: &ProcessStdio, number: usize) -> File {
        File::from(stdio.ends()[number].try_clone_to_owned().expect("dup"))
    }

    fn flags(fd: BorrowedFd<'_>) -> OFlag {
        OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).expect("flags"))
    }

    fn client(options: &mut fs::OpenOptions, path: &str) -> File {
        options
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .expect("open")
    }

    #[test]
    fn open_does_not_wait_for_clients_and_the_process_gets_no_o_nonblock() {
        let dir = tempfile::tempdir().expect("tempdir");
        let paths = StdioPaths {
            stdin: fifo(dir.path(), "in"),
            stdout: fifo(dir.path(), "out"),
            stderr: fifo(dir.path(), "err"),
            ..StdioPaths::default()
        };
        let stdio = open(&paths);
        for fd in stdio.ends() {
            assert!(!flags(fd).contains(OFlag::O_NONBLOCK));
        }
    }

    /// As when containerd restarts.
    #[test]
    fn output_without_a_reader_breaks_no_pipe_and_is_kept() {
        let dir = tempfile::tempdir().expect("tempdir");
        let paths = StdioPaths {
            stdout: fifo(dir.path(), "out"),
            ..StdioPaths::default()
        };
        let first = client(File::options().read(true), &paths.stdout);
        let stdio = open(&paths);
        drop(first);
        let mut process = end_of(&stdio, 1);
        process.write_all(b"still here").expect("no EPIPE");
        let mut reader = client(File::options().read(true), &paths.stdout);
        let held = stdio.into_held().expect("held");
        drop(process);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "still here");
        drop(held);
    }

    #[test]
    fn stdin_reaches_end_of_file_only_after_close_io() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (stdio, _) = stdio_with_stdin(dir.path());
        let mut process = end_of(&stdio, 0);
        fcntl(&process, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("for the test");
        let held = stdio.into_held().expect("held");
        let error = process.read(&mut [0; 8]).expect_err("not yet the end");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        held.close_stdin();
        assert_eq!(process.read(&mut [0; 8]).expect("the end"), 0);
    }

    /// `echo x | ctr run …` writes and closes before create has responded.
    #[tokio::test]
    async fn stdin_reaches_end_of_file_if_its_client_ended_before_the_start() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (stdio, path) = stdio_with_stdin(dir.path());
        let mut process = end_of(&stdio, 0);
        let mut held = stdio.into_held().expect("held");
        let early_close = held.early_close().expect("stdin is a FIFO");
        client(File::options().write(true), &path)
            .write_all(b"x")
            .expect("write");
        tokio::time::timeout(Duration::from_secs(120), early_close)
            .await
            .expect("the client has closed its end");
        let mut text = String::new();
        process.read_to_string(&mut text).expect("to the end");
        assert_eq!(text, "x");
    }

    #[tokio::test]
    async fn log_file_is_created_and_appended_to_in_the_order_of_both_streams() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a b/log");
        let uri = format!("file://{}?x=y", path.display()).replace(' ', "%20");
        let paths = StdioPaths {
            stdout: uri.clone(),
            stderr: uri,
            ..StdioPaths::default()
        };
        for _ in 0..2 {
            let stdio = open(&paths);
            for (number, line) in [(1, "one\n"), (2, "two\n"), (1, "three\n")] {
                end_of(&stdio, number)
                    .write_all(line.as_bytes())
                    .expect("write");
            }
            let held = stdio.into_held().expect("held");
            held.copied().expect("it is copied").await;
        }
        let stdio = open(&paths);
        end_of(&stdio, 2).write_all(b"hook\n").expect("write");
        stdio.report("reason");
        stdio.abandon();
        let text = fs::read_to_string(path).expect("read");
        let twice = "one\ntwo\nthree\n".repeat(2);
        assert_eq!(text, twice + "hook\nwasm-interp: reason\n");
    }
}
