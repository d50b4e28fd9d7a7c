//! Paths mean what the kernel says.

use std::{fs, os::unix::fs::symlink, path::Path};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, renameat, statat, unlinkat};
use wasm_interp_wasi::{LateMounts, abi::types, errno::Errno};

use crate::support::{Caller, Opening, ROOT, bytes, enter, in_tree, kernel, tmpfs, with_guest};

#[test]
fn dotdot_and_absolute_links_cross_mounts_from_every_directory() {
    in_tree(|tree| {
        for mount in ["one", "two"] {
            fs::create_dir(tree.join(mount)).expect(mount);
            tmpfs(&tree.join(mount));
        }
        fs::create_dir(tree.join("one/deep")).expect("deep");
        fs::write(tree.join("two/file"), "two").expect("file");
        fs::write(tree.join("top"), "top").expect("top");
        symlink("/two/file", tree.join("one/absolute")).expect("a link");
        symlink("../../two", tree.join("one/deep/relative")).expect("a link");
        enter(tree);
        let mut guest = Caller::new(LateMounts::Impossible);
        let deep = guest.open(&Opening::directory("one/deep")).expect("deep");
        for (from, path, text) in [
            (deep, "../../two/file", "two"),
            (deep, "../absolute", "two"),
            (deep, "relative/file", "two"),
            (deep, "relative/../top", "top"),
            // Beyond the root is the root.
            (deep, "../../../../../../top", "top"),
            (ROOT, "../one/absolute", "two"),
            (ROOT, "one/deep/../../one/deep/relative/file", "two"),
        ] {
            let mut open = Opening::read(path);
            open.from = from;
            let fd = guest.open(&open).expect(path);
            assert_eq!(guest.read(fd, 10).expect(path), text.as_bytes(), "{path}");
        }
    });
}

#[test]
fn a_path_that_begins_with_a_slash_is_eperm() {
    with_guest(|guest| {
        assert_eq!(guest.open(&Opening::read("/dev/null")), Err(Errno::Perm));
        assert_eq!(guest.stat("/", true), Err(Errno::Perm));
        assert_eq!(guest.path("path_create_directory", "/d"), Err(Errno::Perm));
        assert_eq!(guest.rename("/a", "b"), Err(Errno::Perm));
        assert_eq!(guest.symlink("a", "/b"), Err(Errno::Perm));
        // What a link holds is no path to be followed yet.
        guest
            .symlink("/dev/null", "link")
            .expect("an absolute link");
        assert_eq!(guest.readlink("link").expect("readlink"), b"/dev/null");
    });
}

#[test]
fn names_are_bytes_without_a_zero_byte() {
    with_guest(|guest| {
        let name = b"n\xc3\x28\xff\n";
        guest.path("path_create_directory", name).expect("mkdir");
        assert!(bytes(b"/n\xc3\x28\xff\n").is_dir());
        assert_eq!(guest.stat(b"a\0b", true), Err(Errno::Inval));
        assert_eq!(guest.path("path_unlink_file", b"\0"), Err(Errno::Inval));
    });
}

#[test]
fn lengths_of_paths_and_names_are_the_kernels() {
    with_guest(|guest| {
        for length in [255, 256, 4094, 4095, 4096, 5000] {
            let name = "n".repeat(length);
            let path = format!("{}n", "./".repeat(length / 2));
            for path in [name, path] {
                let expected = kernel(statat(CWD, &*path, AtFlags::empty()).map(drop));
                let answer = guest.stat(&path, true).map(drop);
                assert_eq!(answer, expected, "{} bytes", path.len());
            }
        }
        assert_eq!(guest.stat("", true), Err(Errno::Noent));
    });
}

