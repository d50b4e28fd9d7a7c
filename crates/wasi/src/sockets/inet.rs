//! Sockets of the Internet families: making, binding, listening and reaching, asked of the grants first.
//!
//! Both interfaces of guests call these: `posix` with the addresses of a module, `p2` with those of a component.
//! So there is one place where a socket and a grant meet.
#![forbid(unsafe_code)]

use std::{
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd},
};

#[cfg(feature = "components")]
use rustix::io::Errno as Kernel;
use rustix::{
    net::{SocketFlags, connect_unspec, listen as listen_on, socket_with},
    pipe::{PipeFlags, pipe_with},
};
use wasm_interp_network::Network;

use super::{
    address::{KernelAddress, SocketAddress, canonical, destination},
    by_reach,
    grants::NetworkGrants,
    resolver::{NamedHost, Resolver, RuleNames, is_host},
    state::{Family, Heard, Socket, SocketKind, SocketOrigin},
    sys,
};
use crate::{
    errno::{Errno, Result},
    limits,
};

/// How many ports of the kernel's choice are tried, each of which another process may take meanwhile.
#[cfg(feature = "components")]
const TRIES: usize = 16;

/// Makes a socket, or what stands for one that no grant asks for.
pub(crate) fn make(
    grants: &NetworkGrants,
    family: Family,
    kind: SocketKind,
    flags: SocketFlags,
) -> Result<(OwnedFd, Socket)> {
    let made = grants.made(family, kind);
    let fd = match made {
        SocketOrigin::ByKernel | SocketOrigin::Pair => {
            socket_with(family.of_kernel(), kind.of_kernel(), flags, None)?
        }
        // An end of a pipe whose other end is closed: nothing can be written to it, and it is at its end.
        SocketOrigin::InName => pipe_with(PipeFlags::CLOEXEC)?.0,
    };
    Ok((fd, Socket::new(family, kind, made)))
}

/// A socket of an Internet family, which takes addresses of both.
pub(crate) fn internet(socket: &Socket) -> Result<SocketKind> {
    match socket.family {
        Family::Inet | Family::Inet6 => Ok(socket.kind),
        Family::Unix => Err(Errno::Afnosupport),
    }
}

/// A socket in name has no more to give than the refusals.
pub(crate) fn made(socket: &Socket) -> Result<()> {
    match socket.made {
        SocketOrigin::ByKernel | SocketOrigin::Pair => Ok(()),
        SocketOrigin::InName => Err(Errno::Acces),
    }
}

/// bind(2), if that is granted.
pub(crate) fn bind(
    grants: &NetworkGrants,
    fd: BorrowedFd<'_>,
    socket: &Socket,
    address: SocketAddr,
) -> Result<()> {
    may_bind(grants, socket, address)?;
    sys::bind(fd, &address.into())?;
    bound(grants, fd, socket)
}

/// The same of a datagram socket that keeps its port when its association is dissolved, as one that is bound to a
/// port by its number does: from others the kernel takes the port back.
#[cfg(feature = "components")]
pub(crate) fn bind_for_good(
    grants: &NetworkGrants,
    fd: BorrowedFd<'_>,
    socket: &Socket,
    address: SocketAddr,
) -> Result<()> {
    may_bind(grants, socket, address)?;
    sys::bind(fd, &address.into())?;
    if address.port() == 0 {
        keep_port(fd, address)?;
    }
    bound(grants, fd, socket)
}

/// Binds to the port that the kernel has chosen by its number. It is not known to others yet.
#[cfg(feature = "components")]
fn keep_port(fd: BorrowedFd<'_>, address: SocketAddr) -> Result<()> {
    for _ in 0..TRIES {
        let local = sys::local(fd)?;
        connect_unspec(fd)?;
        match sys::bind(fd, &local) {
            Err(Kernel::ADDRINUSE) => sys::bind(fd, &address.into())?,
            bound => return Ok(bound?),
        }
    }
    Err(Errno::Addrinuse)
}

