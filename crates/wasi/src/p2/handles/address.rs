//! Which addresses a socket takes.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::{
    errno::Errno,
    p2::failure::{SocketFailure, SocketResult},
    sockets::{Family, address::SocketAddress},
};

/// What the kernel says where a socket is.
pub(in crate::p2) fn of_kernel(bytes: &[u8]) -> SocketResult<SocketAddr> {
    match SocketAddress::parse(bytes)? {
        SocketAddress::Inet(address) => Ok(address),
        SocketAddress::Unspecified | SocketAddress::Unix(_) | SocketAddress::Abstract(_) => {
            Err(SocketFailure::WrongState)
        }
    }
}

/// An address of the socket's own family that is of one host.
pub(in crate::p2) fn local(family: Family, address: SocketAddr) -> SocketResult<SocketAddr> {
    let fits = match address.ip() {
        IpAddr::V4(ip) => family == Family::Inet && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => family == Family::Inet6 && !ip.is_multicast() && !holds_ipv4(ip),
    };
    if fits {
        Ok(address)
    } else {
        Err(Errno::Inval.into())
    }
}

/// The same of the other side, which has a port.
pub(in crate::p2) fn remote(family: Family, address: SocketAddr) -> SocketResult<SocketAddr> {
    let address = local(family, address)?;
    if address.port() == 0 || address.ip().is_unspecified() {
        return Err(Errno::Inval.into());
    }
    Ok(address)
}

/// An IPv4 address in the guise of an IPv6 one. A socket of this interface has one family.
fn holds_ipv4(ip: Ipv6Addr) -> bool {
    let compatible = matches!(ip.segments(), [0, 0, 0, 0, 0, 0, _, _])
        && ip != Ipv6Addr::LOCALHOST
        && ip != Ipv6Addr::UNSPECIFIED;
    compatible || ip.to_ipv4_mapped().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_of_another_family_or_of_many_hosts_is_refused() {
        for (family, text, accepted) in [
            (Family::Inet, "10.0.0.1:80", true),
            (Family::Inet, "0.0.0.0:0", true),
            (Family::Inet, "[::1]:80", false),
            (Family::Inet, "224.0.0.1:80", false),
            (Family::Inet, "255.255.255.255:80", false),
            (Family::Inet6, "[::]:0", true),
            (Family::Inet6, "[::1]:80", true),
            (Family::Inet6, "[ff02::1]:80", false),
            (Family::Inet6, "[::ffff:10.0.0.1]:80", false),
            (Family::Inet6, "[::10.0.0.1]:80", false),
            (Family::Inet6, "10.0.0.1:80", false),
        ] {
            assert_eq!(
                local(family, text.parse().expect(text)).is_ok(),
                accepted,
                "{text}"
            );
        }
    }

    #[test]
    fn other_side_has_an_address_and_a_port() {
        for (family, text, accepted) in [
            (Family::Inet, "10.0.0.1:80", true),
            (Family::Inet, "10.0.0.1:0", false),
            (Family::Inet, "0.0.0.0:80", false),
            (Family::Inet6, "[::]:80", false),
        ] {
            assert_eq!(
                remote(family, text.parse().expect(text)).is_ok(),
                accepted,
                "{text}"
            );
        }
    }
}
