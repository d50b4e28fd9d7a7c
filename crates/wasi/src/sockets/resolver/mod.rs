//! Names of hosts: the container's `/etc/hosts`, then the nameservers of its `/etc/resolv.conf`.
//!
//! A resolver of our own: the C library's would load modules that the image names (NSS), into a process
//! that is no longer the guest's sandbox. It has no thread and no event loop, and each look-up ends
//! within the time-outs of resolv.conf, and soon after a signal that the guest handles.
//!
//! Both files are read once, before the guest runs: a rule of a grant that has a name means what they
//! said then, and a guest that can write to them cannot make a name mean another address. The addresses
//! of a name are kept for as long as its records are valid.
#![forbid(unsafe_code)]

mod config;
mod exchange;
#[cfg(fuzzing)]
#[allow(missing_docs)]
pub mod fuzzing;
mod look_up_time;
mod message;
mod order;

use std::{
    cell::{Cell, OnceCell},
    collections::HashMap,
    ffi::CStr,
    fs::File,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::fs::{FileType, Mode, OFlags, fstat};
use wasm_interp_network::NamedAddresses;

use self::{
    config::{Hosts, ResolverConfig},
    look_up_time::LookUpTime,
    message::{NameQuestion, RecordKind, Reply, can_be_asked},
};
pub(crate) use self::{
    message::{is_host, reverse},
    order::by_reach,
};
use crate::{
    errno::{Errno, Result},
    limits,
    paths::Paths,
    wait::Meanwhile,
};

/// Records are kept at least so long: a program looks a name up, and then connects.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(3600);

/// Of a look-up that no nameserver has replied to; a guest is told EAGAIN.
const NO_REPLY: Errno = Errno::Timedout;
/// Of a look-up without a nameserver to ask.
const NO_NAMESERVER: Errno = Errno::Io;

/// The addresses of this machine for itself.
const LOOPBACK: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::LOCALHOST),
    IpAddr::V4(Ipv4Addr::LOCALHOST),
];

/// The resolver of one guest.
#[derive(Debug)]
pub(crate) struct Resolver {
    paths: Paths,
    /// The name of this host.
    own: String,
    files: OnceLock<Files>,
    kept: Mutex<HashMap<String, Kept>>,
    /// Which nameserver is the next look-up's first.
    turn: AtomicUsize,
    /// What gets on while a look-up waits.
    beside: Option<Arc<dyn Meanwhile>>,
}

#[derive(Debug)]
struct Files {
    config: ResolverConfig,
    hosts: Hosts,
}

/// The outcome of a look-up.
type LookUpOutcome = Result<NamedHost>;

#[derive(Clone, Debug)]
struct Kept {
    outcome: LookUpOutcome,
    until: Instant,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedHost {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) canonical: String,
}

/// The addresses of the names in rules, as the resolver has them now: for one call of the guest's.
pub(crate) struct RuleNames<'a> {
    resolver: &'a Resolver,
    time: LookUpTime<'a>,
    /// How many look-ups no nameserver has replied to.
    unanswered: Cell<usize>,
    unknown: OnceCell<UnknownName>,
}

/// A name whose addresses are not known, though it may have some.
#[derive(Debug)]
pub(crate) struct UnknownName {
    pub(crate) name: String,
    pub(crate) cause: UnknownCause,
}

/// Why a look-up does not say what a name stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum UnknownCause {
    /// No nameserver has replied.
    NoReply,
    /// The nameservers say that they cannot tell now.
    Failed,
    /// There is no nameserver to ask.
    NoNameserver,
    /// This process cannot ask.
    Process(Errno),
}

impl UnknownCause {
    /// `None` if the name has no address, as far as the nameservers know.
    pub(super) fn of(error: Errno) -> Option<Self> {
        match error {
            Errno::Noent | Errno::Nomsg => None,
            NO_REPLY => Some(Self::NoReply),
            Errno::Again => Some(Self::Failed),
            NO_NAMESERVER => Some(Self::NoNameserver),
            error => Some(Self::Process(error)),
        }
    }
}

impl<'a> RuleNames<'a> {
    pub(crate) fn of(resolver: &'a Resolver) -> Self {
        Self {
            resolver,
            time: resolver.time(),
            unanswered: Cell::new(0),
            unknown: OnceCell::new(),
        }
    }

    /// A name that the guest has looked up for this address.
    pub(super) fn asked_name_of(&self, address: IpAddr) -> Option<String> {
        self.resolver.asked_name_of(address)
    }

