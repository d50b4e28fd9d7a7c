//! The verbs of further processes: those that make and delete one.
//!
//! Adding one only records it. Its start asks the runner, which may wait for a volume or for a compile: no
//! lock of the container is held meanwhile, so the others go on, and a SIGKILL ends the runner.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;

use log::{error, info};
use tokio::task::spawn_blocking;
use wasm_interp_runner_client::GuestPlace;

use super::container::Container;
use super::exec::Exec;
use super::process::Process;
use super::state::ProcessState;
use crate::error::Error;
use crate::io::StdioPaths;
use crate::launch::{ExecRequest, LaunchedProcess};
use crate::reaper::Exit;
use crate::sys;

impl Container {
    /// Records a process that a client wants. `wanted` is its process spec, as JSON.
    pub(crate) async fn add_exec(
        &self,
        exec_id: &str,
        wanted: Vec<u8>,
        stdio: StdioPaths,
    ) -> Result<(), Error> {
        let mut events = self.events.lock().await;
        self.refuse_ended()?;
        self.execs.add(exec_id, Exec::new(wanted, stdio))?;
        events.exec_added(exec_id);
        Ok(())
    }

    fn refuse_ended(&self) -> Result<(), Error> {
        match self.init.state() {
            ProcessState::Created | ProcessState::Running if !self.execs.are_ending() => Ok(()),
            ProcessState::Pausing | ProcessState::Paused => Err(Error::ExecIn { state: "paused" }),
            ProcessState::Deleted(_) => Err(Error::ExecIn { state: "deleted" }),
            _ => Err(Error::ExecIn { state: "stopped" }),
        }
    }

    /// Runs a recorded process. Returns its pid.
    pub(crate) async fn start_exec(self: Arc<Self>, exec_id: String) -> Result<u32, Error> {
        let exec = self.execs.get(&exec_id)?;
        let _alone = exec.changing.lock().await;
        let running = exec.process.state().started()?;
        self.refuse_ended()?;
        let wanted = exec.take_wanted();
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
                ceiling: own.ceiling.as_ref(),
                keyring: own.options.keyring,
                io_owner: own.options.io_owner,
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
        exec.forget_runner();
        let launched = launched.map_err(Error::from).and_then(|launched| launched);
        let LaunchedProcess {
            process: child,
            stdio,
            place,
        } = match launched {
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
        exec.send_early_signals();
        exec.process.close_stdin_of_early_client();
        // A request that came before there was a process to signal, or the end of the container.
        if (exec.process.sigkill_requested() || self.execs.are_ending())
            && let Err(error) = exec.process.signal(libc::SIGKILL)
        {
            info!(id = self.id.as_str(), exec_id, error:%; "cannot kill a process that has begun");
        }
        let process = Arc::clone(&exec.process);
        tokio::spawn(Arc::clone(&self).supervise_exec(exec_id, process, place));
        Ok(pid)
    }

    /// Runs until the end of the process.
    async fn supervise_exec(
        self: Arc<Self>,
        exec_id: String,
        process: Arc<Process>,
        place: Option<GuestPlace>,
    ) {
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
        // Others may have its memory, also before a client hears of the exit.
        drop(place);
        let mut events = self.events.lock().await;
        events.exited(&exec_id, process.pid(), exit);
        process.set_state(process.state().exited(exit));
    }

    /// Forgets a process that has ended or was never started. Returns its pid and how it ended.
    pub(crate) async fn delete_exec(
        self: Arc<Self>,
        exec_id: String,
    ) -> Result<(u32, Exit), Error> {
        let exec = self.execs.get(&exec_id)?;
        let _alone = exec.changing.lock().await;
        if let ProcessState::Stopped(_) = exec.process.state() {
            exec.process.output_copied().await;
        }
        let events = self.events.lock().await;
        if exec.process.state() == ProcessState::Created {
            exec.withdraw();
        }
        let (deleted, exit) = exec.process.state().deleted()?;
        exec.process.set_state(deleted);
        self.execs.remove(&exec_id);
        drop(events);
        exec.process.end_stdio().await;
        Ok((exec.process.pid(), exit))
    }

    /// The exec ids of running processes by pid.
    pub(crate) fn exec_ids(&self) -> HashMap<u32, String> {
        self.execs.by_pid()
    }
}
