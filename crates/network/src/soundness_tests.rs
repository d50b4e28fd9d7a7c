//! Properties over every combination of a vocabulary: of rules, ceilings and addresses that meet at the edges of each other.

use std::net::{IpAddr, SocketAddr};

use crate::{
    AddressClass, ConnectRule, ListenRule, NamedAddresses, Network, NetworkAttempt, NetworkMode,
    NetworkRules, Transport,
};

const CONNECT: &[&str] = &[
    "tcp:*:*",
    "tcp:*:443",
    "udp:*:53",
    "tcp:localhost:*",
    "tcp:localhost:9090",
    "tcp:0.0.0.0/0:*",
    "tcp:10.0.0.0/8:*",
    "tcp:10.0.0.0/8:443-445",
    "tcp:10.1.0.0/16:443",
    "tcp:10.1.2.3:443",
    "tcp:127.0.0.0/8:*",
    "tcp:127.0.0.1:443",
    "tcp:0.0.0.0:443",
    "tcp:169.254.0.0/16:*",
    "tcp:169.254.169.254:443",
    "tcp:168.63.129.0/24:*",
    "tcp:168.63.129.16:443",
    "tcp:224.0.0.0/4:*",
    "tcp:[::]/0:*",
    "tcp:[fd00::]/8:*",
    "tcp:[fd00:ec2::254]:443",
    "tcp:[::1]:443",
    "tcp:[fe80::]/10:*",
    "tcp:[64:ff9b::]/96:*",
    "tcp:[64:ff9b::a9fe:a9fe]:443",
    "tcp:db.prod:443",
    "tcp:db.prod:*",
    "tcp:other:443",
    "unix:*",
    "unix:/run/*",
    "unix:/run/*/s",
    "unix:/run/db/*",
    "unix:/run/db/s",
    "unix:/run/d*/s*",
    "dns",
];

const LISTEN: &[&str] = &[
    "tcp:*",
    "udp:*",
    "tcp:8080",
    "tcp:8000-9000",
    "tcp:1-1023",
    "unix:*",
    "unix:/run/*",
    "unix:/run/app.sock",
];

const ADDRESSES: &[&str] = &[
    "10.0.0.1",
    "10.1.2.3",
    "11.0.0.1",
    "127.0.0.1",
    "127.0.0.2",
    "0.0.0.0",
    "169.254.1.1",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "168.63.129.16",
    "168.63.129.17",
    "100.100.100.200",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:10.1.2.3",
    "::ffff:127.0.0.1",
    "::ffff:0.0.0.0",
    "::ffff:169.254.169.254",
    "fd00::1",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fe80::1",
    "ff02::1",
    "2001:db8::1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b:1:7f00:0:100::",
    "64:ff9b:1:a9fe:a9:fe00::",
    "64:ff9b:1:a00:0:100::",
];

const PORTS: &[u16] = &[0, 1, 53, 442, 443, 445, 446, 8080, 9000, 9090, 65535];

const PATHS: &[&str] = &[
    "/run/db/s",
    "/run/db/t",
    "/run/s",
    "/run/a/s",
    "/run/db/s/t",
    "/etc/s",
    "/run/../etc/s",
    "\0run",
    "",
];

/// A resolver under an attacker's control: every name has every address.
struct Hostile;

impl NamedAddresses for Hostile {
    fn addresses(&self, _: &str) -> Vec<IpAddr> {
        ADDRESSES.iter().map(|text| text.parse().unwrap()).collect()
    }
}

fn sockets() -> impl Iterator<Item = SocketAddr> {
    ADDRESSES.iter().flat_map(|text| {
        let ip: IpAddr = text.parse().unwrap();
        PORTS.iter().map(move |port| SocketAddr::new(ip, *port))
    })
}

fn connect(rule: &str) -> NetworkRules {
    NetworkRules {
        connect: vec![rule.parse().unwrap()],
        ..NetworkRules::none()
    }
}

fn listen(rule: &str) -> NetworkRules {
    NetworkRules {
        listen: vec![rule.parse().unwrap()],
        ..NetworkRules::none()
    }
}

