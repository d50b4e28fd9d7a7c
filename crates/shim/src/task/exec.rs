//! The further processes of a container: the verbs of one that is no init process.
//!
//! Adding one only records it. Its start asks the runner, which may wait for a volume or for a compile: no
//! lock of the container is held meanwhile, so the others go on, and a SIGKILL ends the runner.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use log::{error, info, warn};
use tokio::task::spawn_blocking;

use super::container::Container;
use super::lock;
use super::process::Process;
use super::state::ProcessState;
use crate::error::Error;
use crate::io::StdioPaths;
use crate::launch::ExecRequest;
use crate::reaper::{Exit, KILLED_STATUS, STATUS_UNKNOWN};
use crate::sys;

/// How long the init process's exit waits for the end of one further process that is killed.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// A further process of a container, from its request to its deletion.
pub(super) struct Exec {
    pub(super) process: Arc<Process>,
    /// The process of the request, as JSON. Taken by the start.
    wanted: Mutex<Option<Vec<u8>>>,
    /// Locked while it is started or deleted.
    changing: tokio::sync::Mutex<()>,
    /// The runner that works on its start.
    runner: Mutex<Option<OwnedFd>>,
}

impl Exec {
    fn new(wanted: Vec<u8>, stdio: StdioPaths) -> Self {
        Self {
            process: Arc::new(Process::new(stdio)),
            wanted: Mutex::new(Some(wanted)),
            changing: tokio::sync::Mutex::new(()),
            runner: Mutex::new(None),
        }
    }

    /// Notes the runner that works on the start, and kills it if that is requested already.
    fn set_runner(&self, pid: u32) {
        match sys::pidfd_open(pid.cast_signed()) {
            Ok(pidfd) => {
                *lock(&self.runner) = Some(pidfd);
                if self.process.sigkill_requested() {
                    self.kill_runner();
                }
            }
            Err(error) => warn!(pid, error:%; "cannot open the runner; it cannot be killed"),
        }
    }

    /// Kills the runner, which waits for something that may never come.
    fn kill_runner(&self) {
        if let Some(pidfd) = &*lock(&self.runner)
            // It may have ended by itself.
            && let Err(error) = sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL)
            && error.raw_os_error() != Some(libc::ESRCH)
        {
            warn!(error:%; "cannot kill the runner of a process that is to be ended");
        }
    }

    /// Sends a signal, with the answers of runc's shim.
    fn kill(&self, number: i32) -> Result<(), KillFailure> {
        match self.process.state() {
            // Only the init process is paused itself.
            ProcessState::Running | ProcessState::Pausing | ProcessState::Paused => {
                self.process.record_request(number);
                self.process.signal(number).map_err(KillFailure::Signal)
            }
            ProcessState::Stopped(_) | ProcessState::Deleted(_) => Err(KillFailure::Finished),
            ProcessState::Created if self.changing.try_lock().is_ok() => {
                Err(KillFailure::NotStarted)
            }
            ProcessState::Created => {
                self.process.record_request(number);
                if number == libc::SIGKILL {
                    self.kill_runner();
                }
                Ok(())
            }
        }
    }

    /// Ends it without a program: its start failed, or it is deleted before.
    fn stop_unstarted(&self) -> Exit {
        let status = if self.process.sigkill_requested() {
            KILLED_STATUS
        } else {
            STATUS_UNKNOWN
        };
        let exit = Exit {
            status,
            at: SystemTime::now(),
        };
        self.process.set_state(self.process.state().exited(exit));
        exit
    }
}

/// Why a further process does not get a signal.
enum KillFailure {
    NotStarted,
    Finished,
    Signal(std::io::Error),
}

impl Container {
    fn exec(&self, exec_id: &str) -> Result<Arc<Exec>, Error> {
        let found = lock(&self.execs).get(exec_id).cloned();
        found.ok_or_else(|| Error::NoProcess {
            exec_id: exec_id.to_owned(),
        })
    }

    /// Records a process that a client wants. `wanted` is its process spec, as JSON.
    pub(crate) async fn add_exec(
        &self,
        exec_id: &str,
        wanted: Vec<u8>,
        stdio: StdioPaths,
    ) -> Result<(), Error> {
        let mut events = self.events.lock().await;
        self.refuse_ended()?;
        {
            let mut execs = lock(&self.execs);
            if execs.contains_key(exec_id) {
                return Err(Error::ExecExists {
                    exec_id: exec_id.to_owned(),
                });
            }
            let exec = Exec::new(wanted, stdio);
            execs.insert(exec_id.to_owned(), Arc::new(exec));
        }
        events.exec_added(exec_id);
        Ok(())
    }

    fn refuse_ended(&self) -> Result<(), Error> {
        match self.init.state() {
            ProcessState::Created | ProcessState::Running
                if !self.ending.load(Ordering::Acquire) =>
            {
                Ok(())
            }
            ProcessState::Pausing | ProcessState::Paused => Err(Error::ExecIn { state: "paused" }),
            ProcessState::Deleted(_) => Err(Error::ExecIn { state: "deleted" }),
            _ => Err(Error::ExecIn { state: "stopped" }),
        }
    }

