//! What is asked of the container's grants before each bind, listen, connect and send, and what is
//! said of a refusal.
//!
//! The kernel cannot do this: a filter sees no address, and Landlock no host. So this holds while the
//! guest is in its Wasm sandbox; `docs/internals/security.md` says what holds after.
#![forbid(unsafe_code)]

use std::{
    collections::HashSet,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::io::{Errno as Kernel, write};
use wasm_interp_network::{CONNECT_ANNOTATION, Network, NetworkAttempt, NetworkNeeds, Transport};

use super::{
    address::canonical,
    resolver::{RuleNames, UnknownCause, UnknownName},
    state::{Family, Socket, SocketKind, SocketOrigin},
};
use crate::{
    errno::{Errno, Result},
    limits,
    sys::{self, Standard},
    transfer::PIPE_BUF,
    wait::{Meanwhile, uninterrupted, write_all},
};

/// No more than one line in so much time goes to the operator's log.
const PAUSE: Duration = Duration::from_secs(1);

/// What a guest may reach, and to whom refusals are told.
#[derive(Debug)]
pub(crate) struct NetworkGrants {
    network: Network,
    needs: NetworkNeeds,
    refusals: Mutex<Refusals>,
    /// What gets on while standard error takes nothing.
    beside: Option<Arc<dyn Meanwhile>>,
}

/// What was said of refusals so far.
#[derive(Debug)]
struct Refusals {
    /// What the container's standard error has been told of, with an address each.
    told: HashSet<String>,
    /// Where the operator's log is read from, if anywhere.
    log: Option<Arc<OwnedFd>>,
    logged: Option<Instant>,
}

impl NetworkGrants {
    pub(crate) fn new(network: Network, log: Option<Arc<OwnedFd>>) -> Self {
        Self {
            needs: network.needs(),
            network,
            refusals: Mutex::new(Refusals {
                told: HashSet::new(),
                log,
                logged: None,
            }),
            beside: None,
        }
    }

    /// The same. `beside` gets on while the container's standard error takes nothing.
    #[cfg(feature = "components")]
    pub(crate) fn beside(self, beside: Arc<dyn Meanwhile>) -> Self {
        Self {
            beside: Some(beside),
            ..self
        }
    }

    /// What is granted at all.
    pub(crate) fn needs(&self) -> &NetworkNeeds {
        &self.needs
    }

    /// Whether the kernel makes such a socket. Where nothing of the kind is granted, the filter of a
    /// running guest does not let it.
    pub(crate) fn made(&self, family: Family, kind: SocketKind) -> SocketOrigin {
        let granted = match family {
            Family::Inet | Family::Inet6 => self.needs.uses(kind.transport()),
            Family::Unix => self.needs.unix,
        };
        if granted {
            SocketOrigin::ByKernel
        } else {
            SocketOrigin::InName
        }
    }

    pub(crate) fn bind(&self, transport: Transport, address: SocketAddr) -> Result<()> {
        let address = canonical(address);
        self.decide(
            self.network.may_bind(transport, address),
            &NetworkAttempt::Listen(transport, address),
        )
    }

    /// Whether it may, without a word: for what only depends on it.
    pub(crate) fn may_listen(&self, transport: Transport, address: SocketAddr) -> bool {
        self.network.may_listen(transport, canonical(address))
    }

    pub(crate) fn listen(&self, transport: Transport, address: SocketAddr) -> Result<()> {
        self.decide(
            self.may_listen(transport, address),
            &NetworkAttempt::Listen(transport, canonical(address)),
        )
    }

    fn connect(
        &self,
        transport: Transport,
        address: SocketAddr,
        names: &RuleNames<'_>,
    ) -> Result<()> {
        let address = canonical(address);
        let attempt = NetworkAttempt::Connect(transport, address);
        if self.network.may_connect(transport, address, names) {
            return Ok(());
        }
        match names.unknown() {
            Some(unknown) => self.undecided(&attempt, unknown),
            None => match names.asked_name_of(address.ip()) {
                Some(name) => {
                    self.refuse(&NetworkAttempt::ConnectByName(transport, address, &name))
                }
                None => self.refuse(&attempt),
            },
        }
    }

    /// Says that a rule may grant this, and that its name could not be looked up.
    ///
    /// ETIMEDOUT, as from connect(2) of a host that does not answer: programs then try again, or another address.
    /// EAGAIN would say that the connection is being made. CPython's asyncio and libpq wait for a socket then, and take
    /// it for connected.
    fn undecided(&self, attempt: &NetworkAttempt<'_>, unknown: &UnknownName) -> Result<()> {
        let (why, error) = match unknown.cause {
            UnknownCause::NoReply => ("no nameserver replies about", Errno::Timedout),
            UnknownCause::Failed => ("the nameservers fail to look up", Errno::Timedout),
            // As long as this container lives.
            UnknownCause::NoNameserver => ("there is no nameserver to ask about", Errno::Acces),
            UnknownCause::Process(error) => return Err(error),
        };
        let head = format!("the guest could not {attempt}");
        self.tell(
            &format!(
                "{head}: {why} {:?}, which a rule of {CONNECT_ANNOTATION} names; check the \
                 nameservers in the container's /etc/resolv.conf, and that the pod reaches them",
                unknown.name
            ),
            &head,
        );
        Err(error)
    }

    /// To connect, or to send a message there. A UDP listener may answer those that it has heard.
    pub(crate) fn reach(
        &self,
        socket: &Socket,
        address: SocketAddr,
        names: &RuleNames<'_>,
    ) -> Result<()> {
        let state = socket.state();
        let heard = state.heard.as_ref();
        if heard.is_some_and(|heard| heard.contains(&canonical(address))) {
            return Ok(());
        }
        drop(state);
        self.connect(socket.kind.transport(), address, names)
    }

    pub(crate) fn listen_unix(&self, path: &[u8]) -> Result<()> {
        self.decide(
            self.network.may_listen_unix(path),
            &NetworkAttempt::ListenUnix(path),
        )
    }

    pub(crate) fn connect_unix(&self, path: &[u8]) -> Result<()> {
        self.decide(
            self.network.may_connect_unix(path),
            &NetworkAttempt::ConnectUnix(path),
        )
    }

    /// Whether nameservers may be asked for `name`.
    pub(crate) fn resolve(&self, name: &str) -> Result<()> {
        self.decide(
            self.network.may_resolve(name),
            &NetworkAttempt::Resolve(name),
        )
    }

    /// The error of a look-up of the guest's own, from that of the resolver. If no nameserver has said anything, that is
    /// told too, once.
    pub(crate) fn unanswered(&self, name: &str, error: Errno) -> Errno {
        let why = match UnknownCause::of(error) {
            Some(UnknownCause::NoReply) => "no nameserver replies",
            Some(UnknownCause::NoNameserver) => "there is no nameserver to ask",
            Some(UnknownCause::Failed | UnknownCause::Process(_)) | None => return error,
        };
        let line = format!(
            "the guest could not look up {name:?}: {why}; check the nameservers in the container's \
             /etc/resolv.conf, and that the pod reaches them"
        );
        self.tell(&line, why);
        Errno::Again
    }

    /// Refuses, and says so.
    pub(crate) fn refuse<T>(&self, attempt: &NetworkAttempt<'_>) -> Result<T> {
        let line = format!(
            "the guest may not {attempt}; {}",
            self.network.annotation_for(attempt)
        );
        self.tell(&line, &line);
        Err(Errno::Acces)
    }

    /// Writes a line: to the operator's log if one is due, and to the container's standard error once for each `key`.
    fn tell(&self, line: &str, key: &str) {
        // Both may block, and other threads must not wait for them.
        let (log, is_new) = {
            let mut refusals = self.refusals();
            (refusals.log_that_is_due(), refusals.is_new(key))
        };
        if let Some(log) = log
            && to_log(&log, line) == Err(Kernel::PIPE)
        {
            // Each further one would send the guest a SIGPIPE.
            self.refusals().log = None;
        }
        if is_new {
            let told = format!("wasm-interp: {line}\n");
            let error = sys::standard(Standard::Error);
            write_all(error, told.as_bytes(), self.beside.as_deref());
        }
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, granted: bool, attempt: &NetworkAttempt<'_>) -> Result<()> {
        if granted {
            Ok(())
        } else {
            self.refuse(attempt)
        }
    }
}

impl Refusals {
    /// The operator's log, if it may have a line now.
    fn log_that_is_due(&mut self) -> Option<Arc<OwnedFd>> {
        let log = self.log.clone()?;
        let now = Instant::now();
        if self.logged.is_some_and(|last| now - last < PAUSE) {
            return None;
        }
        self.logged = Some(now);
        Some(log)
    }

    /// Whether the container's standard error has to be told of it.
    fn is_new(&mut self, key: &str) -> bool {
        self.told.len() < limits::REFUSALS && self.told.insert(key.to_owned())
    }
}

/// One write, and so one packet of the pipe: a reader that is slow loses lines and not parts of them.
fn to_log(log: &OwnedFd, line: &str) -> rustix::io::Result<usize> {
    let packet = &line.as_bytes()[..line.len().min(PIPE_BUF)];
    uninterrupted(|| write(log, packet))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _, sync::TryLockError};

    use rustix::{
        fs::{OFlags, fcntl_getfl, fcntl_setfl},
        pipe::pipe,
    };

    use super::*;

    /// A pipe whose writer waits for its reader.
    fn full_pipe() -> (File, OwnedFd) {
        let (reader, writer) = pipe().expect("a pipe");
        let flags = fcntl_getfl(&writer).expect("flags");
        fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("nonblocking");
        while write(&writer, &[0; PIPE_BUF]).is_ok() {}
        fcntl_setfl(&writer, flags).expect("blocking");
        (reader.into(), writer)
    }

    #[test]
    fn refusal_that_waits_for_a_reader_keeps_no_other_thread_waiting() {
        let (mut reader, log) = full_pipe();
        let grants = NetworkGrants::new(Network::none(), Some(Arc::new(log)));
        std::thread::scope(|scope| {
            scope.spawn(|| grants.refuse::<()>(&NetworkAttempt::ConnectUnix(b"/a")));
            let deadline = Instant::now() + Duration::from_secs(60);
            loop {
                match grants.refusals.try_lock() {
                    // Decided, and so it writes.
                    Ok(refusals) if !refusals.told.is_empty() => break,
                    Ok(_) | Err(TryLockError::WouldBlock) => {}
                    Err(error) => panic!("{error}"),
                }
                if Instant::now() > deadline {
                    // Lets the other thread end.
                    reader.read_exact(&mut [0; PIPE_BUF]).expect("read");
                    panic!("the lock is held while it waits");
                }
                std::thread::yield_now();
            }
            reader.read_exact(&mut [0; PIPE_BUF]).expect("read");
        });
    }
}
