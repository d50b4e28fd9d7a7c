//! The store as its users see it: ask for the native code of a module and get a descriptor. It
//! decides between what is there, who compiles, and what to do when there is no store; how each is
//! done is in the modules beneath.
#![forbid(unsafe_code)]

pub(crate) mod dir;
pub(crate) mod entry;
pub(crate) mod evict;
pub(crate) mod lock;

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use dir::StoreDir;
pub use dir::Unusable;
use entry::{Trust, Unsound};
pub use evict::Pruned;
use lock::KeyLock;

use crate::failure::{ArtifactError, Failure, Refusal};
use crate::key::Key;
use crate::known;
use crate::publish::ask::{Answer, Question, Target, ask};

/// How often one who waits for another's compile looks again.
const RETRY: Duration = Duration::from_millis(20);
/// How often an entry may vanish between its publication and its use before memory is taken.
const VANISHED: usize = 3;

/// Bounds of the store and of a compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// Native code kept on disk.
    pub max_bytes: u64,
    /// A module. It is hashed, and copied into memory to be compiled, outside the container's
    /// limits.
    pub max_module_bytes: u64,
    /// Compiles at a time on the node, at least one.
    pub compile_slots: usize,
    /// Private memory of one compile.
    pub compile_memory_bytes: u64,
    /// Wall-clock time of one compile, not counting the wait for a slot.
    pub compile_seconds: u64,
}

impl Default for StoreConfig {
    /// What suits a node that runs interpreters of up to 100 MB.
    fn default() -> Self {
        Self {
            max_bytes: 4 << 30,
            max_module_bytes: 512 << 20,
            compile_slots: 2,
            compile_memory_bytes: 4 << 30,
            compile_seconds: 300,
        }
    }
}

/// Native code, ready to be mapped.
#[derive(Debug)]
pub struct Artifact {
    /// Read-only descriptor of the code. While any copy of it is open the store spares the entry.
    pub file: File,
    /// Its name in the store.
    pub key: Key,
    /// Where it came from.
    pub origin: Origin,
}

impl Artifact {
    /// Code that nobody will find in the store.
    fn uncached(key: &Key, file: File, seconds: f64, reason: String) -> Self {
        Self {
            file,
            key: key.clone(),
            origin: Origin::Uncached { seconds, reason },
        }
    }
}

/// Where native code came from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// It was there, or somebody else compiled it just now.
    Cached,
    /// Compiled for this call, and published.
    Compiled {
        /// Time of the compile.
        seconds: f64,
    },
    /// Compiled for this call, and kept nowhere.
    Uncached {
        /// Time of the compile.
        seconds: f64,
        /// Why, for the log.
        reason: String,
    },
}

/// What a caller that waits is told, several times a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is waited for.
    pub stage: Stage,
    /// Since the call.
    pub elapsed: Duration,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Somebody else compiles the same module.
    Waiting,
    /// Other compiles have taken all slots.
    Queued,
    /// The compiler works.
    Compiling,
}

/// An entry, for people.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its name.
    pub key: Key,
    /// What the module was called when it was compiled; empty where the record cannot be read.
    pub name: String,
    /// Size of the native code.
    pub bytes: u64,
    /// What it cost.
    pub compile_seconds: f64,
    /// Last start from it.
    pub last_used: SystemTime,
    /// Whether a container holds it.
    pub in_use: bool,
    /// Whether this version on this machine would use it.
    pub current: bool,
}

/// What a full check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    /// Every byte is as it was written.
    Sound,
    /// It will be compiled again when it is needed.
    Unsound {
        /// What is wrong.
        reason: String,
    },
}

/// The node's native code. Cheap to open; all calls may be made from several threads and processes
/// at once.
#[derive(Debug)]
pub struct Store {
    dir: Result<StoreDir, Unusable>,
    config: StoreConfig,
}

impl Store {
    /// Opens the store in `root`, making the directory where it is missing. Where that cannot be,
    /// [`Store::get`] compiles into memory and says why.
    #[must_use]
    pub fn open(root: &Path, config: StoreConfig) -> Self {
        Self {
            dir: StoreDir::open(root),
            config,
        }
    }

    /// Why there is no store, if there is none.
    #[must_use]
    pub fn unusable(&self) -> Option<&Unusable> {
        self.dir.as_ref().err()
    }

