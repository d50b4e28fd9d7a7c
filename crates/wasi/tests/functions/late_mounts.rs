//! File systems of the kernel's that are mounted while the guest runs are out of its reach.

use std::{fs, os::unix::fs::symlink, path::Path};

use rustix::{
    fs::{Mode, OFlags},
    mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change},
};
use wasm_interp_wasi::{LateMounts, abi::types, errno::Errno};

use crate::support::{Caller, Filestat, Opening, ROOT, enter, in_tree, tmpfs};

const PROC: u32 = 0x9fa0;

fn refused(magic: u32) -> bool {
    magic == PROC
}

/// A tree whose `/volume` receives what is mounted beneath `/host` of it, as a volume with
/// `HostToContainer` does from the host.
fn volume(tree: &Path) {
    for name in ["host", "volume"] {
        fs::create_dir(tree.join(name)).expect(name);
    }
    tmpfs(&tree.join("host"));
    for name in ["proc", "files"] {
        fs::create_dir(tree.join("host").join(name)).expect(name);
    }
    fs::write(tree.join("host/plain"), "plain").expect("plain");
    symlink("proc/self/status", tree.join("host/link")).expect("a link");
    symlink("plain", tree.join("host/to-plain")).expect("a link");
    mount_change(tree.join("host"), MountPropagationFlags::SHARED).expect("shared");
    mount_bind(tree.join("host"), tree.join("volume")).expect("bind");
    let slave = MountPropagationFlags::DOWNSTREAM;
    mount_change(tree.join("volume"), slave).expect("a slave");
}

/// Mounts proc and an ordinary file system on the host's side.
fn arrive() {
    let none = MountFlags::empty();
    mount("proc", "/host/proc", "proc", none, None).expect("proc");
    mount("tmpfs", "/host/files", "tmpfs", none, None).expect("tmpfs");
    fs::write("/host/files/file", "content").expect("a file");
    assert!(
        Path::new("/volume/proc/self/status").exists(),
        "it is propagated"
    );
}

#[test]
fn proc_that_arrives_later_is_eacces_by_every_way() {
    in_tree(|tree| {
        volume(tree);
        enter(tree);
        let mut guest = Caller::new(LateMounts::Checked(refused));
        let volume = guest.open(&Opening::directory("volume")).expect("volume");
        arrive();
        for path in [
            "volume/proc",
            "volume/proc/",
            "volume/proc/self/status",
            "volume/proc/self/fd",
            "volume/proc/sys/kernel/hostname",
            "volume/link",
            "volume/files/../proc/uptime",
        ] {
            assert_eq!(
                guest.stat(path, true).map(drop),
                Err(Errno::Acces),
                "stat {path}"
            );
            for open in [
                Opening::read(path),
                Opening::write(path),
                Opening::directory(path),
            ] {
                assert_eq!(
                    guest.open(&open).map(drop),
                    Err(Errno::Acces),
                    "open {path}"
                );
            }
            let mut name = Opening::read(path);
            name.rights = types::Rights::empty();
            assert_eq!(
                guest.open(&name).map(drop),
                Err(Errno::Acces),
                "O_PATH {path}"
            );
            name.rights = types::Rights::FD_WRITE;
            name.oflags = types::Oflags::CREAT | types::Oflags::TRUNC;
            assert_eq!(
                guest.open(&name).map(drop),
                Err(Errno::Acces),
                "O_TRUNC {path}"
            );
        }
        for path in ["volume/proc/self/x", "volume/proc/x"] {
            for name in [
                "path_create_directory",
                "path_unlink_file",
                "path_remove_directory",
            ] {
                assert_eq!(guest.path(name, path), Err(Errno::Acces), "{name} {path}");
            }
            assert_eq!(guest.readlink(path), Err(Errno::Acces));
            assert_eq!(guest.symlink("x", path), Err(Errno::Acces));
            assert_eq!(guest.rename("volume/plain", path), Err(Errno::Acces));
            assert_eq!(guest.rename(path, "volume/new"), Err(Errno::Acces));
            assert_eq!(guest.link("volume/plain", true, path), Err(Errno::Acces));
        }
        let through = "volume/proc/self/root/dev/null";
        assert_eq!(guest.stat(through, true), Err(Errno::Loop), "a magic link");
        assert_eq!(
            guest.open(&Opening::read(through)),
            Err(Errno::Loop),
            "a magic link"
        );
        assert_eq!(guest.readlink("volume/proc/self"), Err(Errno::Acces));
        let mut below = Opening::read("proc/self/status");
        below.from = volume;
        assert_eq!(
            guest.open(&below),
            Err(Errno::Acces),
            "from a directory of before"
        );
        // Whether there is such a name or not.
        for name in ["uptime", "1/status", "x", "x/y"] {
            for follow in [true, false] {
                let link = guest.link(format!("volume/proc/{name}"), follow, "volume/new");
                let refused = if name == "x/y" {
                    Errno::Noent
                } else {
                    Errno::Acces
                };
                assert_eq!(link, Err(refused), "{name}");
            }
        }
        let [path, length] = guest.put("volume/proc");
        let times = guest.call(
            "path_filestat_set_times",
            &[ROOT.into(), 1, path, length, 0, 0, 1],
        );
        assert_eq!(times, Err(Errno::Acces));
    });
}