fn may_bind(grants: &NetworkGrants, socket: &Socket, address: SocketAddr) -> Result<()> {
    grants.bind(internet(socket)?.transport(), address)?;
    made(socket)
}

/// A UDP listener remembers whom it hears.
fn bound(grants: &NetworkGrants, fd: BorrowedFd<'_>, socket: &Socket) -> Result<()> {
    // A port that the kernel has chosen is known only now.
    if socket.kind == SocketKind::Datagram
        && let SocketAddress::Inet(local) = SocketAddress::parse(sys::local(fd)?.bytes())?
        && grants.may_listen(socket.kind.transport(), local)
    {
        socket.state().heard = Some(Heard::default());
    }
    Ok(())
}

/// Dissolves the association of a datagram socket. With a port that the kernel takes back it is no listener any more.
pub(crate) fn dissolve(fd: BorrowedFd<'_>, socket: &Socket) -> Result<()> {
    made(socket)?;
    connect_unspec(fd)?;
    if let SocketAddress::Inet(local) = SocketAddress::parse(sys::local(fd)?.bytes())?
        && local.port() == 0
    {
        socket.state().heard = None;
    }
    Ok(())
}

/// listen(2), if that is granted where the socket is bound.
pub(crate) fn listen(
    grants: &NetworkGrants,
    fd: BorrowedFd<'_>,
    socket: &Socket,
    backlog: i32,
) -> Result<()> {
    made(socket)?;
    if let SocketAddress::Inet(local) = SocketAddress::parse(sys::local(fd)?.bytes())? {
        // Port 0: the kernel would choose one now.
        grants.listen(socket.kind.transport(), local)?;
    }
    Ok(listen_on(fd, backlog)?)
}

/// Where to connect or send to, if that is granted.
///
/// To be asked for each message with an address. What is sent to the peer of a connected socket, TCP or UDP, is not asked
/// about again: the kernel sends it to the address that was granted at connect and to no other, and a connection lasts
/// longer than the records of a name. To ask would mean a look-up in the middle of a conversation, and would end it when
/// the name's next address is in use.
pub(crate) fn reach(
    grants: &NetworkGrants,
    resolver: &Resolver,
    socket: &Socket,
    address: SocketAddr,
) -> Result<KernelAddress> {
    internet(socket)?;
    let address = destination(address);
    grants.reach(socket, address, &RuleNames::of(resolver))?;
    made(socket)?;
    Ok(address.into())
}

/// A UDP listener may answer whom it has heard, where a forged sender does not lead.
pub(crate) fn hear(socket: &Socket, from: &KernelAddress) {
    let mut state = socket.state();
    if let Some(heard) = &mut state.heard
        && let Ok(SocketAddress::Inet(sender)) = SocketAddress::parse(from.bytes())
    {
        let sender = canonical(sender);
        if Network::may_answer(sender) {
            heard.add(sender);
        }
    }
}

/// What a name stands for, if nameservers may be asked or need not be.
pub(crate) fn host(grants: &NetworkGrants, resolver: &Resolver, name: &str) -> Result<NamedHost> {
    if let Some(host) = resolver.without_asking(name) {
        return Ok(host);
    }
    // No grant makes it a name: `(none)` is what a C library calls a host whose name it does not know.
    if !is_host(name) {
        return Err(Errno::Noent);
    }
    grants.resolve(name)?;
    resolver
        .ask(name)
        .map_err(|error| grants.unanswered(name, error))
}

/// The addresses of a host in the order in which they are tried.
pub(crate) fn in_order(
    grants: &NetworkGrants,
    mut host: NamedHost,
    only_reachable: bool,
) -> Result<NamedHost> {
    // Which of them can be reached is asked of a socket.
    if host.addresses.len() > 1 && grants.needs().internet() {
        host.addresses = by_reach(host.addresses, only_reachable)?;
    }
    host.addresses.truncate(limits::ADDRESSES);
    Ok(host)
}
