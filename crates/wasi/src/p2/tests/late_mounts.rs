//! File systems of the kernel's that are mounted while a component runs are out of its reach, by each of its functions.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread::spawn,
};

use nix::sched::{CloneFlags, unshare};
use rustix::{
    io::Errno as Kernel,
    mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change},
    process::{chdir, chroot},
};
use wasm_interp_network::Network;
use wasmtime::component::Resource;

use super::{guest_by, lend};
use crate::{
    LateMounts,
    p2::{
        bindings::wasi::filesystem::{
            preopens::Host as _,
            types::{
                DescriptorFlags, HostDescriptor, HostDirectoryEntryStream, NewTimestamp, OpenFlags,
                PathFlags,
            },
        },
        failure::{FileFailure, FileResult},
        guest::ComponentGuest,
        handles::FileHandle,
    },
};

const PROC: u32 = 0x9fa0;

fn is_refused(magic: u32) -> bool {
    magic == PROC
}

const READ: DescriptorFlags = DescriptorFlags::READ;
const WRITE: DescriptorFlags = DescriptorFlags::WRITE;
const FOLLOW: PathFlags = PathFlags::SYMLINK_FOLLOW;

/// A guest in a tree of its own whose `/volume` receives what is mounted beneath `/host`, as a volume with
/// `HostToContainer` does from the host. It has its root and this volume, and then a proc and an ordinary file system are
/// mounted there.
struct VolumeGuest {
    guest: ComponentGuest,
    root: Resource<FileHandle>,
    volume: Resource<FileHandle>,
}

fn make_tree(tree: &Path) {
    let none = MountFlags::empty();
    mount("tmpfs", tree, "tmpfs", none, None).expect("a tmpfs");
    let (host, volume) = (tree.join("host"), tree.join("volume"));
    for folder in [&host, &volume] {
        fs::create_dir(folder).expect("a folder");
    }
    mount("tmpfs", &host, "tmpfs", none, None).expect("a tmpfs");
    for name in ["proc", "files"] {
        fs::create_dir(host.join(name)).expect(name);
    }
    fs::write(host.join("plain"), "plain").expect("a file");
    symlink("proc/self/status", host.join("link")).expect("a link");
    mount_change(&host, MountPropagationFlags::SHARED).expect("shared");
    mount_bind(&host, &volume).expect("bind");
    mount_change(&volume, MountPropagationFlags::DOWNSTREAM).expect("a slave");
}

