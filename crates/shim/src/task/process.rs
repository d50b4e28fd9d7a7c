//! One process of a container: its stdio, its state and its exit.
//!
//! Owned by a [`super::Container`], which decides when a state changes. Here the init process and a
//! further one are the same.
#![forbid(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use log::warn;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::lock;
use super::state::ProcessState;
use crate::error::Error;
use crate::io::{HeldStdio, StdioError, StdioPaths};
use crate::reaper::{ContainerProcess, Exit};

/// A client that writes stdin and ends before the start is noticed until this long after the start.
const EARLY_CLOSE: Duration = Duration::from_secs(1);

/// A process of a container.
pub(crate) struct Process {
    /// To signal it and to wait for it. A further process has it from its start on.
    child: OnceLock<ContainerProcess>,
    stdio_paths: StdioPaths,
    stdio: Mutex<ProcessIo>,
    state: watch::Sender<ProcessState>,
    /// Whether a client has requested SIGKILL.
    sigkill_requested: AtomicBool,
}

/// The shim's side of a process's stdio.
enum ProcessIo {
    /// It has not been opened yet. A client may have closed stdin already.
    NotOpen {
        stdin: ClientStdin,
    },
    Held(HeldStdio),
    Closed,
}

/// What the client of a process that has no stdio yet has requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientStdin {
    Open,
    Closed,
}

impl Process {
    /// A process that is not there yet.
    pub(super) fn new(stdio_paths: StdioPaths) -> Self {
        Self {
            child: OnceLock::new(),
            stdio_paths,
            stdio: Mutex::new(ProcessIo::NotOpen {
                stdin: ClientStdin::Open,
            }),
            state: watch::Sender::new(ProcessState::Created),
            sigkill_requested: AtomicBool::new(false),
        }
    }

    /// The process is there. To be called once.
    pub(super) fn begin(&self, child: ContainerProcess, stdio: HeldStdio) {
        let mut held = self.lock_stdio();
        if let ProcessIo::NotOpen {
            stdin: ClientStdin::Closed,
        } = *held
        {
            stdio.close_stdin();
        }
        *held = ProcessIo::Held(stdio);
        // Only the first call of this function finds it empty.
        drop(self.child.set(child));
    }

    /// 0 before the process is there.
    pub(crate) fn pid(&self) -> u32 {
        self.child
            .get()
            .map_or(0, |child| child.pid().unsigned_abs())
    }

    pub(super) fn child(&self) -> Result<&ContainerProcess, Error> {
        self.child.get().ok_or(Error::NotStarted)
    }

    pub(crate) fn stdio_paths(&self) -> &StdioPaths {
        &self.stdio_paths
    }

    pub(crate) fn state(&self) -> ProcessState {
        *self.state.borrow()
    }

    /// To be called while the container's events are locked.
    pub(super) fn set_state(&self, state: ProcessState) {
        self.state.send_replace(state);
    }

    /// Waits for the end of the process, until its exit event is queued.
    pub(crate) async fn wait(&self) -> Exit {
        let mut states = self.state.subscribe();
        loop {
            let state = *states.borrow_and_update();
            if let Some(exit) = state.exit() {
                return exit;
            }
            if states.changed().await.is_err() {
                // The sender lives as long as `self`, so this is never reached.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until the process has ended, and reaps it. What it has printed is in its log files then. To be
    /// called once, before any [`Self::wait`] can return.
    pub(super) async fn reap(self: &Arc<Self>) -> io::Result<Exit> {
        let Some(child) = self.child.get() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let exit = match child.exited().await {
            Ok(exit) => Ok(exit),
            Err(error) => {
                // The event loop may lack a descriptor. A thread can wait without one.
                warn!(
                    pid = self.pid(), error:%;
                    "cannot wait for a process in the event loop; a thread waits for it"
                );
                let own = Arc::clone(self);
                spawn_blocking(move || own.child.get().map(ContainerProcess::exited_blocking))
                    .await
                    .map_err(io::Error::other)?
                    .ok_or_else(|| io::ErrorKind::NotFound.into())
            }
        };
        let logged = match &*self.lock_stdio() {
            ProcessIo::Held(stdio) => {
                stdio.process_ended();
                stdio.logged()
            }
            ProcessIo::NotOpen { .. } | ProcessIo::Closed => None,
        };
        if let Some(logged) = logged {
            logged.await;
        }
        exit
    }

    /// Sends a signal. If the process has ended, the raw error is `ESRCH`.
    pub(super) fn signal(&self, signal: i32) -> io::Result<()> {
        match self.child.get() {
            Some(child) => child.signal(signal),
            None => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    }

    /// Records that a client has requested this signal.
    pub(super) fn record_request(&self, signal: i32) {
        if signal == libc::SIGKILL {
            self.sigkill_requested.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a client has requested SIGKILL.
    pub(super) fn sigkill_requested(&self) -> bool {
        self.sigkill_requested.load(Ordering::Relaxed)
    }

    /// Closes the shim's end of stdin, or sees to it that it will be closed.
    pub(crate) fn close_stdin(&self) {
        match &mut *self.lock_stdio() {
            ProcessIo::NotOpen { stdin } => *stdin = ClientStdin::Closed,
            ProcessIo::Held(stdio) => stdio.close_stdin(),
            ProcessIo::Closed => {}
        }
    }

    /// Closes all that the shim holds, and waits for a limited time until a logging program has ended.
    pub(super) async fn end_stdio(&self) {
        let closed = std::mem::replace(&mut *self.lock_stdio(), ProcessIo::Closed);
        let ProcessIo::Held(stdio) = closed else {
            return;
        };
        if let Some(logger) = stdio.close()
            && let Err(error) = spawn_blocking(move || logger.end()).await
        {
            warn!(pid = self.pid(), error:%; "cannot wait for the end of a logging program");
        }
    }

    /// Closes the shim's end of stdin if its client has ended before the start or ends soon after it.
    /// Returns at once.
    pub(super) fn close_stdin_of_early_client(&self) {
        if let ProcessIo::Held(stdio) = &mut *self.lock_stdio()
            && let Some(early_close) = stdio.early_close()
        {
            tokio::spawn(tokio::time::timeout(EARLY_CLOSE, early_close));
        }
    }

    /// Sets the size of the terminal. Succeeds if there is none.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> Result<(), StdioError> {
        match &*self.lock_stdio() {
            ProcessIo::Held(stdio) => stdio.resize(columns, rows),
            ProcessIo::NotOpen { .. } | ProcessIo::Closed => Ok(()),
        }
    }

    /// Waits for a limited time until the output of the ended process is copied to its client.
    pub(super) async fn output_copied(&self) {
        let copied = match &*self.lock_stdio() {
            ProcessIo::Held(stdio) => stdio.copied(),
            ProcessIo::NotOpen { .. } | ProcessIo::Closed => None,
        };
        if let Some(copied) = copied {
            copied.await;
        }
    }

    fn lock_stdio(&self) -> MutexGuard<'_, ProcessIo> {
        lock(&self.stdio)
    }
}
