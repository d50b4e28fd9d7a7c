//! A FIFO that a process writes to and a client of containerd reads from.
//!
//! Opening never waits for the client, and the shim holds a read end: a process may meet a full pipe, but never a
//! broken one. A client that opens its end for reading waits in the kernel until there is a writer (fifo(7)). So if
//! it is late, and the process has ended by then, it would wait for ever. For such a client the shim holds a write
//! end too, until it has come.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use log::warn;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::task::JoinHandle;

use crate::sys;

/// An open FIFO.
#[derive(Debug)]
pub(super) struct OutputFifo {
    /// The process's end.
    pub(super) writer: OwnedFd,
    /// The shim's end, which it never reads.
    pub(super) reader: OwnedFd,
    /// If no client has opened it yet.
    pub(super) late: Option<LateClient>,
}

impl OutputFifo {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let open = |read: bool, flags: i32| {
            let mut options = File::options();
            options.read(read).append(!read).custom_flags(flags);
            options.open(path)
        };
        // A client that waits to open its end already goes on with this, and must find a writer from then on.
        let probe = match open(false, libc::O_NONBLOCK) {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => None,
            opened => Some(opened?),
        };
        let reader = open(true, libc::O_NONBLOCK)?.into();
        let writer: OwnedFd = open(false, 0)?.into();
        let late = match probe {
            Some(_) => None,
            None => Some(LateClient::new(path, writer.try_clone()?)),
        };
        let late = late.transpose().unwrap_or_else(|error| {
            // As when the node has no inotify instance left. Few clients are so late.
            warn!(path:% = path.display(), error:%; "cannot wait for the client of a FIFO");
            None
        });
        Ok(Self {
            writer,
            reader,
            late,
        })
    }
}

/// Holds a write end for a client that has not come yet.
#[derive(Debug)]
pub(super) struct LateClient {
    /// Readable once the FIFO is opened again. Another process of the container may do so too, by the name
    /// `/dev/stdout`: then a client that is later still is not waited for.
    opened: Inotify,
    writer: OwnedFd,
}

impl LateClient {
    fn new(path: &Path, writer: OwnedFd) -> io::Result<Self> {
        let opened = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        opened.add_watch(path, AddWatchFlags::IN_OPEN)?;
        Ok(Self { opened, writer })
    }

    /// Begins to wait. To be called within the runtime.
    pub(super) fn start(self) -> HeldForClient {
        HeldForClient(tokio::spawn(async move {
            let Self { opened, writer } = self;
            let waited = match sys::readable(opened.as_fd()) {
                Ok(watched) => watched.readable().await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = waited {
                warn!(error:%; "cannot wait for the client of a FIFO");
            }
            drop(writer);
        }))
    }
}

/// The wait for a client. Its drop ends it.
#[derive(Debug)]
pub(super) struct HeldForClient(JoinHandle<()>);

impl Drop for HeldForClient {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(120);

    fn fifo(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("out");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        path
    }

    /// A client that opens its end as containerd's do: it waits for a writer.
    fn client(path: &Path) -> tokio::task::JoinHandle<String> {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            let mut file = File::open(path).expect("open");
            file.read_to_string(&mut text).expect("read");
            text
        })
    }

    /// Guards against a `ctr task exec` that hangs: its process was faster than its client.
    #[tokio::test]
    async fn client_that_comes_after_the_end_of_the_process_reads_to_the_end() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = fifo(dir.path());
        let OutputFifo {
            writer,
            reader,
            late,
        } = OutputFifo::open(&path).expect("open");
        let held = late.expect("there is no client yet").start();
        let mut process = File::from(writer);
        process.write_all(b"short").expect("print");
        drop(process);
        let text = tokio::time::timeout(LONG, client(&path)).await;
        assert_eq!(text.expect("it does not hang").expect("join"), "short");
        drop((reader, held));
    }

    /// Guards against a moment without a writer, which a client takes for the end.
    #[tokio::test]
    async fn client_that_waits_already_is_not_late_and_misses_nothing() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = fifo(dir.path());
        for _ in 0..50 {
            let mut options = File::options();
            let present = options.read(true).custom_flags(libc::O_NONBLOCK);
            let present = present.open(&path).expect("open");
            let client = client(&path);
            let fifo = OutputFifo::open(&path).expect("open");
            assert!(fifo.late.is_none());
            let mut process = File::from(fifo.writer);
            // The client's thread may not have begun to open it, and has to before the last writer has gone.
            process.write_all(b"all").expect("print");
            while sys::unread(present.as_fd()).expect("unread") > 0 {
                tokio::task::yield_now().await;
            }
            drop(process);
            let text = tokio::time::timeout(LONG, client).await;
            assert_eq!(text.expect("it does not hang").expect("join"), "all");
        }
    }
}
