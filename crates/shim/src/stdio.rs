//! The container's stdin, stdout and stderr, as containerd names them.
//!
//! Called by `launch`. The guest gets the ends of containerd's FIFOs themselves; nothing is
//! copied. What the shim holds beside it:
//!
//! - of stdout and stderr a **read end** that it never reads: while containerd restarts the guest
//!   meets a full pipe at worst, never a broken one;
//! - of stdin a **write end**: a guest that reads before a client has opened its end waits instead
//!   of seeing end of file. `closeIO` drops it.
//!
//! A descriptor that the guest gets is never `O_NONBLOCK`: that flag belongs to the open file, so
//! the guest and whoever opened it would share it.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use log::warn;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::sys;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StdioError {
    #[error("open {path:?} for the container's {stream}: {source}")]
    Open {
        stream: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{stream} {uri:?} is not supported by {}: give a FIFO, a file path or file://PATH",
        crate::RUNTIME_NAME
    )]
    Scheme { stream: &'static str, uri: String },
}

impl StdioError {
    pub(crate) fn is_unsupported(&self) -> bool {
        matches!(self, Self::Scheme { .. })
    }
}

/// What containerd said: paths, URIs or nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Open stdio of one container.
#[derive(Debug)]
pub(crate) struct Stdio {
    guest: [OwnedFd; 3],
    held: Held,
}

/// What the shim keeps for as long as the task exists.
#[derive(Debug)]
pub(crate) struct Held {
    /// Read ends of stdout and stderr.
    _readers: Vec<OwnedFd>,
    stdin: HeldStdin,
    client_left: Option<Inotify>,
}

/// The write end of stdin, shared by those who may drop it.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeldStdin(Arc<Mutex<Option<OwnedFd>>>);

impl HeldStdin {
    /// From now on the guest reaches end of file as soon as no client writes.
    pub(crate) fn close(&self) {
        // An option is whole between any two calls.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Where one stream goes.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Null,
    /// A FIFO or a file, as the path turns out to be.
    Path(PathBuf),
    /// A log file that is made if need be.
    LogFile(PathBuf),
}

impl Target {
    fn parse(stream: &'static str, name: &str) -> Result<Self, StdioError> {
        if name.is_empty() {
            return Ok(Target::Null);
        }
        if name.starts_with('/') {
            return Ok(Target::Path(name.into()));
        }
        match name.strip_prefix("file://") {
            Some(path) if path.starts_with('/') && stream != "stdin" => {
                Ok(Target::LogFile(percent_decode(path).into()))
            }
            _ => Err(StdioError::Scheme {
                stream,
                uri: name.to_owned(),
            }),
        }
    }
}

impl Stdio {
    /// Opens all three. Never waits for a client.
    pub(crate) fn open(names: &Names) -> Result<Self, StdioError> {
        let mut readers = Vec::new();
        let (stdin, held_stdin, client_left) = open_stdin(&names.stdin)?;
        let stdout = open_output("stdout", &names.stdout, &mut readers)?;
        let stderr = open_output("stderr", &names.stderr, &mut readers)?;
        Ok(Self {
            guest: [stdin, stdout, stderr],
            held: Held {
                _readers: readers,
                stdin: HeldStdin(Arc::new(Mutex::new(held_stdin))),
                client_left,
            },
        })
    }

    /// What the container gets as descriptors 0, 1 and 2.
    pub(crate) fn guest(&self) -> [BorrowedFd<'_>; 3] {
        self.guest.each_ref().map(AsFd::as_fd)
    }

    /// Gives up the guest's ends: they are with the guest now.
    pub(crate) fn into_held(self) -> Held {
        self.held
    }

    /// Tells the reader of the container's stderr why there will be no container. `kubectl logs`
    /// shows that when `kubectl describe` is long forgotten. To be called before the guest's ends
    /// are given up: a reader leaves at the first end of file it sees.
    pub(crate) fn report(&self, reason: &str) {
        let [_, _, stderr] = &self.guest;
        // No guest shares it any more, and a full FIFO must not hold up the answer.
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
            warn!(error:%; "cannot write to the container's stderr");
        }
    }
}

impl Held {
    pub(crate) fn stdin(&self) -> HeldStdin {
        self.stdin.clone()
    }

    /// Waits for a client that writes its stdin and leaves before the task even exists for it: it
    /// had nobody yet to send `closeIO` to, and never will (`echo x | ctr run` is that fast). To be
    /// awaited until shortly after the start, not longer: later a client that leaves may be a
    /// containerd that restarts.
    pub(crate) fn early_end(&mut self) -> Option<impl Future<Output = ()> + use<>> {
        let inotify = self.client_left.take()?;
        let stdin = self.stdin();
        Some(async move {
            match sys::readable(inotify.as_fd()) {
                Ok(watched) => match watched.readable().await {
                    Ok(_) => stdin.close(),
                    Err(error) => warn!(error:%; "cannot watch a stdin"),
                },
                Err(error) => warn!(error:%; "cannot watch a stdin"),
            }
        })
    }
}

type Stdin = (OwnedFd, Option<OwnedFd>, Option<Inotify>);

