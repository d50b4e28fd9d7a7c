//! Rules about the network: as people write them, and made of words that meet at each other's edges.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use wasm_interp_fuzz::planted;
use wasm_interp_network::{
    AddressClass, NamedAddresses, Network, NetworkMode, NetworkRules, Transport, parse_connect,
    parse_listen, parse_mode,
};

#[derive(Debug, arbitrary::Arbitrary)]
struct Input<'a> {
    texts: [&'a str; 2],
    rules: Vec<MadeRule>,
    ceiling: Vec<MadeRule>,
    modes: [bool; 2],
    addresses: Vec<(Address, u16)>,
    path: &'a str,
}

#[derive(Debug, arbitrary::Arbitrary)]
struct MadeRule {
    udp: bool,
    host: Host,
    ports: (u16, u16),
}

#[derive(Debug, arbitrary::Arbitrary)]
enum Host {
    Every,
    Localhost,
    Name(bool),
    Block(Address, u8),
}

#[derive(Debug, arbitrary::Arbitrary)]
enum Address {
    V4(u32),
    V6(u128),
    /// An IPv4 address within IPv6.
    Within(u32, u8),
    Special(u8),
}

const SPECIAL: [&str; 12] = [
    "127.0.0.1",
    "0.0.0.0",
    "169.254.169.254",
    "169.254.20.10",
    "168.63.129.16",
    "100.100.100.200",
    "224.0.0.1",
    "::",
    "::1",
    "fd00:ec2::254",
    "fe80::1",
    "ff02::1",
];

impl Address {
    fn ip(&self) -> IpAddr {
        match self {
            Self::V4(bits) => Ipv4Addr::from(*bits).into(),
            Self::V6(bits) => Ipv6Addr::from(*bits).into(),
            Self::Within(bits, form) => {
                let low = u128::from(*bits);
                let bits = match form % 4 {
                    0 => 0xffff << 32 | low,
                    1 => low,
                    2 => 0x64_ff9b << 96 | low,
                    _ => 0x2002 << 112 | low << 80,
                };
                Ipv6Addr::from(bits).into()
            }
            Self::Special(which) => SPECIAL[usize::from(*which) % SPECIAL.len()]
                .parse()
                .expect("an address"),
        }
    }
}

impl MadeRule {
    fn text(&self) -> String {
        let transport = if self.udp { "udp" } else { "tcp" };
        let host = match &self.host {
            Host::Every => "*".to_owned(),
            Host::Localhost => "localhost".to_owned(),
            Host::Name(first) => if *first { "db.prod" } else { "other" }.to_owned(),
            Host::Block(address, prefix) => match address.ip().to_canonical() {
                IpAddr::V4(address) => {
                    let prefix = u32::from(*prefix) % 33;
                    let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
                    format!("{}/{prefix}", Ipv4Addr::from(u32::from(address) & mask))
                }
                IpAddr::V6(address) => {
                    let mut prefix = u32::from(*prefix) % 129;
                    let masked = |prefix: u32| {
                        let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
                        Ipv6Addr::from(u128::from(address) & mask)
                    };
                    if masked(prefix).to_ipv4_mapped().is_some() {
                        prefix = 0;
                    }
                    format!("[{}]/{prefix}", masked(prefix))
                }
            },
        };
        let (first, last) = self.ports;
        let (first, last) = (first.min(last).max(1), first.max(last).max(1));
        format!("{transport}:{host}:{first}-{last}")
    }
}

fn rules(made: &[MadeRule], pod: bool) -> NetworkRules {
    let texts: Vec<String> = made.iter().take(8).map(MadeRule::text).collect();
    NetworkRules {
        mode: if pod {
            NetworkMode::Pod
        } else {
            NetworkMode::None
        },
        listen: Vec::new(),
        connect: parse_connect(&texts.join(","))
            .unwrap_or_else(|error| panic!("{texts:?}: {error}")),
    }
}

/// Every name has every address.
struct Hostile<'a>(&'a [(Address, u16)]);

impl NamedAddresses for Hostile<'_> {
    fn addresses(&self, _: &str) -> Vec<IpAddr> {
        self.0.iter().map(|(address, _)| address.ip()).collect()
    }
}

fuzz_target!(|input: Input<'_>| {
    for text in input.texts {
        let mut whole = NetworkRules::none();
        match parse_connect(text) {
            Ok(rules) => whole.connect = rules,
            Err(error) => assert!(
                !error.to_string().contains(char::is_control),
                "errors are shown as they are: {error:?}"
            ),
        }
        if let Ok(rules) = parse_listen(text) {
            whole.listen = rules;
        }
        assert_eq!(
            parse_mode(text).is_ok(),
            ["none", "pod"].contains(&text.trim())
        );
        let written = serde_json::to_string(&whole).expect("rules are written");
        assert_eq!(
            serde_json::from_str::<NetworkRules>(&written).ok(),
            Some(whole),
            "written rules are read"
        );
    }

    let ceiling = rules(&input.ceiling, input.modes[0]);
    let wanted = rules(&input.rules, input.modes[1]);
    let cut = wanted.cut(&ceiling);
    assert_eq!(cut.check(&ceiling), Ok(()), "what is cut is beneath");
    if wanted.check(&ceiling).is_ok() {
        assert_eq!(cut, wanted, "what is beneath is not cut");
    }
    let network = Network::new(cut, ceiling.clone()).expect("beneath");
    let most = Network::new(ceiling.clone(), ceiling).expect("equal is beneath");
    let names = Hostile(&input.addresses);
    for (address, port) in &input.addresses {
        let at = SocketAddr::new(address.ip(), *port);
        for transport in [Transport::Tcp, Transport::Udp] {
            let may = network.may_connect(transport, at, &names);
            assert!(
                !may || most.may_connect(transport, at, &names),
                "{at} is beyond the ceiling"
            );
            let mapped = match at.ip() {
                IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), *port),
                IpAddr::V6(_) => at,
            };
            assert_eq!(
                may,
                network.may_connect(transport, mapped, &names),
                "{at} and its mapped form"
            );
            planted(may && AddressClass::of(at.ip()) == AddressClass::Loopback && *port > 255);
        }
    }
    let path = input.path.as_bytes();
    if network.may_connect_unix(path) {
        assert!(path.starts_with(b"/") && !path.contains(&0));
    }
});
