//! Streams to write to.
//!
//! A file, a pipe or a terminal takes all that it is passed, and a write waits for that, as write(2) does: many programs
//! take it for granted of their standard streams.
//!
//! What the kernel does not take at once of a socket is kept: the interface says how much may be written, and the
//! kernel does not. It is written as soon as there is room (`Unsent` sees to that), before the guest is allowed more.
//! Until then an end of this process resets the connection, whatever ends it: the other side does not take the beginning
//! for all.
#![forbid(unsafe_code)]

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::{
    event::PollFlags,
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::{Errno as Kernel, write},
    net::{Shutdown, shutdown, sockopt::set_socket_linger},
};

use super::source::{Interest, Source, is_ready};
use crate::{
    limits,
    p2::failure::{StreamFailure, StreamResult},
    sys::{self, Standard},
    transfer::PIPE_BUF,
    wait::{Meanwhile, interruptible},
};

/// Shared by its handle and by what waits for it.
pub type OutputHandle = Arc<OutputStream>;

/// Where a stream writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteAt {
    /// After what was written last.
    Next,
    /// From here on, to a file.
    Offset(u64),
    /// To the end of a file, wherever that is then.
    End,
}

/// A stream to write to.
#[derive(Debug)]
pub struct OutputStream {
    source: Source,
    state: Mutex<OutputState>,
}

#[derive(Debug)]
struct OutputState {
    at: WriteAt,
    /// How much the guest may write without asking.
    permit: usize,
    /// What the kernel has not taken yet.
    kept: Vec<u8>,
    /// The end of the last descriptor resets the connection.
    resets: bool,
    /// The other side is told of the end once nothing is kept.
    ends: bool,
    closed: Option<OutputEnd>,
}

/// Why nothing more can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutputEnd {
    /// No reader is left, or the guest has ended it.
    Ended,
    /// The kernel refuses, and the guest has to be told once.
    Failed(Kernel),
}

impl OutputStream {
    pub(in crate::p2) fn new(source: Source, at: WriteAt) -> OutputHandle {
        Arc::new(Self {
            source,
            state: Mutex::new(OutputState {
                at,
                permit: 0,
                kept: Vec::new(),
                resets: false,
                ends: false,
                closed: None,
            }),
        })
    }

    /// The container's standard output or error.
    pub(in crate::p2) fn standard(stream: Standard) -> OutputHandle {
        Self::new(Source::Standard(stream), WriteAt::Next)
    }

    fn state(&self) -> MutexGuard<'_, OutputState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::p2) fn interest(&self) -> Interest<'_> {
        let state = self.state();
        if state.closed.is_some() || state.ends || state.at != WriteAt::Next {
            Interest::Nothing
        } else {
            Interest::File(self.source.as_fd(), PollFlags::OUT)
        }
    }

    /// Writes what is kept as far as the kernel takes it. Whether nothing is kept any more.
    pub(in crate::p2) fn settle(&self) -> bool {
        let state = &mut *self.state();
        let kept = std::mem::take(&mut state.kept);
        // What has failed is told by the next function that is called.
        self.send(state, kept);
        state.kept.is_empty()
    }

    /// How much is kept.
    pub(in crate::p2) fn kept(&self) -> usize {
        self.state().kept.len()
    }

    /// Forgets what is kept. The other side hears of that when the connection ends.
    pub(in crate::p2) fn abandon(&self) {
        let state = &mut *self.state();
        state.kept = Vec::new();
        state.closed = Some(OutputEnd::Ended);
    }

    /// Writes as much of `bytes` as the kernel takes, and keeps the rest.
    fn send(&self, state: &mut OutputState, bytes: Vec<u8>) {
        state.kept = self.deliver(state, bytes);
        let resets = !state.kept.is_empty();
        if resets != state.resets && self.is_socket() {
            state.resets = resets;
            // The kernel takes it for each socket.
            let _ = set_socket_linger(&self.source, resets.then_some(Duration::ZERO));
        }
    }

