//! The server's socket: its name, its making, and whether somebody answers on it.
//!
//! Called by `start` (makes it), `serve` and `cleanup` (remove it).
#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

const SCHEME: &str = "unix://";

/// Address of a shim's socket, `unix://…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address(String);

/// What became of the wish for a socket.
#[derive(Debug)]
pub(crate) enum Made {
    /// A fresh one, listening.
    Listener(UnixListener),
    /// A server of the same group answers there already.
    Served,
}

/// The socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{act} the shim's socket {path}: {source}")]
pub(crate) struct SocketError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Address {
    /// The name containerd's own shims use: a digest of containerd, namespace and group, so that
    /// two containerds on a node never meet.
    pub(crate) fn new(dir: &Path, grpc_address: &str, namespace: &str, group: &str) -> Self {
        let path = Path::new(grpc_address).join(namespace).join(group);
        let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
        let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("{SCHEME}{}", dir.join(name).display()))
    }

    /// An address that containerd or an earlier run wrote down.
    pub(crate) fn written(text: &str) -> Option<Self> {
        text.trim()
            .strip_prefix(SCHEME)
            .filter(|path| path.starts_with('/'))
            .map(|path| Self(format!("{SCHEME}{path}")))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn path(&self) -> &Path {
        Path::new(self.0.trim_start_matches(SCHEME))
    }

    /// Listens, unless a server does so already. A socket left behind by a dead one is replaced.
    pub(crate) fn listen(&self) -> Result<Made, SocketError> {
        let path = self.path();
        let failed = |act| {
            move |source| SocketError {
                act,
                path: path.to_owned(),
                source,
            }
        };
        if let Some(dir) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(failed("make the directory of"))?;
        }
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if self.answers() {
                    return Ok(Made::Served);
                }
                fs::remove_file(path).map_err(failed("remove what a dead shim left of"))?;
                UnixListener::bind(path)
            }
            other => other,
        }
        .map_err(failed("listen on"))?;
        fs::set_permissions(path, Permissions::from_mode(0o600))
            .map_err(failed("restrict the mode of"))?;
        Ok(Made::Listener(listener))
    }

    /// Whether a server accepts connections there.
    pub(crate) fn answers(&self) -> bool {
        UnixStream::connect(self.path()).is_ok()
    }

    /// Removes the socket; whoever listens goes on with the connections there are.
    pub(crate) fn remove(&self) -> Result<(), SocketError> {
        let path = self.path();
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.file_type().is_socket() => fs::remove_file(path),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
        .or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })
        .map_err(|source| SocketError {
            act: "remove",
            path: path.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_containerds() {
        let address = Address::new(
            Path::new("/run/containerd/s"),
            "/run/containerd/containerd.sock",
            "default",
            "x",
        );
        // printf '/run/containerd/containerd.sock/default/x' | sha256sum
        assert_eq!(
            address.as_str(),
            "unix:///run/containerd/s/\
             5e250b13f984a15f73216d143af1bf3c64171aa56c781ba9d4040c75b2c1eee2"
        );
        assert_eq!(Address::written(address.as_str()), Some(address));
        assert_eq!(Address::written("vsock://3:1"), None);
    }

    #[test]
    fn one_listens_the_next_is_served_a_dead_one_is_replaced() {
        let dir = tempfile::tempdir().expect("tempdir");
        let address = Address::new(&dir.path().join("s"), "/c", "n", "g");
        let Made::Listener(listener) = address.listen().expect("listen") else {
            panic!("nobody listens yet");
        };
        assert!(matches!(address.listen().expect("listen"), Made::Served));
        drop(listener);
        assert!(!address.answers());
        assert!(matches!(
            address.listen().expect("listen"),
            Made::Listener(_)
        ));
        address.remove().expect("remove");
        address.remove().expect("remove what is not there");
    }
}
