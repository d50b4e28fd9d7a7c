//! The server: one process for all containers of a pod, on one thread. Called by `main`.
//!
//! `bootstrap` starts it with the listening socket as standard input, in the bundle of its first container. It ends when
//! containerd requests a shutdown and no task is left, or when no client is connected before the first task. It knows
//! no verb.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::shim_async::create_task;
use containerd_shim_protos::ttrpc;
use containerd_shim_protos::ttrpc::r#async::transport::Listener;
use containerd_shim_protos::ttrpc::r#async::{Server, Service as Methods};
use log::{debug, info, warn};
use nix::sys::prctl;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::args::Flags;
use crate::cgroup;
use crate::error::Error;
use crate::launch::Launcher;
use crate::logger;
use crate::publisher::Publisher;
use crate::reaper::Reaper;
use crate::service::Service;
use crate::socket::Address;
use crate::sys;
use crate::task::Registry;

/// The API's name since containerd 2.0, the only one in the generated code.
const TASK_V3: &str = "containerd.task.v3.Task";
/// Its name before. Requests and responses are the same.
const TASK_V2: &str = "containerd.task.v2.Task";

/// A worker thread without work ends after this time.
const IDLE_WORKER: Duration = Duration::from_millis(500);
/// How often a server without a task looks whether a client is connected. containerd connects at once and stays so,
/// unless `start` was killed (when its client gives up) or containerd has failed after it (on a full disk it cannot note
/// the shim). Then it knows of no server.
const CLIENT_CHECK: Duration = Duration::from_secs(15);
/// How long each step of the end may take.
const END_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("cannot serve the Task API: no socket on stdin; let containerd start this program")]
    NoSocket,
    #[error("cannot use stdin as the server's socket: {0}; let containerd start this program")]
    Listener(#[source] io::Error),
    #[error("cannot open the bundle's log: {0}; let containerd start the shim")]
    Log(#[source] io::Error),
    #[error("cannot change the working directory to /: {0}; look at its permissions")]
    ChangeDirectory(#[source] io::Error),
    #[error("cannot become the subreaper of containers: {0}; use Linux 5.12 or later")]
    Subreaper(#[source] nix::Error),
    #[error("cannot start the event loop: {0}; look at the limit of open files")]
    Runtime(#[source] io::Error),
    #[error("cannot serve the Task API: {0}; look at the limits of memory and open files")]
    Ttrpc(#[from] ttrpc::Error),
    #[error(transparent)]
    Setup(#[from] Error),
}

/// Serves until containerd requests a shutdown, or a signal ends the server.
pub(crate) fn run(flags: &Flags) -> Result<(), ServeError> {
    sys::keep_heap_small();
    let address = Address::parse(&flags.socket).ok_or(ServeError::NoSocket)?;
    // containerd may have removed the bundle already: then it knows of no server.
    let result = set_up(flags).and_then(|()| serve(flags, &address));
    if let Err(error) = &result {
        log::error!(error:%; "the shim ends");
        // No server responds there any more.
        if let Err(error) = address.remove() {
            warn!(error:%; "cannot remove the socket of this shim");
        }
    }
    result
}

fn set_up(flags: &Flags) -> Result<(), ServeError> {
    logger::install(Path::new("log"), flags.debug).map_err(ServeError::Log)?;
    // The server may outlive this bundle, and libcontainer creates no container if the working
    // directory is removed.
    std::env::set_current_dir("/").map_err(ServeError::ChangeDirectory)
}

fn serve(flags: &Flags, address: &Address) -> Result<(), ServeError> {
    let listener = inherited_listener().map_err(ServeError::Listener)?;
    prctl::set_child_subreaper(true).map_err(ServeError::Subreaper)?;
    // containerd's first request will be to create a container.
    cgroup::prepare_first_move();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(IDLE_WORKER)
        .build()
        .map_err(ServeError::Runtime)?;
    let result = runtime.block_on(listen(flags, address, listener));
    // A worker may still wait for the compile of a cancelled container. This does not wait for it.
    runtime.shutdown_background();
    result
}

/// Takes the socket from standard input, which becomes `/dev/null`.
fn inherited_listener() -> io::Result<UnixListener> {
    let stdin = io::stdin();
    let listener = UnixListener::from(stdin.as_fd().try_clone_to_owned()?);
    listener.local_addr()?;
    listener.set_nonblocking(true)?;
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    Ok(listener)
}

/// Requests the end of this server if no client is connected before its first task.
async fn watch_clients(address: Address, registry: Registry, shutdown: Arc<Notify>) {
    loop {
        tokio::time::sleep(CLIENT_CHECK).await;
        if !registry.is_idle() {
            return;
        }
        match address.connections() {
            Ok(0) => {
                info!("no client is connected: containerd knows of no server");
                shutdown.notify_one();
                return;
            }
            Ok(_) => {}
            // As when there is no room for another open file: the next look may succeed.
            Err(error) => warn!(error:%; "cannot learn whether a client is connected"),
        }
    }
}

async fn listen(
    flags: &Flags,
    address: &Address,
    listener: UnixListener,
) -> Result<(), ServeError> {
    let reaper = Reaper::default();
    reaper.watch().map_err(ServeError::Runtime)?;
    let publisher = Publisher::new(
        &flags.namespace,
        &std::env::var("TTRPC_ADDRESS").unwrap_or_default(),
    );
    let shutdown = Arc::new(Notify::new());
    let launcher = Launcher::new(&flags.namespace, reaper)?;
    let service = Service::new(launcher, publisher.clone(), Arc::clone(&shutdown));
    let registry = service.registry().clone();
    tokio::spawn(watch_clients(
        address.clone(),
        registry.clone(),
        Arc::clone(&shutdown),
    ));
    let listener = Listener::try_from(listener).map_err(ServeError::Listener)?;
    let mut server = Server::new()
        .add_listener(listener)
        .register_service(both_versions(&service));
    server.start().await?;
    debug!(id = flags.id.as_str(), namespace = flags.namespace.as_str(); "serving");

    let end = wait_for_end(&shutdown, &registry).await?;

    // The name goes first, so that a container that starts now gets a new server.
    if let Err(error) = address.remove() {
        warn!(error:%; "cannot remove the socket of this shim");
    }
    let undone = tokio::time::timeout(END_TIMEOUT, registry.cancelled_undone()).await;
    publisher.drain(END_TIMEOUT).await;
    match (end, undone) {
        (End::Shutdown, Ok(())) => send_last_responses(&mut server).await?,
        (End::Shutdown, Err(_elapsed)) => {
            // So far only a mount has been made for it. The delete action, which follows, removes it.
            info!("a cancelled creation still waits for its compile when the shim ends");
        }
        // Requests that wait for the end of a container get no response, as with runc's shim.
        (End::Signal, _) => {}
    }
    Ok(())
}

/// Waits until the responses to all requests are sent, that to the shutdown among them.
async fn send_last_responses(server: &mut Server) -> Result<(), ServeError> {
    match tokio::time::timeout(END_TIMEOUT, server.shutdown()).await {
        Ok(sent) => Ok(sent?),
        Err(_elapsed) => {
            warn!("cannot send the last responses: a client does not read them; they are lost");
            Ok(())
        }
    }
}

/// Registers one implementation under both names of the API.
fn both_versions(service: &Service) -> HashMap<String, Methods> {
    let v3 = create_task(Arc::new(service.clone()));
    let v2 = create_task(Arc::new(service.clone()))
        .into_iter()
        .map(|(name, methods)| (name.replace(TASK_V3, TASK_V2), methods));
    v3.into_iter().chain(v2).collect()
}

/// Why the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// containerd has requested it, or knows of no server.
    Shutdown,
    Signal,
}

/// Waits for a shutdown when there is no task, or for a signal.
async fn wait_for_end(shutdown: &Notify, registry: &Registry) -> Result<End, ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Runtime)?;
    loop {
        tokio::select! {
            () = shutdown.notified() => {
                // A request for another container of the pod may have arrived since.
                if registry.is_idle() {
                    debug!("shutdown");
                    return Ok(End::Shutdown);
                }
            }
            // As with runc's shim, containerd notices the end and calls the delete action.
            _ = terminate.recv() => { info!("SIGTERM: the shim ends"); return Ok(End::Signal); }
            _ = interrupt.recv() => { info!("SIGINT: the shim ends"); return Ok(End::Signal); }
        }
    }
}
