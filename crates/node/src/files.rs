//! Files that are whole at any time: written beside their place, made durable, renamed into it.
//! Used by all of this crate; knows no file's meaning.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};
use sha2::{Digest, Sha256};

/// What a file is called until it is whole.
const UNFINISHED: &str = ".wasm-interp-";

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
    forget_unfinished(folder)?;
    let mut file = tempfile::Builder::new()
        .prefix(UNFINISHED)
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

/// Removes what a `write` into that folder has left that was killed: a copy of all that the file was to hold.
/// Called by who holds the job's lock.
pub(crate) fn forget_unfinished(folder: &Path) -> Result<(), FileError> {
    // What `tempfile` makes a name of.
    let is_random =
        |rest: &str| rest.len() == 6 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(UNFINISHED));
        if rest.is_some_and(is_random) && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes the file; that there is none is success.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Ok(()) => match sync_folder(path.parent().unwrap_or(Path::new("/"))) {
            // Its folder went with it.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced,
        },
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

/// A lock that is a folder itself; the kernel lets go of it however its holder ends. Dropped, it takes
/// the folder away if nothing is in it.
#[derive(Debug)]
pub(crate) struct Lock {
    folder: PathBuf,
    _file: Flock<File>,
}

/// Waits for the lock.
pub(crate) fn lock(folder: &Path) -> Result<Lock, FileError> {
    loop {
        match fs::create_dir_all(folder) {
            // It was there when it was made, and gone when it was looked at.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(FileError::new("make directory", folder)(error));
            }
            _ => {}
        }
        match try_lock(folder, FlockArg::LockExclusive) {
            Ok(Some(lock)) => return Ok(lock),
            // Whoever had it before has taken the folder away.
            Ok(None) => {}
            Err(error) => return Err(FileError::new("lock", folder)(error)),
        }
    }
}

/// Removes the lock's folder if nothing is in it. Whoever holds the lock does that at the end.
pub(crate) fn forget_lock(folder: &Path) -> Result<(), FileError> {
    match try_lock(folder, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => drop(lock),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(FileError::new("lock", folder)(error)),
    }
    Ok(())
}

/// `None` if the folder is not there, or no longer.
fn try_lock(folder: &Path, how: FlockArg) -> io::Result<Option<Lock>> {
    let gone = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Ok(None),
        _ => Err(error),
    };
    let mut options = File::options();
    options.read(true).custom_flags(OFlag::O_DIRECTORY.bits());
    let file = match options.open(folder) {
        Ok(file) => Flock::lock(file, how).map_err(|(_, errno)| io::Error::from(errno))?,
        Err(error) => return gone(error),
    };
    let locked = file.metadata()?;
    match fs::metadata(folder) {
        Ok(there) if (there.dev(), there.ino()) == (locked.dev(), locked.ino()) => Ok(Some(Lock {
            folder: folder.to_owned(),
            _file: file,
        })),
        Ok(_) => Ok(None),
        Err(error) => gone(error),
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still under the lock: whoever waits for it sees that the folder is gone, and makes a new one. Where a
        // report is in it, it stays.
        let _ = fs::remove_dir(&self.folder);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_lock_leaves_no_folder_and_is_held_by_one() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run/node");
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let _lock = lock(&folder).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        assert!(folder.exists());
                        forget_lock(&folder).unwrap();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(!folder.exists());
    }

    #[test]
    fn what_a_killed_write_left_goes_with_the_next() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let (left, kept) = (at(".wasm-interp-aB3xyZ"), at(".wasm-interp-of-mine"));
        fs::create_dir(at(".wasm-interp-folder")).unwrap();
        for file in [&left, &kept] {
            fs::write(file, "half of a secret").unwrap();
        }
        write(&at("file"), b"whole", 0o644).unwrap();
        assert!(!left.exists());
        assert!(kept.exists(), "somebody's own");
    }

    #[test]
    fn a_lock_leaves_what_is_in_its_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("node");
        let held = lock(&folder).unwrap();
        let report = folder.join("report");
        fs::write(&report, "{}").unwrap();
        drop(held);
        forget_lock(&folder).unwrap();
        assert!(report.exists());
        fs::remove_file(&report).unwrap();
        forget_lock(&folder).unwrap();
        assert!(!folder.exists());
        forget_lock(&folder).unwrap();
        fs::write(&folder, "no folder").unwrap();
        let error = lock(&folder).unwrap_err().to_string();
        assert!(error.starts_with("cannot lock"), "{error}");
    }
}
