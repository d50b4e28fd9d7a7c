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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use super::*;

    fn store() -> (tempfile::TempDir, StoreDir) {
        // Not in memory: a file system with handles, where there is one.
        let temp = tempfile::tempdir_in("/var/tmp").unwrap();
        let dir = StoreDir::open(&temp.path().join("cache")).unwrap();
        (temp, dir)
    }

    #[test]
    fn a_file_at_rest_is_remembered_and_a_changed_one_read_again() {
        let (temp, dir) = store();
        let path = temp.path().join("module");
        std::fs::write(&path, "one").unwrap();
        let open = || File::open(&path).unwrap();
        let remembered = || dir.names(Folder::Known).unwrap().len();
        assert_eq!(
            digest(&open(), Some(&dir)).unwrap(),
            Digest::of_bytes(b"one")
        );
        assert_eq!(remembered(), 0, "it changed just now");
        std::thread::sleep(Duration::from_millis(2100));
        assert_eq!(
            digest(&open(), Some(&dir)).unwrap(),
            Digest::of_bytes(b"one")
        );
        let Some(stamp) = Stamp::of(&open()).unwrap() else {
            return;
        };
        assert_eq!(remembered(), 1);
        // The memory is what answers from here on.
        let other = Digest::of_bytes(b"other");
        remember(&dir, &stamp, other);
        assert_eq!(digest(&open(), Some(&dir)).unwrap(), other);
        let times =
            std::fs::FileTimes::new().set_modified(open().metadata().unwrap().modified().unwrap());
        let mut writer = File::options().write(true).open(&path).unwrap();
        writer.write_all(b"two").unwrap();
        // Whoever sets the time back cannot set the inode's own.
        writer.set_times(times).unwrap();
        drop(writer);
        assert_eq!(
            digest(&open(), Some(&dir)).unwrap(),
            Digest::of_bytes(b"two")
        );
    }

    #[test]
    fn a_file_that_somebody_may_write_is_not_remembered() {
        let (temp, dir) = store();
        let path = temp.path().join("module");
        std::fs::write(&path, "one").unwrap();
        let _writer = File::options().write(true).open(&path).unwrap();
        std::thread::sleep(Duration::from_millis(2100));
        digest(&File::open(&path).unwrap(), Some(&dir)).unwrap();
        assert_eq!(dir.names(Folder::Known).unwrap().len(), 0);
    }

    #[test]
    fn a_torn_memory_is_none() {
        let (temp, dir) = store();
        let path = temp.path().join("module");
        std::fs::write(&path, "one").unwrap();
        let file = File::open(&path).unwrap();
        let Some(stamp) = Stamp::of(&file).unwrap() else {
            return;
        };
        vouch(&file, &dir, Digest::of_bytes(b"x"));
        assert_eq!(recall(&dir, &stamp), Some(Digest::of_bytes(b"x")));
        let whole = dir.read(Folder::Known, &name(&stamp)).unwrap();
        for torn in [&b""[..], &whole[..70], &vec![0; whole.len()]] {
            dir.replace(Folder::Known, &name(&stamp), torn).unwrap();
            assert_eq!(recall(&dir, &stamp), None);
        }
    }
}
