//! Look-ups of names, by nameservers of the test in a network namespace of its own.

use std::{
    collections::HashMap,
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use rustix::pipe::PipeFlags;
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE,
    rdata::{A, AAAA, CNAME, PTR, RData},
};
use wasm_interp_network::Network;
use wasm_interp_wasi::{
    LateMounts,
    errno::{Errno, Result},
};

use crate::{
    sockets::{network, own_network},
    support::{BUFFER, Caller, OUT, enter, in_tree},
};

const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const STREAM: u64 = 1;
const DATAGRAM: u64 = 2;
const ADDRCONFIG: u64 = 1;
const NUMERICHOST: u64 = 2;
/// How long records are valid, in seconds: longer than any test.
const TTL: u32 = 3600;

/// What a nameserver says of a name.
#[derive(Clone, Debug)]
enum Say {
    Addresses(&'static [&'static str]),
    /// Records that are valid for no time.
    Brief(&'static [&'static str]),
    Alias(&'static str, &'static [&'static str]),
    Pointer(&'static str),
    Code(RCODE),
    /// Only by TCP.
    Truncated(&'static [&'static str]),
    Nothing,
    /// A reply to another question first, with another address, then its own.
    Forged(&'static [&'static str]),
}

type Zone = HashMap<&'static str, Say>;

/// A nameserver on port 53 of an address.
struct Nameserver {
    at: IpAddr,
    zone: Arc<Mutex<Zone>>,
    asked: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

fn records(name: &Name<'static>, kind: QTYPE, addresses: &[&str]) -> Vec<ResourceRecord<'static>> {
    addresses
        .iter()
        .filter_map(|text| {
            let data = match (text.parse().expect("an address"), kind) {
                (IpAddr::V4(address), QTYPE::TYPE(TYPE::A)) => RData::A(A {
                    address: address.into(),
                }),
                (IpAddr::V6(address), QTYPE::TYPE(TYPE::AAAA)) => RData::AAAA(AAAA {
                    address: address.into(),
                }),
                _ => return None,
            };
            Some(ResourceRecord::new(name.clone(), CLASS::IN, TTL, data))
        })
        .collect()
}

/// The replies to a question.
fn replies(zone: &Zone, message: &[u8], by_tcp: bool) -> (String, Vec<Vec<u8>>) {
    let asked = Packet::parse(message).expect("a question");
    let name = asked.questions[0].qname.clone().into_owned();
    let kind = asked.questions[0].qtype;
    let mut reply = asked.clone().into_reply();
    let text = name.to_string();
    let mut forged = None;
    match zone
        .get(&text[..])
        .cloned()
        .unwrap_or(Say::Code(RCODE::NameError))
    {
        Say::Addresses(addresses) => reply.answers = records(&name, kind, addresses),
        Say::Brief(addresses) => {
            reply.answers = records(&name, kind, addresses);
            for answer in &mut reply.answers {
                answer.ttl = 0;
            }
        }
        Say::Alias(to, addresses) => {
            let to = Name::new(to).expect("a name");
            let alias = RData::CNAME(CNAME(to.clone()));
            reply.answers = vec![ResourceRecord::new(name.clone(), CLASS::IN, TTL, alias)];
            reply.answers.extend(records(&to, kind, addresses));
        }
        Say::Pointer(to) => {
            let data = RData::PTR(PTR(Name::new(to).expect("a name")));
            reply.answers = vec![ResourceRecord::new(name.clone(), CLASS::IN, TTL, data)];
        }
        Say::Code(code) => *reply.rcode_mut() = code,
        Say::Truncated(addresses) if by_tcp => reply.answers = records(&name, kind, addresses),
        Say::Truncated(_) => reply.set_flags(PacketFlag::TRUNCATION),
        Say::Nothing => return (text, Vec::new()),
        Say::Forged(addresses) => {
            let mut other = reply.clone();
            other.set_id(asked.id().wrapping_add(1));
            other.answers = records(&name, kind, &["6.6.6.6"]);
            forged = Some(other.build_bytes_vec().expect("a reply"));
            reply.answers = records(&name, kind, addresses);
        }
    }
    let own = reply.build_bytes_vec_compressed().expect("a reply");
    (text, forged.into_iter().chain([own]).collect())
}

impl Nameserver {
    fn start(at: &str, zone: &[(&'static str, Say)]) -> Self {
        let at: IpAddr = at.parse().expect(at);
        let zone = Arc::new(Mutex::new(zone.iter().cloned().collect::<Zone>()));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let udp = UdpSocket::bind((at, 53)).expect("bind");
        let tcp = TcpListener::bind((at, 53)).expect("bind");
        let (own_zone, own_asked) = (Arc::clone(&zone), Arc::clone(&asked));
        let by_udp = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let (length, from) = udp.recv_from(&mut buffer).expect("receive");
                if length == 0 {
                    return;
                }
                let (name, messages) = {
                    let zone = own_zone.lock().expect("a zone");
                    replies(&zone, &buffer[..length], false)
                };
                own_asked.lock().expect("names").push(name);
                for message in messages {
                    udp.send_to(&message, from).expect("send");
                }
            }
        });
        let own_zone = Arc::clone(&zone);
        let by_tcp = std::thread::spawn(move || {
            loop {
                let (mut connection, _) = tcp.accept().expect("accept");
                let mut head = [0; 2];
                if connection.read_exact(&mut head).is_err() {
                    return;
                }
                let mut question = vec![0; usize::from(u16::from_be_bytes(head))];
                connection.read_exact(&mut question).expect("read");
                let (_, messages) = {
                    let zone = own_zone.lock().expect("a zone");
                    replies(&zone, &question, true)
                };
                let length = u16::try_from(messages[0].len()).expect("short");
                let whole = [&length.to_be_bytes()[..], &messages[0]].concat();
                // In parts, as a network may.
                for part in whole.chunks(7) {
                    connection.write_all(part).expect("write");
                }
            }
        });
        Self {
            at,
            zone,
            asked,
            threads: vec![by_udp, by_tcp],
        }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("names"))
    }

