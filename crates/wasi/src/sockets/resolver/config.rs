//! `/etc/resolv.conf` and `/etc/hosts`, as resolv.conf(5) and hosts(5) describe them. Pure.
//!
//! What is malformed is left out, as C libraries do: a name that cannot be looked up is noticed, a
//! container that does not start for a line that it does not need is worse.
#![forbid(unsafe_code)]

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

const DNS_PORT: u16 = 53;
/// As the C library's `MAXNS`.
const NAMESERVERS: usize = 3;
/// As in resolv.conf(5).
const MOST_NDOTS: usize = 15;
const MOST_SECONDS: u64 = 30;
const MOST_ATTEMPTS: u32 = 5;
/// The search list is longer in clusters than the six names of old.
const SEARCH: usize = 32;

/// How names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResolverConfig {
    pub(super) nameservers: Vec<SocketAddr>,
    pub(super) search: Vec<String>,
    /// A name with so many dots is tried as it is first.
    pub(super) ndots: usize,
    pub(super) timeout: Duration,
    pub(super) attempts: u32,
    /// Each look-up begins with another nameserver.
    pub(super) rotate: bool,
    /// Both questions of a name one after the other.
    pub(super) single_request: bool,
    pub(super) use_tcp: bool,
    pub(super) edns: bool,
    /// Only IPv4 addresses are asked for.
    pub(super) no_aaaa: bool,
}

impl Default for ResolverConfig {
    fn default() -> Self {
        Self {
            nameservers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            single_request: false,
            use_tcp: false,
            edns: false,
            no_aaaa: false,
        }
    }
}

impl ResolverConfig {
    pub(super) fn parse(text: &str) -> Self {
        let mut config = Self::default();
        for line in text.lines() {
            // A comment begins with either, in the first column or after a space.
            let mut words = line
                .split_ascii_whitespace()
                .take_while(|word| !word.starts_with(['#', ';']));
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(nameserver);
                    if config.nameservers.len() < NAMESERVERS {
                        config.nameservers.extend(address);
                    }
                }
                // The last one of both counts.
                Some("search") => {
                    config.search = words.take(SEARCH).filter_map(domain).collect();
                }
                Some("domain") => {
                    config.search = words.take(1).filter_map(domain).collect();
                }
                Some("options") => words.for_each(|option| config.set(option)),
                _ => {}
            }
        }
        config
    }

    fn set(&mut self, option: &str) {
        let (name, value) = option.split_once(':').unwrap_or((option, ""));
        match (name, value.parse::<u32>()) {
            ("ndots", Ok(value)) => self.ndots = MOST_NDOTS.min(value as usize),
            ("timeout", Ok(value)) => {
                self.timeout = Duration::from_secs(u64::from(value).clamp(1, MOST_SECONDS));
            }
            ("attempts", Ok(value)) => self.attempts = value.clamp(1, MOST_ATTEMPTS),
            ("rotate", _) => self.rotate = true,
            ("single-request" | "single-request-reopen", _) => self.single_request = true,
            ("use-vc", _) => self.use_tcp = true,
            ("edns0", _) => self.edns = true,
            ("no-aaaa", _) => self.no_aaaa = true,
            // Among them those that only concern a library's own interface.
            _ => {}
        }
    }
}

/// A domain of the search list; `None` for the root, which a name as it is stands for.
fn domain(text: &str) -> Option<String> {
    let name = text.trim_end_matches('.');
    (!name.is_empty()).then(|| name.to_owned())
}

/// An address; a link-local one may have the number of its interface behind it.
fn nameserver(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address, DNS_PORT).into());
    }
    let (address, scope) = text.split_once('%')?;
    let address: Ipv6Addr = address.parse().ok()?;
    Some(SocketAddrV6::new(address, DNS_PORT, 0, scope.parse().ok()?).into())
}

/// The names and addresses of a container's `/etc/hosts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hosts {
    entries: Vec<(IpAddr, Vec<String>)>,
}

