//! The root directory of a container, and paths beneath it. The kernel resolves each path as if this
//! root were the only one there is: the files are the image's, and may be anything.
//!
//! Called by `dev`, `cwd` and `rootfs`. Does not know what the paths are for.
#![forbid(unsafe_code)]

use std::{
    ffi::OsStr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, statat},
    io::Errno,
};

/// How often a path is tried that changed while it was resolved. Each takes microseconds, so a host that renames
/// files all the time leaves a gap within this many; an endless loop there would be one too many.
const ATTEMPTS: usize = 100_000;
/// After so many the processor is left to others between two.
const ATTEMPTS_AT_ONCE: usize = 16;

const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = HANDLE.union(OFlags::DIRECTORY);

/// What happens to a symlink in a path. None leads out of the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Symlinks {
    /// It is followed within the root, as a process of the container would.
    Followed,
    /// It is refused with ELOOP. For paths that were resolved when the spec was checked: a symlink that
    /// is found later may be the work of another container that shares a volume.
    Refused,
}

/// A directory that could not be made, and the part of its path that is in the way.
#[derive(Debug)]
pub(crate) struct MakeDirectoriesError {
    pub(crate) part: PathBuf,
    pub(crate) errno: Errno,
}

impl From<MakeDirectoriesError> for Errno {
    fn from(error: MakeDirectoriesError) -> Self {
        error.errno
    }
}

/// The root directory of a container.
#[derive(Debug)]
pub(crate) struct ContainerRoot(OwnedFd);

impl ContainerRoot {
    /// A root file system on the host.
    pub(crate) fn open(path: &Path) -> Result<Self, Errno> {
        openat(CWD, path, DIRECTORY, Mode::empty()).map(Self)
    }

    /// The root of the process `init`, with all that is mounted there.
    pub(crate) fn of_process(init: i32) -> Result<Self, Errno> {
        Self::open(Path::new(&format!("/proc/{init}/root")))
    }

    /// The type of the entry `name` of the root directory. A symlink is not followed.
    pub(crate) fn kind_of(&self, name: &str) -> Result<FileType, Errno> {
        let stat = statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(FileType::from_raw_mode(stat.st_mode))
    }

    /// A handle on what is at `path`. Symlinks are refused.
    pub(crate) fn find(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.resolve(path, HANDLE, Symlinks::Refused)
    }

    /// The directory at `path`. Each missing part is made, with the permissions that our umask leaves.
    pub(crate) fn make_directories(
        &self,
        path: &Path,
        symlinks: Symlinks,
    ) -> Result<OwnedFd, MakeDirectoriesError> {
        let mut so_far = PathBuf::from("/");
        let resolve = |path: &Path| self.resolve(path, DIRECTORY, symlinks);
        let failed = |part: &Path| {
            let part = part.to_owned();
            move |errno| MakeDirectoriesError { part, errno }
        };
        let mut directory = resolve(&so_far).map_err(failed(&so_far))?;
        for part in path.components() {
            if matches!(part, Component::RootDir | Component::CurDir) {
                continue;
            }
            so_far.push(part);
            directory = match resolve(&so_far) {
                Err(Errno::NOENT) => {
                    match mkdirat(&directory, Path::new(&part), Mode::from_raw_mode(0o755)) {
                        // Another container may make it meanwhile, in a directory that both share.
                        Ok(()) | Err(Errno::EXIST) => resolve(&so_far),
                        Err(errno) => Err(errno),
                    }
                }
                found => found,
            }
            .map_err(failed(&so_far))?;
        }
        Ok(directory)
    }

