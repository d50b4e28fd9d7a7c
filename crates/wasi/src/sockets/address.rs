//! Addresses of sockets: what a guest passes, parsed, and what the kernel answers.
//!
//! A guest's bytes are parsed once, into a value that owns what it has of them; what is checked and what
//! the kernel gets are both made of that. So a guest cannot change an address between the check and the
//! call.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use rustix::net::AddressFamily;
use wiggle::{GuestMemory, GuestPtr};

use crate::{
    abi::types,
    errno::{Errno, Result},
    limits, memory,
};

/// The longest path of a socket that the kernel takes, without its final zero.
pub(crate) const SUN_PATH: usize = 107;
/// The bytes before a path.
const FAMILY: usize = 2;

/// Where a socket is, or shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SocketAddress {
    /// Family 0: of no socket.
    Unspecified,
    Inet(SocketAddr),
    /// An absolute path, or nothing: a socket without a name.
    Unix(Vec<u8>),
    /// A name that no file stands for, with the zero before it.
    Abstract(Vec<u8>),
}

/// An address as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KernelAddress {
    bytes: [u8; Self::ROOM],
    length: usize,
}

impl KernelAddress {
    /// `sockaddr_storage`.
    pub(crate) const ROOM: usize = 128;

    /// Of what the kernel has written, which may have been longer.
    pub(crate) fn new(bytes: [u8; Self::ROOM], length: usize) -> Self {
        let length = length.min(Self::ROOM);
        Self { bytes, length }
    }

    /// No address.
    pub(crate) fn none() -> Self {
        Self::new([0; Self::ROOM], 0)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn of(parts: &[&[u8]]) -> Self {
        let mut address = Self::none();
        for part in parts {
            let end = address.length + part.len();
            address.bytes[address.length..end].copy_from_slice(part);
            address.length = end;
        }
        address
    }

    /// `path` has at most [`SUN_PATH`] bytes.
    pub(crate) fn unix(path: &[u8]) -> Option<Self> {
        let family = family(libc::AF_UNIX);
        (path.len() <= SUN_PATH).then(|| Self::of(&[&family, path, &[0]]))
    }
}

fn family(number: i32) -> [u8; FAMILY] {
    // Each of them is small.
    (number as u16).to_ne_bytes()
}

pub(crate) fn family_of(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    }
}

impl From<SocketAddr> for KernelAddress {
    fn from(address: SocketAddr) -> Self {
        let port = address.port().to_be_bytes();
        match address {
            SocketAddr::V4(address) => Self::of(&[
                &family(libc::AF_INET),
                &port,
                &address.ip().octets(),
                &[0; 8],
            ]),
            SocketAddr::V6(address) => Self::of(&[
                &family(libc::AF_INET6),
                &port,
                &address.flowinfo().to_ne_bytes(),
                &address.ip().octets(),
                &address.scope_id().to_ne_bytes(),
            ]),
        }
    }
}

impl SocketAddress {
    /// What a guest passes.
    pub(crate) fn read(memory: &GuestMemory<'_>, bytes: GuestPtr<[u8]>) -> Result<Self> {
        // A path may be longer than the kernel's structure has room for: see `posix::sockets::unix`.
        if bytes.len() > limits::PATH + 3 {
            return Err(Errno::Inval);
        }
        Self::parse(memory::slice(memory, bytes)?)
    }

    /// Of bytes in Linux's layout.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let number = u16::from_ne_bytes(part(bytes, 0)?);
        Ok(match i32::from(number) {
            libc::AF_UNSPEC => Self::Unspecified,
            libc::AF_INET => {
                let ip = Ipv4Addr::from(part::<4>(bytes, 4)?);
                Self::Inet(SocketAddrV4::new(ip, port(bytes)?).into())
            }
            libc::AF_INET6 => {
                let flow = u32::from_ne_bytes(part(bytes, 4)?);
                let ip = Ipv6Addr::from(part::<16>(bytes, 8)?);
                // RFC 2133's structure has none.
                let scope = part(bytes, 24).map_or(0, u32::from_ne_bytes);
                Self::Inet(SocketAddrV6::new(ip, port(bytes)?, flow, scope).into())
            }
            libc::AF_UNIX => match &bytes[FAMILY..] {
                [] => Self::Unix(Vec::new()),
                name @ [0, ..] => Self::Abstract(name.to_vec()),
                name => {
                    let end = name.iter().position(|&byte| byte == 0);
                    // Checked is what was copied.
                    let path = name[..end.unwrap_or(name.len())].to_vec();
                    if path.first() != Some(&b'/') || path.len() > limits::PATH as usize {
                        return Err(Errno::Inval);
                    }
                    Self::Unix(path)
                }
            },
            _ => return Err(Errno::Afnosupport),
        })
    }
}

