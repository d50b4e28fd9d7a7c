//! Makes this process's root directory the image's, read-only and without network: the module's initialization
//! can change nothing and reach nothing.
#![forbid(unsafe_code)]

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount_bind_recursive, mount_change, mount_remount,
};
use rustix::process::{chdir, chroot};

/// What this machine refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfineError {
    #[error("cannot leave this machine's mounts and network: {0}; run as root")]
    Leave(#[source] nix::Error),
    #[error("cannot mount it on itself, read-only: {0}")]
    Mount(#[source] Errno),
    #[error("cannot make it the root directory: {0}")]
    Root(#[source] Errno),
}

/// Enters `root`. Descriptors that are open stay so.
pub(crate) fn enter(root: &Path) -> Result<(), ConfineError> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC)
        .map_err(ConfineError::Leave)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(ConfineError::Mount)?;
    mount_bind_recursive(root, root).map_err(ConfineError::Mount)?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount(root, flags, "").map_err(ConfineError::Mount)?;
    chroot(root).map_err(ConfineError::Root)?;
    chdir("/").map_err(ConfineError::Root)
}

/// The streams of this process while a module runs: empty files, whatever the caller's are.
#[derive(Debug)]
pub(crate) struct StreamsAside {
    before: [rustix::fd::OwnedFd; 3],
    written: File,
}

impl StreamsAside {
    /// Replaces the streams of this process until they are given back.
    pub(crate) fn replace() -> std::io::Result<Self> {
        let input = memfd_create("stdin", MemfdFlags::CLOEXEC)?;
        let written = memfd_create("output", MemfdFlags::CLOEXEC)?;
        let before = [
            rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?,
            rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?,
            rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3)?,
        ];
        set([input.as_fd(), written.as_fd(), written.as_fd()])?;
        Ok(Self {
            before,
            written: File::from(written),
        })
    }

    /// Gives the streams back; the text that the module wrote.
    pub(crate) fn give_back(self) -> std::io::Result<String> {
        use std::io::{Read as _, Seek as _};
        set(self.before.each_ref().map(AsFd::as_fd))?;
        let mut file = self.written;
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn set([input, output, errors]: [rustix::fd::BorrowedFd<'_>; 3]) -> std::io::Result<()> {
    rustix::stdio::dup2_stdin(input)?;
    rustix::stdio::dup2_stdout(output)?;
    rustix::stdio::dup2_stderr(errors)?;
    Ok(())
}
