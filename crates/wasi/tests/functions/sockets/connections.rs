//! Streams and datagrams of IPv4 and IPv6: connections, refusals, waiting, options.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
};

use wasm_interp_wasi::errno::Errno;

use super::{AF_INET, AF_INET6, AF_UNIX, DATAGRAM, NONBLOCK, STREAM, bytes, network, with_network};
use crate::support::{BUFFER, OUT};

#[test]
fn streams_are_accepted_read_and_half_closed() {
    with_network(network("tcp:8080", ""), |guest| {
        for (family, address, client) in [
            (AF_INET, "127.0.0.1:8080", "127.0.0.1:8080"),
            (AF_INET6, "[::1]:8080", "[::1]:8080"),
            (AF_INET6, "[::]:8080", "127.0.0.1:8080"),
        ] {
            let listener = guest.listener(family, address);
            assert_eq!(guest.name("getsockname", listener).as_deref(), Ok(address));
            let mut client = TcpStream::connect(client).expect(client);
            let own = client.local_addr().expect("an address");
            let (connection, peer) = guest.accept(listener, 0).expect("accept");
            let peer: SocketAddr = peer.parse().expect("an address");
            assert_eq!(peer.port(), own.port());
            assert_eq!(peer.ip().to_canonical(), own.ip());
            assert_eq!(guest.name("getpeername", connection), Ok(peer.to_string()));
            client.write_all(b"question").expect("write");
            client
                .shutdown(std::net::Shutdown::Write)
                .expect("shutdown");
            let peeked = guest.receive(connection, 4, 2).expect("peek").0;
            assert_eq!(peeked, b"ques");
            let (data, flags, sender) = guest.receive(connection, 64, 0).expect("receive");
            assert_eq!((&data[..], flags, &sender[..]), (&b"question"[..], 0, ""));
            assert_eq!(
                guest.read(connection, 64).as_deref(),
                Ok(&b""[..]),
                "its end"
            );
            assert_eq!(guest.put_out(connection, b"ans"), Ok(3));
            assert_eq!(guest.send(connection, b"wer", 0x4000, b""), Ok(3));
            guest
                .call("sock_shutdown", &[connection.into(), 2])
                .expect("shutdown");
            let mut answer = String::new();
            client.read_to_string(&mut answer).expect("read");
            assert_eq!(answer, "answer");
            assert_eq!(guest.send(connection, b"x", 0x4000, b""), Err(Errno::Pipe));
            guest.close(connection).expect("close");
            guest.close(listener).expect("close");
        }
    });
}

#[test]
fn client_reaches_what_it_is_granted_and_nothing_else() {
    let granted = network("", "tcp:10.0.0.1:80, tcp:localhost:81, tcp:[fd00::1]:80-82");
    with_network(granted, |guest| {
        let listeners = ["10.0.0.1:80", "10.0.0.2:80", "127.0.0.1:81", "[fd00::1]:82"]
            .map(|address| TcpListener::bind(address).expect(address));
        for (family, address, expected) in [
            (AF_INET, "10.0.0.1:80", Ok(())),
            (AF_INET, "10.0.0.2:80", Err(Errno::Acces)),
            (AF_INET, "10.0.0.1:81", Err(Errno::Acces)),
            (AF_INET, "127.0.0.1:81", Ok(())),
            (AF_INET, "127.0.0.1:80", Err(Errno::Acces)),
            // The kernel takes it for the loopback.
            (AF_INET, "0.0.0.0:81", Ok(())),
            (AF_INET, "0.0.0.0:80", Err(Errno::Acces)),
            (AF_INET6, "[::ffff:10.0.0.1]:80", Ok(())),
            (AF_INET6, "[::ffff:10.0.0.2]:80", Err(Errno::Acces)),
            (AF_INET6, "[::ffff:169.254.169.254]:80", Err(Errno::Acces)),
            (AF_INET6, "[fd00::1]:82", Ok(())),
            (AF_INET6, "[fd00::1]:81", Err(Errno::Connrefused)),
            (AF_INET6, "[fd00::1]:83", Err(Errno::Acces)),
            (AF_INET, "10.0.0.1:0", Err(Errno::Acces)),
        ] {
            let fd = guest.socket(family, STREAM, 0).expect("a socket");
            assert_eq!(guest.connect(fd, address), expected, "{address}");
            guest.close(fd).expect("close");
        }
        drop(listeners);
        let fd = guest.socket(AF_INET, STREAM, 0).expect("a socket");
        assert_eq!(guest.bind(fd, "0.0.0.0:80"), Err(Errno::Acces));
        assert_eq!(
            guest.bind(fd, "127.0.0.1:0"),
            Ok(()),
            "a client may choose where it is"
        );
        assert_eq!(guest.listen(fd), Err(Errno::Acces), "but not listen there");
        let fd = guest.socket(AF_INET, STREAM, 0).expect("a socket");
        assert_eq!(
            guest.listen(fd),
            Err(Errno::Acces),
            "on a port of the kernel's choice"
        );
    });
}

