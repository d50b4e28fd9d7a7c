//! The guest's own table of descriptors.
//!
//! A guest's number is an index of this table and never a number of the kernel's: the process has
//! descriptors that are not the guest's, the native code that it runs for one. Several numbers may
//! share an open file description, as after dup(2).
//!
//! To make a descriptor: [`Table::insert`] with a [`Description`]. A function of the host gets its
//! file by [`Table::get`] and lets the kernel say what does not fit: a socket is no directory.
#![forbid(unsafe_code)]

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    abi::types::Fd,
    errno::{Errno, Result},
    limits,
    listing::Listing,
    sockets::Socket,
    sys::{self, Standard},
};

/// By this number paths start at the root directory, whatever the guest has closed or replaced. It is higher than
/// any number of a table, and no other function takes it.
pub const ROOT: u32 = i32::MAX as u32;

/// What a guest's number stands for.
#[derive(Debug)]
pub struct Description {
    file: OpenFile,
    /// Kept for a directory while it is listed.
    listing: Mutex<Option<Listing>>,
    /// What is known of a socket that was made for the guest.
    socket: Option<Box<Socket>>,
}

/// An open file of the kernel's.
#[derive(Debug)]
enum OpenFile {
    /// Opened for the guest: a file, directory, FIFO, device or socket. Its flags are the kernel's.
    Own(OwnedFd),
    /// The root directory, by the name `/`, which the guest's C library is told of.
    Preopen(Arc<OwnedFd>),
    /// One of the container's streams. Others share its description, so `O_NONBLOCK` is kept here.
    Stream {
        stream: Standard,
        nonblocking: AtomicBool,
    },
}

impl Description {
    /// A file that was opened for the guest.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self::with(OpenFile::Own(fd))
    }

    /// A socket that was made for the guest.
    pub(crate) fn socket(fd: OwnedFd, socket: Socket) -> Self {
        Self {
            socket: Some(Box::new(socket)),
            ..Self::new(fd)
        }
    }

    /// The directory from which paths start.
    pub(crate) fn preopen(root: Arc<OwnedFd>) -> Self {
        Self::with(OpenFile::Preopen(root))
    }

    pub(crate) fn stream(stream: Standard) -> Self {
        let nonblocking = AtomicBool::new(false);
        Self::with(OpenFile::Stream {
            stream,
            nonblocking,
        })
    }

    fn with(file: OpenFile) -> Self {
        Self {
            file,
            listing: Mutex::new(None),
            socket: None,
        }
    }

    pub(crate) fn as_socket(&self) -> Option<&Socket> {
        self.socket.as_deref()
    }

    pub(crate) fn is_preopen(&self) -> bool {
        matches!(self.file, OpenFile::Preopen(_))
    }

    /// Whether it is one of the container's streams, whose flags others share.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        matches!(self.file, OpenFile::Stream { .. })
    }

    /// For what changes attributes of the file. Those of the container's streams belong to all who share
    /// them: EPERM.
    pub(crate) fn own(&self) -> Result<&Self> {
        if self.is_stream() {
            return Err(Errno::Perm);
        }
        Ok(self)
    }

    /// What the guest wants of a stream; `None` for a file of its own, where the kernel knows.
    pub(crate) fn stream_is_nonblocking(&self) -> Option<bool> {
        match &self.file {
            OpenFile::Own(_) | OpenFile::Preopen(_) => None,
            OpenFile::Stream { nonblocking, .. } => Some(nonblocking.load(Ordering::Relaxed)),
        }
    }

    /// Keeps the flag of a stream. `false` for a file of the guest's own, where nothing is kept.
    pub(crate) fn set_stream_nonblocking(&self, value: bool) -> bool {
        match &self.file {
            OpenFile::Own(_) | OpenFile::Preopen(_) => false,
            OpenFile::Stream { nonblocking, .. } => {
                nonblocking.store(value, Ordering::Relaxed);
                true
            }
        }
    }

    /// Takes the state of its listing out, so that no lock is held while it is worked on.
    pub(crate) fn take_listing(&self) -> Option<Listing> {
        let mut listing = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        listing.take()
    }

    pub(crate) fn put_listing(&self, state: Option<Listing>) {
        let mut listing = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        *listing = state;
    }
}

impl AsFd for Description {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.file {
            OpenFile::Own(fd) => fd.as_fd(),
            OpenFile::Preopen(root) => root.as_fd(),
            OpenFile::Stream { stream, .. } => sys::standard(*stream),
        }
    }
}

/// The guest's descriptors.
#[derive(Debug)]
pub struct Table {
    slots: Vec<Option<Arc<Description>>>,
    root: Arc<Description>,
    /// No lower slot is free.
    lowest: usize,
    limit: usize,
    /// Whether the guest has set a record lock of its process.
    locks: AtomicBool,
}

