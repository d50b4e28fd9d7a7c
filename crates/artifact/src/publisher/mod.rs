//! The publisher: a detached process that has one module compiled and stores the result. It holds the
//! key's lock and owns the entry while it works. It never parses the module, and trusts nothing that the
//! confined compiler reports but a failure.
#![forbid(unsafe_code)]

mod confined;
mod memory;
mod relay;

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

use crate::digest::Digest;
use crate::error::CompileFailure;
use crate::protocol::{self, Destination, PublishRequest, PublishResponse, WhenFull};
use crate::store::digests;
use crate::store::dir::{Folder, StoreDir, TEMPORARY};
use crate::store::entry::{self, EntryRecord};
use crate::store::evict;
use crate::store::lock::{CompileSlot, KeyLock};
use memory::Executable;

/// How often a waiting publisher checks for a free slot.
const RETRY: Duration = Duration::from_millis(20);

/// Handles the request on descriptor 0, until the process exits.
#[must_use]
pub fn main() -> ExitCode {
    // Leaves the client's process group and session, so that a signal to those does not end this
    // process. It fails only for a process group leader, which has left already.
    let _ = nix::unistd::setsid();
    let stdin = io::stdin();
    let socket = stdin.as_fd();
    let fail = |failure| respond(socket, &PublishResponse::Failed { failure }, None);
    let (request, descriptors) = match protocol::receive::<PublishRequest>(socket) {
        Ok(Some(received)) => received,
        // The client is gone.
        Ok(None) => return ExitCode::FAILURE,
        Err(error) => {
            let act = "cannot read the request to compile";
            return fail(CompileFailure::system(act, &error));
        }
    };
    relay::install(request.log_level);
    let mut descriptors = descriptors.into_iter().map(File::from);
    let (wasm, lock) = (
        descriptors.next(),
        descriptors.next().map(KeyLock::received),
    );
    let Some(wasm) = wasm else {
        let reason = "the request came without a module";
        return fail(CompileFailure::system("cannot compile", &reason));
    };
    let mut on_compile = || {
        respond(socket, &PublishResponse::Compiling, None);
    };
    match publish(&request, &wasm, lock, &mut on_compile) {
        Ok(PublishedCode::InStore { seconds }) => {
            respond(socket, &PublishResponse::Published { seconds }, None)
        }
        Ok(PublishedCode::InMemory {
            seconds,
            reason,
            code,
        }) => {
            let response = PublishResponse::InMemory { seconds, reason };
            respond(socket, &response, Some(&code))
        }
        Err(failure) => fail(failure),
    }
}

