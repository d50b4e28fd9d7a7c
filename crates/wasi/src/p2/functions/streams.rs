//! The functions of `wasi:io/streams`.
#![forbid(unsafe_code)]

use wasmtime::component::Resource;

use crate::p2::{
    bindings::wasi::io::streams::{self, HostInputStream, HostOutputStream, StreamError},
    failure::{IoError, StreamFailure, StreamResult},
    guest::ComponentGuest,
    handles::{InputStream, OutputHandle, Pollable, Unsent},
};

/// What `blocking-write-and-flush` takes at most, by the interface.
const BLOCKING: usize = 4096;

impl streams::Host for ComponentGuest {
    fn convert_stream_error(&mut self, failure: StreamFailure) -> wasmtime::Result<StreamError> {
        match failure {
            StreamFailure::Closed => Ok(StreamError::Closed),
            StreamFailure::Failed(error) => {
                let error = self.push(IoError(error))?;
                Ok(StreamError::LastOperationFailed(error))
            }
            StreamFailure::Trap(trap) => Err(trap),
        }
    }
}

impl HostInputStream for ComponentGuest {
    fn read(&mut self, stream: Resource<InputStream>, most: u64) -> StreamResult<Vec<u8>> {
        self.table.get_mut(&stream)?.read(most)
    }

    fn blocking_read(&mut self, stream: Resource<InputStream>, most: u64) -> StreamResult<Vec<u8>> {
        let Self { table, unsent, .. } = self;
        table.get_mut(&stream)?.blocking_read(most, &**unsent)
    }

    fn skip(&mut self, stream: Resource<InputStream>, most: u64) -> StreamResult<u64> {
        Ok(self.table.get_mut(&stream)?.read(most)?.len() as u64)
    }

    fn blocking_skip(&mut self, stream: Resource<InputStream>, most: u64) -> StreamResult<u64> {
        Ok(HostInputStream::blocking_read(self, stream, most)?.len() as u64)
    }

    fn subscribe(&mut self, stream: Resource<InputStream>) -> wasmtime::Result<Resource<Pollable>> {
        let pollable = self.table.get(&stream)?.pollable();
        self.push(pollable)
    }

    fn drop(&mut self, stream: Resource<InputStream>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}

impl ComponentGuest {
    /// Calls a function of a stream, after which the stream may keep something.
    fn with_output<T>(
        &self,
        stream: &Resource<OutputHandle>,
        call: impl FnOnce(&OutputHandle, &Unsent) -> StreamResult<T>,
    ) -> StreamResult<T> {
        let stream = self.table.get(stream)?;
        let called = call(stream, &self.unsent);
        self.unsent.note(stream);
        called
    }
}

impl HostOutputStream for ComponentGuest {
    fn check_write(&mut self, stream: Resource<OutputHandle>) -> StreamResult<u64> {
        self.with_output(&stream, |stream, unsent| {
            Ok(stream.check_write(unsent.room())? as u64)
        })
    }

    fn write(&mut self, stream: Resource<OutputHandle>, bytes: Vec<u8>) -> StreamResult<()> {
        self.with_output(&stream, |stream, unsent| stream.write(&bytes, unsent))
    }

    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<OutputHandle>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        bounded(length)?;
        self.with_output(&stream, |stream, unsent| {
            stream.blocking_write(&bytes, unsent)
        })
    }

    fn flush(&mut self, stream: Resource<OutputHandle>) -> StreamResult<()> {
        self.with_output(&stream, |stream, _| stream.flush())
    }

    fn blocking_flush(&mut self, stream: Resource<OutputHandle>) -> StreamResult<()> {
        self.with_output(&stream, |stream, unsent| stream.blocking_flush(unsent))
    }

    fn subscribe(
        &mut self,
        stream: Resource<OutputHandle>,
    ) -> wasmtime::Result<Resource<Pollable>> {
        let stream = OutputHandle::clone(self.table.get(&stream)?);
        self.push(Pollable::Output(stream))
    }

    fn write_zeroes(&mut self, stream: Resource<OutputHandle>, length: u64) -> StreamResult<()> {
        self.with_output(&stream, |stream, unsent| stream.write_zeros(length, unsent))
    }

    fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<OutputHandle>,
        length: u64,
    ) -> StreamResult<()> {
        let length = bounded(length)?;
        self.with_output(&stream, |stream, unsent| {
            stream.blocking_write(&vec![0; length], unsent)
        })
    }

    fn splice(
        &mut self,
        stream: Resource<OutputHandle>,
        source: Resource<InputStream>,
        most: u64,
    ) -> StreamResult<u64> {
        let room = self.check_write(Resource::new_borrow(stream.rep()))?;
        let bytes = self.table.get_mut(&source)?.read(most.min(room))?;
        let length = bytes.len() as u64;
        HostOutputStream::write(self, stream, bytes)?;
        Ok(length)
    }

    fn blocking_splice(
        &mut self,
        stream: Resource<OutputHandle>,
        source: Resource<InputStream>,
        most: u64,
    ) -> StreamResult<u64> {
        let room = self.with_output(&stream, |stream, unsent| {
            loop {
                match stream.check_write(unsent.room())? {
                    0 => stream.wait(unsent)?,
                    room => return Ok(room as u64),
                }
            }
        })?;
        let bytes = HostInputStream::blocking_read(self, source, most.min(room))?;
        let length = bytes.len() as u64;
        HostOutputStream::write(self, stream, bytes)?;
        Ok(length)
    }

    fn drop(&mut self, stream: Resource<OutputHandle>) -> wasmtime::Result<()> {
        let stream = self.table.delete(stream)?;
        self.unsent.linger(&stream);
        Ok(())
    }
}

fn bounded(length: u64) -> StreamResult<usize> {
    match usize::try_from(length) {
        Ok(length) if length <= BLOCKING => Ok(length),
        _ => Err(StreamFailure::Trap(wasmtime::Error::msg(format!(
            "the guest writes {length} bytes at once where {BLOCKING} are allowed"
        )))),
    }
}
