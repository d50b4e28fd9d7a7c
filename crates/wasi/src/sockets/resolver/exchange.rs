//! Asking nameservers, by UDP and TCP, from this thread alone: sends, waits with a deadline, and goes on
//! to the next server.
//!
//! Its sockets are the kernel's and no descriptors of the guest's. A signal that the guest handles ends the
//! waiting a while later ([`LookUpTime`]).
#![forbid(unsafe_code)]

use std::{
    net::SocketAddr,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::Instant,
};

use rustix::{
    event::PollFlags,
    io::Errno as Kernel,
    net::{SocketFlags, SocketType, socket_with, sockopt::socket_error},
    rand::{GetRandomFlags, getrandom},
};

use super::{
    config::ResolverConfig,
    look_up_time::LookUpTime,
    message::{NameQuestion, Reply},
};
use crate::{
    errno::Result,
    sockets::{
        address::{KernelAddress, family_of},
        sys as socket_calls,
    },
    sys,
    wait::uninterrupted,
};

/// The longest message by UDP that is read, and by TCP.
const UDP: usize = 4096;
const TCP: usize = u16::MAX as usize;

/// A question on its way.
struct OpenQuestion<'a> {
    question: &'a NameQuestion,
    reply: Option<Reply>,
}

/// Asks each question of one nameserver after the other, until it is answered or the time is over. `first` says with
/// which one to begin. A question that no nameserver answered has no reply.
pub(super) fn ask(
    config: &ResolverConfig,
    first: usize,
    questions: &[NameQuestion],
    time: &LookUpTime<'_>,
) -> Result<Vec<Option<Reply>>> {
    let mut open: Vec<_> = questions
        .iter()
        .map(|question| OpenQuestion {
            question,
            reply: None,
        })
        .collect();
    for _ in 0..config.attempts {
        for index in 0..config.nameservers.len() {
            let server = config.nameservers[(first + index) % config.nameservers.len()];
            let at_once = if config.single_request { 1 } else { open.len() };
            for group in open.chunks_mut(at_once.max(1)) {
                match ask_server(config, server, group, time) {
                    // This server cannot be reached, or not now.
                    Ok(()) => {}
                    Err(error) if is_about_this_process(error) => return Err(error.into()),
                    Err(_) => {}
                }
            }
            if time.is_over() || open.iter().all(|one| !is_open(one)) {
                return Ok(open.into_iter().map(|one| one.reply).collect());
            }
        }
    }
    Ok(open.into_iter().map(|one| one.reply).collect())
}

/// No other server would change it: there are no descriptors left, or the pod's profile refuses a call.
fn is_about_this_process(error: Kernel) -> bool {
    matches!(
        error,
        Kernel::MFILE
            | Kernel::NFILE
            | Kernel::NOMEM
            | Kernel::NOBUFS
            | Kernel::PERM
            | Kernel::NOSYS
    )
}

/// Whether another server may still say more.
fn is_open(open: &OpenQuestion<'_>) -> bool {
    matches!(open.reply, None | Some(Reply::Failed | Reply::Truncated))
}

