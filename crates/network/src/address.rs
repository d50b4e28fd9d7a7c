//! Addresses, blocks of them, and the classes that no name leads to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses at which a cloud gives out a node's credentials or its configuration. A rule reaches one only if it
/// names exactly this address.
const METADATA: [IpAddr; 13] = [
    // Of most clouds.
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    // Azure, Alibaba Cloud, Oracle Cloud Classic.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    // AWS, Google Cloud, Oracle Cloud, Scaleway, Akamai, Alibaba Cloud.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    // AWS: the credentials of tasks, and of pods.
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200)),
];

/// The blocks of every class but [`AddressClass::Metadata`].
const SPECIAL: [(IpAddr, u8, AddressClass); 10] = [
    // Linux connects 0.0.0.0 and :: to the loopback device.
    (
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        32,
        AddressClass::Loopback,
    ),
    // "This network" (RFC 1122). Since 5.3 Linux sends it to the gateway as it does any other address.
    (
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        8,
        AddressClass::LinkLocal,
    ),
    (
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)),
        8,
        AddressClass::Loopback,
    ),
    (
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        128,
        AddressClass::Loopback,
    ),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128, AddressClass::Loopback),
    (
        IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)),
        16,
        AddressClass::LinkLocal,
    ),
    (
        IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)),
        10,
        AddressClass::LinkLocal,
    ),
    (
        IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)),
        4,
        AddressClass::Multicast,
    ),
    (
        IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)),
        8,
        AddressClass::Multicast,
    ),
    (IpAddr::V4(Ipv4Addr::BROADCAST), 32, AddressClass::Multicast),
];

/// What kind of host an address leads to. Only a rule that names the address reaches another class than
/// [`AddressClass::Ordinary`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressClass {
    /// Any other host.
    Ordinary,
    /// This network namespace itself, 0.0.0.0 and :: included.
    Loopback,
    /// The link: 169.254.0.0/16, fe80::/10, and 0.0.0.0/8 but for 0.0.0.0.
    LinkLocal,
    /// A group of hosts, or all of the link.
    Multicast,
    /// A cloud's metadata service.
    Metadata,
    /// An IPv6 address that a translator on the way may turn into an IPv4 address of another class than ordinary: that
    /// of another network, so no rule for the pod's own loopback or link is about it. Only a rule with exactly this
    /// address reaches it.
    Translated,
}

impl AddressClass {
    /// The class of `address`; an IPv4-mapped one is the IPv4 address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        if METADATA.contains(&address) {
            return Self::Metadata;
        }
        let special = SPECIAL
            .iter()
            .find(|(base, prefix, _)| contains(*base, *prefix, address));
        match (special, address) {
            (Some((_, _, class)), _) => *class,
            (None, IpAddr::V6(address)) if translated(address).any(Self::is_special) => {
                Self::Translated
            }
            (None, _) => Self::Ordinary,
        }
    }

    fn is_special(address: Ipv4Addr) -> bool {
        Self::of(address.into()) != Self::Ordinary
    }
}

/// The IPv4 addresses to which a translator on the way may send packets for `address`: NAT64 (RFC 6052, RFC 8215), 6to4
/// (RFC 3056), SIIT (RFC 2765), IPv4-compatible (RFC 4291).
fn translated(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let parts = address.segments();
    let from = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    let one = match parts {
        [0, 0, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, _, _, _, _, _] => Some(from(high, low)),
        _ => None,
    };
    let local = matches!(parts, [0x64, 0xff9b, 1, ..]).then(|| embedded(address));
    one.into_iter().chain(local.into_iter().flatten())
}

/// The IPv4 addresses that may be embedded in an address of 64:ff9b:1::/48, within which an operator may choose a prefix
/// of each length that RFC 6052 (section 2.2) has from 48 bits on. The byte behind the first 64 bits is none of the
/// address. 0.0.0.0/8 is left out: no host has such an address, and the zeros of another layout look like it.
fn embedded(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    const LAYOUTS: [[usize; 4]; 4] = [
        [6, 7, 9, 10],
        [7, 9, 10, 11],
        [9, 10, 11, 12],
        [12, 13, 14, 15],
    ];
    let bytes = address.octets();
    LAYOUTS
        .into_iter()
        .map(move |layout| Ipv4Addr::from(layout.map(|place| bytes[place])))
        .filter(|address| address.octets()[0] != 0)
}

/// A block of addresses (CIDR). A single address is a block too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressBlock {
    /// Its first address; never an IPv4-mapped one.
    first: IpAddr,
    prefix: u8,
}

