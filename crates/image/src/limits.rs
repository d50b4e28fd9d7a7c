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

/// The most entries of an image, and the most files and directories that the entries of one layer name.
pub(crate) const MAX_ENTRIES: usize = 1_000_000;

/// The most bytes of the names of an image's entries: they are kept until a layer is unpacked.
const MAX_NAMES: usize = 256 << 20;

/// The entries of an image so far, in all of its layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryLimit {
    entries: usize,
    names: usize,
}

impl EntryLimit {
    /// Counts an entry whose name has so many bytes.
    pub(crate) fn count(&mut self, name: usize) -> io::Result<()> {
        self.entries += 1;
        self.names = self.names.saturating_add(name);
        if self.entries > MAX_ENTRIES {
            return Err(io::Error::other(format!(
                "the image has more than {MAX_ENTRIES} entries; make a smaller one"
            )));
        }
        if self.names > MAX_NAMES {
            return Err(io::Error::other(format!(
                "the names of the image's entries have more than {MAX_NAMES} bytes; make a \
                 smaller one"
            )));
        }
        Ok(())
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_their_names_have_limits() {
        let mut limit = EntryLimit::default();
        for _ in 0..MAX_ENTRIES {
            limit.count(200).unwrap();
        }
        let error = limit.count(200).unwrap_err().to_string();
        assert!(error.contains("more than 1000000 entries"), "{error}");
        let mut limit = EntryLimit::default();
        limit.count(MAX_NAMES).unwrap();
        let error = limit.count(1).unwrap_err().to_string();
        assert!(error.contains("more than 268435456 bytes"), "{error}");
    }
}
