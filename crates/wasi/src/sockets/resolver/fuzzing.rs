//! What the fuzz target `names` reaches of the resolver. Built only with `--cfg fuzzing`, which `scripts/fuzz`
//! sets.
#![forbid(unsafe_code)]

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    candidates,
    config::{Hosts, ResolverConfig},
    message::{self, NameQuestion, RecordKind, Reply},
};

/// What a nameserver is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedFor {
    Ipv4,
    Ipv6,
    Name,
}

/// What a reply says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Found {
        addresses: Vec<IpAddr>,
        names: Vec<String>,
        canonical: String,
        ttl: u32,
    },
    NoData,
    NoName,
    Failed,
    Truncated,
}

/// The settings of /etc/resolv.conf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    pub nameservers: Vec<SocketAddr>,
    pub search: Vec<String>,
    pub ndots: usize,
    pub timeout: Duration,
    pub attempts: u32,
}

fn question(name: &str, kind: AskedFor) -> NameQuestion {
    NameQuestion {
        name: name.to_owned(),
        kind: match kind {
            AskedFor::Ipv4 => RecordKind::Ipv4,
            AskedFor::Ipv6 => RecordKind::Ipv6,
            AskedFor::Name => RecordKind::Pointer,
        },
    }
}

/// The message that asks; `None` if the name has no form on the wire.
pub fn ask(name: &str, kind: AskedFor, id: u16, edns: bool) -> Option<Vec<u8>> {
    question(name, kind).message(id, edns)
}

/// What `message` says of a question. `None` if it is no reply to it.
pub fn reply(name: &str, kind: AskedFor, id: u16, message: &[u8]) -> Option<Said> {
    Some(match question(name, kind).reply(id, message)? {
        Reply::Found(records) => Said::Found {
            addresses: records.addresses,
            names: records.names,
            canonical: records.canonical,
            ttl: records.ttl,
        },
        Reply::NoData => Said::NoData,
        Reply::NoName => Said::NoName,
        Reply::Failed => Said::Failed,
        Reply::Truncated => Said::Truncated,
    })
}

/// Whether a name is asked for at all, and whether a guest is told it.
pub fn can_be_asked_and_told(name: &str) -> (bool, bool) {
    (message::can_be_asked(name), message::is_host(name))
}

/// /etc/resolv.conf, and the names that are asked for a name by it.
pub fn resolv_conf(text: &str, name: &str) -> (ResolvConf, Vec<String>) {
    let config = ResolverConfig::parse(text);
    let names = candidates(&config, name);
    let said = ResolvConf {
        nameservers: config.nameservers,
        search: config.search,
        ndots: config.ndots,
        timeout: config.timeout,
        attempts: config.attempts,
    };
    (said, names)
}

/// The addresses of a name in /etc/hosts, with the canonical name.
pub fn hosts(text: &str, name: &str) -> Option<(Vec<IpAddr>, String)> {
    Hosts::parse(text).addresses(name)
}
