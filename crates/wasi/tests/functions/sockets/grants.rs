//! What a grant allows, and what a guest is told where it has none.

use std::{
    fs,
    io::Read as _,
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixListener,
};

use rustix::pipe::PipeFlags;
use wasm_interp_network::{Network, NetworkRules, parse_mode};
use wasm_interp_wasi::{LateMounts, errno::Errno};

use super::{
    AF_INET, AF_INET6, AF_UNIX, DATAGRAM, STREAM, bytes, network, own_network, with_network,
};
use crate::support::{Caller, enter, in_tree};

/// The mode `pod`.
fn pod() -> Network {
    let rules = NetworkRules {
        mode: parse_mode("pod").expect("pod"),
        ..NetworkRules::none()
    };
    Network::new(rules.clone(), rules).expect("within itself")
}

#[test]
fn mode_pod_has_the_loopback_and_no_metadata_service() {
    with_network(pod(), |guest| {
        let listener = TcpListener::bind("127.0.0.1:80").expect("bind");
        for (address, expected) in [
            ("127.0.0.1:80", Ok(())),
            ("169.254.169.254:80", Err(Errno::Acces)),
            ("168.63.129.16:80", Err(Errno::Acces)),
            ("169.254.1.1:80", Err(Errno::Acces)),
        ] {
            let fd = guest.socket(AF_INET, STREAM, 0).expect("a socket");
            assert_eq!(guest.connect(fd, address), expected, "{address}");
        }
        drop(listener);
        let fd = guest.listener(AF_INET, "0.0.0.0:4711");
        let client = TcpStream::connect("127.0.0.1:4711").expect("connect");
        guest.accept(fd, 0).expect("accept");
        drop(client);
    });
}

/// Linux takes 0.0.0.0 for the address that a socket is bound to, which is no loopback address here.
#[test]
fn address_of_zeros_is_the_loopback_wherever_a_socket_is_bound() {
    with_network(network("", "tcp:localhost:80, udp:localhost:80"), |guest| {
        let _listener = TcpListener::bind("10.0.0.1:80").expect("bind");
        let receiver = UdpSocket::bind("10.0.0.1:80").expect("bind");
        receiver.set_nonblocking(true).expect("nonblocking");
        let fd = guest.socket(AF_INET, STREAM, 0).expect("a socket");
        guest.bind(fd, "10.0.0.1:0").expect("bind");
        assert_eq!(guest.connect(fd, "10.0.0.1:80"), Err(Errno::Acces));
        assert_eq!(guest.connect(fd, "0.0.0.0:80"), Err(Errno::Connrefused));
        let fd = guest.socket(AF_INET6, STREAM, 0).expect("a socket");
        guest.bind(fd, "[::ffff:10.0.0.1]:0").expect("bind");
        let mapped = guest.connect(fd, "[::ffff:0.0.0.0]:80");
        assert_eq!(mapped, Err(Errno::Connrefused));
        let fd = guest.socket(AF_INET, DATAGRAM, 0).expect("a socket");
        guest.bind(fd, "10.0.0.1:0").expect("bind");
        let to = bytes("0.0.0.0:80");
        assert_eq!(guest.send(fd, b"x", 0, &to), Ok(1));
        let received = receiver
            .recv(&mut [0; 8])
            .expect_err("it is not for this one");
        assert_eq!(received.kind(), std::io::ErrorKind::WouldBlock);

        let listener = TcpListener::bind("127.0.0.1:80").expect("bind");
        let fd = guest.socket(AF_INET, STREAM, 0).expect("a socket");
        guest.connect(fd, "0.0.0.0:80").expect("connect");
        assert_eq!(guest.name("getpeername", fd), Ok("127.0.0.1:80".to_owned()));
        drop(listener);
    });
}

