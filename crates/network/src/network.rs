//! What one container may reach: the rules that it was granted, and the ceiling over them.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::address::AddressClass;
use crate::attempt::NetworkAttempt;
use crate::ceiling::CeilingError;
use crate::host::{self, HostPattern};
use crate::ports::{PortRange, PortSet};
use crate::rule::{ConnectRule, ListenRule};
use crate::rules::{NetworkMode, NetworkRules};
use crate::transport::Transport;
use crate::{CONNECT_ANNOTATION, LISTEN_ANNOTATION};

/// What one container may reach. A field of its plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// What the container is granted.
    granted: NetworkRules,
    /// The most that the node's policy allows it. The addresses of a name are checked against it too.
    ceiling: NetworkRules,
}

/// The addresses of the names in rules.
pub trait NamedAddresses {
    /// The addresses that the resolver has for `name` now: for a name of a rule, which is in lower case.
    fn addresses(&self, name: &str) -> Vec<IpAddr>;
}

/// What is granted at all, whatever the address: for filters that cannot see addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkNeeds {
    /// TCP ports to listen on.
    pub listen_tcp: PortSet,
    /// TCP ports to connect to.
    pub connect_tcp: PortSet,
    /// UDP ports to listen on.
    pub listen_udp: PortSet,
    /// UDP ports to send to.
    pub connect_udp: PortSet,
    /// Whether Unix sockets have names: to listen on or to connect to.
    pub unix: bool,
    /// Whether the resolver may be asked: because of `dns`, of a rule by name, or of the mode.
    pub dns: bool,
}

impl NetworkNeeds {
    /// Whether nothing is needed.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether sockets of the Internet families are needed: for a transport, or to ask nameservers.
    #[must_use]
    pub fn internet(&self) -> bool {
        self.dns || self.uses(Transport::Tcp) || self.uses(Transport::Udp)
    }

    /// Whether the transport is used at all.
    #[must_use]
    pub fn uses(&self, transport: Transport) -> bool {
        match transport {
            Transport::Tcp => !self.listen_tcp.is_none() || !self.connect_tcp.is_none(),
            Transport::Udp => !self.listen_udp.is_none() || !self.connect_udp.is_none(),
        }
    }
}

impl Network {
    /// Nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// What `rules` grant beneath `ceiling`.
    ///
    /// # Errors
    /// If they exceed it.
    pub fn new(rules: NetworkRules, ceiling: NetworkRules) -> Result<Self, CeilingError> {
        rules.check(&ceiling)?;
        Ok(Self {
            granted: rules,
            ceiling,
        })
    }

    /// The same for a guest that has no Unix sockets, and the rules for Unix sockets that this takes away.
    #[must_use]
    pub fn without_unix(mut self) -> (Self, NetworkRules) {
        let mut taken = NetworkRules::none();
        let is_unix = |rule: &mut ListenRule| matches!(rule, ListenRule::Unix(_));
        taken.listen = self.granted.listen.extract_if(.., is_unix).collect();
        let is_unix = |rule: &mut ConnectRule| matches!(rule, ConnectRule::Unix(_));
        taken.connect = self.granted.connect.extract_if(.., is_unix).collect();
        (self, taken)
    }

    /// What is granted.
    #[must_use]
    pub fn granted(&self) -> &NetworkRules {
        &self.granted
    }

    /// The most that could have been granted.
    #[must_use]
    pub fn ceiling(&self) -> &NetworkRules {
        &self.ceiling
    }

