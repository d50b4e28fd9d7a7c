//! A container's files, reached from outside without ever being led out of them.
//!
//! Called by `dev` and `cwd`. The files are the image's and may be anything: each path is resolved
//! by the kernel as if the container's root were the only one there is.
#![forbid(unsafe_code)]

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use nix::{
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::{Mode, SFlag, fstatat},
};

const DIRECTORY: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

/// The root directory of a container.
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

impl Root {
    /// The root of the process `init`, with all that is mounted there.
    pub(crate) fn of_process(init: i32) -> nix::Result<Self> {
        Self::at(Path::new(&format!("/proc/{init}/root")))
    }

    /// A root file system that is not yet a container's.
    pub(crate) fn at(path: &Path) -> nix::Result<Self> {
        open(path, DIRECTORY, Mode::empty()).map(Self)
    }

    /// A directory beneath it: symlinks are followed as the container would.
    pub(crate) fn directory(&self, path: &Path) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(DIRECTORY)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(self.0.as_fd(), path, how)
    }

    /// The type of what lies right beneath it; a symlink is one.
    pub(crate) fn kind_of(&self, name: &str) -> nix::Result<SFlag> {
        let stat = fstatat(self.0.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok(SFlag::from_bits_truncate(
            stat.st_mode & SFlag::S_IFMT.bits(),
        ))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