impl Table {
    /// The three streams, and the root directory as number 3.
    pub(crate) fn new(root: Arc<OwnedFd>, limit: usize) -> Self {
        let root = Arc::new(Description::preopen(root));
        let slots: Vec<_> = Standard::ALL
            .map(|stream| Arc::new(Description::stream(stream)))
            .into_iter()
            .chain([Arc::clone(&root)])
            .map(Some)
            .collect();
        Self {
            lowest: slots.len(),
            slots,
            root,
            limit: limit.min(limits::DESCRIPTORS),
            locks: AtomicBool::new(false),
        }
    }

    /// The description of a number; EBADF if it is not open.
    pub fn get(&self, fd: Fd) -> Result<&Arc<Description>> {
        self.slots
            .get(u32::from(fd) as usize)
            .and_then(Option::as_ref)
            .ok_or(Errno::Badf)
    }

    /// What a path starts from: as [`Table::get`], and the root directory by [`ROOT`].
    pub fn directory(&self, fd: Fd) -> Result<&Arc<Description>> {
        match u32::from(fd) {
            ROOT => Ok(&self.root),
            _ => self.get(fd),
        }
    }

    /// From here on the process may have record locks, which end with any number of their file: see [`Table::let_go`].
    pub(crate) fn note_locks(&self) {
        self.locks.store(true, Ordering::Relaxed);
    }

    /// What close(2) does to the file of a number that is free now: the process's record locks of it end. The kernel does
    /// that where it closes a descriptor, which it does with the last number only.
    fn let_go(&self, description: &Arc<Description>) {
        if self.locks.load(Ordering::Relaxed) && Arc::strong_count(description) > 1 {
            sys::unlock(description.as_fd());
        }
    }