    /// Whether nothing is granted.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.granted.is_none()
    }

    /// Whether a socket may be bound to `address`. To port 0, if the kernel would choose a port for this transport
    /// anyway, because the guest may connect or send somewhere; whether it may then listen is
    /// [`Network::may_listen`] on the port that the kernel chose.
    #[must_use]
    pub fn may_bind(&self, transport: Transport, address: SocketAddr) -> bool {
        if address.port() == 0 && is_local(address.ip()) {
            let connects = self.granted.connect.iter().any(|rule| {
                matches!(rule, ConnectRule::Host { transport: own, .. } if *own == transport)
            });
            if connects {
                return true;
            }
        }
        self.may_listen(transport, address)
    }

    /// Whether a socket may listen on `address`, or receive from all who send to it. Port 0, which the kernel replaces
    /// with any other, needs every port.
    #[must_use]
    pub fn may_listen(&self, transport: Transport, address: SocketAddr) -> bool {
        if !is_local(address.ip()) {
            return false;
        }
        let has = |ports: &PortRange| match address.port() {
            0 => *ports == PortRange::EVERY,
            port => ports.contains(port),
        };
        self.granted.mode == NetworkMode::Pod
            || self.granted.listen.iter().any(|rule| {
                matches!(rule, ListenRule::Ports { transport: own, ports }
                         if *own == transport && has(ports))
            })
    }

    /// Whether a socket may connect or send to `address`. `names` has the addresses of the rules' names; it is
    /// asked only where nothing without a name grants this, and for names that would.
    #[must_use]
    pub fn may_connect(
        &self,
        transport: Transport,
        address: SocketAddr,
        names: &dyn NamedAddresses,
    ) -> bool {
        if address.port() == 0 {
            return false;
        }
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let is_named = |name: &str| {
            let ceiling = &self.ceiling;
            ceiling.reaches(transport, ip, port, &|own| own == name)
                && names
                    .addresses(name)
                    .iter()
                    .any(|one| one.to_canonical() == ip)
        };
        self.granted.reaches(transport, ip, port, &|_| false)
            || self.granted.reaches(transport, ip, port, &is_named)
    }

    /// Whether a UDP listener may answer `address` because a datagram has come from there. Anyone on the way can have
    /// forged it, so it is an ordinary host, or truly the loopback: no datagram from outside has such a sender, since
    /// the kernel drops those (RFC 1812 5.3.7, RFC 4291 2.5.3). Everything else needs [`Network::may_connect`].
    #[must_use]
    pub fn may_answer(address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let known = AddressClass::of(ip) == AddressClass::Ordinary || ip.is_loopback();
        known && address.port() != 0
    }

    /// Whether a socket may be bound to `path`: absolute, without symlinks, `.` and `..`.
    #[must_use]
    pub fn may_listen_unix(&self, path: &[u8]) -> bool {
        self.granted
            .listen
            .iter()
            .any(|rule| matches!(rule, ListenRule::Unix(pattern) if pattern.matches(path)))
    }

    /// Whether a socket may connect or send to `path`: absolute, without symlinks, `.` and `..`.
    #[must_use]
    pub fn may_connect_unix(&self, path: &[u8]) -> bool {
        self.granted
            .connect
            .iter()
            .any(|rule| matches!(rule, ConnectRule::Unix(pattern) if pattern.matches(path)))
    }

    /// Whether the resolver may ask for `name`: a rule names it, or `dns` or the mode allows any. The names of
    /// /etc/hosts need no such question.
    #[must_use]
    pub fn may_resolve(&self, name: &str) -> bool {
        let normal = host::normal(name);
        self.granted.mode == NetworkMode::Pod
            || self.granted.connect.iter().any(|rule| match rule {
                ConnectRule::Dns => true,
                ConnectRule::Host {
                    host: HostPattern::Name(own),
                    ..
                } => *own == normal,
                _ => false,
            })
    }

    /// Whether a rule is by name.
    #[must_use]
    pub fn has_names(&self) -> bool {
        self.granted.connect.iter().any(|rule| {
            matches!(
                rule,
                ConnectRule::Host {
                    host: HostPattern::Name(_),
                    ..
                }
            )
        })
    }

    /// What is granted at all.
    #[must_use]
    pub fn needs(&self) -> NetworkNeeds {
        let mut needs = NetworkNeeds::default();
        if self.granted.mode == NetworkMode::Pod {
            for ports in [
                &mut needs.listen_tcp,
                &mut needs.connect_tcp,
                &mut needs.listen_udp,
                &mut needs.connect_udp,
            ] {
                *ports = PortSet::Every;
            }
            needs.dns = true;
        }
        for rule in &self.granted.listen {
            match rule {
                ListenRule::Ports { transport, ports } => match transport {
                    Transport::Tcp => needs.listen_tcp.add(*ports),
                    Transport::Udp => needs.listen_udp.add(*ports),
                },
                ListenRule::Unix(_) => needs.unix = true,
            }
        }
        for rule in &self.granted.connect {
            match rule {
                ConnectRule::Host {
                    transport,
                    host,
                    ports,
                } => {
                    needs.dns |= matches!(host, HostPattern::Name(_));
                    match transport {
                        Transport::Tcp => needs.connect_tcp.add(*ports),
                        Transport::Udp => needs.connect_udp.add(*ports),
                    }
                }
                ConnectRule::Unix(_) => needs.unix = true,
                ConnectRule::Dns => needs.dns = true,
            }
        }
        needs
    }

    /// What would grant a refused `attempt`, as the end of a sentence: `add "tcp:10.0.0.1:5432" to the annotation …`.
    #[must_use]
    pub fn annotation_for(&self, attempt: &NetworkAttempt<'_>) -> String {
        let (annotation, rule) = attempt.rule();
        let Some(rule) = rule else {
            return attempt
                .way_out()
                .unwrap_or("no annotation grants this")
                .to_owned();
        };
        let fits = |rules: &NetworkRules| match attempt {
            NetworkAttempt::Listen(..) | NetworkAttempt::ListenUnix(_) => {
                rule.parse().is_ok_and(|rule| rules.has_listen(&rule))
            }
            _ => rule.parse().is_ok_and(|rule| rules.has_connect(&rule)),
        };
        let option = option_for(annotation);
        let place = format!("to the annotation {annotation} (wasm-interp run: {option})");
        let mut text = match attempt {
            // To reach the host takes a rule anyway, which has its name looked up too.
            NetworkAttempt::Resolve(name) if can_be_a_rule(name) => format!(
                "add \"tcp:{name}:PORT\" {place} to connect to it, or {rule:?} to look up any name"
            ),
            // Many libraries bind a socket to any port before they connect it or send by it.
            NetworkAttempt::Listen(transport, address) if address.port() == 0 => format!(
                "add \"{transport}:HOST:PORT\" to the annotation {CONNECT_ANNOTATION} \
                 (wasm-interp run: {}) to connect from it or send, or {rule:?} {place} to listen \
                 on any port",
                option_for(CONNECT_ANNOTATION)
            ),
            _ => format!("add {rule:?} {place}"),
        };
        if !fits(&self.ceiling) {
            text += match attempt {
                NetworkAttempt::Listen(_, address) if address.port() == 0 => {
                    ", which the ceiling of the node's policy would have to allow"
                }
                _ => ", and have it allowed by the ceiling of the node's policy",
            };
        }
        text
    }
}

