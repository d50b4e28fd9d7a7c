//! [`Store::get`]: native code of a module, from the store or compiled now. It uses an
//! existing entry, waits for the compile of another process, or starts a compile.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use crate::client::{self, CodeRequest, CompileStage, CompiledCode, Output};
use crate::error::{ArtifactError, CompileFailure, ModuleRefusal};
use crate::key::Key;
use crate::store::Store;
use crate::store::digests;
use crate::store::dir::StoreDir;
use crate::store::entry::{self, EntryError, Verification};
use crate::store::lock::{self, KeyLock};

/// How often a caller that waits for another process's compile checks again.
const RETRY: Duration = Duration::from_millis(20);
/// After an entry was removed this often between its publication and its use, the code stays in memory.
const MAX_VANISHED: usize = 3;

/// Native code, ready to be mapped.
#[derive(Debug)]
pub struct Artifact {
    /// Read-only descriptor of the code. The store keeps the entry while any copy of it is open.
    pub file: File,
    /// Its name in the store.
    pub key: Key,
    /// Where it came from.
    pub origin: Origin,
}

impl Artifact {
    /// Code that is not in the store.
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
    /// It was in the store, or another process compiled it during the call.
    Cached,
    /// Compiled for this call, and published.
    Compiled {
        /// Time of the compile.
        seconds: f64,
    },
    /// Compiled for this call, and not stored.
    Uncached {
        /// Time of the compile.
        seconds: f64,
        /// Why, for the log.
        reason: String,
    },
}

/// The progress that a waiting caller gets several times a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileProgress {
    /// The stage that it waits for.
    pub stage: CompileStage,
    /// Time since the call.
    pub elapsed: Duration,
}

/// Refuses a module that is larger than the node allows.
///
/// # Errors
/// [`ArtifactError`], which names the module.
pub fn check_size(name: &str, module: &File, max_bytes: u64) -> Result<(), ArtifactError> {
    let metadata = module.metadata();
    let bytes = metadata.map_err(|source| unreadable(name, source))?.len();
    if bytes <= max_bytes {
        return Ok(());
    }
    let refusal = ModuleRefusal::TooLarge { bytes, max_bytes };
    Err(ArtifactError::Compile {
        name: name.to_owned(),
        failure: CompileFailure::Refused { refusal },
    })
}

fn unreadable(name: &str, source: io::Error) -> ArtifactError {
    ArtifactError::Read {
        name: name.to_owned(),
        source,
    }
}

impl Store {
    /// Native code of a module: from the store, or compiled in a confined process that goes on if this
    /// one ends. Blocks, and calls `on_progress` while it does.
    ///
    /// # Errors
    /// [`ArtifactError`], which names the module.
    pub fn get(
        &self,
        request: &CodeRequest<'_>,
        on_progress: &mut dyn FnMut(CompileProgress),
    ) -> Result<Artifact, ArtifactError> {
        let (began, called) = (Instant::now(), lock::now());
        let mut on_stage = |stage| {
            on_progress(CompileProgress {
                stage,
                elapsed: began.elapsed(),
            });
        };
        let failed = |failure| ArtifactError::Compile {
            name: request.name.to_owned(),
            failure,
        };
        check_size(request.name, request.wasm, request.policy.max_module_bytes)?;
        let digest = digests::digest(request.wasm, self.dir().ok())
            .map_err(|source| unreadable(request.name, source))?;
        let key = Key::of(digest);
        let dir = match self.dir() {
            Ok(dir) => dir,
            Err(unusable) => {
                return self.in_memory(request, &key, unusable.to_string(), &mut on_stage);
            }
        };
        for _ in 0..MAX_VANISHED {
            let lock = loop {
                if let Some(artifact) = find(dir, &key) {
                    return Ok(artifact);
                }
                match KeyLock::try_take(dir, &key) {
                    Ok(Some(lock)) => break lock,
                    Ok(None) => {
                        on_stage(CompileStage::Waiting);
                        std::thread::sleep(RETRY);
                    }
                    Err(error) => {
                        let reason = format!(
                            "cannot write to the cache directory {}: {error}",
                            dir.path().display()
                        );
                        return self.in_memory(request, &key, reason, &mut on_stage);
                    }
                }
            };
            // The previous holder of the lock may have published after the check above.
            if let Some(artifact) = find(dir, &key) {
                lock.retire(dir, &key);
                return Ok(artifact);
            }
            if let Some(failure) = lock.failure_since(called) {
                return Err(failed(failure));
            }
            match client::compile(
                request,
                &key,
                self.spawn(),
                Output::Store(dir, lock),
                &mut on_stage,
            )? {
                CompiledCode::InMemory {
                    file,
                    seconds,
                    reason,
                } => return Ok(Artifact::uncached(&key, file, seconds, reason)),
                CompiledCode::Published { seconds } => {
                    if let Some(artifact) = find(dir, &key) {
                        let origin = Origin::Compiled { seconds };
                        return Ok(Artifact { origin, ..artifact });
                    }
                }
            }
        }
        let reason = "the entry vanished right after it was published".to_owned();
        self.in_memory(request, &key, reason, &mut on_stage)
    }

    fn in_memory(
        &self,
        request: &CodeRequest<'_>,
        key: &Key,
        reason: String,
        on_stage: &mut dyn FnMut(CompileStage),
    ) -> Result<Artifact, ArtifactError> {
        let output = Output::Memory { reason };
        match client::compile(request, key, self.spawn(), output, on_stage)? {
            CompiledCode::InMemory {
                file,
                seconds,
                reason,
            } => Ok(Artifact::uncached(key, file, seconds, reason)),
            CompiledCode::Published { .. } => Err(ArtifactError::NoResponse {
                name: request.name.to_owned(),
                compiler: request.compiler.to_owned(),
                how: "it published code that was to stay in memory".to_owned(),
            }),
        }
    }
}

/// The entry of a key, if the store has it undamaged.
fn find(dir: &StoreDir, key: &Key) -> Option<Artifact> {
    loop {
        match entry::open(dir, key, Verification::ByStamp) {
            Ok((file, _)) => {
                entry::touch(dir, key);
                return Some(Artifact {
                    file,
                    key: key.clone(),
                    origin: Origin::Cached,
                });
            }
            // A process that removes the entry, or checks whether it is held, locks it for an instant.
            Err(EntryError::Locked) => std::thread::sleep(Duration::from_millis(1)),
            Err(EntryError::Absent) => return None,
            Err(error) => {
                log::warn!("cannot use cache entry {key}: {error}; it is compiled again");
                return None;
            }
        }
    }
}
