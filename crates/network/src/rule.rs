//! One rule: its grammar, and what it matches.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

use crate::host::HostPattern;
use crate::ports::{self, PortRange, PortsProblem};
use crate::problem::RuleProblem;
use crate::transport::Transport;
use crate::unix::{PathProblem, UnixPattern};

/// What a guest may listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenRule {
    /// `tcp:8080`, `udp:5000-5010`, `tcp:*`: at every address of the pod.
    Ports {
        /// The transport.
        transport: Transport,
        /// The ports.
        ports: PortRange,
    },
    /// `unix:/run/app.sock`.
    Unix(UnixPattern),
}

/// What a guest may connect and send to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ConnectRule {
    /// `tcp:db.prod:5432`, `udp:*:53`, `tcp:[fd00::]/8:443-445`, `tcp:localhost:9090`.
    Host {
        /// The transport.
        transport: Transport,
        /// The hosts.
        host: HostPattern,
        /// The ports.
        ports: PortRange,
    },
    /// `unix:/run/db/*`.
    Unix(UnixPattern),
    /// `dns`: any name may be looked up.
    Dns,
}

/// A rule that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("rule {rule:?} {problem}")]
pub struct RuleError {
    /// The rule as it is written.
    pub rule: String,
    /// What is wrong with it, and what to write instead.
    pub problem: RuleProblem,
}

impl FromStr for ListenRule {
    type Err = RuleError;

    fn from_str(rule: &str) -> Result<Self, RuleError> {
        listen(rule).map_err(|problem| RuleError {
            rule: rule.to_owned(),
            problem,
        })
    }
}

impl FromStr for ConnectRule {
    type Err = RuleError;

    fn from_str(rule: &str) -> Result<Self, RuleError> {
        connect(rule).map_err(|problem| RuleError {
            rule: rule.to_owned(),
            problem,
        })
    }
}

impl fmt::Display for ListenRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ports { transport, ports } => write!(f, "{transport}:{ports}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl fmt::Display for ConnectRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host {
                transport,
                host,
                ports,
            } => write!(f, "{transport}:{host}:{ports}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
            Self::Dns => f.write_str("dns"),
        }
    }
}

/// What a rule is about, and the text behind it.
enum Kind<'a> {
    Transport(Transport, &'a str),
    Unix(UnixPattern),
    Dns,
}

fn kind(rule: &str) -> Result<Option<Kind<'_>>, RuleProblem> {
    Ok(Some(match rule.split_once(':') {
        _ if rule.is_empty() => return Err(RuleProblem::Empty),
        _ if rule.contains(char::is_control) => return Err(RuleProblem::ControlCharacter),
        None if rule == "dns" => Kind::Dns,
        // A path may have one.
        Some((word, _)) if word != "unix" && rule.contains(';') => {
            return Err(RuleProblem::Semicolon {
                instead: rule.replace(';', ","),
            });
        }
        Some(("dns", _)) => return Err(RuleProblem::DnsOf),
        Some(("tcp", rest)) => Kind::Transport(Transport::Tcp, rest),
        Some(("udp", rest)) => Kind::Transport(Transport::Udp, rest),
        Some(("unix", path)) => Kind::Unix(unix(path)?),
        _ => return Ok(None),
    }))
}

fn listen(rule: &str) -> Result<ListenRule, RuleProblem> {
    parsed(rule, "8080", listen_of)
}

fn connect(rule: &str) -> Result<ConnectRule, RuleProblem> {
    parsed(rule, "db.prod:5432", connect_of)
}

