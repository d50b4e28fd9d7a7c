//! The verbs, each in a file of its own, on top of libcontainer.
//!
//! Called by `main`. A container has two things outside of itself: its cgroup, and the
//! directory `state`, which holds libcontainer's state and a record for `delete`.
#![forbid(unsafe_code)]

mod create;
mod delete;
mod exec;
mod plan;
mod start;
mod update;

use std::path::{Path, PathBuf};

pub(crate) use self::{
    create::{CreateCall, create},
    delete::delete,
    exec::{ExecCall, exec},
    plan::plan,
    start::start,
    update::update,
};
use crate::{
    affinity::AffinityError, apparmor::ProfileError, cgroup::TreeError, cwd::CwdError,
    dev::RootfsDevError, devices::DevicesError, guest::PrepareError, privileges::PrivilegesError,
    spec::SpecError, user_namespace::UserNamespaceError, wire::WireError,
};

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerbError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Cgroup(#[from] TreeError),
    #[error(transparent)]
    Privileges(#[from] PrivilegesError),
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(transparent)]
    Cwd(#[from] CwdError),
    #[error(transparent)]
    Dev(#[from] RootfsDevError),
    #[error(transparent)]
    Devices(#[from] DevicesError),
    #[error(
        "cannot run the program of container {id}: an argument or a variable has a NUL byte; \
         remove it"
    )]
    Nul { id: String },
    #[error(transparent)]
    UserNamespace(#[from] UserNamespaceError),
    #[error(
        "process.user.additionalGids: cannot join the group {group}: the container's user \
         namespace has no mapping for it; add one or drop the group"
    )]
    UnmappedGroup { group: u32 },
    #[error("cannot set up the runner: {0}")]
    Setup(#[source] std::io::Error),
    #[error("cannot create container {id}: {reason}")]
    Create { id: String, reason: String },
    #[error("cannot start container {id}: {reason}")]
    Start { id: String, reason: String },
    #[error("cannot update container {id}: {reason}")]
    Update { id: String, reason: String },
    #[error("cannot delete container {id}: {reason}")]
    Delete { id: String, reason: String },
    #[error("cannot run a process in container {id}: {reason}")]
    Exec { id: String, reason: String },
    /// The caller completes it.
    #[error("{0}")]
    ExecRefused(String),
    #[error(transparent)]
    Affinity(#[from] AffinityError),
}

/// The parts of a container's state directory.
struct StateDirectory<'a>(&'a Path);

impl StateDirectory<'_> {
    /// libcontainer's own directory of the container.
    fn container(&self, id: &str) -> PathBuf {
        self.0.join(id)
    }

    /// What `delete` needs.
    fn record(&self) -> PathBuf {
        self.0.join("record.json")
    }
}
