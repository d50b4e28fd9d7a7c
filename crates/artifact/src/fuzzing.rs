//! What the fuzz targets (`fuzz/targets`) reach of this crate's private functions. Built only with
//! `--cfg fuzzing`, which `scripts/fuzz` sets.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::key::Key;
use crate::protocol::{self, PublishRequest, PublishResponse, WhenFull};
use crate::store::dir::StoreDir;
use crate::store::entry::{self, Verification};

/// Opens the code of an entry as a start does: by the digest recorded for the file, if there is one.
///
/// # Errors
/// Why the entry cannot be used.
pub fn open_entry(root: &Path, key: &Key) -> Result<File, String> {
    let dir = StoreDir::open(root).map_err(|error| error.to_string())?;
    let (file, _) =
        entry::open(&dir, key, Verification::ByStamp).map_err(|error| error.to_string())?;
    Ok(file)
}

/// The request that a publisher reads from `packet`, and the one that it reads when that is sent again.
///
/// # Errors
/// If the packet is no request.
pub fn read_request(packet: &[u8]) -> io::Result<[String; 2]> {
    read_twice::<PublishRequest>(packet)
}

/// The same for the response that a client reads.
///
/// # Errors
/// If the packet is no response.
pub fn read_response(packet: &[u8]) -> io::Result<[String; 2]> {
    read_twice::<PublishResponse>(packet)
}

fn read_twice<T: Serialize + DeserializeOwned>(packet: &[u8]) -> io::Result<[String; 2]> {
    let first: T = received(|socket| Ok(send(socket, packet, SendFlags::NOSIGNAL).map(drop)?))?;
    let again: T = received(|socket| {
        protocol::send(socket.as_fd(), &first, &[socket.as_fd()], WhenFull::Fail)
    })?;
    let text = |message: &T| serde_json::to_string(message);
    Ok([text(&first)?, text(&again)?])
}

fn received<T: DeserializeOwned>(send: impl FnOnce(&OwnedFd) -> io::Result<()>) -> io::Result<T> {
    let kind = SocketType::SEQPACKET;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    send(&ours)?;
    drop(ours);
    let message = protocol::receive(theirs.as_fd())?;
    let (value, _descriptors) = message.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(value)
}
