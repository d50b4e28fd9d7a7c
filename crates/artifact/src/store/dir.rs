//! The store's directory: who may own it, what lies where, and how a file is written there. All
//! access goes through descriptors opened once, so no path is resolved twice. It knows names and
//! bytes, not what they mean.
//!
//! ```text
//! /var/lib/wasm-interp/cache        0700, ours
//! ├── entries/<key>.code            native code
//! ├── entries/<key>.json            what the code is, and its digest; mtime: last use
//! ├── known/<digest of a stamp>     content of files seen before
//! └── locks/<key>, locks/slot-<n>   held while somebody compiles
//! ```
#![forbid(unsafe_code)]

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::dir::Dir;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

/// Larger than any file that is read whole.
const SMALL: u64 = 1 << 20;

/// Why a directory is not used as a store. Containers run without one, but compile every time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is not there and cannot be made.
    #[error("the cache directory {} cannot be opened: {reason}", .path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        reason: String,
    },
    /// Somebody else could have written what is in it.
    #[error("the cache directory {} belongs to user {owner}, not to {us}; chown it, or remove it", .path.display())]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Whom it should belong to.
        us: u32,
    },
    /// Somebody else can write in it.
    #[error("the cache directory {} is writable by others (mode {mode:o}); chmod it to 700 and remove what is in it", .path.display())]
    Writable {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Code cannot be mapped from it.
    #[error("the cache directory {} is on a file system mounted noexec; move the cache, or mount it exec", .path.display())]
    NoExec {
        /// The directory.
        path: PathBuf,
    },
}

/// The parts of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folder {
    Entries,
    Known,
    Locks,
}

impl Folder {
    const ALL: [Self; 3] = [Self::Entries, Self::Known, Self::Locks];

    const fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::Known => "known",
            Self::Locks => "locks",
        }
    }
}

/// An open store directory that nobody else writes to.
#[derive(Debug)]
pub(crate) struct StoreDir {
    path: PathBuf,
    folders: [OwnedFd; 3],
}

