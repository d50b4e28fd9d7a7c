//! `wasi:sockets/network` and `instance-network`.
#![forbid(unsafe_code)]

use std::{net::SocketAddr, sync::Arc};

use rustix::net::{SocketFlags, sockopt};
use wasmtime::component::Resource;

use crate::{
    errno::Errno,
    p2::{
        bindings::wasi::sockets::{
            instance_network,
            network::{self, ErrorCode, HostNetwork, IpAddressFamily},
        },
        convert::{of_socket, socket_code},
        failure::{IoError, SocketFailure, SocketResult},
        guest::ComponentGuest,
        handles::{NetworkHandle, SocketFd},
    },
    sockets::{Family, Socket, SocketKind, SocketOrigin, address::KernelAddress, inet},
};

impl instance_network::Host for ComponentGuest {
    fn instance_network(&mut self) -> wasmtime::Result<Resource<NetworkHandle>> {
        self.push(NetworkHandle)
    }
}

impl HostNetwork for ComponentGuest {
    fn drop(&mut self, network: Resource<NetworkHandle>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl ComponentGuest {
    /// The handle of a network permits a call, as the interface wants.
    pub(super) fn permitted(&self, network: &Resource<NetworkHandle>) -> SocketResult<()> {
        self.table.get(network)?;
        Ok(())
    }

    /// A socket that does not block, and takes no addresses of IPv4 if it is of IPv6.
    pub(super) fn make_socket(
        &self,
        wanted: IpAddressFamily,
        kind: SocketKind,
    ) -> SocketResult<(Arc<SocketFd>, Socket)> {
        let slot = self.socket_slots.take().ok_or(Errno::Mfile)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (fd, socket) = inet::make(&self.grants, family(wanted), kind, flags)?;
        if socket.made == SocketOrigin::ByKernel && socket.family == Family::Inet6 {
            sockopt::set_ipv6_v6only(&fd, true)?;
        }
        Ok((SocketFd::new(fd, slot), socket))
    }

    /// Where to connect or send to, if that is granted.
    pub(super) fn reach(
        &self,
        socket: &Socket,
        address: SocketAddr,
    ) -> SocketResult<KernelAddress> {
        Ok(inet::reach(&self.grants, &self.resolver, socket, address)?)
    }
}

fn family(family: IpAddressFamily) -> Family {
    match family {
        IpAddressFamily::Ipv4 => Family::Inet,
        IpAddressFamily::Ipv6 => Family::Inet6,
    }
}

pub(super) fn interface_family(family: Family) -> IpAddressFamily {
    match family {
        Family::Inet => IpAddressFamily::Ipv4,
        // No socket of a component has a path.
        Family::Inet6 | Family::Unix => IpAddressFamily::Ipv6,
    }
}

impl network::Host for ComponentGuest {
    fn convert_error_code(&mut self, failure: SocketFailure) -> wasmtime::Result<ErrorCode> {
        of_socket(failure)
    }

    fn network_error_code(
        &mut self,
        error: Resource<IoError>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        let IoError(error) = self.table.get(&error)?;
        Ok(Some(socket_code(Errno::from(*error))))
    }
}