fn open_stdin(name: &str) -> Result<Stdin, StdioError> {
    let path = match Target::parse("stdin", name)? {
        Target::Path(path) => path,
        Target::Null | Target::LogFile(_) => {
            return Ok((null("stdin")?, None, None));
        }
    };
    let failed = |source| StdioError::Open {
        stream: "stdin",
        path: path.clone(),
        source,
    };
    let is_fifo = fs::metadata(&path).map_err(failed)?.file_type().is_fifo();
    // Before a client can open its end, which it does as soon as we open ours.
    let client_left = if is_fifo {
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
    // Opening the read end of a FIFO waits for a writer unless told otherwise.
    let guest = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path)
        .map_err(failed)?;
    // This open file is the guest's from here on: see the module's doc.
    fcntl(&guest, FcntlArg::F_SETFL(OFlag::empty())).map_err(|errno| failed(errno.into()))?;
    let held = if is_fifo {
        let writer = File::options().write(true).open(&path).map_err(failed)?;
        Some(writer.into())
    } else {
        None
    };
    Ok((guest.into(), held, client_left))
}

fn open_output(
    stream: &'static str,
    name: &str,
    readers: &mut Vec<OwnedFd>,
) -> Result<OwnedFd, StdioError> {
    let (path, create) = match Target::parse(stream, name)? {
        Target::Null => return null(stream),
        Target::Path(path) => (path, false),
        Target::LogFile(path) => (path, true),
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

/// `%20` and the like in the path of a URI. What is no escape stays as it is.
fn percent_decode(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape = tail
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escape {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
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

    fn flags(fd: BorrowedFd<'_>) -> OFlag {
        OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).expect("flags"))
    }

    fn client(options: &mut fs::OpenOptions, path: &str) -> File {
        options
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .expect("open")
    }

    /// Nobody has opened the other ends, and the guest's descriptors block.
    #[test]
    fn opening_does_not_wait_and_the_guest_gets_no_o_nonblock() {
        let dir = tempfile::tempdir().expect("tempdir");
        let names = Names {
            stdin: fifo(dir.path(), "in"),
            stdout: fifo(dir.path(), "out"),
            stderr: fifo(dir.path(), "err"),
        };
        let stdio = Stdio::open(&names).expect("open");
        for fd in stdio.guest() {
            assert!(!flags(fd).contains(OFlag::O_NONBLOCK));
        }
    }

    /// The reader is gone, as when containerd restarts: no EPIPE, and nothing is lost.
    #[test]
    fn a_vanished_client_breaks_no_pipe() {
        let dir = tempfile::tempdir().expect("tempdir");
        let names = Names {
            stdout: fifo(dir.path(), "out"),
            ..Names::default()
        };
        let stdio = Stdio::open(&names).expect("open");
        drop(client(File::options().read(true), &names.stdout));
        let mut guest = File::from(stdio.guest()[1].try_clone_to_owned().expect("dup"));
        guest.write_all(b"still here").expect("no EPIPE");
        let mut reader = client(File::options().read(true), &names.stdout);
        let held = stdio.into_held();
        drop(guest);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "still here");
        drop(held);
    }

    #[test]
    fn stdin_has_no_end_before_close_io() {
        let dir = tempfile::tempdir().expect("tempdir");
        let names = Names {
            stdin: fifo(dir.path(), "in"),
            ..Names::default()
        };
        let stdio = Stdio::open(&names).expect("open");
        let mut guest = File::from(stdio.guest()[0].try_clone_to_owned().expect("dup"));
        fcntl(&guest, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("for the test");
        let held = stdio.into_held();
        let error = guest.read(&mut [0; 8]).expect_err("not yet the end");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        held.stdin().close();
        assert_eq!(guest.read(&mut [0; 8]).expect("the end"), 0);
    }

    /// `echo x | ctr run …`: written and closed before create has answered.
    #[tokio::test]
    async fn a_client_that_left_before_the_start_ends_stdin() {
        let dir = tempfile::tempdir().expect("tempdir");
        let names = Names {
            stdin: fifo(dir.path(), "in"),
            ..Names::default()
        };
        let stdio = Stdio::open(&names).expect("open");
        let mut guest = File::from(stdio.guest()[0].try_clone_to_owned().expect("dup"));
        let mut held = stdio.into_held();
        let early_end = held.early_end().expect("stdin is a FIFO");
        client(File::options().write(true), &names.stdin)
            .write_all(b"x")
            .expect("write");
        tokio::time::timeout(Duration::from_secs(5), early_end)
            .await
            .expect("the client left");
        let mut text = String::new();
        guest.read_to_string(&mut text).expect("to the end");
        assert_eq!(text, "x");
    }

    #[test]
    fn log_files_are_made_and_appended_to() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a b/log");
        let uri = format!("file://{}", path.display()).replace(' ', "%20");
        for _ in 0..2 {
            let names = Names {
                stdout: uri.clone(),
                stderr: uri.clone(),
                ..Names::default()
            };
            let stdio = Stdio::open(&names).expect("open");
            for fd in &stdio.guest()[1..] {
                File::from(fd.try_clone_to_owned().expect("dup"))
                    .write_all(b"line\n")
                    .expect("write");
            }
            stdio.report("reason");
        }
        let text = fs::read_to_string(path).expect("read");
        assert_eq!(text, "line\nline\nwasm-interp: reason\n".repeat(2));
    }

    #[test]
    fn other_uris_are_refused_in_words() {
        for (names, said) in [
            (
                Names {
                    stdout: "binary:///usr/bin/logger?x=y".into(),
                    ..Names::default()
                },
                "stdout \"binary:///usr/bin/logger?x=y\" is not supported",
            ),
            (
                Names {
                    stdin: "file:///tmp/x".into(),
                    ..Names::default()
                },
                "stdin \"file:///tmp/x\" is not supported",
            ),
        ] {
            let error = Stdio::open(&names).expect_err("not supported");
            assert!(error.is_unsupported());
            assert!(error.to_string().starts_with(said), "{error}");
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(percent_decode("/a%20b%2"), "/a b%2");
        assert_eq!(percent_decode("/%zz/%C3%A9"), "/%zz/é");
    }
}