    /// The first name that was asked for and whose addresses are not known.
    pub(super) fn unknown(&self) -> Option<&UnknownName> {
        self.unknown.get()
    }

    fn look_up(&self, name: &str) -> LookUpOutcome {
        // Also that it was not answered a moment ago, which takes no time now.
        if let Some(outcome) = self.resolver.known(name) {
            return outcome;
        }
        // Each further one would take as long as resolv.conf says.
        if self.time.is_over() || self.unanswered.get() >= limits::UNANSWERED {
            return Err(NO_REPLY);
        }
        let outcome = self.resolver.ask_and_keep(name, &self.time);
        if outcome == Err(NO_REPLY) {
            self.unanswered.update(|count| count + 1);
        }
        outcome
    }
}

impl NamedAddresses for RuleNames<'_> {
    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let error = match self.look_up(name) {
            Ok(host) => return host.addresses,
            Err(error) => error,
        };
        if let Some(cause) = UnknownCause::of(error) {
            self.unknown.get_or_init(|| UnknownName {
                name: name.to_owned(),
                cause,
            });
        }
        Vec::new()
    }
}

impl Resolver {
    /// A resolver that finds its files by `paths`, on the host that is called `own`.
    pub(crate) fn new(paths: Paths, own: String) -> Self {
        Self {
            paths,
            own,
            files: OnceLock::new(),
            kept: Mutex::default(),
            turn: AtomicUsize::default(),
            beside: None,
        }
    }

    /// The same. `beside` gets on while a look-up waits.
    #[cfg(feature = "components")]
    pub(crate) fn beside(self, beside: Arc<dyn Meanwhile>) -> Self {
        Self {
            beside: Some(beside),
            ..self
        }
    }

    /// Has it ask this nameserver alone, unless its files have been read.
    #[cfg(test)]
    pub(crate) fn ask_only(&self, nameserver: std::net::SocketAddr) {
        let config = ResolverConfig {
            nameservers: vec![nameserver],
            timeout: Duration::from_secs(600),
            no_aaaa: true,
            ..ResolverConfig::default()
        };
        let hosts = Hosts::parse("");
        assert!(self.files.set(Files { config, hosts }).is_ok());
    }

    /// Has it know what this text of /etc/hosts says, and no nameserver, unless its files have been read.
    #[cfg(test)]
    pub(crate) fn know_only(&self, hosts: &str) {
        let config = ResolverConfig::default();
        let hosts = Hosts::parse(hosts);
        assert!(self.files.set(Files { config, hosts }).is_ok());
    }

