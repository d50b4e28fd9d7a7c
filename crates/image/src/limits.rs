//! Limits of what an archive can make this process read into memory and write to disk.
//!
//! The tar library reads the headers before an entry (long names, extended attributes) into memory as a whole, even if
//! the archive says that they are huge. This module gives it a reader that fails at a limit.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

/// The most bytes of headers of an entry. Linux limits a path to 4 KiB, and ext4 limits the attributes of a file to
/// 64 KiB.
const MAX_HEADERS: u64 = 1 << 20;

/// The most bytes that an image unpacks to.
pub(crate) const MAX_IMAGE: u64 = 16 << 30;

/// The most directories in one another. To remove them takes a descriptor each, and Linux gives a process 1,024 unless it asks for more.
pub(crate) const MAX_DEPTH: usize = 512;

/// How many bytes of headers the tar library may still read. Its reader shares this counter.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeaderLimit(Rc<Cell<Option<u64>>>);

impl HeaderLimit {
    /// The next entry. The data of the previous entry has to be read, or skipped by seeking.
    pub(crate) fn next<T>(
        &self,
        entries: &mut impl Iterator<Item = io::Result<T>>,
    ) -> Option<io::Result<T>> {
        self.0.set(Some(MAX_HEADERS));
        let entry = entries.next();
        self.0.set(None);
        entry
    }

    fn spend(&self, bytes: usize) -> io::Result<()> {
        if let Some(left) = self.0.get() {
            let left = left.checked_sub(bytes as u64).ok_or_else(|| {
                io::Error::other(format!(
                    "the headers of an entry are longer than {MAX_HEADERS} bytes"
                ))
            })?;
            self.0.set(Some(left));
        }
        Ok(())
    }
}

/// The reader that the tar library reads from.
#[derive(Debug)]
pub(crate) struct Limited<R> {
    pub(crate) reader: R,
    pub(crate) limit: HeaderLimit,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.limit.spend(count)?;
        Ok(count)
    }
}

impl<R: Seek> Seek for Limited<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.reader.seek(to)
    }
}
