//! What comes from nameservers, and the text of /etc/resolv.conf and /etc/hosts. A reply is made of records of a
//! small vocabulary, with good, bad and endless compression, and with any bytes in it; what is read of a good
//! one is what a second, simpler reader finds.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use wasm_interp_fuzz::planted;
use wasm_interp_wasi::fuzzing::{
    AskedFor, Said, ask, can_be_asked_and_told, hosts, reply, resolv_conf,
};

const OWNERS: [&str; 5] = ["a.test", "b.test", "A.TEST", "c.b.test", "test"];
const ID: u16 = 0x1234;
const MOST_ADDRESSES: usize = 64;

#[derive(Debug, Arbitrary)]
struct Input {
    asked: u8,
    kind: u8,
    records: Vec<Record>,
    shape: Shape,
    /// Bytes of the message that are set.
    patches: Vec<(u16, u8)>,
    /// What is cut off its end.
    cut: u8,
    resolv_conf: Vec<Line>,
    hosts: Vec<Line>,
    text: String,
    name: String,
    raw: Vec<u8>,
}

#[derive(Debug, Arbitrary)]
struct Record {
    owner: u8,
    data: Data,
    ttl: u32,
    class: u8,
    encoding: Encoding,
}

#[derive(Debug, Arbitrary)]
enum Data {
    Ipv4([u8; 4]),
    Ipv6([u8; 16]),
    Alias(u8, Encoding),
    Pointer(u8, Encoding),
    /// Of a type that is of no use here.
    Other(u16, Vec<u8>),
}

/// How a name is written.
#[derive(Clone, Copy, Debug)]
enum Encoding {
    Plain,
    /// By a pointer to the name of the question, if it is that.
    Compressed,
    /// By a pointer to here: it does not end.
    Endless,
    /// By a pointer somewhere.
    Anywhere(u8),
}

#[derive(Debug)]
struct Shape {
    id: bool,
    response: bool,
    truncated: bool,
    code: u8,
    questions: u8,
    asks_another: bool,
    counts: bool,
}

/// True but for one time in sixteen: most messages are in order.
fn mostly(input: &mut Unstructured<'_>) -> Result<bool> {
    Ok(input.int_in_range(0..=15)? < 15)
}

impl<'a> Arbitrary<'a> for Encoding {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match input.int_in_range(0..=15)? {
            0..=6 => Self::Plain,
            7..=13 => Self::Compressed,
            14 => Self::Endless,
            _ => Self::Anywhere(input.arbitrary()?),
        })
    }
}

impl<'a> Arbitrary<'a> for Shape {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self {
            id: mostly(input)?,
            response: mostly(input)?,
            truncated: !mostly(input)?,
            code: if mostly(input)? {
                0
            } else {
                input.arbitrary()?
            },
            questions: if mostly(input)? {
                1
            } else {
                input.arbitrary()?
            },
            asks_another: !mostly(input)?,
            counts: mostly(input)?,
        })
    }
}

/// A line of words that fit each other.
#[derive(Debug, Arbitrary)]
struct Line(Vec<u8>);

impl Line {
    fn text(&self) -> String {
        const WORDS: [&str; 24] = [
            "nameserver",
            "search",
            "domain",
            "options",
            "10.0.0.1",
            "fe80::1%3",
            "::1",
            "169.254.20.10",
            "ndots:5",
            "ndots:99999999999",
            "timeout:0",
            "timeout:4294967295",
            "attempts:9",
            "rotate",
            "edns0",
            "# comment",
            ";",
            "localhost",
            "db",
            "DB.prod",
            "svc.cluster.local.",
            ".",
            "\t",
            "\u{fffd}",
        ];
        let words = self.0.iter().take(40);
        let words = words.map(|word| WORDS[usize::from(*word) % WORDS.len()]);
        words.collect::<Vec<_>>().join(" ")
    }
}

fn owner(number: u8) -> &'static str {
    OWNERS[usize::from(number) % OWNERS.len()]
}

/// Where the name of the question is.
const QUESTION: u16 = 12;

/// Whether the name can be read again.
fn write_name(message: &mut Vec<u8>, name: &str, asked: &str, encoding: Encoding) -> bool {
    let pointer = |message: &mut Vec<u8>, to: u16| {
        message.extend((0xc000 | (to & 0x3fff)).to_be_bytes());
    };
    match encoding {
        Encoding::Compressed if name == asked => pointer(message, QUESTION),
        Encoding::Endless => {
            let here = message.len() as u16;
            pointer(message, here);
            return false;
        }
        Encoding::Anywhere(to) => {
            pointer(message, u16::from(to));
            return false;
        }
        Encoding::Plain | Encoding::Compressed => {
            for label in name.split('.') {
                message.push(label.len() as u8);
                message.extend(label.as_bytes());
            }
            message.push(0);
        }
    }
    true
}

