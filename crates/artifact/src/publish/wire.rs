//! What the asker and the publisher say to each other, and how: JSON messages with descriptors over
//! a socket pair. Neither end trusts the other with memory: a message is a message.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::key::Key;
use crate::store::StoreConfig;

/// What is to be compiled. The module's descriptor comes with it, and after it the key's lock
/// where there is a store.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Job {
    pub(super) key: Key,
    pub(super) name: String,
    pub(super) config: StoreConfig,
    pub(super) store: Destination,
}

/// Where the native code goes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "to", deny_unknown_fields)]
pub(super) enum Destination {
    /// Into the store.
    Store { path: PathBuf },
    /// Into memory, for the asker alone.
    Memory { reason: String },
}

/// How it goes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "report", deny_unknown_fields)]
pub(super) enum Report {
    /// The compiler has begun.
    Compiling,
    /// The entry is in the store.
    Published { seconds: f64 },
    /// The code is in the descriptor that comes along.
    InMemory { seconds: f64, reason: String },
    /// There is none.
    Failed { failure: Failure },
}

/// Longer than any message: names and reasons are bounded by their makers.
const LONGEST: usize = 64 << 10;

pub(super) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    descriptors: &[RawFd],
) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    if text.len() > LONGEST {
        return Err(io::Error::other("the message is too long"));
    }
    let rights = [ControlMessage::ScmRights(descriptors)];
    let rights = if descriptors.is_empty() {
        &[][..]
    } else {
        &rights[..]
    };
    let parts = [IoSlice::new(&text)];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &parts,
        rights,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// The next message; `None` when the other end is gone.
pub(super) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut text = vec![0; LONGEST];
    let mut control = nix::cmsg_space!([RawFd; 2]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(nix::errno::Errno::ECONNRESET) => return Ok(None),
            result => break result?,
        }
    };
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: the kernel has just made these descriptors for this process; nobody else
            // knows them, and each becomes owned once.
            descriptors.extend(
                received
                    .iter()
                    .map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }),
            );
        }
    }
    let length = message.bytes;
    if length == 0 {
        return Ok(None);
    }
    let value = serde_json::from_slice(&text[..length])?;
    Ok(Some((value, descriptors)))
}
