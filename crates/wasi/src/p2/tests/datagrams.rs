//! Datagram sockets whose association changes, in a network namespace of the test's.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket as PlainUdpSocket},
    thread::spawn,
};

use nix::sched::{CloneFlags, unshare};
use rustix::{
    io::{read, write},
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
};
use wasmtime::component::Resource;

use super::{LONG, code, granted, guest_with, lend};
use crate::p2::{
    bindings::wasi::sockets::{
        instance_network::Host as _,
        network::{ErrorCode, IpAddressFamily},
        udp::{
            HostIncomingDatagramStream, HostOutgoingDatagramStream, HostUdpSocket, OutgoingDatagram,
        },
        udp_create_socket::Host as _,
    },
    guest::ComponentGuest,
    handles::{IncomingDatagrams, OutgoingDatagrams, UdpHandle},
};

const OTHER: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
/// The index of the loopback in each network namespace.
const LOOPBACK: u32 = 1;

/// Asks the kernel for a change of its network, in the form of rtnetlink(7). No program is started for it: that would hold the
/// open files of all tests for a moment.
fn change_network(kind: u16, flags: u16, parts: &[&[u8]]) {
    let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let body = parts.concat();
    let length = 16 + u32::try_from(body.len()).expect("a short message");
    let message = [
        &length.to_ne_bytes()[..],
        &kind.to_ne_bytes(),
        &flags.to_ne_bytes(),
        &[0; 8],
        &body,
    ];
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    );
    let socket = socket.expect("a socket");
    write(&socket, &message.concat()).expect("write");
    let mut answer = [0; 256];
    read(&socket, &mut answer).expect("read");
    assert_eq!(answer[16..20], [0; 4], "an error's number");
}

/// Gives this thread a network of its own, which has the loopback alone, with one more address.
fn own_network() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    let (index, up) = (LOOPBACK.to_ne_bytes(), (libc::IFF_UP as u32).to_ne_bytes());
    change_network(libc::RTM_NEWLINK, 0, &[&[0; 4], &index, &up, &up]);
    let header = [libc::AF_INET as u8, 32, 0, 0];
    let attribute = [8_u16.to_ne_bytes(), libc::IFA_LOCAL.to_ne_bytes()].concat();
    let flags = libc::NLM_F_CREATE as u16;
    let parts = [&header[..], &index, &attribute, &OTHER.octets()];
    change_network(libc::RTM_NEWADDR, flags, &parts);
}