fn with_late_mounts(test: fn(&mut VolumeGuest)) {
    let folder = tempfile::tempdir().expect("a folder");
    let tree: PathBuf = folder.path().to_owned();
    // The namespace ends with the thread, and its mounts with it.
    let thread = spawn(move || {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).expect("private mounts");
        make_tree(&tree);
        chroot(&tree).expect("chroot");
        chdir("/").expect("chdir");
        let mut guest = guest_by(Network::none(), LateMounts::Checked(is_refused));
        let (root, _) = guest.get_directories().expect("the root").remove(0);
        let volume = guest.open_at(
            lend(&root),
            FOLLOW,
            "volume".to_owned(),
            OpenFlags::DIRECTORY,
            READ,
        );
        let volume = volume.expect("the volume");
        let none = MountFlags::empty();
        mount("proc", "/host/proc", "proc", none, None).expect("proc");
        mount("tmpfs", "/host/files", "tmpfs", none, None).expect("tmpfs");
        assert!(Path::new("/volume/proc/self/status").exists());
        test(&mut VolumeGuest {
            guest,
            root,
            volume,
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn failed_with<T>(result: FileResult<T>, expected: Kernel, what: &str) {
    match result {
        Err(FileFailure::Failed(error)) => assert_eq!(error, expected, "{what}"),
        Err(FileFailure::Trap(trap)) => panic!("{what}: {trap}"),
        Ok(_) => panic!("{what}: nothing is refused"),
    }
}

fn refused<T>(result: FileResult<T>, what: &str) {
    failed_with(result, Kernel::ACCESS, what);
}

/// All functions that look at or open what a path names.
fn what_is_there_is_refused(guest: &mut ComponentGuest, from: &Resource<FileHandle>, path: &str) {
    let text = || path.to_owned();
    for (open, flags) in [
        (OpenFlags::empty(), READ),
        (OpenFlags::empty(), WRITE),
        (OpenFlags::empty(), READ | WRITE),
        (OpenFlags::empty(), DescriptorFlags::empty()),
        (OpenFlags::DIRECTORY, READ),
        (OpenFlags::DIRECTORY, DescriptorFlags::MUTATE_DIRECTORY),
        (OpenFlags::CREATE, DescriptorFlags::empty()),
        (OpenFlags::CREATE | OpenFlags::TRUNCATE, WRITE),
        (OpenFlags::TRUNCATE, WRITE),
    ] {
        let opened = guest.open_at(lend(from), FOLLOW, text(), open, flags);
        refused(opened, &format!("open {path} {open:?} {flags:?}"));
    }
    refused(guest.stat_at(lend(from), FOLLOW, text()), path);
    refused(guest.metadata_hash_at(lend(from), FOLLOW, text()), path);
    for (access, modification) in [
        (NewTimestamp::Now, NewTimestamp::Now),
        (NewTimestamp::NoChange, NewTimestamp::Now),
    ] {
        let set = guest.set_times_at(lend(from), FOLLOW, text(), access, modification);
        refused(set, path);
    }
}

#[test]
fn proc_that_arrives_later_is_not_looked_at_or_opened() {
    with_late_mounts(
        |VolumeGuest {
             guest,
             root,
             volume,
         }| {
            for path in [
                "volume/proc",
                "volume/proc/",
                "volume/proc/self/status",
                "volume/proc/self/fd",
                "volume/proc/sys/kernel/hostname",
                "volume/link",
                "volume/files/../proc/uptime",
            ] {
                what_is_there_is_refused(guest, root, path);
            }
            for path in ["proc", "proc/uptime", "link", "../volume/proc"] {
                what_is_there_is_refused(guest, volume, path);
            }
            let through = "volume/proc/self/root/host/plain".to_owned();
            let opened = guest.open_at(lend(root), FOLLOW, through, OpenFlags::empty(), READ);
            failed_with(opened, Kernel::LOOP, "a magic link");
        },
    );
}

#[test]
fn no_name_in_a_proc_that_arrives_later_is_made_moved_removed_or_read() {
    with_late_mounts(
        |VolumeGuest {
             guest,
             root,
             volume,
         }| {
            for path in [
                "volume/proc/self/x",
                "volume/proc/x",
                "volume/files/../proc/x",
            ] {
                let text = || path.to_owned();
                refused(guest.create_directory_at(lend(root), text()), path);
                refused(guest.unlink_file_at(lend(root), text()), path);
                refused(guest.remove_directory_at(lend(root), text()), path);
                refused(guest.readlink_at(lend(root), text()), path);
                refused(guest.symlink_at(lend(root), "x".to_owned(), text()), path);
                let plain = || "volume/plain".to_owned();
                let from = || lend(root);
                refused(guest.rename_at(from(), plain(), from(), text()), path);
                refused(guest.rename_at(from(), text(), from(), plain()), path);
                for follow in [FOLLOW, PathFlags::empty()] {
                    let linked = guest.link_at(from(), follow, plain(), from(), text());
                    refused(linked, path);
                }
            }
            let link = guest.readlink_at(lend(volume), "proc/self".to_owned());
            refused(link, "proc/self");
            let (old, new) = ("proc/uptime".to_owned(), "new".to_owned());
            let linked = guest.link_at(lend(volume), FOLLOW, old, lend(volume), new);
            refused(linked, "nothing is linked out of it");
        },
    );
}

/// What is refused is that file system, and not the volume, nor what else is mounted there.
#[test]
fn ordinary_files_are_as_without_the_check() {
    with_late_mounts(
        |VolumeGuest {
             guest,
             root,
             volume,
         }| {
            let text = |path: &str| path.to_owned();
            let create = OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
            let made = guest.open_at(lend(root), FOLLOW, text("volume/files/new"), create, WRITE);
            let made = made.expect("made");
            let written = HostDescriptor::write(guest, made, b"content".to_vec(), 0);
            assert_eq!(written.expect("written"), 7);
            guest
                .create_directory_at(lend(volume), text("files/folder/"))
                .expect("a folder");
            let moved = "files/folder/moved";
            guest
                .rename_at(lend(volume), text("files/new"), lend(volume), text(moved))
                .expect("moved");
            guest
                .symlink_at(lend(volume), text("files/folder"), text("to-folder"))
                .expect("a link");
            let target = guest.readlink_at(lend(volume), text("to-folder"));
            assert_eq!(target.expect("a link"), "files/folder");
            let path = "volume/to-folder/moved";
            let (none, now) = (OpenFlags::empty(), NewTimestamp::Now);
            let opened = guest.open_at(lend(root), FOLLOW, text(path), none, READ);
            let read = HostDescriptor::read(guest, opened.expect("open"), 100, 0);
            assert_eq!(read.expect("read").0, b"content");
            let stat = guest.stat_at(lend(root), FOLLOW, text(path));
            assert_eq!(stat.expect("stat").size, 7);
            guest
                .set_times_at(lend(root), FOLLOW, text(path), now, now)
                .expect("times");
            guest
                .metadata_hash_at(lend(root), FOLLOW, text(path))
                .expect("a hash");
            let (from, to) = (text(moved), text("files/linked"));
            guest
                .link_at(lend(volume), FOLLOW, from, lend(volume), to)
                .expect("linked");
            guest
                .unlink_file_at(lend(volume), text(moved))
                .expect("removed");
            guest
                .remove_directory_at(lend(volume), text("files/folder"))
                .expect("removed");
            let entries = guest.read_directory(lend(volume)).expect("entries");
            let mut names = Vec::new();
            while let Some(entry) = guest
                .read_directory_entry(lend(&entries))
                .expect("an entry")
            {
                names.push(entry.name);
            }
            HostDirectoryEntryStream::drop(guest, entries).expect("there");
            names.sort();
            assert_eq!(names, ["files", "link", "plain", "proc", "to-folder"]);
        },
    );
}
