//! Numbers of the descriptors that a call passes to the runner. The table in [`super`] says what each is.

use std::os::fd::RawFd;

/// The request.
pub const REQUEST: RawFd = 3;
/// The response. The container's init process has to close it.
pub const RESPONSE: RawFd = 4;
/// The artifact, which stays open in the container.
pub const ARTIFACT: RawFd = 5;
/// The termination log, which stays open in the container too.
pub const TERMINATION_LOG: RawFd = 6;
/// The runner's own executable, by which it is started.
pub const RUNNER: RawFd = 7;
/// The ceiling of the guests' memory.
pub const CEILING: RawFd = 8;
/// A socket for the master of a terminal of the container's own.
pub const CONSOLE: RawFd = 9;
/// The container's init process, as a pidfd (`plan`, `exec`).
pub const INIT: RawFd = 10;
/// The socket by which `plan` hands the interpreter of a guest over.
pub const HANDOVER: RawFd = 11;
/// The pipe for what a guest is refused, which stays open in the container.
pub const REFUSALS: RawFd = 12;
/// The first number after those.
pub(crate) const BEYOND: RawFd = 13;
