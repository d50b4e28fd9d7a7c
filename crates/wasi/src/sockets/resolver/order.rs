//! The order in which the addresses of a host are tried (RFC 6724, as far as it matters in a container):
//! first those that there is a way to.
#![forbid(unsafe_code)]

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::AsFd as _,
};

use rustix::{
    io::Errno as Kernel,
    net::{SocketFlags, SocketType, socket_with},
};

use crate::{
    errno::Result,
    sockets::{
        address::{KernelAddress, SocketAddress, family_of},
        sys as socket_calls,
    },
    wait::uninterrupted,
};

/// Any port: a datagram socket that is connected has sent nothing.
const PORT: u16 = 9;

/// Which of two addresses comes first; the lowest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    unreachable: bool,
    other_scope: bool,
    precedence: std::cmp::Reverse<u8>,
}

/// Sorts; addresses of equal rank stay in the order of the reply. Leaves those out that cannot be
/// reached, if any can and that is asked for.
pub(crate) fn by_reach(addresses: Vec<IpAddr>, only_reachable: bool) -> Result<Vec<IpAddr>> {
    let mut ranked = Vec::with_capacity(addresses.len());
    for address in addresses {
        ranked.push((rank(address, source(address)?), address));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    let any = ranked.iter().any(|(rank, _)| !rank.unreachable);
    if only_reachable && any {
        ranked.retain(|(rank, _)| !rank.unreachable);
    }
    Ok(ranked.into_iter().map(|(_, address)| address).collect())
}

/// The address that this container would send from; `None` if there is no way.
fn source(address: IpAddr) -> Result<Option<IpAddr>> {
    let family = family_of(address);
    let socket = match socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None) {
        Err(Kernel::AFNOSUPPORT) => return Ok(None),
        socket => socket?,
    };
    let to = KernelAddress::from(SocketAddr::from((address, PORT)));
    if uninterrupted(|| socket_calls::connect(socket.as_fd(), &to)).is_err() {
        return Ok(None);
    }
    let local = socket_calls::local(socket.as_fd())?;
    Ok(match SocketAddress::parse(local.bytes())? {
        SocketAddress::Inet(local) => Some(local.ip()),
        _ => None,
    })
}

fn rank(address: IpAddr, source: Option<IpAddr>) -> Rank {
    Rank {
        unreachable: source.is_none(),
        other_scope: source.is_some_and(|source| scope(source) != scope(address)),
        precedence: std::cmp::Reverse(precedence(address)),
    }
}

/// How far an address is valid, as the scopes of multicast addresses have it.
fn scope(address: IpAddr) -> u8 {
    const LINK: u8 = 2;
    const GLOBAL: u8 = 14;
    let link = match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
    };
    if link { LINK } else { GLOBAL }
}

/// The default table of RFC 6724.
fn precedence(address: IpAddr) -> u8 {
    let address = match address {
        IpAddr::V4(_) => return 35,
        IpAddr::V6(address) => address,
    };
    match address.segments() {
        _ if address == Ipv6Addr::LOCALHOST => 50,
        [0x2002, ..] => 30,
        [0x2001, 0, ..] => 5,
        [first, ..] if first & 0xfe00 == 0xfc00 => 3,
        [first, ..] if first & 0xffc0 == 0xfec0 => 1,
        [0, 0, 0, 0, 0, 0, ..] => 1,
        _ => 40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn reachable_addresses_come_first_and_then_global_ipv6() {
        let ranks = [
            ("2600::1", Some("2600::2")),
            ("8.8.8.8", Some("10.0.0.1")),
            ("fd00::1", Some("fd00::2")),
            ("fe80::1", Some("2600::2")),
            ("2600::3", None),
            ("8.8.4.4", None),
        ]
        .map(|(to, source)| rank(address(to), source.map(address)));
        assert!(ranks.is_sorted(), "{ranks:?}");
    }

    #[test]
    fn loopback_is_within_its_own_scope() {
        let own = rank(address("::1"), Some(address("::1")));
        assert!(!own.other_scope && !own.unreachable);
        assert!(own < rank(address("127.0.0.1"), Some(address("127.0.0.1"))));
    }
}
