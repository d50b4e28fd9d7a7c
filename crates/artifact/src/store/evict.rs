//! Keeps the store within its size: removes the least recently used entries that no container holds, and
//! what a crash or a power loss left.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::io;
use std::time::SystemTime;

use super::digests;
use super::dir::{Folder, StoreDir, TEMPORARY};
use super::entry;
use super::lock::KeyLock;
use crate::key::Key;

/// The result of an eviction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PruneSummary {
    /// Entries removed.
    pub removed: usize,
    /// Bytes freed.
    pub freed_bytes: u64,
    /// Entries that were to be removed but are in use.
    pub spared: usize,
    /// Bytes that remain.
    pub kept_bytes: u64,
}

/// The keys that have anything in the store.
pub(crate) fn keys(dir: &StoreDir) -> io::Result<BTreeSet<Key>> {
    let names = dir.names(Folder::Entries)?;
    Ok(names
        .iter()
        .filter_map(|name| name.split('.').next()?.parse().ok())
        .collect())
}

/// Bytes of an entry on disk. The record's size does not count.
fn size(dir: &StoreDir, key: &Key) -> u64 {
    [entry::code_name(key), entry::record_name(key)]
        .iter()
        .filter_map(|name| {
            let file = dir
                .file(Folder::Entries, name, nix::fcntl::OFlag::O_RDONLY)
                .ok()?;
            Some(file.metadata().ok()?.len())
        })
        .sum()
}

/// Removes least recently used entries until at most `max_bytes` remain; `spare` is not removed. If an
/// entry cannot be removed, the eviction goes on with the others, and returns the error at the end.
pub(crate) fn evict(
    dir: &StoreDir,
    max_bytes: u64,
    spare: Option<&Key>,
) -> io::Result<PruneSummary> {
    let mut entries: Vec<(SystemTime, Key, u64)> = keys(dir)?
        .into_iter()
        .map(|key| {
            // An entry without a record cannot be used, so it is removed first.
            let used = entry::last_used(dir, &key).unwrap_or(SystemTime::UNIX_EPOCH);
            let size = size(dir, &key);
            (used, key, size)
        })
        .collect();
    entries.sort();
    let mut failed = None;
    let mut pruned = PruneSummary {
        kept_bytes: entries.iter().map(|(.., size)| size).sum(),
        ..PruneSummary::default()
    };
    for (_, key, size) in entries {
        if pruned.kept_bytes <= max_bytes {
            break;
        }
        if Some(&key) == spare {
            continue;
        }
        match entry::remove(dir, &key) {
            Ok(true) => {
                pruned.removed += 1;
                pruned.freed_bytes += size;
                pruned.kept_bytes -= size;
            }
            Ok(false) => pruned.spared += 1,
            Err(error) => {
                failed.get_or_insert_with(|| {
                    io::Error::new(error.kind(), format!("cannot remove entry {key}: {error}"))
                });
            }
        }
    }
    failed.map_or(Ok(pruned), Err)
}

/// Removes unfinished files that no process is writing, and old locks. The caller holds the lock of the
/// key `ours`.
pub(crate) fn sweep(dir: &StoreDir, ours: Option<&Key>) -> io::Result<()> {
    for name in dir.names(Folder::Entries)? {
        let key = name
            .split('.')
            .next()
            .and_then(|key| key.parse::<Key>().ok());
        match key {
            Some(key) if name.ends_with(TEMPORARY) => {
                // Only the holder of a key's lock writes its files.
                let lock = if Some(&key) == ours {
                    None
                } else {
                    KeyLock::try_take(dir, &key)?
                };
                if lock.is_some() || Some(&key) == ours {
                    dir.remove_quietly(Folder::Entries, &name);
                }
                if let Some(lock) = lock {
                    lock.retire(dir, &key);
                }
            }
            Some(_) => {}
            None => {
                log::warn!(
                    "ignored {name:?} in the entries of the cache: it is not an entry; remove it"
                );
            }
        }
    }
    for name in dir.names(Folder::Locks)? {
        let Ok(key) = name.parse::<Key>() else {
            continue;
        };
        // A free lock holds at most the record of a failure, for processes that wait just now.
        let old = dir
            .file(Folder::Locks, &name, nix::fcntl::OFlag::O_RDONLY)
            .and_then(|file| file.metadata()?.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() > 3600));
        if old
            && Some(&key) != ours
            && let Some(lock) = KeyLock::try_take(dir, &key)?
        {
            lock.retire(dir, &key);
        }
    }
    digests::expire(dir);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::digest::Digest;

    #[test]
    fn eviction_continues_after_an_entry_that_cannot_be_removed() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("cache");
        let dir = StoreDir::open(&root).unwrap();
        let entries = root.join("entries");
        let [broken, linked, whole] = [b"1", b"2", b"3"].map(|module| {
            let key = Key::of(Digest::of_bytes(module));
            fs::write(entries.join(entry::record_name(&key)), "{}").unwrap();
            key
        });
        fs::create_dir(entries.join(entry::code_name(&broken))).unwrap();
        let outside = temp.path().join("outside");
        fs::write(&outside, "theirs").unwrap();
        symlink(&outside, entries.join(entry::code_name(&linked))).unwrap();
        fs::write(entries.join(entry::code_name(&whole)), "code").unwrap();

        let error = evict(&dir, 0, None).unwrap_err().to_string();
        assert!(error.contains(&broken.to_string()), "{error}");
        assert_eq!(keys(&dir).unwrap(), [broken].into());
        assert_eq!(fs::read_to_string(&outside).unwrap(), "theirs");
    }
}
