//! `wasi:io/poll` and `wasi:io/error`.
#![forbid(unsafe_code)]

use wasmtime::component::{Resource, ResourceTable};

use crate::{
    limits,
    p2::{
        bindings::wasi::io::{error, poll as interface},
        failure::IoError,
        guest::ComponentGuest,
        handles::{Patience, Pollable, wait},
    },
};

fn all<'a>(
    table: &'a ResourceTable,
    handles: &[Resource<Pollable>],
) -> wasmtime::Result<Vec<&'a Pollable>> {
    if handles.is_empty() {
        return Err(wasmtime::Error::msg("the list of what to poll is empty"));
    }
    if handles.len() > limits::SUBSCRIPTIONS as usize {
        return Err(wasmtime::Error::msg("the list of what to poll is too long"));
    }
    let pollables = handles.iter().map(|handle| Ok(table.get(handle)?));
    pollables.collect()
}

impl interface::Host for ComponentGuest {
    fn poll(&mut self, handles: Vec<Resource<Pollable>>) -> wasmtime::Result<Vec<u32>> {
        let pollables = all(&self.table, &handles)?;
        wait(&pollables, &self.unsent, Patience::Endless)
    }
}

impl interface::HostPollable for ComponentGuest {
    fn ready(&mut self, handle: Resource<Pollable>) -> wasmtime::Result<bool> {
        let pollable = self.table.get(&handle)?;
        let happened = wait(&[pollable], &self.unsent, Patience::None)?;
        Ok(!happened.is_empty())
    }

    fn block(&mut self, handle: Resource<Pollable>) -> wasmtime::Result<()> {
        let pollable = self.table.get(&handle)?;
        wait(&[pollable], &self.unsent, Patience::Endless)?;
        Ok(())
    }

    fn drop(&mut self, handle: Resource<Pollable>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl error::Host for ComponentGuest {}

impl error::HostError for ComponentGuest {
    fn to_debug_string(&mut self, error: Resource<IoError>) -> wasmtime::Result<String> {
        let IoError(error) = self.table.get(&error)?;
        Ok(std::io::Error::from(*error).to_string())
    }

    fn drop(&mut self, error: Resource<IoError>) -> wasmtime::Result<()> {
        self.table.delete(error)?;
        Ok(())
    }
}
