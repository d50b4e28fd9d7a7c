//! Runs `preinit` of a module, and makes a module of the memory that it leaves.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use wasm_interp_artifact::load;
use wasm_interp_network::Network;
use wasm_interp_wasi::{Guest, GuestError, GuestSettings, LateMounts, ModesBy, fiber, paths};
use wasmtime::{Engine, Instance, Linker, Store, Val};
use wasmtime_wizer::{InstanceState, ModuleContext, SnapshotVal, ValType, Wizer};

use crate::confine::StreamsAside;
use crate::host;

/// The export that initializes.
pub(crate) const PREINIT: &str = "preinit";

/// More than a container has by default: what runs here is known.
const STACK: u64 = 16 << 20;

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("{0}")]
    Guest(#[source] GuestError),
    #[error("cannot open its root directory: {0}")]
    Root(#[source] std::io::Error),
    #[error("cannot replace its streams: {0}")]
    Streams(#[source] std::io::Error),
    #[error("{error:#}; it wrote: {written}")]
    Failed {
        error: wasmtime::Error,
        written: String,
    },
    #[error("a global is of a type that cannot be kept: {0}")]
    Global(String),
}

/// A module that can be initialized.
pub(crate) struct Initializable<'a> {
    wizer: Wizer,
    context: ModuleContext<'a>,
    engine: Engine,
    module: wasmtime::Module,
}

impl<'a> Initializable<'a> {
    /// Compiles a module with exports for all of its state.
    pub(crate) fn compile(wasm: &'a [u8]) -> wasmtime::Result<Self> {
        let mut wizer = Wizer::new();
        wizer.init_func(PREINIT);
        let (context, instrumented) = wizer.instrument(wasm)?;
        let engine = load::engine(STACK)?;
        let module = wasmtime::Module::new(&engine, instrumented)?;
        Ok(Self {
            wizer,
            context,
            engine,
            module,
        })
    }

    /// Runs `preinit` in this process's root directory; the module with the memory that it left.
    pub(crate) fn initialize(
        self,
        name: &Path,
        environment: Vec<(String, String)>,
    ) -> Result<Vec<u8>, SnapshotError> {
        let streams = StreamsAside::replace().map_err(SnapshotError::Streams)?;
        let state = self.run(name, environment);
        let written = streams.give_back().map_err(SnapshotError::Streams)?;
        let failed = |error| SnapshotError::Failed { error, written };
        let mut state = match state? {
            Ok(state) => state,
            Err(error) => return Err(failed(error)),
        };
        finish(self.wizer.snapshot(&self.context, &mut state)).map_err(failed)
    }

    fn run(
        &self,
        name: &Path,
        environment: Vec<(String, String)>,
    ) -> Result<wasmtime::Result<InstanceContents>, SnapshotError> {
        let bytes = |(name, value): (String, String)| (name.into_bytes(), value.into_bytes());
        let guest = Guest::new(GuestSettings {
            arguments: vec![name.as_os_str().as_bytes().to_vec()],
            environment: environment.into_iter().map(bytes).collect(),
            root: paths::root().map_err(SnapshotError::Root)?,
            late_mounts: LateMounts::Impossible,
            modes_by: ModesBy::of_kernel(),
            network: Network::default(),
            refusals: None,
        })
        .map_err(SnapshotError::Guest)?;
        let mut store = Store::new(&self.engine, guest);
        let instance = match finish(self.call(&mut store)) {
            Ok(instance) => instance,
            Err(error) => return Ok(Err(error)),
        };
        InstanceContents::of(&mut store, &instance, &self.module).map(Ok)
    }

    async fn call(&self, store: &mut Store<Guest>) -> wasmtime::Result<Instance> {
        let mut linker = Linker::new(&self.engine);
        host::add(&mut linker)?;
        let instance = linker.instantiate_async(&mut *store, &self.module).await?;
        let preinit = instance.get_typed_func::<(), ()>(&mut *store, PREINIT)?;
        preinit.call_async(&mut *store, ()).await?;
        Ok(instance)
    }
}

fn finish<T>(call: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
    fiber::complete(call).map_err(wasmtime::Error::new)?
}

/// Everything that an instance can change: its memories and globals, by the names of their exports.
struct InstanceContents {
    memories: HashMap<String, Vec<u8>>,
    globals: HashMap<String, SnapshotVal>,
}

impl InstanceContents {
    fn of(
        store: &mut Store<Guest>,
        instance: &Instance,
        module: &wasmtime::Module,
    ) -> Result<Self, SnapshotError> {
        let mut state = Self {
            memories: HashMap::new(),
            globals: HashMap::new(),
        };
        for export in module.exports() {
            let name = export.name();
            if let Some(memory) = instance.get_memory(&mut *store, name) {
                state
                    .memories
                    .insert(name.to_owned(), memory.data(&*store).to_vec());
            } else if let Some(global) = instance.get_global(&mut *store, name) {
                let value = match global.get(&mut *store) {
                    Val::I32(value) => SnapshotVal::I32(value),
                    Val::I64(value) => SnapshotVal::I64(value),
                    Val::F32(value) => SnapshotVal::F32(value),
                    Val::F64(value) => SnapshotVal::F64(value),
                    _ => return Err(SnapshotError::Global(name.to_owned())),
                };
                state.globals.insert(name.to_owned(), value);
            }
        }
        Ok(state)
    }
}

impl InstanceState for InstanceContents {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        // Wizer asks once for each export that it made.
        match self.globals.remove(name) {
            Some(value) => value,
            None => panic!("a global without an export: {name}"),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        contents(&self.memories[name]);
    }
}