    fn set(&self, name: &'static str, say: Say) {
        self.zone.lock().expect("a zone").insert(name, say);
    }
}

impl Drop for Nameserver {
    fn drop(&mut self) {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind");
        socket.send_to(&[], (self.at, 53)).expect("send");
        drop(TcpStream::connect((self.at, 53)).expect("connect"));
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the nameserver failed"
            );
        }
    }
}

impl Caller {
    /// Addresses and canonical name.
    fn look_up(&mut self, name: &str, family: u64, flags: u64) -> Result<(Vec<String>, String)> {
        let [address, length] = self.put(name);
        let (buffer, canonical) = (u64::from(BUFFER), u64::from(BUFFER) + 4096);
        let out = u64::from(OUT);
        self.call(
            "getaddrinfo",
            &[
                address,
                length,
                family,
                flags,
                buffer,
                2048,
                canonical,
                256,
                out,
                out + 8,
            ],
        )?;
        let addresses = (0..self.u32(OUT)).map(|index| {
            let entry = self.bytes(BUFFER + 32 * index, 32);
            match entry[0] {
                2 => IpAddr::from(<[u8; 4]>::try_from(&entry[4..8]).expect("4")).to_string(),
                10 => IpAddr::from(<[u8; 16]>::try_from(&entry[8..24]).expect("16")).to_string(),
                family => panic!("{family}"),
            }
        });
        let addresses = addresses.collect();
        let name = self.bytes(BUFFER + 4096, self.u32(OUT + 8));
        Ok((addresses, String::from_utf8(name).expect("text")))
    }

    fn addresses(&mut self, name: &str) -> Result<Vec<String>> {
        Ok(self.look_up(name, 0, 0)?.0)
    }

    fn reverse(&mut self, address: [u8; 4]) -> Result<String> {
        let bytes = [&2u16.to_ne_bytes()[..], &[0, 0], &address, &[0; 8]].concat();
        self.name_of(bytes)
    }

    /// Of `::LAST`.
    fn reverse_ipv6(&mut self, last: u8) -> Result<String> {
        let bytes = [&10u16.to_ne_bytes()[..], &[0; 21], &[last], &[0; 4]].concat();
        self.name_of(bytes)
    }

    fn name_of(&mut self, address: Vec<u8>) -> Result<String> {
        let [address, length] = self.put(address);
        let room = [BUFFER.into(), 256, OUT.into()];
        self.call("getnameinfo", &[&[address, length][..], &room].concat())?;
        Ok(String::from_utf8(self.bytes(BUFFER, self.u32(OUT))).expect("text"))
    }

