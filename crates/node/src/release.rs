//! A release in its folder on the node: copied there by the client, and removed by the job.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::files::{self, FileError};
use crate::host::HostRoot;
use crate::lock;
use crate::names::{COMMAND, EXECUTABLES, RUN, SHIM};

/// Prefix of the name of a release's folder that is not complete yet.
const COPYING: &str = ".copying-";
/// Prefix of the name of a release's folder that is being removed.
const REMOVED: &str = ".removed-";

/// The executables of one version, in any folder.
#[derive(Clone, Debug)]
pub struct Release {
    folder: PathBuf,
    version: String,
}

/// A release in its folder on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedRelease {
    /// The folder, a path of the host.
    pub folder: PathBuf,
    /// Its version.
    pub version: String,
    /// Whether this call copied it.
    pub copied: bool,
}

/// A release cannot be copied to the node.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The folder is not a release.
    #[error(
        "cannot copy the release in {folder}: {missing} is missing; keep {} in one folder",
        EXECUTABLES.join(", ")
    )]
    Incomplete {
        /// The folder.
        folder: PathBuf,
        /// The executable that is missing.
        missing: &'static str,
    },
    /// The version cannot be the name of a folder.
    #[error(
        "cannot install a release whose version is {0:?}: a folder cannot have this name; use a \
         version of letters, digits and \"._+-\" that does not begin with a dot"
    )]
    Version(String),
    /// See the error.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Release {
    /// The release whose executables are in `folder`, a path from here.
    pub fn in_folder(folder: impl Into<PathBuf>, version: impl Into<String>) -> Self {
        Self {
            folder: folder.into(),
            version: version.into(),
        }
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl PlacedRelease {
    /// The shim, a path of the host.
    #[must_use]
    pub fn shim(&self) -> PathBuf {
        self.folder.join(SHIM)
    }

    /// The command line, a path of the host.
    #[must_use]
    pub fn command(&self) -> PathBuf {
        self.folder.join(COMMAND)
    }
}

impl HostRoot {
    /// Copies the release into a folder of its own in the folder of releases, completely or not at all.
    ///
    /// The folder's name is the version. If that folder has a shim of another build, the name of the new folder also has
    /// a part of the build's hash: a running shim must never start the runner of another build.
    ///
    /// Waits until no job runs on this host, except if the release is already there.
    ///
    /// # Errors
    /// If an executable is missing or something cannot be written; nothing is left then.
    pub fn place(&self, release: &Release) -> Result<PlacedRelease, ReleaseError> {
        let version = &release.version;
        let fit = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
        if version.is_empty() || version.starts_with('.') || !version.chars().all(fit) {
            return Err(ReleaseError::Version(version.clone()));
        }
        let wanted = fingerprints(&release.folder)?;
        let digest = files::sha256(wanted.concat().as_bytes());
        let plain = self.base().join(version);
        let hashed = self.base().join(format!("{version}+{digest:.8}"));
        let placed = |folder: &Path, copied| PlacedRelease {
            folder: folder.to_owned(),
            version: version.clone(),
            copied,
        };
        let folders = [&plain, &hashed];
        if let Some(folder) = self.find_placed(folders, &wanted)? {
            return Ok(placed(folder, false));
        }
        let _lock = lock::acquire(&self.to_write(RUN)?)?;
        // Another process may have copied it before this one got the lock.
        if let Some(folder) = self.find_placed(folders, &wanted)? {
            return Ok(placed(folder, false));
        }
        remove_unfinished_copies(&self.to_write(self.base())?)?;
        // Another build may have fewer executables. While it has a shim, containers may run from it. A shim in the folder
        // of this hash is of this build, even if the folder was changed by hand: the copy repairs it.
        let folder = if has_shim(&self.at(&plain))? {
            &hashed
        } else {
            &plain
        };
        self.copy(release, folder)?;
        Ok(placed(folder, true))
    }

    /// The first of the folders that has exactly these executables.
    fn find_placed<'a>(
        &self,
        folders: [&'a PathBuf; 2],
        wanted: &[String],
    ) -> Result<Option<&'a PathBuf>, ReleaseError> {
        for folder in folders {
            match fingerprints(&self.at(folder)) {
                Ok(there) if there == wanted => return Ok(Some(folder)),
                Ok(_) | Err(ReleaseError::Incomplete { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn copy(&self, release: &Release, folder: &Path) -> Result<(), ReleaseError> {
        let base = &self.to_write(self.base())?;
        fs::create_dir_all(base).map_err(FileError::new("create the directory", base))?;
        let copying = tempfile::Builder::new()
            .prefix(COPYING)
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(base)
            .map_err(FileError::new("create a directory in", base))?;
        for name in EXECUTABLES {
            let (from, to) = (release.folder.join(name), copying.path().join(name));
            fs::copy(&from, &to).map_err(FileError::new("copy", &from))?;
            let file = fs::File::open(&to).map_err(FileError::new("open", &to))?;
            file.set_permissions(fs::Permissions::from_mode(0o755))
                .and_then(|()| file.sync_all())
                .map_err(FileError::new("write", &to))?;
        }
        files::sync_folder(copying.path())?;
        let target = self.at(folder);
        // `place` chose a folder without a shim, or one of this build that was changed by hand.
        remove_executables(&target)?;
        fs::rename(copying.path(), &target).map_err(FileError::new("rename into", &target))?;
        // It was renamed, so there is nothing for the guard to remove.
        let _ = copying.keep();
        Ok(files::sync_folder(base)?)
    }
}

/// Whether the folder, a path from here, has a shim, from which a container may run.
fn has_shim(folder: &Path) -> Result<bool, FileError> {
    let shim = folder.join(SHIM);
    shim.try_exists().map_err(FileError::new("find", &shim))
}

/// Whether the folder, a path from here, has a release and nothing else.
pub(crate) fn is_release(folder: &Path) -> bool {
    let is_one = fs::symlink_metadata(folder).is_ok_and(|data| data.is_dir());
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name())).collect();
    // Other versions may have fewer executables.
    is_one
        && names.is_ok_and(|names| {
            let is_ours = |name: &OsString| EXECUTABLES.iter().any(|ours| name == ours);
            names.iter().any(|name| name == SHIM) && names.iter().all(is_ours)
        })
}

/// Removes a release's folder, a path from here. At no time does an incomplete release have its name.
pub(crate) fn remove(folder: &Path) -> Result<(), FileError> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let removed = folder.with_file_name(format!("{REMOVED}{name}"));
    remove_executables(&removed)?;
    match fs::rename(folder, &removed) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed.map_err(FileError::new("rename", folder))?,
    }
    remove_executables(&removed)
}

/// Removes what killed removals have left.
pub(crate) fn remove_unfinished_removals(base: &Path) -> Result<(), FileError> {
    with_prefix(base, REMOVED).try_for_each(|folder| remove_executables(&folder))
}

/// Removes what killed copies have left, also those of a build with other executables. The caller holds the lock of all
/// jobs, so no copy is running.
pub(crate) fn remove_unfinished_copies(base: &Path) -> Result<(), FileError> {
    with_prefix(base, COPYING).try_for_each(|folder| files::remove_all(&folder))
}

fn with_prefix(base: &Path, prefix: &str) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(base).into_iter().flatten().flatten();
    entries
        .filter(move |entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
}

/// Removes the executables and then the folder, which fails if it has other files.
fn remove_executables(folder: &Path) -> Result<(), FileError> {
    for name in EXECUTABLES {
        files::remove(&folder.join(name))?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::new("remove", folder)(error))
        }
        _ => Ok(()),
    }
}

