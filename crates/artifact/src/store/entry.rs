//! One artifact in the store: its code, and the record that says what the code is. Opened only
//! after the code was found to be what the publisher wrote; removed only while nobody holds it.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;
use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};

use super::dir::{Folder, StoreDir};
use super::lock::KeyLock;
use crate::key::{Digest, Key};
use crate::known;

/// Version of [`Record`].
const FORMAT: u32 = 1;

/// What lies beside the code.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    format: u32,
    key: Key,
    /// Content of the code.
    code: Digest,
    bytes: u64,
    /// What the module was called when it was compiled, for people.
    name: String,
    compile_seconds: f64,
}

impl Record {
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

/// Why an entry is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsound {
    #[error("it is not in the store")]
    Absent,
    #[error("it is being removed")]
    Going,
    #[error("its record is not one of this version: {0}")]
    Record(String),
    #[error("its record is about another artifact, {0}")]
    Foreign(Key),
    #[error("its code is {found} bytes long instead of {expected}")]
    Length { found: u64, expected: u64 },
    #[error("its code is not what was written")]
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

/// How the code is read: from memory of a stamp, or every byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    Stamp,
    Nothing,
}

/// Opens the code of a key, verified and locked against removal.
pub(crate) fn open(dir: &StoreDir, key: &Key, trust: Trust) -> Result<(File, Record), Unsound> {
    let record = record(dir, key)?;
    let file = dir
        .file(Folder::Entries, &code_name(key), OFlag::O_RDONLY)
        .map_err(absent)?;
    // Only who removes it locks it exclusively.
    file.try_lock_shared().map_err(|_| Unsound::Going)?;
    let metadata = file.metadata()?;
    if metadata.nlink() == 0 {
        return Err(Unsound::Going);
    }
    if metadata.size() != record.bytes {
        return Err(Unsound::Length {
            found: metadata.size(),
            expected: record.bytes,
        });
    }
    let content = match trust {
        Trust::Stamp => known::digest(&file, Some(dir))?,
        Trust::Nothing => Digest::of_file(&file)?,
    };
    if content != record.code {
        return Err(Unsound::Content);
    }
    Ok((file, record))
}

/// Reads the record of a key.
pub(crate) fn record(dir: &StoreDir, key: &Key) -> Result<Record, Unsound> {
    let text = dir
        .read(Folder::Entries, &record_name(key))
        .map_err(absent)?;
    let record: Record =
        serde_json::from_slice(&text).map_err(|error| Unsound::Record(error.to_string()))?;
    if record.format != FORMAT {
        return Err(Unsound::Record(format!("format {}", record.format)));
    }
    if record.key != *key {
        return Err(Unsound::Foreign(record.key));
    }
    Ok(record)
}

fn absent(error: io::Error) -> Unsound {
    match error.kind() {
        io::ErrorKind::NotFound => Unsound::Absent,
        _ => Unsound::Read(error),
    }
}

/// Notes that the entry was used now: on the record, so that the code's own times stay.
pub(crate) fn touch(dir: &StoreDir, key: &Key) {
    let touched = dir
        .file(Folder::Entries, &record_name(key), OFlag::O_RDONLY)
        .and_then(|file| Ok(futimens(file, &TimeSpec::UTIME_NOW, &TimeSpec::UTIME_NOW)?));
    if let Err(error) = touched {
        log::debug!("cannot note the use of cache entry {key}: {error}");
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

/// Removes an entry unless a container holds it or somebody is compiling it.
pub(crate) fn remove(dir: &StoreDir, key: &Key) -> io::Result<bool> {
    let Some(lock) = KeyLock::try_take(dir, key)? else {
        return Ok(false);
    };
    match dir.file(Folder::Entries, &code_name(key), OFlag::O_RDONLY) {
        Ok(code) if code.try_lock().is_err() => return Ok(false),
        Ok(_code) => {
            dir.remove(Folder::Entries, &code_name(key))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    dir.remove_quietly(Folder::Entries, &record_name(key));
    lock.retire(dir, key);
    Ok(true)
}