impl NetworkRules {
    /// Whether the mode or a rule reaches `ip`. A name has it if `is_named` says so.
    fn reaches(
        &self,
        transport: Transport,
        ip: IpAddr,
        port: u16,
        is_named: &dyn Fn(&str) -> bool,
    ) -> bool {
        (self.mode == NetworkMode::Pod && by_mode(ip))
            || self.connect.iter().any(|rule| match rule {
                ConnectRule::Host {
                    transport: own,
                    host,
                    ports,
                } => *own == transport && ports.contains(port) && host.reaches(ip, is_named),
                _ => false,
            })
    }
}

/// The option of `wasm-interp run` for an annotation of rules.
fn option_for(annotation: &str) -> &'static str {
    if annotation == LISTEN_ANNOTATION {
        "--listen"
    } else {
        "--connect"
    }
}

/// Whether a rule can name this host; not the question for the name of an address.
fn can_be_a_rule(name: &str) -> bool {
    !name.ends_with(".arpa") && format!("tcp:{name}:1").parse::<ConnectRule>().is_ok()
}

/// Whether the mode `pod` reaches `address`.
fn by_mode(address: IpAddr) -> bool {
    matches!(
        AddressClass::of(address),
        AddressClass::Ordinary | AddressClass::Loopback
    )
}

