//! A guest that is a core module: a command of WASI preview 1.
#![forbid(unsafe_code)]

use std::fs::File;

use wasm_interp_artifact::{ModuleRefusal, load};
use wasm_interp_wasi::{
    Guest, GuestSettings, add_to_linker,
    imports::{self, CoreType, HostFunction},
    signals,
};
use wasmtime::{Engine, ExternType, FuncType, InstancePre, Linker, Module, Store, ValType};

use super::{
    ceiling::Ceiling,
    error::PrepareError,
    outcome::{self, GuestOutcome},
};
use crate::confine::CallGroup;

/// What the store of a guest holds.
struct ModuleHost {
    guest: Guest,
    ceiling: Ceiling,
}

/// A module with its host functions.
pub(super) struct LinkedModule {
    linked: InstancePre<ModuleHost>,
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

impl LinkedModule {
    pub(super) fn new(
        engine: &Engine,
        artifact: File,
        interpreter: &str,
    ) -> Result<Self, PrepareError> {
        let module = load::module(engine, artifact).map_err(|source| PrepareError::Load {
            interpreter: interpreter.to_owned(),
            source,
        })?;
        let mut linker = Linker::new(engine);
        add_to_linker(&mut linker, |host: &mut ModuleHost| &mut host.guest)
            .map_err(PrepareError::Engine)?;
        let linked = match linker.instantiate_pre(&module) {
            Ok(linked) => linked,
            Err(source) => {
                let imports = unknown_imports(&module);
                let interpreter = interpreter.to_owned();
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
                    interpreter: interpreter.to_owned(),
                    refusal: ModuleRefusal::NoStart { reactor },
                });
            }
        }
        Ok(Self {
            linked,
            signals: SignalsOfGuest::of(&module),
            pairs: PairsOfGuest::of(&module),
        })
    }

    /// Makes its context, and closes the fence. What is returned runs it.
    pub(super) fn run<'a>(
        &'a self,
        engine: &'a Engine,
        settings: GuestSettings,
        ceiling: Ceiling,
        close_fence: impl FnOnce(&[CallGroup]) -> Result<(), String>,
    ) -> Result<impl Future<Output = Result<GuestOutcome, String>> + 'a, String> {
        let host = ModuleHost {
            guest: Guest::new(settings).map_err(|e| e.to_string())?,
            ceiling,
        };
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
        Ok(self.fiber(engine, host))
    }

    async fn fiber(&self, engine: &Engine, host: ModuleHost) -> Result<GuestOutcome, String> {
        let mut store = Store::new(engine, host);
        store.limiter(|host| &mut host.ceiling);
        let instance = match self.linked.instantiate_async(&mut store).await {
            Ok(instance) => instance,
            Err(error) => {
                let refused = store.data().ceiling.refused();
                return Ok(outcome::of_instantiation(error, refused));
            }
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
