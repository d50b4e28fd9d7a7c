//! The cgroup of a container: where it is, its limits, and its removal.
//!
//! Called by `spec`, `init`, `devices` and `container`. Knows nothing of libcontainer and of what the container runs.
//!
//! A container's cgroup has one directory in each hierarchy that libcgroups manages, and in no other.
#![forbid(unsafe_code)]

mod hierarchies;
mod join;
mod limits;
mod placement;
mod systemd;
mod tree;
mod update;
mod version;

pub(crate) use self::{
    hierarchies::{Membership, directories, directory, memberships},
    join::join,
    limits::{limit_pids, take_unified, write_unified},
    placement::{Driver, Placement, PlacementError, controller_options, placement},
    systemd::set_properties,
    tree::{TreeError, kill_in, refuse_used, remove, wait_until_gone},
    update::update,
    version::{Version, VersionError},
};
