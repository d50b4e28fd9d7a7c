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

/// Waits for the lock, which is the folder itself; the kernel lets go of it however its holder ends.
pub(crate) fn lock(folder: &Path) -> Result<Flock<File>, FileError> {
    fs::create_dir_all(folder).map_err(FileError::new("make directory", folder))?;
    let file = File::open(folder).map_err(FileError::new("open", folder))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| FileError::new("lock", folder)(errno.into()))
}