fn ask_server(
    config: &ResolverConfig,
    server: SocketAddr,
    open: &mut [OpenQuestion<'_>],
    time: &LookUpTime<'_>,
) -> rustix::io::Result<()> {
    if !config.use_tcp {
        ask_by_udp(config, server, open, time)?;
    }
    for one in open.iter_mut() {
        let truncated = one.reply == Some(Reply::Truncated);
        if truncated || (config.use_tcp && is_open(one)) {
            ask_by_tcp(config, server, one, time)?;
        }
    }
    Ok(())
}

fn ask_by_udp(
    config: &ResolverConfig,
    server: SocketAddr,
    open: &mut [OpenQuestion<'_>],
    time: &LookUpTime<'_>,
) -> rustix::io::Result<()> {
    let deadline = Instant::now() + config.timeout;
    // Connected: the kernel drops what comes from elsewhere, and tells of a port without a server.
    let socket = socket(server, SocketType::DGRAM)?;
    let address = KernelAddress::from(server);
    uninterrupted(|| socket_calls::connect(socket.as_fd(), &address))?;
    let mut sent: Vec<(u16, &mut OpenQuestion<'_>)> = Vec::with_capacity(open.len());
    for one in open.iter_mut().filter(|one| is_open(one)) {
        let id = random_id()?;
        // The name was checked before: it has a form on the wire.
        let Some(message) = one.question.message(id, config.edns) else {
            one.reply = Some(Reply::NoName);
            continue;
        };
        send(socket.as_fd(), &message)?;
        sent.push((id, one));
    }
    let mut buffer = vec![0; UDP];
    while !sent.is_empty() {
        if !time.wait(socket.as_fd(), PollFlags::IN, deadline)? {
            return Ok(());
        }
        let length = match receive(socket.as_fd(), &mut buffer) {
            Err(Kernel::AGAIN) => continue,
            length => length?,
        };
        sent.retain_mut(
            |(id, one)| match one.question.reply(*id, &buffer[..length]) {
                Some(reply) => {
                    one.reply = Some(reply);
                    false
                }
                None => true,
            },
        );
    }
    Ok(())
}

/// One question on a connection of its own: two bytes of length, then the message, both ways.
fn ask_by_tcp(
    config: &ResolverConfig,
    server: SocketAddr,
    open: &mut OpenQuestion<'_>,
    time: &LookUpTime<'_>,
) -> rustix::io::Result<()> {
    let deadline = Instant::now() + config.timeout;
    let socket = socket(server, SocketType::STREAM)?;
    let fd = socket.as_fd();
    let address = KernelAddress::from(server);
    match socket_calls::connect(fd, &address) {
        Err(Kernel::INPROGRESS | Kernel::INTR) => {
            if !time.wait(fd, PollFlags::OUT, deadline)? {
                return Err(Kernel::TIMEDOUT);
            }
            socket_error(fd)??;
        }
        result => result?,
    }
    let id = random_id()?;
    let message = open
        .question
        .message(id, config.edns)
        .ok_or(Kernel::INVAL)?;
    let length = u16::try_from(message.len()).map_err(|_| Kernel::INVAL)?;
    let mut rest = &[&length.to_be_bytes()[..], &message].concat()[..];
    while !rest.is_empty() {
        match send(fd, rest) {
            Ok(sent) => rest = &rest[sent..],
            Err(Kernel::AGAIN) if time.wait(fd, PollFlags::OUT, deadline)? => {}
            Err(Kernel::AGAIN) => return Err(Kernel::TIMEDOUT),
            Err(error) => return Err(error),
        }
    }
    let mut head = [0; 2];
    receive_all(fd, &mut head, deadline, time)?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(head)).min(TCP)];
    receive_all(fd, &mut reply, deadline, time)?;
    // A reply by TCP that is truncated is no reply.
    open.reply = match open.question.reply(id, &reply) {
        Some(Reply::Truncated) | None => Some(Reply::Failed),
        reply => reply,
    };
    Ok(())
}

fn socket(server: SocketAddr, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    socket_with(
        family_of(server.ip()),
        kind,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
}

/// What a third party cannot guess.
fn random_id() -> rustix::io::Result<u16> {
    let mut bytes = [0; 2];
    uninterrupted(|| getrandom(&mut bytes, GetRandomFlags::empty()))?;
    Ok(u16::from_ne_bytes(bytes))
}

fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<usize> {
    let all = 0..bytes.len();
    uninterrupted(|| {
        sys::send(
            fd,
            bytes,
            std::slice::from_ref(&all),
            libc::MSG_NOSIGNAL,
            &[],
        )
    })
}

fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    let all = 0..buffer.len();
    let received =
        uninterrupted(|| sys::receive(fd, buffer, std::slice::from_ref(&all), 0, &mut []))?;
    Ok(received.bytes)
}

fn receive_all(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    deadline: Instant,
    time: &LookUpTime<'_>,
) -> rustix::io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match receive(fd, &mut buffer[filled..]) {
            Ok(0) => return Err(Kernel::CONNRESET),
            Ok(received) => filled += received,
            Err(Kernel::AGAIN) if time.wait(fd, PollFlags::IN, deadline)? => {}
            Err(Kernel::AGAIN) => return Err(Kernel::TIMEDOUT),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