/// A field of an address that may be too short for it.
fn part<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let field = bytes.get(at..at + N).ok_or(Errno::Inval)?;
    field.try_into().map_err(|_| Errno::Inval)
}

fn port(bytes: &[u8]) -> Result<u16> {
    Ok(u16::from_be_bytes(part(bytes, 2)?))
}

/// Writes as much of an address as there is room for, and returns its length.
pub(crate) fn write(
    memory: &mut GuestMemory<'_>,
    room: GuestPtr<[u8]>,
    bytes: &[u8],
) -> Result<types::Size> {
    let room = memory::slice_mut(memory, room)?;
    let written = room.len().min(bytes.len());
    room[..written].copy_from_slice(&bytes[..written]);
    types::Size::try_from(bytes.len()).map_err(|_| Errno::Overflow)
}

/// The bytes of a Unix socket's address, whose path may be of any length.
pub(crate) fn unix_bytes(path: &[u8]) -> Vec<u8> {
    [&family(libc::AF_UNIX), path, &[0]].concat()
}

/// Where a socket connects or sends to. Linux takes 0.0.0.0 for the address that the socket is bound to, or
/// else for the loopback: here it is always the latter, as :: is, and as grants have it.
pub(crate) fn destination(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.to_ipv4_mapped() == Some(Ipv4Addr::UNSPECIFIED) => {
            address.set_ip(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into());
        }
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

/// An IPv4 address in the guise of an IPv6 one is the IPv4 address: the kernel sends to that.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => (ip, address.port()).into(),
            None => address,
        },
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in [
            "0.0.0.0:0",
            "10.1.2.3:65535",
            "[::1]:80",
            "[fe80::1%7]:443",
            "[::ffff:10.0.0.1]:53",
        ] {
            let address: SocketAddr = text.parse().expect(text);
            let kernel = KernelAddress::from(address);
            assert_eq!(
                SocketAddress::parse(kernel.bytes()),
                Ok(SocketAddress::Inet(address))
            );
            let short = &kernel.bytes()[..7];
            assert_eq!(SocketAddress::parse(short), Err(Errno::Inval), "{text}");
        }
        let kernel = KernelAddress::unix(b"/run/a").expect("short");
        assert_eq!(
            SocketAddress::parse(kernel.bytes()),
            Ok(SocketAddress::Unix(b"/run/a".to_vec()))
        );
        assert_eq!(unix_bytes(b"/run/a"), kernel.bytes());
    }

    #[test]
    fn only_absolute_paths_name_unix_sockets() {
        let unix = |name: &[u8]| SocketAddress::parse(&[&family(libc::AF_UNIX), name].concat());
        assert_eq!(unix(b""), Ok(SocketAddress::Unix(Vec::new())));
        for name in [&b"\0"[..], b"\0name"] {
            assert_eq!(unix(name), Ok(SocketAddress::Abstract(name.to_vec())));
        }
        assert_eq!(unix(b"name"), Err(Errno::Inval));
        assert_eq!(unix(b"/a\0rest"), Ok(SocketAddress::Unix(b"/a".to_vec())));
        assert_eq!(unix(&[b'/'; 4096]), Err(Errno::Inval));
        assert!(KernelAddress::unix(&[b'/'; SUN_PATH]).is_some());
        assert!(KernelAddress::unix(&[b'/'; SUN_PATH + 1]).is_none());
    }

    #[test]
    fn families_of_others_are_refused() {
        for number in [libc::AF_NETLINK, libc::AF_PACKET, libc::AF_VSOCK, 0xffff] {
            let bytes = [&family(number)[..], &[0; 26]].concat();
            assert_eq!(SocketAddress::parse(&bytes), Err(Errno::Afnosupport));
        }
        assert_eq!(SocketAddress::parse(&[]), Err(Errno::Inval));
        assert_eq!(SocketAddress::parse(&[1]), Err(Errno::Inval));
    }

    #[test]
    fn zeros_are_a_destination_of_the_loopback() {
        for (text, expected) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::ffff:0.0.0.0]:80", "[::ffff:127.0.0.1]:80"),
            ("[::]:80", "[::]:80"),
            ("0.0.0.1:80", "0.0.0.1:80"),
            ("10.0.0.1:80", "10.0.0.1:80"),
        ] {
            let address = destination(text.parse().expect(text));
            assert_eq!(address, expected.parse().expect(expected), "{text}");
        }
    }

    #[test]
    fn mapped_addresses_are_what_they_stand_for() {
        for (text, canonical_text) in [
            ("[::ffff:169.254.169.254]:80", "169.254.169.254:80"),
            ("[::1]:80", "[::1]:80"),
            ("1.2.3.4:80", "1.2.3.4:80"),
        ] {
            let address = canonical(text.parse().expect(text));
            assert_eq!(address.to_string(), canonical_text);
        }
    }
}
