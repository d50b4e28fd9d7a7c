//! The terminal of a process: a pseudoterminal whose master the shim holds, as containerd's shim for runc does.
//!
//! One task copies what a client types from containerd's FIFO to the master, and what the process prints from
//! the master to the other FIFO. It needs no thread. A client that leaves hangs nothing up, because the shim
//! holds an end of both FIFOs. Only `closeIO` followed by the end of the last client does, as under runc.
//!
//! The process gets the slave of the host's pseudoterminal. If its container has a devpts, the runner makes
//! another one there, and sends its master, which then takes the place of the first.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};
use std::time::Duration;

use log::warn;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use wasm_interp_runner_client::receive;

use crate::sys;

/// As runc's shim copies.
const BUFFER: usize = 4096;
/// How often a terminal is looked at that no process has open. The process may open it again.
const HUNG_UP: Duration = Duration::from_millis(50);
/// How long a slow reader may keep a deletion waiting, as under runc.
const DRAIN: Duration = Duration::from_secs(10);

type Master = AsyncFd<OwnedFd>;

/// Where the output goes.
#[derive(Debug)]
pub(super) enum TerminalOutput {
    Nowhere,
    /// Opened with `O_NONBLOCK`.
    Fifo(File),
    /// A log.
    File(File),
}

/// A terminal whose process does not exist yet.
#[derive(Debug)]
pub(super) struct NewTerminal {
    master: OwnedFd,
    /// Opened with `O_NONBLOCK`.
    input: Option<File>,
    output: TerminalOutput,
    /// Where the runner sends another master.
    socket: UnixStream,
    /// The runner's end.
    runners: UnixStream,
}

impl NewTerminal {
    /// Returns the slave too.
    pub(super) fn open(input: Option<File>, output: TerminalOutput) -> io::Result<(Self, OwnedFd)> {
        let (master, slave) = sys::open_pty()?;
        let (socket, runners) = UnixStream::pair()?;
        let terminal = Self {
            master,
            input,
            output,
            socket,
            runners,
        };
        Ok((terminal, slave))
    }

    /// The socket that the runner gets.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.runners.as_fd()
    }

    /// Sets its size. A terminal of the container's own gets the same.
    pub(super) fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        sys::resize_terminal(self.master.as_fd(), columns, rows)
    }

    /// Writes a line of the shim's own to the output.
    pub(super) fn report(&self, text: &str) -> io::Result<()> {
        match &self.output {
            TerminalOutput::Nowhere => Ok(()),
            TerminalOutput::Fifo(file) | TerminalOutput::File(file) => {
                (&*file).write_all(format!("{text}\r\n").as_bytes())
            }
        }
    }

    /// Begins to copy. To be called when the runner has ended, within the runtime.
    pub(super) fn start(self) -> io::Result<Terminal> {
        drop(self.runners);
        let master = match received_master(&self.socket)? {
            Some(containers) => {
                set_nonblocking(&containers)?;
                containers
            }
            None => self.master,
        };
        let both = Interest::READABLE | Interest::WRITABLE;
        let master = Arc::new(sys::register(master, both)?);
        let handle = Arc::downgrade(&master);
        let input = self
            .input
            .map(|input| sys::register(input.into(), Interest::READABLE))
            .transpose()?;
        let output = LossySink {
            sink: Sink::new(self.output)?,
            failing: false,
        };
        let (ended, process_ended) = watch::channel(false);
        let (copied, done) = watch::channel(false);
        let copying = tokio::spawn(async move {
            tokio::select! {
                () = copy_out(&master, output, process_ended) => {}
                () = copy_in(input, &master) => {}
            }
            drop(master);
            copied.send_replace(true);
        });
        Ok(Terminal {
            master: handle,
            ended,
            done,
            copying,
        })
    }
}