fn in_own_network(test: fn()) {
    let thread = spawn(move || {
        own_network();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn bound(guest: &mut ComponentGuest, address: &str) -> Resource<UdpHandle> {
    let network = guest.instance_network().expect("a handle");
    let socket = guest.create_udp_socket(IpAddressFamily::Ipv4);
    let socket = socket.expect("a socket");
    let address: SocketAddr = address.parse().expect("an address");
    HostUdpSocket::start_bind(guest, lend(&socket), network, address.into()).expect("bind");
    HostUdpSocket::finish_bind(guest, lend(&socket)).expect("bound");
    socket
}

fn local(guest: &mut ComponentGuest, socket: &Resource<UdpHandle>) -> SocketAddr {
    let address = HostUdpSocket::local_address(guest, lend(socket));
    address.expect("bound").into()
}

type Streams = (Resource<IncomingDatagrams>, Resource<OutgoingDatagrams>);

fn streams(
    guest: &mut ComponentGuest,
    socket: &Resource<UdpHandle>,
    peer: Option<SocketAddr>,
) -> Streams {
    let streams = guest.stream(lend(socket), peer.map(Into::into));
    streams.expect("associated")
}

fn send(guest: &mut ComponentGuest, outgoing: &Resource<OutgoingDatagrams>, data: &[u8]) {
    assert!(guest.check_send(lend(outgoing)).expect("open") > 0);
    let datagram = OutgoingDatagram {
        data: data.to_vec(),
        remote_address: None,
    };
    let sent = HostOutgoingDatagramStream::send(guest, lend(outgoing), vec![datagram]);
    assert_eq!(sent.expect("sent"), 1);
}

fn received(guest: &mut ComponentGuest, incoming: &Resource<IncomingDatagrams>) -> Vec<Vec<u8>> {
    let all = HostIncomingDatagramStream::receive(guest, lend(incoming), 10);
    let all = all.expect("open").into_iter().map(|one| one.data);
    all.collect()
}

fn peer(ip: Ipv4Addr) -> (PlainUdpSocket, SocketAddr) {
    let socket = PlainUdpSocket::bind((ip, 0)).expect("bind");
    socket.set_read_timeout(Some(LONG)).expect("a time-out");
    let address = socket.local_addr().expect("an address");
    (socket, address)
}

/// A peer that was told the port goes on to reach it, and each peer hears from the address that its way begins with.
#[test]
fn datagram_socket_is_associated_again_from_where_it_was_bound() {
    in_own_network(|| {
        let network = granted("udp:*", "udp:127.0.0.1:*, udp:10.9.9.9:*, udp:192.0.2.1:*");
        for (bind, mut expected) in [
            ("0.0.0.0:0", Ipv4Addr::UNSPECIFIED),
            ("0.0.0.0:54321", Ipv4Addr::UNSPECIFIED),
            ("127.0.0.1:0", Ipv4Addr::LOCALHOST),
        ] {
            let guest = &mut guest_with(network.clone());
            let socket = bound(guest, bind);
            let port = local(guest, &socket).port();
            assert_ne!(port, 0);
            let bound_to = SocketAddr::from((expected, port));
            let near = peer(Ipv4Addr::LOCALHOST);
            let far = peer(OTHER);
            for (peer, address) in [&near, &far, &near] {
                let (incoming, outgoing) = streams(guest, &socket, Some(*address));
                if bound_to.ip().is_unspecified() {
                    let SocketAddr::V4(address) = address else {
                        unreachable!("all are of IPv4")
                    };
                    expected = *address.ip();
                }
                let from = SocketAddr::from((expected, port));
                assert_eq!(local(guest, &socket), from, "{bind}");
                send(guest, &outgoing, b"question");
                let mut buffer = [0; 16];
                let (length, sender) = peer.recv_from(&mut buffer).expect("a question");
                assert_eq!((&buffer[..length], sender), (&b"question"[..], from));
                peer.send_to(b"answer", from).expect("send");
                assert_eq!(received(guest, &incoming), [b"answer"]);
            }
            // What is refused changes nothing.
            let nowhere = SocketAddr::from(([10, 9, 9, 8], 9));
            let failure = guest.stream(lend(&socket), Some(nowhere.into()));
            let failure = failure.expect_err("not granted");
            assert_eq!(code(guest, failure), ErrorCode::AccessDenied);
            let remote = HostUdpSocket::remote_address(guest, lend(&socket));
            assert_eq!(SocketAddr::from(remote.expect("associated")), near.1);
            // What the kernel refuses leaves it without an association.
            let unreachable = SocketAddr::from(([192, 0, 2, 1], 9));
            let failure = guest.stream(lend(&socket), Some(unreachable.into()));
            failure.expect_err("no route");
            let remote = HostUdpSocket::remote_address(guest, lend(&socket));
            let failure = remote.expect_err("none");
            assert_eq!(code(guest, failure), ErrorCode::InvalidState);
            assert_eq!(local(guest, &socket), bound_to);

            streams(guest, &socket, Some(near.1));
            let (incoming, _) = streams(guest, &socket, None);
            assert_eq!(local(guest, &socket), bound_to, "{bind}");
            let to = (Ipv4Addr::LOCALHOST, port);
            near.0.send_to(b"late question", to).expect("send");
            assert_eq!(received(guest, &incoming), [b"late question"]);
        }
    });
}