    /// Calls `call` with a new socket of IPv4 and an address.
    fn with_socket(
        &mut self,
        kind: u64,
        address: &str,
        call: impl FnOnce(&mut Self, u64, [u64; 2]) -> Result<()>,
    ) -> Result<()> {
        let address: SocketAddr = address.parse().expect(address);
        self.call("socket", &[AF_INET, kind, 0, 0, OUT.into()])
            .expect("a socket");
        let fd = u64::from(self.u32(OUT));
        let IpAddr::V4(ip) = address.ip() else {
            panic!("{address}");
        };
        let port = address.port().to_be_bytes();
        let bytes = [&2u16.to_ne_bytes()[..], &port, &ip.octets(), &[0; 8]].concat();
        let bytes = self.put(bytes);
        let answer = call(self, fd, bytes);
        self.call("fd_close", &[fd]).expect("close");
        answer
    }

    /// Connects to where nothing listens.
    fn reach(&mut self, address: &str) -> Result<()> {
        self.with_socket(STREAM, address, |guest, fd, [bytes, length]| {
            guest.call("connect", &[fd, bytes, length])
        })
    }

    /// Whether the guest may connect; nothing listens there.
    fn may_reach(&mut self, address: &str) -> bool {
        match self.reach(address) {
            Err(Errno::Acces) => false,
            Err(Errno::Connrefused) => true,
            other => panic!("{other:?}"),
        }
    }

    /// Sends an empty message.
    fn send_to(&mut self, address: &str) -> Result<()> {
        self.with_socket(DATAGRAM, address, |guest, fd, [bytes, length]| {
            guest.call("sendmsg", &[fd, 0, 0, 0, bytes, length, OUT.into()])
        })
    }
}

const CONFIG: &str = "search ns.example example\nnameserver 10.0.0.53\n\
                      options ndots:2 timeout:30 attempts:1\n";
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n10.9.9.9 self.pod self\n";

/// Runs `test` with a guest whose files name the nameserver 10.0.0.53.
fn with_names(
    network: Network,
    config: &'static str,
    test: impl FnOnce(&mut Caller) + Send + 'static,
) {
    with_names_and_log(network, config, None, test);
}

fn with_names_and_log(
    network: Network,
    config: &'static str,
    log: Option<OwnedFd>,
    test: impl FnOnce(&mut Caller) + Send + 'static,
) {
    in_tree(move |tree| {
        own_network(&[
            "10.0.0.53/32",
            "10.0.0.54/32",
            "10.0.0.1/32",
            "10.0.0.2/32",
            "fd00::1/128",
        ]);
        enter(tree);
        fs::create_dir("/etc").expect("/etc");
        fs::write("/etc/resolv.conf", config).expect("resolv.conf");
        fs::write("/etc/hosts", HOSTS).expect("hosts");
        test(&mut Caller::with_network(
            LateMounts::Impossible,
            network,
            log,
        ));
    });
}

