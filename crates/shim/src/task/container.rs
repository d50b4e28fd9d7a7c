//! A container from its creation to its deletion: what its processes share, and the verbs.
//!
//! Made by `service` of what `launch` has created. The verbs of further processes are in `exec_verbs`.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use log::{error, info, warn};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use wasm_interp_launch::KeptModule;
use wasm_interp_runner_client::{InitRuns, SharedCeiling};
use wasm_interp_workload::with_causes;

use super::events::ContainerEvents;
use super::exec::Execs;
use super::lock;
use super::oom::{self, OomWatch};
use super::process::Process;
use super::state::ProcessState;
use crate::bundle::Bundle;
use crate::cgroup::Cgroup;
use crate::error::Error;
use crate::io::{HeldStdio, TerminationLog};
use crate::launch::{CreateRequest, LaunchedContainer, Launcher, PidNamespace};
use crate::options::CreateOptions;
use crate::publisher::Publisher;
use crate::reaper::{Exit, KILLED_STATUS};

/// How long a process may take to end after SIGKILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// A container.
pub(crate) struct Container {
    pub(super) id: String,
    pub(super) bundle: Bundle,
    pub(super) launcher: Arc<Launcher>,
    pub(super) cgroup: Option<Cgroup>,
    pid_namespace: PidNamespace,
    /// In bytes.
    pub(super) memory_limit: std::sync::Mutex<Option<i64>>,
    /// That of a Wasm container's guests together.
    pub(super) ceiling: Option<SharedCeiling>,
    termination_log: Option<TerminationLog>,
    pub(super) init: Arc<Process>,
    pub(super) init_runs: InitRuns,
    /// They hold for further processes too.
    pub(super) options: CreateOptions,
    /// The module of a guest, for further processes that run it too.
    pub(super) module: Option<KeptModule>,
    pub(super) execs: Execs,
    /// Locked from the check of a process's state until its change is published.
    pub(super) events: Mutex<ContainerEvents>,
}

/// Which processes get a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KillTarget {
    /// The one that the request names.
    Process,
    /// All of the container.
    All,
}

