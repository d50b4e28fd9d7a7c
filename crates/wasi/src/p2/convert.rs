//! Between the interfaces' types and ours: errors by one table for each interface, and addresses.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use rustix::io::Errno as Kernel;

use super::{
    bindings::wasi::{
        filesystem::types::ErrorCode as FileCode,
        sockets::network::{
            ErrorCode as SocketCode, IpAddress, IpSocketAddress, Ipv4SocketAddress,
            Ipv6SocketAddress,
        },
    },
    failure::{FileFailure, SocketFailure},
};
use crate::errno::Errno;

/// What the guest is told, unless it has ended.
pub(super) fn of_file(failure: FileFailure) -> wasmtime::Result<FileCode> {
    match failure {
        FileFailure::Failed(error) => Ok(file_code(error)),
        FileFailure::Trap(trap) => Err(trap),
    }
}

/// The same of a socket.
pub(super) fn of_socket(failure: SocketFailure) -> wasmtime::Result<SocketCode> {
    match failure {
        SocketFailure::Failed(error) => Ok(socket_code(error)),
        SocketFailure::WrongState => Ok(SocketCode::InvalidState),
        SocketFailure::NotInProgress => Ok(SocketCode::NotInProgress),
        SocketFailure::Name(error) => Ok(name_code(error)),
        SocketFailure::Trap(trap) => Err(trap),
    }
}

pub(super) fn socket_code(error: Errno) -> SocketCode {
    match error {
        Errno::Acces | Errno::Perm => SocketCode::AccessDenied,
        Errno::Addrinuse => SocketCode::AddressInUse,
        Errno::Addrnotavail => SocketCode::AddressNotBindable,
        Errno::Again | Errno::Intr => SocketCode::WouldBlock,
        Errno::Already | Errno::Inprogress => SocketCode::ConcurrencyConflict,
        Errno::Connaborted => SocketCode::ConnectionAborted,
        Errno::Connrefused => SocketCode::ConnectionRefused,
        Errno::Connreset => SocketCode::ConnectionReset,
        Errno::Hostunreach | Errno::Netdown | Errno::Netunreach => SocketCode::RemoteUnreachable,
        Errno::Inval => SocketCode::InvalidArgument,
        Errno::Isconn | Errno::Notconn | Errno::Destaddrreq => SocketCode::InvalidState,
        Errno::Mfile | Errno::Nfile => SocketCode::NewSocketLimit,
        Errno::Msgsize => SocketCode::DatagramTooLarge,
        Errno::Nobufs | Errno::Nomem => SocketCode::OutOfMemory,
        Errno::Afnosupport | Errno::Notsup | Errno::Noprotoopt | Errno::Protonosupport => {
            SocketCode::NotSupported
        }
        Errno::Timedout => SocketCode::Timeout,
        _ => SocketCode::Unknown,
    }
}

/// What a look-up of a name has failed with.
fn name_code(error: Errno) -> SocketCode {
    match error {
        Errno::Acces => SocketCode::AccessDenied,
        Errno::Noent | Errno::Nomsg => SocketCode::NameUnresolvable,
        Errno::Inval => SocketCode::InvalidArgument,
        Errno::Again | Errno::Intr => SocketCode::TemporaryResolverFailure,
        _ => SocketCode::PermanentResolverFailure,
    }
}

