//! From the request of a further process to the process.
//!
//! Called by `task::exec_verbs` on a thread that may block for as long as the container's files do. It reads the
//! bundle and opens the FIFOs; the container's own files are the runner's to look at.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::time::Instant;

use log::{info, warn};
use oci_spec::runtime::Spec;
use wasm_interp_launch::{KeptModule, ProcessStreams, RunningContainer};
use wasm_interp_runner_client::{GuestPlace, InitRuns, SessionKeyring, SharedCeiling};
use wasm_interp_workload::exec_spec;

use super::spec::console_size;
use super::{Launcher, WAITING, log_step, on_new_stage};
use crate::bundle::Bundle;
use crate::error::Error;
use crate::io::{HeldStdio, ProcessStdio, StdioPaths};
use crate::reaper::ContainerProcess;

/// A further process of a running container.
pub(crate) struct ExecRequest<'a> {
    /// The container's id.
    pub(crate) id: &'a str,
    pub(crate) exec_id: &'a str,
    pub(crate) bundle: &'a Bundle,
    /// Its process spec, as JSON.
    pub(crate) wanted: &'a [u8],
    pub(crate) stdio: &'a StdioPaths,
    pub(crate) init: &'a ContainerProcess,
    pub(crate) init_runs: InitRuns,
    pub(crate) module: Option<&'a KeptModule>,
    /// The memory ceiling of the container's guests.
    pub(crate) ceiling: Option<&'a SharedCeiling>,
    /// The session keyring of the container's processes.
    pub(crate) keyring: SessionKeyring,
    /// User and group of its FIFOs, if they are not root.
    pub(crate) io_owner: Option<(u32, u32)>,
}

/// A further process that runs.
#[derive(Debug)]
pub(crate) struct LaunchedProcess {
    pub(crate) process: ContainerProcess,
    pub(crate) stdio: HeldStdio,
    /// A guest's place beneath the memory ceiling of its container. To be kept until the process has ended.
    pub(crate) place: Option<GuestPlace>,
}

impl Launcher {
    /// Makes the process, which runs at once. `spawned` gets the number of each runner, and `killed` says whether
    /// one of them was killed on purpose.
    pub(crate) fn exec(
        &self,
        request: &ExecRequest<'_>,
        spawned: &mut dyn FnMut(u32),
        killed: &dyn Fn() -> bool,
    ) -> Result<LaunchedProcess, Error> {
        let result = self.exec_unless(request, spawned, killed);
        match result {
            // What it says is only that.
            Err(_) if killed() => Err(Error::ExecKilled {
                exec_id: request.exec_id.to_owned(),
            }),
            result => result,
        }
    }

    fn exec_unless(
        &self,
        request: &ExecRequest<'_>,
        spawned: &mut dyn FnMut(u32),
        killed: &dyn Fn() -> bool,
    ) -> Result<LaunchedProcess, Error> {
        let config = request.bundle.config()?;
        let (spec, warnings) = exec_spec(&config, request.wanted).map_err(Error::ExecSpec)?;
        self.warn_of_spec(request.id, &warnings);
        let stdio = self.open_stdio(request.exec_id, request.stdio, request.io_owner, killed)?;
        match self.exec_with(request, &spec, &stdio, spawned, killed) {
            Ok((process, place)) => Ok(LaunchedProcess {
                process,
                stdio: stdio.into_held()?,
                place,
            }),
            Err(error) => {
                stdio.abandon();
                Err(error)
            }
        }
    }

    fn exec_with(
        &self,
        request: &ExecRequest<'_>,
        spec: &Spec,
        stdio: &ProcessStdio,
        spawned: &mut dyn FnMut(u32),
        killed: &dyn Fn() -> bool,
    ) -> Result<(ContainerProcess, Option<GuestPlace>), Error> {
        let began = Instant::now();
        let (id, exec_id) = (request.id, request.exec_id);
        let namespace = self.namespace.as_str();
        if let Some((columns, rows)) = console_size(spec) {
            stdio.resize(columns, rows)?;
        }
        let state = request.bundle.state();
        let container = RunningContainer {
            id,
            init: request.init.init_ref(),
            init_runs: request.init_runs,
            module: request.module,
            keyring: request.keyring,
            bundle: request.bundle.path(),
            state: &state,
        };
        let planned = log_step(id, "runner plan", || {
            let mut call = self.reaper.runner_call();
            self.pipeline.plan_exec(spec, &container, &mut |pid| {
                call.spawned(pid);
                spawned(pid);
            })
        })
        .map_err(Error::Exec)?;
        let prepared = log_step(id, "native code", || {
            let mut report = on_new_stage(|module, stage| {
                info!(id, exec_id, namespace, module, stage:?; "{WAITING}");
            });
            self.pipeline.prepare_exec(planned, &container, &mut report)
        })
        .map_err(Error::Exec)?;
        if killed() {
            return Err(Error::ExecKilled {
                exec_id: exec_id.to_owned(),
            });
        }
        let guest = prepared.is_guest();
        let refusals = guest.then(|| self.refusal_log(id, exec_id)).flatten();
        let place = match request.ceiling.filter(|_| guest) {
            Some(ceiling) => Some(ceiling.place().ok_or(Error::ManyGuests)?),
            None => None,
        };
        let mut call = self.reaper.runner_call();
        let made = log_step(id, "runner exec", || {
            let streams = ProcessStreams {
                stdio: stdio.ends(),
                console: stdio.console(),
                refusals: refusals.as_ref().map(AsFd::as_fd),
            };
            self.pipeline.exec(
                &prepared,
                spec,
                &container,
                &streams,
                place.as_ref(),
                &mut |pid| {
                    call.spawned(pid);
                    spawned(pid);
                },
            )
        })
        .map_err(Error::Exec)?;
        self.warn_of_spec(id, &made.warnings);
        let pid = made.pid;
        let process = self.claim(id, &call, pid).inspect_err(|_| {
            // It runs already, and the start is about to fail. An undone create kills its process too.
            self.reaper.kill_unclaimed(&call, pid);
        })?;
        if let Some(reason) = prepared.uncached() {
            warn!(id, exec_id, namespace, reason; "cannot keep the native code of a process");
        }
        let seconds = began.elapsed().as_secs_f64();
        info!(id, exec_id, namespace, pid, seconds; "runs a further process");
        if let Some(refusals) = refusals {
            refusals.begin();
        }
        Ok((process, place))
    }
}