impl AddressBlock {
    /// The block of `address` alone.
    #[must_use]
    pub fn single(address: IpAddr) -> Self {
        let first = address.to_canonical();
        Self {
            first,
            prefix: bits(first),
        }
    }

    /// The block with this first address; `None` if `first` has bits beyond the prefix, or is an IPv4-mapped address.
    pub(crate) fn new(first: IpAddr, prefix: u8) -> Option<Self> {
        let fits = first == first.to_canonical()
            && prefix <= bits(first)
            && masked(first, prefix) == first;
        fits.then_some(Self { first, prefix })
    }

    /// Whether `address`, or the IPv4 address that is mapped into it, is in the block.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        contains(self.first, self.prefix, address.to_canonical())
    }

    /// Whether every address of `other` is in this block.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.first)
    }

    /// The class of all addresses that a rule with this block reaches. A block that is larger than its special
    /// addresses reaches none of them.
    pub(crate) fn class(&self) -> AddressClass {
        if self.prefix == bits(self.first) {
            return AddressClass::of(self.first);
        }
        SPECIAL
            .iter()
            .find(|(base, prefix, _)| {
                *prefix <= self.prefix && contains(*base, *prefix, self.first)
            })
            .map_or(AddressClass::Ordinary, |(_, _, class)| *class)
    }

    /// Whether a rule with this block reaches `address`.
    pub(crate) fn reaches(&self, address: IpAddr) -> bool {
        self.contains(address) && self.class() == AddressClass::of(address)
    }
}

impl fmt::Display for AddressBlock {
    /// As rules write it: IPv6 in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first {
            IpAddr::V4(first) => write!(f, "{first}")?,
            IpAddr::V6(first) => write!(f, "[{first}]")?,
        }
        if self.prefix < bits(self.first) {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

/// Length of an address of this family in bits.
pub(crate) fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The first address of the block that `address` is in.
pub(crate) fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(prefix.min(32)))
                .unwrap_or(0);
            Ipv4Addr::from(u32::from(address) & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(prefix.min(128)))
                .unwrap_or(0);
            Ipv6Addr::from(u128::from(address) & mask).into()
        }
    }
}

