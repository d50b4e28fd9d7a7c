//! `wasi:sockets/udp`: sockets of datagrams, and the two streams of each.
#![forbid(unsafe_code)]

use std::{os::fd::AsFd as _, slice, sync::Arc};

use rustix::event::PollFlags;
use wasmtime::component::Resource;

use super::{common::interface_family, options};
use crate::{
    errno::Errno,
    limits,
    p2::{
        bindings::wasi::sockets::{
            network::{IpAddressFamily, IpSocketAddress},
            udp::{
                self, HostIncomingDatagramStream, HostOutgoingDatagramStream, HostUdpSocket,
                IncomingDatagram, OutgoingDatagram,
            },
            udp_create_socket,
        },
        failure::{SocketFailure, SocketResult},
        guest::ComponentGuest,
        handles::{
            DATAGRAM, IncomingDatagrams, NetworkHandle, OutgoingDatagrams, Pollable, UdpHandle,
            UdpSocket, UdpState, address, is_ready,
        },
    },
    sockets::{SocketKind, inet, sys as socket_calls},
    sys,
    wait::uninterrupted,
};

impl ComponentGuest {
    fn udp(&self, socket: &Resource<UdpHandle>) -> SocketResult<UdpHandle> {
        Ok(Arc::clone(self.table.get(socket)?))
    }

    /// Sends one datagram, to where that is granted.
    fn send_one(&self, socket: &UdpSocket, datagram: &OutgoingDatagram) -> SocketResult<()> {
        let peer = socket.peer();
        let to = match datagram.remote_address {
            Some(address) => Some(address::remote(socket.socket.family, address.into())?),
            None => None,
        };
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let fd = socket.fd.as_fd();
        let bytes = &datagram.data;
        let to = match (to, peer) {
            (None, None) => return Err(Errno::Inval.into()),
            (Some(to), Some(peer)) if to != peer => return Err(Errno::Inval.into()),
            // Asked when it was connected: see `inet::reach`.
            (_, Some(_)) => {
                uninterrupted(|| sys::send_connected(fd, bytes, flags))?;
                return Ok(());
            }
            (Some(to), None) => self.reach(&socket.socket, to)?,
        };
        let whole = 0..bytes.len();
        uninterrupted(|| sys::send(fd, bytes, slice::from_ref(&whole), flags, to.bytes()))?;
        Ok(())
    }
}

impl udp_create_socket::Host for ComponentGuest {
    fn create_udp_socket(&mut self, wanted: IpAddressFamily) -> SocketResult<Resource<UdpHandle>> {
        let (fd, socket) = self.make_socket(wanted, SocketKind::Datagram)?;
        Ok(self.push(UdpSocket::new(fd, socket))?)
    }
}

impl udp::Host for ComponentGuest {}

impl HostUdpSocket for ComponentGuest {
    fn start_bind(
        &mut self,
        socket: Resource<UdpHandle>,
        network: Resource<NetworkHandle>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        self.permitted(&network)?;
        let udp = self.udp(&socket)?;
        if *udp.state() != UdpState::Unbound {
            return Err(SocketFailure::WrongState);
        }
        let address = address::local(udp.socket.family, address.into())?;
        inet::bind_for_good(&self.grants, udp.fd.as_fd(), &udp.socket, address)?;
        *udp.state() = UdpState::BindStarted;
        Ok(())
    }

    fn finish_bind(&mut self, socket: Resource<UdpHandle>) -> SocketResult<()> {
        let udp = self.udp(&socket)?;
        let state = &mut *udp.state();
        if *state != UdpState::BindStarted {
            return Err(SocketFailure::NotInProgress);
        }
        *state = UdpState::Bound(None);
        Ok(())
    }

    fn stream(
        &mut self,
        socket: Resource<UdpHandle>,
        remote: Option<IpSocketAddress>,
    ) -> SocketResult<(Resource<IncomingDatagrams>, Resource<OutgoingDatagrams>)> {
        let udp = self.udp(&socket)?;
        let UdpState::Bound(peer) = *udp.state() else {
            return Err(SocketFailure::WrongState);
        };
        let remote = match remote {
            Some(remote) => {
                let remote = address::remote(udp.socket.family, remote.into())?;
                Some((remote, self.reach(&udp.socket, remote)?))
            }
            None => None,
        };
        // Or it would go on to send from the address that was right for the peer before.
        if peer.is_some() {
            inet::dissolve(udp.fd.as_fd(), &udp.socket)?;
            *udp.state() = UdpState::Bound(None);
        }
        if let Some((remote, address)) = remote {
            uninterrupted(|| socket_calls::connect(udp.fd.as_fd(), &address))?;
            *udp.state() = UdpState::Bound(Some(remote));
        }
        let outgoing = OutgoingDatagrams {
            socket: Arc::clone(&udp),
            permit: 0,
        };
        let incoming = IncomingDatagrams {
            peer: udp.peer(),
            socket: udp,
        };
        let incoming = self.push(incoming)?;
        Ok((incoming, self.push(outgoing)?))
    }

    fn local_address(&mut self, socket: Resource<UdpHandle>) -> SocketResult<IpSocketAddress> {
        let udp = self.udp(&socket)?;
        if !matches!(*udp.state(), UdpState::Bound(_)) {
            return Err(SocketFailure::WrongState);
        }
        let local = socket_calls::local(udp.made()?)?;
        Ok(address::of_kernel(local.bytes())?.into())
    }