#[test]
fn connection_that_does_not_wait_is_in_progress_and_then_made_or_refused() {
    with_network(network("", "tcp:localhost:80-81"), |guest| {
        let listener = TcpListener::bind("127.0.0.1:80").expect("bind");
        for (address, error) in [
            ("127.0.0.1:80", 0),
            ("127.0.0.1:81", Errno::Connrefused as u32),
        ] {
            let fd = guest.socket(AF_INET, STREAM, NONBLOCK).expect("a socket");
            let answer = guest.connect(fd, address);
            assert!(
                matches!(answer, Err(Errno::Inprogress | Errno::Connrefused) | Ok(())),
                "{answer:?}"
            );
            let number = i32::try_from(fd).expect("small");
            let (ready, revents) = guest.poll(&[(number, 4)], -1).expect("poll");
            assert_eq!((ready, revents[0] & 4), (1, 4), "writable");
            // The first asks and clears it.
            if answer == Err(Errno::Inprogress) {
                let value = guest.option(fd, 1, 4, 4).expect("SO_ERROR");
                assert_eq!(value, error.to_le_bytes(), "{address}");
            }
            assert_eq!(guest.option(fd, 1, 4, 4).as_deref(), Ok(&[0; 4][..]));
            let (_, flags, _) = guest.fdstat(fd).expect("fdstat");
            assert_eq!(u64::from(flags.bits()), NONBLOCK);
        }
        drop(listener);
    });
}

#[test]
fn descriptors_that_do_not_block_say_eagain() {
    with_network(network("tcp:8080", "tcp:localhost:8080"), |guest| {
        let listener = guest.listener(AF_INET, "127.0.0.1:8080");
        guest
            .call("fd_fdstat_set_flags", &[listener.into(), NONBLOCK])
            .expect("set");
        assert_eq!(guest.accept(listener, 0).err(), Some(Errno::Again));
        let client = guest.socket(AF_INET, STREAM, 0).expect("a socket");
        guest.connect(client, "127.0.0.1:8080").expect("connect");
        // The last packet of the handshake arrives after the client has its connection.
        let number = i32::try_from(listener).expect("small");
        assert_eq!(guest.poll(&[(number, 1)], -1), Ok((1, vec![1])));
        let (connection, _) = guest.accept(listener, NONBLOCK).expect("accept");
        assert_eq!(guest.receive(connection, 8, 0).err(), Some(Errno::Again));
        assert_eq!(guest.read(connection, 8).err(), Some(Errno::Again));
        assert_eq!(
            guest.receive(client, 8, 0x40).err(),
            Some(Errno::Again),
            "MSG_DONTWAIT"
        );
        // 10 ms, and then it gives up.
        let time = [0i64.to_le_bytes(), 10_000i64.to_le_bytes()].concat();
        guest.set_option(client, 1, 20, &time).expect("SO_RCVTIMEO");
        assert_eq!(guest.receive(client, 8, 0).err(), Some(Errno::Again));
        guest
            .call("fd_fdstat_set_flags", &[connection.into(), 0])
            .expect("set");
        guest.send(client, b"x", 0, b"").expect("send");
        assert_eq!(guest.receive(connection, 8, 0).expect("receive").0, b"x");
    });
}

