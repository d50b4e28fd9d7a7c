//! Names of hosts: a guest's questions for the resolver.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use wiggle::{GuestMemory, GuestPtr};

use crate::{
    abi::types,
    errno::{Errno, Result},
    guest::Guest,
    limits, memory,
    sockets::{
        NamedHost,
        address::{KernelAddress, SocketAddress},
        inet, reverse,
    },
};

/// The bytes of an address in the answer of `getaddrinfo`.
const ENTRY: usize = 32;

impl Guest {
    pub(in crate::posix) fn addresses_of_name(
        &self,
        memory: &mut GuestMemory<'_>,
        name: GuestPtr<str>,
        family: types::AddressFamily,
        flags: types::LookupFlags,
        (room, canonical): (GuestPtr<[u8]>, GuestPtr<[u8]>),
    ) -> Result<(types::Size, types::Size)> {
        let wanted = |address: &IpAddr| match i32::from(family) {
            libc::AF_UNSPEC => Ok(true),
            libc::AF_INET => Ok(address.is_ipv4()),
            libc::AF_INET6 => Ok(address.is_ipv6()),
            _ => Err(Errno::Afnosupport),
        };
        wanted(&Ipv4Addr::UNSPECIFIED.into())?;
        let name = text(memory, name)?;
        let mut host = match name.parse::<IpAddr>() {
            Ok(address) => NamedHost {
                addresses: vec![address],
                canonical: name,
            },
            Err(_) if flags.contains(types::LookupFlags::NUMERICHOST) => return Err(Errno::Noent),
            Err(_) => inet::host(&self.grants, &self.resolver, &name)?,
        };
        host.addresses.retain(|address| wanted(address) == Ok(true));
        if host.addresses.is_empty() {
            return Err(Errno::Nomsg);
        }
        let only_reachable = flags.contains(types::LookupFlags::ADDRCONFIG);
        let host = inet::in_order(&self.grants, host, only_reachable)?;
        let entries = memory::slice_mut(memory, room)?;
        for (entry, address) in entries.chunks_exact_mut(ENTRY).zip(&host.addresses) {
            let address = KernelAddress::from(SocketAddr::from((*address, 0)));
            entry.fill(0);
            entry[..address.bytes().len()].copy_from_slice(address.bytes());
        }
        let length = write_name(memory, canonical, &host.canonical)?;
        let count = types::Size::try_from(host.addresses.len()).map_err(|_| Errno::Overflow)?;
        Ok((count, length))
    }

    pub(in crate::posix) fn name_of_address(
        &self,
        memory: &mut GuestMemory<'_>,
        address: GuestPtr<[u8]>,
        room: GuestPtr<[u8]>,
    ) -> Result<types::Size> {
        let address = match SocketAddress::read(memory, address)? {
            SocketAddress::Inet(address) => address.ip().to_canonical(),
            SocketAddress::Unix(_) | SocketAddress::Abstract(_) | SocketAddress::Unspecified => {
                return Err(Errno::Afnosupport);
            }
        };
        if let Some(name) = self.resolver.name_without_asking(address) {
            return write_name(memory, room, name);
        }
        let question = reverse(address);
        self.grants.resolve(&question)?;
        let asked = self.resolver.ask_for_name(question.clone());
        let name = asked.map_err(|error| self.grants.unanswered(&question, error))?;
        write_name(memory, room, &name)
    }

    pub(in crate::posix) fn write_host_name(
        &self,
        memory: &mut GuestMemory<'_>,
        room: GuestPtr<[u8]>,
    ) -> Result<types::Size> {
        write_name(memory, room, self.resolver.own_name())
    }
}

/// A name that the guest passes; one that is no text is no name.
fn text(memory: &GuestMemory<'_>, name: GuestPtr<str>) -> Result<String> {
    if name.len() > limits::PATH {
        return Err(Errno::Noent);
    }
    let bytes = memory::slice(memory, name.as_bytes())?;
    let name = std::str::from_utf8(bytes).map_err(|_| Errno::Noent)?;
    Ok(name.to_owned())
}

/// Writes a name if there is room for all of it, and returns its length.
fn write_name(
    memory: &mut GuestMemory<'_>,
    room: GuestPtr<[u8]>,
    name: &str,
) -> Result<types::Size> {
    if let Some(room) = memory::slice_mut(memory, room)?.get_mut(..name.len()) {
        room.copy_from_slice(name.as_bytes());
    }
    types::Size::try_from(name.len()).map_err(|_| Errno::Overflow)
}
