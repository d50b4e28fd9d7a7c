//! The lock of all jobs of a node. Used by everything that changes the node or the folder of reports.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::files::FileError;

/// The lock is the folder itself. The kernel releases it however the process ends. A drop removes the folder if it is
/// empty.
#[derive(Debug)]
pub(crate) struct JobLock {
    folder: PathBuf,
    _file: Flock<File>,
}

/// Waits for the lock.
pub(crate) fn acquire(folder: &Path) -> Result<JobLock, FileError> {
    loop {
        match fs::create_dir_all(folder) {
            // It existed when this process tried to create it, and was removed since.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(FileError::new("make directory", folder)(error));
            }
            _ => {}
        }
        match try_lock(folder, FlockArg::LockExclusive) {
            Ok(Some(lock)) => return Ok(lock),
            // Its last holder has removed the folder.
            Ok(None) => {}
            Err(error) => return Err(FileError::new("lock", folder)(error)),
        }
    }
}

/// Removes the lock's folder if it is empty. If another process holds the lock, that process removes it.
pub(crate) fn remove_if_unused(folder: &Path) -> Result<(), FileError> {
    match try_lock(folder, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => drop(lock),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(FileError::new("lock", folder)(error)),
    }
    Ok(())
}

/// `None` if the folder does not exist, or was replaced meanwhile.
fn try_lock(folder: &Path, how: FlockArg) -> io::Result<Option<JobLock>> {
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
        Ok(there) if (there.dev(), there.ino()) == (locked.dev(), locked.ino()) => {
            Ok(Some(JobLock {
                folder: folder.to_owned(),
                _file: file,
            }))
        }
        Ok(_) => Ok(None),
        Err(error) => gone(error),
    }
}

impl Drop for JobLock {
    fn drop(&mut self) {
        // The lock is still held: a process that waits for it sees that the folder is gone, and creates a new one. A
        // folder with a report in it is not empty, so it stays.
        let _ = fs::remove_dir(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn one_process_holds_the_lock_and_no_folder_is_left() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run/node");
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let _lock = acquire(&folder).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        assert!(folder.exists());
                        remove_if_unused(&folder).unwrap();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(!folder.exists());
    }

    #[test]
    fn lock_keeps_a_folder_that_is_not_empty() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("node");
        let held = acquire(&folder).unwrap();
        let report = folder.join("report");
        fs::write(&report, "{}").unwrap();
        drop(held);
        remove_if_unused(&folder).unwrap();
        assert!(report.exists());
        fs::remove_file(&report).unwrap();
        remove_if_unused(&folder).unwrap();
        assert!(!folder.exists());
        remove_if_unused(&folder).unwrap();
        fs::write(&folder, "no folder").unwrap();
        let error = acquire(&folder).unwrap_err().to_string();
        assert!(error.starts_with("cannot lock"), "{error}");
    }
}