/// The hashes of the executables, in order.
fn fingerprints(folder: &Path) -> Result<Vec<String>, ReleaseError> {
    EXECUTABLES
        .into_iter()
        .map(|name| {
            let path = folder.join(name);
            if !path.is_file() {
                return Err(ReleaseError::Incomplete {
                    folder: folder.to_owned(),
                    missing: name,
                });
            }
            Ok(files::sha256_of(&path)?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(content: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in EXECUTABLES {
            fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    #[test]
    fn release_is_copied_once() {
        let (root, from) = (tempfile::tempdir().unwrap(), release("one"));
        let host = HostRoot::new(root.path());
        let release = Release::in_folder(from.path(), "1.2.3");
        let placed = host.place(&release).unwrap();
        assert_eq!(placed.folder, Path::new("/opt/wasm-interp/1.2.3"));
        assert!(placed.copied);
        let shim = fs::metadata(host.at(placed.shim())).unwrap();
        assert_eq!(shim.permissions().mode() & 0o777, 0o755);
        assert!(!host.place(&release).unwrap().copied);
        let names: Vec<_> = fs::read_dir(host.at(BASE)).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    use crate::names::BASE;

    #[test]
    fn another_build_of_a_version_gets_its_own_folder() {
        let root = tempfile::tempdir().unwrap();
        let (one, two) = (release("one"), release("two"));
        let host = HostRoot::new(root.path());
        let first = host.place(&Release::in_folder(one.path(), "1")).unwrap();
        let second = host.place(&Release::in_folder(two.path(), "1")).unwrap();
        assert_ne!(first.folder, second.folder);
        let again = host.place(&Release::in_folder(two.path(), "1")).unwrap();
        assert_eq!((again.folder, again.copied), (second.folder, false));
    }

    #[test]
    fn folder_without_a_shim_is_replaced() {
        for left in [&[][..], &["wasm-interp-runner", COMMAND]] {
            let (root, from) = (tempfile::tempdir().unwrap(), release("one"));
            let host = HostRoot::new(root.path());
            let half = host.at("/opt/wasm-interp/1");
            fs::create_dir_all(&half).unwrap();
            for name in left {
                fs::write(half.join(name), "half").unwrap();
            }
            assert!(!is_release(&half));
            let placed = host.place(&Release::in_folder(from.path(), "1")).unwrap();
            assert!(placed.copied);
            assert_eq!(host.at(placed.folder), half);
            for name in EXECUTABLES {
                assert_eq!(fs::read(half.join(name)).unwrap(), b"one");
            }
        }
    }

    /// The builds before `wasm-interp-compiler` have the same version. Containers run from them during an upgrade.
    #[test]
    fn build_with_fewer_executables_is_left_alone() {
        // With a foreign file beside it, it is no release, but containers may run from it all the same.
        for foreign in [None, Some("notes")] {
            let (root, from) = (tempfile::tempdir().unwrap(), release("new"));
            let host = HostRoot::new(root.path());
            let old = host.at("/opt/wasm-interp/1");
            fs::create_dir_all(&old).unwrap();
            let names = [SHIM, "wasm-interp-runner", COMMAND];
            let names = || names.into_iter().chain(foreign);
            for name in names() {
                fs::write(old.join(name), "old").unwrap();
            }
            let new = Release::in_folder(from.path(), "1");
            let placed = host.place(&new).unwrap();
            assert!(placed.copied);
            assert_ne!(host.at(&placed.folder), old);
            assert!(is_release(&host.at(&placed.folder)));
            for name in names() {
                assert_eq!(fs::read(old.join(name)).unwrap(), b"old", "{name}");
            }
            // After the last container, the new build stays where it is: another path costs a restart of containerd.
            fs::remove_dir_all(&old).unwrap();
            let again = host.place(&new).unwrap();
            assert_eq!((again.folder, again.copied), (placed.folder, false));
        }
    }

    #[test]
    fn folder_of_a_hash_that_was_changed_by_hand_is_repaired() {
        let root = tempfile::tempdir().unwrap();
        let (one, two) = (release("one"), release("two"));
        let host = HostRoot::new(root.path());
        host.place(&Release::in_folder(one.path(), "1")).unwrap();
        let two = Release::in_folder(two.path(), "1");
        let placed = host.place(&two).unwrap();
        let runner = host.at(placed.folder.join("wasm-interp-runner"));
        fs::write(&runner, "changed").unwrap();
        let again = host.place(&two).unwrap();
        assert_eq!((again.folder, again.copied), (placed.folder, true));
        assert_eq!(fs::read(runner).unwrap(), b"two");
    }

    #[test]
    fn builds_that_are_copied_at_the_same_time_get_their_own_folders() {
        let builds: Vec<_> = (0..4).map(|number| release(&number.to_string())).collect();
        for _ in 0..20 {
            let root = tempfile::tempdir().unwrap();
            let host = &HostRoot::new(root.path());
            let start = &std::sync::Barrier::new(builds.len());
            std::thread::scope(|scope| {
                for (number, build) in builds.iter().enumerate() {
                    scope.spawn(move || {
                        start.wait();
                        let placed = host.place(&Release::in_folder(build.path(), "1")).unwrap();
                        let shim = fs::read_to_string(host.at(placed.shim())).unwrap();
                        assert_eq!(shim, number.to_string());
                    });
                }
            });
            let folders = fs::read_dir(host.at(BASE)).unwrap().count();
            assert_eq!(folders, builds.len());
        }
    }

    #[test]
    fn copy_removes_what_killed_copies_left_and_needs_no_lock_once_made() {
        let (root, from) = (tempfile::tempdir().unwrap(), release("one"));
        let host = HostRoot::new(root.path());
        let left = host.at("/opt/wasm-interp/.copying-aB3xyZ");
        fs::create_dir_all(&left).unwrap();
        fs::write(left.join(SHIM), "half").unwrap();
        fs::write(left.join("executable-of-another-version"), "half").unwrap();
        let release = Release::in_folder(from.path(), "1");
        assert!(host.place(&release).unwrap().copied);
        assert!(!left.exists());
        assert!(!host.run_dir().exists(), "the lock leaves nothing behind");
        let _job = lock::acquire(&host.run_dir()).unwrap();
        assert!(!host.place(&release).unwrap().copied);
    }

    #[test]
    fn foreign_files_are_never_removed() {
        let (root, from) = (tempfile::tempdir().unwrap(), release("one"));
        let host = HostRoot::new(root.path());
        let folder = host.at("/opt/wasm-interp/1");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("notes"), "mine").unwrap();
        assert!(!is_release(&folder));
        let placed = host.place(&Release::in_folder(from.path(), "1"));
        assert!(
            placed.unwrap_err().to_string().contains("not empty"),
            "the foreign file is in the way"
        );
        assert_eq!(fs::read(folder.join("notes")).unwrap(), b"mine");
        fs::remove_file(folder.join("notes")).unwrap();
        host.place(&Release::in_folder(from.path(), "1")).unwrap();
        assert!(is_release(&folder));
        // A removal that was killed between two files.
        fs::rename(&folder, host.at("/opt/wasm-interp/.removed-1")).unwrap();
        fs::remove_file(host.at("/opt/wasm-interp/.removed-1").join(SHIM)).unwrap();
        host.place(&Release::in_folder(from.path(), "1")).unwrap();
        remove(&folder).unwrap();
        remove(&folder).unwrap();
        remove_unfinished_removals(&host.at("/opt/wasm-interp")).unwrap();
        assert_eq!(
            fs::read_dir(host.at("/opt/wasm-interp")).unwrap().count(),
            0
        );
    }

    #[test]
    fn incomplete_source_and_invalid_versions_are_refused() {
        let (root, from) = (tempfile::tempdir().unwrap(), release("one"));
        let host = HostRoot::new(root.path());
        fs::remove_file(from.path().join("wasm-interp-runner")).unwrap();
        let error = host
            .place(&Release::in_folder(from.path(), "1"))
            .unwrap_err();
        assert!(
            error.to_string().contains("wasm-interp-runner is missing"),
            "{error}"
        );
        for version in ["", "..", "a/b"] {
            let error = host.place(&Release::in_folder(from.path(), version));
            assert!(matches!(error, Err(ReleaseError::Version(_))), "{version}");
        }
    }
}