    /// The time of one call's look-ups.
    fn time(&self) -> LookUpTime<'_> {
        LookUpTime::beside(self.beside.as_deref())
    }

    /// A name that the guest has looked up, and that means this address now.
    pub(crate) fn asked_name_of(&self, address: IpAddr) -> Option<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let means = |one: &Kept| {
            let host = one.outcome.as_ref();
            now < one.until && host.is_ok_and(|host| host.addresses.contains(&address))
        };
        let names = kept.iter().filter(|(_, one)| means(one));
        names.map(|(name, _)| name.clone()).min()
    }

    /// The name of this host; empty if it is not known.
    pub(crate) fn own_name(&self) -> &str {
        &self.own
    }

    /// Reads its files, if that has not been done.
    pub(crate) fn read_files(&self) {
        self.files();
    }

    fn files(&self) -> &Files {
        self.files.get_or_init(|| Files {
            config: ResolverConfig::parse(&self.text(c"etc/resolv.conf")),
            hosts: Hosts::parse(&self.text(c"etc/hosts")),
        })
    }

    /// The text of a file; nothing if there is none.
    fn text(&self, path: &CStr) -> String {
        // A FIFO there must not stop us.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let root = self.paths.root();
        let open = self.paths.open(root, path, flags, Mode::empty());
        let regular = open.ok().filter(|file: &OwnedFd| {
            fstat(file)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
        });
        let mut bytes = Vec::new();
        if let Some(file) = regular {
            let mut part = File::from(file).take(limits::RESOLVER_FILE);
            // What was read before an error counts.
            let _ = part.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// For the name of a rule, which is looked up again only when its records are no longer valid.
    fn known(&self, name: &str) -> Option<LookUpOutcome> {
        match self.without_asking(name) {
            Some(host) => Some(Ok(host)),
            None => self.get(name).map(|kept| kept.outcome),
        }
    }

    /// For a name that a guest passes: failures are not kept.
    pub(crate) fn ask(&self, name: &str) -> LookUpOutcome {
        match self.get(&key(name)) {
            Some(kept) if kept.outcome.is_ok() => kept.outcome,
            _ => {
                let time = self.time();
                let outcome = self.ask_and_keep(&key(name), &time);
                outcome.map_err(|error| in_time(error, &time))
            }
        }
    }

    /// What needs no nameserver: `/etc/hosts`, and this machine.
    pub(crate) fn without_asking(&self, name: &str) -> Option<NamedHost> {
        let plain = name.strip_suffix('.').unwrap_or(name);
        if let Some((addresses, canonical)) = self.files().hosts.addresses(plain) {
            return Some(NamedHost {
                addresses,
                canonical,
            });
        }
        // RFC 6761: nameservers are not asked for it. Nor do they know a host that only calls itself so.
        let last = plain.rsplit('.').next().unwrap_or_default();
        let is_own = !plain.is_empty() && plain.eq_ignore_ascii_case(&self.own);
        (is_own || last.eq_ignore_ascii_case("localhost")).then(|| NamedHost {
            addresses: LOOPBACK.to_vec(),
            canonical: plain.to_owned(),
        })
    }

    fn ask_and_keep(&self, name: &str, time: &LookUpTime<'_>) -> LookUpOutcome {
        let (outcome, valid) = match self.ask_in_domains(name, time) {
            Ok((host, ttl)) => (Ok(host), Duration::from_secs(ttl.into())),
            Err(error) => (Err(error), SHORTEST),
        };
        let of_process = |error| matches!(UnknownCause::of(error), Some(UnknownCause::Process(_)));
        // With more time, or with a descriptor more, there might have been another one.
        if time.is_over() || outcome.as_ref().is_err_and(|error| of_process(*error)) {
            return outcome;
        }
        let until = Instant::now() + valid.clamp(SHORTEST, LONGEST);
        let kept = Kept {
            outcome: outcome.clone(),
            until,
        };
        self.keep(name.to_owned(), kept);
        outcome
    }

    /// Asks for a name in the domains of the search list, and for how many seconds that is valid.
    fn ask_in_domains(&self, name: &str, time: &LookUpTime<'_>) -> Result<(NamedHost, u32)> {
        if !can_be_asked(name) {
            return Err(Errno::Noent);
        }
        let config = &self.files().config;
        if config.nameservers.is_empty() {
            return Err(NO_NAMESERVER);
        }
        let (mut failed, mut exists) = (false, false);
        for candidate in candidates(config, name) {
            match self.ask_for_host(config, &candidate, time)? {
                Some(Reply::Found(records)) => {
                    let canonical = if is_host(&records.canonical) {
                        records.canonical
                    } else {
                        candidate
                    };
                    let host = NamedHost {
                        addresses: records.addresses,
                        canonical,
                    };
                    return Ok((host, records.ttl));
                }
                Some(Reply::NoData) => exists = true,
                Some(Reply::NoName) => {}
                Some(Reply::Failed | Reply::Truncated) => failed = true,
                // No nameserver can be reached: nor for the next name.
                None => return Err(NO_REPLY),
            }
        }
        Err(match (failed, exists) {
            (true, _) => Errno::Again,
            (false, true) => Errno::Nomsg,
            (false, false) => Errno::Noent,
        })
    }

    /// Both kinds of addresses of a complete name.
    fn ask_for_host(
        &self,
        config: &ResolverConfig,
        name: &str,
        time: &LookUpTime<'_>,
    ) -> Result<Option<Reply>> {
        let question = |kind| NameQuestion {
            name: name.to_owned(),
            kind,
        };
        let mut questions = vec![question(RecordKind::Ipv4)];
        if !config.no_aaaa {
            questions.push(question(RecordKind::Ipv6));
        }
        let replies = exchange::ask(config, self.first(config), &questions, time)?;
        Ok(replies.into_iter().reduce(merge).flatten())
    }

    /// The name that `/etc/hosts` has for an address, or that is this machine's for it, as [`Self::without_asking`] says.
    pub(crate) fn name_without_asking(&self, address: IpAddr) -> Option<&str> {
        let name = self.files().hosts.name(address);
        name.or_else(|| LOOPBACK.contains(&address).then_some("localhost"))
    }

    /// Asks nameservers for the name of an address; `name` is what [`reverse`] makes of it.
    pub(crate) fn ask_for_name(&self, name: String) -> Result<String> {
        let question = NameQuestion {
            name,
            kind: RecordKind::Pointer,
        };
        let config = &self.files().config;
        if config.nameservers.is_empty() {
            return Err(NO_NAMESERVER);
        }
        let first = self.first(config);
        let questions = std::slice::from_ref(&question);
        let time = self.time();
        let replies = exchange::ask(config, first, questions, &time)?;
        match replies.into_iter().next().flatten() {
            Some(Reply::Found(records)) => {
                let name = records.names.into_iter().find(|name| is_host(name));
                name.ok_or(Errno::Noent)
            }
            Some(Reply::NoData | Reply::NoName) => Err(Errno::Noent),
            Some(Reply::Failed | Reply::Truncated) => Err(Errno::Again),
            None => Err(in_time(NO_REPLY, &time)),
        }
    }

    fn first(&self, config: &ResolverConfig) -> usize {
        if config.rotate {
            self.turn.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        }
    }

    fn get(&self, name: &str) -> Option<Kept> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(name)
            .filter(|one| Instant::now() < one.until)
            .cloned()
    }

    fn keep(&self, name: String, one: Kept) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= limits::NAMES {
            let now = Instant::now();
            kept.retain(|_, one| now < one.until);
        }
        // A guest that asks for many names at once pushes out those of rules, which are asked for again.
        if kept.len() >= limits::NAMES {
            kept.clear();
        }
        kept.insert(name, one);
    }
}