#[test]
fn families_types_protocols_and_flags_are_lists() {
    let granted = network("tcp:1, udp:1, unix:*", "unix:*");
    with_network(granted, |guest| {
        let mut socket = |family: u64, kind: u64, protocol: u64, flags: u64| {
            guest.call("socket", &[family, kind, protocol, flags, OUT.into()])
        };
        for (family, kind, protocol, flags, expected) in [
            (AF_INET, STREAM, 6, NONBLOCK, Ok(())),
            (AF_INET6, DATAGRAM, 17, 0, Ok(())),
            (AF_UNIX, DATAGRAM, 0, 0, Ok(())),
            (16, DATAGRAM, 0, 0, Err(Errno::Afnosupport)),
            (17, DATAGRAM, 0, 0, Err(Errno::Afnosupport)),
            (40, STREAM, 0, 0, Err(Errno::Afnosupport)),
            (0, STREAM, 0, 0, Err(Errno::Afnosupport)),
            (AF_INET, 3, 0, 0, Err(Errno::Protonosupport)),
            (AF_INET, 5, 0, 0, Err(Errno::Protonosupport)),
            (AF_UNIX, 5, 0, 0, Err(Errno::Protonosupport)),
            (AF_INET, STREAM, 17, 0, Err(Errno::Protonosupport)),
            (AF_INET, STREAM, 132, 0, Err(Errno::Protonosupport)),
            (AF_INET, STREAM, 262, 0, Err(Errno::Protonosupport)),
            (AF_INET, DATAGRAM, 1, 0, Err(Errno::Protonosupport)),
            (AF_INET, STREAM, 0, 1, Err(Errno::Inval)),
        ] {
            let answer = socket(family, kind, protocol, flags);
            assert_eq!(answer, expected, "{family} {kind} {protocol} {flags}");
        }
        let fd = guest.socket(AF_INET, DATAGRAM, 0).expect("a socket");
        for flag in [1, 4, 0x2000, 0x2000_0000] {
            assert_eq!(guest.send(fd, b"", flag, b""), Err(Errno::Inval));
            assert_eq!(guest.receive(fd, 1, flag).err(), Some(Errno::Inval));
        }
        let short = guest.with_address("connect", fd, &bytes("10.0.0.1:1")[..7]);
        assert_eq!(short, Err(Errno::Inval));
        let other = guest.connect(fd, "/run/a");
        assert_eq!(
            other,
            Err(Errno::Afnosupport),
            "the address of another family"
        );
    });
}