#[test]
fn datagrams_go_where_they_may_and_back_to_whom_was_heard() {
    with_network(network("udp:53", "udp:10.0.0.1:99"), |guest| {
        let server = guest.socket(AF_INET, DATAGRAM, 0).expect("a socket");
        guest.bind(server, "0.0.0.0:53").expect("bind");
        let peer = UdpSocket::bind("10.0.0.2:0").expect("bind");
        let from = peer.local_addr().expect("an address").to_string();
        let unheard = guest.send(server, b"no", 0, &bytes(&from));
        assert_eq!(unheard, Err(Errno::Acces), "not yet");
        peer.send_to(b"question", "127.0.0.1:53").expect("send");
        let (data, flags, sender) = guest.receive(server, 4, 0).expect("receive");
        assert_eq!(
            (&data[..], flags, &sender[..]),
            (&b"ques"[..], 0x20, &from[..]),
            "MSG_TRUNC"
        );
        assert_eq!(guest.send(server, b"answer", 0, &bytes(&from)), Ok(6));
        let mut buffer = [0; 16];
        let (length, _) = peer.recv_from(&mut buffer).expect("receive");
        assert_eq!(&buffer[..length], b"answer");

        // A client has heard nothing yet.
        let client = guest.socket(AF_INET, DATAGRAM, 0).expect("a socket");
        let granted = UdpSocket::bind("10.0.0.1:99").expect("bind");
        assert_eq!(guest.bind(client, "0.0.0.0:0"), Ok(()));
        assert_eq!(guest.send(client, b"a", 0, &bytes("10.0.0.1:99")), Ok(1));
        let (_, at) = granted.recv_from(&mut buffer).expect("receive");
        peer.send_to(b"unasked", (Ipv4Addr::LOCALHOST, at.port()))
            .expect("send");
        assert_eq!(guest.receive(client, 16, 0).expect("receive").2, from);
        let answer = guest.send(client, b"no", 0, &bytes(&from));
        assert_eq!(answer, Err(Errno::Acces));
        assert_eq!(guest.connect(client, &from), Err(Errno::Acces));
        assert_eq!(guest.connect(client, "10.0.0.1:99"), Ok(()));
        assert_eq!(guest.send(client, b"b", 0, b""), Ok(1));
        assert_eq!(
            guest.with_address("connect", client, &[0; 16]),
            Ok(()),
            "undone"
        );
        assert_eq!(guest.send(client, b"c", 0, b""), Err(Errno::Destaddrreq));
        assert_eq!(guest.bind(client, "0.0.0.0:54"), Err(Errno::Acces));
    });
}

/// The senders are real here: they stand for those that someone has forged.
/// The kernel takes a port that it has chosen back when the association is dissolved, and chooses another one for the
/// next message.
#[test]
fn socket_that_has_lost_its_port_answers_no_one() {
    with_network(network("udp:*", "udp:10.0.0.1:99"), |guest| {
        let peer = UdpSocket::bind("10.0.0.2:0").expect("bind");
        let from = bytes(&peer.local_addr().expect("an address").to_string());
        for (port, answer) in [("0", Err(Errno::Acces)), ("54321", Ok(1))] {
            let server = guest.socket(AF_INET, DATAGRAM, 0).expect("a socket");
            guest
                .bind(server, &format!("10.0.0.1:{port}"))
                .expect("bind");
            let at = guest.name("getsockname", server).expect("an address");
            peer.send_to(b"question", at).expect("send");
            guest.receive(server, 16, 0).expect("receive");
            assert_eq!(guest.send(server, b"a", 0, &from), Ok(1));
            assert_eq!(guest.connect(server, "10.0.0.1:99"), Ok(()));
            assert_eq!(guest.with_address("connect", server, &[0; 16]), Ok(()));
            assert_eq!(guest.send(server, b"a", 0, &from), answer, "{port}");
        }
    });
}

#[test]
fn listener_does_not_answer_a_special_address_that_it_has_only_heard() {
    in_tree(|tree| {
        let special = [
            "169.254.169.254",
            "168.63.129.16",
            "169.254.1.1",
            "169.254.1.2",
            "fd00:ec2::254",
            "fd00:ec2::23",
        ];
        let prefix = |ip: &str| if ip.contains(':') { 128 } else { 32 };
        let with_prefix = special.map(|ip| format!("{ip}/{}", prefix(ip)));
        own_network(&with_prefix.each_ref().map(String::as_str));
        enter(tree);
        let granted = network("udp:53", "udp:169.254.1.2:*");
        let mut guest = Caller::with_network(LateMounts::Impossible, granted, None);
        let server = guest.socket(AF_INET6, DATAGRAM, 0).expect("a socket");
        guest.bind(server, "[::]:53").expect("bind");
        let loopback = ["127.0.0.1", "127.0.0.9", "::1"];
        for ip in special.iter().chain(&loopback) {
            let from = (*ip, 0);
            let peer = UdpSocket::bind(from).expect(ip);
            let to = if ip.contains(':') {
                "[::1]:53"
            } else {
                "127.0.0.1:53"
            };
            peer.send_to(b"question", to).expect("send");
            let (_, _, sender) = guest.receive(server, 16, 0).expect("receive");
            let expected = if *ip == "169.254.1.2" || loopback.contains(ip) {
                Ok(6)
            } else {
                Err(Errno::Acces)
            };
            assert_eq!(
                guest.send(server, b"answer", 0, &bytes(&sender)),
                expected,
                "{ip}"
            );
            if expected.is_err() {
                assert_eq!(guest.connect(server, &sender), Err(Errno::Acces), "{ip}");
            }
        }
    });
}

