//! The verbs `pause` and `resume`: the container's whole cgroup is frozen, with all its processes.
//!
//! A pause is slow where a process waits in the kernel, and SIGKILL may come meanwhile. That thaws: on
//! version 1 of cgroups a frozen process does not end. Either the verb `kill` finds the container frozen,
//! or the pause finds SIGKILL requested.
#![forbid(unsafe_code)]

use std::sync::Arc;

use containerd_shim_protos::api::Status;
use log::warn;
use tokio::task::spawn_blocking;

use super::container::Container;
use super::process::Process;
use super::state::ProcessState;
use crate::cgroup::{Cgroup, CgroupError};
use crate::error::Error;

impl Container {
    /// Freezes every process.
    pub(crate) async fn pause(self: Arc<Self>) -> Result<(), Error> {
        let mut events = self.events.lock().await;
        let pausing = self.init.state().pausing()?;
        if self.cgroup.is_none() {
            return Err(Error::NoFreezer {
                id: self.id.clone(),
            });
        }
        self.init.set_state(pausing);
        if let Err(error) = self.on_cgroup(Cgroup::freeze).await {
            self.init.set_state(ProcessState::Running);
            return Err(error);
        }
        self.init.set_state(ProcessState::Paused);
        if self.init.sigkill_requested() {
            self.on_cgroup(Cgroup::thaw).await?;
        }
        events.paused();
        Ok(())
    }

    /// Lets every process go on.
    pub(crate) async fn resume(self: Arc<Self>) -> Result<(), Error> {
        let mut events = self.events.lock().await;
        let running = self.init.state().resumed()?;
        self.on_cgroup(Cgroup::thaw).await?;
        self.init.set_state(running);
        events.resumed();
        Ok(())
    }

    /// What the Task API says of one of the processes.
    pub(crate) fn status(&self, process: &Process) -> Status {
        let (own, init) = (process.state(), self.init.state());
        if own == ProcessState::Running && init.is_frozen() {
            return init.status();
        }
        own.status()
    }

    /// To be called after that signal was sent to the init process or to all.
    pub(super) async fn thaw_after(&self, signal: i32) -> Result<(), Error> {
        if signal == libc::SIGKILL && self.init.state().is_frozen() {
            self.on_cgroup(Cgroup::thaw).await?;
        }
        Ok(())
    }

    /// To be called when the init process has ended: others may still be frozen, and have to end.
    pub(super) async fn thaw_the_rest(&self) {
        if !self.init.state().is_frozen() {
            return;
        }
        if let Err(error) = self.on_cgroup(Cgroup::thaw).await {
            warn!(id = self.id.as_str(), error:%; "cannot thaw what a container has left");
        }
    }

    async fn on_cgroup(&self, act: fn(&Cgroup) -> Result<(), CgroupError>) -> Result<(), Error> {
        let Some(cgroup) = self.cgroup.clone() else {
            return Ok(());
        };
        Ok(spawn_blocking(move || act(&cgroup)).await??)
    }
}
