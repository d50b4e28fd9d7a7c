//! Hosts in a network namespace of the fuzzer's own, and what of them a guest is granted.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{LazyLock, Mutex};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use wasm_interp_network::{Network, NetworkRules, parse_connect, parse_listen, parse_mode};

use crate::contained;

/// What the guest is granted: nothing, some addresses, every ordinary host, the pod's network.
pub const GRANTS: [(&str, &str, &str); 4] = [
    ("none", "", ""),
    (
        "none",
        "tcp:8080, udp:8053, unix:/run/own/*",
        "tcp:10.0.0.1:80, udp:10.0.0.1:53, tcp:10.0.0.1:8080, unix:/run/own/*",
    ),
    ("none", "", "tcp:*:80, udp:*:53, dns"),
    ("pod", "", ""),
];

/// The hosts, and which of [`GRANTS`] reach them.
pub const HOSTS: [(&str, [bool; 4]); 6] = [
    ("10.0.0.1", [false, true, true, true]),
    ("10.0.0.2", [false, false, true, true]),
    ("[fd00::1]", [false, false, true, true]),
    ("127.0.0.1", [false, false, false, true]),
    ("[::1]", [false, false, false, true]),
    ("169.254.169.254", [false, false, false, false]),
];

/// Addresses for a guest to try.
pub const ADDRESSES: &[&str] = &[
    "10.0.0.1:80",
    "10.0.0.1:53",
    "10.0.0.1:8080",
    "10.0.0.2:80",
    "10.0.0.2:53",
    "127.0.0.1:80",
    "127.0.0.1:53",
    "0.0.0.0:80",
    "0.0.0.0:8080",
    "0.0.0.0:8053",
    "127.0.0.1:8053",
    "127.0.0.1:0",
    "169.254.169.254:80",
    "169.254.169.254:53",
    "169.254.169.254:8053",
    "224.0.0.1:53",
    "[::]:80",
    "[::1]:80",
    "[::1]:53",
    "[fd00::1]:80",
    "[::ffff:10.0.0.1]:80",
    "[::ffff:10.0.0.2]:80",
    "[::ffff:127.0.0.1]:53",
    "[::ffff:169.254.169.254]:53",
    "[64:ff9b::a9fe:a9fe]:80",
    "[::]:8080",
];

/// Names for a guest to look up.
pub const NAMES: &[&str] = &[
    "localhost",
    "web",
    "10.0.0.1",
    "fe80::1%1",
    "evil.test",
    "",
    "a..b",
];

/// The sockets that are there to be reached.
struct Others {
    streams: Vec<TcpListener>,
    datagrams: Vec<UdpSocket>,
    /// Connections of the present guest that a host has taken.
    taken: Mutex<Vec<(usize, Option<TcpStream>)>>,
}

/// In the network namespace of this process, which the first call makes.
fn others() -> &'static Others {
    static OTHERS: LazyLock<Others> = LazyLock::new(|| {
        contained::network(&[
            "10.0.0.1/32",
            "10.0.0.2/32",
            "fd00::1/128",
            "169.254.169.254/32",
        ]);
        let at = |host: &str, port: u16| format!("{host}:{port}");
        let streams = HOSTS.map(|(host, _)| {
            let listener = TcpListener::bind(at(host, 80)).expect(host);
            listener.set_nonblocking(true).expect("a flag");
            listener
        });
        let datagrams = HOSTS.map(|(host, _)| {
            let socket = UdpSocket::bind(at(host, 53)).expect(host);
            socket.set_nonblocking(true).expect("a flag");
            socket
        });
        Others {
            streams: streams.into(),
            datagrams: datagrams.into(),
            taken: Mutex::default(),
        }
    });
    &OTHERS
}

/// Makes the hosts, if they are not there yet. To be called before the first guest.
pub fn make() {
    others();
}

/// Has the kernel keep little of what is sent to a host: a guest that goes on has to wait then.
pub fn keep_little() {
    for listener in &others().streams {
        set_socket_recv_buffer_size(listener, 4096).expect("a small buffer");
    }
}

/// Each host takes its connections, and at most so many bytes of each.
pub fn take(most: usize) {
    let others = others();
    let mut taken = others.taken.lock().expect("connections");
    for (host, listener) in others.streams.iter().enumerate() {
        while let Ok((connection, _)) = listener.accept() {
            connection.set_nonblocking(true).expect("a flag");
            taken.push((host, Some(connection)));
        }
    }
    let mut buffer = vec![0; most];
    for connection in taken.iter_mut().filter_map(|(_, one)| one.as_mut()) {
        // There may be nothing, or the guest has gone.
        let _ = connection.read(&mut buffer);
    }
}

/// Each host closes its connections. They still count.
pub fn let_go() {
    let mut taken = others().taken.lock().expect("connections");
    taken
        .iter_mut()
        .for_each(|(_, connection)| *connection = None);
}

/// How many connections and datagrams have come to a host. No more are waiting then.
fn reached(host: usize) -> (usize, usize) {
    let others = others();
    let mut buffer = [0; 16];
    let mut counts = (0, 0);
    let mut taken = others.taken.lock().expect("connections");
    let before = taken.len();
    taken.retain(|(at, _)| *at != host);
    counts.0 += before - taken.len();
    loop {
        match others.streams[host].accept() {
            Ok(_) => counts.0 += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // It has gone again.
            Err(_) => counts.0 += 1,
        }
    }
    while others.datagrams[host].recv_from(&mut buffer).is_ok() {
        counts.1 += 1;
    }
    counts
}

/// Demands that no host was reached but by its grants. How many connections and datagrams have come to each.
pub fn reached_as_granted(grants: usize) -> Vec<(usize, usize)> {
    let counted = |(host, (name, granted)): (usize, &(&str, [bool; 4]))| {
        let counted = reached(host);
        assert!(
            counted == (0, 0) || granted[grants],
            "{name} was reached by {:?}: {counted:?}",
            GRANTS[grants]
        );
        counted
    };
    HOSTS.iter().enumerate().map(counted).collect()
}

/// One of [`GRANTS`].
pub fn network(grants: usize) -> Network {
    let (mode, listen, connect) = GRANTS[grants];
    let rules = NetworkRules {
        mode: parse_mode(mode).expect(mode),
        listen: parse_listen(listen).expect(listen),
        connect: parse_connect(connect).expect(connect),
    };
    Network::new(rules.clone(), rules).expect("within itself")
}

/// What a look-up reads, in the guest's files.
pub fn resolver_files() {
    let etc = contained::files().join("etc");
    fs::create_dir(&etc).expect("a directory");
    fs::write(etc.join("hosts"), "10.0.0.1 web\n::1 localhost\n").expect("a file");
    // Nothing listens there, so that each question is refused at once.
    let servers = "nameserver 127.0.0.3\noptions timeout:1 attempts:1\n";
    fs::write(etc.join("resolv.conf"), servers).expect("a file");
}
