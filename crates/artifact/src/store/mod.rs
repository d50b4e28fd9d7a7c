//! The store: its directory, its entries, and their removal. [`Store`] lists, verifies and prunes;
//! `crate::get` compiles modules into it.
#![forbid(unsafe_code)]

pub(crate) mod digests;
pub(crate) mod dir;
pub(crate) mod entry;
pub(crate) mod evict;
pub(crate) mod lock;

use std::env;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use dir::StoreDir;
pub use dir::UnusableStore;
use entry::Verification;
pub use evict::PruneSummary;

use crate::key::Key;
use crate::spawn::{Plainly, Spawn};

/// The environment variable that names another directory than [`cache_dir`]'s default.
pub const CACHE_ENV: &str = "WASM_INTERP_CACHE_DIR";

/// The directory of the node's store, for every process that uses it.
#[must_use]
pub fn cache_dir() -> PathBuf {
    env::var_os(CACHE_ENV)
        .filter(|value| !value.is_empty())
        .map_or_else(|| "/var/lib/wasm-interp/cache".into(), PathBuf::from)
}

/// An entry of the store, for people.
#[derive(Clone, Debug, Serialize)]
pub struct StoreEntry {
    /// Its name.
    pub key: Key,
    /// The name of the module when it was compiled; empty if the record cannot be read.
    pub name: String,
    /// Size of the native code.
    pub bytes: u64,
    /// How long its compile took.
    pub compile_seconds: f64,
    /// Time of its last use.
    pub last_used: SystemTime,
    /// Whether a container holds it.
    pub in_use: bool,
    /// Whether this version uses it on this machine.
    pub current: bool,
}

/// The result of a full check of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Integrity {
    /// Every byte is as the publisher wrote it.
    Sound,
    /// It is damaged, and will be compiled again when it is needed.
    Unsound {
        /// The damage.
        reason: String,
    },
}

/// The node's native code. Cheap to open; several threads and processes may use it at once.
#[derive(Debug)]
pub struct Store {
    dir: Result<StoreDir, UnusableStore>,
    spawn: Box<dyn Spawn>,
}

impl Store {
    /// Opens the store in `root`, and creates the directory if it is missing. If it cannot be used,
    /// [`Store::get`] compiles into memory and says why.
    #[must_use]
    pub fn open(root: &Path) -> Self {
        Self {
            dir: StoreDir::open(root),
            spawn: Box::new(Plainly),
        }
    }

    /// Makes the store start processes with `spawn`.
    #[must_use]
    pub fn spawning_by(mut self, spawn: impl Spawn + 'static) -> Self {
        self.spawn = Box::new(spawn);
        self
    }

    /// How the store starts processes.
    pub(crate) fn spawn(&self) -> &dyn Spawn {
        &*self.spawn
    }

    /// The store's directory.
    pub(crate) fn dir(&self) -> Result<&StoreDir, &UnusableStore> {
        self.dir.as_ref()
    }

    /// Why the store cannot be used, if it cannot.
    #[must_use]
    pub fn unusable(&self) -> Option<&UnusableStore> {
        self.dir.as_ref().err()
    }

    /// All entries, the most recently used first.
    ///
    /// # Errors
    /// When there is no store or it cannot be listed.
    pub fn list(&self) -> Result<Vec<StoreEntry>, StoreError> {
        let dir = self.usable()?;
        let recipe = crate::recipe::id();
        let keys = evict::keys(dir).map_err(|source| StoreError::list(dir, source))?;
        let mut entries: Vec<StoreEntry> = keys
            .into_iter()
            .map(|key| {
                let record = entry::record(dir, &key).ok();
                StoreEntry {
                    name: record
                        .as_ref()
                        .map_or(String::new(), |record| record.name().to_owned()),
                    bytes: record.as_ref().map_or(0, entry::EntryRecord::bytes),
                    compile_seconds: record
                        .as_ref()
                        .map_or(0.0, entry::EntryRecord::compile_seconds),
                    last_used: entry::last_used(dir, &key).unwrap_or(SystemTime::UNIX_EPOCH),
                    in_use: entry::in_use(dir, &key),
                    current: key.recipe() == recipe,
                    key,
                }
            })
            .collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.last_used));
        Ok(entries)
    }

    /// Reads every byte of every entry.
    ///
    /// # Errors
    /// When there is no store or it cannot be listed.
    pub fn verify(&self) -> Result<Vec<(StoreEntry, Integrity)>, StoreError> {
        let entries = self.list()?;
        let dir = self.usable()?;
        let judge = |entry: StoreEntry| {
            let verdict = match entry::open(dir, &entry.key, Verification::Full) {
                Ok(_) => Integrity::Sound,
                Err(error) => Integrity::Unsound {
                    reason: error.to_string(),
                },
            };
            (entry, verdict)
        };
        Ok(entries.into_iter().map(judge).collect())
    }

    /// Removes least recently used entries until at most `max_bytes` remain, but no entry that a
    /// container holds. Also removes unfinished files of crashed processes.
    ///
    /// # Errors
    /// When there is no store or it cannot be written.
    pub fn prune(&self, max_bytes: u64) -> Result<PruneSummary, StoreError> {
        let dir = self.usable()?;
        evict::sweep(dir, None)
            .and_then(|()| evict::evict(dir, max_bytes, None))
            .map_err(|source| StoreError::Prune {
                path: dir.path().to_owned(),
                source,
            })
    }

    fn usable(&self) -> Result<&StoreDir, StoreError> {
        self.dir
            .as_ref()
            .map_err(|unusable| StoreError::Unusable(unusable.clone()))
    }
}

/// Why the store cannot be inspected or pruned.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no store.
    #[error(transparent)]
    Unusable(UnusableStore),
    /// It cannot be listed.
    #[error("cannot list the cache directory {}: {source}; run as root", .path.display())]
    List {
        /// The directory.
        path: std::path::PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be written.
    #[error("cannot prune the cache directory {}: {source}; run as root", .path.display())]
    Prune {
        /// The directory.
        path: std::path::PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl StoreError {
    fn list(dir: &StoreDir, source: std::io::Error) -> Self {
        Self::List {
            path: dir.path().to_owned(),
            source,
        }
    }
}
