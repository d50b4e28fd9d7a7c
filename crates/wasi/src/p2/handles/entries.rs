//! A directory that is being read.
//!
//! What was read last is kept as the kernel gave it, in a buffer of one size: it is memory of the process.
#![forbid(unsafe_code)]

use std::{mem::MaybeUninit, os::fd::OwnedFd};

use rustix::{
    fs::{FileType, RawDir},
    io::Errno as Kernel,
};

use super::slots::CountedSlot;
use crate::limits;

/// The longest name, and a few bytes before each.
const _: () = assert!(limits::COMPONENT_LISTING >= 512);

/// The bytes before a name: its type and its length.
const HEADER: usize = 3;

/// A directory that is being read.
#[derive(Debug)]
pub struct DirectoryEntries {
    directory: OwnedFd,
    /// What is left of what was read last, from `next` on: the type of each entry, the length of its name, and its name.
    entries: Vec<u8>,
    next: usize,
    _slot: CountedSlot,
}

impl DirectoryEntries {
    pub(in crate::p2) fn new(directory: OwnedFd, slot: CountedSlot) -> Self {
        Self {
            directory,
            // What the kernel gives has more bytes for each name.
            entries: Vec::with_capacity(limits::COMPONENT_LISTING),
            next: 0,
            _slot: slot,
        }
    }

    /// The next entry: its type and its name. `None` at the end, and of a directory that was removed.
    pub(in crate::p2) fn next(&mut self) -> rustix::io::Result<Option<(FileType, &[u8])>> {
        if self.next == self.entries.len() {
            self.read()?;
        }
        let Some((header, rest)) = self.entries[self.next..].split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [kind, length @ ..] = *header;
        let name = &rest[..u16::from_ne_bytes(length).into()];
        self.next += HEADER + name.len();
        Ok(Some((FileType::from_raw_mode(u32::from(kind) << 12), name)))
    }

    /// The bytes that it holds.
    #[cfg(test)]
    pub(in crate::p2) fn kept(&self) -> usize {
        self.entries.capacity()
    }

    /// One getdents64(2).
    fn read(&mut self) -> rustix::io::Result<()> {
        self.entries.clear();
        self.next = 0;
        let mut buffer = [MaybeUninit::uninit(); limits::COMPONENT_LISTING];
        let mut directory = RawDir::new(&self.directory, &mut buffer);
        while let Some(entry) = directory.next() {
            let entry = match entry {
                Ok(entry) => entry,
                // It was removed: it has no entries.
                Err(Kernel::NOENT) => break,
                Err(error) => return Err(error),
            };
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                // The kernel has it so, above the bits of a mode.
                let kind = (entry.file_type().as_raw_mode() >> 12) as u8;
                let length = u16::try_from(name.len()).map_err(|_| Kernel::NAMETOOLONG)?;
                self.entries.push(kind);
                self.entries.extend_from_slice(&length.to_ne_bytes());
                self.entries.extend_from_slice(name);
            }
            // More would not fit, and an empty part would look like the end.
            if directory.is_buffer_empty() && !self.entries.is_empty() {
                break;
            }
        }
        Ok(())
    }
}
