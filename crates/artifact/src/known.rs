//! The content of a file, remembered by its [`Stamp`] so that a start does not read 26 MB again.
//! A wrong memory would run the wrong code: every doubt means reading the file.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::time::SystemTime;

use nix::fcntl::OFlag;

use crate::key::Digest;
use crate::stamp::{Stamp, boot_id, has_writer};
use crate::store::dir::{Folder, StoreDir};

/// More files than a node has modules; the oldest memories go first.
const REMEMBERED: usize = 4096;

/// SHA-256 of an open file, from memory where that is sound.
pub(crate) fn digest(file: &File, dir: Option<&StoreDir>) -> io::Result<Digest> {
    let stamp = match dir {
        Some(_) => Stamp::of(file)?,
        None => None,
    };
    let (Some(dir), Some(stamp)) = (dir, stamp) else {
        return Digest::of_file(file);
    };
    if let Some(digest) = recall(dir, &stamp) {
        return Ok(digest);
    }
    // Asked before the content is read: who opens the file for writing after this must change its
    // times with the first byte.
    let at_rest = stamp.settled(SystemTime::now()) && !has_writer(file);
    let digest = Digest::of_file(file)?;
    if at_rest && Stamp::of(file)?.as_ref() == Some(&stamp) {
        remember(dir, &stamp, digest);
    }
    Ok(digest)
}

/// Remembers a file that this process alone has written, and closed for writing.
pub(crate) fn vouch(file: &File, dir: &StoreDir, digest: Digest) {
    if let Ok(Some(stamp)) = Stamp::of(file) {
        remember(dir, &stamp, digest);
    }
}

fn name(stamp: &Stamp) -> String {
    Digest::of_bytes(stamp.as_str().as_bytes()).to_string()
}

/// The text of a memory: digest, stamp. The stamp is repeated so that a torn file is seen.
fn text(stamp: &Stamp, digest: Digest) -> String {
    format!("{digest} {}\n", stamp.as_str())
}

fn recall(dir: &StoreDir, stamp: &Stamp) -> Option<Digest> {
    let written = dir.read(Folder::Known, &name(stamp)).ok()?;
    let digest = std::str::from_utf8(&written)
        .ok()?
        .get(..64)?
        .parse()
        .ok()?;
    (written == text(stamp, digest).as_bytes()).then_some(digest)
}

fn remember(dir: &StoreDir, stamp: &Stamp, digest: Digest) {
    if let Err(error) = dir.replace(Folder::Known, &name(stamp), text(stamp, digest).as_bytes()) {
        log::debug!("cannot remember the content of a file, it will be read again: {error}");
    }
}

/// Forgets what another boot knew, and the oldest where there is too much.
pub(crate) fn forget(dir: &StoreDir) {
    let (Some(boot), Ok(names)) = (boot_id(), dir.names(Folder::Known)) else {
        return;
    };
    let mut kept = Vec::new();
    for name in names {
        let current = dir
            .read(Folder::Known, &name)
            .is_ok_and(|text| String::from_utf8_lossy(&text).contains(&format!(" boot={boot} ")));
        let modified = dir
            .file(Folder::Known, &name, OFlag::O_RDONLY)
            .and_then(|file| file.metadata()?.modified());
        match modified {
            Ok(modified) if current || is_recent(modified) => kept.push((modified, name)),
            _ => dir.remove_quietly(Folder::Known, &name),
        }
    }
    kept.sort();
    let surplus = kept.len().saturating_sub(REMEMBERED);
    for (_, name) in kept.drain(..surplus) {
        dir.remove_quietly(Folder::Known, &name);
    }
}

/// Somebody may be writing it just now.
fn is_recent(modified: SystemTime) -> bool {
    modified.elapsed().is_ok_and(|age| age.as_secs() < 60)
}
