//! What is known of a guest's sockets, and what may be reached by them: [`state`] of one, [`grants`], which
//! decide, [`inet`], where both meet, [`address`], which reads and writes addresses, [`resolver`], which finds addresses by names.
//!
//! Knows no guest. The functions that a guest calls are in `posix` and `p2`.

pub(crate) mod address;
mod grants;
pub(crate) mod inet;
mod resolver;
mod state;
pub(crate) mod sys;

use std::{os::fd::OwnedFd, sync::Arc};

use nix::unistd::gethostname;
use wasm_interp_network::Network;

#[cfg(fuzzing)]
pub use self::resolver::fuzzing;
pub(crate) use self::{
    grants::NetworkGrants,
    resolver::{NamedHost, Resolver, by_reach, reverse},
    state::{Family, Socket, SocketKind, SocketOrigin},
};
use crate::paths::Paths;

/// The name of this host, which is the container's. Asked for before the guest runs, whose filter has no call for it;
/// without one if a profile refuses to say.
fn own_name() -> String {
    gethostname().map_or_else(
        |_| String::new(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// What a guest may reach, and how its names are looked up.
pub(crate) fn of_guest(
    network: Network,
    refusals: Option<Arc<OwnedFd>>,
    paths: &Paths,
) -> (NetworkGrants, Resolver) {
    let grants = NetworkGrants::new(network, refusals);
    let resolver = Resolver::new(paths.clone(), own_name());
    // What a rule's name means is not the guest's to say.
    if grants.needs().dns {
        resolver.read_files();
    }
    (grants, resolver)
}
