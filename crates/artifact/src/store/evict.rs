//! Keeps the store within its size: least recently used first, sparing what runs; and sweeps up
//! what a crash or a power loss left.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::io;
use std::time::SystemTime;

use super::dir::{Folder, StoreDir, TEMPORARY};
use super::entry;
use super::lock::KeyLock;
use crate::key::Key;
use crate::known;

/// What eviction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Pruned {
    /// Entries removed.
    pub removed: usize,
    /// Bytes given back.
    pub freed_bytes: u64,
    /// Entries that were to go but are in use.
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

/// Bytes on disk of an entry, whatever its record says.
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

/// Removes least recently used entries until at most `max_bytes` remain; `spare` is not touched.
pub(crate) fn evict(dir: &StoreDir, max_bytes: u64, spare: Option<&Key>) -> io::Result<Pruned> {
    let mut entries: Vec<(SystemTime, Key, u64)> = keys(dir)?
        .into_iter()
        .map(|key| {
            // Without a record it is of no use: the first to go.
            let used = entry::last_used(dir, &key).unwrap_or(SystemTime::UNIX_EPOCH);
            let size = size(dir, &key);
            (used, key, size)
        })
        .collect();
    entries.sort();
    let mut pruned = Pruned {
        kept_bytes: entries.iter().map(|(.., size)| size).sum(),
        ..Pruned::default()
    };
    for (_, key, size) in entries {
        if pruned.kept_bytes <= max_bytes {
            break;
        }
        if Some(&key) == spare {
            continue;
        }
        if entry::remove(dir, &key)? {
            pruned.removed += 1;
            pruned.freed_bytes += size;
            pruned.kept_bytes -= size;
        } else {
            pruned.spared += 1;
        }
    }
    Ok(pruned)
}

/// Removes unfinished files that nobody is writing, and old locks. `ours` is a key whose lock the
/// caller holds.
pub(crate) fn sweep(dir: &StoreDir, ours: Option<&Key>) -> io::Result<()> {
    for name in dir.names(Folder::Entries)? {
        let key = name
            .split('.')
            .next()
            .and_then(|key| key.parse::<Key>().ok());
        match key {
            Some(key) if name.ends_with(TEMPORARY) => {
                // Who holds a key's lock is the only one to write its files.
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
                log::warn!("the cache holds {name}, which is not of the cache; it is left alone");
            }
        }
    }
    for name in dir.names(Folder::Locks)? {
        let Ok(key) = name.parse::<Key>() else {
            continue;
        };
        // A lock that is free has nothing but word of a failure, for those who wait just now.
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
    known::forget(dir);
    Ok(())
}
