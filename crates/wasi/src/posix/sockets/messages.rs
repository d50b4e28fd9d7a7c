//! Sending and receiving, without ancillary data.
//!
//! A message to an address is checked as a connection is; one to the peer was, at connect ([`inet::reach`]). What is received has lost its ancillary data
//! already: the kernel closes descriptors that it has no room to pass.
#![forbid(unsafe_code)]

use std::{ops::Range, os::fd::AsFd as _};

use rustix::io::Errno as Kernel;
use wasm_interp_network::NetworkAttempt;
use wiggle::{GuestMemory, GuestPtr};

use super::ends::unix;
use crate::{
    abi::types,
    descriptors::Description,
    errno::{Errno, Result},
    guest::Guest,
    limits,
    memory::{self, Vectors},
    sockets::{
        Socket, SocketKind, SocketOrigin,
        address::{self, KernelAddress, SocketAddress},
        inet,
    },
    sys,
    transfer::{Direction, receive_whole, transfer, write_whole},
};

const SEND: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
const RECEIVE: i32 =
    libc::MSG_PEEK | libc::MSG_TRUNC | libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
/// What is told of a message.
const OF_MESSAGE: i32 = libc::MSG_CTRUNC | libc::MSG_TRUNC;

fn flags(wanted: types::MessageFlags, known: i32) -> Result<i32> {
    match i32::try_from(wanted) {
        Ok(flags) if flags & !known == 0 => Ok(flags),
        _ => Err(Errno::Inval),
    }
}

impl Guest {
    /// sendmsg(2); without bytes of an address to where the socket is connected.
    pub(crate) fn send_message(
        &self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        data: types::CiovecArray,
        wanted: types::MessageFlags,
        to: GuestPtr<[u8]>,
    ) -> Result<types::Size> {
        let flags = flags(wanted, SEND)?;
        if to.len() == 0 {
            return self.send_to_peer(memory, fd, data, flags);
        }
        let (file, socket) = self.socket(fd)?;
        let to = SocketAddress::read(memory, to)?;
        let vectors = Vectors::read(memory, data)?;
        let bytes = memory::bytes(memory)?;
        match to {
            SocketAddress::Inet(address) => {
                let address = inet::reach(&self.grants, &self.resolver, socket, address)?;
                send(file, bytes, vectors, flags, address.bytes())
            }
            SocketAddress::Unix(path) if !path.is_empty() => {
                unix(socket)?;
                self.at_unix_socket(socket, &path, |address| {
                    send(file, bytes, vectors, flags, address.bytes())
                })
            }
            SocketAddress::Abstract(name) => {
                self.grants.refuse(&NetworkAttempt::ConnectUnix(&name))
            }
            SocketAddress::Unix(_) | SocketAddress::Unspecified => Err(Errno::Inval),
        }
    }

    fn send_to_peer(
        &self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        data: types::CiovecArray,
        flags: i32,
    ) -> Result<types::Size> {
        let file = self.socket_or_stream(fd)?;
        let vectors = Vectors::read(memory, data)?;
        let bytes = memory::bytes(memory)?;
        match (&vectors, file.as_socket()) {
            (Vectors::One(range), Some(_)) => {
                let bytes = bytes.get(range.clone()).ok_or(Errno::Fault)?;
                send_connected(file, bytes, flags)
            }
            // The kernel does not let a pair use sendmsg(2) without a grant: that can have an address.
            (Vectors::Many(ranges), Some(socket)) if socket.made == SocketOrigin::Pair => {
                send_connected(file, &gathered(socket.kind, bytes, ranges)?, flags)
            }
            _ => send(file, bytes, vectors, flags, &[]),
        }
    }

    /// recvmsg(2): the bytes, the message's flags, and the length of the address that it is from.
    pub(crate) fn receive_message(
        &self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        data: types::IovecArray,
        wanted: types::MessageFlags,
        room: GuestPtr<[u8]>,
    ) -> Result<(types::Size, types::MessageFlags, types::Size)> {
        let flags = flags(wanted, RECEIVE)?;
        // Known before, so that no message is lost by it.
        memory::range(memory, room)?;
        let file = self.socket_or_stream(fd)?;
        let (received, from) = receive(file, memory, data, flags)?;
        let length = address::write(memory, room, from.bytes())?;
        // Each bit of it is positive.
        let told = (received.flags & OF_MESSAGE).cast_unsigned();
        Ok((size(received.bytes)?, told, length))
    }

