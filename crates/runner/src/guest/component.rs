//! A guest that is a component: a command of WASI 0.2.
#![forbid(unsafe_code)]

use std::fs::File;

use wasm_interp_artifact::load;
use wasm_interp_wasi::{
    GuestSettings,
    p2::{CommandPre, ComponentGuest, HasComponentGuest, add_to_linker, bound_calls},
};
use wasmtime::{Engine, Store, component::Linker};

use super::{
    ceiling::Ceiling,
    error::PrepareError,
    outcome::{self, GuestOutcome},
};
use crate::confine::CallGroup;

/// What the store of a guest holds.
struct ComponentHost {
    guest: ComponentGuest,
    ceiling: Ceiling,
}

impl HasComponentGuest for ComponentHost {
    fn component_guest(&mut self) -> &mut ComponentGuest {
        &mut self.guest
    }
}

/// A component with its host functions.
pub(super) struct LinkedComponent {
    linked: CommandPre<ComponentHost>,
}

impl LinkedComponent {
    pub(super) fn new(
        engine: &Engine,
        artifact: File,
        interpreter: &str,
    ) -> Result<Self, PrepareError> {
        let interpreter = || interpreter.to_owned();
        let loaded = load::component(engine, artifact);
        let component = loaded.map_err(|source| PrepareError::Load {
            interpreter: interpreter(),
            source,
        })?;
        let mut linker = Linker::new(engine);
        add_to_linker(&mut linker).map_err(PrepareError::Engine)?;
        // The compiler has compared its imports and its entry already, so what fails here is a fault of ours.
        let linked = linker.instantiate_pre(&component).and_then(CommandPre::new);
        let linked = linked.map_err(|source| PrepareError::Link {
            interpreter: interpreter(),
            source,
        })?;
        Ok(Self { linked })
    }

    /// Makes its context, and closes the fence. What is returned runs it.
    pub(super) fn run<'a>(
        &'a self,
        engine: &'a Engine,
        settings: GuestSettings,
        directory: String,
        ceiling: Ceiling,
        close_fence: impl FnOnce(&[CallGroup]) -> Result<(), String>,
    ) -> Result<impl Future<Output = Result<GuestOutcome, String>> + 'a, String> {
        let hops = settings.network.needs().internet();
        let host = ComponentHost {
            guest: ComponentGuest::new(settings, directory).map_err(|e| e.to_string())?,
            ceiling,
        };
        let calls: &[CallGroup] = if hops { &[CallGroup::Hops] } else { &[] };
        close_fence(calls)?;
        Ok(self.fiber(engine, host))
    }

    async fn fiber(&self, engine: &Engine, host: ComponentHost) -> Result<GuestOutcome, String> {
        let mut store = Store::new(engine, host);
        store.limiter(|host| &mut host.ceiling);
        bound_calls(&mut store);
        let command = match self.linked.instantiate_async(&mut store).await {
            Ok(command) => command,
            Err(error) => {
                let refused = store.data().ceiling.refused();
                return Ok(outcome::of_instantiation(error, refused));
            }
        };
        let result = command.wasi_cli_run().call_run(&mut store).await;
        let refused = store.data().ceiling.refused();
        Ok(match result {
            Ok(ended) => {
                store.data().guest.finish();
                match ended {
                    Ok(()) => GuestOutcome::Returned,
                    Err(()) => GuestOutcome::Unsuccessful,
                }
            }
            Err(error) => GuestOutcome::Trapped { error, refused },
        })
    }
}