    /// Runs a recorded process. Returns its pid.
    pub(crate) async fn start_exec(self: Arc<Self>, exec_id: String) -> Result<u32, Error> {
        let exec = self.exec(&exec_id)?;
        let _alone = exec.changing.lock().await;
        let running = exec.process.state().started()?;
        self.refuse_ended()?;
        let wanted = lock(&exec.wanted).take().unwrap_or_default();
        let own = Arc::clone(&self);
        let launching = Arc::clone(&exec);
        let launched_id = exec_id.clone();
        let launched = spawn_blocking(move || {
            let request = ExecRequest {
                id: &own.id,
                exec_id: &launched_id,
                bundle: &own.bundle,
                wanted: &wanted,
                stdio: launching.process.stdio_paths(),
                init: own.init.child()?,
                init_runs: own.init_runs,
                module: own.module.as_ref(),
            };
            let launched =
                own.launcher
                    .exec(&request, &mut |pid| launching.set_runner(pid), &|| {
                        launching.process.sigkill_requested()
                    });
            sys::trim_heap();
            launched
        })
        .await;
        *lock(&exec.runner) = None;
        let launched = launched.map_err(Error::from).and_then(|launched| launched);
        let (child, stdio) = match launched {
            Ok(launched) => launched,
            Err(error) => {
                let _events = self.events.lock().await;
                exec.stop_unstarted();
                return Err(error);
            }
        };
        let mut events = self.events.lock().await;
        exec.process.begin(child, stdio);
        let pid = exec.process.pid();
        events.exec_started(&exec_id, pid);
        exec.process.set_state(running);
        drop(events);
        exec.process.close_stdin_of_early_client();
        // A request that came before there was a process to signal, or the end of the container.
        if (exec.process.sigkill_requested() || self.ending.load(Ordering::Acquire))
            && let Err(error) = exec.process.signal(libc::SIGKILL)
        {
            info!(id = self.id.as_str(), exec_id, error:%; "cannot kill a process that has begun");
        }
        tokio::spawn(Arc::clone(&self).supervise_exec(exec_id, Arc::clone(&exec.process)));
        Ok(pid)
    }

    /// Runs until the end of the process.
    async fn supervise_exec(self: Arc<Self>, exec_id: String, process: Arc<Process>) {
        let exit = match process.reap().await {
            Ok(exit) => exit,
            Err(error) => {
                error!(
                    id = self.id.as_str(), exec_id, error:%;
                    "cannot wait for the end of a process"
                );
                return;
            }
        };
        let mut events = self.events.lock().await;
        events.exited(&exec_id, process.pid(), exit);
        process.set_state(process.state().exited(exit));
    }

    /// Sends a signal to one further process.
    pub(super) fn kill_exec(&self, exec_id: &str, signal: u32) -> Result<(), Error> {
        let number = i32::try_from(signal).unwrap_or(i32::MAX);
        self.exec(exec_id)?
            .kill(number)
            .map_err(|failure| match failure {
                KillFailure::NotStarted => Error::NotStarted,
                KillFailure::Finished => Error::Finished,
                KillFailure::Signal(source) => Error::of_signal(&self.id, signal, source),
            })
    }

    /// Forgets a process that has ended or was never started. Returns its pid and how it ended.
    pub(crate) async fn delete_exec(
        self: Arc<Self>,
        exec_id: String,
    ) -> Result<(u32, Exit), Error> {
        let exec = self.exec(&exec_id)?;
        let _alone = exec.changing.lock().await;
        let _events = self.events.lock().await;
        if exec.process.state() == ProcessState::Created {
            exec.stop_unstarted();
        }
        let (deleted, exit) = exec.process.state().deleted()?;
        exec.process.set_state(deleted);
        exec.process.close_stdio();
        lock(&self.execs).remove(&exec_id);
        Ok((exec.process.pid(), exit))
    }

    /// Ends all further processes, and waits until their exits are told: that of the init process is the
    /// last. From here on no other starts.
    pub(super) async fn end_execs(&self) {
        self.ending.store(true, Ordering::Release);
        let execs: Vec<_> = lock(&self.execs).values().cloned().collect();
        for exec in &execs {
            exec.process.record_request(libc::SIGKILL);
            exec.kill_runner();
            if exec.process.state() == ProcessState::Running
                && let Err(error) = exec.process.signal(libc::SIGKILL)
                && error.raw_os_error() != Some(libc::ESRCH)
            {
                warn!(id = self.id.as_str(), error:%; "cannot kill a further process");
            }
        }
        for exec in &execs {
            let ended = async {
                let _alone = exec.changing.lock().await;
                if exec.process.state() == ProcessState::Running {
                    exec.process.wait().await;
                }
            };
            if tokio::time::timeout(END_TIMEOUT, ended).await.is_err() {
                warn!(
                    id = self.id.as_str();
                    "a process of an ended container does not end after SIGKILL"
                );
            }
        }
    }

    /// Forgets all further processes of a container that is removed. Their waiters get an answer.
    pub(super) fn forget_execs(&self) {
        for (_, exec) in lock(&self.execs).drain() {
            if exec.process.state() == ProcessState::Created {
                exec.stop_unstarted();
            }
        }
    }

    /// The exec ids of running processes by pid.
    pub(crate) fn exec_ids(&self) -> std::collections::HashMap<u32, String> {
        lock(&self.execs)
            .iter()
            .filter(|(_, exec)| exec.process.state() == ProcessState::Running)
            .map(|(id, exec)| (exec.process.pid(), id.clone()))
            .collect()
    }

    /// The process with this exec id.
    pub(super) fn exec_process(&self, exec_id: &str) -> Result<Arc<Process>, Error> {
        Ok(Arc::clone(&self.exec(exec_id)?.process))
    }
}