impl Hosts {
    pub(super) fn parse(text: &str) -> Self {
        let entry = |line: &str| {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let address = words.next()?.parse().ok()?;
            let names: Vec<_> = words.map(str::to_owned).collect();
            (!names.is_empty()).then_some((address, names))
        };
        Self {
            entries: text.lines().filter_map(entry).collect(),
        }
    }

    /// The addresses of a name, and the first name of the first of its lines.
    pub(super) fn addresses(&self, name: &str) -> Option<(Vec<IpAddr>, String)> {
        let mut addresses = Vec::new();
        let mut canonical = None;
        for (address, names) in &self.entries {
            if names.iter().any(|one| one.eq_ignore_ascii_case(name)) {
                addresses.push(*address);
                canonical.get_or_insert(&names[0]);
            }
        }
        Some((addresses, canonical?.clone()))
    }

    /// The first name of an address.
    pub(super) fn name(&self, address: IpAddr) -> Option<&str> {
        let found = self.entries.iter().find(|(own, _)| *own == address);
        found.map(|(_, names)| names[0].as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_of_a_pod_is_read() {
        let config = ResolverConfig::parse(
            "search default.svc.cluster.local svc.cluster.local. cluster.local\n\
             nameserver 10.96.0.10\n\
             nameserver 169.254.20.10 # NodeLocal\n\
             options ndots:5 timeout:2 attempts:3 rotate edns0 trust-ad\n",
        );
        assert_eq!(
            config,
            ResolverConfig {
                nameservers: vec![
                    ([10, 96, 0, 10], 53).into(),
                    ([169, 254, 20, 10], 53).into()
                ],
                search: [
                    "default.svc.cluster.local",
                    "svc.cluster.local",
                    "cluster.local"
                ]
                .map(str::to_owned)
                .to_vec(),
                ndots: 5,
                timeout: Duration::from_secs(2),
                attempts: 3,
                rotate: true,
                edns: true,
                ..ResolverConfig::default()
            }
        );
    }

    #[test]
    fn malformed_lines_and_values_beyond_bounds_change_nothing() {
        let config = ResolverConfig::parse(
            "; comment\n# comment\nnameserver\nnameserver host\nnameserver 1.2.3\n\
             options ndots:x timeout:0 attempts:99 ndots:99 unknown\nsearch . \nlookup file bind\n\
             nameserver fe80::1%eth0\n",
        );
        assert_eq!(
            config,
            ResolverConfig {
                ndots: 15,
                timeout: Duration::from_secs(1),
                attempts: 5,
                ..ResolverConfig::default()
            }
        );
        let many = "nameserver 10.0.0.1\n".repeat(10);
        assert_eq!(ResolverConfig::parse(&many).nameservers.len(), 3);
    }

    #[test]
    fn last_list_of_domains_counts() {
        let config = ResolverConfig::parse("search a b\ndomain c d\n");
        assert_eq!(config.search, ["c"]);
        let config = ResolverConfig::parse("domain c\nsearch a b\n");
        assert_eq!(config.search, ["a", "b"]);
    }

    #[test]
    fn scope_of_a_nameserver_is_a_number() {
        let config = ResolverConfig::parse("nameserver fe80::1%3\nnameserver ::1\n");
        assert_eq!(config.nameservers[0].to_string(), "[fe80::1%3]:53");
        assert_eq!(config.nameservers[1].to_string(), "[::1]:53");
    }

    #[test]
    fn hosts_are_found_by_all_of_their_names() {
        let hosts = Hosts::parse(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1 localhost ip6-localhost\n\
             10.1.2.3 web.pod web # the pod\n10.1.2.4 WEB\nmalformed name\n10.9.9.9\n",
        );
        let addresses = |name| hosts.addresses(name).map(|(addresses, _)| addresses.len());
        assert_eq!(addresses("localhost"), Some(2));
        assert_eq!(addresses("web"), Some(2));
        assert_eq!(addresses("Web.Pod"), Some(1));
        assert_eq!(addresses("name"), None);
        let (_, canonical) = hosts.addresses("web").expect("web");
        assert_eq!(canonical, "web.pod");
        assert_eq!(hosts.name([10, 1, 2, 4].into()), Some("WEB"));
        assert_eq!(hosts.name([10, 9, 9, 9].into()), None);
    }
}
