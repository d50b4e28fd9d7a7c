//! The port of the readiness probe: it accepts TCP connections while the node runs Wasm pods. Used by `agent`; reads and
//! writes nothing on a connection.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tracing::warn;

/// The port, open or not.
pub(crate) struct Readiness {
    port: u16,
    open: Option<JoinHandle<()>>,
}

impl Readiness {
    pub(crate) fn closed(port: u16) -> Self {
        Self { port, open: None }
    }

    /// Opens or closes the port.
    pub(crate) async fn set(&mut self, ready: bool) {
        if !ready {
            if let Some(task) = self.open.take() {
                task.abort();
                // The port is closed when the task has ended.
                let _ = task.await;
            }
        } else if self.open.is_none() {
            match listen(self.port).await {
                Ok(listener) => self.open = Some(tokio::spawn(answer(listener))),
                Err(error) => warn!(
                    "cannot listen on port {} for the readiness probe: {error}",
                    self.port
                ),
            }
        }
    }
}

/// Listens on IPv6 and IPv4, or on IPv4 only if there is no IPv6.
async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await,
        bound => bound,
    }
}

async fn answer(listener: TcpListener) {
    loop {
        // The probe needs only the connection.
        if let Err(error) = listener.accept().await {
            warn!("cannot accept a readiness probe: {error}");
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn port_is_open_only_while_ready() {
        let port = listen(0).await.unwrap().local_addr().unwrap().port();
        let mut readiness = Readiness::closed(port);
        assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
        for _ in 0..2 {
            readiness.set(true).await;
            readiness.set(true).await;
            assert!(TcpStream::connect(("127.0.0.1", port)).await.is_ok());
            readiness.set(false).await;
            assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
        }
    }
}