#[test]
fn names_are_looked_up_in_hosts_and_then_in_the_search_list() {
    with_names(network("", "dns"), CONFIG, |guest| {
        let server = Nameserver::start(
            "10.0.0.53",
            &[
                ("web.ns.example", Say::Addresses(&["10.0.0.1", "fd00::1"])),
                ("db.example", Say::Addresses(&["10.0.0.2"])),
                ("www.a.b", Say::Alias("web.a.b", &["10.0.0.1"])),
                ("empty.example", Say::Addresses(&[])),
            ],
        );
        let (addresses, canonical) = guest.look_up("web", 0, 0).expect("web");
        assert_eq!(canonical, "web.ns.example");
        // There is a way to both; a private IPv6 address comes behind IPv4.
        assert_eq!(addresses, ["10.0.0.1", "fd00::1"]);
        assert_eq!(
            server.asked(),
            ["web.ns.example", "web.ns.example"],
            "both kinds"
        );
        let (addresses, _) = guest.look_up("web", AF_INET6, 0).expect("web");
        assert_eq!(addresses, ["fd00::1"]);
        assert!(server.asked().is_empty(), "its records are still valid");
        assert_eq!(
            guest.addresses("db").as_deref(),
            Ok(&["10.0.0.2".to_owned()][..])
        );
        let asked = server.asked();
        assert_eq!(
            asked,
            ["db.ns.example", "db.ns.example", "db.example", "db.example"]
        );
        let (_, canonical) = guest.look_up("www.a.b", 0, 0).expect("www");
        assert_eq!(canonical, "web.a.b");
        assert_eq!(server.asked(), ["www.a.b", "www.a.b"], "as it is first");
        assert_eq!(guest.addresses("db.").err(), Some(Errno::Noent), "complete");
        assert_eq!(guest.addresses("empty").err(), Some(Errno::Nomsg));
        assert_eq!(guest.look_up("db", AF_INET6, 0).err(), Some(Errno::Nomsg));
        assert_eq!(guest.look_up("db", 16, 0).err(), Some(Errno::Afnosupport));
        server.asked();
        for (name, addresses, canonical) in [
            ("self", &["10.9.9.9"][..], "self.pod"),
            ("localhost", &["::1", "127.0.0.1"], "localhost"),
            ("any.localhost", &["::1", "127.0.0.1"], "any.localhost"),
            ("192.0.2.7", &["192.0.2.7"], "192.0.2.7"),
            ("fd00::7", &["fd00::7"], "fd00::7"),
        ] {
            let (found, found_name) = guest.look_up(name, 0, 0).expect(name);
            assert_eq!(
                (found.join(" "), &found_name[..]),
                (addresses.join(" "), canonical)
            );
        }
        assert_eq!(
            guest.look_up("self", 0, NUMERICHOST).err(),
            Some(Errno::Noent)
        );
        for name in ["", ".", "a b", "a\\.b", "\u{e4}"] {
            assert_eq!(guest.addresses(name).err(), Some(Errno::Noent), "{name:?}");
        }
        assert!(server.asked().is_empty());
    });
}

#[test]
fn reply_that_is_too_long_for_udp_comes_by_tcp() {
    with_names(network("", "dns"), CONFIG, |guest| {
        let _server = Nameserver::start(
            "10.0.0.53",
            &[("a.long.example", Say::Truncated(&["10.0.0.1", "fd00::1"]))],
        );
        let found = guest.addresses("a.long.example").expect("found");
        assert_eq!(found, ["10.0.0.1", "fd00::1"]);
    });
}

#[test]
fn next_nameserver_is_asked_where_one_fails_or_says_nothing() {
    // Each attempt gives the first nameserver a second; on a busy machine the second one may need another.
    const TWO: &str = "nameserver 10.0.0.53\nnameserver 10.0.0.54\noptions timeout:1 attempts:5\n";
    with_names(network("", "dns"), TWO, |guest| {
        // Nothing listens at the first: the kernel says so at once.
        let second =
            Nameserver::start("10.0.0.54", &[("a.example", Say::Addresses(&["10.0.0.1"]))]);
        assert_eq!(guest.addresses("a.example").expect("found"), ["10.0.0.1"]);
        let first = Nameserver::start(
            "10.0.0.53",
            &[
                ("b.example", Say::Code(RCODE::ServerFailure)),
                ("c.example", Say::Nothing),
                ("d.example", Say::Code(RCODE::Refused)),
            ],
        );
        for name in ["b.example", "c.example", "d.example"] {
            second.set(name, Say::Addresses(&["10.0.0.2"]));
            assert_eq!(guest.addresses(name).expect(name), ["10.0.0.2"]);
        }
        assert_eq!(
            guest.addresses("e.example").err(),
            Some(Errno::Noent),
            "it is believed"
        );
        first.set("f.example", Say::Code(RCODE::ServerFailure));
        second.set("f.example", Say::Code(RCODE::ServerFailure));
        assert_eq!(guest.addresses("f.example").err(), Some(Errno::Again));
    });
}

#[test]
fn turns_are_taken_where_the_file_says_so() {
    const TWO: &str =
        "nameserver 10.0.0.53\nnameserver 10.0.0.54\noptions rotate no-aaaa timeout:30\n";
    with_names(network("", "dns"), TWO, |guest| {
        let servers = ["10.0.0.53", "10.0.0.54"].map(|at| Nameserver::start(at, &[]));
        for name in ["a.example.", "b.example.", "c.example."] {
            assert_eq!(guest.addresses(name).err(), Some(Errno::Noent));
        }
        assert_eq!(servers[0].asked(), ["a.example", "c.example"]);
        assert_eq!(servers[1].asked(), ["b.example"]);
    });
}