    fn is_socket(&self) -> bool {
        matches!(self.source, Source::Socket(_))
    }

    /// Writes as much of `bytes` as the kernel takes, and returns the rest.
    fn deliver(&self, state: &mut OutputState, mut bytes: Vec<u8>) -> Vec<u8> {
        let mut written = 0;
        while written < bytes.len() && state.closed.is_none() {
            match self.write_once(&mut state.at, &bytes[written..]) {
                Ok(count) => written += count,
                Err(Kernel::AGAIN) => break,
                Err(error) => state.closed = Some(self.end_by(error)),
            }
        }
        if state.closed.is_some() {
            return Vec::new();
        }
        if written == bytes.len() && state.ends {
            state.closed = Some(OutputEnd::Ended);
            // It is no longer connected: then the other side knows.
            let _ = shutdown(&self.source, Shutdown::Write);
        }
        bytes.drain(..written);
        bytes
    }

    /// What an error means for the stream.
    fn end_by(&self, error: Kernel) -> OutputEnd {
        if error == Kernel::PIPE {
            // Also if a read has been told already that the connection is lost.
            return self
                .source
                .lost()
                .map_or(OutputEnd::Ended, OutputEnd::Failed);
        }
        self.source.lose(error);
        OutputEnd::Failed(error)
    }

    fn write_once(&self, at: &mut WriteAt, bytes: &[u8]) -> rustix::io::Result<usize> {
        match at {
            WriteAt::Next => interruptible(|| write(&self.source, bytes)),
            WriteAt::Offset(offset) => {
                let place = *offset;
                let count = interruptible(|| sys::write_at(self.source.as_fd(), bytes, place))?;
                *offset = place.saturating_add(count as u64);
                Ok(count)
            }
            WriteAt::End => self.append(bytes),
        }
    }

    /// The description also writes at positions, which the flag would change: it has it for this call alone.
    fn append(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        let flags = fcntl_getfl(&self.source)?;
        fcntl_setfl(&self.source, flags | OFlags::APPEND)?;
        let written = interruptible(|| write(&self.source, bytes));
        fcntl_setfl(&self.source, flags)?;
        written
    }

    /// How much may be written now. All that the kernel does not take is to fit into `left`, except of a few bytes of
    /// which it takes most: so each stream gets on.
    pub(in crate::p2) fn check_write(&self, left: usize) -> StreamResult<usize> {
        let settled = self.settle();
        let mut state = self.state();
        state.open()?;
        let ready = state.at != WriteAt::Next
            || is_ready(&self.source, PollFlags::OUT).map_err(StreamFailure::Failed)?;
        let room = if self.is_socket() {
            limits::STREAM.min(left.max(PIPE_BUF))
        } else {
            limits::WRITE
        };
        state.permit = if settled && ready { room } else { 0 };
        Ok(state.permit)
    }

    /// Writes what has been permitted. Of a socket, what the kernel does not take is kept; anything else takes all of it,
    /// however long that takes. Others get on meanwhile.
    pub(in crate::p2) fn write(&self, bytes: &[u8], others: &dyn Meanwhile) -> StreamResult<()> {
        self.permitted(bytes.len() as u64)?;
        self.state().permit -= bytes.len();
        if !self.is_socket() {
            return self.write_all(bytes, others);
        }
        let state = &mut *self.state();
        let mut all = std::mem::take(&mut state.kept);
        all.extend_from_slice(bytes);
        self.send(state, all);
        state.open()
    }

    /// Writes zeros as [`Self::write`] does.
    pub(in crate::p2) fn write_zeros(
        &self,
        length: u64,
        others: &dyn Meanwhile,
    ) -> StreamResult<()> {
        let mut left = self.permitted(length)?;
        let zeros = vec![0; left.min(limits::STREAM)];
        while left > 0 {
            let now = left.min(zeros.len());
            self.write(&zeros[..now], others)?;
            left -= now;
        }
        Ok(())
    }

