//! A task: one container from its creation to its deletion, and the order of what is told of it.
//!
//! Made by `service`. Holds what `launch` made; knows no request and no answer of the Task API.
//! Events are queued under the lock that orders the moves, so that the start is told before the
//! exit and the exit before the deletion, however short the life was.
#![forbid(unsafe_code)]

mod registry;
mod state;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use containerd_shim_protos::events::task as event;
use containerd_shim_protos::protobuf::MessageField;
use log::{error, info, warn};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use wasm_interp_workload::with_causes;

use crate::bundle::Bundle;
use crate::cgroup::Cgroup;
use crate::clock;
use crate::error::Error;
use crate::events::Publisher;
use crate::exits::{Exit, Init};
use crate::launch::{End, Launched, Launcher, PidNamespace, Wish};
use crate::oom::Shortages;
use crate::stdio::{Held, Names};
use crate::termination_log::TerminationLog;

pub(crate) use registry::{Registry, Reservation};
pub(crate) use state::State;

/// A client that wrote its stdin and left is noticed until this long after the start.
const EARLY_END: Duration = Duration::from_secs(1);
/// How long the kernel may take from a shortage of memory to its end by a kill.
const SHORTAGE: Duration = Duration::from_secs(2);
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);
/// How a process ends that was killed.
const KILLED_STATUS: u32 = 128 + libc::SIGKILL.unsigned_abs();
/// How long a killed process may take to end.
const KILLED: Duration = Duration::from_secs(10);

/// One container.
pub(crate) struct Task {
    id: String,
    bundle: Bundle,
    names: Names,
    init: Arc<Init>,
    cgroup: Option<Cgroup>,
    pid_namespace: PidNamespace,
    held: Mutex<Held>,
    termination_log: Option<TerminationLog>,
    memory_limit: Option<i64>,
    launcher: Arc<Launcher>,
    events: Publisher,
    /// How many kills of the OOM killer were told. Changed by who holds `moves`.
    oom_kills_told: AtomicU64,
    /// Whether a client has asked for a SIGKILL.
    kill_asked: AtomicBool,
    state: Mutex<State>,
    /// Orders start, exit and delete. Never taken while `state` is locked.
    moves: tokio::sync::Mutex<()>,
    exit: watch::Sender<Option<Exit>>,
}

/// What the deletion of a task answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Obituary {
    pub(crate) pid: u32,
    pub(crate) exit: Exit,
}