impl Container {
    /// Publishes that the container is created, and begins to wait for its end.
    pub(crate) fn begin(
        request: CreateRequest,
        launched: LaunchedContainer,
        stdio: HeldStdio,
        launcher: Arc<Launcher>,
        publisher: Publisher,
    ) -> Arc<Self> {
        let init = Process::new(request.stdio);
        init.begin(launched.init, stdio);
        let mut events = ContainerEvents::new(request.id.clone(), publisher);
        events.created(
            init.pid(),
            &request.bundle,
            request.rootfs,
            init.stdio_paths(),
        );
        let container = Arc::new(Self {
            id: request.id,
            bundle: request.bundle,
            launcher,
            cgroup: launched.cgroup,
            pid_namespace: launched.pid_namespace,
            memory_limit: launched.memory_limit.into(),
            ceiling: launched.ceiling,
            termination_log: launched.termination_log,
            init: Arc::new(init),
            init_runs: launched.init_runs,
            options: request.options,
            module: launched.module,
            execs: Execs::default(),
            events: Mutex::new(events),
        });
        tokio::spawn(Arc::clone(&container).supervise());
        tokio::spawn(Arc::clone(&container).watch_oom());
        container
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    pub(crate) fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    pub(crate) fn init(&self) -> &Arc<Process> {
        &self.init
    }

    /// The process with this exec id. The init process has the empty one.
    pub(crate) fn process(&self, exec_id: &str) -> Result<Arc<Process>, Error> {
        if exec_id.is_empty() {
            Ok(Arc::clone(&self.init))
        } else {
            Ok(Arc::clone(&self.execs.get(exec_id)?.process))
        }
    }

    /// Lets the init process run. Returns its pid.
    pub(crate) async fn start(self: Arc<Self>) -> Result<u32, Error> {
        let mut events = self.events.lock().await;
        let running = self.init.state().started()?;
        let own = Arc::clone(&self);
        let started = spawn_blocking(move || own.launcher.start(&own.id, &own.bundle)).await?;
        if let Err(error) = started {
            self.note(&with_causes(&error));
            return Err(error);
        }
        self.init.set_state(running);
        events.started(self.init.pid());
        self.init.close_stdin_of_early_client();
        Ok(self.init.pid())
    }

    /// Sends a signal to the process with this exec id, or to every process of the container. For a further process
    /// there is no difference, as under runc's shim.
    pub(crate) async fn kill(
        &self,
        exec_id: &str,
        signal: u32,
        target: KillTarget,
    ) -> Result<(), Error> {
        if !exec_id.is_empty() {
            return self.execs.kill(&self.id, exec_id, signal);
        }
        let number = i32::try_from(signal).unwrap_or(i32::MAX);
        self.init.record_request(number);
        if let (KillTarget::All, Some(cgroup)) = (target, self.cgroup.clone()) {
            // That there is none is no error, as under runc.
            spawn_blocking(move || cgroup.signal_all(number)).await??;
            return self.thaw_after(number).await;
        }
        self.init
            .signal(number)
            .map_err(|source| Error::of_signal(&self.id, signal, source))?;
        self.thaw_after(number).await
    }

    /// The pids of all processes.
    pub(crate) async fn pids(&self) -> Result<Vec<u32>, Error> {
        match self.cgroup.clone() {
            Some(cgroup) => {
                let pids = spawn_blocking(move || cgroup.pids()).await??;
                Ok(pids.into_iter().map(i32::unsigned_abs).collect())
            }
            None if self.init.state().exit().is_none() => Ok(vec![self.init.pid()]),
            None => Ok(Vec::new()),
        }
    }

    /// Removes the container. Kills the init process first if it was never started, as runc does.
    pub(crate) async fn delete(self: Arc<Self>) -> Result<Exit, Error> {
        if self.init.state() == ProcessState::Created {
            self.kill_init().await?;
        }
        let mut events = self.events.lock().await;
        let state = self.init.state();
        if let ProcessState::Deleted(_) = state {
            return Err(Error::NoTask {
                id: self.id.clone(),
            });
        }
        let (deleted, exit) = state.deleted()?;
        self.init.output_copied().await;
        let own = Arc::clone(&self);
        let remove = move || {
            let cgroup = own.cgroup.as_ref();
            own.launcher.remove_ended(&own.id, &own.bundle, cgroup)
        };
        spawn_blocking(remove).await??;
        self.init.end_stdio().await;
        self.init.set_state(deleted);
        self.execs.forget().await;
        events.deleted(self.init.pid(), exit);
        Ok(exit)
    }

    async fn kill_init(&self) -> Result<(), Error> {
        let kill = libc::SIGKILL.unsigned_abs();
        match self.kill("", kill, KillTarget::Process).await {
            Ok(()) | Err(Error::Finished) => {}
            Err(error) => return Err(error),
        }
        match tokio::time::timeout(KILL_TIMEOUT, self.init.wait()).await {
            Ok(_) => Ok(()),
            Err(_elapsed) => Err(Error::Unkillable {
                id: self.id.clone(),
            }),
        }
    }

    /// Runs from the creation to the end of the init process.
    async fn supervise(self: Arc<Self>) {
        let exit = match self.init.reap().await {
            Ok(exit) => exit,
            Err(error) => {
                error!(
                    id = self.id.as_str(), error:%;
                    "cannot wait for the end of the init process"
                );
                return;
            }
        };
        self.thaw_the_rest().await;
        self.kill_the_rest().await;
        self.execs.end(&self.id).await;
        let mut events = self.events.lock().await;
        // Before the exit: from this event, containerd's CRI plugin sets the reason of the exit.
        self.publish_oom_kills(&mut events);
        let killed = exit.status == KILLED_STATUS && !self.init.sigkill_requested();
        if killed && events.has_oom_kill() {
            let limit = *lock(&self.memory_limit);
            self.note(&oom::reason(limit));
        }
        events.exited(&self.id, self.init.pid(), exit);
        info!(id = self.id.as_str(), status = exit.status; "exited");
        self.init.set_state(self.init.state().exited(exit));
    }

    /// Runs as long as the init process, because the OOM killer may kill another process.
    async fn watch_oom(self: Arc<Self>) {
        let cgroup = self.cgroup.as_ref();
        let Some(mut watch) = cgroup.and_then(|cgroup| OomWatch::of(&self.id, cgroup)) else {
            return;
        };
        let report = async {
            let mut found = false;
            while watch.next_check(found).await {
                let mut events = self.events.lock().await;
                // After the exit, there is nothing left to report.
                if self.init.state().exit().is_some() {
                    return;
                }
                found = self.publish_oom_kills(&mut events);
            }
        };
        tokio::select! {
            _ = self.init.wait() => {}
            () = report => {}
        }
    }

    /// Publishes an event if there are new out-of-memory kills. Returns whether there are.
    fn publish_oom_kills(&self, events: &mut ContainerEvents) -> bool {
        let counted = self.cgroup.as_ref().map_or(0, Cgroup::oom_kills);
        events.oom_killed(counted)
    }

    /// Writes the reason of an end to the termination log, unless the program has written there.
    fn note(&self, reason: &str) {
        if let Some(log) = &self.termination_log
            && let Err(error) = log.note(reason)
        {
            warn!(id = self.id.as_str(), error:%; "cannot note the reason of the container's end");
        }
    }

    /// Ends the processes that the init process has left. In a pid namespace of their own, the kernel
    /// has ended them already.
    async fn kill_the_rest(&self) {
        let (PidNamespace::Shared, Some(cgroup)) = (self.pid_namespace, self.cgroup.clone()) else {
            return;
        };
        let killed = spawn_blocking(move || cgroup.kill_all())
            .await
            .map_err(Error::from)
            .and_then(|killed| Ok(killed?));
        if let Err(error) = killed {
            warn!(id = self.id.as_str(), error:%; "cannot end the processes that a container left");
        }
    }
}