    /// Native code of a module: from the store, or compiled by `compiler` (the `wasm-interp`
    /// executable) in a confined process that goes on if this one ends. `name` stands for the
    /// module in errors. Blocks; `on_progress` is called while it does.
    ///
    /// # Errors
    /// [`ArtifactError`], which names the module.
    pub fn get(
        &self,
        wasm: &File,
        name: &str,
        compiler: &Path,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Artifact, ArtifactError> {
        let begun = Instant::now();
        let since = lock::now();
        let mut tick = |stage| {
            on_progress(Progress {
                stage,
                elapsed: begun.elapsed(),
            });
        };
        let unread = |source| ArtifactError::Read {
            name: name.to_owned(),
            source,
        };
        let (bytes, max_bytes) = (
            wasm.metadata().map_err(unread)?.len(),
            self.config.max_module_bytes,
        );
        if bytes > max_bytes {
            let refusal = Refusal::TooLarge { bytes, max_bytes };
            return Err(ArtifactError::Compile {
                name: name.to_owned(),
                failure: Failure::Refused { refusal },
            });
        }
        let digest = known::digest(wasm, self.dir.as_ref().ok()).map_err(unread)?;
        let key = Key::of(digest);
        let question = Question {
            key: &key,
            name,
            wasm,
            compiler,
            config: self.config,
        };
        let dir = match &self.dir {
            Ok(dir) => dir,
            Err(reason) => return in_memory(&question, reason.to_string(), &mut tick),
        };
        let mut vanished = 0;
        loop {
            if let Some(artifact) = look(dir, &key) {
                return Ok(artifact);
            }
            let lock = match KeyLock::try_take(dir, &key) {
                Ok(Some(lock)) => lock,
                Ok(None) => {
                    tick(Stage::Waiting);
                    std::thread::sleep(RETRY);
                    continue;
                }
                Err(error) => {
                    let reason = format!(
                        "the cache directory {} cannot be written: {error}",
                        dir.path().display()
                    );
                    return in_memory(&question, reason, &mut tick);
                }
            };
            // The flight that held the lock may have landed between the look and the lock.
            if let Some(artifact) = look(dir, &key) {
                lock.retire(dir, &key);
                return Ok(artifact);
            }
            if let Some(failure) = lock.failure_since(since) {
                return Err(ArtifactError::Compile {
                    name: name.to_owned(),
                    failure,
                });
            }
            match ask(&question, Target::Store(dir, lock), &mut tick)? {
                Answer::InMemory {
                    file,
                    seconds,
                    reason,
                } => return Ok(Artifact::uncached(question.key, file, seconds, reason)),
                Answer::Published { seconds } => {
                    if let Some(artifact) = look(dir, &key) {
                        let origin = Origin::Compiled { seconds };
                        return Ok(Artifact { origin, ..artifact });
                    }
                }
            }
            vanished += 1;
            if vanished == VANISHED {
                let reason = "the entry vanished right after it was published".to_owned();
                return in_memory(&question, reason, &mut tick);
            }
        }
    }

    /// All entries, the most recently used first.
    ///
    /// # Errors
    /// When there is no store or it cannot be listed.
    pub fn list(&self) -> Result<Vec<Entry>, StoreError> {
        let dir = self.usable()?;
        let recipe = crate::recipe::id();
        let keys = evict::keys(dir).map_err(|source| StoreError::list(dir, source))?;
        let mut entries: Vec<Entry> = keys
            .into_iter()
            .map(|key| {
                let record = entry::record(dir, &key).ok();
                Entry {
                    name: record
                        .as_ref()
                        .map_or(String::new(), |record| record.name().to_owned()),
                    bytes: record.as_ref().map_or(0, entry::Record::bytes),
                    compile_seconds: record.as_ref().map_or(0.0, entry::Record::compile_seconds),
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
    pub fn verify(&self) -> Result<Vec<(Entry, Verdict)>, StoreError> {
        let entries = self.list()?;
        let dir = self.usable()?;
        let judge = |entry: Entry| {
            let verdict = match entry::open(dir, &entry.key, Trust::Nothing) {
                Ok(_) => Verdict::Sound,
                Err(unsound) => Verdict::Unsound {
                    reason: unsound.to_string(),
                },
            };
            (entry, verdict)
        };
        Ok(entries.into_iter().map(judge).collect())
    }

    /// Removes least recently used entries until at most `max_bytes` remain, sparing those that
    /// containers hold, and what crashes left.
    ///
    /// # Errors
    /// When there is no store or it cannot be written.
    pub fn prune(&self, max_bytes: u64) -> Result<Pruned, StoreError> {
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
    /// There is none.
    #[error(transparent)]
    Unusable(Unusable),
    /// It cannot be listed.
    #[error("cannot list the cache directory {}", .path.display())]
    List {
        /// The directory.
        path: std::path::PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be written.
    #[error("cannot prune the cache directory {}", .path.display())]
    Prune {
        /// The directory.
        path: std::path::PathBuf,
        /// What the kernel said.
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

/// The entry of a key, if it is there and sound.
fn look(dir: &StoreDir, key: &Key) -> Option<Artifact> {
    loop {
        match entry::open(dir, key, Trust::Stamp) {
            Ok((file, _)) => {
                entry::touch(dir, key);
                return Some(Artifact {
                    file,
                    key: key.clone(),
                    origin: Origin::Cached,
                });
            }
            // Whoever removes it, or looks whether it is held, has it for an instant only.
            Err(Unsound::Going) => std::thread::sleep(Duration::from_millis(1)),
            Err(Unsound::Absent) => return None,
            Err(unsound) => {
                log::warn!("cache entry {key} is not used, it is compiled again: {unsound}");
                return None;
            }
        }
    }
}

fn in_memory(
    question: &Question<'_>,
    reason: String,
    tick: &mut dyn FnMut(Stage),
) -> Result<Artifact, ArtifactError> {
    match ask(question, Target::Memory { reason }, tick)? {
        Answer::InMemory {
            file,
            seconds,
            reason,
        } => Ok(Artifact::uncached(question.key, file, seconds, reason)),
        Answer::Published { .. } => Err(ArtifactError::Lost {
            name: question.name.to_owned(),
            compiler: question.compiler.to_owned(),
            how: "it published what was to stay in memory".to_owned(),
        }),
    }
}
