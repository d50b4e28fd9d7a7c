//! Locks that decide which process compiles: one per key, a limited number per node. They are `flock`s,
//! which end with the last copy of their descriptor, even if the holders are killed.
#![forbid(unsafe_code)]

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::dir::{Folder, StoreDir};
use crate::error::CompileFailure;
use crate::key::Key;

/// The right to compile one key.
#[derive(Debug)]
pub(crate) struct KeyLock {
    file: File,
}

/// How the last compile under a lock failed, for the processes that waited for it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FailureRecord {
    /// On [`now`]'s clock.
    at: Duration,
    failure: CompileFailure,
}

/// The time since boot, which is the same for all processes.
pub(crate) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .unwrap_or_default()
}

impl KeyLock {
    /// Takes the lock of a key; `None` while another process has it.
    pub(crate) fn try_take(dir: &StoreDir, key: &Key) -> io::Result<Option<Self>> {
        let name = key.to_string();
        loop {
            let file = dir.file(Folder::Locks, &name, OFlag::O_RDWR | OFlag::O_CREAT)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // The previous holder may have removed the file; a lock on a removed file excludes no process.
            if file.metadata()?.nlink() > 0 {
                return Ok(Some(Self { file }));
            }
        }
    }

    /// A lock that another process took and sent to this one.
    pub(crate) const fn received(file: File) -> Self {
        Self { file }
    }

    /// The locked file, to send to another process.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    /// How the last compile failed, if it ended after `since`.
    pub(crate) fn failure_since(&self, since: Duration) -> Option<CompileFailure> {
        let mut text = Vec::new();
        (&self.file).read_to_end(&mut text).ok()?;
        let record: FailureRecord = serde_json::from_slice(&text).ok()?;
        (record.at >= since).then_some(record.failure)
    }

    /// Records a failure for the processes that wait for this lock.
    pub(crate) fn record_failure(&self, failure: &CompileFailure) -> io::Result<()> {
        let record = FailureRecord {
            at: now(),
            failure: failure.clone(),
        };
        let text = serde_json::to_vec(&record)?;
        self.file.set_len(0)?;
        std::os::unix::fs::FileExt::write_all_at(&self.file, &text, 0)?;
        (&self.file).flush()
    }

    /// Removes the lock's file, because the entry is published.
    pub(crate) fn retire(self, dir: &StoreDir, key: &Key) {
        dir.remove_quietly(Folder::Locks, &key.to_string());
    }
}

/// One of the node's compile slots; dropping it frees the slot.
#[derive(Debug)]
pub(crate) struct CompileSlot {
    _file: File,
}

impl CompileSlot {
    /// Takes any free slot of `count`; `None` while all are taken.
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
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn dir() -> (tempfile::TempDir, StoreDir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = StoreDir::open(&temp.path().join("cache")).unwrap();
        (temp, dir)
    }

    #[test]
    fn one_process_holds_a_key_and_a_retired_lock_can_be_taken_again() {
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
    fn a_failure_reaches_waiting_processes_and_no_later_ones() {
        let (_temp, dir) = dir();
        let key = Key::of(Digest::of_bytes(b"x"));
        let before = now();
        let lock = KeyLock::try_take(&dir, &key).unwrap().unwrap();
        lock.record_failure(&CompileFailure::Changed).unwrap();
        drop(lock);
        let lock = KeyLock::try_take(&dir, &key).unwrap().unwrap();
        assert_eq!(lock.failure_since(before), Some(CompileFailure::Changed));
        drop(lock);
        let lock = KeyLock::try_take(&dir, &key).unwrap().unwrap();
        assert_eq!(lock.failure_since(now()), None);
    }

    #[test]
    fn slots_are_bounded() {
        let (_temp, dir) = dir();
        let one = CompileSlot::try_take(&dir, 2).unwrap().unwrap();
        let _two = CompileSlot::try_take(&dir, 2).unwrap().unwrap();
        assert!(CompileSlot::try_take(&dir, 2).unwrap().is_none());
        drop(one);
        assert!(CompileSlot::try_take(&dir, 2).unwrap().is_some());
    }
}
