//! A release's folder: how it comes onto the node. Called by the asker.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::files::{self, FileError};
use crate::host::Host;
use crate::names::{COMMAND, EXECUTABLES, SHIM};

/// What a release's folder is called until it is whole.
const COPYING: &str = ".copying-";
/// And once it is to be one no more.
const REMOVED: &str = ".removed-";

/// Executables of one version, wherever they lie.
#[derive(Clone, Debug)]
pub struct Release {
    folder: PathBuf,
    version: String,
}

/// A release in its own folder on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The folder, a path of the host.
    pub folder: PathBuf,
    /// Its version.
    pub version: String,
    /// Whether it was copied just now.
    pub copied: bool,
}

/// A release is not fit to be copied, or cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The folder is not a release.
    #[error(
        "{folder} is no release: {missing} is missing; keep {}, {} and {} together",
        EXECUTABLES[0], EXECUTABLES[1], EXECUTABLES[2]
    )]
    Incomplete {
        /// Where they should be.
        folder: PathBuf,
        /// What is not there.
        missing: &'static str,
    },
    /// The version cannot be a folder's name.
    #[error("{0:?} cannot be the name of a release's folder: use letters, digits and \"._+-\"")]
    Version(String),
    /// See the error.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Release {
    /// The release whose executables lie in `folder`, a path from here.
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

impl Placed {
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

impl Host {
    /// Copies the release into a folder of its own beneath the base, whole or not at all.
    ///
    /// The folder is named by the version. If another build of that version has it already, the new
    /// one's name has a piece of its hash at the end: a running shim must never meet another
    /// build's runner.
    ///
    /// # Errors
    /// If an executable is missing or something cannot be written; nothing is left then.
    pub fn place(&self, release: &Release) -> Result<Placed, ReleaseError> {
        let version = &release.version;
        let fit = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
        if version.is_empty() || version.starts_with('.') || !version.chars().all(fit) {
            return Err(ReleaseError::Version(version.clone()));
        }
        let wanted = fingerprints(&release.folder)?;
        let digest = files::sha256(wanted.concat().as_bytes());
        for name in [version.clone(), format!("{version}+{:.8}", digest)] {
            let folder = self.base().join(name);
            let placed = |copied| Placed {
                folder: folder.clone(),
                version: version.clone(),
                copied,
            };
            match fingerprints(&self.at(&folder)) {
                Ok(there) if there == wanted => return Ok(placed(false)),
                Ok(_) => {}
                Err(ReleaseError::Incomplete { .. }) => {
                    self.copy(release, &folder)?;
                    return Ok(placed(true));
                }
                Err(error) => return Err(error),
            }
        }
        // A folder named by its own hash that holds something else was tampered with.
        let folder = self.base().join(format!("{version}+{digest:.8}"));
        remove_executables(&self.at(&folder))?;
        self.copy(release, &folder)?;
        Ok(Placed {
            folder,
            version: version.clone(),
            copied: true,
        })
    }

    fn copy(&self, release: &Release, folder: &Path) -> Result<(), ReleaseError> {
        let base = &self.to_write(self.base())?;
        fs::create_dir_all(base).map_err(FileError::new("make directory", base))?;
        let copying = tempfile::Builder::new()
            .prefix(COPYING)
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(base)
            .map_err(FileError::new("make a directory in", base))?;
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
        // What is there is no whole release, so nothing can run from it.
        remove_executables(&target)?;
        fs::rename(copying.path(), &target).map_err(FileError::new("rename into", &target))?;
        // Renamed: nothing is left for the guard to remove.
        let _ = copying.keep();
        Ok(files::sync_folder(base)?)
    }
}

/// Whether the folder, a path from here, is a release and nothing else.
pub(crate) fn is_release(folder: &Path) -> bool {
    let is_one = fs::symlink_metadata(folder).is_ok_and(|data| data.is_dir());
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name())).collect();
    // Those of other versions may have fewer.
    is_one
        && names.is_ok_and(|names| {
            let is_known = |name: &OsString| EXECUTABLES.iter().any(|known| name == known);
            names.iter().any(|name| name == SHIM) && names.iter().all(is_known)
        })
}

/// Removes a release's folder, a path from here: at no time is half a release there.
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

/// Removes what removals have left that were killed.
pub(crate) fn forget_removed(base: &Path) -> Result<(), FileError> {
    forget(base, REMOVED)
}

/// Removes what copies have left whose asker was killed.
pub(crate) fn forget_copies(base: &Path) -> Result<(), FileError> {
    forget(base, COPYING)
}

fn forget(base: &Path, prefix: &str) -> Result<(), FileError> {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            remove_executables(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a folder with the executables in it, but for anything else: that would be somebody's.
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

/// Hashes of the executables, in order.
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
#[allow(clippy::unwrap_used)]
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
    fn a_release_is_copied_once() {
        let (root, from) = (tempfile::tempdir().unwrap(), release("one"));
        let host = Host::new(root.path());
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
    fn another_build_of_a_version_gets_a_folder_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let (one, two) = (release("one"), release("two"));
        let host = Host::new(root.path());
        let first = host.place(&Release::in_folder(one.path(), "1")).unwrap();
        let second = host.place(&Release::in_folder(two.path(), "1")).unwrap();
        assert_ne!(first.folder, second.folder);
        let again = host.place(&Release::in_folder(two.path(), "1")).unwrap();
        assert_eq!((again.folder, again.copied), (second.folder, false));
    }

    #[test]
    fn what_a_killed_copy_left_is_replaced() {
        let (root, from) = (tempfile::tempdir().unwrap(), release("one"));
        let host = Host::new(root.path());
        let half = host.at("/opt/wasm-interp/1");
        fs::create_dir_all(&half).unwrap();
        fs::write(half.join(SHIM), "half").unwrap();
        assert!(
            host.place(&Release::in_folder(from.path(), "1"))
                .unwrap()
                .copied
        );
        assert_eq!(fs::read(half.join(SHIM)).unwrap(), b"one");
    }

    #[test]
    fn what_is_somebody_elses_is_never_removed() {
        let (root, from) = (tempfile::tempdir().unwrap(), release("one"));
        let host = Host::new(root.path());
        let folder = host.at("/opt/wasm-interp/1");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("notes"), "mine").unwrap();
        assert!(!is_release(&folder));
        let placed = host.place(&Release::in_folder(from.path(), "1"));
        assert!(
            placed.unwrap_err().to_string().contains("not empty"),
            "it is in the way"
        );
        assert_eq!(fs::read(folder.join("notes")).unwrap(), b"mine");
        fs::remove_file(folder.join("notes")).unwrap();
        host.place(&Release::in_folder(from.path(), "1")).unwrap();
        assert!(is_release(&folder));
        // Killed between two files, and again.
        fs::rename(&folder, host.at("/opt/wasm-interp/.removed-1")).unwrap();
        fs::remove_file(host.at("/opt/wasm-interp/.removed-1").join(SHIM)).unwrap();
        host.place(&Release::in_folder(from.path(), "1")).unwrap();
        remove(&folder).unwrap();
        remove(&folder).unwrap();
        forget_removed(&host.at("/opt/wasm-interp")).unwrap();
        assert_eq!(
            fs::read_dir(host.at("/opt/wasm-interp")).unwrap().count(),
            0
        );
    }

    #[test]
    fn what_is_no_release_is_refused() {
        let (root, from) = (tempfile::tempdir().unwrap(), release("one"));
        let host = Host::new(root.path());
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