#[test]
fn forged_reply_is_not_believed() {
    with_names(network("", "dns"), CONFIG, |guest| {
        let _server = Nameserver::start("10.0.0.53", &[("a.b.c", Say::Forged(&["10.0.0.1"]))]);
        assert_eq!(guest.addresses("a.b.c").expect("found"), ["10.0.0.1"]);
    });
}

/// Each look-up that no nameserver replies to takes its time.
#[test]
fn rules_whose_names_get_no_reply_do_not_hold_up_a_connection_for_long() {
    const NAMES: [&str; 6] = ["a.b", "b.b", "c.b", "d.b", "e.b", "f.b"];
    let config = "nameserver 10.0.0.53\noptions timeout:1 attempts:1 no-aaaa\n";
    let rules = NAMES.map(|name| format!("tcp:{name}:80")).join(", ");
    with_names(network("", &rules), config, |guest| {
        let server = Nameserver::start("10.0.0.53", &NAMES.map(|name| (name, Say::Nothing)));
        assert_eq!(guest.reach("10.0.0.1:80"), Err(Errno::Timedout));
        assert_eq!(server.asked(), &NAMES[..3]);
    });
    // One that gets none keeps no other from being asked for.
    with_names(network("", &rules), config, |guest| {
        let server = Nameserver::start(
            "10.0.0.53",
            &[
                ("a.b", Say::Nothing),
                ("b.b", Say::Addresses(&["10.0.0.1"])),
            ],
        );
        assert!(guest.may_reach("10.0.0.1:80"));
        assert_eq!(server.asked(), &NAMES[..2]);
    });
}

/// The lines of a log whose guest has ended.
fn lines(log: OwnedFd) -> Vec<String> {
    let mut log = fs::File::from(log);
    let mut packet = [0; 4096];
    std::iter::from_fn(|| match log.read(&mut packet).expect("read") {
        0 => None,
        length => Some(String::from_utf8_lossy(&packet[..length]).into_owned()),
    })
    .collect()
}

fn log() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(PipeFlags::DIRECT | PipeFlags::CLOEXEC).expect("a pipe")
}

/// Whether the rule grants it is not known then: the guest is told to try again, and the operator what to look at.
#[test]
fn nameserver_that_does_not_answer_is_no_refusal() {
    const BRIEF: &str = "nameserver 10.0.0.53\noptions timeout:1 attempts:1 no-aaaa\n";
    for (say, why) in [
        (Say::Nothing, "no nameserver replies about"),
        (
            Say::Code(RCODE::ServerFailure),
            "the nameservers fail to look up",
        ),
    ] {
        let (log, end) = log();
        let granted = network("", "tcp:db.prod:5432, udp:db.prod:53, tcp:web.prod:80");
        with_names_and_log(granted, BRIEF, Some(end), |guest| {
            let server = Nameserver::start("10.0.0.53", &[("db.prod", say)]);
            assert_eq!(guest.reach("10.0.0.1:5432"), Err(Errno::Timedout));
            assert_eq!(server.asked(), ["db.prod"]);
            for _ in 0..10 {
                assert_eq!(guest.reach("10.0.0.1:5432"), Err(Errno::Timedout));
                assert_eq!(guest.send_to("10.0.0.1:53"), Err(Errno::Timedout));
            }
            assert_eq!(
                server.asked(),
                &[""; 0],
                "that there was no reply is remembered"
            );
            // What no rule by this name could grant, and what other names are known not to.
            for address in ["10.0.0.1:80", "127.0.0.1:5432", "10.0.0.1:53"] {
                assert_eq!(guest.reach(address), Err(Errno::Acces), "{address}");
            }
            server.set("db.prod", Say::Addresses(&["10.0.0.1"]));
            while guest.reach("10.0.0.1:5432") != Err(Errno::Connrefused) {
                std::thread::sleep(Duration::from_millis(50));
            }
            assert_eq!(guest.send_to("10.0.0.1:53"), Ok(()));
            assert_eq!(guest.reach("10.0.0.2:5432"), Err(Errno::Acces));
        });
        let expected = format!(
            "the guest could not connect to tcp:10.0.0.1:5432: {why} \"db.prod\", which a rule \
             of wasm-interp.io/connect names; check the nameservers in the container's \
             /etc/resolv.conf, and that the pod reaches them"
        );
        assert_eq!(lines(log)[0], expected);
    }
}

