//! Sockets, pipes and their grants, in a network namespace that a test makes for itself.

use std::{
    fs,
    io::{IoSlice, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{
            fs::{FileExt as _, symlink},
            net::{UnixDatagram, UnixListener, UnixStream},
        },
    },
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    unistd::{Pid, getpid, gettid},
};
use rustix::{fs::AtFlags, pipe::PipeFlags};
use wasm_interp_network::{Network, NetworkRules, parse_connect, parse_listen, parse_mode};
use wasm_interp_wasi::{
    LateMounts,
    errno::{Errno, Result},
};

use crate::support::{BUFFER, Caller, OUT, enter, in_tree, run};

const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const STREAM: u64 = 1;
const DATAGRAM: u64 = 2;
const NONBLOCK: u64 = 4;
/// ppoll(2), as the kernel numbers it.
#[cfg(target_arch = "x86_64")]
const SYS_PPOLL: u32 = 271;
#[cfg(not(target_arch = "x86_64"))]
const SYS_PPOLL: u32 = 73;
/// Where an address is received, beside the data.
const ADDRESS: u32 = BUFFER - 256;

/// What a container is granted.
pub(crate) fn network(listen: &str, connect: &str) -> Network {
    let rules = NetworkRules {
        listen: parse_listen(listen).expect(listen),
        connect: parse_connect(connect).expect(connect),
        ..NetworkRules::none()
    };
    Network::new(rules.clone(), rules).expect("within itself")
}

/// The mode `pod`.
fn pod() -> Network {
    let rules = NetworkRules {
        mode: parse_mode("pod").expect("pod"),
        ..NetworkRules::none()
    };
    Network::new(rules.clone(), rules).expect("within itself")
}

/// Gives this thread a network of its own with a loopback, and more addresses of it.
pub(crate) fn own_network(addresses: &[&str]) {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    let ip = |arguments: &[&str]| {
        let done = run(Command::new("ip").args(arguments));
        assert!(done.status.success(), "ip {arguments:?}");
    };
    ip(&["link", "set", "lo", "up"]);
    for address in addresses {
        // Without a moment in which the kernel looks for duplicates and the address cannot be used.
        let now: &[&str] = if address.contains(':') {
            &["nodad"]
        } else {
            &[]
        };
        ip(&[&["address", "add", address, "dev", "lo"], now].concat());
    }
}

/// Runs `test` with a guest in a tree and a network of their own.
fn with_network(network: Network, test: impl FnOnce(&mut Caller) + Send + 'static) {
    in_tree(move |tree| {
        own_network(&["10.0.0.1/32", "10.0.0.2/32", "fd00::1/128"]);
        enter(tree);
        fs::create_dir("/run").expect("/run");
        test(&mut Caller::with_network(
            LateMounts::Impossible,
            network,
            None,
        ));
    });
}

/// An address in the form of the interface.
fn bytes(address: &str) -> Vec<u8> {
    if address.starts_with('/') {
        return [&1u16.to_ne_bytes(), address.as_bytes(), &[0]].concat();
    }
    let address: SocketAddr = address.parse().expect(address);
    let port = address.port().to_be_bytes();
    match address {
        SocketAddr::V4(v4) => [&2u16.to_ne_bytes(), &port, &v4.ip().octets()[..], &[0; 8]].concat(),
        SocketAddr::V6(v6) => [
            &10u16.to_ne_bytes(),
            &port,
            &[0; 4][..],
            &v6.ip().octets(),
            &v6.scope_id().to_ne_bytes(),
        ]
        .concat(),
    }
}

/// As `bytes`, the other way round.
fn parsed(bytes: &[u8]) -> String {
    let port = || u16::from_be_bytes([bytes[2], bytes[3]]);
    match bytes {
        [] => String::new(),
        [1, 0, path @ ..] => String::from_utf8_lossy(path)
            .trim_end_matches('\0')
            .to_owned(),
        [2, 0, ..] => {
            let ip: [u8; 4] = bytes[4..8].try_into().expect("4");
            SocketAddr::from((ip, port())).to_string()
        }
        [10, 0, ..] => {
            let ip: [u8; 16] = bytes[8..24].try_into().expect("16");
            SocketAddr::from((ip, port())).to_string()
        }
        other => panic!("{other:?}"),
    }
}

impl Caller {
    fn socket(&mut self, family: u64, kind: u64, flags: u64) -> Result<u32> {
        self.call("socket", &[family, kind, 0, flags, OUT.into()])?;
        Ok(self.u32(OUT))
    }

    fn with_address(&mut self, name: &str, fd: u32, address: &[u8]) -> Result<()> {
        let [address, length] = self.put(address);
        self.call(name, &[fd.into(), address, length])
    }

    fn bind(&mut self, fd: u32, address: &str) -> Result<()> {
        self.with_address("bind", fd, &bytes(address))
    }

    fn connect(&mut self, fd: u32, address: &str) -> Result<()> {
        self.with_address("connect", fd, &bytes(address))
    }

