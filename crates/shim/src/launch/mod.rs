//! From a create request to a container that waits for its start, and from there to its removal.
//!
//! Called by `service` and `task` on threads that may block. Around the pipeline of
//! [`wasm_interp_launch`] it does what containerd expects of a shim: mounts, stdio, the termination
//! log, logs, and the claim of the init process. If a step fails, everything before it is undone. It
//! does not know what a task is.
#![forbid(unsafe_code)]

mod cancellation;
mod exec;
mod removal;
mod spec;

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use containerd_shim_protos::api::Mount;
use log::{debug, info, warn};
use oci_spec::runtime::{LinuxResources, Spec};
use wasm_interp_artifact::{Artifact, CompileProgress, CompileStage, Origin};
use wasm_interp_launch::{KeptModule, LaunchError, Pipeline, Place, PreparedContainer};
use wasm_interp_mounts::mount_all;
use wasm_interp_runner_client::{InitRuns, SharedCeiling, Workload};
use wasm_interp_workload::{open_root, with_causes};

use crate::bundle::Bundle;
use crate::cgroup::{self, Cgroup};
use crate::error::Error;
use crate::io::{HeldStdio, LogContext, ProcessStdio, StdioError, StdioPaths, TerminationLog};
use crate::options::CreateOptions;
use crate::reaper::{ContainerProcess, Reaper, RunnerCall};
use crate::refusals::RefusalLog;

pub(crate) use cancellation::{Cancellation, CurrentRunner};
pub(crate) use exec::{ExecRequest, LaunchedProcess};
pub(crate) use removal::{Removal, remove};
pub(crate) use spec::{PidNamespace, new_memory_limit};

/// What all containers of this shim have in common.
pub(crate) struct Launcher {
    namespace: String,
    pipeline: Pipeline,
    reaper: Reaper,
}

/// A request to create a container.
#[derive(Debug)]
pub(crate) struct CreateRequest {
    pub(crate) id: String,
    pub(crate) bundle: Bundle,
    pub(crate) rootfs: Vec<Mount>,
    pub(crate) stdio: StdioPaths,
    pub(crate) options: CreateOptions,
}

/// A container that waits for its start.
#[derive(Debug)]
pub(crate) struct LaunchedContainer {
    pub(crate) init: ContainerProcess,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) pid_namespace: PidNamespace,
    /// In bytes.
    pub(crate) memory_limit: Option<i64>,
    /// That of a Wasm container's guests together.
    pub(crate) ceiling: Option<SharedCeiling>,
    pub(crate) termination_log: Option<TerminationLog>,
    pub(crate) init_runs: InitRuns,
    /// The module of a guest.
    pub(crate) module: Option<KeptModule>,
}

impl Launcher {
    pub(crate) fn new(namespace: &str, reaper: Reaper) -> Result<Self, Error> {
        let children = reaper.clone();
        Ok(Self {
            namespace: namespace.to_owned(),
            pipeline: Pipeline::of_this_node(|store| store.spawning_by(children))?,
            reaper,
        })
    }

    /// Creates the container. Fails, and leaves nothing of it, if that is cancelled. A compile then goes on, and its
    /// result serves the next container.
    pub(crate) fn create(
        &self,
        request: &CreateRequest,
        cancellation: &Cancellation,
    ) -> Result<(LaunchedContainer, HeldStdio), Error> {
        // Before all other steps, so that their failures reach the reader of stderr.
        let owner = request.options.io_owner;
        let stdio = self.open_stdio(&request.id, &request.stdio, owner, &|| {
            cancellation.is_cancelled()
        })?;
        let created = self.create_container(request, &stdio, cancellation);
        cancellation.forget_runner();
        match created.map_err(|error| match error {
            // What it says is only that the runner was killed.
            _ if cancellation.is_cancelled() => Error::Cancelled {
                id: request.id.clone(),
            },
            error => error,
        }) {
            Ok(launched) => match stdio.into_held() {
                Ok(held) => Ok((launched, held)),
                Err(error) => {
                    self.undo_create(request, &launched);
                    Err(error.into())
                }
            },
            Err(error) => {
                self.undo(request);
                let reason = with_causes(&error);
                stdio.report(&reason);
                self.note_failure(request, &reason);
                stdio.abandon();
                Err(error)
            }
        }
    }

