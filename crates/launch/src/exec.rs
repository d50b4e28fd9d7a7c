//! A further process of a running container: the same pipeline, over the container's live files.
//!
//! ```text
//! Pipeline::plan_exec ──▶ PlannedProcess ──▶ Pipeline::prepare_exec ──▶ PreparedProcess ──▶ Pipeline::exec ──▶ pid
//!   runner                                     native code                                runner
//! ```
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use oci_spec::runtime::Spec;
use wasm_interp_artifact::{Artifact, CodeRequest, CompileProgress};
use wasm_interp_policy::Policy;
use wasm_interp_runner_client::{
    CreatedContainer, Execution, GuestPlace, InitRef, InitRuns, PlannedModule, PlannedProcess,
    SessionKeyring, Workload,
};

use crate::{KeptModule, LaunchError, Pipeline, uncached};

/// A running container, in which a further process is to run.
#[derive(Clone, Copy, Debug)]
pub struct RunningContainer<'a> {
    /// Container id.
    pub id: &'a str,
    /// Its init process.
    pub init: InitRef<'a>,
    /// What that is.
    pub init_runs: InitRuns,
    /// Its module, if it is a guest.
    pub module: Option<&'a KeptModule>,
    /// containerd's bundle.
    pub bundle: &'a Path,
    /// The directory of the runner's state that the container was created with.
    pub state: &'a Path,
    /// The session keyring that the container was created with.
    pub keyring: SessionKeyring,
}

/// The standard streams of a further process.
#[derive(Clone, Copy, Debug)]
pub struct ProcessStreams<'a> {
    /// Standard input, output and error.
    pub stdio: [BorrowedFd<'a>; 3],
    /// As [`Place::console`](crate::Place::console).
    pub console: Option<BorrowedFd<'a>>,
    /// As [`Place::refusals`](crate::Place::refusals).
    pub refusals: Option<BorrowedFd<'a>>,
}

/// A further process that only has to be made.
#[derive(Debug)]
pub struct PreparedProcess {
    workload: Workload,
    code: ProcessCode,
}

#[derive(Debug)]
enum ProcessCode {
    /// It is native.
    None,
    /// That of the init process.
    Inits,
    Own(Artifact),
}

impl PreparedProcess {
    /// Whether it is a Wasm guest.
    #[must_use]
    pub fn is_guest(&self) -> bool {
        matches!(self.workload, Workload::Wasm { .. })
    }

    /// Why the native code could not be kept, if that is so.
    #[must_use]
    pub fn uncached(&self) -> Option<&str> {
        match &self.code {
            ProcessCode::Own(artifact) => uncached(artifact),
            ProcessCode::None | ProcessCode::Inits => None,
        }
    }
}

impl Pipeline {
    /// Decides what the process that `spec` describes (`wasm_interp_workload::exec_spec`) runs. The runner looks at
    /// the container's files; `spawned` gets its number, and it may be killed.
    ///
    /// # Errors
    /// If it cannot run. The text holds runc's words for a program that is missing or not permitted.
    pub fn plan_exec(
        &self,
        spec: &Spec,
        container: &RunningContainer<'_>,
        spawned: &mut dyn FnMut(u32),
    ) -> Result<PlannedProcess, LaunchError> {
        let (id, init) = (container.id, container.init);
        let planned = self
            .runner
            .plan(id, spec, &self.policy_file, init, spawned)?;
        Ok(planned)
    }

    /// Gets native code for a guest. Blocks as long as a compile takes, which happens only for another module than
    /// the init process's.
    ///
    /// # Errors
    /// If there is no native code to be had.
    pub fn prepare_exec(
        &self,
        planned: PlannedProcess,
        container: &RunningContainer<'_>,
        on_progress: &mut dyn FnMut(&str, CompileProgress),
    ) -> Result<PreparedProcess, LaunchError> {
        let code = match planned.module {
            None => ProcessCode::None,
            Some(module)
                if container
                    .module
                    .is_some_and(|kept| kept.stamp == module.stamp) =>
            {
                ProcessCode::Inits
            }
            Some(PlannedModule { file, .. }) => {
                let name = match &planned.workload {
                    Workload::Wasm { plan } => plan.interpreter.path.as_str(),
                    Workload::Native { .. } | Workload::Pause => "the interpreter",
                };
                let request = CodeRequest {
                    wasm: &file,
                    name,
                    compiler: &self.compiler,
                    policy: Policy::load(&self.policy_file)?.cache,
                };
                let artifact = self
                    .store
                    .get(&request, &mut |progress| on_progress(name, progress))?;
                ProcessCode::Own(artifact)
            }
        };
        Ok(PreparedProcess {
            workload: planned.workload,
            code,
        })
    }

    /// Makes the process, which runs at once. `place` is a guest's among those of the container. `spawned` gets the number of the runner: if it is killed, there is no
    /// such process.
    ///
    /// # Errors
    /// If it cannot run. There is no such process then.
    pub fn exec(
        &self,
        prepared: &PreparedProcess,
        spec: &Spec,
        container: &RunningContainer<'_>,
        streams: &ProcessStreams<'_>,
        place: Option<&GuestPlace>,
        spawned: &mut dyn FnMut(u32),
    ) -> Result<CreatedContainer, LaunchError> {
        let artifact = match &prepared.code {
            ProcessCode::None => None,
            ProcessCode::Inits => container.module.map(|kept| kept.code.as_fd()),
            ProcessCode::Own(artifact) => Some(artifact.file.as_fd()),
        };
        let execution = Execution {
            id: container.id,
            bundle: container.bundle,
            state: container.state,
            spec,
            workload: &prepared.workload,
            artifact,
            init: container.init,
            init_runs: container.init_runs,
            place,
            keyring: container.keyring,
            console: streams.console,
            refusals: streams.refusals,
            stdio: streams.stdio,
        };
        Ok(self.runner.exec(&execution, spawned)?)
    }
}
