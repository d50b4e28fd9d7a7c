//! The host's file system as this process sees it. Used by both sides; knows no file's meaning.

use std::path::{Component, Path, PathBuf};

use crate::names::{BASE, RUN};

/// A node's file system, at `/` or mounted somewhere else (`/host` in a pod).
///
/// Paths come in two kinds: *of the host*, as its own processes and configuration name them, and
/// *from here*, which [`Host::at`] makes of them.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
    base: PathBuf,
    systemd: PathBuf,
}

impl Host {
    /// The host whose file system is at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let systemd = root.join("run/systemd/private");
        Self {
            root,
            base: BASE.into(),
            systemd,
        }
    }

    /// Releases lie at another place: a path of the host.
    #[must_use]
    pub fn with_base(mut self, base: impl Into<PathBuf>) -> Self {
        self.base = base.into();
        self
    }

    /// systemd's private socket is elsewhere: a path from here.
    #[must_use]
    pub fn with_systemd(mut self, socket: impl Into<PathBuf>) -> Self {
        self.systemd = socket.into();
        self
    }

    /// Where a path of the host is from here. Steps upwards are left out: the result is beneath
    /// the root.
    #[must_use]
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let mut from_here = self.root.clone();
        for part in path.as_ref().components() {
            if let Component::Normal(name) = part {
                from_here.push(name);
            }
        }
        from_here
    }

    /// The root, from here.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where releases lie: a path of the host.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// systemd's private socket, from here.
    #[must_use]
    pub fn systemd(&self) -> &Path {
        &self.systemd
    }

    /// Reports and the lock, from here.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.at(RUN)
    }
}