#[test]
fn rule_by_name_without_a_nameserver_is_a_refusal_that_says_so() {
    let (log, end) = log();
    with_names_and_log(network("", "tcp:db.prod:80"), "", Some(end), |guest| {
        assert_eq!(guest.reach("10.0.0.1:80"), Err(Errno::Acces));
    });
    let lines = lines(log);
    let expected =
        "the guest could not connect to tcp:10.0.0.1:80: there is no nameserver to ask about";
    assert!(lines[0].starts_with(expected), "{lines:?}");
}

/// From here on socket(2) fails in this thread with EMFILE, as without a descriptor left. The limit of descriptors itself
/// is that of all tests.
#[allow(unsafe_code)]
fn fail_sockets() {
    let step = |code: u32, matched, otherwise, k| libc::sock_filter {
        code: u16::try_from(code).expect("16 bits"),
        jt: matched,
        jf: otherwise,
        k,
    };
    let number = u32::try_from(libc::SYS_socket).expect("a number");
    let full = libc::SECCOMP_RET_ERRNO | libc::EMFILE.cast_unsigned();
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, full),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: 4,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program, whose steps live until the calls have returned.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            )
    };
    assert_eq!(set, 0, "a filter");
}

#[test]
fn guest_without_a_descriptor_left_is_told_so_and_not_that_it_is_refused() {
    with_names(network("", "tcp:db.prod:80"), CONFIG, |guest| {
        let _server = Nameserver::start("10.0.0.53", &[("db.prod", Say::Addresses(&["10.0.0.1"]))]);
        let answer = guest.with_socket(STREAM, "10.0.0.1:80", |guest, fd, [bytes, length]| {
            let full = std::thread::scope(|scope| {
                let full = scope.spawn(|| {
                    fail_sockets();
                    guest.call("connect", &[fd, bytes, length])
                });
                full.join().expect("a thread")
            });
            assert_eq!(full, Err(Errno::Mfile));
            guest.call("connect", &[fd, bytes, length])
        });
        assert_eq!(answer, Err(Errno::Connrefused), "it is asked again at once");
    });
}

#[test]
fn container_without_nameservers_says_so() {
    let (log, end) = log();
    with_names_and_log(network("", "dns"), "search a\n", Some(end), |guest| {
        for name in ["a.b", "b.b"] {
            assert_eq!(guest.addresses(name).err(), Some(Errno::Again));
        }
        assert_eq!(guest.reverse([10, 0, 0, 1]).err(), Some(Errno::Again));
        assert_eq!(guest.addresses("self").expect("hosts"), ["10.9.9.9"]);
    });
    let lines = lines(log);
    assert!(
        lines[0]
            .starts_with("the guest could not look up \"a.b\": there is no nameserver to ask; "),
        "{lines:?}"
    );
}

#[test]
fn addresses_of_a_family_without_a_way_are_left_out_on_request() {
    with_names(network("", "dns"), CONFIG, |guest| {
        let _server = Nameserver::start(
            "10.0.0.53",
            &[("a.b.c", Say::Addresses(&["10.0.0.1", "2600::1"]))],
        );
        assert_eq!(
            guest.addresses("a.b.c").expect("found"),
            ["10.0.0.1", "2600::1"]
        );
        let (found, _) = guest.look_up("a.b.c", 0, ADDRCONFIG).expect("found");
        assert_eq!(found, ["10.0.0.1"]);
    });
}

#[test]
fn names_of_addresses_come_from_hosts_and_pointers() {
    with_names(network("", "dns"), CONFIG, |guest| {
        let _server = Nameserver::start(
            "10.0.0.53",
            &[
                ("1.0.0.10.in-addr.arpa", Say::Pointer("web.example")),
                ("2.0.0.10.in-addr.arpa", Say::Pointer("$(reboot).example")),
            ],
        );
        assert_eq!(guest.reverse([10, 9, 9, 9]).as_deref(), Ok("self.pod"));
        assert_eq!(guest.reverse([10, 0, 0, 1]).as_deref(), Ok("web.example"));
        assert_eq!(
            guest.reverse([10, 0, 0, 2]).err(),
            Some(Errno::Noent),
            "no name of a host"
        );
        assert_eq!(guest.reverse([10, 0, 0, 3]).err(), Some(Errno::Noent));
    });
}

