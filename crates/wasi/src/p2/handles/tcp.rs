//! A TCP socket of a component, and its states.
#![forbid(unsafe_code)]

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use rustix::{
    event::PollFlags,
    io::{Errno as Kernel, read},
    net::{Shutdown, shutdown, sockopt},
};

use super::{
    output::OutputStream,
    socket::SocketFd,
    source::{InputEnd, Interest, is_ready},
};
use crate::{
    errno::Errno,
    p2::failure::{SocketFailure, SocketResult},
    sockets::{Socket, inet},
    wait::uninterrupted,
};

/// The connections that wait to be accepted, if the guest does not say: Linux's own default.
const BACKLOG: i32 = 4096;

/// Shared by its handle and by what waits for it.
pub type TcpHandle = Arc<TcpSocket>;

/// A TCP socket. Its streams hold its descriptor too, so a connection ends with the last of them.
#[derive(Debug)]
pub struct TcpSocket {
    pub(in crate::p2) fd: Arc<SocketFd>,
    pub(in crate::p2) socket: Socket,
    inner: Mutex<TcpInner>,
}

#[derive(Debug)]
pub(in crate::p2) struct TcpInner {
    state: TcpState,
    pub(in crate::p2) backlog: i32,
    /// That of the stream that reads from it.
    pub(in crate::p2) input: InputEnd,
    /// The stream that writes to it, as long as it exists.
    pub(in crate::p2) output: Weak<OutputStream>,
}

/// The states of the interface's documentation. Binding and listening are done at once: the second half of each
/// only says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::p2) enum TcpState {
    Unbound,
    BindStarted,
    Bound,
    ListenStarted,
    Listening,
    Connecting,
    Connected,
    /// A connection that was not made.
    Closed,
}

impl TcpSocket {
    pub(in crate::p2) fn new(fd: Arc<SocketFd>, socket: Socket, state: TcpState) -> TcpHandle {
        Arc::new(Self {
            fd,
            socket,
            inner: Mutex::new(TcpInner {
                state,
                backlog: BACKLOG,
                input: InputEnd::default(),
                output: Weak::new(),
            }),
        })
    }

    pub(in crate::p2) fn inner(&self) -> MutexGuard<'_, TcpInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::p2) fn state(&self) -> TcpState {
        self.inner().state
    }

    pub(in crate::p2) fn enter(&self, state: TcpState) {
        self.inner().state = state;
    }

    /// What it waits for in its present state.
    pub(in crate::p2) fn interest(&self) -> Interest<'_> {
        match self.state() {
            TcpState::Connecting => Interest::File(self.fd.as_fd(), PollFlags::OUT),
            TcpState::Listening => Interest::File(self.fd.as_fd(), PollFlags::IN),
            _ => Interest::Nothing,
        }
    }

    /// For what asks something of the kernel.
    pub(in crate::p2) fn made(&self) -> SocketResult<BorrowedFd<'_>> {
        inet::made(&self.socket)?;
        Ok(self.fd.as_fd())
    }

    /// Ends one direction. It may have ended already, with the connection.
    pub(in crate::p2) fn shut_down(&self, direction: Shutdown) -> SocketResult<()> {
        match shutdown(&self.fd, direction) {
            Err(Kernel::NOTCONN) => Ok(()),
            ended => Ok(ended?),
        }
    }

    /// Nothing more is read, and what has arrived is thrown away: the kernel answers the close of a socket that has not
    /// been read to its end with a reset, by which the other side may lose what was sent to it.
    pub(in crate::p2) fn end_input(&self) -> SocketResult<()> {
        self.inner().input.reach();
        self.shut_down(Shutdown::Read)?;
        let mut left = sockopt::socket_recv_buffer_size(&self.fd)?;
        let mut scratch = [0; 4096];
        while left > 0 {
            match uninterrupted(|| read(&self.fd, &mut scratch)) {
                // Nothing is left.
                Ok(0) | Err(Kernel::AGAIN) => break,
                Err(error) => {
                    self.fd.lose(error);
                    break;
                }
                Ok(count) => left = left.saturating_sub(count),
            }
        }
        Ok(())
    }

    /// What has become of a connection that was begun.
    pub(in crate::p2) fn finish_connect(&self) -> SocketResult<()> {
        if self.state() != TcpState::Connecting {
            return Err(SocketFailure::NotInProgress);
        }
        if !is_ready(&self.fd, PollFlags::OUT)? {
            return Err(Errno::Again.into());
        }
        match sockopt::socket_error(&self.fd)? {
            Ok(()) => {
                self.enter(TcpState::Connected);
                Ok(())
            }
            Err(error) => {
                self.enter(TcpState::Closed);
                Err(not_connected(error).into())
            }
        }
    }
}

/// What the guest is told of a connection that the kernel does not make.
pub(in crate::p2) fn not_connected(error: Kernel) -> Errno {
    match error {
        // The route refuses: of the sender that was bound, or of the address.
        Kernel::ACCESS | Kernel::PERM => Errno::Hostunreach,
        error => error.into(),
    }
}