/// The message, and whether all of it is in order.
fn message(input: &Input, asked: &str) -> (Vec<u8>, bool) {
    let shape = &input.shape;
    let id = if shape.id { ID } else { !ID };
    let questions = u16::from(shape.questions % 3);
    let mut flags = u16::from(shape.code % 16);
    flags |= u16::from(shape.response) << 15 | u16::from(shape.truncated) << 9;
    let answers = input.records.len().min(20) as u16;
    let counted = answers + u16::from(!shape.counts);
    let mut bytes: Vec<u8> = [id, flags, questions, counted, 0, 0]
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .collect();
    let mut in_order = shape.counts;
    for _ in 0..questions {
        let name = if shape.asks_another { "other" } else { asked };
        write_name(&mut bytes, name, "", Encoding::Plain);
        bytes.extend([0, number_of(input.kind) as u8, 0, 1]);
    }
    for record in input.records.iter().take(20) {
        // Without a question there is no name to point to.
        let pointed = if questions == 0 { "" } else { asked };
        in_order &= write_name(&mut bytes, owner(record.owner), pointed, record.encoding);
        let mut data: Vec<u8> = Vec::new();
        let number = match &record.data {
            Data::Ipv4(ip) => {
                data.extend(ip);
                1
            }
            Data::Ipv6(ip) => {
                data.extend(ip);
                28
            }
            Data::Alias(to, encoding) | Data::Pointer(to, encoding) => {
                // An endless name points to itself in the whole message.
                let mut whole = bytes.clone();
                whole.extend([0; 10]);
                let before = whole.len();
                in_order &= write_name(&mut whole, owner(*to), pointed, *encoding);
                data.extend(&whole[before..]);
                if matches!(record.data, Data::Alias(..)) {
                    5
                } else {
                    12
                }
            }
            Data::Other(number, bytes) => {
                in_order = false;
                data.extend(bytes.iter().take(40));
                *number
            }
        };
        bytes.extend(number.to_be_bytes());
        bytes.extend(class_of(record).to_be_bytes());
        bytes.extend(record.ttl.to_be_bytes());
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(data);
    }
    (bytes, in_order)
}

fn number_of(kind: u8) -> u16 {
    match asked_for(kind) {
        AskedFor::Ipv4 => 1,
        AskedFor::Ipv6 => 28,
        AskedFor::Name => 12,
    }
}

fn asked_for(kind: u8) -> AskedFor {
    match kind % 3 {
        0 => AskedFor::Ipv4,
        1 => AskedFor::Ipv6,
        _ => AskedFor::Name,
    }
}

fn class_of(record: &Record) -> u16 {
    if record.class < 240 { 1 } else { 3 }
}

/// What a reply in order says: aliases are followed from the name that was asked for.
fn expected(input: &Input, asked: &str) -> Option<Said> {
    let shape = &input.shape;
    if !shape.id || !shape.response || shape.questions % 3 != 1 || shape.asks_another {
        return None;
    }
    if shape.truncated {
        return Some(Said::Truncated);
    }
    match shape.code % 16 {
        0 => {}
        3 => return Some(Said::NoName),
        _ => return Some(Said::Failed),
    }
    let mut name = asked.to_owned();
    let mut least = u32::MAX;
    for _ in 0..40 {
        let (mut addresses, mut names, mut alias) = (Vec::new(), Vec::new(), None);
        for record in input.records.iter().take(20) {
            if !owner(record.owner).eq_ignore_ascii_case(&name) || class_of(record) != 1 {
                continue;
            }
            match (&record.data, asked_for(input.kind)) {
                (Data::Ipv4(ip), AskedFor::Ipv4) => addresses.push(Ipv4Addr::from(*ip).into()),
                (Data::Ipv6(ip), AskedFor::Ipv6) => addresses.push(Ipv6Addr::from(*ip).into()),
                (Data::Pointer(to, _), AskedFor::Name) => names.push(owner(*to).to_owned()),
                (Data::Alias(to, _), _) => alias = Some(owner(*to)),
                _ => continue,
            }
            least = least.min(record.ttl);
        }
        if !addresses.is_empty() || !names.is_empty() {
            return Some(Said::Found {
                addresses,
                names,
                canonical: name,
                ttl: least,
            });
        }
        match alias {
            Some(to) => name = to.to_owned(),
            None => return Some(Said::NoData),
        }
    }
    Some(Said::Failed)
}

