//! The server: one process for all containers of a pod, on one thread.
//!
//! Started by `start` with the listening socket as its standard input and the bundle of its first
//! container as working directory, which it leaves. Ends when containerd says so and no task is left.
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
use crate::events::Publisher;
use crate::exits::Exits;
use crate::launch::Launcher;
use crate::logger;
use crate::service::Service;
use crate::socket::Address;
use crate::sys;
use crate::task::Registry;

/// The API's name since containerd 2.0; the generated code knows no other.
const TASK_V3: &str = "containerd.task.v3.Task";
/// Its name before. Requests and answers are the same.
const TASK_V2: &str = "containerd.task.v2.Task";

/// A worker thread that has nothing to do ends after this time.
const IDLE_WORKER: Duration = Duration::from_millis(500);
/// How long the last events and undone creations may take at the end.
const LAST_WORK: Duration = Duration::from_secs(5);
/// Time for the answer to the shutdown to leave.
const LAST_ANSWER: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("no socket to serve on: this is called by the start action, with -socket")]
    NoSocket,
    #[error("take over the socket from stdin: {0}")]
    Listener(#[source] io::Error),
    #[error("open the log FIFO of the bundle: {0}")]
    Log(#[source] io::Error),
    #[error("leave the bundle for /: {0}")]
    Leave(#[source] io::Error),
    #[error("become the reaper of orphans: {0}")]
    Subreaper(#[source] nix::Error),
    #[error("start the runtime: {0}")]
    Runtime(#[source] io::Error),
    #[error("serve the Task API: {0}")]
    Ttrpc(#[from] ttrpc::Error),
    #[error(transparent)]
    Setup(#[from] Error),
}

/// Serves until containerd has no more use for it.
pub(crate) fn run(flags: &Flags) -> Result<(), ServeError> {
    sys::keep_heap_small();
    let address = Address::written(&flags.socket).ok_or(ServeError::NoSocket)?;
    logger::install(Path::new("log"), flags.debug).map_err(ServeError::Log)?;
    // The server outlives the container whose bundle this is, and where there is no working
    // directory libcontainer makes and starts no container.
    std::env::set_current_dir("/").map_err(ServeError::Leave)?;
    let result = serve(flags, &address);
    if let Err(error) = &result {
        log::error!(error:%; "the shim ends");
        // Nobody answers there any more.
        if let Err(error) = address.remove() {
            warn!(error:%; "cannot clean up");
        }
    }
    result
}

fn serve(flags: &Flags, address: &Address) -> Result<(), ServeError> {
    let listener = inherited_listener().map_err(ServeError::Listener)?;
    prctl::set_child_subreaper(true).map_err(ServeError::Subreaper)?;
    // What containerd asks for first is a container.
    cgroup::expect_move();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(IDLE_WORKER)
        .build()
        .map_err(ServeError::Runtime)?;
    let result = runtime.block_on(listen(flags, address, listener));
    // A worker may still wait for a compiler that nobody waits for; it needs no farewell.
    runtime.shutdown_background();
    result
}

/// Takes the socket from standard input, which becomes `/dev/null` as in any daemon.
fn inherited_listener() -> io::Result<UnixListener> {
    let stdin = io::stdin();
    let listener = UnixListener::from(stdin.as_fd().try_clone_to_owned()?);
    listener.local_addr()?;
    listener.set_nonblocking(true)?;
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    Ok(listener)
}

async fn listen(
    flags: &Flags,
    address: &Address,
    listener: UnixListener,
) -> Result<(), ServeError> {
    let exits = Exits::default();
    exits.watch().map_err(ServeError::Runtime)?;
    let events = Publisher::new(
        &flags.namespace,
        &std::env::var("TTRPC_ADDRESS").unwrap_or_default(),
    );
    let wanted = Arc::new(Notify::new());
    let launcher = Launcher::new(&flags.namespace, exits)?;
    let service = Service::new(launcher, events.clone(), Arc::clone(&wanted));
    let registry = service.registry().clone();
    let listener = Listener::try_from(listener).map_err(ServeError::Listener)?;
    let mut server = Server::new()
        .add_listener(listener)
        .register_service(both_versions(&service));
    server.start().await?;
    debug!(id = flags.id.as_str(), namespace = flags.namespace.as_str(); "serving");

    until_ended(&wanted, &registry).await?;

    // First of all the name: a container that starts now gets a server of its own.
    if let Err(error) = address.remove() {
        warn!(error:%; "cannot remove the socket");
    }
    settle(&registry).await;
    events.drain(LAST_WORK).await;
    tokio::time::sleep(LAST_ANSWER).await;
    Ok(())
}

/// One implementation under both names of the API.
fn both_versions(service: &Service) -> HashMap<String, Methods> {
    let v3 = create_task(Arc::new(service.clone()));
    let v2 = create_task(Arc::new(service.clone()))
        .into_iter()
        .map(|(name, methods)| (name.replace(TASK_V3, TASK_V2), methods));
    v3.into_iter().chain(v2).collect()
}

/// Waits for a shutdown that finds no task, or for a signal.
async fn until_ended(wanted: &Notify, registry: &Registry) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Runtime)?;
    loop {
        tokio::select! {
            () = wanted.notified() => {
                // A request for another container of the pod may have come since.
                if registry.is_idle() {
                    debug!("shutdown");
                    return Ok(());
                }
            }
            // As with runc's shim: containerd notices and calls the delete action.
            _ = terminate.recv() => { info!("SIGTERM: the shim ends"); return Ok(()); }
            _ = interrupt.recv() => { info!("SIGINT: the shim ends"); return Ok(()); }
        }
    }
}

/// Lets creations that were given up undo what they did.
async fn settle(registry: &Registry) {
    const LOOK: Duration = Duration::from_millis(10);
    let settled = async {
        while !registry.is_empty() && registry.is_idle() {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(LAST_WORK, settled).await.is_err() {
        // It waits for a compiler, before anything but a mount has been made; the delete action
        // that follows unmounts it.
        info!("a creation that was given up is still waiting for its compiler");
    }
}