pub(super) fn file_code(error: Kernel) -> FileCode {
    match error {
        Kernel::ACCESS => FileCode::Access,
        Kernel::AGAIN => FileCode::WouldBlock,
        Kernel::ALREADY => FileCode::Already,
        Kernel::BADF => FileCode::BadDescriptor,
        Kernel::BUSY => FileCode::Busy,
        Kernel::DEADLK => FileCode::Deadlock,
        Kernel::DQUOT => FileCode::Quota,
        Kernel::EXIST => FileCode::Exist,
        Kernel::FBIG => FileCode::FileTooLarge,
        Kernel::ILSEQ => FileCode::IllegalByteSequence,
        Kernel::INPROGRESS => FileCode::InProgress,
        Kernel::INTR => FileCode::Interrupted,
        Kernel::INVAL => FileCode::Invalid,
        Kernel::ISDIR => FileCode::IsDirectory,
        Kernel::LOOP => FileCode::Loop,
        Kernel::MLINK => FileCode::TooManyLinks,
        Kernel::MSGSIZE => FileCode::MessageSize,
        Kernel::NAMETOOLONG => FileCode::NameTooLong,
        Kernel::NODEV => FileCode::NoDevice,
        Kernel::NOENT => FileCode::NoEntry,
        Kernel::NOLCK => FileCode::NoLock,
        Kernel::NOMEM | Kernel::MFILE | Kernel::NFILE => FileCode::InsufficientMemory,
        Kernel::NOSPC => FileCode::InsufficientSpace,
        Kernel::NOTDIR => FileCode::NotDirectory,
        Kernel::NOTEMPTY => FileCode::NotEmpty,
        Kernel::NOTRECOVERABLE => FileCode::NotRecoverable,
        Kernel::OPNOTSUPP | Kernel::NOSYS => FileCode::Unsupported,
        Kernel::NOTTY => FileCode::NoTty,
        Kernel::NXIO => FileCode::NoSuchDevice,
        Kernel::OVERFLOW => FileCode::Overflow,
        Kernel::PERM => FileCode::NotPermitted,
        Kernel::PIPE => FileCode::Pipe,
        Kernel::ROFS => FileCode::ReadOnly,
        Kernel::SPIPE => FileCode::InvalidSeek,
        Kernel::TXTBSY => FileCode::TextFileBusy,
        Kernel::XDEV => FileCode::CrossDevice,
        _ => FileCode::Io,
    }
}

impl From<IpSocketAddress> for SocketAddr {
    fn from(address: IpSocketAddress) -> Self {
        match address {
            IpSocketAddress::Ipv4(address) => {
                let (a, b, c, d) = address.address;
                SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), address.port).into()
            }
            IpSocketAddress::Ipv6(address) => {
                let (a, b, c, d, e, f, g, h) = address.address;
                let ip = Ipv6Addr::new(a, b, c, d, e, f, g, h);
                SocketAddrV6::new(ip, address.port, address.flow_info, address.scope_id).into()
            }
        }
    }
}

fn v4(ip: Ipv4Addr) -> (u8, u8, u8, u8) {
    let [a, b, c, d] = ip.octets();
    (a, b, c, d)
}

fn v6(ip: Ipv6Addr) -> (u16, u16, u16, u16, u16, u16, u16, u16) {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    (a, b, c, d, e, f, g, h)
}

impl From<SocketAddr> for IpSocketAddress {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::Ipv4(Ipv4SocketAddress {
                port: address.port(),
                address: v4(*address.ip()),
            }),
            SocketAddr::V6(address) => Self::Ipv6(Ipv6SocketAddress {
                port: address.port(),
                flow_info: address.flowinfo(),
                address: v6(*address.ip()),
                scope_id: address.scope_id(),
            }),
        }
    }
}

impl From<IpAddr> for IpAddress {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::Ipv4(v4(ip)),
            IpAddr::V6(ip) => Self::Ipv6(v6(ip)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_grants_are_access_denied() {
        for error in [Errno::Acces, Errno::Perm] {
            assert_eq!(socket_code(error), SocketCode::AccessDenied);
        }
        assert_eq!(name_code(Errno::Acces), SocketCode::AccessDenied);
        assert_eq!(name_code(Errno::Noent), SocketCode::NameUnresolvable);
        assert_eq!(
            name_code(Errno::Again),
            SocketCode::TemporaryResolverFailure
        );
    }

    #[test]
    fn rights_of_the_kernel_keep_their_words() {
        assert_eq!(file_code(Kernel::ROFS), FileCode::ReadOnly);
        assert_eq!(file_code(Kernel::PERM), FileCode::NotPermitted);
        assert_eq!(file_code(Kernel::ACCESS), FileCode::Access);
        assert_eq!(file_code(Kernel::LOOP), FileCode::Loop);
    }

    #[test]
    fn addresses_keep_their_parts() {
        for text in ["10.1.2.3:80", "[fe80::1%7]:443", "[2001:db8::5]:1"] {
            let address: SocketAddr = text.parse().expect(text);
            assert_eq!(SocketAddr::from(IpSocketAddress::from(address)), address);
        }
    }
}
