//! One run of the tests: its name, its folder, and who may run beside whom. Shared by the tests against containerd
//! and those on a cluster; knows nothing of either.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

/// Name and place of a run.
#[derive(Clone)]
pub(crate) struct Run {
    name: String,
    folder: PathBuf,
}

impl Run {
    pub(crate) fn new(name: String) -> Self {
        let folder = env::temp_dir().join(&name);
        Self { name, folder }
    }

    /// In the path of everything that the run makes: files, cgroups, command lines.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Everything of the run is in there, and goes with it.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Whether others may run at the same time as a trial.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Yes.
    Shared,
    /// No: it restarts what others use, takes much of it, or counts what they would change.
    Alone,
}

/// Whose turn it is.
#[derive(Default)]
pub(crate) struct Turns(RwLock<()>);

impl Turns {
    /// Runs a trial, beside others or alone. One that panicked is no reason for others not to run.
    pub(crate) fn take<T>(&self, kind: Kind, trial: impl FnOnce() -> T) -> T {
        match kind {
            Kind::Shared => {
                let _beside_others = self.0.read().unwrap_or_else(PoisonError::into_inner);
                trial()
            }
            Kind::Alone => {
                let _alone = self.0.write().unwrap_or_else(PoisonError::into_inner);
                trial()
            }
        }
    }
}
