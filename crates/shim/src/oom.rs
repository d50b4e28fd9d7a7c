//! Learns that the kernel's OOM killer may have struck in a container, while it runs.
//!
//! Called by `task`, which asks the cgroup how often it has. Version 1 signals an eventfd
//! (memory.rst of the kernel's cgroup-v1 documentation), version 2 changes a file.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::cgroup::Cgroup;
use crate::sys;

/// Tells of shortages of memory in one cgroup.
#[derive(Debug)]
pub(crate) enum Shortages {
    V1(EventFd),
    V2(Inotify),
}

#[derive(Debug, thiserror::Error)]
#[error("watch {path} for the OOM killer: {source}")]
pub(crate) struct OomError {
    path: PathBuf,
    source: io::Error,
}

impl Shortages {
    /// Watches `cgroup` from now on; `None` if no memory controller is at work there.
    pub(crate) fn of(cgroup: &Cgroup) -> Result<Option<Self>, OomError> {
        let Some(path) = cgroup.oom_file() else {
            return Ok(None);
        };
        let watched = match cgroup {
            Cgroup::V1(_) => v1(&path).map(Self::V1),
            Cgroup::V2(_) => v2(&path).map(Self::V2),
        };
        match watched {
            // Version 2 without the controller.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            watched => watched
                .map(Some)
                .map_err(|source| OomError { path, source }),
        }
    }

    /// Waits for the next one. The kernel tells of a shortage before it has killed anybody.
    pub(crate) async fn next(&self) -> io::Result<()> {
        let watched = sys::readable(self.as_fd())?;
        loop {
            let mut ready = watched.readable().await?;
            if self.drain()? {
                return Ok(());
            }
            ready.clear_ready();
        }
    }

    /// Whether there was something.
    fn drain(&self) -> nix::Result<bool> {
        let told = match self {
            Self::V1(events) => events.read().map(drop),
            Self::V2(inotify) => inotify.read_events().map(drop),
        };
        match told {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Shortages {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::V1(events) => events.as_fd(),
            Self::V2(inotify) => inotify.as_fd(),
        }
    }
}

fn v1(control: &Path) -> io::Result<EventFd> {
    let events = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let file = File::open(control)?;
    let order = format!("{} {}", events.as_raw_fd(), file.as_raw_fd());
    fs::write(control.with_file_name("cgroup.event_control"), order)?;
    Ok(events)
}

fn v2(events: &Path) -> io::Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    inotify.add_watch(events, AddWatchFlags::IN_MODIFY)?;
    Ok(inotify)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_changed_file_is_a_shortage_on_version_2() {
        let directory = tempfile::tempdir().expect("directory");
        let cgroup = Cgroup::V2(directory.path().to_owned());
        assert!(Shortages::of(&cgroup).expect("look").is_none());
        let file = directory.path().join("memory.events");
        fs::write(&file, "oom_kill 0\n").expect("write");
        let shortages = Shortages::of(&cgroup).expect("watch").expect("a file");
        tokio::time::timeout(Duration::from_millis(50), shortages.next())
            .await
            .expect_err("nothing has changed");
        fs::write(&file, "oom_kill 1\n").expect("write");
        shortages.next().await.expect("a change");
        assert_eq!(cgroup.oom_kills(), 1);
    }
}
