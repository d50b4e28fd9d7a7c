//! Listing directories, also while they change.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use wasm_interp_wasi::{abi::types, errno::Errno};

use crate::support::{Caller, Entry, Opening, ROOT, bytes, with_guest};

fn make(count: usize) {
    fs::create_dir("/d").expect("d");
    for number in 0..count {
        fs::write(format!("/d/file-{number}"), "").expect("a file");
    }
}

fn names(entries: &[Entry]) -> BTreeSet<Vec<u8>> {
    let names: BTreeSet<_> = entries.iter().map(|entry| entry.name.clone()).collect();
    assert_eq!(names.len(), entries.len(), "no name twice");
    names
}

fn listed(guest: &mut Caller, size: u32) -> BTreeSet<Vec<u8>> {
    let fd = guest.open(&Opening::directory("d")).expect("open");
    let entries = guest.list(fd, size, |_, _| {}).expect("list");
    guest.close(fd).expect("close");
    names(&entries)
}

#[test]
fn every_entry_is_listed_once_with_any_buffer() {
    with_guest(|guest| {
        make(3000);
        let present: BTreeSet<_> = (0..3000)
            .map(|n| format!("file-{n}").into_bytes())
            .collect();
        for size in [64, 100, 4096, 100_000, 1 << 20] {
            assert_eq!(listed(guest, size), present, "with {size} bytes");
        }
    });
}

#[test]
fn a_large_directory_is_read_once_however_often_it_is_asked() {
    with_guest(|guest| {
        make(20_000);
        // 4 KiB a call, as a C library: each call goes on where the last one was.
        assert_eq!(listed(guest, 4096).len(), 20_000);
    });
}

#[test]
fn what_is_removed_or_made_while_listing_is_no_error() {
    with_guest(|guest| {
        make(1000);
        let fd = guest.open(&Opening::directory("d")).expect("open");
        guest
            .list(fd, 4096, |_, entry| {
                if !entry.name.starts_with(b".") {
                    fs::remove_file(bytes(b"/d").join(bytes(&entry.name))).expect("remove");
                }
            })
            .expect("list");
        assert_eq!(
            fs::read_dir("/d").expect("list").count(),
            0,
            "all are removed"
        );
        let mut made = 0;
        guest
            .list(fd, 200, |_, _| {
                if made < 100 {
                    made += 1;
                    fs::write(format!("/d/new-{made}"), "").expect("a file");
                }
            })
            .expect("list");
        fs::remove_dir_all("/d").expect("remove");
        assert_eq!(
            guest
                .list(fd, 4096, |_, _| {})
                .expect("a removed directory"),
            []
        );
    });
}

#[test]
fn cookie_zero_shows_what_is_there_now() {
    with_guest(|guest| {
        make(3);
        let fd = guest.open(&Opening::directory("d")).expect("open");
        let before = guest.list(fd, 4096, |_, _| {}).expect("list");
        assert_eq!(before.len(), 3);
        fs::remove_file("/d/file-1").expect("remove");
        fs::write("/d/later", "").expect("later");
        // Whether the listing was left at its end or at its beginning.
        let (some, _) = guest.readdir(fd, 4096, 0).expect("list");
        assert!(some.iter().any(|entry| entry.name == b"later"));
        fs::write("/d/last", "").expect("last");
        let after = names(&guest.list(fd, 64, |_, _| {}).expect("list"));
        let present = ["file-0", "file-2", "later", "last"];
        assert_eq!(after, present.map(|name| name.as_bytes().to_vec()).into());
    });
}

#[test]
fn a_cookie_leads_back_to_its_place() {
    with_guest(|guest| {
        make(2000);
        let fd = guest.open(&Opening::directory("d")).expect("open");
        let all = guest.list(fd, 4096, |_, _| {}).expect("list");
        for index in [0, 1, 700, 1500, 1998, 10] {
            let (next, _) = guest.readdir(fd, 4096, all[index].next).expect("list");
            assert_eq!(next[0], all[index + 1], "after {index}");
        }
        let (none, used) = guest.readdir(fd, 4096, all[1999].next).expect("list");
        assert_eq!((none, used), (Vec::new(), 0));
    });
}

#[test]
fn entries_have_inode_and_type() {
    with_guest(|guest| {
        make(1);
        fs::create_dir("/d/directory").expect("a directory");
        std::os::unix::fs::symlink("x", "/d/link").expect("a link");
        mknodat(
            CWD,
            "/d/fifo",
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .expect("a FIFO");
        fs::write(bytes(b"/d/\xff\xfe\n"), "").expect("a name of bytes");
        let fd = guest.open(&Opening::directory("d")).expect("open");
        let entries = guest.list(fd, 4096, |_, _| {}).expect("list");
        assert_eq!(entries.len(), 5);
        for entry in entries {
            let native = fs::symlink_metadata(bytes(b"/d").join(bytes(&entry.name)));
            let native = native.expect("stat");
            assert_eq!(entry.ino, native.ino());
            let kind = match &entry.name[..] {
                b"directory" => types::Filetype::Directory,
                b"link" => types::Filetype::SymbolicLink,
                b"fifo" => types::Filetype::SocketStream,
                _ => types::Filetype::RegularFile,
            };
            assert_eq!(entry.kind, kind, "{:?}", entry.name);
        }
    });
}

#[test]
fn an_entry_that_does_not_fit_is_cut_off() {
    with_guest(|guest| {
        make(1);
        let fd = guest.open(&Opening::directory("d")).expect("open");
        for size in [0, 1, 24, 30] {
            let (entries, used) = guest.readdir(fd, size, 0).expect("list");
            assert_eq!(used, size, "the buffer is full");
            assert!(entries.len() <= 1);
        }
    });
}

#[test]
fn the_root_is_listed_by_its_preopen_and_a_file_is_not() {
    with_guest(|guest| {
        make(1);
        let root = names(&guest.list(ROOT, 4096, |_, _| {}).expect("list"));
        assert_eq!(root, [b"d".to_vec(), b"dev".to_vec()].into());
        let file = guest.open(&Opening::read("d/file-0")).expect("open");
        assert_eq!(guest.readdir(file, 4096, 0), Err(Errno::Notdir));
        assert_eq!(guest.readdir(99, 4096, 0), Err(Errno::Badf));
    });
}