/// The master that the runner has sent, if it has.
fn received_master(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    match receive(socket) {
        Ok(master) => Ok(Some(master.into())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        // A failed runner may have left a process that holds the other end.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Adds `O_NONBLOCK` to the flags of an open file.
pub(super) fn set_nonblocking(file: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The terminal of a process. Its drop hangs it up.
#[derive(Debug)]
pub(super) struct Terminal {
    /// Gone when it is hung up.
    master: Weak<Master>,
    /// Becomes true when the process has ended.
    ended: watch::Sender<bool>,
    /// Becomes true when all of the output is copied.
    done: watch::Receiver<bool>,
    copying: JoinHandle<()>,
}

impl Terminal {
    /// Succeeds if it is hung up.
    pub(super) fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        self.master.upgrade().map_or(Ok(()), |master| {
            sys::resize_terminal(master.get_ref().as_fd(), columns, rows)
        })
    }

    /// The process has ended: what it has printed is still copied, what others print later is not.
    pub(super) fn process_ended(&self) {
        self.ended.send_replace(true);
    }

    /// Waits for a limited time until all of the output is copied.
    pub(super) fn copied(&self) -> impl Future<Output = ()> + use<> {
        let mut done = self.done.clone();
        async move {
            let waited = tokio::time::timeout(DRAIN, done.wait_for(|done| *done)).await;
            if waited.is_err() {
                warn!("the reader of a terminal does not read; the rest of the output is lost");
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.copying.abort();
    }
}

/// A [`TerminalOutput`] within the runtime.
enum Sink {
    Nowhere,
    Fifo(AsyncFd<OwnedFd>),
    File(Arc<File>),
}

impl Sink {
    fn new(output: TerminalOutput) -> io::Result<Self> {
        Ok(match output {
            TerminalOutput::Nowhere => Self::Nowhere,
            TerminalOutput::Fifo(file) => {
                Self::Fifo(sys::register(file.into(), Interest::WRITABLE)?)
            }
            TerminalOutput::File(file) => Self::File(Arc::new(file)),
        })
    }

    async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Fifo(fifo) => write_all(fifo, bytes).await,
            Self::File(file) => {
                // A disk may be slow, and never says so before.
                let (file, bytes) = (Arc::clone(file), bytes.to_owned());
                spawn_blocking(move || (&*file).write_all(&bytes)).await?
            }
        }
    }
}

/// A [`Sink`] whose failures are logged once and stop no process.
struct LossySink {
    sink: Sink,
    /// Whether the last write failed.
    failing: bool,
}

impl LossySink {
    async fn write_or_lose(&mut self, bytes: &[u8]) {
        let written = self.sink.write_all(bytes).await;
        if let Err(error) = &written {
            if !self.failing {
                warn!(error:%; "cannot write the output of a terminal; it is lost");
            }
            // A full disk may have room again. The reader of a pipe that has gone does not come back.
            if let Sink::Fifo(_) = self.sink {
                self.sink = Sink::Nowhere;
            }
        }
        self.failing = written.is_err();
    }
}

async fn write_all(fd: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = fd.writable().await?;
        let closed = ready.ready().is_write_closed();
        match ready.try_io(|fd| Ok(nix::unistd::write(fd, bytes)?)) {
            Ok(written) => bytes = &bytes[written?..],
            // Once a terminal was hung up, the event loop calls it writable for ever.
            Err(_) if closed => tokio::time::sleep(HUNG_UP).await,
            Err(_) => {}
        }
    }
    Ok(())
}

/// Waits until there is something to read. `None`: the terminal is or was hung up, which the event loop does not
/// forget: it would call it readable for ever.
async fn read(master: &Master, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        let mut ready = master.readable().await?;
        let closed = ready.ready().is_read_closed();
        match ready.try_io(|fd| Ok(nix::unistd::read(fd, buffer)?)) {
            Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Ok(None),
            Ok(length) => return length.map(Some),
            Err(_) if closed => return Ok(None),
            Err(_) => {}
        }
    }
}

/// Copies until the process has ended and all of its output is copied. Where that cannot be written, as after the
/// death of a logging program, it is lost: the process goes on.
async fn copy_out(
    master: &Master,
    mut output: LossySink,
    mut process_ended: watch::Receiver<bool>,
) {
    let mut buffer = [0; BUFFER];
    loop {
        let read = tokio::select! {
            biased;
            read = read(master, &mut buffer) => read,
            _ = process_ended.wait_for(|ended| *ended) => break,
        };
        match read {
            Ok(Some(length)) => {
                output.write_or_lose(&buffer[..length]).await;
            }
            Ok(None) => break,
            Err(error) => {
                warn!(error:%; "cannot read a terminal");
                return;
            }
        }
    }
    loop {
        // Before the read: the kernel may say that the terminal is hung up although something was written just before.
        // A read after the end gets that.
        let has_ended = *process_ended.borrow();
        match nix::unistd::read(master.get_ref(), &mut buffer) {
            Ok(length) if length > 0 => {
                output.write_or_lose(&buffer[..length]).await;
            }
            Ok(_) | Err(Errno::EAGAIN | Errno::EIO) if has_ended => return,
            Ok(_) | Err(Errno::EAGAIN | Errno::EIO | Errno::EINTR) => {
                let ended = process_ended.wait_for(|ended| *ended);
                // Either way the next round tells.
                let _ = tokio::time::timeout(HUNG_UP, ended).await;
            }
            Err(error) => {
                warn!(error:%; "cannot read a terminal");
                return;
            }
        }
    }
}

/// Copies until the last client has gone and the shim's own end is closed.
async fn copy_in(input: Option<AsyncFd<OwnedFd>>, master: &Master) {
    let Some(input) = input else {
        return std::future::pending().await;
    };
    let mut buffer = [0; BUFFER];
    loop {
        let read = |fd: &OwnedFd| Ok(nix::unistd::read(fd, &mut buffer)?);
        match input.async_io(Interest::READABLE, read).await {
            Ok(0) => return,
            Ok(length) => {
                // Where no process has the terminal open, what is typed is lost.
                if let Err(error) = write_all(master, &buffer[..length]).await
                    && error.raw_os_error() != Some(libc::EIO)
                {
                    warn!(error:%; "cannot write to a terminal");
                }
            }
            Err(error) => {
                warn!(error:%; "cannot read what is typed into a terminal");
                return std::future::pending().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    use wasm_interp_runner_client::hand_over;

    use super::*;

    struct Clients {
        input: File,
        output: File,
        /// Keeps the FIFO of the input from its end.
        _own: File,
    }

    fn fifo(dir: &Path, name: &str) -> std::path::PathBuf {
        let path = dir.join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        path
    }

    /// A terminal over FIFOs, its slave, and the clients' ends.
    fn terminal(dir: &Path) -> (NewTerminal, File, Clients) {
        let open = |path: &Path, read: bool| {
            let mut options = File::options();
            options
                .read(true)
                .write(!read)
                .custom_flags(libc::O_NONBLOCK);
            options.open(path).expect("open")
        };
        let (input, output) = (fifo(dir, "in"), fifo(dir, "out"));
        let client = open(&output, true);
        let reader = open(&input, true);
        let own = open(&input, false);
        let clients = Clients {
            input: open(&input, false),
            output: client,
            _own: own,
        };
        let out = TerminalOutput::Fifo(open(&output, false));
        let (terminal, slave) = NewTerminal::open(Some(reader), out).expect("a terminal");
        (terminal, File::from(slave), clients)
    }

    /// Reads what has come so far, until it holds `text`.
    async fn shown(output: &mut File, text: &str) -> String {
        let mut all = String::new();
        while !all.contains(text) {
            let mut buffer = [0; 256];
            match output.read(&mut buffer) {
                Ok(length) => all.push_str(&String::from_utf8_lossy(&buffer[..length])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        all
    }

    #[tokio::test]
    async fn what_is_typed_arrives_is_echoed_and_answers_come_back() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (terminal, mut slave, mut clients) = terminal(dir.path());
        let terminal = terminal.start().expect("start");
        terminal.resize(132, 43).expect("resize");
        clients.input.write_all(b"hello\n").expect("type");
        assert_eq!(shown(&mut clients.output, "\n").await, "hello\r\n");
        let mut line = [0; 16];
        let length = slave.read(&mut line).expect("read");
        assert_eq!(&line[..length], b"hello\n");
        slave.write_all(b"answer\n").expect("print");
        assert_eq!(shown(&mut clients.output, "answer\r\n").await, "answer\r\n");
    }

    #[tokio::test]
    async fn client_that_leaves_hangs_nothing_up_and_the_next_one_goes_on() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (terminal, mut slave, clients) = terminal(dir.path());
        let _terminal = terminal.start().expect("start");
        let Clients {
            input,
            mut output,
            _own,
        } = clients;
        drop(input);
        slave.write_all(b"still there\n").expect("print");
        shown(&mut output, "still there\r\n").await;
        let mut next = File::options()
            .write(true)
            .open(dir.path().join("in"))
            .expect("open");
        next.write_all(b"again\n").expect("type");
        shown(&mut output, "again\r\n").await;
    }

    /// As the pipe of a logging program that has died. Under runc, the process hangs once its terminal is full.
    #[tokio::test]
    async fn output_that_no_reader_can_get_is_lost_and_hangs_nothing_up() {
        let (reader, pipe) = nix::unistd::pipe2(OFlag::O_CLOEXEC).expect("pipe");
        set_nonblocking(&pipe).expect("flags");
        drop(reader);
        let output = TerminalOutput::Fifo(pipe.into());
        let (terminal, slave) = NewTerminal::open(None, output).expect("a terminal");
        let mut slave = File::from(slave);
        let terminal = terminal.start().expect("start");
        // More than a terminal holds.
        let printed = spawn_blocking(move || {
            slave.write_all(&[b'x'; 1 << 18]).expect("print");
            slave
        });
        let slave = printed.await.expect("it does not hang");
        assert!(slave.metadata().is_ok() && !terminal.copying.is_finished());
        terminal.process_ended();
        terminal.copied().await;
    }

    #[tokio::test]
    async fn output_of_an_ended_process_is_copied_to_its_end() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (terminal, mut slave, mut clients) = terminal(dir.path());
        let terminal = terminal.start().expect("start");
        let keeps = slave.try_clone().expect("another process has it open");
        slave.write_all(b"last words\n").expect("print");
        drop(slave);
        terminal.process_ended();
        terminal.copied().await;
        assert_eq!(shown(&mut clients.output, "\n").await, "last words\r\n");
        let mut rest = Vec::new();
        clients
            .output
            .read_to_end(&mut rest)
            .expect("the shim has closed its end");
        assert!(rest.is_empty());
        drop(keeps);
    }

    /// A program may close its streams and open its terminal again.
    #[tokio::test]
    async fn terminal_that_no_process_has_open_is_not_lost() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (terminal, mut slave, mut clients) = terminal(dir.path());
        let path = std::fs::read_link(format!("/proc/self/fd/{}", slave.as_raw_fd()));
        let terminal = terminal.start().expect("start");
        slave.write_all(b"before\n").expect("print");
        shown(&mut clients.output, "before\r\n").await;
        drop(slave);
        tokio::task::yield_now().await;
        let mut again = File::options()
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(path.expect("its name"))
            .expect("open again");
        again.write_all(b"after\n").expect("print");
        shown(&mut clients.output, "after\r\n").await;
        drop(again);
        terminal.process_ended();
        terminal.copied().await;
    }

    #[tokio::test]
    async fn master_from_the_runner_takes_the_place_of_the_hosts() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (terminal, _hosts, mut clients) = terminal(dir.path());
        let (master, slave) = sys::open_pty().expect("another");
        hand_over(terminal.socket(), File::from(master)).expect("send");
        let _terminal = terminal.start().expect("start");
        File::from(slave).write_all(b"mine\n").expect("print");
        shown(&mut clients.output, "mine\r\n").await;
    }
}
