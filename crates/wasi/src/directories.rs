//! Names: making, moving and removing them, and listing directories.
//!
//! A listing reads the kernel's entries into one bounded buffer per directory and hands them out from
//! there, in preview 1's form. The kernel's `d_off` is the cookie. A guest goes on within the buffer
//! or right behind it, so the kernel's own position in the directory carries on, and a file that is
//! removed or made while the guest lists is no error. Cookie 0 begins again, with what is there now.
#![forbid(unsafe_code)]

use std::{
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom, fstat, linkat, mkdirat, readlinkat_raw,
        renameat, seek, symlinkat, unlinkat,
    },
    io::Errno as Kernel,
};
use wiggle::{GuestMemory, GuestPtr};

use crate::{
    abi::types,
    descriptors::Description,
    errno::{Errno, Result},
    files::follow,
    guest::Guest,
    limits, memory,
    paths::{self, Follow},
    stat,
};

/// The mode of a new directory, less the container's umask: preview 1 has none of its own.
const NEW_DIRECTORY: Mode = Mode::from_raw_mode(0o777);

/// Bytes of a `dirent` before its name.
const HEADER: usize = 24;

/// The part of a directory that was read last.
#[derive(Debug, Default)]
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

    /// Replaces the buffer by the entries at the kernel's position. Empty: there are no more.
    fn fill(&mut self, directory: impl AsFd, cookie: u64) -> rustix::io::Result<()> {
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

impl Guest {
    pub(crate) fn list(
        &self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        buffer: GuestPtr<[u8]>,
        cookie: types::Dircookie,
    ) -> Result<types::Size> {
        let file = self.descriptors.get(fd)?;
        let target = memory::slice_mut(memory, buffer)?;
        let mut listing = match file.take_listing() {
            Some(listing) => listing,
            None => self.listing(file)?,
        };
        let listed = list(file, &mut listing, target, cookie);
        // A guest that has come to the end rarely goes on, and the buffer is large.
        let keep = listed.as_ref().is_ok_and(|&used| used == target.len());
        file.put_listing((keep && !target.is_empty()).then_some(listing));
        let used = listed?;
        types::Size::try_from(used).map_err(|_| Errno::Overflow)
    }

    fn listing(&self, file: &Description) -> Result<Listing> {
        let mut listing = Listing {
            // No cookie of a directory's: the first call has to set the position.
            start: u64::MAX,
            end: u64::MAX,
            last: (u64::MAX, 0),
            ..Listing::default()
        };
        if FileType::from_raw_mode(fstat(file)?.st_mode) != FileType::Directory {
            return Err(Errno::Notdir);
        }
        if file.is_preopen() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            listing.opened = Some(self.open(file.as_fd(), c".", flags, Mode::empty())?);
        }
        Ok(listing)
    }

    pub(crate) fn make_directory(
        &self,
        memory: &GuestMemory<'_>,
        fd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        let path = paths::argument(memory, path)?;
        let place = self.place(self.descriptors.get(fd)?.as_ref().as_fd(), &path)?;
        Ok(mkdirat(&place, place.name(), NEW_DIRECTORY)?)
    }

    pub(crate) fn remove(
        &self,
        memory: &GuestMemory<'_>,
        fd: types::Fd,
        path: GuestPtr<str>,
        what: AtFlags,
    ) -> Result<()> {
        let path = paths::argument(memory, path)?;
        let place = self.place(self.descriptors.get(fd)?.as_ref().as_fd(), &path)?;
        Ok(unlinkat(&place, place.name(), what)?)
    }

    pub(crate) fn rename(
        &self,
        memory: &GuestMemory<'_>,
        (old_fd, old): (types::Fd, GuestPtr<str>),
        (new_fd, new): (types::Fd, GuestPtr<str>),
    ) -> Result<()> {
        let (old, new) = (paths::argument(memory, old)?, paths::argument(memory, new)?);
        let old = self.place(self.descriptors.get(old_fd)?.as_ref().as_fd(), &old)?;
        let new = self.place(self.descriptors.get(new_fd)?.as_ref().as_fd(), &new)?;
        Ok(renameat(&old, old.name(), &new, new.name())?)
    }

    pub(crate) fn hard_link(
        &self,
        memory: &GuestMemory<'_>,
        (old_fd, lookup, old): (types::Fd, types::Lookupflags, GuestPtr<str>),
        (new_fd, new): (types::Fd, GuestPtr<str>),
    ) -> Result<()> {
        let (old, new) = (paths::argument(memory, old)?, paths::argument(memory, new)?);
        let old_fd = self.descriptors.get(old_fd)?;
        // Both are on one file system, or the kernel refuses: the new name's is checked.
        let new = self.place(self.descriptors.get(new_fd)?.as_ref().as_fd(), &new)?;
        let flags = match follow(lookup) {
            Follow::Yes => AtFlags::SYMLINK_FOLLOW,
            Follow::No => AtFlags::empty(),
        };
        Ok(linkat(old_fd, &old, &new, new.name(), flags)?)
    }

    pub(crate) fn symbolic_link(
        &self,
        memory: &GuestMemory<'_>,
        target: GuestPtr<str>,
        fd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        // What it holds is not resolved now, and may be absolute.
        let target = paths::text(memory, target)?;
        if target.is_empty() {
            // Before the path, as the kernel says it.
            return Err(Errno::Noent);
        }
        let path = paths::argument(memory, path)?;
        let place = self.place(self.descriptors.get(fd)?.as_ref().as_fd(), &path)?;
        Ok(symlinkat(&target, &place, place.name())?)
    }

    pub(crate) fn read_link(
        &self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        path: GuestPtr<str>,
        buffer: GuestPtr<[u8]>,
    ) -> Result<types::Size> {
        let path = paths::argument(memory, path)?;
        let file = self.descriptors.get(fd)?;
        if buffer.len() == 0 {
            // Before the path, as the kernel says it.
            return Err(Errno::Inval);
        }
        let place = self.place(file.as_ref().as_fd(), &path)?;
        let target = memory::slice_mut(memory, buffer)?;
        let used = readlinkat_raw(&place, place.name(), target)?;
        types::Size::try_from(used).map_err(|_| Errno::Overflow)
    }
}

/// Fills `target` from the entry after `cookie` on, and cuts the last one off where it is full.
fn list(
    file: &Description,
    listing: &mut Listing,
    target: &mut [u8],
    cookie: u64,
) -> Result<usize> {
    let mut offset = match listing.find(cookie) {
        // From the start the guest wants what is there now.
        Some(offset) if cookie != 0 => offset,
        _ => {
            let directory = listing.opened.as_ref().map_or(file.as_fd(), AsFd::as_fd);
            seek(directory, SeekFrom::Start(cookie))?;
            listing.fill_from(file, cookie)?;
            0
        }
    };
    listing.last = (cookie, offset);
    let mut used = 0;
    while used < target.len() {
        if offset == listing.entries.len() {
            listing.fill_from(file, listing.end)?;
            offset = 0;
            if listing.entries.is_empty() {
                break;
            }
        }
        let part = &listing.entries[offset..];
        let length = part.len().min(target.len() - used);
        target[used..used + length].copy_from_slice(&part[..length]);
        used += length;
        offset += length;
    }
    Ok(used)
}

impl Listing {
    fn fill_from(&mut self, file: &Description, cookie: u64) -> Result<()> {
        let opened = self.opened.take();
        let filled = match &opened {
            Some(directory) => self.fill(directory, cookie),
            None => self.fill(file, cookie),
        };
        self.opened = opened;
        Ok(filled?)
    }
}