fn contains(first: IpAddr, prefix: u8, address: IpAddr) -> bool {
    // Addresses of two families never are equal.
    masked(address, prefix) == first && bits(address) == bits(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_special_address_has_its_class() {
        use AddressClass::{LinkLocal, Loopback, Metadata, Multicast, Ordinary, Translated};
        for (class, addresses) in [
            (
                Loopback,
                &[
                    "127.0.0.1",
                    "127.255.255.254",
                    "0.0.0.0",
                    "::",
                    "::1",
                    "::ffff:127.0.0.1",
                    "::ffff:0.0.0.0",
                ][..],
            ),
            (
                LinkLocal,
                &[
                    "0.0.0.1",
                    "0.255.255.255",
                    "::ffff:0.1.2.3",
                    "169.254.0.1",
                    "169.254.20.10",
                    "::ffff:169.254.1.1",
                    "fe80::1",
                    "febf::1",
                ],
            ),
            (
                Multicast,
                &[
                    "224.0.0.1",
                    "239.255.255.255",
                    "255.255.255.255",
                    "ff02::1",
                    "::ffff:224.0.0.1",
                ],
            ),
            (
                Metadata,
                &[
                    "169.254.169.254",
                    "168.63.129.16",
                    "100.100.100.200",
                    "fd00:ec2::254",
                    "fd20:ce::254",
                    "192.0.0.192",
                    "fd00:c1::a9fe:a9fe",
                    "fd00:42::42",
                    "fd00:a9fe:a9fe::1",
                    "fd00:100::100:200",
                    "::ffff:169.254.169.254",
                ],
            ),
            (
                Translated,
                &[
                    "::127.0.0.1",
                    "::169.254.169.254",
                    "::ffff:0:127.0.0.1",
                    "64:ff9b::127.0.0.1",
                    "64:ff9b::a9fe:a9fe",
                    "64:ff9b::",
                    "64:ff9b::224.0.0.1",
                    "2002:7f00:1::1",
                    "2002:a9fe:a9fe::",
                    // 169.254.169.254 by prefixes of 48, 56, 64 and 96 bits (RFC 6052, 2.2), with zeros and with
                    // others where a translator reads nothing.
                    "64:ff9b:1:a9fe:a9:fe00::",
                    "64:ff9b:1:a9fe:ffa9:feff:ffff:ffff",
                    "64:ff9b:1:12a9:fe:a9fe::",
                    "64:ff9b:1:12a9:fffe:a9fe:1:2",
                    "64:ff9b:1:1234:a9:fea9:fe00:0",
                    "64:ff9b:1:1234:ffa9:fea9:feff:1",
                    "64:ff9b:1:1234:5678:9abc:a9fe:a9fe",
                    "64:ff9b:1::169.254.1.1",
                    // 127.0.0.1, 100.100.100.200 and 224.0.0.1.
                    "64:ff9b:1:7f00:0:100::",
                    "64:ff9b:1:64:64:64c8::",
                    "64:ff9b:1:0:e0:0:100:0",
                ],
            ),
            (
                Ordinary,
                &[
                    "10.0.0.1",
                    "126.255.255.255",
                    "128.0.0.1",
                    "169.253.255.255",
                    "169.255.0.0",
                    "223.255.255.255",
                    "240.0.0.1",
                    "1.0.0.0",
                    "fec0::1",
                    "fd00:ec2::253",
                    "2001:db8::1",
                    "64:ff9b::10.0.0.1",
                    // 10.0.0.1 by each layout.
                    "64:ff9b:1:a00:0:100::",
                    "64:ff9b:1:a:0:1::",
                    "64:ff9b:1:0:a:0:100:0",
                    "64:ff9b:1::10.0.0.1",
                    "::ffff:10.0.0.1",
                ],
            ),
        ] {
            for address in addresses {
                assert_eq!(AddressClass::of(ip(address)), class, "{address}");
            }
        }
    }

    #[test]
    fn a_block_reaches_special_addresses_only_if_it_holds_nothing_else() {
        for (block, address, expected) in [
            ("0.0.0.0/0", "10.0.0.1", true),
            ("0.0.0.0/0", "127.0.0.1", false),
            ("0.0.0.0/0", "0.0.0.0", false),
            ("0.0.0.0/0", "169.254.169.254", false),
            ("0.0.0.0/0", "255.255.255.255", false),
            ("127.0.0.0/8", "127.0.0.1", true),
            ("127.0.0.0/8", "0.0.0.0", false),
            ("0.0.0.0/8", "0.0.0.0", false),
            ("0.0.0.0/8", "0.1.2.3", true),
            ("0.0.0.0/0", "0.1.2.3", false),
            ("127.0.0.0/7", "126.0.0.1", false),
            ("126.0.0.0/7", "127.0.0.1", false),
            ("169.254.0.0/16", "169.254.20.10", true),
            ("169.254.0.0/16", "169.254.169.254", false),
            ("169.254.169.254/32", "169.254.169.254", true),
            ("168.63.129.0/24", "168.63.129.16", false),
            ("168.63.129.0/24", "168.63.129.17", true),
            ("100.64.0.0/10", "100.100.100.200", false),
            ("fd00::/8", "fd00:ec2::254", false),
            ("fd00::/8", "fd00:ec2::253", true),
            ("fd00:ec2::254/128", "fd00:ec2::254", true),
            ("fe80::/10", "fe80::1", true),
            ("fe80::/9", "fe80::1", false),
            ("::/0", "::1", false),
            ("::/0", "64:ff9b::a9fe:a9fe", false),
            ("64:ff9b::/96", "64:ff9b::a9fe:a9fe", false),
            ("64:ff9b::/96", "64:ff9b::a00:1", true),
            ("64:ff9b:1::/48", "64:ff9b:1:a9fe:a9:fe00::", false),
            ("64:ff9b:1::/48", "64:ff9b:1:a00:0:100::", true),
            (
                "64:ff9b:1:a9fe:a9:fe00::/128",
                "64:ff9b:1:a9fe:a9:fe00::",
                true,
            ),
            (
                "64:ff9b:1:a9fe:a9:fe00::/127",
                "64:ff9b:1:a9fe:a9:fe00::",
                false,
            ),
            // The mapped form is the same address to the kernel.
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::/0", "::ffff:10.1.2.3", false),
        ] {
            let (first, prefix) = block.split_once('/').unwrap();
            let Some(block) = AddressBlock::new(ip(first), prefix.parse().unwrap()) else {
                assert_eq!(block, "127.0.0.0/7", "only this has bits beyond its prefix");
                continue;
            };
            assert_eq!(block.reaches(ip(address)), expected, "{block} {address}");
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }
}
