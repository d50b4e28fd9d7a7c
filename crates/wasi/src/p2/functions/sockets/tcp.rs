//! `wasi:sockets/tcp`: what a socket does in each of its states.
#![forbid(unsafe_code)]

use std::{os::fd::AsFd as _, sync::Arc};

use rustix::{
    io::Errno as Kernel,
    net::{Shutdown, listen, sockopt},
};
use wasmtime::component::Resource;

use super::{common::interface_family, options};
use crate::{
    errno::Errno,
    p2::{
        bindings::wasi::sockets::{
            network::{IpAddressFamily, IpSocketAddress},
            tcp::{self, HostTcpSocket, ShutdownType},
            tcp_create_socket,
        },
        failure::{SocketFailure, SocketResult},
        guest::ComponentGuest,
        handles::{
            InputStream, NetworkHandle, OutputHandle, OutputStream, Pollable, ReadAt, SocketFd,
            Source, TcpHandle, TcpSocket, TcpState, WriteAt, address, not_connected,
        },
    },
    sockets::{Socket, SocketKind, SocketOrigin, inet, sys},
    wait::uninterrupted,
};

type TcpStreams = (Resource<InputStream>, Resource<OutputHandle>);

impl ComponentGuest {
    fn tcp(&self, socket: &Resource<TcpHandle>) -> SocketResult<TcpHandle> {
        Ok(Arc::clone(self.table.get(socket)?))
    }

    /// The second half of what has been done in the first.
    fn finish_step(
        &self,
        socket: &Resource<TcpHandle>,
        started: TcpState,
        finished: TcpState,
    ) -> SocketResult<()> {
        let tcp = self.tcp(socket)?;
        if tcp.state() != started {
            return Err(SocketFailure::NotInProgress);
        }
        tcp.enter(finished);
        Ok(())
    }

    pub(in crate::p2) fn streams(&mut self, socket: &TcpSocket) -> SocketResult<TcpStreams> {
        let source = || Source::Socket(Arc::clone(&socket.fd));
        let output = OutputStream::new(source(), WriteAt::Next);
        let input = InputStream::new(source(), ReadAt::Next);
        {
            let mut inner = socket.inner();
            inner.output = Arc::downgrade(&output);
            inner.input = input.end();
        }
        let input = self.push(input)?;
        Ok((input, self.push(output)?))
    }
}

impl tcp_create_socket::Host for ComponentGuest {
    fn create_tcp_socket(&mut self, wanted: IpAddressFamily) -> SocketResult<Resource<TcpHandle>> {
        let (fd, socket) = self.make_socket(wanted, SocketKind::Stream)?;
        Ok(self.push(TcpSocket::new(fd, socket, TcpState::Unbound))?)
    }
}

impl tcp::Host for ComponentGuest {}

impl HostTcpSocket for ComponentGuest {
    fn start_bind(
        &mut self,
        socket: Resource<TcpHandle>,
        network: Resource<NetworkHandle>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        self.permitted(&network)?;
        let tcp = self.tcp(&socket)?;
        if tcp.state() != TcpState::Unbound {
            return Err(SocketFailure::WrongState);
        }
        let address = address::local(tcp.socket.family, address.into())?;
        if tcp.socket.made == SocketOrigin::ByKernel {
            // As servers do it: a port is free again as soon as its listener has ended.
            sockopt::set_socket_reuseaddr(&tcp.fd, true)?;
        }
        inet::bind(&self.grants, tcp.fd.as_fd(), &tcp.socket, address)?;
        tcp.enter(TcpState::BindStarted);
        Ok(())
    }

    fn finish_bind(&mut self, socket: Resource<TcpHandle>) -> SocketResult<()> {
        self.finish_step(&socket, TcpState::BindStarted, TcpState::Bound)
    }

    fn start_connect(
        &mut self,
        socket: Resource<TcpHandle>,
        network: Resource<NetworkHandle>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        self.permitted(&network)?;
        let tcp = self.tcp(&socket)?;
        if !matches!(tcp.state(), TcpState::Unbound | TcpState::Bound) {
            return Err(SocketFailure::WrongState);
        }
        let address = address::remote(tcp.socket.family, address.into())?;
        let address = self.reach(&tcp.socket, address)?;
        match uninterrupted(|| sys::connect(tcp.fd.as_fd(), &address)) {
            Ok(()) | Err(Kernel::INPROGRESS) => {
                tcp.enter(TcpState::Connecting);
                Ok(())
            }
            Err(error) => {
                tcp.enter(TcpState::Closed);
                Err(not_connected(error).into())
            }
        }
    }

