//! The server's socket: its name, how it is made, and whether a server responds on it.
//!
//! Called by `bootstrap` (makes it), `serve` (serves it), `cleanup` and `bundle`. Of the Task API it
//! knows only one request without an effect.
#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd_shim_protos::api::ConnectRequest;
use containerd_shim_protos::shim_async::{Client, TaskClient};
use containerd_shim_protos::ttrpc::{self, context::Context};
use nix::sys::socket::{UnixAddr, getpeername, getsockname};
use sha2::{Digest, Sha256};

const SCHEME: &str = "unix://";
/// How long a server may take for a response before it counts as busy. containerd waits five seconds
/// for the delete action.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Address of a shim's socket, `unix://…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address(String);

/// The result of [`Address::listen`].
#[derive(Debug)]
pub(crate) enum Listening {
    /// A new socket.
    Listener(UnixListener),
    /// A server of the same group serves the socket already.
    Served,
}

/// The socket cannot be made or removed.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot {act} the shim's socket {path}: {source}; look at the permissions of its directory"
)]
pub(crate) struct SocketError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Address {
    /// The same name as containerd's shims use: a digest of containerd's address, the namespace and
    /// the group. So two containerds on a node have different sockets.
    pub(crate) fn new(dir: &Path, grpc_address: &str, namespace: &str, group: &str) -> Self {
        let path = Path::new(grpc_address).join(namespace).join(group);
        let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
        let name = hex::encode(digest);
        Self(format!("{SCHEME}{}", dir.join(name).display()))
    }