    /// The directory that `path` is in, made if it is missing, and the name in it. Symlinks are refused.
    pub(crate) fn make_parent<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a OsStr), Errno> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::INVAL);
        };
        Ok((self.make_directories(parent, Symlinks::Refused)?, name))
    }

    /// A handle on what is at `path`, which is made as an empty file if it is missing. Symlinks are
    /// refused.
    pub(crate) fn make_file(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let (directory, name) = self.make_parent(path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&directory, name, flags, Mode::from_raw_mode(0o644)) {
            Ok(_) | Err(Errno::EXIST) => self.find(path),
            Err(errno) => Err(errno),
        }
    }

    /// openat2(2), which answers EAGAIN if a rename or a mount anywhere on the host happens while it
    /// resolves `..`.
    fn resolve(&self, path: &Path, flags: OFlags, symlinks: Symlinks) -> Result<OwnedFd, Errno> {
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let resolve = match symlinks {
            Symlinks::Followed => within,
            Symlinks::Refused => within | ResolveFlags::NO_SYMLINKS,
        };
        for attempt in 1..=ATTEMPTS {
            match openat2(&self.0, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) if attempt > ATTEMPTS_AT_ONCE => std::thread::yield_now(),
                Err(Errno::AGAIN) => {}
                found => return found,
            }
        }
        Err(Errno::AGAIN)
    }
}

impl AsFd for ContainerRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `path` from the root, with `.` and `..` taken out as text.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::symlink,
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;

    fn make(root: &ContainerRoot, path: &str) -> Result<(), Errno> {
        let made = root.make_directories(Path::new(path), Symlinks::Refused);
        made.map(drop).map_err(Errno::from)
    }

    #[test]
    fn symlinks_are_refused_inside_and_outside_of_the_root() {
        let outside = tempfile::tempdir().expect("outside");
        let root = tempfile::tempdir().expect("root");
        symlink(outside.path(), root.path().join("away")).expect("link");
        symlink("/run", root.path().join("var")).expect("link");
        fs::create_dir(root.path().join("run")).expect("make");
        let inside = ContainerRoot::open(root.path()).expect("open");
        for path in ["/away/made", "/var/made", "var"] {
            assert_eq!(inside.find(Path::new(path)).map(drop), Err(Errno::LOOP));
            assert_eq!(make(&inside, path), Err(Errno::LOOP));
        }
        for path in ["/away/made", "/var/made"] {
            let made = inside.make_file(Path::new(path));
            assert_eq!(made.map(drop), Err(Errno::LOOP));
        }
        for directory in [outside.path(), &root.path().join("run")] {
            assert_eq!(fs::read_dir(directory).expect("read").count(), 0);
        }
    }

    #[test]
    fn missing_places_are_made_beneath_the_root() {
        let root = tempfile::tempdir().expect("root");
        let inside = ContainerRoot::open(root.path()).expect("open");
        make(&inside, "/run/lock/x").expect("make");
        assert!(root.path().join("run/lock/x").is_dir());
        inside.make_file(Path::new("run/file")).expect("make");
        assert!(root.path().join("run/file").is_file());
        make(&inside, "../../x").expect("make");
        assert!(root.path().join("x").is_dir());
    }

    /// The kernel gives up resolving `..` at each rename, of any file on the host.
    #[test]
    fn path_that_a_rename_disturbs_is_resolved_again() {
        let root = tempfile::tempdir().expect("root");
        let elsewhere = tempfile::tempdir().expect("elsewhere");
        let inside = ContainerRoot::open(root.path()).expect("open");
        make(&inside, "a/b/c").expect("make");
        let (first, second) = (
            elsewhere.path().join("first"),
            elsewhere.path().join("second"),
        );
        fs::write(&first, "").expect("write");
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    fs::rename(&first, &second).expect("rename");
                    fs::rename(&second, &first).expect("rename");
                }
            });
            let path = "a/b/c/../../b/c/../../b/c/../../b/c/../../../a/b";
            let failure = (0..2_000).find_map(|_| {
                let followed = inside.make_directories(Path::new(path), Symlinks::Followed);
                let refused = inside.find(Path::new(path));
                followed.map_err(Errno::from).and(refused).err()
            });
            done.store(true, Ordering::Relaxed);
            assert_eq!(failure, None);
        });
    }

    #[test]
    fn dots_are_removed_from_a_path() {
        for (path, expected) in [
            ("/x/../dev", "/dev"),
            ("dev", "/dev"),
            ("/../a/./b//c/", "/a/b/c"),
        ] {
            assert_eq!(normal(Path::new(path)), Path::new(expected), "{path}");
        }
    }
}
