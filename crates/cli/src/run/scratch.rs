//! The working directory of a run: a tmpfs that only this process and its children see. It ends with
//! their mount namespace, even if this process is killed.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use thiserror::Error;

/// A directory for one run.
pub(super) struct Scratch {
    /// Its content is never removed, because a directory of the user is mounted in it.
    directory: PathBuf,
}

/// The directory could not be made.
#[derive(Debug, Error)]
pub(crate) enum ScratchError {
    #[error(
        "cannot {act} {path:?}: {source}; run as root, and name a writable directory in TMPDIR"
    )]
    Failed {
        act: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl Scratch {
    /// Makes the directory, and a mount namespace around it.
    pub(super) fn new() -> Result<Self, ScratchError> {
        let temporary = std::env::temp_dir();
        let directory = tempfile::Builder::new()
            .prefix("wasm-interp-")
            .tempdir_in(&temporary)
            .map_err(failed("make a directory in", &temporary))?
            .keep();
        // From here on the drop of `Scratch` removes it, even after an error.
        let scratch = Self { directory };
        let path = scratch.directory.as_path();
        unshare(CloneFlags::CLONE_NEWNS).map_err(failed("make a mount namespace for", path))?;
        // New mounts of the machine appear here too; mounts of this process stay here.
        let propagation = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        mount(None::<&str>, "/", None::<&str>, propagation, None::<&str>)
            .map_err(failed("keep mounts private beneath", Path::new("/")))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some("mode=0700"))
            .map_err(failed("mount a tmpfs on", path))?;
        Ok(scratch)
    }

    /// A name for the run, unique on this machine.
    pub(super) fn id(&self) -> String {
        let name = self.directory.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Directory of the bundle for the runner.
    pub(super) fn bundle(&self) -> Result<PathBuf, ScratchError> {
        self.made("bundle")
    }

    /// Directory for the runner's state.
    pub(super) fn state(&self) -> Result<PathBuf, ScratchError> {
        self.made("state")
    }

    /// Mounts an overlay with an upper layer in memory over `rootfs`, which does not change. Returns the
    /// path of the overlay.
    pub(super) fn overlay(&self, rootfs: &Path) -> Result<PathBuf, ScratchError> {
        // A path without the characters that separate overlay's options.
        let lower = self.made("lower")?;
        mount(
            Some(rootfs),
            &lower,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .map_err(failed("bind", rootfs))?;
        let (upper, work, merged) = (
            self.made("upper")?,
            self.made("work")?,
            self.made("rootfs")?,
        );
        // The container's root directory has the owner and mode of the rootfs, not of this directory.
        fs::metadata(rootfs)
            .and_then(|of| {
                chown(&upper, Some(of.uid()), Some(of.gid()))?;
                fs::set_permissions(&upper, of.permissions())
            })
            .map_err(failed("take over the owner and permissions of", rootfs))?;
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            upper.display(),
            work.display()
        );
        mount(
            Some("overlay"),
            &merged,
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .map_err(failed("lay memory over", rootfs))?;
        Ok(merged)
    }

    /// Removes the directory. Dropping does this too; a caller that exits without dropping calls this.
    pub(super) fn remove(&self) {
        // If this fails, an empty directory is left, and there is no caller to report it to.
        let _ = umount2(self.directory.as_path(), MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.directory);
    }

    fn made(&self, name: &str) -> Result<PathBuf, ScratchError> {
        let path = self.directory.join(name);
        fs::create_dir_all(&path).map_err(failed("make", &path))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.remove();
    }
}

fn failed<E: Into<io::Error>>(act: &'static str, path: &Path) -> impl FnOnce(E) -> ScratchError {
    move |error| ScratchError::Failed {
        act,
        path: path.to_owned(),
        source: error.into(),
    }
}