    /// Reads an address that containerd or `start` wrote.
    pub(crate) fn parse(text: &str) -> Option<Self> {
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

    /// Listens, unless a server serves the socket already. Replaces the socket of a dead server.
    pub(crate) fn listen(&self) -> Result<Listening, SocketError> {
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
                .map_err(failed("create the directory of"))?;
        }
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if self.is_served() {
                    return Ok(Listening::Served);
                }
                fs::remove_file(path).map_err(failed("replace"))?;
                UnixListener::bind(path)
            }
            other => other,
        }
        .map_err(failed("listen on"))?;
        fs::set_permissions(path, Permissions::from_mode(0o600))
            .map_err(failed("restrict the mode of"))?;
        Ok(Listening::Listener(listener))
    }

    /// Whether a server serves the socket: it responds to a request. A server that does not respond
    /// in time counts too, because it may be busy.
    ///
    /// A connection alone is no sign of a server: the kernel accepts connections for a process that
    /// has been killed until it closes the process's files. Then it resets them, so the request
    /// fails.
    ///
    /// Not to be called from a runtime of Tokio.
    pub(crate) fn is_served(&self) -> bool {
        self.is_served_within(RESPONSE_TIMEOUT)
    }

    fn is_served_within(&self, timeout: Duration) -> bool {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        else {
            // It cannot ask. A living server's containers must not be removed.
            return true;
        };
        let response = async { tokio::time::timeout(timeout, self.ask()).await };
        match runtime.block_on(response) {
            Ok(response) => matches!(response, Ok(()) | Err(ttrpc::Error::RpcStatus(_))),
            Err(_elapsed) => true,
        }
    }

    /// Sends a request that changes nothing.
    async fn ask(&self) -> ttrpc::Result<()> {
        let client = TaskClient::new(Client::connect(self.as_str()).await?);
        let request = ConnectRequest::default();
        client.connect(Context::default(), &request).await?;
        Ok(())
    }

    /// How many clients are connected to the server that this process is: each of its ends of a connection has this
    /// name and a peer.
    ///
    /// The kernel's table of Unix sockets (`/proc/net/unix`) does not tell, because every process of the network
    /// namespace writes names of its own into it, with any bytes.
    pub(crate) fn connections(&self) -> io::Result<usize> {
        let mut count = 0;
        for entry in fs::read_dir("/proc/self/fd")? {
            let name = entry?.file_name();
            let Some(fd) = name.to_str().and_then(|name| name.parse::<RawFd>().ok()) else {
                continue;
            };
            // Other files have no such name, and the listening socket has no peer.
            let is_ours =
                getsockname::<UnixAddr>(fd).is_ok_and(|own| own.path() == Some(self.path()));
            if is_ours && getpeername::<UnixAddr>(fd).is_ok() {
                count += 1;
            }
        }
        Ok(count)
    }

    /// Removes the socket. Its server keeps the connections that exist.
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
    use std::thread;

    use containerd_shim_protos::ttrpc::r#async::Server;
    use containerd_shim_protos::ttrpc::r#async::transport::Listener;

    use super::*;

    /// An address in `dir` and the socket that listens there.
    fn listening(dir: &tempfile::TempDir) -> (Address, UnixListener) {
        let address = Address::new(&dir.path().join("s"), "/c", "n", "g");
        match address.listen().expect("listen") {
            Listening::Listener(listener) => (address, listener),
            Listening::Served => panic!("no server exists yet"),
        }
    }

    #[test]
    fn connections_are_counted_until_they_are_closed() {
        let folder = tempfile::tempdir().expect("tempdir");
        let address = Address::new(folder.path(), "/c", "ns", "id");
        let Listening::Listener(listener) = address.listen().expect("listen") else {
            panic!("a new socket expected");
        };
        let connections = || address.connections().expect("count");
        assert_eq!(connections(), 0);
        let client = std::os::unix::net::UnixStream::connect(address.path()).expect("connect");
        let (end, _) = listener.accept().expect("accept");
        assert_eq!(connections(), 1);
        drop((client, end));
        assert_eq!(connections(), 0);
    }

    /// Every process of the node's network namespace can bind such names.
    #[test]
    fn names_that_other_processes_bind_do_not_count_and_are_no_error() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::SocketAddr;
        // A short path: the name of a socket has 107 bytes.
        let folder = tempfile::tempdir_in("/tmp").expect("tempdir");
        let address = Address::new(folder.path(), "/c", "ns", "id");
        let Listening::Listener(listener) = address.listen().expect("listen") else {
            panic!("a new socket expected");
        };
        // A line of the kernel's table like that of a connection.
        let forged = format!("\n0 0 0 0 0 0 0 {}", address.path().display());
        let no_text = [
            b"\xff".as_slice(),
            folder.path().as_os_str().as_encoded_bytes(),
        ];
        let strangers = [no_text.concat(), forged.into_bytes()].map(|name| {
            let name = SocketAddr::from_abstract_name(name).expect("a name");
            UnixListener::bind_addr(&name).expect("bind")
        });
        assert_eq!(address.connections().expect("count"), 0);
        let _client = std::os::unix::net::UnixStream::connect(address.path()).expect("connect");
        let _end = listener.accept().expect("accept");
        assert_eq!(address.connections().expect("count"), 1);
        drop(strangers);
    }

    #[test]
    fn socket_has_the_name_that_containerds_shims_use() {
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
        assert_eq!(Address::parse(address.as_str()), Some(address));
        assert_eq!(Address::parse("vsock://3:1"), None);
    }

    /// The server has no service, so its response is an error. It is a response all the same.
    #[test]
    fn socket_with_a_server_is_kept_and_that_of_a_dead_server_is_replaced() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (address, listener) = listening(&dir);
        listener.set_nonblocking(true).expect("non-blocking");
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let server = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("runtime");
            runtime.block_on(async {
                let listener = Listener::try_from(listener).expect("listener");
                let mut server = Server::new().add_listener(listener);
                server.start().await.expect("start");
                ended.await.expect("the test ends the server");
            });
        });
        assert!(address.is_served());
        assert!(matches!(
            address.listen().expect("listen"),
            Listening::Served
        ));
        end.send(()).expect("the server runs");
        server.join().expect("join");
        assert!(!address.is_served());
        assert!(matches!(
            address.listen().expect("listen"),
            Listening::Listener(_)
        ));
        address.remove().expect("remove");
        address
            .remove()
            .expect("remove a socket that does not exist");
    }

    /// Its containers must not be removed because it is busy.
    #[test]
    fn server_that_does_not_respond_in_time_counts_as_living() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (address, _listener) = listening(&dir);
        assert!(address.is_served());
    }

    /// Guards against taking a killed server, whose files the kernel has not closed yet, for a
    /// living one.
    #[test]
    fn server_that_ends_after_it_was_connected_to_does_not_count_as_living() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (address, listener) = listening(&dir);
        let dying = thread::spawn(move || {
            let connection = listener.accept().expect("the probe connects");
            drop((listener, connection));
        });
        assert!(!address.is_served_within(Duration::from_secs(120)));
        dying.join().expect("join");
    }
}
