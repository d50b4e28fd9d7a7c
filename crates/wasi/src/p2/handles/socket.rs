//! The descriptor of a socket.
//!
//! Others make connections, so the bound on handles must not be what ends a server: a handle too many is a trap. So a
//! guest has no more sockets than it has handles for, with all that it needs of each.
#![forbid(unsafe_code)]

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, OnceLock},
};

use rustix::io::Errno as Kernel;

use super::slots::CountedSlot;
use crate::limits;

/// The handles of a connection: the socket, its two streams, and what a guest waits for by each of the three. The
/// other two are for what a guest opens to answer, such as a file and its stream.
const OF_EACH: usize = 8;
const _: () = assert!(limits::SOCKETS * OF_EACH <= limits::HANDLES);

/// A socket, as long as one of its handles or streams is there.
#[derive(Debug)]
pub struct SocketFd {
    fd: OwnedFd,
    /// Why its connection is lost. The kernel says that once, to the call that comes first: a read, or a write that
    /// may be one of ours, of what was kept. Both streams have to know.
    lost: OnceLock<Kernel>,
    _slot: CountedSlot,
}

impl SocketFd {
    pub(in crate::p2) fn new(fd: OwnedFd, slot: CountedSlot) -> Arc<Self> {
        Arc::new(Self {
            fd,
            lost: OnceLock::new(),
            _slot: slot,
        })
    }

    /// A call has failed. If that says that the connection is lost, it is the reason; the first one counts.
    pub(super) fn lose(&self, why: Kernel) {
        let is_lost = matches!(
            why,
            Kernel::CONNRESET
                | Kernel::CONNABORTED
                | Kernel::TIMEDOUT
                | Kernel::HOSTUNREACH
                | Kernel::NETUNREACH
                | Kernel::HOSTDOWN
                | Kernel::NETDOWN
        );
        if is_lost {
            self.lost.get_or_init(|| why);
        }
    }

    pub(super) fn lost(&self) -> Option<Kernel> {
        self.lost.get().copied()
    }
}

impl AsFd for SocketFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
