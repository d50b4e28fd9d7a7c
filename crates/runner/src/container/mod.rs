//! The three verbs, each in a file of its own, on top of libcontainer.
//!
//! Called by `main`. All that a container leaves outside itself is its cgroup and the directory
//! `state`, which holds libcontainer's state, the spec that it was given and a record for `delete`.
#![forbid(unsafe_code)]

mod create;
mod delete;
mod start;

use std::path::{Path, PathBuf};

pub(crate) use self::{create::create, delete::delete, start::start};
use crate::{
    apparmor::ProfileError, cwd::CwdError, dev::DevError, devices::DevicesError,
    guest::PrepareError, spec::SpecError, wire::WireError,
};

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(transparent)]
    Cwd(#[from] CwdError),
    #[error(transparent)]
    Dev(#[from] DevError),
    #[error(transparent)]
    Devices(#[from] DevicesError),
    #[error("run the program of container {id}: an argument or variable holds a NUL byte")]
    Nul { id: String },
    #[error("set up this process: {0}")]
    Setup(#[source] std::io::Error),
    #[error("create container {id}: {reason}")]
    Create { id: String, reason: String },
    #[error("start container {id}: {reason}")]
    Start { id: String, reason: String },
    #[error("delete container {id}: {reason}")]
    Delete { id: String, reason: String },
}

/// The parts of a container's state directory.
struct State<'a>(&'a Path);

impl State<'_> {
    /// libcontainer's own directory of the container.
    fn container(&self, id: &str) -> PathBuf {
        self.0.join(id)
    }

    /// The bundle that libcontainer is given: the fitted spec, with an absolute root.
    fn bundle(&self) -> PathBuf {
        self.0.join("bundle")
    }

    /// What `delete` needs.
    fn record(&self) -> PathBuf {
        self.0.join("record.json")
    }
}
