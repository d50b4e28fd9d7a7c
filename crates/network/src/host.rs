//! The host of a connect rule.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::{self, AddressBlock, AddressClass};
use crate::problem::RuleProblem;

/// Which hosts a connect rule reaches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `*`: every ordinary address.
    Every,
    /// `localhost`: every loopback address.
    Localhost,
    /// An address or a block.
    Block(AddressBlock),
    /// A name, in lower case, without a dot at its end: the ordinary addresses that it has.
    Name(String),
}

impl HostPattern {
    /// Reads a host; IPv6 addresses are in brackets.
    pub(crate) fn parse(text: &str) -> Result<Self, RuleProblem> {
        if text == "*" {
            return Ok(Self::Every);
        }
        if let Some(inner) = text.strip_prefix('[') {
            return ipv6(inner);
        }
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        match (address.parse::<Ipv4Addr>(), prefix) {
            (Ok(address), prefix) => block(address.into(), prefix),
            (Err(_), Some(_)) => Err(RuleProblem::Block {
                text: text.to_owned(),
            }),
            (Err(_), None) => name(text),
        }
    }

    /// Whether a rule for this host reaches `address`, which the name of the rule has if `is_named`.
    pub(crate) fn reaches(&self, address: IpAddr, is_named: impl FnOnce(&str) -> bool) -> bool {
        match self {
            Self::Every => AddressClass::of(address) == AddressClass::Ordinary,
            Self::Localhost => AddressClass::of(address) == AddressClass::Loopback,
            Self::Block(block) => block.reaches(address),
            Self::Name(name) => {
                AddressClass::of(address) == AddressClass::Ordinary && is_named(name)
            }
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every => f.write_str("*"),
            Self::Localhost => f.write_str("localhost"),
            Self::Block(block) => block.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// `inner` follows the opening bracket.
fn ipv6(inner: &str) -> Result<HostPattern, RuleProblem> {
    let malformed = || RuleProblem::Block {
        text: format!("[{inner}"),
    };
    let (address, rest) = inner.split_once(']').ok_or_else(malformed)?;
    if let Some((address, _)) = address.split_once('%') {
        return Err(RuleProblem::Zone {
            address: address.to_owned(),
        });
    }
    let address: Ipv6Addr = address.parse().map_err(|_| malformed())?;
    if let Some(mapped) = address.to_ipv4_mapped() {
        return Err(RuleProblem::Mapped { mapped });
    }
    match rest {
        "" => block(address.into(), None),
        rest => block(
            address.into(),
            Some(rest.strip_prefix('/').ok_or_else(malformed)?),
        ),
    }
}

fn block(address: IpAddr, prefix: Option<&str>) -> Result<HostPattern, RuleProblem> {
    let Some(prefix) = prefix else {
        return Ok(HostPattern::Block(AddressBlock::single(address)));
    };
    let most = address::bits(address);
    let number = Some(prefix)
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|prefix| *prefix <= most)
        .ok_or_else(|| RuleProblem::Prefix {
            prefix: prefix.to_owned(),
            most,
        })?;
    match AddressBlock::new(address, number) {
        Some(block) => Ok(HostPattern::Block(block)),
        None => Err(RuleProblem::HostBits {
            block: AddressBlock::new(address::masked(address, number), number)
                .map(|block| block.to_string())
                .unwrap_or_default(),
            single: AddressBlock::single(address).to_string(),
        }),
    }
}

/// The form in which names are compared.
pub(crate) fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn name(text: &str) -> Result<HostPattern, RuleProblem> {
    let name = normal(text);
    if name == "localhost" {
        return Ok(HostPattern::Localhost);
    }
    if name.contains('*') {
        return Err(RuleProblem::Wildcard {
            text: text.to_owned(),
        });
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    // Resolvers of C libraries take these for addresses: 127.1, 2130706433, 0x7f.0.0.1.
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if is_number && name.split('.').all(label) {
        return Err(RuleProblem::Number {
            text: text.to_owned(),
        });
    }
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(RuleProblem::Name {
            text: text.to_owned(),
        });
    }
    Ok(HostPattern::Name(name))
}