#[test]
fn sockets_without_a_grant_say_so_at_their_first_use() {
    with_network(Network::none(), |guest| {
        for (family, kind, address) in [
            (AF_INET, STREAM, "127.0.0.1:80"),
            (AF_INET, DATAGRAM, "127.0.0.1:80"),
            (AF_INET6, STREAM, "[::1]:80"),
            (AF_UNIX, STREAM, "/run/a"),
            (AF_UNIX, DATAGRAM, "/run/a"),
        ] {
            let fd = guest.socket(family, kind, 0).expect("a socket in name");
            assert_eq!(guest.set_option(fd, 1, 2, &[1, 0, 0, 0]), Ok(()));
            assert_eq!(guest.bind(fd, address), Err(Errno::Acces), "{address}");
            assert!(guest.listen(fd).is_err());
            if family == AF_UNIX {
                drop(UnixListener::bind("/run/b").expect("bind"));
                assert_eq!(guest.connect(fd, "/run/b"), Err(Errno::Acces));
                assert_eq!(guest.send(fd, b"x", 0, &bytes("/run/b")), Err(Errno::Acces));
                fs::remove_file("/run/b").expect("remove");
            } else {
                assert_eq!(guest.connect(fd, address), Err(Errno::Acces));
                assert_eq!(guest.send(fd, b"x", 0, &bytes(address)), Err(Errno::Acces));
            }
            assert_eq!(guest.receive(fd, 8, 0).err(), Some(Errno::Acces));
            assert_eq!(guest.name("getsockname", fd), Err(Errno::Acces));
            assert_eq!(guest.put_out(fd, b"x"), Err(Errno::Badf));
            assert_eq!(guest.read(fd, 8).as_deref(), Ok(&b""[..]));
            guest.close(fd).expect("close");
        }
        assert!(guest.pair("pipe", &[0]).is_ok(), "a pipe is no socket");
    });
}

#[test]
fn refusal_is_logged_with_the_annotation_and_no_more_than_one_line_a_second() {
    in_tree(|tree| {
        own_network(&[]);
        enter(tree);
        let (log, end) =
            rustix::pipe::pipe_with(PipeFlags::DIRECT | PipeFlags::CLOEXEC).expect("a pipe");
        let granted = network("", "tcp:10.0.0.1:1");
        let mut guest = Caller::with_network(LateMounts::Impossible, granted, Some(end));
        for port in 2..100 {
            let fd = guest.socket(AF_INET, STREAM, 0).expect("a socket");
            let answer = guest.connect(fd, &format!("10.0.0.1:{port}"));
            assert_eq!(answer, Err(Errno::Acces));
            guest.close(fd).expect("close");
        }
        drop(guest);
        let lines = packets(log.into());
        let first = "the guest may not connect to tcp:10.0.0.1:2; add \"tcp:10.0.0.1:2\" to the \
                     annotation wasm-interp.io/connect";
        assert!(lines[0].starts_with(first), "{lines:?}");
        assert!(lines.len() < 98, "{lines:?}");
    });
}

#[test]
fn refusal_of_an_abstract_name_is_logged_with_the_name() {
    let name = b"\x01\0\0bus";
    for (call, attempt) in [
        ("bind", "listen on unix:@bus"),
        ("connect", "connect to unix:@bus"),
    ] {
        in_tree(move |tree| {
            enter(tree);
            let (log, end) =
                rustix::pipe::pipe_with(PipeFlags::DIRECT | PipeFlags::CLOEXEC).expect("a pipe");
            let granted = network("unix:*", "unix:*");
            let mut guest = Caller::with_network(LateMounts::Impossible, granted, Some(end));
            let fd = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
            assert_eq!(guest.with_address(call, fd, name), Err(Errno::Acces));
            drop(guest);
            let expected = format!(
                "the guest may not {attempt}; no guest gets an abstract name: use a path, such as \
                 /run/app.sock"
            );
            assert_eq!(packets(log.into()), [expected]);
        });
    }
}

/// Each line that was written to the operator's log.
fn packets(mut log: fs::File) -> Vec<String> {
    let mut packet = [0; 4096];
    let mut lines = Vec::new();
    while let Some(length) = Some(log.read(&mut packet).expect("read")).filter(|one| *one > 0) {
        lines.push(String::from_utf8_lossy(&packet[..length]).into_owned());
    }
    lines
}