    fn remote_address(&mut self, socket: Resource<UdpHandle>) -> SocketResult<IpSocketAddress> {
        let udp = self.udp(&socket)?;
        match udp.peer() {
            Some(peer) => Ok(peer.into()),
            None => Err(SocketFailure::WrongState),
        }
    }

    fn address_family(&mut self, socket: Resource<UdpHandle>) -> wasmtime::Result<IpAddressFamily> {
        Ok(interface_family(self.table.get(&socket)?.socket.family))
    }

    fn unicast_hop_limit(&mut self, socket: Resource<UdpHandle>) -> SocketResult<u8> {
        let udp = self.udp(&socket)?;
        options::hop_limit(udp.made()?, udp.socket.family)
    }

    fn set_unicast_hop_limit(&mut self, socket: Resource<UdpHandle>, hops: u8) -> SocketResult<()> {
        let udp = self.udp(&socket)?;
        options::set_hop_limit(udp.made()?, udp.socket.family, hops)
    }

    fn receive_buffer_size(&mut self, socket: Resource<UdpHandle>) -> SocketResult<u64> {
        options::receive_buffer(self.udp(&socket)?.made()?)
    }

    fn set_receive_buffer_size(
        &mut self,
        socket: Resource<UdpHandle>,
        bytes: u64,
    ) -> SocketResult<()> {
        options::set_receive_buffer(self.udp(&socket)?.made()?, bytes)
    }

    fn send_buffer_size(&mut self, socket: Resource<UdpHandle>) -> SocketResult<u64> {
        options::send_buffer(self.udp(&socket)?.made()?)
    }

    fn set_send_buffer_size(
        &mut self,
        socket: Resource<UdpHandle>,
        bytes: u64,
    ) -> SocketResult<()> {
        options::set_send_buffer(self.udp(&socket)?.made()?, bytes)
    }

    fn subscribe(&mut self, socket: Resource<UdpHandle>) -> wasmtime::Result<Resource<Pollable>> {
        self.table.get(&socket)?;
        self.push(Pollable::Ready)
    }

    fn drop(&mut self, socket: Resource<UdpHandle>) -> wasmtime::Result<()> {
        self.table.delete(socket)?;
        Ok(())
    }
}

impl HostIncomingDatagramStream for ComponentGuest {
    fn receive(
        &mut self,
        stream: Resource<IncomingDatagrams>,
        most: u64,
    ) -> SocketResult<Vec<IncomingDatagram>> {
        let IncomingDatagrams { socket, peer } = self.table.get(&stream)?;
        socket.made()?;
        let most = usize::try_from(most).unwrap_or(limits::DATAGRAMS);
        let mut buffer = vec![0; DATAGRAM];
        let mut datagrams = Vec::new();
        while datagrams.len() < most.min(limits::DATAGRAMS) {
            match socket.receive(&mut buffer, *peer) {
                Ok(Some((length, from))) => datagrams.push(IncomingDatagram {
                    data: buffer[..length].to_vec(),
                    remote_address: from.into(),
                }),
                Ok(None) => break,
                // The next call says it, if it is still so.
                Err(SocketFailure::Failed(_)) if !datagrams.is_empty() => break,
                Err(failure) => return Err(failure),
            }
        }
        Ok(datagrams)
    }

    fn subscribe(
        &mut self,
        stream: Resource<IncomingDatagrams>,
    ) -> wasmtime::Result<Resource<Pollable>> {
        let source = self.table.get(&stream)?.socket.source();
        self.push(Pollable::File(source, PollFlags::IN))
    }

    fn drop(&mut self, stream: Resource<IncomingDatagrams>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}

impl HostOutgoingDatagramStream for ComponentGuest {
    fn check_send(&mut self, stream: Resource<OutgoingDatagrams>) -> SocketResult<u64> {
        let outgoing = self.table.get_mut(&stream)?;
        let ready = is_ready(&outgoing.socket.fd, PollFlags::OUT)?;
        outgoing.permit = if ready { limits::DATAGRAMS } else { 0 };
        Ok(outgoing.permit as u64)
    }

    fn send(
        &mut self,
        stream: Resource<OutgoingDatagrams>,
        datagrams: Vec<OutgoingDatagram>,
    ) -> SocketResult<u64> {
        if datagrams.is_empty() {
            return Ok(0);
        }
        let outgoing = self.table.get_mut(&stream)?;
        if datagrams.len() > outgoing.permit {
            return Err(SocketFailure::Trap(wasmtime::Error::msg(format!(
                "the guest sends {} datagrams where it may send {}",
                datagrams.len(),
                outgoing.permit
            ))));
        }
        outgoing.permit = 0;
        let socket = Arc::clone(&outgoing.socket);
        let mut sent = 0;
        for datagram in &datagrams {
            match self.send_one(&socket, datagram) {
                Ok(()) => sent += 1,
                Err(SocketFailure::Failed(Errno::Again)) => break,
                // The next call says it, if it is still so.
                Err(SocketFailure::Failed(_)) if sent > 0 => break,
                Err(failure) => return Err(failure),
            }
        }
        Ok(sent)
    }

    fn subscribe(
        &mut self,
        stream: Resource<OutgoingDatagrams>,
    ) -> wasmtime::Result<Resource<Pollable>> {
        let source = self.table.get(&stream)?.socket.source();
        self.push(Pollable::File(source, PollFlags::OUT))
    }

    fn drop(&mut self, stream: Resource<OutgoingDatagrams>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}