    /// That length, if so much may be written.
    fn permitted(&self, length: u64) -> StreamResult<usize> {
        let state = &mut *self.state();
        state.open()?;
        match usize::try_from(length) {
            Ok(length) if length <= state.permit => Ok(length),
            _ => Err(StreamFailure::Trap(wasmtime::Error::msg(format!(
                "the guest writes {length} bytes to a stream where it may write {}",
                state.permit
            )))),
        }
    }

    /// Writes all to something that is no socket.
    fn write_all(&self, mut bytes: &[u8], others: &dyn Meanwhile) -> StreamResult<()> {
        let mut at = self.state().at;
        let mut failed = None;
        while !bytes.is_empty() {
            let now = if at == WriteAt::Next && !others.is_idle() {
                self.wait(others)?;
                // So much a pipe that has room takes at once.
                bytes.len().min(PIPE_BUF)
            } else {
                bytes.len()
            };
            match self.write_once(&mut at, &bytes[..now]) {
                Ok(count) => bytes = &bytes[count..],
                // Someone else has made the description one that does not wait.
                Err(Kernel::AGAIN) => self.wait(others)?,
                Err(error) => {
                    failed = Some(self.end_by(error));
                    break;
                }
            }
        }
        let mut state = self.state();
        state.at = at;
        state.closed = state.closed.or(failed);
        state.open()
    }

    pub(in crate::p2) fn flush(&self) -> StreamResult<()> {
        self.settle();
        self.state().open()
    }

    /// Writes all, however long that takes. Others get on meanwhile.
    pub(in crate::p2) fn blocking_write(
        &self,
        bytes: &[u8],
        others: &dyn Meanwhile,
    ) -> StreamResult<()> {
        self.blocking_flush(others)?;
        if !self.is_socket() {
            return self.write_all(bytes, others);
        }
        self.send(&mut self.state(), bytes.to_vec());
        self.blocking_flush(others)
    }

    pub(in crate::p2) fn blocking_flush(&self, others: &dyn Meanwhile) -> StreamResult<()> {
        while !self.settle() {
            self.wait(others)?;
        }
        self.state().open()
    }

    /// Waits until there is room for at least something.
    pub(in crate::p2) fn wait(&self, others: &dyn Meanwhile) -> StreamResult<()> {
        let file = self.source.as_fd();
        others
            .wait_for(file, PollFlags::OUT, None)
            .map_err(StreamFailure::Failed)?;
        Ok(())
    }

    /// Tells the other side that nothing follows, once it has what was written.
    pub(in crate::p2) fn end(&self) {
        self.state().ends = true;
        self.settle();
    }
}

impl AsFd for OutputStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

