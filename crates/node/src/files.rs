//! Files that are complete at any time: written beside their place, synced, and renamed into it. Used by the whole
//! crate; does not know what a file means.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Prefix of the name of a file that is not complete yet.
const UNFINISHED: &str = ".wasm-interp-";

/// A file of the host cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} {path}: {source}{}", way_out(.source))]
pub struct FileError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn way_out(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; run as root",
        io::ErrorKind::ReadOnlyFilesystem => "; mount something writable there",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room there",
        _ => "; check that path",
    }
}

impl FileError {
    /// For `map_err`. `act` completes "cannot …" in the error.
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

/// The content of a file; `None` if it does not exist.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::new("read", path)(error)),
    }
}

/// Replaces or creates the file. An existing file keeps its owner and mode. A symbolic link stays: its target is
/// replaced.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let path = &match fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(FileError::new("follow", path)(error)),
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    let failed = || FileError::new("write", path);
    fs::create_dir_all(folder).map_err(FileError::new("make directory", folder))?;
    remove_unfinished(folder)?;
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

/// Removes incomplete files that a killed [`write()`] left in the folder. The caller holds the lock of all jobs.
pub(crate) fn remove_unfinished(folder: &Path) -> Result<(), FileError> {
    // The rest of a name that `tempfile` makes.
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

/// Removes the file; success if it does not exist.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Ok(()) => match sync_folder(path.parent().unwrap_or(Path::new("/"))) {
            // Its folder was removed at the same time.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(FileError::new("remove", path)(error)),
    }
}

/// Removes the folder and its content; success if it does not exist.
pub(crate) fn remove_all(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::new("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes the folder if it is empty.
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

/// Makes renames in the folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), FileError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(FileError::new("sync", folder))
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// SHA-256 of a file's content, in hexadecimal.
pub(crate) fn sha256_of(path: &Path) -> Result<String, FileError> {
    let mut file = File::open(path).map_err(FileError::new("open", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = io::Read::read(&mut file, &mut buffer).map_err(FileError::new("read", path))?;
        if count == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_removes_what_a_killed_write_left() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let (left, kept) = (at(".wasm-interp-aB3xyZ"), at(".wasm-interp-of-mine"));
        fs::create_dir(at(".wasm-interp-folder")).unwrap();
        for file in [&left, &kept] {
            fs::write(file, "half of a secret").unwrap();
        }
        write(&at("file"), b"whole", 0o644).unwrap();
        assert!(!left.exists());
        assert!(kept.exists(), "not the name of an incomplete file");
    }
}