#[test]
fn options_of_the_list_are_the_kernels() {
    with_network(network("tcp:1, unix:*", ""), |guest| {
        let fd = guest.socket(AF_INET, STREAM, 0).expect("a socket");
        let one = 1u32.to_le_bytes();
        for (level, option) in [(1, 2), (1, 9), (1, 15), (6, 1)] {
            assert_eq!(
                guest.option(fd, level, option, 4).as_deref(),
                Ok(&[0; 4][..])
            );
            guest.set_option(fd, level, option, &one).expect("set");
            assert_eq!(guest.option(fd, level, option, 4).as_deref(), Ok(&one[..]));
        }
        for (option, seconds) in [(4, 30u32), (5, 10), (6, 3)] {
            guest
                .set_option(fd, 6, option, &seconds.to_le_bytes())
                .expect("keep-alive");
            let value = guest.option(fd, 6, option, 4).expect("keep-alive");
            assert_eq!(value, seconds.to_le_bytes());
        }
        let linger = [one, 5u32.to_le_bytes()].concat();
        guest.set_option(fd, 1, 13, &linger).expect("SO_LINGER");
        assert_eq!(guest.option(fd, 1, 13, 8).as_deref(), Ok(&linger[..]));
        let time = [3i64.to_le_bytes(), 0i64.to_le_bytes()].concat();
        guest.set_option(fd, 1, 21, &time).expect("SO_SNDTIMEO");
        assert_eq!(guest.option(fd, 1, 21, 16).as_deref(), Ok(&time[..]));
        assert_eq!(
            guest.option(fd, 1, 3, 4).as_deref(),
            Ok(&one[..]),
            "SO_TYPE"
        );
        assert_eq!(
            guest.option(fd, 1, 39, 4).as_deref(),
            Ok(&[2, 0, 0, 0][..]),
            "SO_DOMAIN"
        );
        assert_eq!(guest.set_option(fd, 1, 3, &one), Err(Errno::Noprotoopt));
        assert_eq!(
            guest.set_option(fd, 1, 2, &[1]),
            Err(Errno::Inval),
            "too short"
        );
        for (level, option) in [
            (1, 25),
            (1, 36),
            (1, 26),
            (0, 19),
            (41, 1),
            (6, 30),
            (263, 1),
        ] {
            assert_eq!(
                guest.set_option(fd, level, option, &one),
                Err(Errno::Noprotoopt)
            );
            assert_eq!(
                guest.option(fd, level, option, 4).err(),
                Some(Errno::Noprotoopt)
            );
        }
        let file = guest.create("f");
        assert_eq!(guest.option(file, 1, 3, 4).err(), Some(Errno::Notsock));
        assert_eq!(
            guest.set_option(1, 1, 2, &one),
            Err(Errno::Notsock),
            "a stream"
        );
    });
}

/// Whatever its state: a pipe with nothing in it, one that is full, and a file. As streams of the container, also where
/// the guest does not want to wait, and as files of the guest's own.
#[test]
fn what_is_no_socket_is_enotsock() {
    with_network(network("tcp:80", ""), |guest| {
        let file = guest.create("f");
        let (read, write) = guest.pair("pipe", &[0]).expect("a pipe");
        for fd in [0, 1, 2, file, read, write] {
            for nonblocking in [0, NONBLOCK] {
                guest
                    .call("fd_fdstat_set_flags", &[fd.into(), nonblocking])
                    .expect("flags");
                let [list, count] = guest.vectors(&[(BUFFER, 1)]);
                let vectors = [fd.into(), list, count];
                let answers = [
                    guest.call(
                        "sock_recv",
                        &[&vectors[..], &[0, OUT.into(), (OUT + 8).into()]].concat(),
                    ),
                    guest.call("sock_send", &[&vectors[..], &[0, OUT.into()]].concat()),
                    guest.call("sock_shutdown", &[fd.into(), 3]),
                    guest.call("sock_shutdown", &[fd.into(), 0]),
                    guest.call("sock_accept", &[fd.into(), 0, OUT.into()]),
                    guest.receive(fd, 1, 0).map(drop),
                    guest.send(fd, b"x", 0, b"").map(drop),
                    guest.send(fd, b"x", 0, &bytes("10.0.0.1:80")).map(drop),
                    guest.accept(fd, 0).map(drop),
                    guest.name("getsockname", fd).map(drop),
                    guest.name("getpeername", fd).map(drop),
                    guest.bind(fd, "10.0.0.1:80"),
                    guest.connect(fd, "10.0.0.1:80"),
                    guest.listen(fd),
                ];
                assert_eq!(answers, [Err(Errno::Notsock); 14], "{fd}");
            }
        }
        assert_eq!(guest.call("sock_shutdown", &[99, 3]), Err(Errno::Badf));
        let (one, _) = guest
            .pair("socketpair", &[AF_UNIX, STREAM, 0, 0])
            .expect("a pair");
        assert_eq!(
            guest.call("sock_shutdown", &[one.into(), 0]),
            Err(Errno::Inval)
        );
    });
}
