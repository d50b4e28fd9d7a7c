//! The tree that operations work on, made twice, and its picture to compare at the end.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Timespec, Timestamps, fstat, makedev, mknodat, open,
    openat, readlinkat, statat, utimensat,
};
use rustix::io::read;

use super::outcome::Clock;

/// The user that operations run as, if not root.
pub(crate) const USER: u32 = 1000;
/// A group of that user.
pub(crate) const GROUP: u32 = 7;

const NOTHING: Option<&str> = None;

/// A tree on file systems of its own, unmounted when dropped.
pub(crate) struct Tree<'a>(&'a Path);

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

fn tmpfs(at: &Path, options: &str) {
    mount(
        Some("tmpfs"),
        at,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options),
    )
    .expect("a tmpfs");
}

fn bind(from: &Path, to: &Path) {
    mount(Some(from), to, NOTHING, MsFlags::MS_BIND, NOTHING).expect("a bind mount");
}

fn read_only(at: &Path) {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(NOTHING, at, NOTHING, flags, NOTHING).expect("a read-only mount");
}

impl<'a> Tree<'a> {
    /// Nothing but a file system.
    pub(crate) fn empty(root: &'a Path) -> Self {
        tmpfs(root, "mode=777,size=16m");
        Self(root)
    }

    /// Makes the tree at `root`, an empty directory. The calling thread has a mount namespace of
    /// its own, the rights of root, and the umask 0.
    pub(crate) fn new(root: &'a Path) -> Self {
        tmpfs(root, "mode=777,size=16m,nr_inodes=600");
        let tree = Self(root);
        let at = |name: &str| root.join(name);
        for name in ["a", "a/b", "a/b/c", "d", "locked", "store", "store/d"] {
            fs::create_dir(at(name)).expect("a directory");
        }
        for name in [
            "bind",
            "ro",
            "mem",
            "mine",
            "sticky",
            "group",
            "sticky/mine",
        ] {
            fs::create_dir(at(name)).expect("a directory");
        }
        let content: Vec<u8> = (0..5000_u32).map(|n| n.to_le_bytes()[0]).collect();
        for name in [
            "file",
            "private",
            "setid",
            "a/file",
            "a/b/file",
            "d/file",
            "locked/file",
            "store/file",
            "mine/file",
            "mine/private",
            "sticky/file",
        ] {
            fs::write(at(name), &content).expect("a file");
        }
        for n in 0..30 {
            fs::write(at(&format!("d/entry-{n:02}")), "").expect("a file");
        }
        for (name, bits) in [
            ("a", 0o777),
            ("a/b", 0o755),
            ("d", 0o777),
            ("locked", 0o700),
            ("store", 0o777),
            ("sticky", 0o1777),
            ("group", 0o2777),
            ("file", 0o666),
            ("private", 0o600),
            ("a/file", 0o644),
            ("store/file", 0o666),
            ("mine/private", 0o400),
            ("sticky/file", 0o666),
        ] {
            mode(&at(name), bits);
        }
        for name in ["mine", "mine/file", "mine/private", "sticky/mine", "setid"] {
            chown(at(name), Some(USER), Some(USER)).expect("an owner");
        }
        chown(at("group"), None, Some(GROUP)).expect("a group");
        mode(&at("setid"), 0o6777);
        for (name, target) in [
            ("link", "file"),
            ("dirlink", "a"),
            ("abs", "/a/b"),
            ("up", "../../.."),
            ("root", "/"),
            ("loop1", "loop2"),
            ("loop2", "loop1"),
            ("self", "self"),
            ("dangling", "nowhere/file"),
            ("slash", "a/"),
            ("fileslash", "file/"),
            ("a/up", ".."),
            ("a/abs", "/store/file"),
            ("store/up", "../file"),
        ] {
            symlink(target, at(name)).expect("a symlink");
        }
        // Before and after what preview 1's times hold.
        for (name, seconds) in [("a/old", -5), ("a/late", 1 << 34)] {
            fs::write(at(name), "").expect("a file");
            let time = Timespec {
                tv_sec: seconds,
                tv_nsec: 7,
            };
            let times = Timestamps {
                last_access: time,
                last_modification: time,
            };
            utimensat(CWD, at(name), &times, AtFlags::empty()).expect("times");
        }
        // Linux follows 40 symlinks of a path. It starts a walk again when something else is renamed
        // meanwhile, and goes on counting. So a path has far more than 40, or fewer than 20: no operation
        // changes the chain.
        fs::create_dir(at("chain")).expect("a directory");
        for n in 0..42 {
            symlink(format!("{}", n + 1), at(&format!("chain/{n}"))).expect("a symlink");
        }
        symlink("../a", at("chain/42")).expect("a symlink");
        symlink("chain/0", at("chain0")).expect("a symlink");
        symlink("chain/41", at("chain41")).expect("a symlink");
        bind(&at("chain"), &at("chain"));
        read_only(&at("chain"));
        for (name, kind, device) in [
            ("fifo", FileType::Fifo, 0),
            ("socket", FileType::Socket, 0),
            ("null", FileType::CharacterDevice, makedev(1, 3)),
            ("zero", FileType::CharacterDevice, makedev(1, 5)),
            ("full", FileType::CharacterDevice, makedev(1, 7)),
        ] {
            let bits = Mode::from_raw_mode(0o666);
            mknodat(CWD, at(name), kind, bits, device).expect("a node");
        }
        bind(&at("store"), &at("bind"));
        bind(&at("store"), &at("ro"));
        read_only(&at("ro"));
        // Small enough to fill up.
        tmpfs(&at("mem"), "mode=777,size=64k,nr_inodes=12");
        fs::write(at("mem/file"), &content).expect("a file");
        mode(&at("mem/file"), 0o666);
        tree
    }