/// Whether a socket may be bound to `address` at all: packets to a group are not for this pod alone.
fn is_local(address: IpAddr) -> bool {
    AddressClass::of(address) != AddressClass::Multicast
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NeverAsked;

    impl NamedAddresses for NeverAsked {
        fn addresses(&self, name: &str) -> Vec<IpAddr> {
            panic!("{name} is asked for")
        }
    }

    #[test]
    fn sender_is_answered_if_it_is_ordinary_or_the_loopback_itself() {
        for (address, expected) in [
            ("10.0.0.1:53", true),
            ("[fd00::1]:53", true),
            ("[::ffff:10.0.0.1]:53", true),
            ("10.0.0.1:0", false),
            ("127.0.0.1:53", true),
            ("127.9.9.9:53", true),
            ("[::1]:53", true),
            ("[::ffff:127.0.0.1]:53", true),
            // Linux sends to the loopback what is for these, and no loopback has sent it.
            ("0.0.0.0:53", false),
            ("0.1.2.3:53", false),
            ("[::]:53", false),
            ("[::ffff:0.0.0.0]:53", false),
            // To a translator on the way.
            ("[64:ff9b::127.0.0.1]:53", false),
            ("[::127.0.0.1]:53", false),
            ("169.254.1.1:53", false),
            ("[fe80::1]:53", false),
            ("224.0.0.1:53", false),
            ("255.255.255.255:53", false),
            ("[ff02::1]:53", false),
            ("169.254.169.254:53", false),
            ("[::ffff:169.254.169.254]:53", false),
            ("168.63.129.16:53", false),
            ("[fd00:ec2::254]:53", false),
            ("[2002:a9fe:a9fe::]:53", false),
        ] {
            let sender = address.parse().expect(address);
            assert_eq!(Network::may_answer(sender), expected, "{address}");
        }
    }

    #[test]
    fn refusal_of_an_abstract_name_says_the_name_and_what_to_use_instead() {
        let network = Network::none();
        for (attempt, name) in [
            (
                NetworkAttempt::ListenUnix(b"\0bus\n"),
                "listen on unix:@bus\\n",
            ),
            (NetworkAttempt::ListenUnix(b"\0"), "listen on unix:@"),
            (
                NetworkAttempt::ListenUnix(b""),
                "listen on a Unix socket without a name",
            ),
            (
                NetworkAttempt::ConnectUnix(b"\0/tmp/.X11-unix/X0"),
                "connect to unix:@/tmp/.X11-unix/X0",
            ),
        ] {
            assert_eq!(attempt.to_string(), name);
            assert_eq!(
                network.annotation_for(&attempt),
                "no guest gets an abstract name: use a path, such as /run/app.sock"
            );
        }
    }

    #[test]
    fn no_name_is_asked_for_where_a_later_rule_grants_it() {
        let rules = NetworkRules {
            connect: ["tcp:db.prod:443", "tcp:10.0.0.0/8:443"]
                .map(|rule| rule.parse().expect(rule))
                .into(),
            ..NetworkRules::none()
        };
        let network = Network::new(rules.clone(), rules).expect("equal is beneath");
        let address = SocketAddr::from(([10, 0, 0, 1], 443));
        assert!(network.may_connect(Transport::Tcp, address, &NeverAsked));
    }

    #[test]
    fn no_name_is_asked_for_that_the_ceiling_does_not_let_reach_the_address() {
        let rules = |rule: &str| NetworkRules {
            connect: vec![rule.parse().expect(rule)],
            ..NetworkRules::none()
        };
        let network = Network::new(rules("tcp:db.prod:443"), rules("tcp:10.0.0.0/8:443"));
        let network = network.expect("its ports are beneath");
        let address = SocketAddr::from(([192, 0, 2, 1], 443));
        assert!(!network.may_connect(Transport::Tcp, address, &NeverAsked));
    }
}
