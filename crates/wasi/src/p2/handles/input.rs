//! Streams to read from.
#![forbid(unsafe_code)]

use std::os::fd::AsFd as _;

use rustix::{
    buffer::spare_capacity,
    event::PollFlags,
    io::{Errno as Kernel, pread, read},
};

use super::{
    pollable::Pollable,
    source::{InputEnd, Source, is_ready},
};
use crate::{
    limits,
    p2::failure::{StreamFailure, StreamResult},
    sys::Standard,
    wait::{Meanwhile, interruptible},
};

/// Where a stream reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAt {
    /// From the start of what is left. A call waits if there is nothing, unless the description says otherwise.
    Next,
    /// From here on, of a file that never lets a reader wait.
    Offset(u64),
}

/// A stream to read from.
#[derive(Debug)]
pub struct InputStream {
    source: Source,
    at: ReadAt,
    end: InputEnd,
}

impl InputStream {
    pub(in crate::p2) fn new(source: Source, at: ReadAt) -> Self {
        Self {
            source,
            at,
            end: InputEnd::default(),
        }
    }

    /// The container's standard input, without a buffer of our own: what the guest does not read, others may.
    pub(in crate::p2) fn standard() -> Self {
        Self::new(Source::Standard(Standard::Input), ReadAt::Next)
    }

    pub(in crate::p2) fn end(&self) -> InputEnd {
        self.end.clone()
    }

    pub(in crate::p2) fn pollable(&self) -> Pollable {
        match self.at {
            ReadAt::Offset(_) => Pollable::Ready,
            ReadAt::Next => Pollable::Input(self.source.clone(), self.end()),
        }
    }

    /// Reads what is there, at most so many bytes: none if the guest would have to wait.
    pub(in crate::p2) fn read(&mut self, most: u64) -> StreamResult<Vec<u8>> {
        if self.end.is_reached() {
            return Err(StreamFailure::Closed);
        }
        let bound = match self.at {
            ReadAt::Next => limits::STREAM,
            ReadAt::Offset(_) => limits::TRANSFER,
        };
        let most = usize::try_from(most).unwrap_or(bound).min(bound);
        if most == 0 {
            return Ok(Vec::new());
        }
        let mut bytes = Vec::with_capacity(most);
        let read = self.read_into(&mut bytes);
        match read {
            Ok(None) => Ok(Vec::new()),
            Ok(Some(0)) => {
                self.end.reach();
                Err(StreamFailure::Closed)
            }
            Ok(Some(_)) => Ok(bytes),
            Err(error) => {
                self.end.reach();
                Err(StreamFailure::Failed(error))
            }
        }
    }

    /// `None` if there is nothing yet.
    fn read_into(&mut self, bytes: &mut Vec<u8>) -> rustix::io::Result<Option<usize>> {
        let read = match self.at {
            ReadAt::Offset(offset) => {
                let read = interruptible(|| pread(&self.source, spare_capacity(bytes), offset))?;
                self.at = ReadAt::Offset(offset.saturating_add(read as u64));
                return Ok(Some(read));
            }
            // The description may let a reader wait.
            ReadAt::Next if !is_ready(&self.source, PollFlags::IN)? => return Ok(None),
            ReadAt::Next => interruptible(|| read(&self.source, spare_capacity(bytes))),
        };
        match read {
            // Another process has been faster.
            Err(Kernel::AGAIN) => Ok(None),
            // A write has been told already that the connection is lost.
            Ok(0) => self.source.lost().map_or(Ok(Some(0)), Err),
            Ok(count) => Ok(Some(count)),
            Err(error) => {
                self.source.lose(error);
                Err(error)
            }
        }
    }

    /// As [`InputStream::read`], but waits until there is something. Others get on meanwhile.
    pub(in crate::p2) fn blocking_read(
        &mut self,
        most: u64,
        others: &dyn Meanwhile,
    ) -> StreamResult<Vec<u8>> {
        loop {
            let bytes = self.read(most)?;
            if !bytes.is_empty() || most == 0 {
                return Ok(bytes);
            }
            let file = self.source.as_fd();
            others
                .wait_for(file, PollFlags::IN, None)
                .map_err(StreamFailure::Failed)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Write as _, pipe},
        os::fd::OwnedFd,
        sync::Arc,
    };

    use super::*;
    use crate::p2::handles::unsent::{PATIENCE, Unsent};

    #[test]
    fn read_takes_what_is_there_and_does_not_wait() {
        let (reader, mut writer) = pipe().expect("a pipe");
        let source = Source::Own(Arc::new(OwnedFd::from(reader)));
        let mut stream = InputStream::new(source, ReadAt::Next);
        let unsent = Unsent::new(PATIENCE);
        assert_eq!(stream.read(10).expect("read"), b"");
        writer.write_all(b"some text").expect("write");
        assert_eq!(stream.read(0).expect("read"), b"");
        assert_eq!(stream.read(4).expect("read"), b"some");
        assert_eq!(
            stream.blocking_read(u64::MAX, &*unsent).expect("read"),
            b" text"
        );
        assert_eq!(stream.read(u64::MAX).expect("read"), b"");
        drop(writer);
        for _ in 0..2 {
            assert!(matches!(stream.read(1), Err(StreamFailure::Closed)));
        }
    }

    #[test]
    fn file_is_read_from_a_place_on() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"0123456789").expect("write");
        let source = Source::Own(Arc::new(OwnedFd::from(file)));
        let mut stream = InputStream::new(source.clone(), ReadAt::Offset(7));
        assert!(matches!(stream.pollable(), Pollable::Ready));
        assert_eq!(stream.read(2).expect("read"), b"78");
        assert_eq!(stream.read(2).expect("read"), b"9");
        assert!(matches!(stream.read(2), Err(StreamFailure::Closed)));
        let mut beyond = InputStream::new(source, ReadAt::Offset(u64::MAX));
        assert!(matches!(
            beyond.read(1),
            Err(StreamFailure::Failed(Kernel::INVAL))
        ));
    }
}
