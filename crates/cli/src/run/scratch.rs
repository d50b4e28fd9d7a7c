//! What a run needs of the disk, which is nothing: a directory of memory that only this process and
//! its children see. The mount namespace takes it along, even if the process is killed.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use thiserror::Error;

/// A directory for one run.
pub(super) struct Scratch {
    /// Never removed with what is in it: a directory of the user's is mounted there.
    directory: PathBuf,
}

/// The directory could not be made.
#[derive(Debug, Error)]
pub(crate) enum ScratchError {
    #[error("cannot {act} {path:?}: {source}")]
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
        // From here on its end is ours to see to, whatever fails.
        let scratch = Self { directory };
        let path = scratch.directory.as_path();
        unshare(CloneFlags::CLONE_NEWNS).map_err(failed("make a mount namespace for", path))?;
        // Mounts of the machine go on to arrive here; ours do not leave.
        let propagation = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        mount(None::<&str>, "/", None::<&str>, propagation, None::<&str>)
            .map_err(failed("keep mounts private beneath", Path::new("/")))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some("mode=0700"))
            .map_err(failed("mount a tmpfs on", path))?;
        Ok(scratch)
    }

    /// A name of its own on this machine for the run.
    pub(super) fn id(&self) -> String {
        let name = self.directory.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Directory of the bundle that the runner is given.
    pub(super) fn bundle(&self) -> Result<PathBuf, ScratchError> {
        self.made("bundle")
    }

    /// Directory for the runner's state.
    pub(super) fn state(&self) -> Result<PathBuf, ScratchError> {
        self.made("state")
    }

    /// Lays memory over `rootfs`, so that it stays as it is; the answer is where the two together are.
    pub(super) fn overlay(&self, rootfs: &Path) -> Result<PathBuf, ScratchError> {
        // By a name without the characters that separate overlay's options.
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
        // The root directory of the container has the owner and mode of the rootfs's, not of our own.
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

    /// Removes all of it. Also done when dropped; this is for those who leave without that.
    pub(super) fn remove(&self) {
        // What is left if this fails is an empty directory, and nobody to tell.
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
