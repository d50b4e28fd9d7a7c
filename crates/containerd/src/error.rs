//! What a caller is told when containerd does not do what it was asked.

use std::io;
use std::path::PathBuf;

/// containerd did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// Nothing answers at the socket.
    #[error("cannot reach containerd at {socket}: {reason}; check that it runs, and run as root")]
    Unreachable {
        /// Its socket.
        socket: PathBuf,
        /// The innermost cause.
        reason: String,
    },
    /// containerd answers, but its CRI plugin is not loaded.
    #[error(
        "cannot ask the CRI plugin of containerd at {0}: it is not loaded; see why with \
         journalctl -u containerd or ctr plugins ls"
    )]
    NoCri(PathBuf),
    /// containerd refused a call.
    #[error("cannot {act}: containerd says: {reason}; its log has more")]
    Refused {
        /// What it was asked.
        act: &'static str,
        /// Its words.
        reason: String,
    },
    /// A namespace or lease has a name that gRPC metadata cannot hold.
    #[error(
        "cannot call containerd: {value:?} cannot be the value of {name}; use letters, digits \
         and dashes"
    )]
    Metadata {
        /// The metadata.
        name: &'static str,
        /// The value.
        value: String,
    },
    /// The asynchronous runtime of the call cannot be made.
    #[error("cannot call containerd: {0}; raise the limits of open files and processes")]
    Runtime(#[source] io::Error),
}