/// What holds of every reply, whatever is in it.
fn check(said: &Option<Said>, kind: AskedFor) {
    if let Some(Said::Found {
        addresses,
        names,
        canonical,
        ..
    }) = said
    {
        assert!(addresses.len() <= MOST_ADDRESSES);
        assert_ne!(addresses.is_empty(), names.is_empty());
        let of_kind = |ip: &IpAddr| match kind {
            AskedFor::Ipv4 => ip.is_ipv4(),
            AskedFor::Ipv6 => ip.is_ipv6(),
            AskedFor::Name => false,
        };
        assert!(addresses.iter().all(of_kind), "{addresses:?}");
        for name in names.iter().chain([canonical]) {
            let (can_be_asked, can_be_told) = can_be_asked_and_told(name);
            assert!(can_be_asked || !can_be_told, "{name:?}");
            let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            assert!(!can_be_told || name.bytes().all(harmless), "{name:?}");
        }
    }
}

fn without_case(said: Option<Said>) -> Option<Said> {
    said.map(|said| match said {
        Said::Found {
            addresses,
            names,
            canonical,
            ttl,
        } => Said::Found {
            addresses,
            names: names.iter().map(|name| name.to_lowercase()).collect(),
            canonical: canonical.to_lowercase(),
            ttl,
        },
        other => other,
    })
}

fn replies(input: &Input) {
    let asked = owner(input.asked);
    let kind = asked_for(input.kind);
    let (mut bytes, in_order) = message(input, asked);
    if in_order {
        let said = reply(asked, kind, ID, &bytes);
        check(&said, kind);
        assert_eq!(
            without_case(said.clone()),
            without_case(expected(input, asked))
        );
        let by_alias = matches!(&said, Some(Said::Found { canonical, .. })
                                if !canonical.eq_ignore_ascii_case(asked));
        planted(by_alias);
    }
    for (at, byte) in &input.patches {
        let length = bytes.len();
        bytes[usize::from(*at) % length] = *byte;
    }
    bytes.truncate(bytes.len() - usize::from(input.cut).min(bytes.len()));
    check(&reply(asked, kind, ID, &bytes), kind);
    check(&reply(asked, kind, ID, &input.raw), kind);
    // A question is no reply to itself.
    if let Some(question) = ask(&input.name, kind, ID, input.cut > 127) {
        assert_eq!(reply(&input.name, kind, ID, &question), None);
    } else {
        assert!(!can_be_asked_and_told(&input.name).0, "{:?}", input.name);
    }
}

fn settings(text: &str, name: &str) {
    let (settings, names) = resolv_conf(text, name);
    assert!(settings.nameservers.len() <= 3);
    assert!(
        settings
            .nameservers
            .iter()
            .all(|server| server.port() == 53)
    );
    assert!(settings.search.len() <= 32 && settings.ndots <= 15);
    assert!((Duration::from_secs(1)..=Duration::from_secs(30)).contains(&settings.timeout));
    assert!((1..=5).contains(&settings.attempts));
    assert!((1..=33).contains(&names.len()));
    let plain = name.strip_suffix('.').unwrap_or(name);
    assert!(names.iter().any(|one| one == plain || one == name));
    for one in &names {
        assert!(
            one == plain || one == name || can_be_asked_and_told(one).0,
            "{one:?}"
        );
    }
}

/// Every line again, word by word.
fn hosts_of(text: &str) {
    for name in text
        .split_ascii_whitespace()
        .take(50)
        .chain(["db", "localhost"])
    {
        let mut expected = Vec::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let Some((Ok(address), names)) = words
                .split_first()
                .map(|(first, rest)| (first.parse::<IpAddr>(), rest))
            else {
                continue;
            };
            if names.iter().any(|one| one.eq_ignore_ascii_case(name)) {
                expected.push(address);
            }
        }
        let found = hosts(text, name).map(|(addresses, _)| addresses);
        assert_eq!(found.unwrap_or_default(), expected, "{name:?}");
    }
}

fn text_of(lines: &[Line]) -> String {
    lines.iter().map(|line| line.text() + "\n").collect()
}

fuzz_target!(|input: Input| {
    replies(&input);
    for text in [&text_of(&input.resolv_conf), &input.text] {
        settings(text, &input.name);
        settings(text, "db.prod");
    }
    for text in [&text_of(&input.hosts), &input.text] {
        hosts_of(text);
    }
});
