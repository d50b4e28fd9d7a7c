//! Out-of-memory kills in a cgroup: how many there were, and when to look again.
//!
//! Version 1 signals an eventfd before it kills (memory.rst of the kernel's cgroup-v1 documentation).
//! Version 2 changes a file after a kill, but also whenever a container reclaims memory at its limit,
//! up to a hundred times per second.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::error::CgroupError;
use super::flat_file::flat_value;
use super::location::Cgroup;
use crate::sys;

/// How long version 1 may take from a shortage of memory to a kill.
const KILL: Duration = Duration::from_secs(2);
/// How often the number of kills is read in that time.
const KILL_PAUSE: Duration = Duration::from_millis(10);
/// After a shortage without a kill, version 2 is not watched for this time.
const RECLAIM_PAUSE: Duration = Duration::from_millis(100);

impl Cgroup {
    /// The file in which the kernel counts out-of-memory kills.
    fn oom_file(&self) -> Option<PathBuf> {
        match self {
            Cgroup::V2(path) => Some(path.join("memory.events")),
            Cgroup::V1(controllers) => Some(controllers.get("memory")?.join("memory.oom_control")),
        }
    }

    /// How many out-of-memory kills there were.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.oom_file()
            .and_then(|file| fs::read_to_string(file).ok())
            .and_then(|text| flat_value(&text, "oom_kill"))
            .unwrap_or(0)
    }
}

/// The shortages of memory in one cgroup, each of which may end in a kill.
#[derive(Debug)]
pub(crate) enum MemoryShortages {
    V1(EventFd),
    V2(Inotify),
}

impl MemoryShortages {
    /// Watches `cgroup` from now on. `None` if it has no memory controller.
    pub(crate) fn of(cgroup: &Cgroup) -> Result<Option<Self>, CgroupError> {
        let Some(path) = cgroup.oom_file() else {
            return Ok(None);
        };
        let watched = match cgroup {
            Cgroup::V1(_) => v1(&path).map(Self::V1),
            Cgroup::V2(_) => v2(&path).map(Self::V2),
        };
        match watched {
            // Version 2 without a memory controller.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            watched => watched
                .map(Some)
                .map_err(|source| CgroupError::Watch { path, source }),
        }
    }

    /// When to read the number of kills, after [`Self::next`] has returned.
    pub(crate) fn checks(&self) -> KillChecks {
        match self {
            Self::V1(_) => KillChecks::UntilKilled {
                first: true,
                end: Instant::now() + KILL,
            },
            Self::V2(_) => KillChecks::Once { done: false },
        }
    }

    /// Waits for the next shortage.
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

    /// Reads what the descriptor has. Returns whether there was a shortage.
    fn drain(&self) -> nix::Result<bool> {
        let read = match self {
            Self::V1(events) => events.read().map(drop),
            Self::V2(inotify) => inotify.read_events().map(drop),
        };
        match read {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// When to read the number of kills after one shortage.
#[derive(Debug)]
pub(crate) enum KillChecks {
    /// Version 1: the kill may follow.
    UntilKilled { first: bool, end: Instant },
    /// Version 2: the kill is counted already.
    Once { done: bool },
}

impl KillChecks {
    /// Waits until the next check is due. Returns whether there is one. To be called until a kill was
    /// seen.
    pub(crate) async fn next(&mut self) -> bool {
        match self {
            Self::UntilKilled { first, end } => {
                if std::mem::take(first) {
                    return true;
                }
                tokio::time::sleep(KILL_PAUSE).await;
                Instant::now() < *end
            }
            Self::Once { done } => {
                if !std::mem::replace(done, true) {
                    return true;
                }
                tokio::time::sleep(RECLAIM_PAUSE).await;
                false
            }
        }
    }
}

impl AsFd for MemoryShortages {
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
    let registration = format!("{} {}", events.as_raw_fd(), file.as_raw_fd());
    fs::write(control.with_file_name("cgroup.event_control"), registration)?;
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
    async fn changed_file_is_a_shortage_on_v2() {
        let directory = tempfile::tempdir().expect("directory");
        let cgroup = Cgroup::V2(directory.path().to_owned());
        assert!(MemoryShortages::of(&cgroup).expect("look").is_none());
        let file = directory.path().join("memory.events");
        fs::write(&file, "oom_kill 0\n").expect("write");
        let shortages = MemoryShortages::of(&cgroup)
            .expect("watch")
            .expect("a file");
        tokio::time::timeout(Duration::from_millis(50), shortages.next())
            .await
            .expect_err("nothing has changed");
        fs::write(&file, "oom_kill 1\n").expect("write");
        shortages.next().await.expect("a change");
        assert_eq!(cgroup.oom_kills(), 1);
    }

    /// Guards against reading `memory.events` in a loop while a container reclaims at its limit.
    #[tokio::test]
    async fn number_of_kills_is_read_once_per_change_on_v2() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("memory.events");
        fs::write(&file, "max 0\noom_kill 0\n").expect("write");
        let cgroup = Cgroup::V2(directory.path().to_owned());
        let shortages = MemoryShortages::of(&cgroup)
            .expect("watch")
            .expect("a file");
        for max in 1..=3 {
            fs::write(&file, format!("max {max}\noom_kill 0\n")).expect("write");
            shortages.next().await.expect("a change");
            let mut checks = shortages.checks();
            let mut checked = 0;
            while checks.next().await {
                checked += 1;
            }
            assert_eq!(checked, 1);
        }
    }

    #[tokio::test]
    async fn number_of_kills_is_read_again_on_v1() {
        let events = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).expect("eventfd");
        let checks = MemoryShortages::V1(events).checks();
        assert!(
            matches!(checks, KillChecks::UntilKilled { first: true, .. }),
            "{checks:?}"
        );
        // Until its time is over, and once in any case.
        let now = Instant::now();
        for (end, expected) in [
            (now + Duration::from_secs(3600), [true, true, true]),
            (now, [true, false, false]),
        ] {
            let mut checks = KillChecks::UntilKilled { first: true, end };
            for expected in expected {
                assert_eq!(checks.next().await, expected);
            }
        }
    }
}
