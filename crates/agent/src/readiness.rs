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
        // Another process may take the port in between: then another one is tried.
        let mut seen = Vec::new();
        for _ in 0..5 {
            let port = listen(0).await.unwrap().local_addr().unwrap().port();
            seen = while_ready_and_not(port).await;
            if seen == [false, true, false, true, false] {
                return;
            }
        }
        panic!("whether the port was open before, while ready and while not, twice: {seen:?}");
    }

    async fn while_ready_and_not(port: u16) -> Vec<bool> {
        let mut readiness = Readiness::closed(port);
        let is_open = || async { TcpStream::connect(("127.0.0.1", port)).await.is_ok() };
        let mut seen = vec![is_open().await];
        for _ in 0..2 {
            readiness.set(true).await;
            readiness.set(true).await;
            seen.push(is_open().await);
            readiness.set(false).await;
            seen.push(is_open().await);
        }
        seen
    }
}
