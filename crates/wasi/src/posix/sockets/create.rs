//! Making sockets: socket, socketpair, accept.
#![forbid(unsafe_code)]

use std::os::fd::AsFd as _;

use rustix::net::{SocketFlags, socketpair};
use wiggle::{GuestMemory, GuestPtr};

use crate::{
    abi::types,
    descriptors::Description,
    errno::{Errno, Result},
    guest::Guest,
    memory,
    sockets::{
        Family, Socket, SocketKind, SocketOrigin,
        address::{self, KernelAddress},
        inet, sys,
    },
    transfer::{Direction, transfer},
};

/// The flags of a new descriptor that POSIX has.
pub(crate) fn nonblock(flags: types::Fdflags) -> Result<bool> {
    if flags.difference(types::Fdflags::NONBLOCK).is_empty() {
        Ok(flags.contains(types::Fdflags::NONBLOCK))
    } else {
        Err(Errno::Inval)
    }
}

fn socket_flags(flags: types::Fdflags) -> Result<SocketFlags> {
    let mut kernel = SocketFlags::CLOEXEC;
    kernel.set(SocketFlags::NONBLOCK, nonblock(flags)?);
    Ok(kernel)
}

/// Family and type, if the protocol is theirs.
fn family_and_kind(
    family: types::AddressFamily,
    kind: types::SocketType,
    protocol: u32,
) -> Result<(Family, SocketKind)> {
    let (family, kind) = (Family::new(family)?, SocketKind::new(kind)?);
    let own = match (family, kind) {
        (Family::Unix, _) => 0,
        (_, SocketKind::Stream) => libc::IPPROTO_TCP,
        (_, SocketKind::Datagram) => libc::IPPROTO_UDP,
    };
    if protocol == 0 || i32::try_from(protocol) == Ok(own) {
        Ok((family, kind))
    } else {
        Err(Errno::Protonosupport)
    }
}

/// What Linux says of a socket that has no connections to accept.
fn not_listening(kind: SocketKind) -> Errno {
    match kind {
        SocketKind::Stream => Errno::Inval,
        SocketKind::Datagram => Errno::Notsup,
    }
}

impl Guest {
    pub(crate) fn make_socket(
        &mut self,
        family: types::AddressFamily,
        kind: types::SocketType,
        protocol: u32,
        flags: types::Fdflags,
    ) -> Result<types::Fd> {
        let (family, kind) = family_and_kind(family, kind, protocol)?;
        let flags = socket_flags(flags)?;
        let (fd, socket) = inet::make(&self.grants, family, kind, flags)?;
        self.descriptors.insert(Description::socket(fd, socket))
    }

    pub(crate) fn make_socket_pair(
        &mut self,
        family: types::AddressFamily,
        kind: types::SocketType,
        protocol: u32,
        flags: types::Fdflags,
    ) -> Result<(types::Fd, types::Fd)> {
        let (family, kind) = family_and_kind(family, kind, protocol)?;
        if family != Family::Unix {
            return Err(Errno::Notsup);
        }
        let flags = socket_flags(flags)?;
        let (one, other) = socketpair(family.of_kernel(), kind.of_kernel(), flags, None)?;
        let end = |fd| Description::socket(fd, Socket::new(family, kind, SocketOrigin::Pair));
        self.descriptors.insert_both(end(one), end(other))
    }

    /// accept4(2), with the address of the peer.
    pub(crate) fn accept_from(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        flags: types::Fdflags,
        room: GuestPtr<[u8]>,
    ) -> Result<(types::Fd, types::Size)> {
        let nonblock = nonblock(flags)?;
        // Known before, so that no connection is lost by it.
        memory::range(memory, room)?;
        let (accepted, peer) = self.accepted(fd, nonblock)?;
        let length = address::write(memory, room, peer.bytes())?;
        Ok((self.descriptors.insert(accepted)?, length))
    }

    /// Preview 1's `sock_accept`.
    pub(crate) fn accept(&mut self, fd: types::Fd, flags: types::Fdflags) -> Result<types::Fd> {
        let nonblock = flags.contains(types::Fdflags::NONBLOCK);
        let (accepted, _) = self.accepted(fd, nonblock)?;
        self.descriptors.insert(accepted)
    }

    fn accepted(&self, fd: types::Fd, nonblock: bool) -> Result<(Description, KernelAddress)> {
        let listener = self.socket_or_stream(fd)?;
        if let Some(Socket {
            made: SocketOrigin::Pair,
            kind,
            ..
        }) = listener.as_socket()
        {
            return Err(not_listening(*kind));
        }
        self.descriptors.room()?;
        let flags = if nonblock { libc::SOCK_NONBLOCK } else { 0 };
        let (accepted, peer) = transfer(listener, Direction::Read, || {
            sys::accept(listener.as_ref().as_fd(), flags)
        })?;
        let accepted = match listener.as_socket() {
            Some(own) => {
                let socket = Socket::new(own.family, own.kind, SocketOrigin::ByKernel);
                // As on Linux, a connection has the name of its listener.
                socket.state().path = own.state().path.clone();
                Description::socket(accepted, socket)
            }
            // From a stream of the container: its peer is whom the container was given.
            None => Description::new(accepted),
        };
        Ok((accepted, peer))
    }
}
