//! The guest's standard streams, straight on the descriptors 0, 1 and 2: no helper thread, no copy
//! in between, no flag changed on a description that others share.
#![forbid(unsafe_code)]

use std::{
    io::IsTerminal as _,
    os::fd::{AsRawFd as _, BorrowedFd, RawFd},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::{
    cli::{IsTerminal, StdinStream, StdoutStream},
    p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult},
};

use crate::sys;

/// How much is read or written at once.
const CHUNK: usize = 64 * 1024;

/// One of the three standard streams.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stdio(BorrowedFd<'static>);

impl Stdio {
    /// `fd` is 0, 1 or 2.
    pub(super) fn new(fd: RawFd) -> Self {
        Self(sys::standard(fd))
    }

    fn read_once(self, size: usize) -> StreamResult<Bytes> {
        let mut buffer = vec![0; size.min(CHUNK)];
        if buffer.is_empty() {
            return Ok(Bytes::new());
        }
        match sys::read(self.0, &mut buffer).map_err(failed)? {
            0 => Err(StreamError::Closed),
            n => {
                buffer.truncate(n);
                Ok(buffer.into())
            }
        }
    }
}

/// Kept as an `io::Error`, so that the guest sees its errno: `EPIPE` above all.
fn failed(error: std::io::Error) -> StreamError {
    StreamError::LastOperationFailed(error.into())
}

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        self.0.is_terminal()
    }
}

impl StdinStream for Stdio {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(*self)
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(*self)
    }
}

impl StdoutStream for Stdio {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(*self)
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(*self)
    }
}

#[async_trait::async_trait]
impl InputStream for Stdio {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if sys::readable_now(self.0) {
            self.read_once(size)
        } else {
            Ok(Bytes::new())
        }
    }

    // Nothing else runs in this process while the guest waits for input, so it may block in the
    // kernel, which costs less than an event loop.
    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.read_once(size)
    }
}

#[async_trait::async_trait]
impl OutputStream for Stdio {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        sys::write_all(self.0, &bytes).map_err(failed)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(CHUNK)
    }
}

#[async_trait::async_trait]
impl Pollable for Stdio {
    /// Only a poll for input can have to wait: writes block in `write`.
    async fn ready(&mut self) {
        if self.0.as_raw_fd() != sys::STDIN || sys::readable_now(self.0) {
            return;
        }
        // Files and some devices cannot be watched; they are always ready.
        let Ok(watched) = sys::watch(self.0) else {
            return;
        };
        loop {
            let Ok(mut guard) = watched.readable().await else {
                return;
            };
            if sys::readable_now(self.0) {
                return;
            }
            guard.clear_ready();
        }
    }
}

impl AsyncRead for Stdio {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let n = sys::read(self.0, buffer.initialize_unfilled())?;
        buffer.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stdio {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        sys::write_all(self.0, bytes)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
