//! Passes the descriptor of a filter's notifications to the seccomp agent, the program that answers them
//! (runtime spec, "The Container Process State").
//!
//! Connected outside, where the path of the socket means what the spec means; used inside.
#![forbid(unsafe_code)]

use std::{
    cell::OnceCell,
    collections::HashMap,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, open, readlinkat},
    sys::stat::Mode,
};
use oci_spec::runtime::LinuxSeccomp;
use rustix::{
    cmsg_space,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};
use serde_json::{Value, json};

/// Version of the runtime spec that describes the message.
const VERSION: &str = "1.0.2";

/// The seccomp agent cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenerError {
    #[error(
        "linux.seccomp.listenerPath: it is missing, and SCMP_ACT_NOTIFY asks a listener; name its \
         socket"
    )]
    Missing,
    #[error(
        "linux.seccomp.listenerPath: cannot reach the listener at {path}: {source}; start it first"
    )]
    Connect { path: PathBuf, source: io::Error },
    #[error("cannot open /proc: {0}; mount it")]
    Proc(#[source] io::Error),
}

/// A connection to the agent, which waits for the descriptor.
#[derive(Debug)]
pub(super) struct SeccompAgent {
    socket: UnixStream,
    /// The host's /proc, in which a process has its number on the host.
    proc: OwnedFd,
    /// The message, once the process knows that number.
    message: OnceCell<String>,
    metadata: String,
    /// State of the container, without its pid.
    state: Value,
}

impl SeccompAgent {
    pub(super) fn connect(
        profile: &LinuxSeccomp,
        id: &str,
        bundle: &Path,
        annotations: &HashMap<String, String>,
    ) -> Result<Self, ListenerError> {
        let path = profile
            .listener_path()
            .as_ref()
            .ok_or(ListenerError::Missing)?;
        let socket = UnixStream::connect(path).map_err(|source| ListenerError::Connect {
            path: path.clone(),
            source,
        })?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let proc =
            open("/proc", flags, Mode::empty()).map_err(|e| ListenerError::Proc(e.into()))?;
        Ok(Self {
            socket,
            proc,
            message: OnceCell::new(),
            metadata: profile.listener_metadata().clone().unwrap_or_default(),
            state: json!({
                "ociVersion": VERSION,
                "id": id,
                "status": "creating",
                "bundle": bundle,
                "annotations": annotations,
            }),
        })
    }

    /// The host's /proc.
    pub(super) fn descriptor(&self) -> RawFd {
        self.proc.as_raw_fd()
    }

    /// Writes the message, with this process's number on the host, while the host's /proc is still open
    /// and no filter makes a system call wait for the listener.
    pub(super) fn prepare(&self) -> io::Result<()> {
        let pid = readlinkat(self.proc.as_fd(), "self")?;
        let pid: i32 = pid
            .to_str()
            .and_then(|pid| pid.parse().ok())
            .ok_or_else(|| io::Error::other("/proc/self names no process"))?;
        let mut state = self.state.clone();
        state["pid"] = json!(pid);
        let message = json!({
            "ociVersion": VERSION,
            "fds": ["seccompFd"],
            "pid": pid,
            "metadata": self.metadata,
            "state": state,
        });
        self.message
            .set(message.to_string())
            .map_err(|_| io::Error::other("the message to the listener is written already"))
    }

    /// Sends `notifications`, whose filter this process is under: by sendmsg(2) and no other system call,
    /// not even one that allocates, because the listener can answer none before it has them.
    pub(super) fn hand_over(&self, notifications: &OwnedFd) -> io::Result<()> {
        let message = self
            .message
            .get()
            .ok_or_else(|| io::Error::other("the message to the listener is not written"))?;
        let fds = [notifications.as_fd()];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::Error::other(
                "the descriptor does not fit into a message",
            ));
        }
        let mut rest = message.as_bytes();
        while !rest.is_empty() {
            let text = [io::IoSlice::new(rest)];
            let sent = sendmsg(&self.socket, &text, &mut control, SendFlags::NOSIGNAL)?;
            rest = &rest[sent..];
            control.clear();
        }
        Ok(())
    }
}
