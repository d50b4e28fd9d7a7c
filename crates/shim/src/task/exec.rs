//! The further processes of a container: each from its request to its deletion, and all of them by exec id.
//!
//! Owned by a [`super::Container`]. The verbs that make and delete one are in `exec_verbs`.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use log::warn;

use super::lock;
use super::process::Process;
use super::state::ProcessState;
use crate::error::Error;
use crate::io::StdioPaths;
use crate::launch::CurrentRunner;
use crate::reaper::{Exit, KILLED_STATUS, STATUS_UNKNOWN};

/// How long the init process's exit waits for the end of one further process that is killed.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// A further process of a container, from its request to its deletion.
pub(super) struct Exec {
    pub(super) process: Arc<Process>,
    /// The process of the request, as JSON. Taken by the start.
    wanted: Mutex<Option<Vec<u8>>>,
    /// Locked while it is started or deleted.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// The runner that works on its start.
    runner: CurrentRunner,
    /// Signals that came while it was started. `None` once it runs and gets them itself.
    early: Mutex<Option<Vec<i32>>>,
}

impl Exec {
    pub(super) fn new(wanted: Vec<u8>, stdio: StdioPaths) -> Self {
        Self {
            process: Arc::new(Process::new(stdio)),
            wanted: Mutex::new(Some(wanted)),
            changing: tokio::sync::Mutex::new(()),
            runner: CurrentRunner::default(),
            early: Mutex::new(Some(Vec::new())),
        }
    }

    /// The process of the request, as JSON. Empty at the second call.
    pub(super) fn take_wanted(&self) -> Vec<u8> {
        lock(&self.wanted).take().unwrap_or_default()
    }

    /// Notes the runner that works on the start, and kills it if that is requested already.
    pub(super) fn set_runner(&self, pid: u32) {
        self.runner.set(pid);
        if self.process.sigkill_requested() {
            self.runner.kill();
        }
    }

    /// The start has ended, and with it the runner.
    pub(super) fn forget_runner(&self) {
        self.runner.forget();
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
                    self.runner.kill();
                    return Ok(());
                }
                if let Some(early) = &mut *lock(&self.early) {
                    early.push(number);
                    return Ok(());
                }
                self.process.signal(number).map_err(KillFailure::Signal)
            }
        }
    }

    /// Sends the process, which runs now, the signals that came before.
    pub(super) fn send_early_signals(&self) {
        let early = lock(&self.early).take().unwrap_or_default();
        for signal in early {
            if let Err(error) = self.process.signal(signal) {
                warn!(signal, error:%; "cannot send a signal to a process that has begun");
            }
        }
    }

    /// Ends it without a program: its start failed, or its container is removed.
    pub(super) fn stop_unstarted(&self) {
        self.end_unstarted(if self.process.sigkill_requested() {
            KILLED_STATUS
        } else {
            STATUS_UNKNOWN
        });
    }

    /// Ends it without a program: it is deleted before its start. runc's shim reports 0 then.
    pub(super) fn withdraw(&self) {
        self.end_unstarted(0);
    }

    fn end_unstarted(&self, status: u32) {
        let exit = Exit {
            status,
            at: SystemTime::now(),
        };
        self.process.set_state(self.process.state().exited(exit));
    }
}

/// Why a further process does not get a signal.
enum KillFailure {
    NotStarted,
    Finished,
    Signal(std::io::Error),
}

/// All further processes of a container.
#[derive(Default)]
pub(super) struct Execs {
    by_id: Mutex<HashMap<String, Arc<Exec>>>,
    /// Whether the init process has ended. Then none starts.
    ending: AtomicBool,
}

impl Execs {
    pub(super) fn get(&self, exec_id: &str) -> Result<Arc<Exec>, Error> {
        let found = lock(&self.by_id).get(exec_id).cloned();
        found.ok_or_else(|| Error::NoProcess {
            exec_id: exec_id.to_owned(),
        })
    }

    /// Fails if the id is used.
    pub(super) fn add(&self, exec_id: &str, exec: Exec) -> Result<(), Error> {
        let mut by_id = lock(&self.by_id);
        if by_id.contains_key(exec_id) {
            return Err(Error::ExecExists {
                exec_id: exec_id.to_owned(),
            });
        }
        by_id.insert(exec_id.to_owned(), Arc::new(exec));
        Ok(())
    }

    /// Frees the id.
    pub(super) fn remove(&self, exec_id: &str) {
        lock(&self.by_id).remove(exec_id);
    }

    /// Whether the init process has ended.
    pub(super) fn are_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Sends a signal to one of them. `id`: the container's.
    pub(super) fn kill(&self, id: &str, exec_id: &str, signal: u32) -> Result<(), Error> {
        let number = i32::try_from(signal).unwrap_or(i32::MAX);
        self.get(exec_id)?
            .kill(number)
            .map_err(|failure| match failure {
                KillFailure::NotStarted => Error::NotStarted,
                KillFailure::Finished => Error::Finished,
                KillFailure::Signal(source) => Error::of_signal(id, signal, source),
            })
    }

    /// Ends all of them, and waits until their exits are told: that of the init process is the last. From here on
    /// no other starts. `id`: the container's.
    pub(super) async fn end(&self, id: &str) {
        self.ending.store(true, Ordering::Release);
        let execs: Vec<_> = lock(&self.by_id).values().cloned().collect();
        for exec in &execs {
            exec.process.record_request(libc::SIGKILL);
            exec.runner.kill();
            if exec.process.state() == ProcessState::Running
                && let Err(error) = exec.process.signal(libc::SIGKILL)
                && error.raw_os_error() != Some(libc::ESRCH)
            {
                warn!(id, error:%; "cannot kill a further process");
            }
        }
        for exec in &execs {
            // A deletion of it may wait for the reader of its output.
            if exec.process.state().exit().is_some() {
                continue;
            }
            let ended = async {
                let _alone = exec.changing.lock().await;
                if exec.process.state() == ProcessState::Running {
                    exec.process.wait().await;
                }
            };
            if tokio::time::timeout(END_TIMEOUT, ended).await.is_err() {
                warn!(id; "a process of an ended container does not end after SIGKILL");
            }
        }
    }

    /// Forgets all of them, of a container that is removed. Their waiters get an answer.
    pub(super) async fn forget(&self) {
        let execs: Vec<_> = lock(&self.by_id).drain().map(|(_, exec)| exec).collect();
        for exec in execs {
            if exec.process.state() == ProcessState::Created {
                exec.stop_unstarted();
            }
            exec.process.end_stdio().await;
        }
    }

    /// The exec ids of those that run, by pid.
    pub(super) fn by_pid(&self) -> HashMap<u32, String> {
        lock(&self.by_id)
            .iter()
            .filter(|(_, exec)| exec.process.state() == ProcessState::Running)
            .map(|(id, exec)| (exec.process.pid(), id.clone()))
            .collect()
    }
}
