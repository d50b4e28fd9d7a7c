//! What is known of a socket of the guest's besides what the kernel knows.
//!
//! Kept in its [`Description`](crate::descriptors::Description), so that all numbers of a socket share it.
#![forbid(unsafe_code)]

use std::{
    collections::{HashSet, VecDeque},
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::net::{AddressFamily, SocketType};
use wasm_interp_network::Transport;

use crate::{
    abi::types,
    errno::{Errno, Result},
    limits,
};

/// The family of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Inet,
    Inet6,
    Unix,
}

impl Family {
    pub(crate) fn new(number: types::AddressFamily) -> Result<Self> {
        match i32::from(number) {
            libc::AF_INET => Ok(Self::Inet),
            libc::AF_INET6 => Ok(Self::Inet6),
            libc::AF_UNIX => Ok(Self::Unix),
            _ => Err(Errno::Afnosupport),
        }
    }

    pub(crate) fn of_kernel(self) -> AddressFamily {
        match self {
            Self::Inet => AddressFamily::INET,
            Self::Inet6 => AddressFamily::INET6,
            Self::Unix => AddressFamily::UNIX,
        }
    }
}

/// The type of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketKind {
    Stream,
    Datagram,
}

impl SocketKind {
    pub(crate) fn new(number: types::SocketType) -> Result<Self> {
        match i32::try_from(number) {
            Ok(libc::SOCK_STREAM) => Ok(Self::Stream),
            Ok(libc::SOCK_DGRAM) => Ok(Self::Datagram),
            _ => Err(Errno::Protonosupport),
        }
    }

    pub(crate) fn of_kernel(self) -> SocketType {
        match self {
            Self::Stream => SocketType::STREAM,
            Self::Datagram => SocketType::DGRAM,
        }
    }

    /// Of an Internet address.
    pub(crate) fn transport(self) -> Transport {
        match self {
            Self::Stream => Transport::Tcp,
            Self::Datagram => Transport::Udp,
        }
    }
}

/// Whether a socket is one of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketOrigin {
    ByKernel,
    /// One end of a pair, which needs no grant: without one, the kernel does less with it.
    Pair,
    /// No grant asks for sockets of its family, and then the kernel makes none. It exists to say at
    /// its first use which address is not granted.
    InName,
}

/// A socket that was made for the guest.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) family: Family,
    pub(crate) kind: SocketKind,
    pub(crate) made: SocketOrigin,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Where it is bound, for a Unix socket: the path as the guest has passed it.
    pub(crate) path: Option<Vec<u8>>,
    /// Of a UDP socket that is bound where it may listen: from where datagrams have come.
    pub(crate) heard: Option<Heard>,
}

impl Socket {
    pub(crate) fn new(family: Family, kind: SocketKind, made: SocketOrigin) -> Self {
        let state = Mutex::default();
        Self {
            family,
            kind,
            made,
            state,
        }
    }

    /// Held for a moment, never while a call may block.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last senders that a UDP listener has heard, which it may answer.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    senders: HashSet<SocketAddr>,
    /// The oldest one first.
    order: VecDeque<SocketAddr>,
}

impl Heard {
    pub(crate) fn add(&mut self, sender: SocketAddr) {
        if !self.senders.insert(sender) {
            return;
        }
        self.order.push_back(sender);
        if self.order.len() > limits::HEARD
            && let Some(oldest) = self.order.pop_front()
        {
            self.senders.remove(&oldest);
        }
    }

    pub(crate) fn contains(&self, sender: &SocketAddr) -> bool {
        self.senders.contains(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_forgotten_oldest_first() {
        let sender = |port: usize| SocketAddr::from(([10, 0, 0, 1], port as u16));
        let mut heard = Heard::default();
        for port in 0..=limits::HEARD {
            heard.add(sender(port));
            heard.add(sender(port));
        }
        assert!(!heard.contains(&sender(0)));
        assert!(heard.contains(&sender(1)) && heard.contains(&sender(limits::HEARD)));
        assert_eq!(heard.order.len(), heard.senders.len());
    }

    #[test]
    fn families_and_types_are_a_list() {
        for number in [0, 3, 16, 17, 40, u16::MAX] {
            assert_eq!(Family::new(number).err(), Some(Errno::Afnosupport));
        }
        for number in [0, 3, 4, 5, 10, 0x801, u32::MAX] {
            assert_eq!(SocketKind::new(number).err(), Some(Errno::Protonosupport));
        }
    }
}
