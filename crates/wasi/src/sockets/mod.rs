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

#[cfg(fuzzing)]
pub use self::resolver::fuzzing;
pub(crate) use self::{
    grants::NetworkGrants,
    resolver::{NamedHost, Resolver, by_reach, reverse},
    state::{Family, Socket, SocketKind, SocketOrigin},
};