    /// Frees every number of the root directory: from here on paths start there by [`ROOT`] alone.
    pub(crate) fn release_preopen(&mut self) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.take_if(|file| file.is_preopen()).is_some() {
                self.lowest = self.lowest.min(index);
            }
        }
    }

    /// Gives `description` the lowest free number; EMFILE if the limit is reached.
    pub fn insert(&mut self, description: Description) -> Result<Fd> {
        self.share(Arc::new(description), 0)
    }

    /// As [`Table::insert`] for two, or for none of them.
    pub(crate) fn insert_both(&mut self, one: Description, other: Description) -> Result<(Fd, Fd)> {
        let one = self.insert(one)?;
        match self.insert(other) {
            Ok(other) => Ok((one, other)),
            Err(error) => {
                self.take(one)?;
                Err(error)
            }
        }
    }

    /// Whether a number can be a descriptor's.
    pub(crate) fn may_have(&self, number: usize) -> bool {
        number < self.limit
    }

    /// EMFILE if no number is free: for what must not be lost when it has been made.
    pub(crate) fn room(&self) -> Result<()> {
        let free = self.slots.iter().skip(self.lowest).any(Option::is_none);
        if free || self.slots.len() < self.limit {
            Ok(())
        } else {
            Err(Errno::Mfile)
        }
    }

    /// Gives a description that other numbers share the lowest free number from `from` on.
    pub fn share(&mut self, description: Arc<Description>, from: usize) -> Result<Fd> {
        let start = from.max(self.lowest);
        let free = self.slots.iter().skip(start).position(Option::is_none);
        let index = free.map_or(self.slots.len().max(start), |offset| start + offset);
        self.set(index, description)?;
        if from <= self.lowest {
            self.lowest = index + 1;
        }
        Ok(Fd::from(u32::try_from(index).map_err(|_| Errno::Mfile)?))
    }

    /// Has `fd` stand for `description` alone, as dup2(2) does. EBADF beyond the limit.
    pub fn replace(&mut self, fd: Fd, description: Arc<Description>) -> Result<()> {
        let index = u32::from(fd) as usize;
        if index >= self.limit {
            return Err(Errno::Badf);
        }
        let old = self.slots.get_mut(index).and_then(Option::take);
        self.set(index, description)?;
        // As dup2(2), which does not tell of a failure to close what was there.
        if let Some(old) = old {
            self.let_go(&old);
        }
        Ok(())
    }

    fn set(&mut self, index: usize, description: Arc<Description>) -> Result<()> {
        if index >= self.limit {
            return Err(Errno::Mfile);
        }
        if self.slots.len() <= index {
            self.slots.resize(index + 1, None);
        }
        self.slots[index] = Some(description);
        Ok(())
    }

    fn take(&mut self, fd: Fd) -> Result<Arc<Description>> {
        let index = u32::from(fd) as usize;
        let slot = self.slots.get_mut(index).ok_or(Errno::Badf)?;
        let description = slot.take().ok_or(Errno::Badf)?;
        self.lowest = self.lowest.min(index);
        Ok(description)
    }

    /// Frees the number, and closes the file if no other number shares it.
    pub fn close(&mut self, fd: Fd) -> Result<()> {
        let description = self.take(fd)?;
        self.let_go(&description);
        match Arc::into_inner(description).map(|description| description.file) {
            Some(OpenFile::Own(fd)) => Ok(sys::close(fd)?),
            // The container's stream stays open: the reason of a trap is written to it.
            // Absolute links still lead to the root directory.
            Some(OpenFile::Stream { .. } | OpenFile::Preopen(_)) | None => Ok(()),
        }
    }

    /// Closes all numbers from `first` to `last`. As close_range(2), which does not tell of a failure to close one.
    pub(crate) fn close_range(&mut self, first: Fd, last: Fd) -> Result<()> {
        let (first, last) = (u32::from(first) as usize, u32::from(last) as usize);
        if first > last {
            return Err(Errno::Inval);
        }
        let numbers = last.saturating_add(1).min(self.slots.len());
        if first < numbers {
            for index in first..numbers {
                if let Some(old) = self.slots[index].take() {
                    self.let_go(&old);
                }
            }
            self.lowest = self.lowest.min(first);
        }
        Ok(())
    }

    /// Moves `fd` to the number `to`, which has to be open.
    pub(crate) fn renumber(&mut self, fd: Fd, to: Fd) -> Result<()> {
        self.get(to)?;
        let description = Arc::clone(self.get(fd)?);
        if fd != to {
            self.replace(to, description)?;
            self.take(fd)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").expect("/dev/null").into()
    }

    fn number(fd: Result<Fd>) -> u32 {
        fd.expect("a descriptor").into()
    }

    #[test]
    fn the_lowest_free_number_is_given() {
        let mut table = Table::new(Arc::new(null()), 100);
        for expected in 4..10 {
            assert_eq!(number(table.insert(Description::new(null()))), expected);
        }
        for closed in [7, 5, 1] {
            table.close(Fd::from(closed)).expect("close");
        }
        for expected in [1, 5, 7, 10] {
            assert_eq!(number(table.insert(Description::new(null()))), expected);
        }
    }

    #[test]
    fn the_limit_is_emfile_until_one_is_closed() {
        let mut table = Table::new(Arc::new(null()), 6);
        assert_eq!(number(table.insert(Description::new(null()))), 4);
        assert_eq!(number(table.insert(Description::new(null()))), 5);
        let full = table.insert(Description::new(null()));
        assert_eq!(full, Err(Errno::Mfile));
        table.close(Fd::from(4u32)).expect("close");
        assert_eq!(number(table.insert(Description::new(null()))), 4);
    }

    #[test]
    fn numbers_that_are_not_open_are_ebadf() {
        let mut table = Table::new(Arc::new(null()), 100);
        for fd in [4u32, 99, u32::MAX] {
            assert_eq!(table.close(Fd::from(fd)), Err(Errno::Badf));
            assert_eq!(
                table.renumber(Fd::from(fd), Fd::from(0u32)),
                Err(Errno::Badf)
            );
            assert_eq!(
                table.renumber(Fd::from(0u32), Fd::from(fd)),
                Err(Errno::Badf)
            );
        }
    }

    #[test]
    fn a_moved_number_is_free_again() {
        let mut table = Table::new(Arc::new(null()), 100);
        let fd = table.insert(Description::new(null())).expect("insert");
        table.renumber(fd, Fd::from(0u32)).expect("renumber");
        assert!(!table.get(Fd::from(0u32)).expect("0").is_stream());
        assert!(table.get(fd).is_err());
        assert_eq!(number(table.insert(Description::new(null()))), 4);
        table.renumber(fd, fd).expect("to itself");
        assert!(table.get(fd).is_ok());
    }

    #[test]
    fn every_number_can_be_closed_and_the_root_is_still_where_paths_start() {
        let mut table = Table::new(Arc::new(null()), 100);
        table
            .share(Arc::clone(table.get(Fd::from(3)).expect("3")), 9)
            .expect("share");
        table.release_preopen();
        for number in [3, 9, ROOT] {
            assert!(table.get(Fd::from(number)).is_err(), "{number}");
        }
        assert_eq!(number(table.insert(Description::new(null()))), 3);
        table
            .close_range(Fd::from(1), Fd::from(u32::MAX))
            .expect("close");
        assert!(table.get(Fd::from(0)).is_ok() && table.get(Fd::from(3)).is_err());
        assert_eq!(number(table.insert(Description::new(null()))), 1);
        assert!(
            table
                .directory(Fd::from(ROOT))
                .expect("the root")
                .is_preopen()
        );
        assert!(table.close(Fd::from(ROOT)).is_err());
        assert_eq!(
            table.close_range(Fd::from(5), Fd::from(4)),
            Err(Errno::Inval)
        );
        assert_eq!(table.close_range(Fd::from(50), Fd::from(60)), Ok(()));
        let file = Arc::clone(table.get(Fd::from(0)).expect("0"));
        assert_eq!(table.replace(Fd::from(ROOT), file), Err(Errno::Badf));
    }

    #[test]
    fn a_shared_file_is_closed_with_its_last_number() {
        let mut table = Table::new(Arc::new(null()), 100);
        let fd = table.insert(Description::new(null())).expect("insert");
        let shared = Arc::clone(table.get(fd).expect("fd"));
        let second = table.share(shared, 10).expect("share");
        assert_eq!(u32::from(second), 10);
        table.close(fd).expect("close");
        assert!(rustix::io::fcntl_getfd(table.get(second).expect("second")).is_ok());
        assert_eq!(number(table.insert(Description::new(null()))), 4);
    }
}