    /// Preview 1's `sock_recv`.
    pub(crate) fn receive(
        &self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        data: types::IovecArray,
        flags: types::Riflags,
    ) -> Result<(types::Size, types::Roflags)> {
        let file = self.socket_or_stream(fd)?;
        let mut kernel = 0;
        if flags.contains(types::Riflags::RECV_PEEK) {
            kernel |= libc::MSG_PEEK;
        }
        if flags.contains(types::Riflags::RECV_WAITALL) {
            kernel |= libc::MSG_WAITALL;
        }
        let (received, _) = receive(file, memory, data, kernel)?;
        let mut answer = types::Roflags::empty();
        answer.set(
            types::Roflags::RECV_DATA_TRUNCATED,
            received.flags & libc::MSG_TRUNC != 0,
        );
        Ok((size(received.bytes)?, answer))
    }

    /// Preview 1's `sock_send`.
    pub(crate) fn send(
        &self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        data: types::CiovecArray,
        flags: types::Siflags,
    ) -> Result<types::Size> {
        // Preview 1 has none.
        if flags != 0 {
            return Err(Errno::Inval);
        }
        self.send_to_peer(memory, fd, data, libc::MSG_NOSIGNAL)
    }
}

fn send(
    file: &Description,
    bytes: &[u8],
    vectors: Vectors,
    flags: i32,
    to: &[u8],
) -> Result<types::Size> {
    size(write_whole(vectors, |vectors| {
        transfer(file, Direction::Write, || {
            sys::send(file.as_fd(), bytes, vectors.ranges(), flags, to)
        })
    })?)
}

fn send_connected(file: &Description, bytes: &[u8], flags: i32) -> Result<types::Size> {
    let all = Vectors::One(0..bytes.len());
    size(write_whole(all, |rest| {
        let [rest] = rest.ranges() else {
            return Err(Kernel::FAULT);
        };
        transfer(file, Direction::Write, || {
            sys::send_connected(file.as_fd(), &bytes[rest.clone()], flags)
        })
    })?)
}

/// The bytes of several buffers in one.
fn gathered(kind: SocketKind, bytes: &[u8], ranges: &[Range<usize>]) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    for range in ranges {
        let part = bytes.get(range.clone()).ok_or(Errno::Fault)?;
        let room = limits::GATHERED - all.len();
        if part.len() > room && kind == SocketKind::Datagram {
            return Err(Errno::Msgsize);
        }
        all.extend_from_slice(&part[..part.len().min(room)]);
    }
    Ok(all)
}

fn receive(
    file: &Description,
    memory: &mut GuestMemory<'_>,
    data: types::IovecArray,
    flags: i32,
) -> Result<(sys::Received, KernelAddress)> {
    let vectors = Vectors::read(memory, data)?;
    let bytes = memory::bytes(memory)?;
    let mut from = [0; KernelAddress::ROOM];
    let mut receive = |vectors: &Vectors| {
        transfer(file, Direction::Read, || {
            sys::receive(file.as_fd(), bytes, vectors.ranges(), flags, &mut from)
        })
    };
    let stream = |socket: &Socket| socket.kind == SocketKind::Stream;
    let received = if flags & libc::MSG_WAITALL != 0 && file.as_socket().is_some_and(stream) {
        receive_whole(vectors, flags & libc::MSG_PEEK != 0, receive)?
    } else {
        receive(&vectors)?
    };
    let from = KernelAddress::new(from, received.name_length);
    if let Some(socket) = file.as_socket() {
        inet::hear(socket, &from);
    }
    Ok((received, from))
}

/// Less than 2 GiB a call, as Linux bounds it.
fn size(bytes: usize) -> Result<types::Size> {
    types::Size::try_from(bytes).map_err(|_| Errno::Overflow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_do_something_else_are_refused() {
        for refused in [
            libc::MSG_OOB,
            libc::MSG_DONTROUTE,
            libc::MSG_ERRQUEUE,
            libc::MSG_FASTOPEN,
            libc::MSG_ZEROCOPY,
            libc::MSG_CMSG_CLOEXEC,
            libc::MSG_CONFIRM,
        ] {
            let flag = refused.cast_unsigned();
            assert_eq!(flags(flag, SEND), Err(Errno::Inval), "{refused:#x}");
            assert_eq!(flags(flag, RECEIVE), Err(Errno::Inval), "{refused:#x}");
        }
        assert_eq!(flags(1 << 31, RECEIVE), Err(Errno::Inval));
    }
}