fn pod() -> NetworkRules {
    NetworkRules {
        mode: NetworkMode::Pod,
        ..NetworkRules::none()
    }
}

fn all() -> Vec<NetworkRules> {
    let connect = CONNECT.iter().map(|rule| connect(rule));
    let listen = LISTEN.iter().map(|rule| listen(rule));
    connect
        .chain(listen)
        .chain([pod(), NetworkRules::none()])
        .collect()
}

/// Everything that the first network allows and the second does not.
fn beyond(network: &Network, ceiling: &Network) -> Vec<String> {
    let mut beyond = Vec::new();
    let mut compare = |what: NetworkAttempt<'_>, may: bool, could: bool| {
        if may && !could {
            beyond.push(what.to_string());
        }
    };
    for transport in [Transport::Tcp, Transport::Udp] {
        for address in sockets() {
            let connects = |network: &Network| network.may_connect(transport, address, &Hostile);
            compare(
                NetworkAttempt::Connect(transport, address),
                connects(network),
                connects(ceiling),
            );
            compare(
                NetworkAttempt::Listen(transport, address),
                network.may_listen(transport, address),
                ceiling.may_listen(transport, address),
            );
        }
    }
    for path in PATHS {
        let path = path.as_bytes();
        compare(
            NetworkAttempt::ConnectUnix(path),
            network.may_connect_unix(path),
            ceiling.may_connect_unix(path),
        );
        compare(
            NetworkAttempt::ListenUnix(path),
            network.may_listen_unix(path),
            ceiling.may_listen_unix(path),
        );
    }
    beyond
}

#[test]
fn no_rule_beneath_a_ceiling_reaches_what_the_ceiling_does_not() {
    let (mut beneath, mut exceeding) = (0, 0);
    for ceiling in all() {
        let most = Network::new(ceiling.clone(), ceiling.clone()).expect("equal is beneath");
        for rules in all() {
            match Network::new(rules.clone(), ceiling.clone()) {
                Ok(network) => {
                    beneath += 1;
                    let beyond = beyond(&network, &most);
                    assert!(beyond.is_empty(), "{rules:?} {ceiling:?} {beyond:?}");
                }
                Err(_) => exceeding += 1,
            }
        }
    }
    assert!(beneath > 100 && exceeding > 100, "{beneath} {exceeding}");
}

#[test]
fn what_is_cut_to_a_ceiling_is_beneath_it_and_all_that_was() {
    for ceiling in all() {
        let mut wide = pod();
        wide.connect = CONNECT.iter().map(|rule| rule.parse().unwrap()).collect();
        wide.listen = LISTEN.iter().map(|rule| rule.parse().unwrap()).collect();
        let cut = wide.cut(&ceiling);
        assert_eq!(cut.check(&ceiling), Ok(()));
        for rule in &wide.connect {
            let alone = connect(&rule.to_string());
            assert_eq!(
                cut.connect.contains(rule),
                alone.check(&ceiling).is_ok(),
                "{rule} {ceiling:?}"
            );
        }
    }
}

#[test]
fn no_name_no_star_and_no_mode_reaches_a_special_address() {
    for rules in [
        connect("tcp:db.prod:*"),
        connect("tcp:*:*"),
        connect("tcp:0.0.0.0/0:*"),
        connect("tcp:[::]/0:*"),
        pod(),
    ] {
        let network = Network::new(rules.clone(), rules.clone()).unwrap();
        for address in sockets() {
            let class = AddressClass::of(address.ip());
            let allowed = class == AddressClass::Ordinary
                || (rules.mode == NetworkMode::Pod && class == AddressClass::Loopback);
            let may = network.may_connect(Transport::Tcp, address, &Hostile);
            assert!(!may || allowed, "{rules:?} {address}");
        }
    }
}