/// What the trees of [`special_paths_have_the_kernels_errors`] hold.
fn fill() {
    for tree in ["/guest", "/native"] {
        let tree = Path::new(tree);
        fs::create_dir(tree).expect("a tree");
        fs::create_dir(tree.join("dir")).expect("dir");
        fs::write(tree.join("dir/inner"), "inner").expect("inner");
        fs::create_dir(tree.join("empty")).expect("empty");
        fs::write(tree.join("file"), "file").expect("file");
        fs::write(tree.join("other"), "other").expect("other");
        symlink("file", tree.join("to-file")).expect("a link");
        symlink("dir", tree.join("to-dir")).expect("a link");
        symlink("empty", tree.join("to-empty")).expect("a link");
        symlink("nothing", tree.join("dangling")).expect("a link");
        symlink("loop", tree.join("loop")).expect("a link");
    }
}

const NAMES: [&str; 9] = [
    "dir", "empty", "file", "to-file", "to-dir", "to-empty", "dangling", "loop", "nothing",
];
const ENDS: [&str; 6] = ["", "/", "//", "/.", "/..", "/x"];

/// An operation on a path, as a guest asks for it.
type ByGuest = fn(&mut Caller, &str) -> Result<(), Errno>;
/// The same, as the kernel answers it.
type ByKernel = fn(&str) -> rustix::io::Result<()>;

/// Every operation on every kind of name, with all sorts of endings, on two trees that are alike.
#[test]
fn special_paths_have_the_kernels_errors() {
    let operations: [(&str, ByGuest, ByKernel); 9] = [
        (
            "stat",
            |guest, path| guest.stat(path, true).map(drop),
            |path| statat(CWD, path, AtFlags::empty()).map(drop),
        ),
        (
            "lstat",
            |guest, path| guest.stat(path, false).map(drop),
            |path| statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map(drop),
        ),
        (
            "mkdir",
            |guest, path| guest.path("path_create_directory", path),
            |path| mkdirat(CWD, path, Mode::from_raw_mode(0o777)),
        ),
        (
            "rmdir",
            |guest, path| guest.path("path_remove_directory", path),
            |path| unlinkat(CWD, path, AtFlags::REMOVEDIR),
        ),
        (
            "unlink",
            |guest, path| guest.path("path_unlink_file", path),
            |path| unlinkat(CWD, path, AtFlags::empty()),
        ),
        (
            "readlink",
            |guest, path| guest.readlink(path).map(drop),
            |path| rustix::fs::readlinkat(CWD, path, Vec::new()).map(drop),
        ),
        (
            "open",
            |guest, path| guest.open(&Opening::read(path)).map(drop),
            |path| openat(CWD, path, OFlags::RDONLY, Mode::empty()).map(drop),
        ),
        (
            "open O_CREAT|O_WRONLY",
            |guest, path| {
                let mut open = Opening::write(path);
                open.oflags = types::Oflags::CREAT;
                guest.open(&open).map(drop)
            },
            |path| {
                let flags = OFlags::WRONLY | OFlags::CREATE;
                openat(CWD, path, flags, Mode::from_raw_mode(0o666)).map(drop)
            },
        ),
        (
            "open O_NOFOLLOW",
            |guest, path| {
                let mut open = Opening::read(path);
                open.lookup = types::Lookupflags::empty();
                guest.open(&open).map(drop)
            },
            |path| openat(CWD, path, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty()).map(drop),
        ),
    ];
    for (name, by_guest, by_kernel) in operations {
        with_guest(move |guest| {
            for (kind, end) in NAMES.iter().flat_map(|name| ENDS.map(|end| (name, end))) {
                fill();
                let path = format!("{kind}{end}");
                let answer = by_guest(guest, &format!("guest/{path}"));
                let expected = kernel(by_kernel(&format!("/native/{path}")));
                assert_eq!(answer, expected, "{name} {path}");
                assert_eq!(tree("/guest"), tree("/native"), "after {name} {path}");
                fs::remove_dir_all("/guest").expect("clean");
                fs::remove_dir_all("/native").expect("clean");
            }
        });
    }
}

