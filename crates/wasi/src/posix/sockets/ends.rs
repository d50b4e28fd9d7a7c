//! The ends of a socket: where it is bound, listens and is connected to.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::{
    event::{PollFd, PollFlags},
    net::{connect_unspec, listen, sockopt::socket_error},
};
use wasm_interp_network::NetworkAttempt;
use wiggle::{GuestMemory, GuestPtr};

use crate::{
    abi::types,
    errno::{Errno, Result},
    guest::Guest,
    sockets::{
        Family, Heard, RuleNames, Socket, SocketKind, SocketOrigin,
        address::{self, KernelAddress, SocketAddress, destination},
        sys,
    },
    wait::{once, poll_until, uninterrupted},
};

impl Guest {
    pub(crate) fn bind_socket(
        &self,
        memory: &GuestMemory<'_>,
        fd: types::Fd,
        bytes: GuestPtr<[u8]>,
    ) -> Result<()> {
        let (file, socket) = self.socket(fd)?;
        let fd = file.as_ref().as_fd();
        match SocketAddress::read(memory, bytes)? {
            SocketAddress::Inet(address) => {
                let transport = internet(socket)?.transport();
                self.grants.bind(transport, address)?;
                made(socket)?;
                sys::bind(fd, &address.into())?;
                // A port that the kernel has chosen is known only now.
                if socket.kind == SocketKind::Datagram && self.listens(fd, socket)? {
                    socket.state().heard = Some(Heard::default());
                }
                Ok(())
            }
            SocketAddress::Unix(path) if !path.is_empty() => {
                unix(socket)?;
                self.bind_unix(fd, socket, &path)
            }
            SocketAddress::Unix(_) | SocketAddress::Abstract => self.no_name(),
            SocketAddress::Unspecified => Err(Errno::Afnosupport),
        }
    }

    /// A name that is in no file system, or one that the kernel would choose there.
    fn no_name(&self) -> Result<()> {
        self.grants.refuse(&NetworkAttempt::ListenUnix(b""))
    }

    /// Whether it may receive from all who send to where it is bound.
    fn listens(&self, fd: BorrowedFd<'_>, socket: &Socket) -> Result<bool> {
        let SocketAddress::Inet(local) = SocketAddress::parse(sys::local(fd)?.bytes())? else {
            return Ok(false);
        };
        Ok(self.grants.may_listen(socket.kind.transport(), local))
    }

    pub(crate) fn listen_on(&self, fd: types::Fd, backlog: u32) -> Result<()> {
        let (file, socket) = self.socket(fd)?;
        if socket.kind != SocketKind::Stream {
            return Err(Errno::Notsup);
        }
        made(socket)?;
        // Where a Unix socket is bound was granted. What is bound nowhere does not listen, as on Linux.
        if socket.family == Family::Unix && socket.state().path.is_none() {
            return Err(Errno::Inval);
        }
        if socket.family != Family::Unix
            && let SocketAddress::Inet(local) =
                SocketAddress::parse(sys::local(file.as_ref().as_fd())?.bytes())?
        {
            // Port 0: the kernel would choose one now.
            self.grants.listen(socket.kind.transport(), local)?;
        }
        // As Linux, which takes it for a large number if it is negative.
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        Ok(listen(file, backlog)?)
    }

    pub(crate) fn connect_to(
        &self,
        memory: &GuestMemory<'_>,
        fd: types::Fd,
        bytes: GuestPtr<[u8]>,
    ) -> Result<()> {
        let (file, socket) = self.socket(fd)?;
        let fd = file.as_ref().as_fd();
        match SocketAddress::read(memory, bytes)? {
            SocketAddress::Inet(address) => {
                internet(socket)?;
                let address = destination(address);
                self.grants
                    .reach(socket, address, &RuleNames::of(&self.resolver))?;
                made(socket)?;
                let address = KernelAddress::from(address);
                Ok(connected(fd, || sys::connect(fd, &address))?)
            }
            SocketAddress::Unix(path) if !path.is_empty() => {
                unix(socket)?;
                self.connect_unix(fd, socket, &path)
            }
            SocketAddress::Unix(_) => Err(Errno::Inval),
            SocketAddress::Abstract => self.grants.refuse(&NetworkAttempt::ConnectUnix(b"")),
            // Its two ends stay together: the kernel need not be asked for more than that without a grant.
            SocketAddress::Unspecified if socket.made == SocketOrigin::Pair => Err(Errno::Notsup),
            SocketAddress::Unspecified if socket.kind == SocketKind::Datagram => {
                made(socket)?;
                Ok(connect_unspec(file)?)
            }
            SocketAddress::Unspecified => Err(Errno::Afnosupport),
        }
    }

    pub(crate) fn local_name(
        &self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        room: GuestPtr<[u8]>,
    ) -> Result<types::Size> {
        let file = self.socket_or_stream(fd)?;
        let path = file.as_socket().and_then(|own| own.state().path.clone());
        let bytes = match path {
            // The kernel may have another one: see `unix.rs`.
            Some(path) => address::unix_bytes(&path),
            None => sys::local(file.as_ref().as_fd())?.bytes().to_vec(),
        };
        address::write(memory, room, &bytes)
    }

    pub(crate) fn peer_name(
        &self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        room: GuestPtr<[u8]>,
    ) -> Result<types::Size> {
        let file = self.socket_or_stream(fd)?;
        let peer = sys::peer(file.as_ref().as_fd())?;
        address::write(memory, room, peer.bytes())
    }
}

/// A socket of an Internet family, which takes addresses of both.
pub(super) fn internet(socket: &Socket) -> Result<SocketKind> {
    match socket.family {
        Family::Inet | Family::Inet6 => Ok(socket.kind),
        Family::Unix => Err(Errno::Afnosupport),
    }
}

pub(super) fn unix(socket: &Socket) -> Result<()> {
    match socket.family {
        Family::Unix => Ok(()),
        Family::Inet | Family::Inet6 => Err(Errno::Afnosupport),
    }
}

/// A socket in name has no more to give than the refusals.
pub(super) fn made(socket: &Socket) -> Result<()> {
    match socket.made {
        SocketOrigin::ByKernel | SocketOrigin::Pair => Ok(()),
        SocketOrigin::InName => Err(Errno::Acces),
    }
}

/// Makes a connection of the Internet by `connect`, and waits for it unless the guest does not want to.
///
/// An interrupted connect(2) goes on and must not be made a second time: what becomes of it is the
/// socket's error, once it can be written to.
fn connected(
    fd: BorrowedFd<'_>,
    connect: impl FnMut() -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    match once(connect)? {
        Some(()) => Ok(()),
        None => {
            poll_until(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None)?;
            uninterrupted(|| socket_error(fd))?
        }
    }
}
