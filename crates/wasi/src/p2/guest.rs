//! The context of a component: all that its host functions work on.
#![forbid(unsafe_code)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use wasmtime::component::{Resource, ResourceTable};

use super::handles::{PATIENCE, Slots, Unsent};
use crate::{
    clocks::Resolutions,
    guest::{GuestError, GuestSettings, check_streams},
    limits,
    paths::Paths,
    sockets::{self, NetworkGrants, Resolver},
};

/// The data of a store that runs a component.
pub trait HasComponentGuest: Send + 'static {
    /// The context of the component.
    fn component_guest(&mut self) -> &mut ComponentGuest;
}

/// How long the end of a component waits for others to take what it has sent.
const LINGER: Duration = Duration::from_secs(10);

/// The context of one component.
#[derive(Debug)]
pub struct ComponentGuest {
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) directory: String,
    pub(super) paths: Paths,
    pub(super) resolutions: Resolutions,
    pub(super) grants: NetworkGrants,
    pub(super) resolver: Resolver,
    /// What its handles stand for.
    pub(super) table: ResourceTable,
    /// How many sockets it may have.
    pub(super) socket_slots: Slots,
    /// How many results of look-ups.
    pub(super) look_up_slots: Slots,
    /// How many directories it may be reading.
    pub(super) listing_slots: Slots,
    /// Its streams that hold data for the other side.
    pub(super) unsent: Arc<Unsent>,
}

impl ComponentGuest {
    /// Makes the context of a component in this process. `directory` is where its relative paths shall begin.
    ///
    /// # Errors
    /// If a stream is a directory.
    pub fn new(settings: GuestSettings, directory: String) -> Result<Self, GuestError> {
        let GuestSettings {
            arguments,
            environment,
            root,
            late_mounts,
            // WASI 0.2 has no modes.
            modes_by: _,
            network,
            refusals,
        } = settings;
        check_streams()?;
        let paths = Paths::new(Arc::new(root), late_mounts);
        let (grants, resolver) = sockets::of_guest(network, refusals, &paths);
        let unsent = Unsent::new(PATIENCE);
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits::HANDLES);
        Ok(Self {
            arguments: arguments.into_iter().map(text).collect(),
            environment: environment
                .into_iter()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
            directory,
            resolutions: Resolutions::of_kernel(),
            grants: grants.beside(unsent.clone()),
            resolver: resolver.beside(unsent.clone()),
            paths,
            table,
            socket_slots: Slots::new(limits::SOCKETS),
            look_up_slots: Slots::new(limits::LOOK_UPS),
            listing_slots: Slots::new(limits::COMPONENT_LISTINGS),
            unsent,
        })
    }

    /// Gives a new resource to the guest.
    pub(super) fn push<R: Send + 'static>(&mut self, resource: R) -> wasmtime::Result<Resource<R>> {
        Ok(self.table.push(resource)?)
    }

    /// The guest calls a function. One that calls and calls, and never waits, sends by that what it has written.
    pub(super) fn called(&mut self) -> &mut Self {
        self.unsent.now_and_then();
        self
    }

    /// Waits a while for what was written and not yet taken. Called when the component ends.
    pub fn finish(&self) {
        self.unsent.drain(Instant::now() + LINGER);
    }
}

/// Strings of a component are Unicode. The plan's are too.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
