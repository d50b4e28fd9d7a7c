//! `tmpcopyup`: copies into a new tmpfs what it hides.
//!
//! Called by `mounts`. Nothing of the image is followed: links are copied as links.
#![forbid(unsafe_code)]

use std::{ffi::CStr, fs::File, io, os::fd::AsFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chmodat, chownat,
    fstat, mkdirat, mknodat, openat, readlinkat, symlinkat, utimensat,
};

/// How deep directories may lie in each other, so that a hostile image cannot exhaust the stack.
const DEPTH: usize = 256;

/// What lies at a name itself, without opening a device or waiting for a FIFO.
const FOUND: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Copies the content of the directory `from` into the directory `to`.
pub(super) fn tree(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    directory(from.as_fd(), to.as_fd(), DEPTH)
}

fn directory(from: impl AsFd, to: impl AsFd, depth: usize) -> io::Result<()> {
    let left = depth
        .checked_sub(1)
        .ok_or_else(|| io::Error::other(format!("directories lie {DEPTH} deep in each other")))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let from = openat(from, ".", flags, Mode::empty())?;
    let mut entries = Dir::read_from(&from)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        // Another container may share what is copied, and replace anything at any time: what is looked
        // at stays open.
        let found = openat(&from, name, FOUND, Mode::empty())?;
        let stat = fstat(&found)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                mkdirat(&to, name, Mode::RWXU)?;
                let copy = openat(&to, name, FOUND | OFlags::DIRECTORY, Mode::empty())?;
                directory(found, copy, left)?;
            }
            FileType::RegularFile => {
                let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mut content = regular(&from, name, &stat)?;
                let mut copy = File::from(openat(&to, name, write, Mode::RUSR | Mode::WUSR)?);
                io::copy(&mut content, &mut copy)?;
            }
            FileType::Symlink => symlinkat(readlinkat(&found, "", Vec::new())?, &to, name)?,
            // No process listens on a copy of a socket.
            FileType::Socket => continue,
            kind => {
                let mode = Mode::from_raw_mode(stat.st_mode);
                mknodat(&to, name, kind, mode, stat.st_rdev)?;
            }
        }
        same_owner(&to, name, &stat)?;
    }
    Ok(())
}

/// Opens the regular file that `stat` describes, and nothing that has replaced it: a FIFO would wait for
/// a writer.
fn regular(from: impl AsFd, name: &CStr, stat: &Stat) -> io::Result<File> {
    let read = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(from, name, read, Mode::empty())?;
    let opened = fstat(&file)?;
    if (opened.st_dev, opened.st_ino) == (stat.st_dev, stat.st_ino) {
        Ok(File::from(file))
    } else {
        Err(io::Error::other(format!(
            "{name:?} was replaced while it was copied"
        )))
    }
}

/// Gives a copy the owner, the mode and the times of the original; in this order, because a change of
/// the owner takes set-user-ID bits away. The copies are mounted nowhere yet, so no process can replace them.
fn same_owner(to: impl AsFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(
        &to,
        name,
        Some(owner),
        Some(group),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        chmodat(
            &to,
            name,
            Mode::from_raw_mode(stat.st_mode),
            AtFlags::empty(),
        )?;
    }
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or_default(),
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    Ok(utimensat(&to, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
        path::Path,
    };

    use super::*;

    #[test]
    fn everything_is_copied_and_no_link_is_followed() {
        let (from, to) = (
            tempfile::tempdir().expect("from"),
            tempfile::tempdir().expect("to"),
        );
        let at = |name: &str| from.path().join(name);
        fs::create_dir_all(at("a/b")).expect("make");
        fs::write(at("a/b/file"), "text").expect("write");
        fs::set_permissions(at("a/b/file"), fs::Permissions::from_mode(0o4751)).expect("chmod");
        fs::set_permissions(at("a"), fs::Permissions::from_mode(0o1500)).expect("chmod");
        symlink("/etc/passwd", at("link")).expect("link");
        std::os::unix::fs::chown(at("a/b"), Some(1234), Some(5678)).expect("chown");
        let open = |path: &Path| File::open(path).expect("open");
        tree(open(from.path()), open(to.path())).expect("copy");
        let copied = |name: &str| fs::symlink_metadata(to.path().join(name)).expect(name);
        let file = copied("a/b/file");
        assert_eq!(file.mode() & 0o7777, 0o4751);
        assert_eq!(
            file.modified().expect("time"),
            fs::metadata(at("a/b/file"))
                .expect("file")
                .modified()
                .expect("time")
        );
        assert_eq!(copied("a").mode() & 0o7777, 0o1500);
        assert_eq!((copied("a/b").uid(), copied("a/b").gid()), (1234, 5678));
        assert_eq!(
            fs::read_link(to.path().join("link")).expect("link"),
            Path::new("/etc/passwd")
        );
        assert_eq!(
            fs::read_to_string(to.path().join("a/b/file")).expect("read"),
            "text"
        );
    }
    #[test]
    fn copy_does_not_wait_for_a_fifo_that_replaced_a_file() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("file");
        fs::write(&file, "text").expect("write");
        let from = File::open(directory.path()).expect("open");
        let stat = fstat(File::open(&file).expect("open")).expect("stat");
        regular(&from, c"file", &stat).expect("the file itself");
        fs::rename(&file, directory.path().join("old")).expect("rename");
        mknodat(&from, "file", FileType::Fifo, Mode::RUSR, 0).expect("FIFO");
        let error = regular(&from, c"file", &stat).expect_err("a FIFO");
        assert!(error.to_string().contains("was replaced"), "{error}");
    }
}
