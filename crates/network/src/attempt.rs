//! What a guest tried, in words: for the line that says what was refused.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::address::{AddressBlock, AddressClass};
use crate::rule::ConnectRule;
use crate::transport::Transport;
use crate::unix;
use crate::{CONNECT_ANNOTATION, LISTEN_ANNOTATION};

/// What a guest tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NetworkAttempt<'a> {
    /// To bind or listen.
    Listen(Transport, SocketAddr),
    /// To connect or send.
    Connect(Transport, SocketAddr),
    /// The same, with an address that the guest was told of this name.
    ConnectByName(Transport, SocketAddr, &'a str),
    /// To bind a Unix socket to this path. A name that begins with a zero is abstract, and an empty one is one that the
    /// kernel would choose there (unix(7)).
    ListenUnix(&'a [u8]),
    /// To connect or send to the Unix socket at this path, or of this abstract name.
    ConnectUnix(&'a [u8]),
    /// To look up a name.
    Resolve(&'a str),
}

impl fmt::Display for NetworkAttempt<'_> {
    /// As in `connect to tcp:10.0.0.1:5432`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(transport, address) => {
                write!(f, "listen on {transport}:{}", plain(*address))
            }
            Self::Connect(transport, address) => {
                write!(f, "connect to {transport}:{}", plain(*address))
            }
            Self::ConnectByName(transport, address, name) => {
                write!(f, "connect to {transport}:{} ({name})", plain(*address))
            }
            Self::ListenUnix(path) => write!(f, "listen on {}", Path(path)),
            Self::ConnectUnix(path) => write!(f, "connect to {}", Path(path)),
            Self::Resolve(name) => write!(f, "look up {name:?}"),
        }
    }
}

impl NetworkAttempt<'_> {
    /// The annotation, and the rule that would allow it; no rule if none can.
    pub(crate) fn rule(&self) -> (&'static str, Option<String>) {
        match self {
            Self::Listen(_, address)
                if AddressClass::of(address.ip()) == AddressClass::Multicast =>
            {
                (LISTEN_ANNOTATION, None)
            }
            Self::Listen(transport, address) => {
                let port = match address.port() {
                    0 => "*".to_owned(),
                    port => port.to_string(),
                };
                (LISTEN_ANNOTATION, Some(format!("{transport}:{port}")))
            }
            Self::Connect(transport, address) => {
                let host = host(address.ip());
                let port = address.port();
                let rule = (port != 0).then(|| format!("{transport}:{host}:{port}"));
                (CONNECT_ANNOTATION, rule)
            }
            Self::ConnectByName(transport, address, name) => {
                match named_rule(*transport, *address, name) {
                    Some(rule) => (CONNECT_ANNOTATION, Some(rule)),
                    None => Self::Connect(*transport, *address).rule(),
                }
            }
            Self::ListenUnix(path) => (LISTEN_ANNOTATION, path_rule(path)),
            Self::ConnectUnix(path) => (CONNECT_ANNOTATION, path_rule(path)),
            Self::Resolve(_) => (CONNECT_ANNOTATION, Some("dns".to_owned())),
        }
    }

    /// What to do instead where no rule can allow it.
    pub(crate) fn way_out(&self) -> Option<&'static str> {
        match self {
            Self::ListenUnix([] | [0, ..]) | Self::ConnectUnix([] | [0, ..]) => {
                Some("no guest gets an abstract name: use a path, such as /run/app.sock")
            }
            _ => None,
        }
    }
}

/// A rule by name reaches ordinary addresses alone.
fn named_rule(transport: Transport, address: SocketAddr, name: &str) -> Option<String> {
    let is_ordinary = AddressClass::of(address.ip()) == AddressClass::Ordinary;
    let rule = format!("{transport}:{name}:{}", address.port());
    (is_ordinary && address.port() != 0 && rule.parse::<ConnectRule>().is_ok()).then_some(rule)
}

fn host(address: IpAddr) -> String {
    match AddressClass::of(address) {
        AddressClass::Loopback => "localhost".to_owned(),
        _ => AddressBlock::single(address).to_string(),
    }
}

fn path_rule(path: &[u8]) -> Option<String> {
    let text = str::from_utf8(path).ok()?;
    // A comma ends a rule, and a `*` would allow more than this path.
    let can_be_written = unix::is_plain(path)
        && path.len() <= unix::LONGEST_PATH
        && !text.contains([',', '*'])
        && text.trim() == text;
    can_be_written.then(|| format!("unix:{text}"))
}

/// Without the form in which IPv6 holds an IPv4 address, and without an interface.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A path as bytes; an abstract name begins with `@`, as in ss(8).
struct Path<'a>(&'a [u8]);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            [] => "a Unix socket without a name".to_owned(),
            [0, name @ ..] => format!("unix:@{}", name.escape_ascii()),
            path => format!("unix:{}", path.escape_ascii()),
        };
        f.write_str(&text)
    }
}
