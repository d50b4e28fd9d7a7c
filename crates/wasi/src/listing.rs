//! Listings of directories.
//!
//! A listing reads the kernel's entries into one bounded buffer per directory and hands them out from
//! there, in preview 1's form. The kernel's `d_off` is the cookie. A guest goes on within the buffer
//! or right behind it, so the kernel's own position in the directory carries on, and a file that is
//! removed or made while the guest lists is no error. Cookie 0 begins again, with what is there now.
#![forbid(unsafe_code)]

use std::{
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{FileType, RawDir, SeekFrom, seek},
    io::Errno as Kernel,
};

use crate::{abi::types, errno::Result, limits, stat};

/// Bytes of a `dirent` before its name.
const HEADER: usize = 24;

/// The part of a directory that was read last.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The directory itself where the guest's descriptor is only a name: the root's.
    opened: Option<OwnedFd>,
    /// Entries in preview 1's form, each followed by its name.
    entries: Vec<u8>,
    /// Cookie of the first of them.
    start: u64,
    /// Cookie of what follows them, where the kernel's position is.
    end: u64,
    /// Where the guest was in them last: a cookie, and its offset.
    last: (u64, usize),
}

impl Listing {
    /// Of a directory, at no position. `opened` is it where the guest's descriptor is only a name.
    pub(crate) fn new(opened: Option<OwnedFd>) -> Self {
        Self {
            opened,
            entries: Vec::new(),
            // No cookie of a directory's: the first call has to set the position.
            start: u64::MAX,
            end: u64::MAX,
            last: (u64::MAX, 0),
        }
    }

    /// Fills `target` from the entry after `cookie` on, and cuts the last one off where it is full.
    pub(crate) fn list(
        &mut self,
        file: BorrowedFd<'_>,
        target: &mut [u8],
        cookie: u64,
    ) -> Result<usize> {
        let mut offset = match self.find(cookie) {
            // From the start the guest wants what is there now.
            Some(offset) if cookie != 0 => offset,
            _ => {
                let directory = self.opened.as_ref().map_or(file, |opened| opened.as_fd());
                seek(directory, SeekFrom::Start(cookie))?;
                self.fill_from(file, cookie)?;
                0
            }
        };
        self.last = (cookie, offset);
        let mut used = 0;
        while used < target.len() {
            if offset == self.entries.len() {
                self.fill_from(file, self.end)?;
                offset = 0;
                if self.entries.is_empty() {
                    break;
                }
            }
            let part = &self.entries[offset..];
            let length = part.len().min(target.len() - used);
            target[used..used + length].copy_from_slice(&part[..length]);
            used += length;
            offset += length;
        }
        Ok(used)
    }

    /// Where the entry after `cookie` is in the buffer; its length at the buffer's end.
    fn find(&self, cookie: u64) -> Option<usize> {
        if cookie == self.start {
            return Some(0);
        }
        let (last, offset) = self.last;
        if cookie == last {
            return Some(offset);
        }
        // The guest has most often taken the entries from where it was to `cookie`.
        self.after(cookie, offset).or_else(|| self.after(cookie, 0))
    }

    fn after(&self, cookie: u64, mut offset: usize) -> Option<usize> {
        while let Some(header) = self.entries.get(offset..offset + HEADER) {
            let (next, length) = read_header(header);
            offset += HEADER + length;
            if next == cookie {
                return Some(offset);
            }
        }
        None
    }

    fn fill_from(&mut self, file: BorrowedFd<'_>, cookie: u64) -> Result<()> {
        let opened = self.opened.take();
        let directory = opened.as_ref().map_or(file, |opened| opened.as_fd());
        let filled = self.fill(directory, cookie);
        self.opened = opened;
        Ok(filled?)
    }

    /// Replaces the buffer by the entries at the kernel's position. Empty: there are no more.
    fn fill(&mut self, directory: BorrowedFd<'_>, cookie: u64) -> rustix::io::Result<()> {
        self.entries.clear();
        (self.start, self.end, self.last) = (cookie, cookie, (cookie, 0));
        let mut buffer = Vec::with_capacity(limits::LISTING);
        let buffer: &mut [MaybeUninit<u8>] = buffer.spare_capacity_mut();
        let mut raw = RawDir::new(directory, buffer);
        while let Some(entry) = raw.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Kernel::INTR) => continue,
                // The directory was removed: it has no entries.
                Err(Kernel::NOENT) => break,
                Err(error) => return Err(error),
            };
            let name = entry.file_name().to_bytes();
            let cookie = entry.next_entry_cookie();
            let kind = match entry.file_type() {
                FileType::Unknown => types::Filetype::Unknown,
                kind => stat::filetype(kind.as_raw_mode()),
            };
            write_header(&mut self.entries, cookie, entry.ino(), name.len(), kind);
            self.entries.extend_from_slice(name);
            self.end = cookie;
            if raw.is_buffer_empty() {
                break;
            }
        }
        Ok(())
    }
}

fn write_header(
    entries: &mut Vec<u8>,
    next: u64,
    inode: u64,
    length: usize,
    kind: types::Filetype,
) {
    // `dirent` of the witx file: two numbers of 64 bits, one of 32, one of 8, and padding.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    entries.extend_from_slice(&next.to_le_bytes());
    entries.extend_from_slice(&inode.to_le_bytes());
    entries.extend_from_slice(&length.to_le_bytes());
    entries.extend_from_slice(&[u8::from(kind), 0, 0, 0]);
}

fn read_header(header: &[u8]) -> (u64, usize) {
    let next = header
        .first_chunk()
        .map_or(0, |next| u64::from_le_bytes(*next));
    let length = header[16..].first_chunk();
    (
        next,
        length.map_or(0, |length| u32::from_le_bytes(*length) as usize),
    )
}
