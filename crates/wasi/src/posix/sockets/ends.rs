//! The ends of a socket: where it is bound, listens and is connected to.
#![forbid(unsafe_code)]

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags},
    io::Errno as Kernel,
    net::{listen, sockopt::socket_error},
};
use wasm_interp_network::NetworkAttempt;
use wiggle::{GuestMemory, GuestPtr};

use crate::{
    abi::types,
    errno::{Errno, Result},
    guest::Guest,
    sockets::{
        Family, Socket, SocketKind, SocketOrigin,
        address::{self, SocketAddress},
        inet::{self, made},
        sys,
    },
    transfer::timeout,
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
            SocketAddress::Inet(address) => inet::bind(&self.grants, fd, socket, address),
            SocketAddress::Unix(path) if !path.is_empty() => {
                unix(socket)?;
                self.bind_unix(fd, socket, &path)
            }
            // A name that is in no file system, or one that the kernel would choose there.
            SocketAddress::Unix(name) | SocketAddress::Abstract(name) => {
                self.grants.refuse(&NetworkAttempt::ListenUnix(&name))
            }
            SocketAddress::Unspecified => Err(Errno::Afnosupport),
        }
    }

    pub(crate) fn listen_on(&self, fd: types::Fd, backlog: u32) -> Result<()> {
        let (file, socket) = self.socket(fd)?;
        if socket.kind != SocketKind::Stream {
            return Err(Errno::Notsup);
        }
        // As Linux, which takes it for a large number if it is negative.
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        if socket.family != Family::Unix {
            return inet::listen(&self.grants, file.as_ref().as_fd(), socket, backlog);
        }
        made(socket)?;
        // Where a Unix socket is bound was granted. What is bound nowhere does not listen, as on Linux.
        if socket.state().path.is_none() {
            return Err(Errno::Inval);
        }
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
                let address = inet::reach(&self.grants, &self.resolver, socket, address)?;
                Ok(connected(fd, || sys::connect(fd, &address))?)
            }
            SocketAddress::Unix(path) if !path.is_empty() => {
                unix(socket)?;
                self.connect_unix(fd, socket, &path)
            }
            SocketAddress::Unix(_) => Err(Errno::Inval),
            SocketAddress::Abstract(name) => {
                self.grants.refuse(&NetworkAttempt::ConnectUnix(&name))
            }
            // Its two ends stay together: the kernel need not be asked for more than that without a grant.
            SocketAddress::Unspecified if socket.made == SocketOrigin::Pair => Err(Errno::Notsup),
            SocketAddress::Unspecified if socket.kind == SocketKind::Datagram => {
                inet::dissolve(fd, socket)
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

pub(super) fn unix(socket: &Socket) -> Result<()> {
    match socket.family {
        Family::Unix => Ok(()),
        Family::Inet | Family::Inet6 => Err(Errno::Afnosupport),
    }
}

/// Makes a connection of the Internet by `connect`, and waits for it unless the guest does not want to, or for as long as
/// SO_SNDTIMEO says.
///
/// An interrupted connect(2) goes on and must not be made a second time: what becomes of it is the
/// socket's error, once it can be written to.
fn connected(
    fd: BorrowedFd<'_>,
    connect: impl FnMut() -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    let started = Instant::now();
    if once(connect)?.is_some() {
        return Ok(());
    }
    let time = timeout(fd, libc::SO_SNDTIMEO)?;
    let deadline = time.and_then(|time| started.checked_add(time));
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    if poll_until(&mut fds, deadline)? == 0 {
        // What connect(2) says of one that goes on.
        return Err(Kernel::INPROGRESS);
    }
    uninterrupted(|| socket_error(fd))?
}
