//! A UDP socket of a component, and its two streams.
#![forbid(unsafe_code)]

use std::{
    net::SocketAddr,
    os::fd::{AsFd as _, BorrowedFd},
    slice,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::io::Errno as Kernel;

use super::{address, socket::SocketFd, source::Source};
use crate::{
    p2::failure::SocketResult,
    sockets::{Socket, address::KernelAddress, inet},
    sys,
    wait::uninterrupted,
};

/// The longest datagram that there is.
pub(in crate::p2) const DATAGRAM: usize = 64 * 1024;

/// Shared by its handle and its streams.
pub type UdpHandle = Arc<UdpSocket>;

/// A UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    pub(in crate::p2) fd: Arc<SocketFd>,
    pub(in crate::p2) socket: Socket,
    state: Mutex<UdpState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::p2) enum UdpState {
    Unbound,
    BindStarted,
    /// With where it is connected, if it is.
    Bound(Option<SocketAddr>),
}

/// What a socket receives.
#[derive(Debug)]
pub struct IncomingDatagrams {
    pub(in crate::p2) socket: UdpHandle,
    /// The only sender whose datagrams it gives, if it was made for one.
    pub(in crate::p2) peer: Option<SocketAddr>,
}

/// What a socket sends.
#[derive(Debug)]
pub struct OutgoingDatagrams {
    pub(in crate::p2) socket: UdpHandle,
    /// How many the guest may send without asking.
    pub(in crate::p2) permit: usize,
}

impl UdpSocket {
    pub(in crate::p2) fn new(fd: Arc<SocketFd>, socket: Socket) -> UdpHandle {
        Arc::new(Self {
            fd,
            socket,
            state: Mutex::new(UdpState::Unbound),
        })
    }

    pub(in crate::p2) fn state(&self) -> MutexGuard<'_, UdpState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::p2) fn source(&self) -> Source {
        Source::Socket(Arc::clone(&self.fd))
    }

    /// For what asks something of the kernel.
    pub(in crate::p2) fn made(&self) -> SocketResult<BorrowedFd<'_>> {
        inet::made(&self.socket)?;
        Ok(self.fd.as_fd())
    }

    pub(in crate::p2) fn peer(&self) -> Option<SocketAddr> {
        match *self.state() {
            UdpState::Bound(peer) => peer,
            UdpState::Unbound | UdpState::BindStarted => None,
        }
    }

    /// The length and the sender of the next datagram, if there is one. Those of others than `peer` are dropped: some may
    /// have come before the socket was connected, and the kernel still has them.
    pub(in crate::p2) fn receive(
        &self,
        buffer: &mut [u8],
        peer: Option<SocketAddr>,
    ) -> SocketResult<Option<(usize, SocketAddr)>> {
        let whole = 0..buffer.len();
        let flags = libc::MSG_DONTWAIT;
        let fd = self.fd.as_fd();
        loop {
            let mut name = [0; KernelAddress::ROOM];
            let received = uninterrupted(|| {
                sys::receive(fd, buffer, slice::from_ref(&whole), flags, &mut name)
            });
            let received = match received {
                Err(Kernel::AGAIN) => return Ok(None),
                received => received?,
            };
            let name = KernelAddress::new(name, received.name_length);
            let from = address::of_kernel(name.bytes())?;
            if peer.is_none_or(|peer| is_same(peer, from)) {
                inet::hear(&self.socket, &name);
                return Ok(Some((received.bytes, from)));
            }
        }
    }
}

/// Whether a datagram is of this peer. Only an address that is valid on one link alone has a scope.
fn is_same(peer: SocketAddr, from: SocketAddr) -> bool {
    let scope = |address| match address {
        SocketAddr::V6(address) if address.scope_id() != 0 => Some(address.scope_id()),
        _ => None,
    };
    let scopes = scope(peer).zip(scope(from));
    peer.ip() == from.ip()
        && peer.port() == from.port()
        && scopes.is_none_or(|(one, other)| one == other)
}