#[test]
fn only_granted_names_are_asked_for() {
    with_names(network("", "tcp:web.a.b:80"), CONFIG, |guest| {
        let server = Nameserver::start(
            "10.0.0.53",
            &[
                ("web.a.b", Say::Addresses(&["10.0.0.1"])),
                ("other.a.b", Say::Addresses(&["10.0.0.2"])),
            ],
        );
        assert_eq!(guest.addresses("other.a.b").err(), Some(Errno::Acces));
        assert_eq!(guest.reverse([10, 0, 0, 1]).err(), Some(Errno::Acces));
        assert!(server.asked().is_empty());
        assert_eq!(guest.addresses("self").expect("hosts"), ["10.9.9.9"]);
        assert_eq!(guest.addresses("WEB.a.b").expect("granted"), ["10.0.0.1"]);
    });
    with_names(Network::none(), CONFIG, |guest| {
        assert_eq!(guest.addresses("web.a.b").err(), Some(Errno::Acces));
        assert_eq!(
            guest.addresses("localhost").expect("known"),
            ["127.0.0.1", "::1"]
        );
        // No file says so.
        assert_eq!(guest.reverse([127, 0, 0, 1]).as_deref(), Ok("localhost"));
        assert_eq!(guest.reverse_ipv6(1).as_deref(), Ok("localhost"));
        assert_eq!(guest.reverse_ipv6(2).err(), Some(Errno::Acces));
    });
}

