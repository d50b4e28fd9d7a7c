//! Who compiles: one per key, a bounded number per node, across processes. The locks are `flock`s,
//! which end with the last copy of their descriptor, however its holders end.
#![forbid(unsafe_code)]

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::dir::{Folder, StoreDir};
use crate::failure::Failure;
use crate::key::Key;

/// The right to compile one key.
#[derive(Debug)]
pub(crate) struct KeyLock {
    file: File,
}

/// How the last flight under a lock failed, for those who waited for it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// On [`now`]'s clock.
    at: Duration,
    failure: Failure,
}

/// Time since boot, the same for all processes.
pub(crate) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .unwrap_or_default()
}

impl KeyLock {
    /// Takes the lock of a key; `None` while somebody else has it.
    pub(crate) fn try_take(dir: &StoreDir, key: &Key) -> io::Result<Option<Self>> {
        let name = key.to_string();
        loop {
            let file = dir.file(Folder::Locks, &name, OFlag::O_RDWR | OFlag::O_CREAT)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Whoever had it may have removed it; a lock on a file without a name excludes nobody.
            if file.metadata()?.nlink() > 0 {
                return Ok(Some(Self { file }));
            }
        }
    }

    /// The lock that another process took and sent here.
    pub(crate) const fn received(file: File) -> Self {
        Self { file }
    }

    /// The descriptor that is the lock, to send to another process.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    /// How the flight failed that ended since `since`.
    pub(crate) fn failure_since(&self, since: Duration) -> Option<Failure> {
        let mut text = Vec::new();
        (&self.file).read_to_end(&mut text).ok()?;
        let note: Note = serde_json::from_slice(&text).ok()?;
        (note.at >= since).then_some(note.failure)
    }

    /// Leaves word for those who wait.
    pub(crate) fn leave_failure(&self, failure: &Failure) -> io::Result<()> {
        let note = Note {
            at: now(),
            failure: failure.clone(),
        };
        let text = serde_json::to_vec(&note)?;
        self.file.set_len(0)?;
        std::os::unix::fs::FileExt::write_all_at(&self.file, &text, 0)?;
        (&self.file).flush()
    }

    /// Removes the lock's file: the entry is there, nobody needs it any more.
    pub(crate) fn retire(self, dir: &StoreDir, key: &Key) {
        dir.remove_quietly(Folder::Locks, &key.to_string());
    }
}

/// One of the node's places for a compile; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    _file: File,
}

impl Slot {
    /// Takes any free place of `count`; `None` while all are taken.
    pub(crate) fn try_take(dir: &StoreDir, count: usize) -> io::Result<Option<Self>> {
        for number in 0..count.max(1) {
            let flags = OFlag::O_RDWR | OFlag::O_CREAT;
            let file = dir.file(Folder::Locks, &format!("slot-{number}"), flags)?;
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self { _file: file })),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::key::Digest;

    fn dir() -> (tempfile::TempDir, StoreDir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = StoreDir::open(&temp.path().join("cache")).unwrap();
        (temp, dir)
    }

    #[test]
    fn one_holder_a_key_and_a_retired_lock_is_taken_anew() {
        let (_temp, dir) = dir();
        let key = Key::of(Digest::of_bytes(b"x"));
        let first = KeyLock::try_take(&dir, &key).unwrap().unwrap();
        assert!(KeyLock::try_take(&dir, &key).unwrap().is_none());
        let waiter = dir
            .file(Folder::Locks, &key.to_string(), OFlag::O_RDWR)
            .unwrap();
        first.retire(&dir, &key);
        let second = KeyLock::try_take(&dir, &key).unwrap().unwrap();
        assert_eq!(waiter.metadata().unwrap().nlink(), 0);
        assert!(KeyLock::try_take(&dir, &key).unwrap().is_none());
        drop(second);
    }

    #[test]
    fn a_failure_reaches_those_who_waited_and_nobody_later() {
        let (_temp, dir) = dir();
        let key = Key::of(Digest::of_bytes(b"x"));
        let before = now();
        let lock = KeyLock::try_take(&dir, &key).unwrap().unwrap();
        lock.leave_failure(&Failure::Changed).unwrap();
        drop(lock);
        let lock = KeyLock::try_take(&dir, &key).unwrap().unwrap();
        assert_eq!(lock.failure_since(before), Some(Failure::Changed));
        drop(lock);
        let lock = KeyLock::try_take(&dir, &key).unwrap().unwrap();
        assert_eq!(lock.failure_since(now()), None);
    }

    #[test]
    fn slots_are_bounded() {
        let (_temp, dir) = dir();
        let one = Slot::try_take(&dir, 2).unwrap().unwrap();
        let _two = Slot::try_take(&dir, 2).unwrap().unwrap();
        assert!(Slot::try_take(&dir, 2).unwrap().is_none());
        drop(one);
        assert!(Slot::try_take(&dir, 2).unwrap().is_some());
    }
}
