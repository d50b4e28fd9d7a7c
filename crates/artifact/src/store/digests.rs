//! Digests of files, recorded under the file's [`Stamp`] so that a start need not read 26 MB again.
//! A wrong record would run the wrong code, so the store reads the file in every doubtful case.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::time::SystemTime;

use nix::fcntl::OFlag;

use super::dir::{Folder, StoreDir};
use crate::digest::Digest;
use crate::stamp::{Stamp, boot_id, has_writer};

/// The most records: more than a node has modules. The oldest records are removed first.
const MAX_RECORDS: usize = 4096;

/// SHA-256 of an open file: the recorded one if the file has a stamp with a record.
pub(crate) fn digest(file: &File, dir: Option<&StoreDir>) -> io::Result<Digest> {
    let stamp = match dir {
        Some(_) => Stamp::of(file)?,
        None => None,
    };
    let (Some(dir), Some(stamp)) = (dir, stamp) else {
        return Digest::of_file(file);
    };
    if let Some(digest) = lookup(dir, &stamp) {
        return Ok(digest);
    }
    // This check comes before the content is read. A process that opens the file for writing afterwards
    // changes its times with the first byte.
    let at_rest = stamp.settled(SystemTime::now()) && !has_writer(file);
    let digest = Digest::of_file(file)?;
    if at_rest && Stamp::of(file)?.as_ref() == Some(&stamp) {
        insert(dir, &stamp, digest);
    }
    Ok(digest)
}

/// Records the digest of a file that only this process has written, and that it has closed for writing.
pub(crate) fn record(file: &File, dir: &StoreDir, digest: Digest) {
    if let Ok(Some(stamp)) = Stamp::of(file) {
        insert(dir, &stamp, digest);
    }
}

fn name(stamp: &Stamp) -> String {
    Digest::of_bytes(stamp.as_str().as_bytes()).to_string()
}

/// The text of a record: digest, stamp. The stamp is repeated so that a torn file is noticed.
fn text(stamp: &Stamp, digest: Digest) -> String {
    format!("{digest} {}\n", stamp.as_str())
}

fn lookup(dir: &StoreDir, stamp: &Stamp) -> Option<Digest> {
    let written = dir.read(Folder::Digests, &name(stamp)).ok()?;
    let digest = std::str::from_utf8(&written)
        .ok()?
        .get(..64)?
        .parse()
        .ok()?;
    (written == text(stamp, digest).as_bytes()).then_some(digest)
}

fn insert(dir: &StoreDir, stamp: &Stamp, digest: Digest) {
    if let Err(error) = dir.replace(
        Folder::Digests,
        &name(stamp),
        text(stamp, digest).as_bytes(),
    ) {
        log::debug!("cannot record the digest of a file: {error}; it will be read again");
    }
}

/// Removes the records of earlier boots, and the oldest records above the limit.
pub(crate) fn expire(dir: &StoreDir) {
    let (Some(boot), Ok(names)) = (boot_id(), dir.names(Folder::Digests)) else {
        return;
    };
    let mut kept = Vec::new();
    for name in names {
        let current = dir
            .read(Folder::Digests, &name)
            .is_ok_and(|text| String::from_utf8_lossy(&text).contains(&format!(" boot={boot} ")));
        let modified = dir
            .file(Folder::Digests, &name, OFlag::O_RDONLY)
            .and_then(|file| file.metadata()?.modified());
        match modified {
            Ok(modified) if current || is_recent(modified) => kept.push((modified, name)),
            _ => dir.remove_quietly(Folder::Digests, &name),
        }
    }
    kept.sort();
    let surplus = kept.len().saturating_sub(MAX_RECORDS);
    for (_, name) in kept.drain(..surplus) {
        dir.remove_quietly(Folder::Digests, &name);
    }
}

/// Whether another process may still be writing the file.
fn is_recent(modified: SystemTime) -> bool {
    modified.elapsed().is_ok_and(|age| age.as_secs() < 60)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use super::*;

    fn store() -> (tempfile::TempDir, StoreDir) {
        // Not on a tmpfs, but on a file system with handles if there is one.
        let temp = tempfile::tempdir_in("/var/tmp").unwrap();
        let dir = StoreDir::open(&temp.path().join("cache")).unwrap();
        (temp, dir)
    }

    #[test]
    fn digest_of_an_unchanged_file_is_recorded_and_a_changed_file_is_read_again() {
        let (temp, dir) = store();
        let path = temp.path().join("module");
        let open = || File::open(&path).unwrap();
        let recorded = || dir.names(Folder::Digests).unwrap().len();
        let changed_just_now = || {
            let stamp = Stamp::of(&open()).unwrap();
            stamp.is_none_or(|stamp| !stamp.settled(SystemTime::now()))
        };
        // Again if this process had to wait so long in between that the file was old already.
        loop {
            std::fs::write(&path, "one").unwrap();
            let found = digest(&open(), Some(&dir)).unwrap();
            assert_eq!(found, Digest::of_bytes(b"one"));
            if changed_just_now() {
                break;
            }
            for name in dir.names(Folder::Digests).unwrap() {
                dir.remove_quietly(Folder::Digests, &name);
            }
        }
        assert_eq!(recorded(), 0, "it changed just now");
        std::thread::sleep(Duration::from_millis(2100));
        assert_eq!(
            digest(&open(), Some(&dir)).unwrap(),
            Digest::of_bytes(b"one")
        );
        let Some(stamp) = Stamp::of(&open()).unwrap() else {
            return;
        };
        assert_eq!(recorded(), 1);
        // From here on the record is used.
        let other = Digest::of_bytes(b"other");
        insert(&dir, &stamp, other);
        assert_eq!(digest(&open(), Some(&dir)).unwrap(), other);
        let times =
            std::fs::FileTimes::new().set_modified(open().metadata().unwrap().modified().unwrap());
        let mut writer = File::options().write(true).open(&path).unwrap();
        writer.write_all(b"two").unwrap();
        // A program can set mtime back, but not ctime.
        writer.set_times(times).unwrap();
        drop(writer);
        assert_eq!(
            digest(&open(), Some(&dir)).unwrap(),
            Digest::of_bytes(b"two")
        );
    }

    #[test]
    fn digest_of_a_file_with_a_writer_is_not_recorded() {
        let (temp, dir) = store();
        let path = temp.path().join("module");
        std::fs::write(&path, "one").unwrap();
        let _writer = File::options().write(true).open(&path).unwrap();
        std::thread::sleep(Duration::from_millis(2100));
        digest(&File::open(&path).unwrap(), Some(&dir)).unwrap();
        assert_eq!(dir.names(Folder::Digests).unwrap().len(), 0);
    }

    #[test]
    fn a_torn_record_is_ignored() {
        let (temp, dir) = store();
        let path = temp.path().join("module");
        std::fs::write(&path, "one").unwrap();
        let file = File::open(&path).unwrap();
        let Some(stamp) = Stamp::of(&file).unwrap() else {
            return;
        };
        record(&file, &dir, Digest::of_bytes(b"x"));
        assert_eq!(lookup(&dir, &stamp), Some(Digest::of_bytes(b"x")));
        let whole = dir.read(Folder::Digests, &name(&stamp)).unwrap();
        for torn in [&b""[..], &whole[..70], &vec![0; whole.len()]] {
            dir.replace(Folder::Digests, &name(&stamp), torn).unwrap();
            assert_eq!(lookup(&dir, &stamp), None);
        }
    }
}