#[test]
fn advice_names_the_host_and_not_its_address() {
    let told = |connect: &str, ask: fn(&mut Caller)| {
        let (log, end) = log();
        with_names_and_log(network("", connect), CONFIG, Some(end), move |guest| {
            let _server = Nameserver::start(
                "10.0.0.53",
                &[("web.a.b", Say::Addresses(&["10.0.0.1", "127.0.0.1"]))],
            );
            ask(guest);
        });
        lines(log)[0].clone()
    };
    let line = told("tcp:other:80", |guest| {
        assert_eq!(guest.addresses("web.a.b").err(), Some(Errno::Acces));
    });
    assert!(line.contains(r#"add "tcp:web.a.b:PORT" to"#), "{line}");
    let line = told("dns", |guest| {
        guest.addresses("web.a.b").expect("addresses");
        assert_eq!(guest.reach("10.0.0.1:80"), Err(Errno::Acces));
    });
    let expected = r#"connect to tcp:10.0.0.1:80 (web.a.b); add "tcp:web.a.b:80" to"#;
    assert!(line.contains(expected), "{line}");
    // A rule by name does not reach it.
    let line = told("dns", |guest| {
        guest.addresses("web.a.b").expect("addresses");
        assert_eq!(guest.reach("127.0.0.1:80"), Err(Errno::Acces));
    });
    assert!(line.contains(r#"add "tcp:localhost:80" to"#), "{line}");
}

#[test]
fn what_is_no_name_of_a_host_is_no_question_and_no_refusal() {
    let (log, end) = log();
    with_names_and_log(Network::none(), CONFIG, Some(end), |guest| {
        for name in ["(none)", "a b", "*", "a..b"] {
            assert_eq!(guest.addresses(name).err(), Some(Errno::Noent), "{name}");
        }
        let own = nix::unistd::gethostname().expect("a name");
        let own = own.to_str().expect("text");
        assert_eq!(guest.addresses(own).expect("own"), ["::1", "127.0.0.1"]);
    });
    assert!(lines(log).is_empty());
}

/// Who answers for a name decides what a rule by that name reaches, but never this machine, its metadata
/// service or its links.
#[test]
fn rule_by_name_reaches_the_addresses_of_the_name_and_no_special_one() {
    with_names(network("", "tcp:db.prod:5432"), CONFIG, |guest| {
        let server = Nameserver::start(
            "10.0.0.53",
            &[(
                "db.prod",
                Say::Addresses(&["10.0.0.1", "127.0.0.1", "169.254.169.254", "0.0.0.0"]),
            )],
        );
        assert!(guest.may_reach("10.0.0.1:5432"));
        for address in [
            "10.0.0.1:80",
            "10.0.0.2:5432",
            "127.0.0.1:5432",
            "0.0.0.0:5432",
            "169.254.169.254:5432",
        ] {
            assert!(!guest.may_reach(address), "{address}");
        }
        server.asked();
        // A name that means another address soon after: its records are kept as long as they are valid.
        server.set("db.prod", Say::Addresses(&["10.0.0.2"]));
        assert!(!guest.may_reach("10.0.0.2:5432"));
        assert!(server.asked().is_empty());
    });
}

/// DNS rebinding: the name means an address that may be reached, and at the next look-up this machine, its metadata
/// service and its links, in each way to write them.
#[test]
fn name_that_comes_to_mean_special_addresses_does_not_reach_them() {
    with_names(network("", "tcp:db.prod:5432"), CONFIG, |guest| {
        let server = Nameserver::start("10.0.0.53", &[("db.prod", Say::Brief(&["10.0.0.1"]))]);
        assert!(guest.may_reach("10.0.0.1:5432"));
        server.set(
            "db.prod",
            Say::Brief(&[
                "127.0.0.1",
                "127.9.9.9",
                "0.0.0.0",
                "169.254.169.254",
                "::ffff:127.0.0.1",
                "::ffff:169.254.169.254",
                "64:ff9b::169.254.169.254",
                "10.0.0.2",
            ]),
        );
        // The records are kept for a moment, however short they are valid.
        while !guest.may_reach("10.0.0.2:5432") {
            std::thread::sleep(Duration::from_millis(50));
        }
        for address in ["127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.169.254"] {
            assert!(!guest.may_reach(&format!("{address}:5432")), "{address}");
        }
        assert!(!guest.may_reach("10.0.0.1:5432"), "what it meant before");
    });
}

/// As a TCP connection: the peer of a connected socket was granted, and the kernel sends nowhere else.
#[test]
fn connected_udp_socket_outlives_the_records_of_its_name() {
    with_names(network("", "udp:db.prod:99"), CONFIG, |guest| {
        let server = Nameserver::start("10.0.0.53", &[("db.prod", Say::Brief(&["10.0.0.1"]))]);
        let peer = UdpSocket::bind("10.0.0.1:99").expect("bind");
        let answer = guest.with_socket(DATAGRAM, "10.0.0.1:99", |guest, fd, [bytes, length]| {
            guest.call("connect", &[fd, bytes, length])?;
            server.set("db.prod", Say::Brief(&["10.0.0.2"]));
            // An address in the call is asked about each time.
            let with_address = [fd, 0, 0, 0, bytes, length, OUT.into()];
            while guest.call("sendmsg", &with_address).is_ok() {
                peer.recv(&mut [0]).expect("receive");
                std::thread::sleep(Duration::from_millis(50));
            }
            let refused = guest.call("sendmsg", &with_address);
            assert_eq!(refused, Err(Errno::Acces));
            server.asked();
            server.set("db.prod", Say::Nothing);
            let to_peer = [fd, 0, 0, 0, 0, 0, OUT.into()];
            guest.call("sendmsg", &to_peer)
        });
        assert_eq!(answer, Ok(()));
        peer.recv(&mut [0]).expect("receive");
        assert!(server.asked().is_empty());
    });
}

#[test]
fn guest_that_writes_the_files_of_the_resolver_changes_no_rule() {
    with_names(network("", "tcp:db.prod:5432"), CONFIG, |guest| {
        let _server = Nameserver::start("10.0.0.53", &[("db.prod", Say::Addresses(&["10.0.0.1"]))]);
        let _own = Nameserver::start("10.0.0.54", &[("db.prod", Say::Addresses(&["10.0.0.2"]))]);
        fs::write("/etc/hosts", "10.0.0.2 db.prod\n").expect("hosts");
        fs::write("/etc/resolv.conf", "nameserver 10.0.0.54\n").expect("resolv.conf");
        assert!(!guest.may_reach("10.0.0.2:5432"));
        assert!(guest.may_reach("10.0.0.1:5432"));
    });
}

#[test]
fn files_of_the_resolver_that_are_no_files_are_none() {
    in_tree(|tree| {
        own_network(&[]);
        enter(tree);
        fs::create_dir("/etc").expect("/etc");
        fs::create_dir("/etc/hosts").expect("a directory");
        nix::unistd::mkfifo("/etc/resolv.conf", nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        let mut guest = Caller::with_network(LateMounts::Impossible, network("", "dns"), None);
        assert_eq!(guest.addresses("a.b").err(), Some(Errno::Again));
    });
}
