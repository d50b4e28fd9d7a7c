//! Questions to a nameserver and its replies. Pure: what comes off the wire is read here and nowhere
//! else.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, RCODE, TYPE,
    rdata::{OPT, RData},
};

use crate::limits;

/// The longest name in text, without a dot at its end.
const LONGEST: usize = 253;
/// What fits into any network without fragments (DNS flag day 2020).
const EDNS_SIZE: u16 = 1232;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    Ipv4,
    Ipv6,
    Pointer,
}

impl RecordKind {
    fn of_wire(self) -> TYPE {
        match self {
            Self::Ipv4 => TYPE::A,
            Self::Ipv6 => TYPE::AAAA,
            Self::Pointer => TYPE::PTR,
        }
    }
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NameQuestion {
    /// Complete: no domain is added to it.
    pub(super) name: String,
    pub(super) kind: RecordKind,
}

/// What a nameserver says of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Found(Records),
    /// The name exists, and has no such record.
    NoData,
    /// There is no such name.
    NoName,
    /// It cannot say, and another one may.
    Failed,
    /// The reply did not fit: to be asked again by TCP.
    Truncated,
}

/// The records of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) addresses: Vec<IpAddr>,
    /// Of a pointer.
    pub(super) names: Vec<String>,
    /// The name that has them, behind all aliases.
    pub(super) canonical: String,
    /// For how many seconds they are valid.
    pub(super) ttl: u32,
}

/// Whether a name can be asked for: in text without escapes.
pub(super) fn can_be_asked(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= LONGEST
        && name.split('.').all(|label| (1..=63).contains(&label.len()))
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

/// Whether a name is one of a host, so that it can be given to a program that trusts names.
pub(crate) fn is_host(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    can_be_asked(name) && name.bytes().all(allowed) && !name.starts_with('-')
}

/// The name that the domain of reverse look-ups has for an address.
pub(crate) fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let mut name = String::new();
            for byte in address.octets().into_iter().rev() {
                name += &format!("{:x}.{:x}.", byte & 15, byte >> 4);
            }
            name + "ip6.arpa"
        }
    }
}

impl NameQuestion {
    /// As a message; `None` if it has no form on the wire.
    pub(super) fn message(&self, id: u16, edns: bool) -> Option<Vec<u8>> {
        let mut packet = Packet::new_query(id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(simple_dns::Question::new(
            Name::new(&self.name).ok()?,
            QTYPE::TYPE(self.kind.of_wire()),
            QCLASS::CLASS(CLASS::IN),
            false,
        ));
        if edns {
            *packet.opt_mut() = Some(OPT {
                opt_codes: Vec::new(),
                udp_packet_size: EDNS_SIZE,
                version: 0,
            });
        }
        packet.build_bytes_vec().ok()
    }

    /// Reads a message. `None` if it is no reply to this question, which is then still open.
    pub(super) fn reply(&self, id: u16, message: &[u8]) -> Option<Reply> {
        let packet = Packet::parse(message).ok()?;
        if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) {
            return None;
        }
        let wanted = Name::new(&self.name).ok()?;
        let [asked] = &packet.questions[..] else {
            return None;
        };
        if asked.qname != wanted || asked.qtype != QTYPE::TYPE(self.kind.of_wire()) {
            return None;
        }
        if packet.has_flags(PacketFlag::TRUNCATION) {
            return Some(Reply::Truncated);
        }
        Some(match packet.rcode() {
            RCODE::NoError => self.records(&wanted, &packet),
            RCODE::NameError => Reply::NoName,
            _ => Reply::Failed,
        })
    }

    /// Follows aliases within the reply: a nameserver that resolves gives all of them.
    fn records(&self, wanted: &Name<'_>, packet: &Packet<'_>) -> Reply {
        let mut owner = wanted.clone();
        let mut ttl = u32::MAX;
        for _ in 0..limits::LINKS {
            let mut records = Records::default();
            let mut alias = None;
            for answer in &packet.answers {
                if answer.name != owner || answer.class != CLASS::IN {
                    continue;
                }
                match (&answer.rdata, self.kind) {
                    (RData::A(a), RecordKind::Ipv4) => {
                        records.addresses.push(Ipv4Addr::from(a.address).into());
                    }
                    (RData::AAAA(aaaa), RecordKind::Ipv6) => {
                        records.addresses.push(Ipv6Addr::from(aaaa.address).into());
                    }
                    (RData::PTR(pointer), RecordKind::Pointer) => {
                        records.names.push(pointer.0.to_string());
                    }
                    (RData::CNAME(name), _) => alias = Some(name.0.clone()),
                    _ => continue,
                }
                ttl = ttl.min(answer.ttl);
            }
            if !records.addresses.is_empty() || !records.names.is_empty() {
                records.addresses.truncate(limits::ADDRESSES);
                records.canonical = owner.to_string();
                records.ttl = ttl;
                return Reply::Found(records);
            }
            match alias {
                Some(name) => owner = name,
                None => return Reply::NoData,
            }
        }
        Reply::Failed
    }
}

#[cfg(test)]
mod tests {
    use simple_dns::{
        ResourceRecord,
        rdata::{A, CNAME},
    };

    use super::*;

    fn question(name: &str) -> NameQuestion {
        NameQuestion {
            name: name.to_owned(),
            kind: RecordKind::Ipv4,
        }
    }

