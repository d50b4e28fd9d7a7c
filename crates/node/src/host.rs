//! The host's file system as this process sees it. Used by the client and the job; does not know what a file means.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::files::FileError;
use crate::names::{BASE, RUN};

/// The root of a node's file system: `/`, or the folder where it is mounted (`/host` in a pod).
///
/// There are two kinds of paths. A *path of the host* is the one that the host's own processes and configuration use.
/// A *path from here* is the one that this process uses; [`HostRoot::at`] makes it from a path of the host.
#[derive(Clone, Debug)]
pub struct HostRoot {
    root: PathBuf,
    base: PathBuf,
    systemd: PathBuf,
}

impl HostRoot {
    /// The host whose file system is at `root`, a path from here.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let systemd = root.join("run/systemd/private");
        Self {
            root,
            base: BASE.into(),
            systemd,
        }
    }

    /// With another folder of releases, a path of the host.
    #[must_use]
    pub fn with_base(mut self, base: impl Into<PathBuf>) -> Self {
        self.base = base.into();
        self
    }

    /// With another private socket of systemd, a path from here.
    #[must_use]
    pub fn with_systemd(mut self, socket: impl Into<PathBuf>) -> Self {
        self.systemd = socket.into();
        self
    }

    /// The path from here for a path of the host. It is always beneath the root: `..` is left out.
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

    /// As [`HostRoot::at`], for a path that is to be written. In the file system of a node image, an absolute symbolic link
    /// is meant for the image's own system, but leads to a file of this machine from here.
    ///
    /// # Errors
    /// If a symbolic link leads out of the root.
    pub(crate) fn to_write(&self, path: impl AsRef<Path>) -> Result<PathBuf, FileError> {
        let here = self.at(path);
        if self.root == Path::new("/") {
            return Ok(here);
        }
        let root = fs::canonicalize(&self.root).map_err(FileError::new("find", &self.root))?;
        let there = here
            .ancestors()
            .find_map(|part| fs::canonicalize(part).ok());
        match there {
            Some(there) if !there.starts_with(&root) => {
                let source = io::Error::other(format!(
                    "a symbolic link leads out of {}, to {}: make it relative",
                    self.root.display(),
                    there.display()
                ));
                Err(FileError::new("write", &here)(source))
            }
            _ => Ok(here),
        }
    }

    /// As [`HostRoot::to_write`], for a link itself.
    ///
    /// # Errors
    /// If a symbolic link in the path of its folder leads out of the root.
    pub(crate) fn link_to_write(&self, path: &Path) -> Result<PathBuf, FileError> {
        let folder = self.to_write(path.parent().unwrap_or(path))?;
        Ok(path
            .file_name()
            .map_or(folder.clone(), |name| folder.join(name)))
    }

    /// The root, from here.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of releases, a path of the host.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// systemd's private socket, from here.
    #[must_use]
    pub fn systemd(&self) -> &Path {
        &self.systemd
    }

    /// The folder of reports and the lock, from here.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.at(RUN)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn link_of_a_node_image_leads_to_no_file_of_this_machine() {
        let (image, machine) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let host = HostRoot::new(image.path());
        let etc = host.at("/etc");
        fs::create_dir_all(etc.join("real")).unwrap();
        fs::write(machine.path().join("config.toml"), "").unwrap();
        symlink(machine.path(), etc.join("out")).unwrap();
        symlink("real", etc.join("in")).unwrap();
        for fine in ["/etc/in/config.toml", "/etc/new/config.toml", "/new", "/"] {
            assert_eq!(host.to_write(fine).unwrap(), host.at(fine), "{fine}");
        }
        symlink("/opt/wasm-interp/1/x", etc.join("link")).unwrap();
        assert_eq!(
            host.link_to_write(Path::new("/etc/link")).unwrap(),
            etc.join("link")
        );
        assert!(host.link_to_write(Path::new("/etc/out/link")).is_err());
        for wrong in ["/etc/out/config.toml", "/etc/out/new", "/etc/out"] {
            let error = host.to_write(wrong).unwrap_err().to_string();
            assert!(error.contains("leads out of"), "{error}");
        }
    }
}
