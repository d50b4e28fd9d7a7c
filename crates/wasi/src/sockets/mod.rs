//! What is known of a guest's sockets, and what may be reached by them: [`state`] of one, [`grants`], which
//! decide, [`address`], which reads and writes addresses, [`resolver`], which finds addresses by names.
//!
//! Knows no guest. The functions that a guest calls are in `posix`.

pub(crate) mod address;
mod grants;
mod resolver;
mod state;
pub(crate) mod sys;

#[cfg(fuzzing)]
pub use self::resolver::fuzzing;
pub(crate) use self::{
    grants::NetworkGrants,
    resolver::{NamedHost, Resolver, RuleNames, by_reach, reverse},
    state::{Family, Heard, Socket, SocketKind, SocketOrigin},
};
