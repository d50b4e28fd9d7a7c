//! The TCP ports of a guest's grants, as far as Landlock holds them. Pure.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, ops::RangeInclusive};

use wasm_interp_network::{NetworkNeeds, PortSet};

/// So many ports get a rule each; with more, the host functions alone hold them.
const MOST: usize = 1024;
const DNS: u16 = 53;

/// The ports that a domain allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AllowedPorts {
    Only(BTreeSet<u16>),
    /// More than rules are made for.
    Any,
}

/// For both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TcpPorts {
    pub(super) bind: AllowedPorts,
    pub(super) connect: AllowedPorts,
}

impl TcpPorts {
    pub(super) fn of(needs: &NetworkNeeds) -> Self {
        let mut bind = AllowedPorts::of(&needs.listen_tcp);
        // A socket that connects may be bound to a port of the kernel's choice.
        if !needs.connect_tcp.is_none() {
            bind.add(0);
        }
        let mut connect = AllowedPorts::of(&needs.connect_tcp);
        if needs.dns {
            connect.add(DNS);
        }
        Self { bind, connect }
    }
}

impl AllowedPorts {
    fn of(ports: &PortSet) -> Self {
        let ranges = match ports {
            PortSet::None => &[][..],
            PortSet::Some(ranges) => ranges,
            PortSet::Every => return Self::Any,
        };
        let mut only = BTreeSet::new();
        for range in ranges.iter().map(|range| range.range()) {
            if length(&range) > MOST {
                return Self::Any;
            }
            only.extend(range);
        }
        if only.len() > MOST {
            return Self::Any;
        }
        Self::Only(only)
    }

    fn add(&mut self, port: u16) {
        match self {
            Self::Only(ports) => {
                ports.insert(port);
            }
            Self::Any => {}
        }
    }
}

fn length(range: &RangeInclusive<u16>) -> usize {
    usize::from(range.end() - range.start()) + 1
}

#[cfg(test)]
mod tests {
    use wasm_interp_test_support::network::granted;

    use super::*;

    fn ports(listen: &str, connect: &str) -> TcpPorts {
        TcpPorts::of(&granted(listen, connect).needs())
    }

    fn only(ports: impl IntoIterator<Item = u16>) -> AllowedPorts {
        AllowedPorts::Only(ports.into_iter().collect())
    }

    #[test]
    fn ports_of_rules_are_listed_while_they_are_few() {
        for (listen, connect, bind_ports, connect_ports) in [
            ("", "", only([]), only([])),
            ("tcp:80, udp:53", "udp:*:9", only([80]), only([])),
            (
                "tcp:80-82, tcp:81",
                "tcp:*:443",
                only([0, 80, 81, 82]),
                only([443]),
            ),
            (
                "tcp:*",
                "tcp:10.0.0.0/8:*",
                AllowedPorts::Any,
                AllowedPorts::Any,
            ),
            ("tcp:1-1024", "", only(1..=1024), only([])),
            ("tcp:1-1025", "", AllowedPorts::Any, only([])),
            ("tcp:1-1000, tcp:2001-2100", "", AllowedPorts::Any, only([])),
            ("", "dns", only([]), only([53])),
            ("", "tcp:db.prod:5432", only([0]), only([53, 5432])),
            ("unix:/run/a", "unix:*", only([]), only([])),
        ] {
            let TcpPorts {
                bind,
                connect: reach,
            } = ports(listen, connect);
            assert_eq!(
                (bind, reach),
                (bind_ports, connect_ports),
                "{listen:?} {connect:?}"
            );
        }
    }
}