/// That nameservers have not replied is not known if they had less time than resolv.conf gives them.
fn in_time(error: Errno, time: &LookUpTime<'_>) -> Errno {
    if error == NO_REPLY && time.is_over() {
        Errno::Again
    } else {
        error
    }
}

/// The form of a name that records are kept by, which is that of rules.
fn key(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// The complete names to ask for, in order.
fn candidates(config: &ResolverConfig, name: &str) -> Vec<String> {
    if let Some(complete) = name.strip_suffix('.') {
        return vec![complete.to_owned()];
    }
    let in_domains = config
        .search
        .iter()
        .map(|domain| format!("{name}.{domain}"));
    let in_domains = in_domains.filter(|name| can_be_asked(name));
    let as_it_is = name.to_owned();
    if name.matches('.').count() >= config.ndots {
        std::iter::once(as_it_is).chain(in_domains).collect()
    } else {
        in_domains.chain([as_it_is]).collect()
    }
}

/// The reply about a name, of those about both kinds of its addresses.
fn merge(one: Option<Reply>, other: Option<Reply>) -> Option<Reply> {
    match (one, other) {
        (Some(Reply::Found(mut one)), Some(Reply::Found(other))) => {
            one.addresses.extend(other.addresses);
            one.ttl = one.ttl.min(other.ttl);
            Some(Reply::Found(one))
        }
        (found @ Some(Reply::Found(_)), _) | (_, found @ Some(Reply::Found(_))) => found,
        (None, _) | (_, None) => None,
        (Some(Reply::Failed | Reply::Truncated), _)
        | (_, Some(Reply::Failed | Reply::Truncated)) => Some(Reply::Failed),
        (Some(Reply::NoData), _) | (_, Some(Reply::NoData)) => Some(Reply::NoData),
        (Some(Reply::NoName), Some(Reply::NoName)) => Some(Reply::NoName),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::UdpSocket,
        sync::{Arc, atomic::AtomicBool},
    };

    use simple_dns::{CLASS, Packet, ResourceRecord, rdata::RData};

    use super::*;
    use crate::{
        paths::{self, LateMounts},
        signals::handler::testing::{HandlingGuest, interrupt, this_thread},
    };

    fn config(ndots: usize) -> ResolverConfig {
        ResolverConfig {
            search: vec!["ns.svc.cluster.local".to_owned(), "example".to_owned()],
            ndots,
            ..ResolverConfig::default()
        }
    }

    #[test]
    fn few_dots_ask_in_the_domains_first() {
        let names = candidates(&config(5), "db.prod");
        let expected = ["db.prod.ns.svc.cluster.local", "db.prod.example", "db.prod"];
        assert_eq!(names, expected);
        let names = candidates(&config(1), "db.prod");
        let expected = ["db.prod", "db.prod.ns.svc.cluster.local", "db.prod.example"];
        assert_eq!(names, expected);
        assert_eq!(candidates(&config(5), "db.prod."), ["db.prod"]);
        let long = "a.".repeat(125) + "a";
        let names = candidates(&config(0), &long);
        assert_eq!(names, [&long[..]], "no room for a domain");
    }

    #[test]
    fn one_address_of_two_questions_is_enough() {
        let found = || {
            Some(Reply::Found(message::Records {
                addresses: vec![[10, 0, 0, 1].into()],
                ttl: 7,
                ..message::Records::default()
            }))
        };
        for other in [
            None,
            Some(Reply::Failed),
            Some(Reply::NoData),
            Some(Reply::NoName),
        ] {
            assert_eq!(merge(found(), other.clone()), found());
            assert_eq!(merge(other, found()), found());
        }
        assert_eq!(merge(None, Some(Reply::NoName)), None);
        assert_eq!(
            merge(Some(Reply::Failed), Some(Reply::NoName)),
            Some(Reply::Failed)
        );
        assert_eq!(
            merge(Some(Reply::NoData), Some(Reply::NoName)),
            Some(Reply::NoData)
        );
    }

    fn resolver() -> Resolver {
        let root = Arc::new(paths::root().expect("the root directory"));
        Resolver::new(
            Paths::new(root, LateMounts::Impossible),
            "own-name".to_owned(),
        )
    }

    /// The address 10.0.0.1 for what is asked.
    fn reply(question: &[u8]) -> Vec<u8> {
        let question = Packet::parse(question).expect("a question");
        let name = question.questions[0].qname.clone();
        let mut reply = question.clone().into_reply();
        let data = RData::A(Ipv4Addr::new(10, 0, 0, 1).into());
        reply.answers = vec![ResourceRecord::new(name, CLASS::IN, 60, data)];
        reply.build_bytes_vec().expect("a reply")
    }

    /// A guest that is told to end hears of it soon, and a nameserver that replies in time is not missed for a signal.
    #[test]
    fn signal_leaves_nameservers_a_moment_and_no_more() {
        let nameserver = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let resolver = resolver();
        resolver.ask_only(nameserver.local_addr().expect("an address"));
        let _guest = HandlingGuest::that_masks(0);
        let asking = this_thread();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut question = [0; 512];
                // It never replies. A signal may come before the guest waits.
                nameserver.recv_from(&mut question).expect("a question");
                while !ended.load(Ordering::SeqCst) {
                    interrupt(asking);
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let started = Instant::now();
            let names = RuleNames::of(&resolver);
            for name in ["a.example", "b.example"] {
                assert!(names.addresses(name).is_empty());
            }
            let unknown = names.unknown().expect("not known");
            assert_eq!(
                (&*unknown.name, unknown.cause),
                ("a.example", UnknownCause::NoReply)
            );
            assert!(started.elapsed() >= limits::AFTER_SIGNAL);
            // Each of the guest's own look-ups too.
            assert_eq!(resolver.ask("c.example"), Err(Errno::Again));
            let pointer = resolver.ask_for_name("1.0.0.10.in-addr.arpa".to_owned());
            assert_eq!(pointer, Err(Errno::Again));
            assert!(started.elapsed() < Duration::from_secs(300), "the time-out");
            ended.store(true, Ordering::SeqCst);
        });
        assert!(
            resolver.kept.lock().expect("names").is_empty(),
            "they are asked for again"
        );
        // Its signal is still pending.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut question = [0; 512];
                loop {
                    let (length, from) = nameserver.recv_from(&mut question).expect("a question");
                    // Those from before, whose time is over, are first.
                    if question[..length].windows(2).any(|bytes| bytes == b"\x01d") {
                        std::thread::sleep(Duration::from_millis(100));
                        let reply = reply(&question[..length]);
                        nameserver.send_to(&reply, from).expect("send");
                        return;
                    }
                }
            });
            let expected: IpAddr = [10, 0, 0, 1].into();
            let names = RuleNames::of(&resolver);
            assert_eq!(names.addresses("d.example"), [expected]);
            assert!(names.unknown().is_none());
        });
    }

    #[test]
    fn names_are_kept_for_a_while_and_not_without_bound() {
        let resolver = resolver();
        let kept = |valid: Duration| Kept {
            outcome: Err(Errno::Noent),
            until: Instant::now() + valid,
        };
        resolver.keep("gone".to_owned(), kept(Duration::ZERO));
        assert!(resolver.get("gone").is_none());
        for number in 0..10 * limits::NAMES {
            resolver.keep(number.to_string(), kept(LONGEST));
            assert!(resolver.get(&number.to_string()).is_some());
        }
        let all = resolver.kept.lock().expect("names").len();
        assert!(all <= limits::NAMES, "{all}");
    }
}
