//! What can go wrong with a cgroup.
#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    #[error("cannot read {path}: {source}; look at the mounts of cgroups and of /proc")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path}: {source}; look at the mounts of cgroups")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot remove {path}: {source}; end the processes in it, and delete the task again")]
    Remove { path: PathBuf, source: io::Error },
    #[error(
        "cannot freeze the container: its cgroup has no freezer; mount that hierarchy at \
         /sys/fs/cgroup/freezer"
    )]
    NoFreezer,
    #[error(
        "cannot freeze the processes of {path}: one of them does not stop; look at what it waits \
         for in the kernel (/proc/PID/stack)"
    )]
    Unfrozen { path: PathBuf },
    #[error("there is no cgroup {path:?}; make it before the first container starts")]
    Unknown { path: String },
    #[error("cannot watch {path} for out-of-memory kills: {source}; look at the mounts of cgroups")]
    Watch { path: PathBuf, source: io::Error },
    #[error(
        "cannot open process {pid} to send it a signal: {source}; raise the limit of open files"
    )]
    Open { pid: i32, source: io::Error },
    #[error("cannot send signal {signal} to process {pid}: {source}; use a signal from 1 to 64")]
    Signal {
        signal: i32,
        pid: i32,
        source: io::Error,
    },
    #[error(
        "cannot end processes {pids:?} in {path}: they do not end after SIGKILL; look at what they \
         wait for in the kernel (/proc/PID/stack)"
    )]
    Survivors { path: PathBuf, pids: Vec<i32> },
}

impl CgroupError {
    pub(super) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }

    pub(super) fn remove(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Remove { path, source }
    }

    pub(super) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }
}

/// Whether it says that the cgroup is removed.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}