impl OutputState {
    /// Whether it can be written to.
    fn open(&mut self) -> StreamResult<()> {
        match self.closed {
            None if self.ends => Err(StreamFailure::Closed),
            None => Ok(()),
            Some(OutputEnd::Ended) => Err(StreamFailure::Closed),
            Some(OutputEnd::Failed(error)) => {
                self.closed = Some(OutputEnd::Ended);
                Err(StreamFailure::Failed(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read as _, Write as _},
        os::fd::OwnedFd,
        time::Instant,
    };

    use super::*;

    use crate::p2::{
        handles::unsent::{PATIENCE, Unsent},
        tests::{fill, small_pair},
    };

    #[test]
    fn what_the_kernel_does_not_take_is_kept_and_sent_before_the_end() {
        let (stream, mut peer) = small_pair();
        let written = fill(&stream, limits::KEPT);
        assert!(!stream.settle(), "the kernel has taken all");
        stream.end();
        assert!(matches!(
            stream.write(&[1], &*Unsent::new(PATIENCE)),
            Err(StreamFailure::Closed)
        ));
        let mut received = 0;
        let mut buffer = vec![0; limits::STREAM];
        loop {
            stream.settle();
            match peer.read(&mut buffer).expect("read") {
                0 => break,
                count => received += count,
            }
        }
        assert_eq!(received, written);
    }

    #[test]
    fn end_waits_for_a_slow_reader_and_not_for_ever() {
        let (stream, mut peer) = small_pair();
        let written = fill(&stream, limits::KEPT);
        let unsent = Unsent::new(PATIENCE);
        unsent.note(&stream);
        unsent.drain(Instant::now());
        assert!(!stream.settle());
        let reader = std::thread::spawn(move || {
            let mut all = vec![0; written];
            peer.read_exact(&mut all).expect("read");
        });
        unsent.drain(Instant::now() + Duration::from_secs(600));
        assert!(stream.settle());
        reader.join().expect("the reader");
    }

    #[test]
    fn more_than_was_permitted_is_a_trap() {
        let (stream, _peer) = small_pair();
        let permit = stream.check_write(limits::KEPT).expect("open");
        let others = &*Unsent::new(PATIENCE);
        stream.write(&vec![0; permit - 1], others).expect("write");
        stream.write(&[0], others).expect("write");
        assert!(matches!(
            stream.write(&[0], others),
            Err(StreamFailure::Trap(_))
        ));
        stream.check_write(limits::KEPT).expect("open");
        assert!(matches!(
            stream.write_zeros(u64::MAX, others),
            Err(StreamFailure::Trap(_))
        ));
    }

    /// The reader of the pipe first reads a connection to its end.
    #[test]
    fn pipe_takes_all_that_it_is_passed_and_others_get_on() {
        const ALL: usize = 300_000;
        let (connection, mut peer) = small_pair();
        let sent = fill(&connection, limits::KEPT);
        let unsent = Unsent::new(PATIENCE);
        unsent.note(&connection);
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let reading = std::thread::spawn(move || {
            peer.read_exact(&mut vec![0; sent]).expect("read");
            let mut all = Vec::new();
            (&reader).read_to_end(&mut all).expect("read");
            all
        });
        let stream = OutputStream::new(Source::Own(Arc::new(OwnedFd::from(writer))), WriteAt::Next);
        assert!(stream.check_write(0).expect("open") >= ALL);
        stream.write(&vec![7; ALL], &*unsent).expect("write");
        stream.write_zeros(ALL as u64, &*unsent).expect("write");
        drop(stream);
        let expected = [vec![7; ALL], vec![0; ALL]].concat();
        assert!(reading.join().expect("the reader") == expected);
    }

    #[test]
    fn stream_without_a_reader_is_closed() {
        let (stream, peer) = small_pair();
        drop(peer);
        assert!(matches!(
            stream.blocking_write(&[0], &*Unsent::new(PATIENCE)),
            Err(StreamFailure::Closed)
        ));
        assert!(matches!(
            stream.check_write(limits::KEPT),
            Err(StreamFailure::Closed)
        ));
    }

    #[test]
    fn failure_is_told_once() {
        let full = File::options().write(true).open("/dev/full").expect("open");
        let source = Source::Own(Arc::new(OwnedFd::from(full)));
        let stream = OutputStream::new(source, WriteAt::Next);
        assert!(matches!(
            stream.blocking_write(&[0], &*Unsent::new(PATIENCE)),
            Err(StreamFailure::Failed(Kernel::NOSPC))
        ));
        assert!(matches!(stream.flush(), Err(StreamFailure::Closed)));
    }

    /// By one description, whose flags stay as they are.
    #[test]
    fn file_is_written_at_a_place_and_at_its_end() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"0123456789").expect("write");
        let opened = File::options().write(true).open(file.path()).expect("open");
        let source = Source::Own(Arc::new(OwnedFd::from(opened)));
        let end = OutputStream::new(source.clone(), WriteAt::End);
        let place = OutputStream::new(source, WriteAt::Offset(2));
        for (stream, text) in [(&end, "e"), (&place, "ab"), (&end, "f"), (&place, "c")] {
            stream
                .blocking_write(text.as_bytes(), &*Unsent::new(PATIENCE))
                .expect("write");
        }
        let text = std::fs::read_to_string(file.path()).expect("read");
        assert_eq!(text, "01abc56789ef");
    }
}