    fn listen(&mut self, fd: u32) -> Result<()> {
        self.call("listen", &[fd.into(), 16])
    }

    /// A listening socket of the guest's.
    fn listener(&mut self, family: u64, address: &str) -> u32 {
        let fd = self.socket(family, STREAM, 0).expect("a socket");
        self.set_option(fd, 1, 2, &[1, 0, 0, 0])
            .expect("SO_REUSEADDR");
        self.bind(fd, address).expect("bind");
        self.listen(fd).expect("listen");
        fd
    }

    fn accept(&mut self, fd: u32, flags: u64) -> Result<(u32, String)> {
        let room = [ADDRESS.into(), 128, OUT.into(), u64::from(OUT) + 8];
        let arguments = [&[fd.into(), flags][..], &room].concat();
        self.call("accept4", &arguments)?;
        let peer = self.bytes(ADDRESS, self.u32(OUT + 8));
        Ok((self.u32(OUT), parsed(&peer)))
    }

    fn name(&mut self, function: &str, fd: u32) -> Result<String> {
        self.call(function, &[fd.into(), ADDRESS.into(), 200, OUT.into()])?;
        Ok(parsed(&self.bytes(ADDRESS, self.u32(OUT))))
    }

    fn send(&mut self, fd: u32, data: &[u8], flags: u64, to: &[u8]) -> Result<u32> {
        self.write(BUFFER, data);
        let length = u32::try_from(data.len()).expect("a length");
        let [list, count] = self.vectors(&[(BUFFER, length)]);
        let [to, to_length] = self.put(to);
        self.call(
            "sendmsg",
            &[fd.into(), list, count, flags, to, to_length, OUT.into()],
        )?;
        Ok(self.u32(OUT))
    }

    /// Data, flags and sender.
    fn receive(&mut self, fd: u32, room: u32, flags: u64) -> Result<(Vec<u8>, u32, String)> {
        let [list, count] = self.vectors(&[(BUFFER, room)]);
        let out = u64::from(OUT);
        self.call(
            "recvmsg",
            &[
                fd.into(),
                list,
                count,
                flags,
                ADDRESS.into(),
                128,
                out,
                out + 8,
                out + 16,
            ],
        )?;
        let data = self.bytes(BUFFER, self.u32(OUT).min(room));
        let sender = self.bytes(ADDRESS, self.u32(OUT + 16));
        Ok((data, self.u32(OUT + 8), parsed(&sender)))
    }

    fn option(&mut self, fd: u32, level: u64, option: u64, size: u32) -> Result<Vec<u8>> {
        let out = u64::from(OUT);
        let room = [BUFFER.into(), size.into(), out];
        self.call(
            "getsockopt",
            &[&[fd.into(), level, option][..], &room].concat(),
        )?;
        Ok(self.bytes(BUFFER, self.u32(OUT)))
    }

    fn set_option(&mut self, fd: u32, level: u64, option: u64, value: &[u8]) -> Result<()> {
        let [value, length] = self.put(value);
        self.call("setsockopt", &[fd.into(), level, option, value, length])
    }

    /// `revents` of each, and how many are not 0.
    fn poll(&mut self, list: &[(i32, u16)], timeout: i64) -> Result<(u32, Vec<u16>)> {
        let entries: Vec<u8> = list
            .iter()
            .flat_map(|(fd, events)| {
                [&fd.to_le_bytes()[..], &events.to_le_bytes(), &[0xff; 2]].concat()
            })
            .collect();
        self.write(BUFFER, &entries);
        let arguments = [
            BUFFER.into(),
            list.len() as u64,
            timeout.cast_unsigned(),
            OUT.into(),
        ];
        self.call("poll", &arguments)?;
        let count = u32::try_from(list.len()).expect("a count");
        let revents = (0..count).map(|index| self.u16(BUFFER + 8 * index + 6));
        Ok((self.u32(OUT), revents.collect()))
    }