impl StoreDir {
    /// Opens the directory, making it where it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, Unusable> {
        let failed = |error: &dyn std::fmt::Display| Unusable::Open {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        if let Some(parent) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .create(parent)
                .map_err(|error| failed(&error))?;
        }
        if let Err(error) = DirBuilder::new().mode(0o700).create(path) {
            let there = match error.kind() {
                io::ErrorKind::AlreadyExists => true,
                // On a read-only disk mkdir says so even where the directory is there.
                io::ErrorKind::ReadOnlyFilesystem => path.is_dir(),
                _ => false,
            };
            if !there {
                return Err(failed(&error));
            }
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(path, flags, Mode::empty()).map_err(|error| failed(&error))?;
        private(path, &root)?;
        if fstatvfs(&root).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_NOEXEC)) {
            return Err(Unusable::NoExec {
                path: path.to_owned(),
            });
        }
        let mut folders = Vec::new();
        for folder in Folder::ALL {
            let made = mkdirat(&root, folder.name(), Mode::S_IRWXU);
            let fd = openat(&root, folder.name(), flags, Mode::empty())
                // If it is not there, why it could not be made is the better reason.
                .map_err(|error| failed(&made.err().unwrap_or(error)))?;
            private(&path.join(folder.name()), &fd)?;
            folders.push(fd);
        }
        let folders = folders
            .try_into()
            .map_err(|_| failed(&"a folder is missing"))?;
        Ok(Self {
            path: path.to_owned(),
            folders,
        })
    }

    /// Where it is, for messages and for the publisher.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn fd(&self, folder: Folder) -> &OwnedFd {
        match folder {
            Folder::Entries => &self.folders[0],
            Folder::Known => &self.folders[1],
            Folder::Locks => &self.folders[2],
        }
    }

    /// Opens a file of ours; one that is created is for us alone.
    pub(crate) fn file(&self, folder: Folder, name: &str, flags: OFlag) -> io::Result<File> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let fd = openat(self.fd(folder), name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let file = File::from(fd);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other(format!("{name} is not a regular file")));
        }
        Ok(file)
    }

    /// Reads a small file.
    pub(crate) fn read(&self, folder: Folder, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file(folder, name, OFlag::O_RDONLY)?
            .take(SMALL)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes a small file so that it is there whole or not at all.
    pub(crate) fn replace(&self, folder: Folder, name: &str, bytes: &[u8]) -> io::Result<()> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let temporary = format!("{name}.{}-{count}{TEMPORARY}", std::process::id());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
        let written = self.file(folder, &temporary, flags).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        let renamed = written.and_then(|()| self.rename(folder, &temporary, name));
        if renamed.is_err() {
            self.remove_quietly(folder, &temporary);
        }
        renamed
    }

    pub(crate) fn rename(&self, folder: Folder, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(self.fd(folder), from, self.fd(folder), to)?)
    }

    /// Makes renames durable.
    pub(crate) fn sync(&self, folder: Folder) -> io::Result<()> {
        Ok(nix::unistd::fsync(self.fd(folder))?)
    }

    pub(crate) fn remove(&self, folder: Folder, name: &str) -> io::Result<()> {
        Ok(unlinkat(self.fd(folder), name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Removes what is of no use any more; that it stays a while is no harm.
    pub(crate) fn remove_quietly(&self, folder: Folder, name: &str) {
        if let Err(error) = self.remove(folder, name)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::debug!(
                "cannot remove {}/{name} of the cache: {error}",
                folder.name()
            );
        }
    }

    /// All names in a folder, in no order.
    pub(crate) fn names(&self, folder: Folder) -> io::Result<Vec<String>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(self.fd(folder).as_fd(), ".", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            if let Ok(name) = entry?.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }
}

/// How the names of files end that are not finished.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Whether only we can have written what is in a directory.
fn private(path: &Path, fd: &OwnedFd) -> Result<(), Unusable> {
    let metadata = fd
        .try_clone()
        .map(File::from)
        .and_then(|file| file.metadata());
    let metadata = metadata.map_err(|error| Unusable::Open {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let us = geteuid().as_raw();
    if metadata.uid() != us {
        return Err(Unusable::Owner {
            path: path.to_owned(),
            owner: metadata.uid(),
            us,
        });
    }
    if metadata.mode() & 0o022 != 0 {
        let mode = metadata.mode() & 0o7777;
        return Err(Unusable::Writable {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_new_store_is_ours_alone() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("a/b/cache");
        let dir = StoreDir::open(&root).unwrap();
        assert_eq!(root.metadata().unwrap().mode() & 0o777, 0o700);
        dir.replace(Folder::Known, "x", b"one").unwrap();
        dir.replace(Folder::Known, "x", b"two").unwrap();
        assert_eq!(dir.read(Folder::Known, "x").unwrap(), b"two");
        assert_eq!(dir.names(Folder::Known).unwrap(), ["x"]);
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("cache");
        std::fs::create_dir(&root).unwrap();
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o777)).unwrap();
        let refused = StoreDir::open(&root).unwrap_err();
        assert_eq!(
            refused,
            Unusable::Writable {
                path: root,
                mode: 0o777
            }
        );
    }

    #[test]
    fn a_foreign_directory_is_refused() {
        if !geteuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("cache");
        std::fs::create_dir(&root).unwrap();
        std::os::unix::fs::chown(&root, Some(65534), None).unwrap();
        assert!(matches!(
            StoreDir::open(&root),
            Err(Unusable::Owner { owner: 65534, .. })
        ));
    }

    #[test]
    fn symlinks_are_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("cache");
        let dir = StoreDir::open(&root).unwrap();
        std::fs::write(temp.path().join("secret"), "s").unwrap();
        symlink(temp.path().join("secret"), root.join("known/x")).unwrap();
        assert!(dir.read(Folder::Known, "x").is_err());
        let link = temp.path().join("link");
        symlink(&root, &link).unwrap();
        assert!(matches!(StoreDir::open(&link), Err(Unusable::Open { .. })));
    }
}
