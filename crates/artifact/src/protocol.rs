//! The messages between a client and its publisher: JSON with descriptors over a socket pair, one
//! message per packet. Both ends use this module; it depends on neither.
#![forbid(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wasm_interp_policy::CachePolicy;

use crate::error::CompileFailure;
use crate::key::Key;

/// The request to the publisher. The module's descriptor comes with it. If the code goes into the store,
/// the descriptor of the key's lock follows.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishRequest {
    pub(crate) key: Key,
    pub(crate) name: String,
    pub(crate) policy: CachePolicy,
    pub(crate) destination: Destination,
    /// The log level of the client. The publisher sends only lines up to this level.
    #[serde(with = "level")]
    pub(crate) log_level: log::LevelFilter,
}

/// Where the native code goes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "to", deny_unknown_fields)]
pub(crate) enum Destination {
    /// Into the store in this directory.
    Store { path: PathBuf },
    /// Into memory, for the client alone.
    Memory { reason: String },
}

/// A message of the publisher to its client.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "response", deny_unknown_fields)]
pub(crate) enum PublishResponse {
    /// The compiler runs. Not the last message.
    Compiling,
    /// A line for the client's log. Not the last message.
    Log {
        #[serde(with = "level")]
        level: log::Level,
        message: String,
    },
    /// The entry is in the store.
    Published { seconds: f64 },
    /// The code is in the descriptor that comes with this message.
    InMemory { seconds: f64, reason: String },
    /// There is no code.
    Failed { failure: CompileFailure },
}

/// Levels by name; the log crate has no JSON form of them in this build.
mod level {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        level: &impl Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(level)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(D::Error::custom)
    }
}

/// The longest message, in bytes. The senders limit names and reasons accordingly.
const MAX_MESSAGE: usize = 64 << 10;

/// What a sender does when the receiver's queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// Wait until the receiver reads.
    Wait,
    /// Return an error.
    Fail,
}

/// Sends one message.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
    when_full: WhenFull,
) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    if text.len() > MAX_MESSAGE {
        return Err(io::Error::other("the message is too long"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors in one message"));
    }
    let flags = match when_full {
        WhenFull::Wait => SendFlags::NOSIGNAL,
        WhenFull::Fail => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    };
    rustix::io::retry_on_intr(|| sendmsg(socket, &[IoSlice::new(&text)], &mut control, flags))?;
    Ok(())
}

/// Receives the next message; `None` when the other end is closed.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut text = vec![0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut parts = [IoSliceMut::new(&mut text)];
        recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
    });
    let length = match received {
        Ok(message) => message.bytes,
        Err(rustix::io::Errno::CONNRESET) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    if length == 0 {
        return Ok(None);
    }
    let value = serde_json::from_slice(&text[..length])?;
    Ok(Some((value, descriptors)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Seek as _, Write as _};
    use std::os::fd::AsFd as _;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC;
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    #[test]
    fn a_message_arrives_with_its_descriptor() {
        let (ours, theirs) = pair();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"code").unwrap();
        file.rewind().unwrap();
        let sent = PublishResponse::InMemory {
            seconds: 1.5,
            reason: "full".to_owned(),
        };
        send(ours.as_fd(), &sent, &[file.as_fd()], WhenFull::Wait).unwrap();
        drop(ours);
        let (received, mut descriptors) =
            receive::<PublishResponse>(theirs.as_fd()).unwrap().unwrap();
        assert!(matches!(received, PublishResponse::InMemory { reason, .. } if reason == "full"));
        let mut text = String::new();
        File::from(descriptors.remove(0))
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "code");
        assert!(
            receive::<PublishResponse>(theirs.as_fd())
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_log_line_never_waits_for_a_reader() {
        let (ours, _theirs) = pair();
        let line = PublishResponse::Log {
            level: log::Level::Warn,
            message: "x".repeat(1000),
        };
        let full = (0..10_000).find_map(|_| send(ours.as_fd(), &line, &[], WhenFull::Fail).err());
        assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
    }
}