    /// What is in the tree, each thing under its path.
    pub(crate) fn picture(&self, clock: Clock) -> BTreeMap<Vec<u8>, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let root = open(self.0, flags, Mode::empty()).expect("the root opens");
        let mut picture = Picture {
            clock,
            things: BTreeMap::new(),
            names: HashMap::new(),
        };
        picture.directory(&root, b"");
        picture.things
    }
}

impl Drop for Tree<'_> {
    fn drop(&mut self) {
        umount2(self.0, MntFlags::MNT_DETACH).expect("a tree is unmounted");
    }
}

struct Picture {
    clock: Clock,
    things: BTreeMap<Vec<u8>, String>,
    /// The first name of each file.
    names: HashMap<(u64, u64), Vec<u8>>,
}

impl Picture {
    fn directory(&mut self, directory: &rustix::fd::OwnedFd, path: &[u8]) {
        let mut names: Vec<Vec<u8>> = Dir::read_from(directory)
            .expect("a directory is read")
            .map(|entry| entry.expect("an entry").file_name().to_bytes().to_vec())
            .filter(|name| name != b"." && name != b"..")
            .collect();
        names.sort();
        for name in names {
            let stat = statat(directory, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW).expect("stat");
            let path = [path, b"/", &name].concat();
            let kind = FileType::from_raw_mode(stat.st_mode);
            let first = self
                .names
                .entry((stat.st_dev, stat.st_ino))
                .or_insert_with(|| path.clone())
                .escape_ascii()
                .to_string();
            let nanoseconds = stat.st_mtime_nsec.into();
            let modified = self.clock.signed(stat.st_mtime, nanoseconds);
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
            let open = || {
                openat(directory, name.as_slice(), flags, Mode::empty()).expect("root may open it")
            };
            let content = match kind {
                FileType::RegularFile => content(&open()),
                FileType::Symlink => {
                    let target = readlinkat(directory, name.as_slice(), Vec::new());
                    let target = target.expect("a target").into_bytes();
                    OsStr::from_bytes(&target).to_string_lossy().into_owned()
                }
                _ => String::new(),
            };
            // The size of a directory follows from its entries, but not for every file system.
            let thing = format!(
                "{kind:?} mode {:o} owner {}:{} links {} size {} blocks {} rdev {:x} file {first} \
                 modified {modified:?} content {content}",
                stat.st_mode,
                stat.st_uid,
                stat.st_gid,
                stat.st_nlink,
                stat.st_size,
                stat.st_blocks,
                stat.st_rdev,
            );
            self.things.insert(path.clone(), thing);
            if kind == FileType::Directory {
                self.directory(&open(), &path);
            }
        }
    }
}

/// A checksum of the first 64 KiB, beyond which only sparse files reach: FNV-1a.
fn content(fd: &rustix::fd::OwnedFd) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut buffer = vec![0; 65_536];
    assert!(fstat(fd).is_ok());
    let length = read(fd, &mut buffer).expect("content");
    for &byte in &buffer[..length] {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:016x}")
}
