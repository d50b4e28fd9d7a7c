//! The Wasm guest: made ready outside the container, run inside it.
//!
//! [`Prepared::new`] is called by `container::create` before anything is forked, so that whatever
//! is wrong with the module is an error of `create` and the mapped code is inherited;
//! [`Prepared::run`] is called by `executor` as the container's init process. Knows Wasmtime and
//! the guest's system interface, not libcontainer.
#![forbid(unsafe_code)]

mod ceiling;
mod outcome;

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use wasm_interp_artifact::{ModuleRefusal, load};
use wasm_interp_runner_client::CeilingView;
use wasm_interp_wasi::{
    Guest, GuestSettings, LateMounts, add_to_linker,
    imports::{self, CoreType, HostFunction},
    paths, signals,
};
use wasm_interp_workload::{PLAN_VERSION, Plan};
use wasmtime::{Engine, ExternType, FuncType, InstancePre, Linker, Module, Store, ValType};

use self::{
    ceiling::{Ceiling, MemoryLimit},
    outcome::GuestOutcome,
};
use crate::confine::CallGroup;

/// Why a guest cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error(
        "cannot follow a plan of version {found}: this runner knows version {PLAN_VERSION}; the \
         executables of wasm-interp are of different versions"
    )]
    Version { found: u32 },
    #[error("cannot make an engine: {0:#}")]
    Engine(wasmtime::Error),
    #[error("cannot load the native code of {interpreter}: {source:#}")]
    Load {
        interpreter: String,
        source: wasmtime::Error,
    },
    /// The compiler refuses such modules too, in the same words.
    #[error("cannot run {interpreter}: {refusal}")]
    Refused {
        interpreter: String,
        refusal: ModuleRefusal,
    },
    #[error("cannot map the ceiling of the guest's memory: {0}")]
    Ceiling(#[source] std::io::Error),
    #[error("cannot link {interpreter}: {source:#}")]
    Link {
        interpreter: String,
        source: wasmtime::Error,
    },
}

/// What the store of a guest holds.
struct Host {
    guest: Guest,
    ceiling: Ceiling,
}

/// A guest that only has to be run.
pub(crate) struct Prepared {
    plan: Plan,
    engine: Engine,
    linked: InstancePre<Host>,
    limit: Arc<MemoryLimit>,
    signals: SignalsOfGuest,
    pairs: PairsOfGuest,
}

/// What signals do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SignalsOfGuest {
    /// They end it: its module knows none.
    End,
    /// It may handle them.
    Handled,
}

impl SignalsOfGuest {
    fn of(module: &Module) -> Self {
        let mut imports = module.imports();
        if imports.any(|import| imports::handles_signals(import.module(), import.name())) {
            Self::Handled
        } else {
            Self::End
        }
    }

    /// What its process asks of the kernel besides what every guest does.
    fn calls(self) -> Option<CallGroup> {
        match self {
            Self::End => None,
            Self::Handled => Some(CallGroup::Signals),
        }
    }
}

/// Whether it makes pairs of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PairsOfGuest {
    /// Its module does not import the function.
    None,
    Made,
}

impl PairsOfGuest {
    fn of(module: &Module) -> Self {
        let mut imports = module.imports();
        if imports.any(|import| imports::makes_pairs(import.module(), import.name())) {
            Self::Made
        } else {
            Self::None
        }
    }

