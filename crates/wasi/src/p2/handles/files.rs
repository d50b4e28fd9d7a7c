//! Open files and directories.
#![forbid(unsafe_code)]

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno as Kernel,
};

use super::source::Source;
use crate::{
    p2::failure::{FileFailure, FileResult},
    paths::Paths,
};

/// An open file or directory.
#[derive(Clone, Debug)]
pub struct FileHandle {
    file: Arc<OwnedFd>,
    kind: FileType,
    /// As it was opened: for what, and how writes are synchronized.
    flags: OFlags,
    /// What the guest has said of its names. Rights are the kernel's, so this forbids nothing.
    mutates: bool,
}

impl AsFd for FileHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl FileHandle {
    pub(in crate::p2) fn new(
        file: Arc<OwnedFd>,
        kind: FileType,
        flags: OFlags,
        mutates: bool,
    ) -> Self {
        Self {
            file,
            kind,
            flags,
            mutates,
        }
    }

    /// The directory from which paths start, which is open as a name.
    pub(in crate::p2) fn root(root: Arc<OwnedFd>) -> Self {
        Self::new(root, FileType::Directory, OFlags::RDONLY, true)
    }

    pub(in crate::p2) fn kind(&self) -> FileType {
        self.kind
    }

    pub(in crate::p2) fn flags(&self) -> OFlags {
        self.flags
    }

    pub(in crate::p2) fn mutates(&self) -> bool {
        self.mutates
    }

    pub(in crate::p2) fn is_directory(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// A FIFO or device has no places, and may let a caller wait.
    pub(in crate::p2) fn has_places(&self) -> bool {
        self.kind == FileType::RegularFile
    }

    pub(in crate::p2) fn source(&self) -> Source {
        Source::Own(Arc::clone(&self.file))
    }

    /// For what only a directory has.
    pub(in crate::p2) fn directory(&self) -> FileResult<&Self> {
        if self.is_directory() {
            Ok(self)
        } else {
            Err(Kernel::NOTDIR.into())
        }
    }

    pub(in crate::p2) fn is_readable(&self) -> bool {
        let access = self.flags & OFlags::ACCMODE;
        !self.flags.contains(OFlags::PATH) && access != OFlags::WRONLY
    }

    pub(in crate::p2) fn is_writable(&self) -> bool {
        let access = self.flags & OFlags::ACCMODE;
        !self.flags.contains(OFlags::PATH) && access != OFlags::RDONLY
    }

    /// For what reads a file.
    pub(in crate::p2) fn readable(&self) -> FileResult<&Self> {
        self.for_data(self.is_readable())
    }

    /// For what writes to a file.
    pub(in crate::p2) fn writable(&self) -> FileResult<&Self> {
        self.for_data(self.is_writable())
    }

    fn for_data(&self, opened: bool) -> FileResult<&Self> {
        match (self.kind, opened) {
            (FileType::Directory, _) => Err(Kernel::ISDIR.into()),
            (_, true) => Ok(self),
            (_, false) => Err(FileFailure::Failed(Kernel::BADF)),
        }
    }
}

/// A directory, opened to be read: a handle may be only a name.
pub(in crate::p2) fn opened(paths: &Paths, directory: &FileHandle) -> FileResult<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    Ok(paths.open(directory.as_fd(), c".", flags, Mode::empty())?)
}
