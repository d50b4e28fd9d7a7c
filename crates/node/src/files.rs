//! Files that are whole at any time: written beside their place, made durable, renamed into it.
//! Used by all of this crate; knows no file's meaning.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

/// A file of the host's cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} {path}: {source}")]
pub struct FileError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    /// For `map_err`: what was tried on which path.
    pub(crate) fn new<'a>(
        act: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> FileError + use<'a> {
        move |source| FileError {
            act,
            path: path.to_owned(),
            source,
        }
    }
}

/// What a file holds, or `None` if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::new("read", path)(error)),
    }
}

/// Replaces the file, or makes it. Owner and mode are those of the file that was there. A symbolic
/// link stays one: what it leads to is replaced.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let path = &match fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(FileError::new("follow", path)(error)),
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    let failed = || FileError::new("write", path);
    fs::create_dir_all(folder).map_err(FileError::new("make directory", folder))?;
    let mut file = tempfile::Builder::new()
        .prefix(".wasm-interp-")
        .tempfile_in(folder)
        .map_err(failed())?;
    file.write_all(bytes).map_err(failed())?;
    match fs::metadata(path) {
        Ok(there) => {
            chown(file.path(), Some(there.uid()), Some(there.gid())).map_err(failed())?;
            file.as_file()
                .set_permissions(there.permissions())
                .map_err(failed())?;
        }
        Err(_) => file
            .as_file()
            .set_permissions(Permissions::from_mode(mode))
            .map_err(failed())?,
    }
    file.as_file().sync_all().map_err(failed())?;
    file.persist(path).map_err(|error| failed()(error.error))?;
    sync_folder(folder)
}

/// Removes the file; that there is none is success.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(path.parent().unwrap_or(Path::new("/"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(FileError::new("remove", path)(error)),
    }
}

/// Removes the folder with all in it; that there is none is success.
pub(crate) fn remove_all(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::new("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes the folder if nothing is in it.
pub(crate) fn remove_if_empty(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(FileError::new("remove", path)(error)),
    }
}

/// Makes durable what was renamed into the folder.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), FileError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(FileError::new("sync", folder))
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file's content.
pub(crate) fn sha256_of(path: &Path) -> Result<String, FileError> {
    let mut file = File::open(path).map_err(FileError::new("open", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = io::Read::read(&mut file, &mut buffer).map_err(FileError::new("read", path))?;
        if count == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..count]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The only one to hold a folder, which is there for that long only: it goes with the lock, unless
/// something lies in it.
pub(crate) struct Lock {
    folder: PathBuf,
    /// The kernel lets go of it however its holder ends.
    _held: Flock<File>,
}

/// Waits for the lock, which is the folder itself.
pub(crate) fn lock(folder: &Path) -> Result<Lock, FileError> {
    let mut patience = 1000_u32;
    loop {
        let file = match fs::create_dir_all(folder).and_then(|()| File::open(folder)) {
            // Gone with another's lock in between, or the folder above it.
            Err(error)
                if patience > 0
                    && matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists
                    ) =>
            {
                patience -= 1;
                continue;
            }
            opened => opened.map_err(FileError::new("make and open", folder))?,
        };
        let held = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| FileError::new("lock", folder)(errno.into()))?;
        // Whoever held it before may have taken it away: then this is a lock on nothing.
        let locked = held.metadata().map_err(FileError::new("look at", folder))?;
        match fs::metadata(folder) {
            Ok(there) if (there.dev(), there.ino()) == (locked.dev(), locked.ino()) => {
                return Ok(Lock {
                    folder: folder.to_owned(),
                    _held: held,
                });
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FileError::new("look at", folder)(error));
            }
            _ => {}
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        for folder in self.folder.ancestors().take(2) {
            match remove_if_empty(folder) {
                // In a pod it is a mount of the host's, which the host keeps.
                Err(error) if error.source.kind() != io::ErrorKind::ResourceBusy => {
                    eprintln!("{error}");
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_folder_goes_with_its_lock_unless_something_lies_in_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("ours/locked");
        drop(lock(&folder).unwrap());
        assert!(!root.path().join("ours").exists());
        let held = lock(&folder).unwrap();
        fs::write(folder.join("report"), "").unwrap();
        drop(held);
        assert!(folder.join("report").exists());
    }

    /// Those who wait get a lock on the folder that is there, not on the one that went.
    #[test]
    fn one_at_a_time_holds_the_lock_though_the_folder_comes_and_goes() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("ours/locked");
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let held = lock(&folder).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(held);
                    }
                });
            }
        });
        assert!(!root.path().join("ours").exists());
    }
}