/// It is the loopback of another network, or an ordinary host that only looks so.
#[test]
fn loopback_behind_a_translator_is_no_loopback_of_the_pod() {
    for rules in [
        connect("tcp:localhost:*"),
        pod(),
        connect("tcp:127.0.0.0/8:*"),
    ] {
        let network = Network::new(rules.clone(), rules).unwrap();
        for text in ["64:ff9b::7f00:1", "64:ff9b:1:7f00:0:100::", "::127.0.0.1"] {
            let address = SocketAddr::new(text.parse().unwrap(), 443);
            assert!(
                !network.may_connect(Transport::Tcp, address, &Hostile),
                "{text}"
            );
        }
    }
    let exact = connect("tcp:[64:ff9b::7f00:1]:443");
    let network = Network::new(exact.clone(), exact).unwrap();
    let address = "[64:ff9b::7f00:1]:443".parse().unwrap();
    assert!(network.may_connect(Transport::Tcp, address, &Hostile));
}

#[test]
fn what_is_granted_is_needed() {
    for rules in all() {
        let network = Network::new(rules.clone(), rules.clone()).unwrap();
        let needs = network.needs();
        assert_eq!(needs.is_none(), network.is_none(), "{rules:?}");
        for transport in [Transport::Tcp, Transport::Udp] {
            let uses = sockets().any(|address| {
                network.may_listen(transport, address)
                    || network.may_connect(transport, address, &Hostile)
            });
            assert!(!uses || needs.uses(transport), "{rules:?} {transport}");
        }
        let unix = PATHS.iter().any(|path| {
            network.may_connect_unix(path.as_bytes()) || network.may_listen_unix(path.as_bytes())
        });
        assert!(!unix || needs.unix, "{rules:?}");
    }
}

/// The line that a refusal prints has to work when it is followed.
#[test]
fn the_annotation_of_a_refusal_grants_what_was_refused() {
    let rule_of = |text: &str| {
        let (_, rest) = text.split_once('"').expect("a rule in quotes");
        rest.split_once('"').expect("its end").0.to_owned()
    };
    let none = Network::none();
    for address in sockets() {
        for transport in [Transport::Tcp, Transport::Udp] {
            let text = none.annotation_for(&NetworkAttempt::Connect(transport, address));
            if address.port() == 0 {
                assert_eq!(text, "no annotation grants this");
                continue;
            }
            let rules = connect(&rule_of(&text));
            let granted = Network::new(rules.clone(), rules).unwrap();
            assert!(granted.may_connect(transport, address, &Hostile), "{text}");

            let text = none.annotation_for(&NetworkAttempt::Listen(transport, address));
            if AddressClass::of(address.ip()) == AddressClass::Multicast {
                assert_eq!(text, "no annotation grants this");
                continue;
            }
            let rule = if address.port() == 0 {
                // The first is for a socket that only connects or sends.
                let (client, server) = text.split_once(", or ").expect("two ways");
                let example = rule_of(client).replace("HOST:PORT", "db.prod:443");
                let rules = connect(&example);
                let granted = Network::new(rules.clone(), rules).unwrap();
                assert!(granted.may_bind(transport, address), "{text}");
                rule_of(server)
            } else {
                rule_of(&text)
            };
            let rules = listen(&rule);
            let granted = Network::new(rules.clone(), rules).unwrap();
            assert!(granted.may_listen(transport, address), "{text}");
        }
    }
    for path in PATHS {
        let text = none.annotation_for(&NetworkAttempt::ConnectUnix(path.as_bytes()));
        if text.starts_with("add") {
            let rules = connect(&rule_of(&text));
            let granted = Network::new(rules.clone(), rules).unwrap();
            assert!(granted.may_connect_unix(path.as_bytes()), "{text}");
        }
    }
}

#[test]
fn rules_are_read_as_they_are_written() {
    for rule in CONNECT {
        let parsed: ConnectRule = rule.parse().unwrap();
        assert_eq!(parsed.to_string(), *rule);
    }
    for rule in LISTEN {
        let parsed: ListenRule = rule.parse().unwrap();
        assert_eq!(parsed.to_string(), *rule);
    }
    for rules in all() {
        let network = Network::new(rules.clone(), rules).unwrap();
        let text = serde_json::to_string(&network).unwrap();
        assert_eq!(serde_json::from_str::<Network>(&text).unwrap(), network);
    }
}
