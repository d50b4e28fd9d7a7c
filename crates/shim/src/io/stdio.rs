//! The open stdin, stdout and stderr of a process.
//!
//! The process gets the ends of containerd's FIFOs themselves, so nothing is copied. The shim holds:
//!
//! - A **read end** of stdout and of stderr, which it never reads. While containerd restarts, the
//!   process may meet a full pipe, but never a broken one.
//! - A **write end** of stdin. A process that reads before a client has opened its end waits, instead
//!   of reading end of file. The verb `closeIO` closes it.
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
use std::sync::{Arc, Mutex, PoisonError};

use log::warn;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Gid, Uid, fchown};

use super::stream::{StdioError, StdioPaths, StreamTarget};
use super::terminal::{NewTerminal, Terminal, TerminalOutput, set_nonblocking};
use crate::sys;

/// Both sides of a process's stdio.
#[derive(Debug)]
pub(crate) struct ProcessStdio {
    ends: [OwnedFd; 3],
    held: HeldStdio,
    terminal: Option<NewTerminal>,
}

/// What the shim holds for as long as the process exists.
#[derive(Debug)]
pub(crate) struct HeldStdio {
    /// Read ends of stdout and stderr.
    _readers: Vec<OwnedFd>,
    stdin: StdinWriter,
    /// Notices when a client closes its write end of stdin.
    client_closed: Option<Inotify>,
    terminal: Option<Terminal>,
}

/// The write end of stdin. `closeIO` and [`HeldStdio::early_close`] share it.
#[derive(Clone, Debug, Default)]
struct StdinWriter(Arc<Mutex<Option<OwnedFd>>>);

impl StdinWriter {
    fn close(&self) {
        // A panic cannot leave an option half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl ProcessStdio {
    /// Opens all three streams, or a terminal. Never waits for a client.
    pub(crate) fn open(paths: &StdioPaths) -> Result<Self, StdioError> {
        if paths.terminal {
            Self::open_terminal(paths)
        } else {
            Self::open_separate(paths)
        }
    }

    fn open_separate(paths: &StdioPaths) -> Result<Self, StdioError> {
        let mut readers = Vec::new();
        let stdin = open_stdin(&paths.stdin)?;
        let stdout = open_output("stdout", &paths.stdout, &mut readers)?;
        let stderr = open_output("stderr", &paths.stderr, &mut readers)?;
        Ok(Self {
            ends: [stdin.end, stdout, stderr],
            held: HeldStdio {
                _readers: readers,
                stdin: StdinWriter(Arc::new(Mutex::new(stdin.writer))),
                client_closed: stdin.client_closed,
                terminal: None,
            },
            terminal: None,
        })
    }

    /// Opens a terminal between stdin and stdout. There is no stderr.
    fn open_terminal(paths: &StdioPaths) -> Result<Self, StdioError> {
        let mut readers = Vec::new();
        let stdin = open_stdin(&paths.stdin)?;
        let input = match stdin.writer {
            None => None,
            Some(_) => Some(File::from(stdin.end)),
        };
        let output = open_output("stdout", &paths.stdout, &mut readers)?;
        let failed = StdioError::Terminal;
        // These descriptors are the shim's alone.
        if let Some(input) = &input {
            set_nonblocking(input).map_err(failed)?;
        }
        let output = match output {
            _ if paths.stdout.is_empty() => TerminalOutput::Nowhere,
            output if readers.is_empty() => TerminalOutput::File(output.into()),
            output => {
                let fifo = File::from(output);
                set_nonblocking(&fifo).map_err(failed)?;
                TerminalOutput::Fifo(fifo)
            }
        };
        let (terminal, slave) = NewTerminal::open(input, output).map_err(failed)?;
        let another = || slave.try_clone().map_err(failed);
        Ok(Self {
            ends: [another()?, another()?, slave],
            held: HeldStdio {
                _readers: readers,
                stdin: StdinWriter(Arc::new(Mutex::new(stdin.writer))),
                client_closed: None,
                terminal: None,
            },
            terminal: Some(terminal),
        })
    }

    /// Makes the user and the group the owners of those streams that are FIFOs.
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

    /// Closes the shim's copies of the process's ends, and begins to copy for a terminal. To be called
    /// when the runner has ended, within the runtime.
    pub(crate) fn into_held(self) -> Result<HeldStdio, StdioError> {
        let mut held = self.held;
        let terminal = self.terminal.map(NewTerminal::start);
        held.terminal = terminal.transpose().map_err(StdioError::Terminal)?;
        Ok(held)
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

    /// Waits for a limited time until the output of an ended process is copied. `None`: nothing is copied.
    pub(crate) fn copied(&self) -> Option<impl Future<Output = ()> + use<>> {
        self.terminal.as_ref().map(Terminal::copied)
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
        StreamTarget::Null | StreamTarget::LogFile(_) => {
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

fn open_output(
    stream: &'static str,
    name: &str,
    readers: &mut Vec<OwnedFd>,
) -> Result<OwnedFd, StdioError> {
    let (path, create) = match StreamTarget::parse(stream, name)? {
        StreamTarget::Null => return null(stream),
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
    if !create && fs::metadata(&path).map_err(failed)?.file_type().is_fifo() {
        let reader = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .map_err(failed)?;
        readers.push(reader.into());
    }
    File::options()
        .append(true)
        .create(create)
        .mode(0o644)
        .open(&path)
        .map(OwnedFd::from)
        .map_err(failed)
}

fn null(stream: &'static str) -> Result<OwnedFd, StdioError> {
    const NULL: &str = "/dev/null";
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
        let stdio = ProcessStdio::open(&paths).expect("open");
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
        let stdio = ProcessStdio::open(&paths).expect("open");
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
        let stdio = ProcessStdio::open(&paths).expect("open");
        drop(client(File::options().read(true), &paths.stdout));
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

    #[test]
    fn log_file_is_created_and_appended_to() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a b/log");
        let uri = format!("file://{}", path.display()).replace(' ', "%20");
        for _ in 0..2 {
            let paths = StdioPaths {
                stdout: uri.clone(),
                stderr: uri.clone(),
                ..StdioPaths::default()
            };
            let stdio = ProcessStdio::open(&paths).expect("open");
            for number in [1, 2] {
                end_of(&stdio, number).write_all(b"line\n").expect("write");
            }
            stdio.report("reason");
        }
        let text = fs::read_to_string(path).expect("read");
        assert_eq!(text, "line\nline\nwasm-interp: reason\n".repeat(2));
    }
}