/// A second line of defence: not even a guest that is not checked could leave by a link of proc's.
#[test]
fn magic_links_are_not_followed_by_an_open() {
    in_tree(|tree| {
        volume(tree);
        enter(tree);
        let mut guest = Caller::new(LateMounts::Impossible);
        arrive();
        let fd = rustix::fs::open("/host", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .expect("a descriptor");
        let number = std::os::fd::AsRawFd::as_raw_fd(&fd);
        for path in [
            "volume/proc/self/root".to_owned(),
            "volume/proc/self/cwd".to_owned(),
            "volume/proc/self/exe".to_owned(),
            format!("volume/proc/self/fd/{number}"),
        ] {
            assert_eq!(
                guest.open(&Opening::read(&path)),
                Err(Errno::Loop),
                "{path}"
            );
        }
    });
}

#[test]
fn ordinary_files_are_as_without_the_check() {
    in_tree(|tree| {
        volume(tree);
        enter(tree);
        let mut guest = Caller::new(LateMounts::Checked(refused));
        arrive();
        let fd = guest
            .open(&Opening::read("volume/files/file"))
            .expect("open");
        assert_eq!(guest.read(fd, 20).expect("read"), b"content");
        let fd = guest.open(&Opening::read("volume/to-plain")).expect("open");
        assert_eq!(guest.read(fd, 20).expect("read"), b"plain");
        let new = guest.create("volume/files/new");
        guest.put_out(new, b"made").expect("write");
        assert_eq!(fs::read("/host/files/new").expect("read"), b"made");
        let mut empties = Opening::write("volume/to-plain");
        empties.oflags = types::Oflags::CREAT | types::Oflags::TRUNC;
        guest.open(&empties).expect("open");
        assert_eq!(fs::read("/host/plain").expect("read"), b"");
        symlink("made-by-link", "/volume/dangling").expect("a link");
        empties.path = b"volume/dangling";
        guest.open(&empties).expect("made through a link");
        assert!(fs::exists("/volume/made-by-link").expect("stat"));
        guest
            .path("path_create_directory", "volume/files/d/")
            .expect("mkdir");
        guest
            .rename("volume/files/new", "volume/files/d/moved")
            .expect("rename");
        guest
            .link("volume/files/d/moved", true, "volume/files/linked")
            .expect("link");
        assert_eq!(
            guest.stat("volume/files/linked", true).expect("stat").nlink,
            2
        );
        assert_eq!(guest.stat("volume/nothing", true), Err(Errno::Noent));
        assert_eq!(
            guest.open(&Opening::read("volume/plain/x")),
            Err(Errno::Notdir)
        );
        symlink("loop", "/volume/loop").expect("a link");
        assert_eq!(guest.open(&Opening::read("volume/loop")), Err(Errno::Loop));
        // Others may write to the stream meanwhile.
        let identity = |stat: Filestat| (stat.dev, stat.ino, stat.filetype);
        assert_eq!(
            guest.stat("dev/stdout", true).map(identity),
            guest.stat_open(1).map(identity),
            "streams"
        );
    });
}
