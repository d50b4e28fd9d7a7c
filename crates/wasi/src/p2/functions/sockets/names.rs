//! `wasi:sockets/ip-name-lookup`: the resolver that modules have too, asked under the same grants.
//!
//! The look-up is done when it is asked for, within the time-outs of resolv.conf, so its stream never waits.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use wasmtime::component::Resource;

use crate::{
    errno::Errno,
    limits,
    p2::{
        bindings::wasi::sockets::{
            ip_name_lookup::{self, HostResolveAddressStream},
            network::IpAddress,
        },
        failure::{SocketFailure, SocketResult},
        guest::ComponentGuest,
        handles::{FoundAddresses, NetworkHandle, Pollable},
    },
    sockets::inet,
};

impl ComponentGuest {
    fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, Errno> {
        let host = inet::host(&self.grants, &self.resolver, name)?;
        let host = inet::in_order(&self.grants, host, false)?;
        Ok(host.addresses)
    }
}

impl ip_name_lookup::Host for ComponentGuest {
    fn resolve_addresses(
        &mut self,
        network: Resource<NetworkHandle>,
        name: String,
    ) -> SocketResult<Resource<FoundAddresses>> {
        self.permitted(&network)?;
        if name.len() > limits::PATH as usize || name.is_empty() || name.contains('\0') {
            return Err(SocketFailure::Name(Errno::Inval));
        }
        // An IPv6 address may be in the brackets of a URL.
        let plain = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .unwrap_or(&name);
        let addresses = match plain.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => self.look_up(&name).map_err(SocketFailure::Name)?,
        };
        Ok(self.push(FoundAddresses(addresses.into_iter()))?)
    }
}

impl HostResolveAddressStream for ComponentGuest {
    fn resolve_next_address(
        &mut self,
        addresses: Resource<FoundAddresses>,
    ) -> SocketResult<Option<IpAddress>> {
        let FoundAddresses(left) = self.table.get_mut(&addresses)?;
        Ok(left.next().map(IpAddress::from))
    }

    fn subscribe(
        &mut self,
        addresses: Resource<FoundAddresses>,
    ) -> wasmtime::Result<Resource<Pollable>> {
        self.table.get(&addresses)?;
        self.push(Pollable::Ready)
    }

    fn drop(&mut self, addresses: Resource<FoundAddresses>) -> wasmtime::Result<()> {
        self.table.delete(addresses)?;
        Ok(())
    }
}