    fn name(text: &'static str) -> Name<'static> {
        Name::new(text).expect(text)
    }

    fn record(owner: &'static str, data: RData<'static>, ttl: u32) -> ResourceRecord<'static> {
        ResourceRecord::new(name(owner), CLASS::IN, ttl, data)
    }

    fn a(octet: u8) -> RData<'static> {
        let address = Ipv4Addr::new(10, 0, 0, octet).into();
        RData::A(A { address })
    }

    fn alias(to: &'static str) -> RData<'static> {
        RData::CNAME(CNAME(name(to)))
    }

    /// A reply to the question for `asked`.
    fn reply(asked: &'static str, answers: Vec<ResourceRecord<'static>>) -> Packet<'static> {
        let mut packet = Packet::new_reply(7);
        packet.questions.push(simple_dns::Question::new(
            name(asked),
            QTYPE::TYPE(TYPE::A),
            QCLASS::CLASS(CLASS::IN),
            false,
        ));
        packet.answers = answers;
        packet
    }

    fn bytes(packet: &Packet<'_>) -> Vec<u8> {
        packet.build_bytes_vec_compressed().expect("a message")
    }

    #[test]
    fn aliases_are_followed_and_records_of_others_left_out() {
        let answers = vec![
            record("www.example", alias("web.example"), 300),
            record("web.example", a(1), 60),
            record("web.example", a(2), 600),
            record("other.example", a(3), 1),
        ];
        let message = bytes(&reply("www.example", answers));
        assert_eq!(
            question("www.example").reply(7, &message),
            Some(Reply::Found(Records {
                addresses: vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()],
                names: Vec::new(),
                canonical: "web.example".to_owned(),
                ttl: 60,
            }))
        );
    }

    #[test]
    fn case_of_a_name_does_not_matter() {
        let message = bytes(&reply("WWW.example", vec![record("www.EXAMPLE", a(1), 5)]));
        let answer = question("www.example.").reply(7, &message);
        assert!(matches!(answer, Some(Reply::Found(_))), "{answer:?}");
    }

    #[test]
    fn loop_of_aliases_ends() {
        let answers = vec![
            record("a.example", alias("b.example"), 1),
            record("b.example", alias("a.example"), 1),
        ];
        let message = bytes(&reply("a.example", answers));
        assert_eq!(
            question("a.example").reply(7, &message),
            Some(Reply::Failed)
        );
    }

    #[test]
    fn message_that_replies_to_something_else_leaves_the_question_open() {
        let answers = || vec![record("a.example", a(1), 1)];
        let own = question("a.example");
        let message = bytes(&reply("a.example", answers()));
        assert_eq!(own.reply(8, &message), None, "another id");
        assert_eq!(
            question("b.example").reply(7, &message),
            None,
            "another name"
        );
        let kind = NameQuestion {
            kind: RecordKind::Ipv6,
            ..own.clone()
        };
        assert_eq!(kind.reply(7, &message), None, "another type");
        let query = own.message(7, false).expect("a message");
        assert_eq!(own.reply(7, &query), None, "a question");
        let mut two = reply("a.example", answers());
        two.questions.push(two.questions[0].clone());
        assert_eq!(own.reply(7, &bytes(&two)), None, "two questions");
        for length in 0..message.len() {
            assert_eq!(own.reply(7, &message[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn codes_of_replies_are_told_apart() {
        let own = question("a.example");
        let coded = |code| {
            let mut packet = reply("a.example", Vec::new());
            *packet.rcode_mut() = code;
            own.reply(7, &bytes(&packet))
        };
        assert_eq!(coded(RCODE::NoError), Some(Reply::NoData));
        assert_eq!(coded(RCODE::NameError), Some(Reply::NoName));
        assert_eq!(coded(RCODE::ServerFailure), Some(Reply::Failed));
        assert_eq!(coded(RCODE::Refused), Some(Reply::Failed));
        let mut truncated = reply("a.example", Vec::new());
        truncated.set_flags(PacketFlag::TRUNCATION);
        assert_eq!(own.reply(7, &bytes(&truncated)), Some(Reply::Truncated));
    }

    #[test]
    fn question_asks_for_recursion_and_one_record_type() {
        for edns in [false, true] {
            let message = question("a.example").message(9, edns).expect("a message");
            let packet = Packet::parse(&message).expect("a packet");
            assert_eq!(packet.id(), 9);
            assert!(packet.has_flags(PacketFlag::RECURSION_DESIRED));
            assert_eq!(packet.questions.len(), 1);
            assert_eq!(packet.opt().is_some(), edns);
        }
    }

    #[test]
    fn names_that_no_host_has_are_not_asked_for_or_told() {
        for good in ["a", "a.b.", "_x._tcp.a", &"a.".repeat(126)] {
            assert!(can_be_asked(good), "{good}");
        }
        let long = "a".repeat(64);
        for bad in [
            "",
            ".",
            "a..b",
            ".a",
            "a b",
            "a\\.b",
            "ä",
            "a\n",
            &long,
            &"a.".repeat(128),
        ] {
            assert!(!can_be_asked(bad), "{bad}");
        }
        assert!(is_host("web-1.example_x"));
        for bad in ["$(id).example", "-x", "a;b", "a/b"] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    #[test]
    fn reverse_names_are_those_of_the_standard() {
        assert_eq!(reverse([192, 0, 2, 5].into()), "5.2.0.192.in-addr.arpa");
        let address: IpAddr = "2001:db8::567:89ab".parse().expect("an address");
        assert_eq!(
            reverse(address),
            "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
    }
}