    fn finish_connect(&mut self, socket: Resource<TcpHandle>) -> SocketResult<TcpStreams> {
        let tcp = self.tcp(&socket)?;
        tcp.finish_connect()?;
        self.streams(&tcp)
    }

    fn start_listen(&mut self, socket: Resource<TcpHandle>) -> SocketResult<()> {
        let tcp = self.tcp(&socket)?;
        if tcp.state() != TcpState::Bound {
            return Err(SocketFailure::WrongState);
        }
        let backlog = tcp.inner().backlog;
        inet::listen(&self.grants, tcp.fd.as_fd(), &tcp.socket, backlog)?;
        tcp.enter(TcpState::ListenStarted);
        Ok(())
    }

    fn finish_listen(&mut self, socket: Resource<TcpHandle>) -> SocketResult<()> {
        self.finish_step(&socket, TcpState::ListenStarted, TcpState::Listening)
    }

    fn accept(
        &mut self,
        socket: Resource<TcpHandle>,
    ) -> SocketResult<(
        Resource<TcpHandle>,
        Resource<InputStream>,
        Resource<OutputHandle>,
    )> {
        let listener = self.tcp(&socket)?;
        if listener.state() != TcpState::Listening {
            return Err(SocketFailure::WrongState);
        }
        // Without one the connection stays where it is, for later.
        let slot = self.socket_slots.take().ok_or(Errno::Mfile)?;
        let accept = || sys::accept(listener.fd.as_fd(), libc::SOCK_NONBLOCK);
        let (fd, _) = uninterrupted(accept)?;
        let fd = SocketFd::new(fd, slot);
        let family = listener.socket.family;
        let own = Socket::new(family, SocketKind::Stream, SocketOrigin::ByKernel);
        let tcp = TcpSocket::new(fd, own, TcpState::Connected);
        let (input, output) = self.streams(&tcp)?;
        Ok((self.push(tcp)?, input, output))
    }

    fn local_address(&mut self, socket: Resource<TcpHandle>) -> SocketResult<IpSocketAddress> {
        let tcp = self.tcp(&socket)?;
        match tcp.state() {
            TcpState::Unbound | TcpState::BindStarted | TcpState::Closed => {
                Err(SocketFailure::WrongState)
            }
            _ => Ok(address::of_kernel(sys::local(tcp.made()?)?.bytes())?.into()),
        }
    }

    fn remote_address(&mut self, socket: Resource<TcpHandle>) -> SocketResult<IpSocketAddress> {
        let tcp = self.tcp(&socket)?;
        if tcp.state() != TcpState::Connected {
            return Err(SocketFailure::WrongState);
        }
        Ok(address::of_kernel(sys::peer(tcp.made()?)?.bytes())?.into())
    }

    fn is_listening(&mut self, socket: Resource<TcpHandle>) -> wasmtime::Result<bool> {
        Ok(self.table.get(&socket)?.state() == TcpState::Listening)
    }

    fn address_family(&mut self, socket: Resource<TcpHandle>) -> wasmtime::Result<IpAddressFamily> {
        Ok(interface_family(self.table.get(&socket)?.socket.family))
    }

    fn set_listen_backlog_size(
        &mut self,
        socket: Resource<TcpHandle>,
        size: u64,
    ) -> SocketResult<()> {
        if size == 0 {
            return Err(Errno::Inval.into());
        }
        let backlog = i32::try_from(size).unwrap_or(i32::MAX);
        let tcp = self.tcp(&socket)?;
        match tcp.state() {
            TcpState::Connecting | TcpState::Connected | TcpState::Closed => {
                return Err(SocketFailure::WrongState);
            }
            // Where it listens was granted.
            TcpState::Listening | TcpState::ListenStarted => listen(tcp.made()?, backlog)?,
            TcpState::Unbound | TcpState::BindStarted | TcpState::Bound => {}
        }
        tcp.inner().backlog = backlog;
        Ok(())
    }

    fn keep_alive_enabled(&mut self, socket: Resource<TcpHandle>) -> SocketResult<bool> {
        Ok(sockopt::socket_keepalive(self.tcp(&socket)?.made()?)?)
    }