/// Renames of every kind over every kind.
#[test]
fn renames_have_the_kernels_errors() {
    with_guest(|guest| {
        let ends = ["", "/"];
        let names: Vec<_> = NAMES
            .iter()
            .flat_map(|name| ends.map(|end| format!("{name}{end}")))
            .chain([
                "dir/new".into(),
                "dir/inner".into(),
                ".".into(),
                "..".into(),
            ])
            .collect();
        for (old, new) in names
            .iter()
            .flat_map(|old| names.iter().map(move |new| (old, new)))
        {
            fill();
            let answer = guest.rename(format!("guest/{old}"), format!("guest/{new}"));
            let (from, to) = (format!("/native/{old}"), format!("/native/{new}"));
            let expected = kernel(renameat(CWD, &*from, CWD, &*to));
            assert_eq!(answer, expected, "{old} to {new}");
            assert_eq!(tree("/guest"), tree("/native"), "after {old} to {new}");
            fs::remove_dir_all("/guest").expect("clean");
            fs::remove_dir_all("/native").expect("clean");
        }
    });
}

#[test]
fn hard_links_follow_only_where_asked() {
    with_guest(|guest| {
        fs::write("/file", "x").expect("file");
        symlink("file", "/link").expect("a link");
        guest.link("link", true, "followed").expect("link");
        guest.link("link", false, "itself").expect("link");
        assert!(fs::symlink_metadata("/followed").expect("stat").is_file());
        assert!(fs::symlink_metadata("/itself").expect("stat").is_symlink());
        assert_eq!(guest.stat("file", true).expect("stat").nlink, 2);
        assert_eq!(guest.link("file", false, "followed"), Err(Errno::Exist));
        assert_eq!(guest.link("dev", false, "directory"), Err(Errno::Perm));
        assert_eq!(guest.link("file", false, "dev/null2"), Ok(()));
        assert_eq!(guest.link("dev/null", false, "null"), Err(Errno::Xdev));
    });
}

#[test]
fn refusals_of_mounts_are_the_kernels() {
    in_tree(|tree| {
        fs::create_dir(tree.join("ro")).expect("ro");
        tmpfs(&tree.join("ro"));
        fs::write(tree.join("ro/file"), "x").expect("file");
        rustix::mount::mount_remount(
            tree.join("ro"),
            rustix::mount::MountFlags::RDONLY | rustix::mount::MountFlags::BIND,
            "",
        )
        .expect("read-only");
        enter(tree);
        let mut guest = Caller::new(LateMounts::Impossible);
        assert_eq!(guest.create_error("ro/new"), Errno::Rofs);
        assert_eq!(guest.open(&Opening::write("ro/file")), Err(Errno::Rofs));
        assert_eq!(guest.path("path_unlink_file", "ro/file"), Err(Errno::Rofs));
        assert_eq!(
            guest.path("path_create_directory", "ro/d"),
            Err(Errno::Rofs)
        );
        assert_eq!(guest.path("path_remove_directory", "ro"), Err(Errno::Busy));
        assert_eq!(guest.path("path_create_directory", "ro"), Err(Errno::Exist));
        assert_eq!(guest.rename("ro/file", "file"), Err(Errno::Xdev));
        assert!(guest.open(&Opening::read("ro/file")).is_ok());
    });
}

/// Names, types and contents beneath a directory.
fn tree(at: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut left = vec![Path::new(at).to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).expect("list") {
            let entry = entry.expect("an entry");
            let (path, kind) = (entry.path(), entry.file_type().expect("a type"));
            let content = if kind.is_symlink() {
                format!("link {}", fs::read_link(&path).expect("readlink").display())
            } else if kind.is_dir() {
                left.push(path.clone());
                "directory".into()
            } else {
                fs::read_to_string(&path).expect("read")
            };
            let name = path.strip_prefix(at).expect("beneath");
            all.push((name.display().to_string(), content));
        }
    }
    all.sort();
    all
}
