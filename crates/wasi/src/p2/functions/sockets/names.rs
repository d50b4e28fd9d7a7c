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
        let mut host = inet::host(&self.grants, &self.resolver, name)?;
        host.addresses = plain(&host.addresses);
        let host = inet::in_order(&self.grants, host, false)?;
        Ok(host.addresses)
    }
}

/// Without the guise of IPv6 that an IPv4 address may have in `/etc/hosts`, or in a record. The interface never returns it,
/// and a socket of IPv6 does not take it.
fn plain(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut plain = Vec::with_capacity(addresses.len());
    for address in addresses.iter().map(IpAddr::to_canonical) {
        if !plain.contains(&address) {
            plain.push(address);
        }
    }
    plain
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
        // Before nameservers are asked.
        let slot = self.look_up_slots.take().ok_or(Errno::Nomem)?;
        // An IPv6 address may be in the brackets of a URL.
        let literal = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .unwrap_or(&name);
        let addresses = match literal.parse::<IpAddr>() {
            Ok(address) => vec![address.to_canonical()],
            Err(_) => self.look_up(&name).map_err(SocketFailure::Name)?,
        };
        Ok(self.push(FoundAddresses {
            left: addresses.into_iter(),
            _slot: slot,
        })?)
    }
}

impl HostResolveAddressStream for ComponentGuest {
    fn resolve_next_address(
        &mut self,
        addresses: Resource<FoundAddresses>,
    ) -> SocketResult<Option<IpAddress>> {
        let FoundAddresses { left, .. } = self.table.get_mut(&addresses)?;
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