/// Sends a message to the client. The client may be gone; other clients may need the compile too.
fn respond(socket: BorrowedFd<'_>, response: &PublishResponse, code: Option<&File>) -> ExitCode {
    let descriptors: Vec<_> = code.iter().map(|file| file.as_fd()).collect();
    match protocol::send(socket, response, &descriptors, WhenFull::Wait) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The place of the code.
enum PublishedCode {
    InStore {
        seconds: f64,
    },
    InMemory {
        seconds: f64,
        reason: String,
        code: File,
    },
}

fn publish(
    request: &PublishRequest,
    wasm: &File,
    lock: Option<KeyLock>,
    on_compile: &mut dyn FnMut(),
) -> Result<PublishedCode, CompileFailure> {
    let store = match (&request.destination, lock) {
        (Destination::Store { path }, Some(lock)) => StoreDir::open(path)
            .map(|dir| (dir, lock))
            .map_err(|unusable| unusable.to_string()),
        (Destination::Store { .. }, None) => Err("the lock of the entry did not arrive".to_owned()),
        (Destination::Memory { reason }, _) => Err(reason.clone()),
    };
    if let Ok((dir, _)) = &store
        && let Err(error) = evict::sweep(dir, Some(&request.key))
    {
        log::warn!("cannot remove old files of the cache: {error}");
    }
    let dir = store.as_ref().ok().map(|(dir, _)| dir);
    let (code, took) = match (make(request, wasm, dir, on_compile), &store) {
        (Ok(made), _) => made,
        (Err(failure), Ok((_, lock))) => {
            // The processes that wait for this compile get this failure instead of each compiling again.
            if let Err(error) = lock.record_failure(&failure) {
                log::warn!(
                    "cannot tell waiting processes of the failure, so each compiles again: {error}"
                );
            }
            return Err(failure);
        }
        (Err(failure), Err(_)) => return Err(failure),
    };
    let seconds = took.as_secs_f64();
    let stored = store.and_then(|(dir, lock)| match keep(request, &code, took, &dir) {
        Ok(()) => {
            lock.retire(&dir, &request.key);
            evict(&dir, request);
            Ok(())
        }
        Err(error) => {
            dir.remove_quietly(Folder::Entries, &temporary(request));
            Err(format!(
                "cannot write to the cache directory {}: {error}",
                dir.path().display()
            ))
        }
    });
    Ok(match stored {
        Ok(()) => PublishedCode::InStore { seconds },
        Err(reason) => PublishedCode::InMemory {
            seconds,
            reason,
            code,
        },
    })
}

/// Compiles into sealed memory, as soon as a slot is free.
fn make(
    request: &PublishRequest,
    wasm: &File,
    dir: Option<&StoreDir>,
    on_compile: &mut dyn FnMut(),
) -> Result<(File, Duration), CompileFailure> {
    let _permit = permit(request, dir)
        .map_err(|error| CompileFailure::system("cannot wait for a compile slot", &error))?;
    let module = snapshot(request, wasm)?;
    on_compile();
    let began = Instant::now();
    let code = memory::create("wasm-interp-code", Executable::Yes)?;
    confined::compile(&request.policy, &module, &code)?;
    check_code(&code)?;
    Ok((memory::seal(&code)?, began.elapsed()))
}

/// The right to compile; dropping it frees the slot.
enum CompilePermit {
    Slot { _slot: CompileSlot },
    Alone { _executable: File },
}

fn permit(request: &PublishRequest, dir: Option<&StoreDir>) -> io::Result<CompilePermit> {
    if let Some(dir) = dir {
        match wait_for(|| CompileSlot::try_take(dir, request.policy.compile_slots)) {
            Ok(slot) => return Ok(CompilePermit::Slot { _slot: slot }),
            Err(error) => log::warn!(
                "cannot use the compile slots in {}: {error}; compiles run one at a time",
                dir.path().display()
            ),
        }
    }
    // Without a store there is one slot: a lock on this executable, which always exists.
    let executable = File::open("/proc/self/exe")?;
    wait_for(|| match executable.try_lock() {
        Ok(()) => Ok(Some(())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    })?;
    Ok(CompilePermit::Alone {
        _executable: executable,
    })
}

/// Why native code is not stored.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Disk(#[from] io::Error),
    #[error(
        "the native code has {bytes} bytes, the cache may hold {max_bytes} bytes; raise \
         cache.max_bytes in the node's policy"
    )]
    TooLarge { bytes: u64, max_bytes: u64 },
    #[error("the entry's record has no JSON form: {0}")]
    Record(#[from] serde_json::Error),
}

fn temporary(request: &PublishRequest) -> String {
    format!("{}{TEMPORARY}", entry::code_name(&request.key))
}

