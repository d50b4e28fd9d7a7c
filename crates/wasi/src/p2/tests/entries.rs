//! Directories that are being read.

use std::{collections::BTreeSet, fs, os::unix::fs::symlink};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use wasmtime::component::Resource;

use super::{directory, guest, lend};
use crate::{
    limits,
    p2::{
        bindings::wasi::filesystem::types::{
            DescriptorType, ErrorCode, Host as _, HostDescriptor, HostDirectoryEntryStream,
        },
        guest::ComponentGuest,
        handles::{DirectoryEntries, Slots},
    },
};

/// The next name and its type.
fn next(
    guest: &mut ComponentGuest,
    entries: &Resource<DirectoryEntries>,
) -> Option<(String, DescriptorType)> {
    let entry = guest.read_directory_entry(lend(entries)).expect("an entry");
    entry.map(|entry| (entry.name, entry.type_))
}

#[test]
fn every_entry_is_read_once_with_its_type_however_many_and_long_they_are() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut made = BTreeSet::new();
    for number in 0..300 {
        // The longest name there is, and the shortest.
        let name = format!(
            "{number:0>width$}",
            width = if number % 2 == 0 { 255 } else { 3 }
        );
        fs::write(folder.path().join(&name), "").expect("a file");
        made.insert(name);
    }
    fs::create_dir(folder.path().join("folder")).expect("a directory");
    symlink("folder", folder.path().join("link")).expect("a link");
    let fifo = folder.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).expect("a FIFO");
    let guest = &mut guest();
    let directory = directory(guest, folder.path());
    let entries = guest.read_directory(directory).expect("entries");
    let mut read = BTreeSet::new();
    while let Some((name, kind)) = next(guest, &entries) {
        let expected = match name.as_str() {
            "folder" => DescriptorType::Directory,
            "link" => DescriptorType::SymbolicLink,
            "fifo" => DescriptorType::Fifo,
            _ => DescriptorType::RegularFile,
        };
        assert_eq!(kind, expected, "{name}");
        assert!(read.insert(name.clone()), "{name} a second time");
    }
    assert!(next(guest, &entries).is_none(), "after the end");
    for name in ["folder", "link", "fifo"] {
        made.insert(name.to_owned());
    }
    assert_eq!(read, made);
}

#[test]
fn directory_that_was_removed_has_no_entries() {
    let folder = tempfile::tempdir().expect("a directory");
    let guest = &mut guest();
    let directory = directory(guest, folder.path());
    let entries = guest.read_directory(directory).expect("entries");
    folder.close().expect("removed");
    assert!(next(guest, &entries).is_none());
}

#[test]
fn directories_that_are_read_are_bounded_and_hold_little() {
    let guest = &mut guest();
    guest.listing_slots = Slots::new(2);
    let folder = tempfile::tempdir().expect("a directory");
    for number in 0..1000 {
        fs::write(folder.path().join(format!("file {number}")), "").expect("a file");
    }
    let directory = directory(guest, folder.path());
    let mut all: Vec<_> = (0..2)
        .map(|_| guest.read_directory(lend(&directory)).expect("entries"))
        .collect();
    let failure = guest
        .read_directory(lend(&directory))
        .expect_err("one more");
    let code = guest.convert_error_code(failure).expect("no trap");
    assert_eq!(code, ErrorCode::InsufficientMemory);
    for _ in 0..900 {
        next(guest, &all[0]).expect("an entry");
        let entries = guest.table.get(&all[0]).expect("there");
        let kept = entries.kept();
        assert!(kept <= limits::COMPONENT_LISTING, "{kept}");
    }
    let last = all.pop().expect("two");
    HostDirectoryEntryStream::drop(guest, last).expect("there");
    guest.read_directory(directory).expect("entries");
}