    /// Opens the streams of a process: a container's or an exec's, by its id.
    fn open_stdio(
        &self,
        id: &str,
        paths: &StdioPaths,
        owner: Option<(u32, u32)>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<ProcessStdio, StdioError> {
        let context = LogContext {
            id,
            namespace: &self.namespace,
            reaper: &self.reaper,
            cancelled,
        };
        let stdio = ProcessStdio::open(paths, &context)?;
        if let Some((uid, gid)) = owner {
            stdio.give_to(uid, gid)?;
        }
        Ok(stdio)
    }

    /// Lets the created container run.
    pub(crate) fn start(&self, id: &str, bundle: &Bundle) -> Result<(), Error> {
        let mut call = self.reaper.runner_call();
        Ok(log_step(id, "runner start", || {
            let mut spawned = |pid| call.spawned(pid);
            self.pipeline
                .runner
                .start(id, &bundle.state(), &mut spawned)
        })?)
    }

    /// Gives the container's cgroup the limits of `resources`, and its guests the ceiling that follows from them.
    ///
    /// The ceiling is lowered before the cgroup's limit, and raised after it. So at no time may the guests take
    /// more than its cgroup allows.
    pub(crate) fn update(
        &self,
        id: &str,
        bundle: &Bundle,
        resources: &LinuxResources,
        ceiling: Option<&SharedCeiling>,
    ) -> Result<(), Error> {
        let limit = spec::new_memory_limit(resources);
        let guest = match (ceiling, limit) {
            (Some(ceiling), Some(limit)) => {
                let bytes = self.pipeline.guest_ceiling(limit.bytes())?;
                Some((ceiling, ceiling.get(), bytes))
            }
            _ => None,
        };
        let beneath = |bytes: Option<u64>| bytes.unwrap_or(u64::MAX);
        if let Some((ceiling, old, new)) = guest {
            ceiling.set(
                [old, new]
                    .into_iter()
                    .min_by_key(|&bytes| beneath(bytes))
                    .flatten(),
            );
        }
        let updated = log_step(id, "runner update", || {
            let mut call = self.reaper.runner_call();
            let mut spawned = |pid| call.spawned(pid);
            let runner = &self.pipeline.runner;
            runner.update(id, &bundle.state(), resources, &mut spawned)
        });
        if let Some((ceiling, old, new)) = guest {
            ceiling.set(if updated.is_ok() { new } else { old });
        }
        Ok(updated?)
    }

    /// Removes a container and everything that belongs to it.
    pub(crate) fn remove(&self, id: &str, bundle: &Bundle, removal: Removal) -> Result<(), Error> {
        let warnings = log_step(id, "delete", || {
            let reaper = Some(&self.reaper);
            remove(&self.pipeline.runner, id, bundle, removal, reaper)
        })?;
        for warning in warnings {
            let namespace = self.namespace.as_str();
            warn!(
                id, namespace, warning = warning.as_str();
                "removed the container with a warning"
            );
        }
        Ok(())
    }

    /// Removes a container that has ended. If its bundle has vanished, the runner does not know the cgroup any more.
    pub(crate) fn remove_ended(
        &self,
        id: &str,
        bundle: &Bundle,
        cgroup: Option<&Cgroup>,
    ) -> Result<(), Error> {
        let has_vanished = !bundle.state().exists();
        self.remove(id, bundle, Removal::OfEnded)?;
        if let Some(cgroup) = cgroup.filter(|_| has_vanished) {
            let namespace = self.namespace.as_str();
            warn!(id, namespace; "the bundle has vanished; the shim itself removes the cgroup");
            cgroup.remove()?;
        }
        Ok(())
    }

    /// Undoes a create that succeeded but that its client has cancelled.
    pub(crate) fn undo_create(&self, request: &CreateRequest, launched: &LaunchedContainer) {
        self.kill(request, &launched.init);
        self.undo(request);
    }

    fn create_container(
        &self,
        request: &CreateRequest,
        stdio: &ProcessStdio,
        cancellation: &Cancellation,
    ) -> Result<LaunchedContainer, Error> {
        let began = Instant::now();
        let id = request.id.as_str();
        cgroup::prepare_first_move();
        log_step(id, "mount", || {
            let mounts: Vec<_> = request.rootfs.iter().map(snapshot_mount).collect();
            mount_all(&mounts, &request.bundle.rootfs())
        })?;
        let (spec, warnings) = request.bundle.spec()?;
        self.warn_of_spec(id, &warnings);
        self.warn_of_options(id, &request.options);
        if spec::has_terminal(&spec) != request.stdio.terminal {
            return Err(Error::Terminal { id: id.to_owned() });
        }
        let root = request.bundle.root_of(&spec);
        let planned = log_step(id, "plan", || -> Result<_, LaunchError> {
            self.pipeline
                .plan(&spec, open_root(&root)?, cancellation.flag())
        })?;
        let prepared = log_step(id, "native code", || {
            let mut report = on_new_stage(|module, stage| {
                let namespace = self.namespace.as_str();
                info!(id, namespace, module, stage:?; "{WAITING}");
            });
            self.pipeline.prepare(&spec, planned, &mut report)
        })?;
        if cancellation.is_cancelled() {
            return Err(Error::Cancelled { id: id.to_owned() });
        }
        if let Some((columns, rows)) = spec::console_size(&spec) {
            stdio.resize(columns, rows)?;
        }
        let termination_log = self.termination_log(id, &spec);
        let ceiling = ceiling(&prepared).map_err(Error::Ceiling)?;
        let refusals = match prepared.workload() {
            Workload::Wasm { .. } => self.refusal_log(id, ""),
            Workload::Native { .. } | Workload::Pause => None,
        };
        let mut call = self.reaper.runner_call();
        let created = log_step(id, "runner create", || {
            let place = Place {
                id,
                bundle: &request.bundle.private(),
                state: &request.bundle.state(),
                stdio: stdio.ends(),
                termination_message: termination_log.as_ref().map(AsFd::as_fd),
                ceiling: ceiling.as_ref().map(AsFd::as_fd),
                console: stdio.console(),
                refusals: refusals.as_ref().map(AsFd::as_fd),
                keyring: request.options.keyring,
            };
            let mut spawned = |pid| {
                call.spawned(pid);
                cancellation.set_runner(pid);
            };
            self.pipeline.create(&prepared, &root, &place, &mut spawned)
        })?;
        self.warn_of_spec(id, &created.warnings);
        let init = self.claim(id, &call, created.pid)?;
        let cgroup = self.locate(request, &init)?;
        self.warn_of_selinux_label(id, &spec);
        self.log_created(id, created.pid, &prepared, began.elapsed());
        if let Some(refusals) = refusals {
            refusals.begin();
        }
        Ok(LaunchedContainer {
            init,
            cgroup,
            pid_namespace: PidNamespace::of(&spec),
            memory_limit: spec::memory_limit(&spec),
            ceiling,
            termination_log,
            init_runs: prepared.init_runs(),
            module: prepared.into_module(),
        })
    }

    /// Claims a process of a container from its runner.
    fn claim(&self, id: &str, call: &RunnerCall, pid: i32) -> Result<ContainerProcess, Error> {
        let claimed = self.reaper.claim(call, pid);
        claimed.map_err(|source| Error::Process {
            id: id.to_owned(),
            pid,
            source,
        })
    }

    /// Finds the cgroup of a new init process and writes its pid. Kills it if that fails.
    fn locate(
        &self,
        request: &CreateRequest,
        init: &ContainerProcess,
    ) -> Result<Option<Cgroup>, Error> {
        let located = Cgroup::of(init.pid())
            .map_err(Error::from)
            .and_then(|cgroup| {
                request.bundle.write_pid(init.pid())?;
                Ok(cgroup)
            });
        if located.is_err() {
            self.kill(request, init);
        }
        located
    }

    fn kill(&self, request: &CreateRequest, init: &ContainerProcess) {
        if let Err(error) = init.signal(libc::SIGKILL) {
            // It may have ended by itself.
            info!(
                id = request.id.as_str(), error:%;
                "cannot kill the init process of an undone create"
            );
        }
        init.exited_blocking();
    }

    fn undo(&self, request: &CreateRequest) {
        // The caller returns the error that led here, so this one is only logged.
        if let Err(error) = self.remove(&request.id, &request.bundle, Removal::Forced) {
            warn!(
                id = request.id.as_str(), namespace = self.namespace.as_str(), error:%;
                "cannot undo a failed create"
            );
        }
    }

    /// Warns of parts of the spec that the container does not get.
    fn warn_of_spec(&self, id: &str, warnings: &[impl std::fmt::Display]) {
        let namespace = self.namespace.as_str();
        for warning in warnings {
            warn!(id, namespace; "the spec is not followed in full: {warning}");
        }
    }

    fn warn_of_options(&self, id: &str, options: &CreateOptions) {
        let namespace = self.namespace.as_str();
        for warning in &options.warnings {
            warn!(id, namespace; "the options are not followed in full: {warning}");
        }
    }

    /// The runner sets no label, because libcontainer 0.7 cannot. A container with a label is not
    /// refused, or nodes with SELinux would run none.
    fn warn_of_selinux_label(&self, id: &str, spec: &Spec) {
        if let Some(label) = spec::selinux_label(spec) {
            let namespace = self.namespace.as_str();
            warn!(
                id, namespace, label;
                "the spec is not followed in full: SELinux labels are not supported"
            );
        }
    }

    fn log_created(&self, id: &str, pid: i32, prepared: &PreparedContainer, took: Duration) {
        let namespace = self.namespace.as_str();
        let seconds = took.as_secs_f64();
        if let Some(reason) = prepared.uncached() {
            warn!(
                id, namespace, reason;
                "cannot keep the native code; every start compiles it again"
            );
        }
        match prepared.artifact() {
            None => {
                let what = match prepared.workload() {
                    Workload::Native { .. } => "native program",
                    Workload::Pause | Workload::Wasm { .. } => "sandbox",
                };
                info!(id, namespace, pid, seconds; "created a {what}");
            }
            Some(Artifact { key, origin, .. }) => {
                let origin = match origin {
                    Origin::Cached => "cached",
                    Origin::Compiled { .. } => "compiled",
                    Origin::Uncached { .. } => "uncached",
                };
                info!(id, namespace, pid, key:%, origin, seconds; "created");
            }
        }
    }

    /// Writes to the termination log why the container is not created.
    fn note_failure(&self, request: &CreateRequest, reason: &str) {
        // If the spec cannot be read, that is the reason, and the log's path is unknown.
        let log = request.bundle.spec().ok();
        if let Some(log) = log.and_then(|(spec, _)| self.termination_log(&request.id, &spec))
            && let Err(error) = log.note(reason)
        {
            warn!(id = request.id.as_str(), error:%; "cannot note the reason of a failed create");
        }
    }

    /// The log of what a guest's process refuses it. The process runs without one too.
    fn refusal_log(&self, id: &str, exec_id: &str) -> Option<RefusalLog> {
        let namespace = self.namespace.as_str();
        let log = RefusalLog::new(namespace, id, exec_id);
        log.inspect_err(|error| {
            warn!(id, exec_id, namespace, error:%; "cannot log what a guest is refused");
        })
        .ok()
    }

    /// The termination log, if the container has one that can be opened. It runs without one too.
    fn termination_log(&self, id: &str, spec: &Spec) -> Option<TerminationLog> {
        TerminationLog::of(spec).unwrap_or_else(|error| {
            let namespace = self.namespace.as_str();
            warn!(id, namespace, error:%; "cannot note the reason of the container's end");
            None
        })
    }
}

/// The memory ceiling of the guests of a Wasm container, which an update can change.
fn ceiling(prepared: &PreparedContainer) -> io::Result<Option<SharedCeiling>> {
    match prepared.workload() {
        Workload::Wasm { plan } => SharedCeiling::new(plan.limits.memory_bytes).map(Some),
        Workload::Native { .. } | Workload::Pause => Ok(None),
    }
}

const WAITING: &str = "waiting for native code: the cache has none yet";

/// Calls `report` for each new stage of a compile. The pipeline reports several times per second.
fn on_new_stage(mut report: impl FnMut(&str, CompileStage)) -> impl FnMut(&str, CompileProgress) {
    let mut last = None;
    move |module: &str, progress: CompileProgress| {
        if last.replace(progress.stage) != Some(progress.stage) {
            report(module, progress.stage);
        }
    }
}

/// Does one step and logs how long it took. `make bench` adds the steps up.
fn log_step<T>(id: &str, step: &str, act: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = act();
    debug!(id, step, milliseconds = began.elapsed().as_secs_f64() * 1e3; "step done");
    result
}

fn snapshot_mount(mount: &Mount) -> wasm_interp_mounts::Mount {
    wasm_interp_mounts::Mount {
        kind: mount.type_.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        options: mount.options.clone(),
    }
}
