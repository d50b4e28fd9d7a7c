//! The cgroup of a container.
//!
//! | module | does |
//! |---|---|
//! | [`location`] | finds the cgroup of a process: the [`Cgroup`] |
//! | [`members`] | lists, signals and kills the processes in it |
//! | [`freezer`] | freezes and thaws them |
//! | [`oom`] | counts kills of the kernel's OOM killer and waits for the next |
//! | [`flat_file`] | reads a value of the kernel's files |
//! | [`named`] | moves a process into an existing cgroup of that name |
//! | [`removal`] | removes the cgroup of a container whose bundle has vanished |
//! | [`first_move`] | makes the first move of a process into a cgroup fast |
//!
//! Called by `launch`, `serve`, `task` and `bootstrap`. `stats` reads the files of a [`Cgroup`]. It knows neither the
//! cgroup driver nor the forms of `cgroupsPath`, because the kernel says where a process is.
#![forbid(unsafe_code)]

mod error;
mod first_move;
mod flat_file;
mod freezer;
mod location;
mod members;
mod named;
mod oom;
mod removal;

pub(crate) use error::CgroupError;
pub(crate) use first_move::prepare_first_move;
pub(crate) use flat_file::flat_value;
pub(crate) use location::Cgroup;
pub(crate) use named::add_to_named;
pub(crate) use oom::{KillChecks, MemoryShortages};
