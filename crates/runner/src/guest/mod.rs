//! The Wasm guest: made ready outside the container, run inside it.
//!
//! [`Prepared::new`] is called by `container::create` before anything is forked, so that whatever
//! is wrong with the module is an error of `create` and the mapped code is inherited;
//! [`Prepared::run`] is called by `executor` as the container's init process. Knows Wasmtime and
//! WASI, not libcontainer.
#![forbid(unsafe_code)]

mod ceiling;
mod outcome;
mod preopens;
mod stdio;

use std::fs::File;

use wasm_interp_artifact::load;

use wasm_interp_workload::{PLAN_VERSION, Plan};
use wasmtime::{Engine, InstancePre, Linker, Module, Store};
use wasmtime_wasi::{
    WasiCtxBuilder,
    p1::{self, WasiP1Ctx},
};

use self::{ceiling::Ceiling, outcome::Outcome, stdio::Stdio};
use crate::sys;

/// The module of WASI preview 1's functions.
const WASI_P1: &str = "wasi_snapshot_preview1";

/// Why a guest cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error(
        "follow a plan of version {found}: this runner knows version {PLAN_VERSION}; the \
         executables of wasm-interp are of different versions"
    )]
    Version { found: u32 },
    #[error("make an engine: {0:#}")]
    Engine(wasmtime::Error),
    #[error("load the native code of {interpreter}: {source:#}")]
    Load {
        interpreter: String,
        source: wasmtime::Error,
    },
    #[error(
        "run {interpreter}: it imports what no container offers: {}; only WASI preview 1 \
         ({WASI_P1}) is offered",
        .imports.join(", ")
    )]
    Imports {
        interpreter: String,
        imports: Vec<String>,
    },
    #[error(
        "run {interpreter}: it exports no function _start, so it is not a command; build it as a \
         WASI command instead of a library or reactor"
    )]
    NoStart { interpreter: String },
    #[error("link {interpreter}: {source:#}")]
    Link {
        interpreter: String,
        source: wasmtime::Error,
    },
}

/// What the store of a guest holds.
struct Host {
    wasi: WasiP1Ctx,
    ceiling: Ceiling,
}

/// A guest that only has to be run.
pub(crate) struct Prepared {
    plan: Plan,
    engine: Engine,
    linked: InstancePre<Host>,
}

impl Prepared {
    /// Maps the artifact and links it.
    pub(crate) fn new(plan: Plan, artifact: File) -> Result<Self, PrepareError> {
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
        let linker = linker(&engine).map_err(PrepareError::Engine)?;
        let linked = match linker.instantiate_pre(&module) {
            Ok(linked) => linked,
            Err(source) => {
                let imports = unknown_imports(&engine, &linker, &module);
                let interpreter = interpreter();
                return Err(if imports.is_empty() {
                    PrepareError::Link {
                        interpreter,
                        source,
                    }
                } else {
                    PrepareError::Imports {
                        interpreter,
                        imports,
                    }
                });
            }
        };
        match module.get_export("_start").as_ref().and_then(|e| e.func()) {
            Some(start) if start.params().len() == 0 && start.results().len() == 0 => {}
            _ => {
                return Err(PrepareError::NoStart {
                    interpreter: interpreter(),
                });
            }
        }
        Ok(Self {
            plan,
            engine,
            linked,
        })
    }

    /// The plan that it follows.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs the guest to its end: the exit code, and what there is to say of it.
    pub(crate) fn run(&self) -> (i32, Option<String>) {
        let outcome = match self.guest() {
            Ok(guest) => guest,
            Err(reason) => Outcome::NotStarted(reason),
        };
        outcome.report(&self.plan)
    }

    fn guest(&self) -> Result<Outcome, String> {
        // A runtime of this thread alone: the guest must not need a second one, because a
        // container may have a limit of one task.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|e| format!("make the event loop: {e}"))?;
        runtime.block_on(async {
            let mut store = Store::new(&self.engine, self.host()?);
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
                Ok(()) => Outcome::Returned,
                Err(error) => Outcome::Trapped { error, refused },
            })
        })
    }

    fn host(&self) -> Result<Host, String> {
        let mut wasi = WasiCtxBuilder::new();
        wasi.allow_blocking_current_thread(true)
            .args(&self.plan.argv)
            .envs(&self.plan.env)
            .initial_cwd(&self.plan.cwd)
            .stdin(Stdio::new(sys::STDIN))
            .stdout(Stdio::new(sys::STDOUT))
            .stderr(Stdio::new(sys::STDERR));
        for preopen in preopens::of(&self.plan.grants) {
            preopen.open(&mut wasi)?;
        }
        Ok(Host {
            wasi: wasi.build_p1(),
            ceiling: Ceiling::new(self.plan.limits.memory_bytes),
        })
    }
}

/// WASI preview 1, with an exit that passes every code on.
fn linker(engine: &Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    p1::add_to_linker_async(&mut linker, |host: &mut Host| &mut host.wasi)?;
    // Wasmtime's own turns codes from 126 on into traps. Ending the process here is also the
    // shortest way out: the kernel takes back the guest's memory faster than we could.
    linker.allow_shadowing(true);
    linker.func_wrap(WASI_P1, "proc_exit", |code: i32| -> () {
        sys::exit_now(code & 0xff)
    })?;
    Ok(linker)
}

/// Every import that `linker` does not know, as `module.name`.
fn unknown_imports(engine: &Engine, linker: &Linker<Host>, module: &Module) -> Vec<String> {
    let host = Host {
        wasi: WasiCtxBuilder::new().build_p1(),
        ceiling: Ceiling::new(None),
    };
    let mut store = Store::new(engine, host);
    let mut unknown: Vec<_> = module
        .imports()
        .filter(|import| linker.get_by_import(&mut store, import).is_none())
        .map(|import| format!("{}.{}", import.module(), import.name()))
        .collect();
    unknown.sort();
    unknown.dedup();
    unknown
}