    fn calls(self) -> Option<CallGroup> {
        match self {
            Self::None => None,
            Self::Made => Some(CallGroup::Pairs),
        }
    }
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
        let interpreter = || plan.interpreter.path.clone();
        let engine = load::engine(plan.limits.stack_bytes).map_err(PrepareError::Engine)?;
        let module = load::module(&engine, artifact).map_err(|source| PrepareError::Load {
            interpreter: interpreter(),
            source,
        })?;
        let mut linker = Linker::new(&engine);
        add_to_linker(&mut linker, |host: &mut Host| &mut host.guest)
            .map_err(PrepareError::Engine)?;
        let linked = match linker.instantiate_pre(&module) {
            Ok(linked) => linked,
            Err(source) => {
                let imports = unknown_imports(&module);
                let interpreter = interpreter();
                return Err(if imports.is_empty() {
                    PrepareError::Link {
                        interpreter,
                        source,
                    }
                } else {
                    PrepareError::Refused {
                        interpreter,
                        refusal: ModuleRefusal::Imports { imports },
                    }
                });
            }
        };
        match module.get_export("_start").as_ref().and_then(|e| e.func()) {
            Some(start) if start.params().len() == 0 && start.results().len() == 0 => {}
            _ => {
                let reactor = module.get_export("_initialize").is_some();
                return Err(PrepareError::Refused {
                    interpreter: interpreter(),
                    refusal: ModuleRefusal::NoStart { reactor },
                });
            }
        }
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
            signals: SignalsOfGuest::of(&module),
            pairs: PairsOfGuest::of(&module),
            limit: Arc::new(limit),
        })
    }

    /// The plan that it follows.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs the guest to its end: the exit code, and what there is to say of it.
    ///
    /// What the guest is refused is written to `refusals` too, for the caller's log. `close_fence` is called when no more is needed of the kernel than what the guest's functions need,
    /// and before any code of the guest runs. It gets what this guest needs besides.
    pub(crate) fn run(
        &self,
        late_mounts: LateMounts,
        refusals: Option<Arc<OwnedFd>>,
        close_fence: impl FnOnce(&[CallGroup]) -> Result<(), String>,
    ) -> (i32, Option<String>) {
        let guest = self.host(late_mounts, refusals).and_then(|host| {
            if self.signals == SignalsOfGuest::Handled {
                signals::prepare().map_err(|e| {
                    format!(
                        "cannot handle signals: {e}; if the pod's seccomp profile refuses the \
                         call, allow timer_create and timer_settime in it"
                    )
                })?;
            }
            let calls = [self.signals.calls(), self.pairs.calls()];
            let calls: Vec<_> = calls.into_iter().flatten().collect();
            close_fence(&calls)?;
            self.guest(host)
        });
        let outcome = match guest {
            Ok(guest) => guest,
            Err(reason) => GuestOutcome::NotStarted(reason),
        };
        outcome.report(&self.plan)
    }

    /// The guest runs on a fiber, for a stack of its own, and every call that it makes blocks this
    /// thread. So the fiber's future is ready when it is polled first, and needs no event loop.
    fn guest(&self, host: Host) -> Result<GuestOutcome, String> {
        match pin!(self.fiber(host)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => Err("its fiber waits for an event, and there are none".to_owned()),
        }
    }

    async fn fiber(&self, host: Host) -> Result<GuestOutcome, String> {
        let mut store = Store::new(&self.engine, host);
        store.limiter(|host| &mut host.ceiling);
        let instance = match self.linked.instantiate_async(&mut store).await {
            Ok(instance) => instance,
            Err(error) => return Ok(outcome::of_instantiation(error)),
        };
        let start = instance
            .get_typed_func::<(), ()>(&mut store, "_start")
            .map_err(|e| format!("find _start: {e:#}"))?;
        let result = start.call_async(&mut store, ()).await;
        let refused = store.data().ceiling.refused();
        Ok(match result {
            Ok(()) => GuestOutcome::Returned,
            Err(error) => GuestOutcome::Trapped { error, refused },
        })
    }

    fn host(
        &self,
        late_mounts: LateMounts,
        refusals: Option<Arc<OwnedFd>>,
    ) -> Result<Host, String> {
        let bytes = |text: &String| text.clone().into_bytes();
        let settings = GuestSettings {
            arguments: self.plan.argv.iter().map(bytes).collect(),
            environment: self
                .plan
                .env
                .iter()
                .map(|(name, value)| (bytes(name), bytes(value)))
                .collect(),
            root: paths::root().map_err(|e| format!("open its root directory: {e}"))?,
            late_mounts,
            network: self.plan.network.clone(),
            refusals,
        };
        Ok(Host {
            guest: Guest::new(settings).map_err(|e| e.to_string())?,
            ceiling: Ceiling::new(Arc::clone(&self.limit)),
        })
    }
}

/// Every import that is no host function, as [`ModuleRefusal::Imports`] names it.
fn unknown_imports(module: &Module) -> Vec<String> {
    let mut unknown: Vec<_> = module
        .imports()
        .filter_map(|import| {
            let kind = match import.ty() {
                ExternType::Func(wanted) => match imports::find(import.module(), import.name()) {
                    Some(offered) if same(&wanted, offered) => return None,
                    Some(_) => "function of another type",
                    None => "function",
                },
                ExternType::Global(_) => "global",
                ExternType::Table(_) => "table",
                ExternType::Memory(_) => "memory",
                ExternType::Tag(_) => "exception tag",
            };
            Some(format!("{}.{} ({kind})", import.module(), import.name()))
        })
        .collect();
    unknown.sort();
    unknown.dedup();
    unknown
}

fn same(wanted: &FuncType, offered: &HostFunction) -> bool {
    let core = |kind: ValType| match kind {
        ValType::I32 => Some(CoreType::I32),
        ValType::I64 => Some(CoreType::I64),
        _ => None,
    };
    let of = |types: &[CoreType]| types.iter().copied().map(Some).collect::<Vec<_>>();
    wanted.params().map(core).eq(of(offered.parameters))
        && wanted.results().map(core).eq(of(offered.results))
}
