//! The mistakes in rules, and what to write instead.

use std::net::Ipv4Addr;

use thiserror::Error;

use crate::transport::Transport;
use crate::unix::LONGEST_PATH;

/// What is wrong with a rule, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RuleProblem {
    /// Two commas, or one at an end.
    #[error("is empty; remove the comma before or after it")]
    Empty,
    /// No transport, or an unknown one.
    #[error("does not begin with tcp:, udp: or unix:; write {instead}")]
    NoTransport {
        /// A rule that might be meant, quoted if its text is the author's, and what it is for.
        instead: String,
    },
    /// `dns` with something behind it.
    #[error(
        "says more than dns, which allows to look up any name; write dns alone, or name the host \
         in a rule, as in tcp:db.prod:5432"
    )]
    DnsOf,
    /// `dns` among what to listen on.
    #[error("is about looking up names; write it among what to connect to")]
    DnsListens,
    /// Several rules, separated by something else than commas.
    #[error("holds a semicolon; separate rules by commas, as in {instead:?}")]
    Semicolon {
        /// The text with commas.
        instead: String,
    },
    /// A host in a rule to listen.
    #[error(
        "names an address, but a listen rule applies to all addresses of the pod; write \
         {instead}"
    )]
    ListenAddress {
        /// The rule without the address.
        instead: String,
    },
    /// A connect rule with nothing but a port.
    #[error("names no host; write {instead}, or a host, as in {transport}:db.prod:{ports}")]
    NoHost {
        /// The rule for every host.
        instead: String,
        /// Its transport.
        transport: Transport,
        /// What it says of ports.
        ports: String,
    },
    /// A connect rule without port.
    #[error("names no port; write {rule}:443, for example, or {rule}:* for every port")]
    NoPort {
        /// The rule.
        rule: String,
    },
    /// A port that is none.
    #[error(
        "has {ports:?} where a port belongs; write a number from 1 to 65535, a range as in \
         8080-8090, or * for every port"
    )]
    Port {
        /// The text.
        ports: String,
    },
    /// Port 0.
    #[error("names port 0; write * for any port, or a number from 1 to 65535")]
    PortZero,
    /// A range that ends before it begins.
    #[error("has a range of ports that ends before it begins; write {last}-{first}")]
    PortsReversed {
        /// Its beginning.
        first: u16,
        /// Its end.
        last: u16,
    },
    /// IPv6 without brackets.
    #[error("has an IPv6 address without brackets; write it as in {transport}:[fd00::1]:443")]
    Brackets {
        /// The rule's transport.
        transport: Transport,
    },
    /// An address or block that cannot be read.
    #[error(
        "has {text:?} where an address belongs; write an address or a block, as in 10.0.0.0/8 or \
         [fd00::]/8"
    )]
    Block {
        /// The text.
        text: String,
    },
    /// A prefix that is no length.
    #[error("has {prefix:?} where the length of a prefix belongs; write a number from 0 to {most}")]
    Prefix {
        /// The text.
        prefix: String,
        /// Bits of the address.
        most: u8,
    },
    /// A block with bits beyond its prefix.
    #[error("has an address with bits beyond the prefix; write {block}, or {single} for one host")]
    HostBits {
        /// The block.
        block: String,
        /// The address alone.
        single: String,
    },
    /// An IPv6 address with an interface.
    #[error("names an interface, but rules are about addresses; write [{address}]")]
    Zone {
        /// The address.
        address: String,
    },
    /// An IPv4 address within IPv6.
    #[error("has an IPv4 address in the form of IPv6; write {mapped}")]
    Mapped {
        /// The address.
        mapped: Ipv4Addr,
    },
    /// A name with `*`.
    #[error(
        "has a name with *, and no resolver lists such names; write each name in a rule of its \
         own, or a block of addresses, or * for every host"
    )]
    Wildcard {
        /// The text.
        text: String,
    },
    /// A name that some resolvers take for an address.
    #[error(
        "has {text:?} for a host, which is a number; write an address with four parts, or a name"
    )]
    Number {
        /// The text.
        text: String,
    },
    /// A text that is no name of a host.
    #[error(
        "has {text:?} for a host, which is neither an address nor a name; write letters, digits, - \
         and _ between dots, at most 63 in a part and 253 in all"
    )]
    Name {
        /// The text.
        text: String,
    },
    /// `unix:` alone.
    #[error("names no path; write it, as in unix:/run/app.sock")]
    NoPath,
    /// An abstract name.
    #[error("has an abstract name, which no guest gets; write a path, as in unix:/run/app.sock")]
    AbstractName,
    /// A relative path.
    #[error("has a relative path; write it from /, as in unix:/run/app.sock")]
    RelativePath,
    /// A path with `.`, `..` or empty components.
    #[error("has a path with empty parts, . or ..; write {instead:?}")]
    PathNotPlain {
        /// The rule of the path without them.
        instead: String,
    },
    /// A NUL byte, the end of a line …
    #[error("contains a control character; remove it")]
    ControlCharacter,
    /// A path that no socket can have.
    #[error("has a path of more than {LONGEST_PATH} bytes, which no socket can have; shorten it")]
    LongPath,
}
