//! An artifact in the store: its code, and the record that describes it. The store opens it only if the
//! code is what the publisher wrote, and removes it only while no process holds it.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;
use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};

use super::digests;
use super::dir::{Folder, StoreDir};
use super::lock::KeyLock;
use crate::digest::Digest;
use crate::key::Key;

/// Version of [`EntryRecord`].
const FORMAT: u32 = 1;

/// The file beside the code.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EntryRecord {
    format: u32,
    key: Key,
    /// Content of the code.
    code: Digest,
    bytes: u64,
    /// The name of the module when it was compiled, for people.
    name: String,
    compile_seconds: f64,
}

impl EntryRecord {
    pub(crate) fn new(key: &Key, code: Digest, bytes: u64, name: &str, compile: Duration) -> Self {
        Self {
            format: FORMAT,
            key: key.clone(),
            code,
            bytes,
            name: name.to_owned(),
            compile_seconds: compile.as_secs_f64(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) const fn compile_seconds(&self) -> f64 {
        self.compile_seconds
    }
}

/// Why an entry cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryError {
    #[error("it is not in the store")]
    Absent,
    #[error("another process is removing it")]
    Locked,
    #[error("its record is not one of this version: {0}")]
    Record(String),
    #[error("its record describes another artifact, {0}")]
    Foreign(Key),
    #[error("its code is {found} bytes long instead of {expected}")]
    Length { found: u64, expected: u64 },
    #[error("its code is not what the publisher wrote")]
    Content,
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// Name of the code of a key.
pub(crate) fn code_name(key: &Key) -> String {
    format!("{key}.code")
}

/// Name of the record of a key.
pub(crate) fn record_name(key: &Key) -> String {
    format!("{key}.json")
}

/// How the code of an entry is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verification {
    /// By the digest that the store keeps for the file's stamp; without one, by reading every byte.
    ByStamp,
    /// By reading every byte.
    Full,
}

/// Opens the code of a key, verified and locked against removal.
pub(crate) fn open(
    dir: &StoreDir,
    key: &Key,
    verification: Verification,
) -> Result<(File, EntryRecord), EntryError> {
    let record = record(dir, key)?;
    let file = dir
        .file(Folder::Entries, &code_name(key), OFlag::O_RDONLY)
        .map_err(absent)?;
    // Only a process that removes the entry locks it exclusively.
    file.try_lock_shared().map_err(|_| EntryError::Locked)?;
    let metadata = file.metadata()?;
    if metadata.nlink() == 0 {
        return Err(EntryError::Locked);
    }
    if metadata.size() != record.bytes {
        return Err(EntryError::Length {
            found: metadata.size(),
            expected: record.bytes,
        });
    }
    let content = match verification {
        Verification::ByStamp => digests::digest(&file, Some(dir))?,
        Verification::Full => Digest::of_file(&file)?,
    };
    if content != record.code {
        return Err(EntryError::Content);
    }
    Ok((file, record))
}

/// Reads the record of a key.
pub(crate) fn record(dir: &StoreDir, key: &Key) -> Result<EntryRecord, EntryError> {
    let text = dir
        .read(Folder::Entries, &record_name(key))
        .map_err(absent)?;
    let record: EntryRecord =
        serde_json::from_slice(&text).map_err(|error| EntryError::Record(error.to_string()))?;
    if record.format != FORMAT {
        return Err(EntryError::Record(format!("format {}", record.format)));
    }
    if record.key != *key {
        return Err(EntryError::Foreign(record.key));
    }
    Ok(record)
}

fn absent(error: io::Error) -> EntryError {
    match error.kind() {
        io::ErrorKind::NotFound => EntryError::Absent,
        _ => EntryError::Read(error),
    }
}

/// Records that the entry is used now. It changes the times of the record, so that the times of the code
/// stay.
pub(crate) fn touch(dir: &StoreDir, key: &Key) {
    let touched = dir
        .file(Folder::Entries, &record_name(key), OFlag::O_RDONLY)
        .and_then(|file| Ok(futimens(file, &TimeSpec::UTIME_NOW, &TimeSpec::UTIME_NOW)?));
    if let Err(error) = touched {
        log::debug!("cannot record the use of cache entry {key}: {error}");
    }
}

/// When the entry was used last.
pub(crate) fn last_used(dir: &StoreDir, key: &Key) -> io::Result<SystemTime> {
    dir.file(Folder::Entries, &record_name(key), OFlag::O_RDONLY)?
        .metadata()?
        .modified()
}

/// Whether a container holds the entry.
pub(crate) fn in_use(dir: &StoreDir, key: &Key) -> bool {
    dir.file(Folder::Entries, &code_name(key), OFlag::O_RDONLY)
        .is_ok_and(|file| file.try_lock().is_err())
}

/// Removes an entry unless a container holds it or a process compiles it. Returns whether it did.
pub(crate) fn remove(dir: &StoreDir, key: &Key) -> io::Result<bool> {
    let Some(lock) = KeyLock::try_take(dir, key)? else {
        return Ok(false);
    };
    match dir.file(Folder::Entries, &code_name(key), OFlag::O_RDONLY) {
        Ok(code) if code.try_lock().is_err() => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // Containers hold regular files only.
        Ok(_) | Err(_) => dir.remove(Folder::Entries, &code_name(key))?,
    }
    dir.remove_quietly(Folder::Entries, &record_name(key));
    lock.retire(dir, key);
    Ok(true)
}