impl Task {
    /// Tells that the task was created and begins to wait for its end.
    pub(crate) fn begin(
        wish: Wish,
        launched: Launched,
        launcher: Arc<Launcher>,
        events: Publisher,
    ) -> Arc<Self> {
        let task = Arc::new(Self {
            id: wish.id,
            bundle: wish.bundle,
            names: wish.names,
            init: Arc::new(launched.init),
            cgroup: launched.cgroup,
            pid_namespace: launched.pid_namespace,
            held: Mutex::new(launched.held),
            termination_log: launched.termination_log,
            memory_limit: launched.memory_limit,
            launcher,
            events,
            oom_kills_told: AtomicU64::new(0),
            kill_asked: AtomicBool::new(false),
            state: Mutex::new(State::Created(state::Created)),
            moves: tokio::sync::Mutex::new(()),
            exit: watch::Sender::new(None),
        });
        task.events.publish(&event::TaskCreate {
            container_id: task.id.clone(),
            bundle: task.bundle.path().display().to_string(),
            rootfs: wish.rootfs,
            io: MessageField::some(event::TaskIO {
                stdin: task.names.stdin.clone(),
                stdout: task.names.stdout.clone(),
                stderr: task.names.stderr.clone(),
                ..event::TaskIO::default()
            }),
            pid: task.pid(),
            ..event::TaskCreate::default()
        });
        tokio::spawn(Arc::clone(&task).await_exit());
        tokio::spawn(Arc::clone(&task).await_oom());
        task
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    pub(crate) fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Pid of the init process.
    pub(crate) fn pid(&self) -> u32 {
        self.init.pid().unsigned_abs()
    }

    pub(crate) fn state(&self) -> State {
        *self.lock_state()
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        // A state is replaced in one go.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the guest run.
    pub(crate) async fn start(self: Arc<Self>) -> Result<u32, Error> {
        let _order = self.moves.lock().await;
        let created = self.state().startable()?;
        let task = Arc::clone(&self);
        let started = spawn_blocking(move || task.launcher.start(&task.id, &task.bundle)).await?;
        if let Err(error) = started {
            self.note(&with_causes(&error));
            return Err(error);
        }
        *self.lock_state() = State::Running(created.started());
        self.events.publish(&event::TaskStart {
            container_id: self.id.clone(),
            pid: self.pid(),
            ..event::TaskStart::default()
        });
        if let Some(early_end) = self.lock_held().early_end() {
            // Nobody waits for this one: it ends by itself.
            tokio::spawn(tokio::time::timeout(EARLY_END, early_end));
        }
        Ok(self.pid())
    }

    /// Sends a signal to the init process, or to every process of the container.
    pub(crate) async fn kill(&self, signal: u32, whom: Whom) -> Result<(), Error> {
        let number = i32::try_from(signal).unwrap_or(i32::MAX);
        if number == libc::SIGKILL {
            self.kill_asked.store(true, Ordering::Relaxed);
        }
        if let (Whom::All, Some(cgroup)) = (whom, self.cgroup.clone()) {
            let signalled = spawn_blocking(move || cgroup.signal_all(number)).await??;
            return if signalled == 0 {
                Err(Error::Finished)
            } else {
                Ok(())
            };
        }
        self.init.signal(number).map_err(|source| {
            if source.raw_os_error() == Some(libc::ESRCH) {
                Error::Finished
            } else {
                Error::Signal {
                    id: self.id.clone(),
                    signal,
                    source,
                }
            }
        })
    }

    /// Waits for the end of the init process.
    pub(crate) async fn wait(&self) -> Exit {
        let mut exit = self.exit.subscribe();
        loop {
            let seen = *exit.borrow_and_update();
            if let Some(exit) = seen {
                return exit;
            }
            if exit.changed().await.is_err() {
                // The sender lives as long as the task, which is borrowed here.
                std::future::pending::<()>().await;
            }
        }
    }

    /// All processes of the container.
    pub(crate) async fn pids(&self) -> Result<Vec<u32>, Error> {
        let pids = match self.cgroup.clone() {
            Some(cgroup) => spawn_blocking(move || cgroup.pids()).await??,
            None if self.state().exit().is_none() => vec![self.init.pid()],
            None => Vec::new(),
        };
        Ok(pids.into_iter().map(i32::unsigned_abs).collect())
    }

    /// No more stdin from us.
    pub(crate) fn close_stdin(&self) {
        self.lock_held().stdin().close();
    }

    /// Removes the container. One that was never started is killed first, as runc does.
    pub(crate) async fn delete(self: Arc<Self>) -> Result<Obituary, Error> {
        if matches!(self.state(), State::Created(_)) {
            match self.kill(libc::SIGKILL.unsigned_abs(), Whom::Init).await {
                Ok(()) | Err(Error::Finished) => {}
                Err(error) => return Err(error),
            }
            if tokio::time::timeout(KILLED, self.wait()).await.is_err() {
                return Err(Error::Unkillable {
                    id: self.id.clone(),
                });
            }
        }
        let _order = self.moves.lock().await;
        let state = self.state();
        if let State::Deleted(_) = state {
            return Err(Error::NoTask {
                id: self.id.clone(),
            });
        }
        let stopped = state.deletable()?;
        let task = Arc::clone(&self);
        spawn_blocking(move || task.launcher.remove(&task.id, &task.bundle, End::Ended)).await??;
        *self.lock_state() = State::Deleted(stopped.deleted());
        let obituary = Obituary {
            pid: self.pid(),
            exit: stopped.exit,
        };
        self.events.publish(&event::TaskDelete {
            container_id: self.id.clone(),
            pid: obituary.pid,
            exit_status: obituary.exit.status,
            exited_at: MessageField::some(clock::timestamp(obituary.exit.at)),
            ..event::TaskDelete::default()
        });
        Ok(obituary)
    }

    /// Runs from creation to the end of the init process.
    async fn await_exit(self: Arc<Self>) {
        let exit = match self.init.exited().await {
            Ok(exit) => exit,
            Err(error) => {
                // No descriptor left for the event loop, perhaps. A thread can wait all the same.
                warn!(id = self.id.as_str(), error:%; "waits for an init process on a thread");
                let init = Arc::clone(&self.init);
                match spawn_blocking(move || init.exited_blocking()).await {
                    Ok(exit) => exit,
                    Err(error) => {
                        error!(id = self.id.as_str(), error:%; "cannot wait for an init process");
                        return;
                    }
                }
            }
        };
        let _order = self.moves.lock().await;
        self.end_the_rest().await;
        self.lock_state().exited(exit);
        // Before the exit: CRI notes it as the reason of the exit to come.
        self.tell_of_oom();
        let oom = self.oom_kills_told.load(Ordering::Relaxed) > 0;
        if oom && exit.status == KILLED_STATUS && !self.kill_asked.load(Ordering::Relaxed) {
            self.note(&out_of_memory(self.memory_limit));
        }
        self.events.publish(&event::TaskExit {
            container_id: self.id.clone(),
            id: self.id.clone(),
            pid: self.pid(),
            exit_status: exit.status,
            exited_at: MessageField::some(clock::timestamp(exit.at)),
            ..event::TaskExit::default()
        });
        info!(id = self.id.as_str(), status = exit.status; "exited");
        self.exit.send_replace(Some(exit));
    }

    /// Runs as long as the container: a process of it may be killed that is not its first.
    async fn await_oom(self: Arc<Self>) {
        let Some(cgroup) = &self.cgroup else { return };
        let shortages = match Shortages::of(cgroup) {
            Ok(Some(shortages)) => shortages,
            Ok(None) => return,
            Err(error) => {
                warn!(id = self.id.as_str(), error:%; "out-of-memory kills will be told at its end only");
                return;
            }
        };
        loop {
            tokio::select! {
                _ = self.wait() => return,
                shortage = shortages.next() => if let Err(error) = shortage {
                    warn!(id = self.id.as_str(), error:%; "cannot watch for out-of-memory kills any longer");
                    return;
                },
            }
            let end = Instant::now() + SHORTAGE;
            loop {
                // Never after the exit, which has told all.
                let order = self.moves.lock().await;
                if self.state().exit().is_some() {
                    return;
                }
                let told = self.tell_of_oom();
                drop(order);
                if told || Instant::now() > end {
                    break;
                }
                tokio::time::sleep(SHORTAGE_PAUSE).await;
            }
        }
    }

    /// Tells of kills that were not told yet, if there are any. To be called by who holds `moves`.
    fn tell_of_oom(&self) -> bool {
        let kills = self.cgroup.as_ref().map_or(0, Cgroup::oom_kills);
        // systemd removes the cgroup of a scope that nobody is left in: what was told stays told.
        let new = kills > self.oom_kills_told.fetch_max(kills, Ordering::Relaxed);
        if new {
            self.events.publish(&event::TaskOOM {
                container_id: self.id.clone(),
                ..event::TaskOOM::default()
            });
        }
        new
    }

    /// Tells Kubernetes the reason of an end, unless the guest has told one itself.
    fn note(&self, reason: &str) {
        if let Some(log) = &self.termination_log
            && let Err(error) = log.note(reason)
        {
            warn!(id = self.id.as_str(), error:%; "cannot note the reason of its end");
        }
    }

    /// In a pid namespace of its own the kernel has ended all others already.
    async fn end_the_rest(&self) {
        let (PidNamespace::Shared, Some(cgroup)) = (self.pid_namespace, self.cgroup.clone()) else {
            return;
        };
        let ended = spawn_blocking(move || cgroup.kill_all())
            .await
            .map_err(Error::from)
            .and_then(|killed| Ok(killed?));
        if let Err(error) = ended {
            warn!(id = self.id.as_str(), error:%; "cannot end what a container left behind");
        }
    }
}

fn out_of_memory(limit: Option<i64>) -> String {
    let text =
        "killed by the kernel's OOM killer: its memory and that of its temporary files passed";
    match limit {
        Some(bytes) => format!("{text} the limit of {} MiB", bytes >> 20),
        None => format!("{text} a limit above this container's, or the node's memory"),
    }
}

/// Who gets a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The init process.
    Init,
    /// Every process of the container.
    All,
}