/// The rule that `of` makes of a text. `example` is what may stand behind a transport.
fn parsed<R>(
    rule: &str,
    example: &str,
    of: impl Fn(Kind<'_>) -> Result<R, RuleProblem>,
) -> Result<R, RuleProblem> {
    match kind(rule)? {
        Some(kind) => of(kind),
        None => Err(RuleProblem::NoTransport {
            instead: no_transport(rule, example, |kind| of(kind).is_ok()),
        }),
    }
}

fn listen_of(kind: Kind<'_>) -> Result<ListenRule, RuleProblem> {
    match kind {
        Kind::Unix(path) => Ok(ListenRule::Unix(path)),
        Kind::Dns => Err(RuleProblem::DnsListens),
        Kind::Transport(transport, rest) => {
            // An IPv6 address may be written without a port.
            let port = rest.rsplit(':').next().unwrap_or_default();
            if rest.contains(':') || rest.contains('[') || rest.parse::<IpAddr>().is_ok() {
                let ports =
                    ports(port).map_or_else(|_| "8080".to_owned(), |ports| ports.to_string());
                return Err(RuleProblem::ListenAddress {
                    instead: format!("{transport}:{ports}"),
                });
            }
            Ok(ListenRule::Ports {
                transport,
                ports: ports(rest)?,
            })
        }
    }
}

fn connect_of(kind: Kind<'_>) -> Result<ConnectRule, RuleProblem> {
    match kind {
        Kind::Unix(path) => Ok(ConnectRule::Unix(path)),
        Kind::Dns => Ok(ConnectRule::Dns),
        Kind::Transport(transport, rest) => {
            let (host, ports) = host_and_ports(transport, rest)?;
            Ok(ConnectRule::Host {
                transport,
                ports: self::ports(ports)?,
                host: HostPattern::parse(host)?,
            })
        }
    }
}

/// The rule that might be meant by one without a transport. A guess that has none either is no rule, so
/// this never asks itself again.
fn no_transport(rule: &str, example: &str, is_rule: impl Fn(Kind<'_>) -> bool) -> String {
    let lower = rule.to_ascii_lowercase();
    match lower.as_str() {
        "tcp" | "udp" => return format!("{lower}:{example}, for example"),
        "unix" => return "unix:/run/app.sock, for example".to_owned(),
        _ => {}
    }
    let without_scheme = lower
        .split_once("://")
        .map_or(lower.as_str(), |(_, rest)| rest);
    let without_path = without_scheme.split('/').next().unwrap_or_default();
    // A single word is a host, or `dns` with a slip of the finger.
    let is_word = lower.bytes().all(|byte| byte.is_ascii_alphabetic());
    if is_word && lower != "dns" && is_rule(Kind::Dns) {
        return format!("\"tcp:{lower}:443\" for a host of this name, or dns to look up names");
    }
    [
        lower.clone(),
        format!("tcp:{lower}"),
        format!("unix:{rule}"),
        format!("tcp:{without_path}"),
        format!("tcp:{without_path}:443"),
    ]
    .into_iter()
    .find(|guess| kind(guess).ok().flatten().is_some_and(&is_rule))
    .map_or_else(
        || format!("tcp:{example}, for example"),
        |guess| format!("{guess:?}"),
    )
}

fn host_and_ports(transport: Transport, rest: &str) -> Result<(&str, &str), RuleProblem> {
    let no_port = || RuleProblem::NoPort {
        rule: format!("{transport}:{rest}"),
    };
    let split = if rest.starts_with('[') {
        // The last colon may be one of the address.
        let end = rest.find(']').ok_or_else(|| RuleProblem::Block {
            text: rest.to_owned(),
        })?;
        let colon = rest[end..].find(':').ok_or_else(no_port)?;
        (&rest[..end + colon], &rest[end + colon + 1..])
    } else if rest.matches(':').count() > 1 {
        return Err(RuleProblem::Brackets { transport });
    } else if let Some(split) = rest.split_once(':') {
        split
    } else if rest.is_empty() || ports(rest).is_ok() {
        ("", rest)
    } else {
        return Err(no_port());
    };
    match split {
        ("", ports) => {
            let ports = if ports.is_empty() { "443" } else { ports };
            self::ports(ports)?;
            Err(RuleProblem::NoHost {
                instead: format!("{transport}:*:{ports}"),
                transport,
                ports: ports.to_owned(),
            })
        }
        (host, "") => Err(RuleProblem::NoPort {
            rule: format!("{transport}:{host}"),
        }),
        split => Ok(split),
    }
}

fn ports(text: &str) -> Result<PortRange, RuleProblem> {
    ports::parse(text).map_err(|problem| match problem {
        PortsProblem::NotANumber => RuleProblem::Port {
            ports: text.to_owned(),
        },
        PortsProblem::Zero => RuleProblem::PortZero,
        PortsProblem::Reversed { first, last } => RuleProblem::PortsReversed { first, last },
    })
}

fn unix(path: &str) -> Result<UnixPattern, RuleProblem> {
    UnixPattern::parse(path).map_err(|problem| match problem {
        PathProblem::Empty => RuleProblem::NoPath,
        PathProblem::Abstract => RuleProblem::AbstractName,
        PathProblem::Relative => RuleProblem::RelativePath,
        PathProblem::NotPlain { plain } => RuleProblem::PathNotPlain {
            instead: format!("unix:{plain}"),
        },
        PathProblem::Long => RuleProblem::LongPath,
    })
}

#[cfg(test)]
mod tests {
    use crate::{parse_connect, parse_listen, parse_mode};

    fn refused<T: std::fmt::Debug, E: std::fmt::Display>(
        parse: impl Fn(&str) -> Result<T, E>,
        cases: &[(&str, &str)],
    ) {
        for (text, expected) in cases {
            match parse(text) {
                Ok(rules) => panic!("{text:?} is read as {rules:?}"),
                Err(error) => assert_eq!(error.to_string(), *expected, "{text:?}"),
            }
        }
    }

    #[test]
    fn a_connect_rule_that_cannot_be_used_says_what_to_write() {
        refused(
            parse_connect,
            &[
                (
                    "dns,,tcp:*:1",
                    "rule \"\" is empty; remove the comma before or after it",
                ),
                (
                    "dns,",
                    "rule \"\" is empty; remove the comma before or after it",
                ),
                (
                    "10.0.0.1:80",
                    "rule \"10.0.0.1:80\" does not begin with tcp:, udp: or unix:; write \
                     \"tcp:10.0.0.1:80\"",
                ),
                (
                    "localhost:9090",
                    "rule \"localhost:9090\" does not begin with tcp:, udp: or unix:; write \
                     \"tcp:localhost:9090\"",
                ),
                (
                    "/run/db.sock",
                    "rule \"/run/db.sock\" does not begin with tcp:, udp: or unix:; write \
                     \"unix:/run/db.sock\"",
                ),
                (
                    "https://db.prod/x",
                    "rule \"https://db.prod/x\" does not begin with tcp:, udp: or unix:; write \
                     \"tcp:db.prod:443\"",
                ),
                (
                    "TCP:db.prod:5432",
                    "rule \"TCP:db.prod:5432\" does not begin with tcp:, udp: or unix:; write \
                     \"tcp:db.prod:5432\"",
                ),
                (
                    "tcp",
                    "rule \"tcp\" does not begin with tcp:, udp: or unix:; write \
                     tcp:db.prod:5432, for example",
                ),
                (
                    "UNIX",
                    "rule \"UNIX\" does not begin with tcp:, udp: or unix:; write \
                     unix:/run/app.sock, for example",
                ),
                (
                    "sctp:!",
                    "rule \"sctp:!\" does not begin with tcp:, udp: or unix:; write \
                     tcp:db.prod:5432, for example",
                ),
                (
                    "dsn",
                    "rule \"dsn\" does not begin with tcp:, udp: or unix:; write \"tcp:dsn:443\" \
                     for a host of this name, or dns to look up names",
                ),
                (
                    "DNS",
                    "rule \"DNS\" does not begin with tcp:, udp: or unix:; write \"dns\"",
                ),
                (
                    "dns;tcp:db.prod:5432",
                    "rule \"dns;tcp:db.prod:5432\" holds a semicolon; separate rules by commas, as \
                     in \"dns,tcp:db.prod:5432\"",
                ),
                // What its author wrote is quoted: a point at its end is not the message's.
                (
                    "tcp:80;tcp:db.",
                    "rule \"tcp:80;tcp:db.\" holds a semicolon; separate rules by commas, as in \
                     \"tcp:80,tcp:db.\"",
                ),
                (
                    "dns:db.prod",
                    "rule \"dns:db.prod\" says more than dns, which allows to look up any name; \
                     write dns alone, or name the host in a rule, as in tcp:db.prod:5432",
                ),
                (
                    "tcp:8080",
                    "rule \"tcp:8080\" names no host; write tcp:*:8080, or a host, as in \
                     tcp:db.prod:8080",
                ),
                (
                    "udp::53",
                    "rule \"udp::53\" names no host; write udp:*:53, or a host, as in \
                     udp:db.prod:53",
                ),
                (
                    "tcp::",
                    "rule \"tcp::\" names no host; write tcp:*:443, or a host, as in \
                     tcp:db.prod:443",
                ),
                (
                    "tcp::80.",
                    "rule \"tcp::80.\" has \"80.\" where a port belongs; write a number from 1 to \
                     65535, a range as in 8080-8090, or * for every port",
                ),
                (
                    "tcp:db.prod",
                    "rule \"tcp:db.prod\" names no port; write tcp:db.prod:443, for example, or \
                     tcp:db.prod:* for every port",
                ),
                (
                    "tcp:[fd00::1]",
                    "rule \"tcp:[fd00::1]\" names no port; write tcp:[fd00::1]:443, for example, \
                     or tcp:[fd00::1]:* for every port",
                ),
                (
                    "tcp:db.prod:https",
                    "rule \"tcp:db.prod:https\" has \"https\" where a port belongs; write a number \
                     from 1 to 65535, a range as in 8080-8090, or * for every port",
                ),
                (
                    "tcp:db.prod:65536",
                    "rule \"tcp:db.prod:65536\" has \"65536\" where a port belongs; write a number \
                     from 1 to 65535, a range as in 8080-8090, or * for every port",
                ),
                (
                    "tcp:db.prod:0",
                    "rule \"tcp:db.prod:0\" names port 0; write * for any port, or a number from 1 \
                     to 65535",
                ),
                (
                    "tcp:db.prod:90-80",
                    "rule \"tcp:db.prod:90-80\" has a range of ports that ends before it begins; \
                     write 80-90",
                ),
                (
                    "tcp:fd00::1:443",
                    "rule \"tcp:fd00::1:443\" has an IPv6 address without brackets; write it as in \
                     tcp:[fd00::1]:443",
                ),
                (
                    "tcp:[db.prod]:443",
                    "rule \"tcp:[db.prod]:443\" has \"[db.prod]\" where an address belongs; write \
                     an address or a block, as in 10.0.0.0/8 or [fd00::]/8",
                ),
                (
                    "tcp:10.0.0.0/33:1",
                    "rule \"tcp:10.0.0.0/33:1\" has \"33\" where the length of a prefix belongs; \
                     write a number from 0 to 32",
                ),
                (
                    "tcp:10.1.0.0/8:1",
                    "rule \"tcp:10.1.0.0/8:1\" has an address with bits beyond the prefix; write \
                     10.0.0.0/8, or 10.1.0.0 for one host",
                ),
                (
                    "tcp:[fd00::1]/8:1",
                    "rule \"tcp:[fd00::1]/8:1\" has an address with bits beyond the prefix; write \
                     [fd00::]/8, or [fd00::1] for one host",
                ),
                (
                    "tcp:[fe80::1%eth0]:1",
                    "rule \"tcp:[fe80::1%eth0]:1\" names an interface, but rules are about \
                     addresses; write [fe80::1]",
                ),
                (
                    "tcp:[::ffff:10.0.0.1]:1",
                    "rule \"tcp:[::ffff:10.0.0.1]:1\" has an IPv4 address in the form of IPv6; \
                     write 10.0.0.1",
                ),
                (
                    "tcp:*.prod:443",
                    "rule \"tcp:*.prod:443\" has a name with *, and no resolver lists such names; \
                     write each name in a rule of its own, or a block of addresses, or * for every \
                     host",
                ),
                (
                    "tcp:127.1:80",
                    "rule \"tcp:127.1:80\" has \"127.1\" for a host, which is a number; write an \
                     address with four parts, or a name",
                ),
                (
                    "tcp:0x7f000001:80",
                    "rule \"tcp:0x7f000001:80\" has \"0x7f000001\" for a host, which is a number; \
                     write an address with four parts, or a name",
                ),
                (
                    "tcp:db prod:80",
                    "rule \"tcp:db prod:80\" has \"db prod\" for a host, which is neither an \
                     address nor a name; write letters, digits, - and _ between dots, at most 63 \
                     in a part and 253 in all",
                ),
                (
                    "unix:/run/a\nb",
                    "rule \"unix:/run/a\\nb\" contains a control character; remove it",
                ),
                (
                    "unix:",
                    "rule \"unix:\" names no path; write it, as in unix:/run/app.sock",
                ),
                (
                    "unix:@bus",
                    "rule \"unix:@bus\" has an abstract name, which no guest gets; write a path, \
                     as in unix:/run/app.sock",
                ),
                (
                    "unix:run/db",
                    "rule \"unix:run/db\" has a relative path; write it from /, as in \
                     unix:/run/app.sock",
                ),
                (
                    "unix:/run/../etc//x/",
                    "rule \"unix:/run/../etc//x/\" has a path with empty parts, . or ..; write \
                     \"unix:/etc/x\"",
                ),
            ],
        );
    }

    #[test]
    fn a_listen_rule_that_cannot_be_used_says_what_to_write() {
        refused(
            parse_listen,
            &[
                (
                    "8080",
                    "rule \"8080\" does not begin with tcp:, udp: or unix:; write \"tcp:8080\"",
                ),
                (
                    "udp",
                    "rule \"udp\" does not begin with tcp:, udp: or unix:; write udp:8080, for \
                     example",
                ),
                (
                    "tcp:80;tcp:81",
                    "rule \"tcp:80;tcp:81\" holds a semicolon; separate rules by commas, as in \
                     \"tcp:80,tcp:81\"",
                ),
                (
                    "tcp:127.0.0.1:8080",
                    "rule \"tcp:127.0.0.1:8080\" names an address, but a listen rule \
                     applies to all addresses of the pod; write tcp:8080",
                ),
                (
                    "tcp:[::]:8080",
                    "rule \"tcp:[::]:8080\" names an address, but a listen rule applies \
                     to all addresses of the pod; write tcp:8080",
                ),
                (
                    "dns",
                    "rule \"dns\" is about looking up names; write it among what to connect to",
                ),
                (
                    "tcp:",
                    "rule \"tcp:\" has \"\" where a port belongs; write a number from 1 to 65535, \
                     a range as in 8080-8090, or * for every port",
                ),
            ],
        );
    }

    #[test]
    fn a_mode_is_none_or_pod() {
        refused(
            parse_mode,
            &[("host", "\"host\" is not a mode; write none or pod")],
        );
        assert!(parse_mode(" pod ").is_ok());
    }

    #[test]
    fn names_are_compared_without_case_and_last_dot() {
        let rules = parse_connect("tcp:DB.Prod.:5432, tcp:db.prod:5432,tcp:LOCALHOST:1").unwrap();
        let words: Vec<String> = rules.iter().map(ToString::to_string).collect();
        assert_eq!(words, ["tcp:db.prod:5432", "tcp:localhost:1"]);
    }

    #[test]
    fn empty_text_is_no_rule_and_a_long_list_is_refused() {
        assert!(parse_listen("").unwrap().is_empty() && parse_listen(" ").unwrap().is_empty());
        let long = vec!["tcp:80"; 257].join(",");
        refused(
            parse_listen,
            &[(
                &long,
                "257 rules are too many; write at most 256: join ports into ranges and addresses \
                 into blocks",
            )],
        );
    }
}