    fn set_keep_alive_enabled(
        &mut self,
        socket: Resource<TcpHandle>,
        on: bool,
    ) -> SocketResult<()> {
        Ok(sockopt::set_socket_keepalive(
            self.tcp(&socket)?.made()?,
            on,
        )?)
    }

    fn keep_alive_idle_time(&mut self, socket: Resource<TcpHandle>) -> SocketResult<u64> {
        let time = sockopt::tcp_keepidle(self.tcp(&socket)?.made()?)?;
        Ok(options::nanoseconds(time))
    }

    fn set_keep_alive_idle_time(
        &mut self,
        socket: Resource<TcpHandle>,
        time: u64,
    ) -> SocketResult<()> {
        let time = options::seconds(time)?;
        Ok(sockopt::set_tcp_keepidle(self.tcp(&socket)?.made()?, time)?)
    }

    fn keep_alive_interval(&mut self, socket: Resource<TcpHandle>) -> SocketResult<u64> {
        let time = sockopt::tcp_keepintvl(self.tcp(&socket)?.made()?)?;
        Ok(options::nanoseconds(time))
    }

    fn set_keep_alive_interval(
        &mut self,
        socket: Resource<TcpHandle>,
        time: u64,
    ) -> SocketResult<()> {
        let time = options::seconds(time)?;
        Ok(sockopt::set_tcp_keepintvl(
            self.tcp(&socket)?.made()?,
            time,
        )?)
    }

    fn keep_alive_count(&mut self, socket: Resource<TcpHandle>) -> SocketResult<u32> {
        Ok(sockopt::tcp_keepcnt(self.tcp(&socket)?.made()?)?)
    }

    fn set_keep_alive_count(
        &mut self,
        socket: Resource<TcpHandle>,
        count: u32,
    ) -> SocketResult<()> {
        let count = options::probes(count)?;
        Ok(sockopt::set_tcp_keepcnt(self.tcp(&socket)?.made()?, count)?)
    }

    fn hop_limit(&mut self, socket: Resource<TcpHandle>) -> SocketResult<u8> {
        let tcp = self.tcp(&socket)?;
        options::hop_limit(tcp.made()?, tcp.socket.family)
    }

    fn set_hop_limit(&mut self, socket: Resource<TcpHandle>, hops: u8) -> SocketResult<()> {
        let tcp = self.tcp(&socket)?;
        options::set_hop_limit(tcp.made()?, tcp.socket.family, hops)
    }

    fn receive_buffer_size(&mut self, socket: Resource<TcpHandle>) -> SocketResult<u64> {
        options::receive_buffer(self.tcp(&socket)?.made()?)
    }

    fn set_receive_buffer_size(
        &mut self,
        socket: Resource<TcpHandle>,
        bytes: u64,
    ) -> SocketResult<()> {
        options::set_receive_buffer(self.tcp(&socket)?.made()?, bytes)
    }

    fn send_buffer_size(&mut self, socket: Resource<TcpHandle>) -> SocketResult<u64> {
        options::send_buffer(self.tcp(&socket)?.made()?)
    }

    fn set_send_buffer_size(
        &mut self,
        socket: Resource<TcpHandle>,
        bytes: u64,
    ) -> SocketResult<()> {
        options::set_send_buffer(self.tcp(&socket)?.made()?, bytes)
    }

    fn subscribe(&mut self, socket: Resource<TcpHandle>) -> wasmtime::Result<Resource<Pollable>> {
        let tcp = Arc::clone(self.table.get(&socket)?);
        self.push(Pollable::Tcp(tcp))
    }

    fn shutdown(&mut self, socket: Resource<TcpHandle>, how: ShutdownType) -> SocketResult<()> {
        let tcp = self.tcp(&socket)?;
        if tcp.state() != TcpState::Connected {
            return Err(SocketFailure::WrongState);
        }
        if matches!(how, ShutdownType::Send | ShutdownType::Both) {
            let output = tcp.inner().output.upgrade();
            match output {
                // What was written goes first.
                Some(output) => {
                    output.end();
                    self.unsent.note(&output);
                }
                None => tcp.shut_down(Shutdown::Write)?,
            }
        }
        if matches!(how, ShutdownType::Receive | ShutdownType::Both) {
            tcp.end_input()?;
        }
        Ok(())
    }

    fn drop(&mut self, socket: Resource<TcpHandle>) -> wasmtime::Result<()> {
        self.table.delete(socket)?;
        Ok(())
    }
}
