//! The store's directory: its owner, its layout, and how files are written to it. All access goes through
//! descriptors that are opened once, so no path is resolved twice. This module handles names and bytes,
//! not their meaning.
//!
//! ```text
//! /var/lib/wasm-interp/cache        0700, owned by the user of this process
//! ├── entries/<key>.code            native code
//! ├── entries/<key>.json            what the code is, and its digest; mtime: last use
//! ├── digests/<digest of a stamp>   digests of files that were read before
//! └── locks/<key>, locks/slot-<n>   held while a module is compiled
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

/// The most bytes of a file that is read whole.
const MAX_SMALL_FILE: u64 = 1 << 20;

/// Why a directory is not used as a store. Containers run without a store, but each start compiles.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableStore {
    /// It cannot be opened or created.
    #[error(
        "cannot open the cache directory {}: {reason}; run as root, or name another directory in \
         WASM_INTERP_CACHE_DIR",
        .path.display()
    )]
    Open {
        /// The directory.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// Another user could have written its content.
    #[error(
        "cannot use the cache directory {}: it belongs to user {owner}, not to {us}; chown it, or \
         remove it",
        .path.display()
    )]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The user that it should belong to.
        us: u32,
    },
    /// Another user can write to it.
    #[error(
        "cannot use the cache directory {}: other users can write to it (mode {mode:o}); chmod it \
         to 700 and remove its content",
        .path.display()
    )]
    Writable {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Code cannot be mapped from it.
    #[error(
        "cannot use the cache directory {}: its file system is mounted noexec; move the cache, or \
         mount it exec",
        .path.display()
    )]
    NoExec {
        /// The directory.
        path: PathBuf,
    },
}

/// The parts of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folder {
    Entries,
    Digests,
    Locks,
}

impl Folder {
    const ALL: [Self; 3] = [Self::Entries, Self::Digests, Self::Locks];

    const fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::Digests => "digests",
            Self::Locks => "locks",
        }
    }
}

/// An open store directory that no other user writes to.
#[derive(Debug)]
pub(crate) struct StoreDir {
    path: PathBuf,
    folders: [OwnedFd; 3],
}

impl StoreDir {
    /// Opens the directory, and creates it if it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, UnusableStore> {
        let failed = |error: &dyn std::fmt::Display| UnusableStore::Open {
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
                // On a read-only disk mkdir fails with EROFS even if the directory exists.
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
            return Err(UnusableStore::NoExec {
                path: path.to_owned(),
            });
        }
        let mut folders = Vec::new();
        for folder in Folder::ALL {
            let made = mkdirat(&root, folder.name(), Mode::S_IRWXU);
            let fd = openat(&root, folder.name(), flags, Mode::empty())
                // If the directory does not exist, the error of mkdir is the better reason.
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

    /// Its path, for messages and for the publisher.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn fd(&self, folder: Folder) -> &OwnedFd {
        match folder {
            Folder::Entries => &self.folders[0],
            Folder::Digests => &self.folders[1],
            Folder::Locks => &self.folders[2],
        }
    }

    /// Opens a file of the store; a created file has mode 0600.
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
            .take(MAX_SMALL_FILE)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes a small file so that it appears whole or not at all.
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

    /// Removes a file that is not needed any more. If that fails, a later sweep removes it.
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

/// The suffix of unfinished files.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Checks that only this user can have written the content of a directory.
fn private(path: &Path, fd: &OwnedFd) -> Result<(), UnusableStore> {
    let metadata = fd
        .try_clone()
        .map(File::from)
        .and_then(|file| file.metadata());
    let metadata = metadata.map_err(|error| UnusableStore::Open {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let us = geteuid().as_raw();
    if metadata.uid() != us {
        return Err(UnusableStore::Owner {
            path: path.to_owned(),
            owner: metadata.uid(),
            us,
        });
    }
    if metadata.mode() & 0o022 != 0 {
        let mode = metadata.mode() & 0o7777;
        return Err(UnusableStore::Writable {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_new_store_has_mode_0700() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("a/b/cache");
        let dir = StoreDir::open(&root).unwrap();
        assert_eq!(root.metadata().unwrap().mode() & 0o777, 0o700);
        dir.replace(Folder::Digests, "x", b"one").unwrap();
        dir.replace(Folder::Digests, "x", b"two").unwrap();
        assert_eq!(dir.read(Folder::Digests, "x").unwrap(), b"two");
        assert_eq!(dir.names(Folder::Digests).unwrap(), ["x"]);
    }

    #[test]
    fn a_directory_that_other_users_can_write_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("cache");
        std::fs::create_dir(&root).unwrap();
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o777)).unwrap();
        let refused = StoreDir::open(&root).unwrap_err();
        assert_eq!(
            refused,
            UnusableStore::Writable {
                path: root,
                mode: 0o777
            }
        );
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        if !geteuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("cache");
        std::fs::create_dir(&root).unwrap();
        std::os::unix::fs::chown(&root, Some(65534), None).unwrap();
        assert!(matches!(
            StoreDir::open(&root),
            Err(UnusableStore::Owner { owner: 65534, .. })
        ));
    }

    #[test]
    fn symlinks_are_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("cache");
        let dir = StoreDir::open(&root).unwrap();
        std::fs::write(temp.path().join("secret"), "s").unwrap();
        symlink(temp.path().join("secret"), root.join("digests/x")).unwrap();
        assert!(dir.read(Folder::Digests, "x").is_err());
        let link = temp.path().join("link");
        symlink(&root, &link).unwrap();
        assert!(matches!(
            StoreDir::open(&link),
            Err(UnusableStore::Open { .. })
        ));
    }
}