    fn pair(&mut self, function: &str, arguments: &[u64]) -> Result<(u32, u32)> {
        let out = u64::from(OUT);
        self.call(function, &[arguments, &[out, out + 8]].concat())?;
        Ok((self.u32(OUT), self.u32(OUT + 8)))
    }
}

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
#[test]
fn listener_does_not_answer_a_special_address_that_it_has_only_heard() {
    in_tree(|tree| {
        let special = [
            "169.254.169.254",
            "168.63.129.16",
            "169.254.1.1",
            "169.254.1.2",
            "fd00:ec2::254",
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

#[test]
fn unix_sockets_are_where_the_grant_says() {
    let granted = network("unix:/run/app/*", "unix:/run/app/*, unix:/run/db.sock");
    with_network(granted, |guest| {
        fs::create_dir("/run/app").expect("a directory");
        fs::create_dir("/run/other").expect("a directory");
        let fd = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
        assert_eq!(guest.bind(fd, "/run/other/a"), Err(Errno::Acces));
        assert_eq!(guest.bind(fd, "/run/app/../other/a"), Err(Errno::Acces));
        assert_eq!(guest.bind(fd, "/run/nowhere/a"), Err(Errno::Noent));
        guest.bind(fd, "/run/app/../app//a").expect("bind");
        guest.listen(fd).expect("listen");
        let name = guest.name("getsockname", fd);
        assert_eq!(name.as_deref(), Ok("/run/app/../app//a"));
        let mut client = UnixStream::connect("/run/app/a").expect("connect");
        let (connection, peer) = guest.accept(fd, 0).expect("accept");
        assert_eq!(peer, "");
        client.write_all(b"x").expect("write");
        assert_eq!(guest.receive(connection, 8, 0).expect("receive").0, b"x");
        let again = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
        assert_eq!(guest.bind(again, "/run/app/a"), Err(Errno::Addrinuse));

        let _elsewhere = UnixListener::bind("/run/other/secret").expect("bind");
        let database = UnixListener::bind("/run/db.sock").expect("bind");
        symlink("/run/other/secret", "/run/app/link").expect("a link");
        symlink("../db.sock", "/run/app/to-db").expect("a link");
        symlink("/run/other", "/run/app/directory").expect("a link");
        symlink("/run", "/var-run").expect("a link");
        fs::write("/run/app/file", "").expect("a file");
        for (path, expected) in [
            ("/run/other/secret", Err(Errno::Acces)),
            ("/run/app/link", Err(Errno::Acces)),
            ("/run/app/directory/secret", Err(Errno::Acces)),
            ("/run/app/to-db", Ok(())),
            ("/var-run/db.sock", Ok(())),
            ("/run/app/file", Err(Errno::Connrefused)),
            ("/run/app/none", Err(Errno::Noent)),
            ("/run/app/a/", Err(Errno::Notdir)),
            ("/run/app/a/b", Err(Errno::Notdir)),
            ("/run/app", Err(Errno::Acces)),
            ("/", Err(Errno::Notdir)),
        ] {
            let fd = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
            assert_eq!(guest.connect(fd, path), expected, "{path}");
        }
        drop(database);
        for name in [&b"\x01\0\0abstract"[..], &[1, 0, 0]] {
            let fd = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
            assert_eq!(guest.with_address("bind", fd, name), Err(Errno::Acces));
            assert_eq!(guest.with_address("connect", fd, name), Err(Errno::Acces));
        }
        let fd = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
        assert_eq!(
            guest.with_address("bind", fd, &[1, 0]),
            Err(Errno::Acces),
            "no name"
        );
    });
}

#[test]
fn unix_datagrams_carry_the_path_of_their_sender() {
    with_network(network("unix:/run/*", "unix:/run/*"), |guest| {
        let server = UnixDatagram::bind("/run/server").expect("bind");
        let fd = guest.socket(AF_UNIX, DATAGRAM, 0).expect("a socket");
        guest.bind(fd, "/run/client").expect("bind");
        assert_eq!(guest.send(fd, b"question", 0, &bytes("/run/server")), Ok(8));
        let mut buffer = [0; 16];
        let (length, sender) = server.recv_from(&mut buffer).expect("receive");
        assert_eq!(&buffer[..length], b"question");
        assert_eq!(sender.as_pathname(), Some(Path::new("/run/client")));
        server.send_to(b"answer", "/run/client").expect("send");
        let (data, _, sender) = guest.receive(fd, 16, 0).expect("receive");
        assert_eq!((&data[..], &sender[..]), (&b"answer"[..], "/run/server"));
        let long = format!("/run/{}", "x".repeat(120));
        let fd = guest.socket(AF_UNIX, DATAGRAM, 0).expect("a socket");
        assert_eq!(guest.bind(fd, &long), Err(Errno::Nametoolong));
    });
}

/// Waits until the thread sleeps whose `/proc/…/syscall` this is.
fn wait_for_sleep(waits: &fs::File) {
    let sleeps = format!("{SYS_PPOLL} ");
    let mut text = [0; 16];
    loop {
        let length = waits.read_at(&mut text, 0).expect("read");
        if text[..length].starts_with(sleeps.as_bytes()) {
            return;
        }
        std::thread::yield_now();
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_interruption(_: i32) {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// Has SIGUSR2 interrupt a call, and do nothing else.
#[allow(unsafe_code)]
fn interrupt_by_signal() {
    let handler = SigHandler::Handler(note_interruption);
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler stores to an atomic value and does nothing else.
    unsafe { sigaction(Signal::SIGUSR2, &action) }.expect("sigaction");
}

#[allow(unsafe_code)]
fn interrupt(thread: Pid) {
    let (process, thread) = (getpid().as_raw(), thread.as_raw());
    // SAFETY: the call takes numbers alone.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR2) };
    assert_eq!(sent, 0);
}

/// By a signal that is none of the guest's.
#[test]
fn interrupted_connection_to_a_unix_socket_is_made_all_the_same() {
    in_tree(|tree| {
        let this_thread = gettid();
        let thread = format!("/proc/self/task/{this_thread}/syscall");
        let waits = fs::File::open(&thread).expect(&thread);
        interrupt_by_signal();
        enter(tree);
        let listener = UnixListener::bind("/a").expect("bind");
        rustix::net::listen(&listener, 0).expect("listen");
        let _first = UnixStream::connect("/a").expect("the one that there is room for");
        let neighbour = std::thread::spawn(move || {
            wait_for_sleep(&waits);
            interrupt(this_thread);
            while !INTERRUPTED.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            drop(listener.accept().expect("accept"));
            listener
        });
        let granted = network("", "unix:/a");
        let mut guest = Caller::with_network(LateMounts::Impossible, granted, None);
        let fd = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
        let answer = guest.connect(fd, "/a");
        let listener = neighbour.join().expect("the neighbour");
        assert_eq!(answer, Ok(()));
        assert_eq!(guest.send(fd, b"x", 0x4000, b""), Ok(1));
        let (mut accepted, _) = listener.accept().expect("accept");
        accepted.read_exact(&mut [0]).expect("read");
    });
}

/// A guest that may connect to what is in `/run/shared`, and waits for a listener there that has room for one
/// connection alone. Meanwhile a neighbour acts, and then makes room.
fn connect_that_waits<T: Send + 'static>(
    neighbour: impl FnOnce() -> T + Send + 'static,
    test: impl FnOnce(&mut Caller, u32, Result<()>, T) + Send + 'static,
) {
    in_tree(|tree| {
        // What this thread waits in, as the kernel says.
        let thread = format!("/proc/self/task/{}/syscall", gettid());
        let waits = fs::File::open(&thread).expect(&thread);
        enter(tree);
        fs::create_dir_all("/run/shared").expect("a directory");
        let granted = UnixListener::bind("/run/shared/a").expect("bind");
        rustix::net::listen(&granted, 0).expect("listen");
        let _first = UnixStream::connect("/run/shared/a").expect("the one that there is room for");
        let neighbour = std::thread::spawn(move || {
            wait_for_sleep(&waits);
            let acted = neighbour();
            drop(granted.accept().expect("accept"));
            (granted, acted)
        });
        let granted = network("", "unix:/run/shared/*");
        let mut guest = Caller::with_network(LateMounts::Impossible, granted, None);
        let fd = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
        let answer = guest.connect(fd, "/run/shared/a");
        let (_listener, acted) = neighbour.join().expect("the neighbour");
        test(&mut guest, fd, answer, acted);
    });
}

/// Another container, which may write to the directory, puts a link there.
#[test]
fn link_that_replaces_a_socket_leads_nowhere() {
    let replace = || {
        let secret = UnixListener::bind("/run/secret").expect("bind");
        symlink("/run/secret", "/run/link").expect("a link");
        fs::rename("/run/link", "/run/shared/a").expect("replace");
        secret
    };
    connect_that_waits(replace, |guest, fd, answer, secret| {
        assert_eq!(answer, Err(Errno::Acces));
        assert_eq!(guest.send(fd, b"x", 0x4000, b""), Err(Errno::Notconn));
        secret.set_nonblocking(true).expect("set");
        let reached = secret.accept().expect_err("nothing has come");
        assert_eq!(reached.kind(), std::io::ErrorKind::WouldBlock);
    });
}

#[test]
fn connection_that_waits_is_made_though_the_directory_changes() {
    let change = || fs::write("/run/shared/b", "").expect("a file");
    connect_that_waits(change, |guest, fd, answer, ()| {
        assert_eq!(answer, Ok(()));
        assert_eq!(guest.send(fd, b"x", 0x4000, b""), Ok(1));
        // One that does not want to wait does not.
        let other = guest.socket(AF_UNIX, STREAM, NONBLOCK).expect("a socket");
        assert_eq!(guest.connect(other, "/run/shared/a"), Err(Errno::Again));
    });
}

#[test]
fn connection_waits_as_long_as_its_socket_says() {
    with_network(network("", "unix:/run/*"), |guest| {
        let listener = UnixListener::bind("/run/a").expect("bind");
        rustix::net::listen(&listener, 0).expect("listen");
        let _first = UnixStream::connect("/run/a").expect("the one that there is room for");
        let fd = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
        let time = [0u64.to_ne_bytes(), 50_000u64.to_ne_bytes()].concat();
        guest.set_option(fd, 1, 21, &time).expect("SO_SNDTIMEO");
        let started = Instant::now();
        assert_eq!(guest.connect(fd, "/run/a"), Err(Errno::Again));
        assert!(started.elapsed() >= Duration::from_millis(50));
        drop(listener.accept().expect("accept"));
        guest.connect(fd, "/run/a").expect("connect");
    });
}

/// A neighbour makes and removes files all the time. A connection may fail where one comes right beside it; most do not.
#[test]
fn sockets_in_a_directory_that_changes_all_the_time_are_reached() {
    with_network(network("", "unix:/run/*"), |guest| {
        let listener = UnixListener::bind("/run/a").expect("bind");
        let ended = Arc::new(AtomicBool::new(false));
        let neighbour = std::thread::spawn({
            let ended = Arc::clone(&ended);
            move || {
                while !ended.load(Ordering::SeqCst) {
                    fs::write("/run/changes", "").expect("a file");
                    fs::remove_file("/run/changes").expect("remove");
                    std::thread::sleep(Duration::from_millis(3));
                }
            }
        });
        let mut reached = 0;
        for _ in 0..20 {
            let fd = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
            match guest.connect(fd, "/run/a") {
                Ok(()) => {
                    reached += 1;
                    listener.accept().expect("accept");
                }
                Err(error) => assert_eq!(error, Errno::Connaborted),
            }
            guest.close(fd).expect("close");
        }
        ended.store(true, Ordering::SeqCst);
        neighbour.join().expect("the neighbour");
        assert!(reached >= 10, "{reached} of 20");
    });
}

#[test]
fn ends_of_unix_connections_have_the_path_that_was_bound() {
    with_network(network("unix:*", "unix:*"), |guest| {
        fs::create_dir("/run/inner").expect("a directory");
        symlink("/run", "/var-run").expect("a link");
        for (bound, plain) in [("/run/a", "/run/a"), ("/var-run/inner/../b", "/run/b")] {
            let listener = guest.listener(AF_UNIX, bound);
            // Others are told where that leads.
            let native = UnixStream::connect(plain).expect("connect");
            let peer = native.peer_addr().expect("an address");
            assert_eq!(peer.as_pathname(), Some(Path::new(plain)));
            let client = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
            guest.connect(client, plain).expect("connect");
            assert_eq!(guest.name("getpeername", client).as_deref(), Ok(plain));
            for _ in 0..2 {
                let (accepted, _) = guest.accept(listener, 0).expect("accept");
                assert_eq!(guest.name("getsockname", accepted).as_deref(), Ok(bound));
                assert_eq!(guest.name("getpeername", accepted).as_deref(), Ok(""));
            }
            assert_eq!(guest.name("getsockname", listener).as_deref(), Ok(bound));
        }
        // A client may have a name too.
        let listener = guest.listener(AF_UNIX, "/run/c");
        let client = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
        guest.bind(client, "/run/client").expect("bind");
        guest.connect(client, "/run/c").expect("connect");
        let (accepted, peer) = guest.accept(listener, 0).expect("accept");
        assert_eq!(peer, "/run/client");
        assert_eq!(
            guest.name("getpeername", accepted).as_deref(),
            Ok("/run/client")
        );
        assert_eq!(guest.name("getpeername", client).as_deref(), Ok("/run/c"));
        // Longer than what the kernel has room for, as paths from a working directory may become.
        let long = format!("/run/{}/d", "x".repeat(120));
        fs::create_dir(Path::new(&long).parent().expect("above")).expect("a directory");
        let listener = guest.listener(AF_UNIX, &long);
        let client = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
        guest.connect(client, &long).expect("connect");
        assert_eq!(guest.name("getpeername", client).as_deref(), Ok("d"));
        let (accepted, _) = guest.accept(listener, 0).expect("accept");
        assert_eq!(guest.name("getsockname", accepted).as_ref(), Ok(&long));
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

#[test]
fn descriptors_are_passed_neither_way() {
    in_tree(|tree| {
        let descriptors = fs::File::open("/proc/self/fd").expect("/proc/self/fd");
        enter(tree);
        fs::create_dir("/run").expect("/run");
        let granted = network("unix:/run/*", "");
        let mut guest = Caller::with_network(LateMounts::Impossible, granted, None);
        let listener = guest.listener(AF_UNIX, "/run/a");
        let client = UnixStream::connect("/run/a").expect("connect");
        let (connection, _) = guest.accept(listener, 0).expect("accept");
        let passed: OwnedFd = fs::File::create("/passed").expect("a file").into();
        assert_eq!(numbers_of(&descriptors, "/passed"), 1);
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
        let fds = [passed.as_fd()];
        assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
        let flags = rustix::net::SendFlags::empty();
        rustix::net::sendmsg(&client, &[IoSlice::new(b"x")], &mut control, flags).expect("send");
        drop(passed);
        let (data, flags, _) = guest.receive(connection, 8, 0).expect("receive");
        assert_eq!((&data[..], flags), (&b"x"[..], 8), "MSG_CTRUNC");
        assert_eq!(numbers_of(&descriptors, "/passed"), 0);
    });
}

/// How many descriptors of this process are of that file, by its open `/proc/self/fd`.
fn numbers_of(descriptors: &fs::File, path: &str) -> usize {
    let wanted = rustix::fs::stat(path).expect(path);
    let numbers = rustix::fs::Dir::read_from(descriptors).expect("the list");
    numbers
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| {
            // Other threads close theirs meanwhile.
            let found = rustix::fs::statat(descriptors, entry.file_name(), AtFlags::empty());
            found.is_ok_and(|found| (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino))
        })
        .count()
}

#[test]
fn pairs_and_pipes_lead_from_one_end_to_the_other() {
    with_network(Network::none(), |guest| {
        let (one, other) = guest
            .pair("socketpair", &[AF_UNIX, STREAM, 0, 0])
            .expect("a pair");
        guest.put_out(one, b"there").expect("write");
        assert_eq!(guest.read(other, 16).as_deref(), Ok(&b"there"[..]));
        guest.send(other, b"back", 0, b"").expect("send");
        assert_eq!(guest.receive(one, 16, 0).expect("receive").0, b"back");
        let (one, other) = guest
            .pair("socketpair", &[AF_UNIX, DATAGRAM, 0, NONBLOCK])
            .expect("a pair");
        guest.send(one, b"1", 0, b"").expect("send");
        guest.send(one, b"2", 0, b"").expect("send");
        assert_eq!(guest.receive(other, 16, 0).expect("receive").0, b"1");
        assert_eq!(guest.receive(other, 16, 0).expect("receive").0, b"2");
        assert_eq!(guest.receive(other, 16, 0).err(), Some(Errno::Again));
        assert_eq!(
            guest.pair("socketpair", &[AF_INET, STREAM, 0, 0]),
            Err(Errno::Notsup)
        );
        assert_eq!(
            guest.pair("socketpair", &[AF_UNIX, 5, 0, 0]),
            Err(Errno::Protonosupport)
        );

        let (read, write) = guest.pair("pipe", &[NONBLOCK]).expect("a pipe");
        assert_eq!(guest.read(read, 4).err(), Some(Errno::Again));
        guest.put_out(write, b"in").expect("write");
        assert_eq!(guest.read(read, 4).as_deref(), Ok(&b"in"[..]));
        guest.close(write).expect("close");
        assert_eq!(guest.read(read, 4).as_deref(), Ok(&b""[..]));
        assert_eq!(guest.option(read, 1, 3, 4).err(), Some(Errno::Notsock));
    });
}

/// The kernel's answers, but for what would take an address.
#[test]
fn ends_of_a_pair_are_sockets_that_lead_nowhere_else() {
    with_network(Network::none(), |guest| {
        let elsewhere = UnixDatagram::bind("/run/elsewhere").expect("bind");
        let listener = UnixListener::bind("/run/listener").expect("bind");
        for kind in [STREAM, DATAGRAM] {
            let (one, other) = guest
                .pair("socketpair", &[AF_UNIX, kind, 0, 0])
                .expect("a pair");
            for fd in [one, other] {
                assert_eq!(guest.name("getsockname", fd).as_deref(), Ok(""));
                assert_eq!(guest.name("getpeername", fd).as_deref(), Ok(""));
                let of_kind = u32::try_from(kind).expect("small").to_le_bytes();
                assert_eq!(guest.option(fd, 1, 3, 4).as_deref(), Ok(&of_kind[..]));
                for path in ["/run/elsewhere", "/run/listener"] {
                    assert_eq!(guest.connect(fd, path), Err(Errno::Acces));
                    assert_eq!(guest.send(fd, b"x", 0, &bytes(path)), Err(Errno::Acces));
                }
                assert_eq!(guest.bind(fd, "/run/own"), Err(Errno::Acces));
                assert_eq!(guest.connect(fd, "10.0.0.1:80"), Err(Errno::Afnosupport));
                let undone = guest.with_address("connect", fd, &[0; 16]);
                assert!(
                    matches!(undone, Err(Errno::Notsup | Errno::Afnosupport)),
                    "{undone:?}"
                );
                let (listen, accept) = (guest.listen(fd), guest.accept(fd, 0));
                let expected = if kind == STREAM {
                    Errno::Inval
                } else {
                    Errno::Notsup
                };
                assert_eq!((listen, accept), (Err(expected), Err(expected)));
            }
            // Several buffers are one message.
            guest.write(BUFFER, b"onetwothree");
            let [list, count] = guest.vectors(&[(BUFFER, 3), (BUFFER + 3, 3), (BUFFER + 6, 5)]);
            let arguments = [one.into(), list, count, 0x40, 0, 0, OUT.into()];
            assert_eq!(guest.call("sendmsg", &arguments), Ok(()));
            assert_eq!(guest.u32(OUT), 11);
            let (data, flags, _) = guest.receive(other, 64, 2).expect("peek");
            assert_eq!((&data[..], flags), (&b"onetwothree"[..], 0));
            assert_eq!(
                guest.receive(other, 64, 0).expect("receive").0,
                b"onetwothree"
            );
            let half = guest.call("sock_shutdown", &[one.into(), 2]);
            assert_eq!(half, Ok(()));
            assert_eq!(guest.send(one, b"x", 0x4000, b""), Err(Errno::Pipe));
            let end = guest.receive(other, 8, 0x40).map(|one| one.0);
            assert_eq!(
                end,
                if kind == STREAM {
                    Ok(Vec::new())
                } else {
                    Err(Errno::Again)
                }
            );
        }
        // More than a message, or than a pair holds.
        for (kind, expected) in [(STREAM, None), (DATAGRAM, Some(Errno::Msgsize))] {
            let (one, _other) = guest
                .pair("socketpair", &[AF_UNIX, kind, 0, NONBLOCK])
                .expect("a pair");
            let [list, count] = guest.vectors(&[(0, 1 << 20), (0, 1 << 20)]);
            let arguments = [one.into(), list, count, 0x4000, 0, 0, OUT.into()];
            assert_eq!(guest.call("sendmsg", &arguments).err(), expected);
        }
        drop((elsewhere, listener));
        assert!(!Path::new("/run/own").exists());
    });
}

#[test]
fn further_numbers_share_an_open_file() {
    with_network(Network::none(), |guest| {
        let file = guest.create("f");
        let mut dup = |fd: u32, from: u64| {
            guest.call("dup", &[fd.into(), from, OUT.into()])?;
            Ok(guest.u32(OUT))
        };
        assert_eq!(dup(file, 0), Ok(5));
        assert_eq!(dup(file, 20), Ok(20));
        assert_eq!(dup(file, 20), Ok(21));
        assert_eq!(dup(99, 0), Err(Errno::Badf));
        assert_eq!(dup(file, 1 << 30), Err(Errno::Inval));
        let mut dup2 = |fd: u32, to: u64| guest.call("dup2", &[fd.into(), to]);
        assert_eq!(dup2(file, 40), Ok(()));
        assert_eq!(dup2(file, file.into()), Ok(()));
        assert_eq!(dup2(99, 40), Err(Errno::Badf));
        assert_eq!(dup2(99, 99), Err(Errno::Badf));
        assert_eq!(dup2(file, 1 << 30), Err(Errno::Badf));
        // Standard output leads to the file now.
        assert_eq!(dup2(file, 1), Ok(()));
        guest.put_out(1, b"one ").expect("write");
        guest.put_out(40, b"two ").expect("write");
        guest.close(file).expect("close");
        guest.put_out(20, b"three").expect("write");
        assert_eq!(fs::read("/f").expect("read"), b"one two three");
    });
}

#[test]
fn poll_waits_for_files_sockets_and_time_together() {
    with_network(network("tcp:8080", "udp:10.0.0.1:9"), |guest| {
        let number = |fd: u32| i32::try_from(fd).expect("small");
        let listener = guest.listener(AF_INET, "127.0.0.1:8080");
        let udp = guest.socket(AF_INET, DATAGRAM, 0).expect("a socket");
        let (read, write) = guest.pair("pipe", &[0]).expect("a pipe");
        let file = guest.create("f");
        let all = [
            (number(listener), 1),
            (number(udp), 1),
            (number(read), 1),
            (-1, 1),
        ];
        assert_eq!(guest.poll(&all, 0), Ok((0, vec![0; 4])));
        assert_eq!(
            guest.poll(&all, 1_000_000),
            Ok((0, vec![0; 4])),
            "its time is up"
        );
        assert_eq!(guest.poll(&[], 1_000_000), Ok((0, vec![])));
        let client = TcpStream::connect("127.0.0.1:8080").expect("connect");
        assert_eq!(guest.poll(&all, -1), Ok((1, vec![1, 0, 0, 0])));
        guest.put_out(write, b"x").expect("write");
        let more = [
            all[0],
            all[1],
            all[2],
            (number(file), 5),
            (77, 1),
            (number(write), 4),
        ];
        assert_eq!(guest.poll(&more, -1), Ok((5, vec![1, 0, 1, 5, 0x20, 4])));
        guest.accept(listener, 0).expect("accept");
        guest.close(write).expect("close");
        guest.read(read, 8).expect("read");
        assert_eq!(guest.poll(&[all[2]], -1), Ok((1, vec![0x10])), "POLLHUP");
        drop(client);
        let many = vec![(-1, 1); 1 << 16];
        assert_eq!(guest.poll(&many, 0).expect("poll").0, 0);
        let beyond = [BUFFER.into(), (1 << 16) + 1, 0, OUT.into()];
        assert_eq!(guest.call("poll", &beyond), Err(Errno::Inval));
    });
}

#[test]
fn thousand_connections_are_served_by_one_loop() {
    const CONNECTIONS: u16 = 1000;
    with_network(network("tcp:8080", ""), |guest| {
        let listener = guest.listener(AF_INET, "127.0.0.1:8080");
        let mut clients = Vec::new();
        let mut list = vec![(i32::try_from(listener).expect("small"), 1)];
        for _ in 0..CONNECTIONS {
            clients.push(TcpStream::connect("127.0.0.1:8080").expect("connect"));
            let (ready, _) = guest.poll(&list[..1], -1).expect("poll");
            assert_eq!(ready, 1);
            let (connection, _) = guest.accept(listener, NONBLOCK).expect("accept");
            list.push((i32::try_from(connection).expect("small"), 1));
        }
        for (index, client) in clients.iter_mut().enumerate() {
            client.write_all(&index.to_le_bytes()).expect("write");
        }
        let mut served = 0;
        while served < usize::from(CONNECTIONS) {
            let (_, revents) = guest.poll(&list, -1).expect("poll");
            for (index, _) in revents.iter().enumerate().filter(|(_, one)| **one != 0) {
                let fd = u32::try_from(list[index].0).expect("a number");
                let data = guest.receive(fd, 64, 0).expect("receive").0;
                guest.send(fd, &data, 0, b"").expect("send");
                served += 1;
            }
        }
        for (index, client) in clients.iter_mut().enumerate() {
            let mut answer = [0; size_of::<usize>()];
            client.read_exact(&mut answer).expect("read");
            assert_eq!(usize::from_le_bytes(answer), index);
        }
    });
}

#[test]
fn no_connection_is_lost_where_no_number_is_free() {
    with_network(network("tcp:8080", ""), |guest| {
        let listener = guest.listener(AF_INET, "127.0.0.1:8080");
        let mut client = TcpStream::connect("127.0.0.1:8080").expect("connect");
        let mut numbers = Vec::new();
        let full = loop {
            match guest.call("dup", &[listener.into(), 0, OUT.into()]) {
                Ok(()) => numbers.push(guest.u32(OUT)),
                Err(error) => break error,
            }
        };
        assert_eq!(full, Errno::Mfile);
        assert_eq!(guest.accept(listener, 0).err(), Some(Errno::Mfile));
        let outside = [
            listener.into(),
            0,
            u64::from(u32::MAX) - 9,
            128,
            OUT.into(),
            OUT.into(),
        ];
        guest.close(numbers[0]).expect("close");
        assert_eq!(guest.call("accept4", &outside), Err(Errno::Fault));
        let (connection, _) = guest.accept(listener, 0).expect("accept");
        guest.send(connection, b"here", 0, b"").expect("send");
        let mut text = [0; 4];
        client.read_exact(&mut text).expect("read");
        assert_eq!(&text, b"here");
    });
}

/// As many as there is room for, of each kind, and connections that nothing accepts.
#[test]
fn sockets_end_where_the_numbers_of_descriptors_do() {
    let granted = network(
        "tcp:8080, unix:/run/*",
        "tcp:localhost:8080, udp:*:9, unix:/run/*",
    );
    with_network(granted, |guest| {
        let listener = guest.listener(AF_INET, "127.0.0.1:8080");
        // All numbers but 200.
        let mut taken = Vec::new();
        while guest.call("dup", &[listener.into(), 0, OUT.into()]) == Ok(()) {
            taken.push(guest.u32(OUT));
        }
        for fd in taken.split_off(taken.len() - 200) {
            guest.close(fd).expect("close");
        }
        for (family, kind) in [(AF_INET, STREAM), (AF_INET6, DATAGRAM), (AF_UNIX, STREAM)] {
            let mut numbers = Vec::new();
            let full = loop {
                match guest.socket(family, kind, NONBLOCK) {
                    Ok(fd) => numbers.push(fd),
                    Err(error) => break error,
                }
                if kind == STREAM && family == AF_INET {
                    let fd = *numbers.last().expect("it was made");
                    let answer = guest.connect(fd, "127.0.0.1:8080");
                    assert!(
                        matches!(answer, Ok(()) | Err(Errno::Inprogress)),
                        "{answer:?}"
                    );
                }
            };
            assert_eq!(full, Errno::Mfile);
            assert_eq!(guest.pair("pipe", &[0]), Err(Errno::Mfile));
            assert_eq!(numbers.len(), 200);
            for fd in numbers {
                guest.close(fd).expect("close");
            }
        }
        let first = guest.accept(listener, 0).expect("what was made is there");
        guest.close(first.0).expect("close");
        assert!(guest.pair("pipe", &[0]).is_ok());
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
        let mut log = fs::File::from(log);
        let mut packet = [0; 4096];
        let mut lines = Vec::new();
        while let Some(length) = Some(log.read(&mut packet).expect("read")).filter(|one| *one > 0) {
            lines.push(String::from_utf8_lossy(&packet[..length]).into_owned());
        }
        let first = "the guest may not connect to tcp:10.0.0.1:2; add \"tcp:10.0.0.1:2\" to the \
                     annotation wasm-interp.io/connect";
        assert!(lines[0].starts_with(first), "{lines:?}");
        assert!(lines.len() < 98, "{lines:?}");
    });
}