/// Makes the code an entry of the store: whole and durable, with the record that describes it.
fn keep(
    request: &PublishRequest,
    made: &File,
    took: Duration,
    dir: &StoreDir,
) -> Result<(), KeepError> {
    let (bytes, max_bytes) = (made.metadata()?.len(), request.policy.max_bytes);
    if bytes > max_bytes {
        return Err(KeepError::TooLarge { bytes, max_bytes });
    }
    let key = &request.key;
    let (code, record) = (entry::code_name(key), entry::record_name(key));
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    dir.remove_quietly(Folder::Entries, &temporary(request));
    let mut file = dir.file(Folder::Entries, &temporary(request), flags)?;
    let digest = Digest::while_reading(made, |chunk| file.write_all(chunk))?;
    file.sync_all()?;
    // This is the only writable descriptor.
    drop(file);
    // The code comes before its record, because code without a record is not used.
    dir.remove_quietly(Folder::Entries, &record);
    dir.rename(Folder::Entries, &temporary(request), &code)?;
    let text = serde_json::to_vec(&EntryRecord::new(key, digest, bytes, &request.name, took))?;
    dir.replace(Folder::Entries, &record, &text)?;
    dir.sync(Folder::Entries)?;
    let published = dir.file(Folder::Entries, &code, OFlag::O_RDONLY)?;
    digests::record(&published, dir, digest);
    Ok(())
}

fn wait_for<T>(mut attempt: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    loop {
        if let Some(value) = attempt()? {
            return Ok(value);
        }
        std::thread::sleep(RETRY);
    }
}

/// Copies the module into sealed memory, and compares its digest with the request, so that the compiled
/// bytes are the hashed bytes.
fn snapshot(request: &PublishRequest, wasm: &File) -> Result<File, CompileFailure> {
    let copy = memory::create("wasm-interp-module", Executable::No)?;
    let mut writer = &copy;
    let digest = Digest::while_reading(wasm, |chunk| writer.write_all(chunk))
        .map_err(|error| CompileFailure::system("cannot read the module", &error))?;
    if digest != request.key.wasm() {
        return Err(CompileFailure::Changed);
    }
    memory::seal(&copy)
}

/// Checks that the compiler wrote native code.
fn check_code(code: &File) -> Result<(), CompileFailure> {
    let mut magic = [0; 4];
    match code.read_exact_at(&mut magic, 0) {
        Ok(()) if magic == *b"\x7fELF" => Ok(()),
        _ => Err(CompileFailure::Crashed {
            how: "it reported success but wrote no native code".to_owned(),
        }),
    }
}

/// Keeps the store within its size, but never removes the entry that was just published.
fn evict(dir: &StoreDir, request: &PublishRequest) {
    let max_bytes = request.policy.max_bytes;
    match evict::evict(dir, max_bytes, Some(&request.key)) {
        Ok(pruned) => {
            if pruned.removed > 0 {
                log::info!(
                    "removed {} least recently used entries ({} bytes) from the cache, which may \
                     hold {max_bytes} bytes and now holds {}",
                    pruned.removed,
                    pruned.freed_bytes,
                    pruned.kept_bytes
                );
            }
            if pruned.kept_bytes > max_bytes {
                log::warn!(
                    "the cache holds {} bytes, more than the {max_bytes} that it may hold: \
                     containers use its entries; raise cache.max_bytes in the node's policy",
                    pruned.kept_bytes
                );
            }
        }
        Err(error) => log::warn!(
            "cannot keep the cache within {max_bytes} bytes: {error}; see wasm-interp cache prune"
        ),
    }
}

#[cfg(test)]
mod tests {
    use wasm_interp_policy::CachePolicy;

    use super::*;
    use crate::key::Key;

    fn request(wasm: &[u8]) -> PublishRequest {
        PublishRequest {
            key: Key::of(Digest::of_bytes(wasm)),
            name: "a.wasm".to_owned(),
            policy: CachePolicy::default(),
            destination: Destination::Memory {
                reason: String::new(),
            },
            log_level: log::LevelFilter::Off,
        }
    }

    #[test]
    fn a_module_that_changed_after_its_digest_was_taken_is_not_compiled() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"two", 0).unwrap();
        let changed = snapshot(&request(b"one"), &file).unwrap_err();
        assert_eq!(changed, CompileFailure::Changed);
        let copy = snapshot(&request(b"two"), &file).unwrap();
        file.write_all_at(b"new", 0).unwrap();
        assert_eq!(Digest::of_file(&copy).unwrap(), Digest::of_bytes(b"two"));
    }
}
