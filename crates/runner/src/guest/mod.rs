//! The Wasm guest: made ready outside the container, run inside it.
//!
//! [`Prepared::new`] is called by `container::create` before anything is forked, so that whatever
//! is wrong with the program is an error of `create` and the mapped code is inherited;
//! [`Prepared::run`] is called by `executor` as the container's init process. There are two kinds of guests: a
//! [`module`] and a [`component`]. Nothing of one is touched for the other. Knows Wasmtime and
//! the guest's system interface, not libcontainer.
#![forbid(unsafe_code)]

mod ceiling;
mod component;
mod error;
mod module;
mod outcome;

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use wasm_interp_artifact::load;
use wasm_interp_runner_client::CeilingView;
use wasm_interp_wasi::{GuestSettings, LateMounts, ModesBy, fiber, paths};
use wasm_interp_workload::{GuestKind, PLAN_VERSION, Plan};
use wasmtime::Engine;

pub(crate) use self::error::PrepareError;
use self::{
    ceiling::{Ceiling, MemoryLimit},
    component::LinkedComponent,
    module::LinkedModule,
    outcome::GuestOutcome,
};
use crate::confine::CallGroup;

/// A guest that only has to be run.
pub(crate) struct Prepared {
    plan: Plan,
    engine: Engine,
    linked: Linked,
    limit: Arc<MemoryLimit>,
}

/// A program with its host functions.
enum Linked {
    Module(LinkedModule),
    /// Larger, and rarer.
    Component(Box<LinkedComponent>),
}

impl Prepared {
    /// Maps the artifact and links it. `ceiling` is what the caller changes while the guest runs, and the guest's
    /// place in it.
    pub(crate) fn new(
        plan: Plan,
        artifact: File,
        ceiling: Option<(File, u32)>,
    ) -> Result<Self, PrepareError> {
        if plan.version != PLAN_VERSION {
            return Err(PrepareError::Version {
                found: plan.version,
            });
        }
        let interpreter = plan.interpreter.path.as_str();
        let engine = load::engine(plan.limits.stack_bytes).map_err(PrepareError::Engine)?;
        let linked = match plan.kind {
            GuestKind::Module => {
                LinkedModule::new(&engine, artifact, interpreter).map(Linked::Module)?
            }
            GuestKind::Component => LinkedComponent::new(&engine, artifact, interpreter)
                .map(Box::new)
                .map(Linked::Component)?,
        };
        let limit = match ceiling {
            None => MemoryLimit::Fixed(plan.limits.memory_bytes),
            Some((file, place)) => {
                let view = CeilingView::map(file.as_fd(), place);
                MemoryLimit::Shared(view.map_err(PrepareError::Ceiling)?)
            }
        };
        Ok(Self {
            plan,
            engine,
            linked,
            limit: Arc::new(limit),
        })
    }

    /// The plan that it follows.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs the guest to its end: the exit code, and what there is to say of it.
    ///
    /// What the guest is refused is written to `refusals` too, for the caller's log. `close_fence` is called
    /// right before the guest's first code, with the further system calls that this guest needs.
    pub(crate) fn run(
        &self,
        late_mounts: LateMounts,
        modes_by: ModesBy,
        refusals: Option<Arc<OwnedFd>>,
        close_fence: impl FnOnce(&[CallGroup]) -> Result<(), String>,
    ) -> (i32, Option<String>) {
        let outcome = self
            .settings(late_mounts, modes_by, refusals)
            .and_then(|settings| match &self.linked {
                Linked::Module(module) => {
                    let run = module.run(&self.engine, settings, self.ceiling(), close_fence);
                    fiber::complete(run?).map_err(|error| error.to_string())?
                }
                Linked::Component(component) => {
                    let directory = self.plan.cwd.clone();
                    let ceiling = self.ceiling();
                    let run =
                        component.run(&self.engine, settings, directory, ceiling, close_fence);
                    fiber::complete(run?).map_err(|error| error.to_string())?
                }
            })
            .unwrap_or_else(GuestOutcome::NotStarted);
        outcome.report(&self.plan)
    }

    fn ceiling(&self) -> Ceiling {
        Ceiling::new(Arc::clone(&self.limit))
    }

    fn settings(
        &self,
        late_mounts: LateMounts,
        modes_by: ModesBy,
        refusals: Option<Arc<OwnedFd>>,
    ) -> Result<GuestSettings, String> {
        let bytes = |text: &String| text.clone().into_bytes();
        Ok(GuestSettings {
            arguments: self.plan.argv.iter().map(bytes).collect(),
            environment: self
                .plan
                .env
                .iter()
                .map(|(name, value)| (bytes(name), bytes(value)))
                .collect(),
            root: paths::root().map_err(|e| format!("open its root directory: {e}"))?,
            late_mounts,
            modes_by,
            network: self.plan.network.clone(),
            refusals,
        })
    }
}
