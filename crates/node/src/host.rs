//! The host's file system as this process sees it. Used by both sides; knows no file's meaning.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::files::FileError;
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

    /// Where a path of the host is from here, to be written there. In the file system of an image a link that
    /// the image's own system would follow may lead to a file of this machine.
    ///
    /// # Errors
    /// If it does.
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

    /// As [`Host::to_write`], for a link itself.
    ///
    /// # Errors
    /// If a link on the way leads out of the root.
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_of_an_image_does_not_lead_to_a_file_of_this_machine() {
        let (image, machine) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let host = Host::new(image.path());
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
