//! Opening files.
#![forbid(unsafe_code)]

use std::{
    ffi::CStr,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    event::PollFlags,
    fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat},
    io::{Errno as Kernel, Result as Answer},
};

use super::values::{follow, path};
use crate::{
    p2::{
        bindings::wasi::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags},
        failure::FileResult,
        guest::ComponentGuest,
        handles::FileHandle,
    },
    paths::Follow,
    sys,
    wait::Meanwhile as _,
};

/// The mode of a new file, less the container's umask: the interface has none of its own.
const NEW_FILE: Mode = Mode::from_raw_mode(0o666);

/// Between two looks at a file that cannot be opened yet, while something is kept to be sent: at first, and at most.
const PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The pauses, each twice as long as the one before.
struct Pauses(Duration);

impl Pauses {
    /// When the next one is over.
    fn next(&mut self) -> Instant {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        Instant::now() + pause
    }
}

impl ComponentGuest {
    pub(super) fn open(
        &self,
        directory: &FileHandle,
        path_flags: PathFlags,
        name: &str,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FileResult<FileHandle> {
        let name = path(name)?;
        let directory = directory.directory()?;
        let wanted = of_kernel(follow(path_flags), open_flags, flags)?;
        let file = self.open_file(directory, &name, wanted)?;
        let kind = kind(&file)?;
        if !wanted.contains(OFlags::PATH) {
            match kind {
                // No other process has this description. So a call waits where others get on meanwhile, and not in the kernel.
                FileType::Fifo => set_nonblocking(&file, true)?,
                // It has no meaning for them.
                FileType::RegularFile | FileType::Directory => {}
                _ => set_nonblocking(&file, false)?,
            }
        }
        let mutates = flags.contains(DescriptorFlags::MUTATE_DIRECTORY);
        Ok(FileHandle::new(Arc::new(file), kind, wanted, mutates))
    }

    /// open(2), which may wait: for the other side of a FIFO, or for a process that has a lease of the file. As long as
    /// something is kept, it is sent meanwhile.
    fn open_file(&self, directory: &FileHandle, name: &CStr, wanted: OFlags) -> Answer<OwnedFd> {
        let open = |flags| {
            self.paths
                .open(directory.as_fd(), name, wanted | flags, NEW_FILE)
        };
        let mut pauses = Pauses(PAUSE);
        while !wanted.contains(OFlags::PATH) && !self.unsent.is_idle() {
            match open(OFlags::NONBLOCK) {
                Ok(file) => {
                    if wanted & OFlags::ACCMODE == OFlags::RDONLY && kind(&file)? == FileType::Fifo
                    {
                        self.await_writer(&file, &mut pauses)?;
                    }
                    return Ok(file);
                }
                // Another process still has a lease.
                Err(Kernel::AGAIN) => {}
                // No process reads it yet.
                Err(Kernel::NXIO) if self.is_fifo(directory, name, wanted) => {}
                Err(error) => return Err(error),
            }
            self.unsent.pass(pauses.next())?;
        }
        open(OFlags::empty())
    }

    /// As open(2) of a FIFO, which returns when a writer has opened it too. A process that has it open already hears
    /// nothing of that from the kernel, until something is written or the writer is gone.
    fn await_writer(&self, fifo: &OwnedFd, pauses: &mut Pauses) -> Answer<()> {
        let fifo = fifo.as_fd();
        while !sys::has_writer(fifo)?
            && !self
                .unsent
                .wait_for(fifo, PollFlags::IN, Some(pauses.next()))?
        {}
        Ok(())
    }

    fn is_fifo(&self, directory: &FileHandle, name: &CStr, wanted: OFlags) -> bool {
        let follow = if wanted.contains(OFlags::NOFOLLOW) {
            Follow::No
        } else {
            Follow::Yes
        };
        let found = self.paths.metadata(directory.as_fd(), name, follow);
        found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Fifo)
    }
}

/// A file that was opened.
fn kind(file: &OwnedFd) -> Answer<FileType> {
    Ok(FileType::from_raw_mode(fstat(file)?.st_mode))
}

fn set_nonblocking(file: &OwnedFd, on: bool) -> Answer<()> {
    let flags = fcntl_getfl(file)?;
    let mut wanted = flags;
    wanted.set(OFlags::NONBLOCK, on);
    if wanted == flags {
        return Ok(());
    }
    fcntl_setfl(file, wanted)
}

/// The flags of open(2).
fn of_kernel(follow: Follow, open: OpenFlags, flags: DescriptorFlags) -> FileResult<OFlags> {
    use DescriptorFlags as D;
    use OpenFlags as O;
    let makes = open.intersects(O::CREATE | O::TRUNCATE);
    let mut wanted = match (flags.contains(D::READ), flags.contains(D::WRITE)) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (true, false) => OFlags::RDONLY,
        // Neither is asked of what is only a name, unless the file is made by it.
        (false, false) if makes => OFlags::RDONLY,
        (false, false) => OFlags::PATH,
    };
    if open.contains(O::DIRECTORY) && open.intersects(O::CREATE | O::EXCLUSIVE | O::TRUNCATE) {
        return Err(Kernel::INVAL.into());
    }
    let mut set = |on: bool, flag: OFlags| {
        if on {
            wanted |= flag;
        }
    };
    set(open.contains(O::DIRECTORY), OFlags::DIRECTORY);
    set(follow == Follow::No, OFlags::NOFOLLOW);
    if makes || flags.intersects(D::READ | D::WRITE) {
        set(open.contains(O::CREATE), OFlags::CREATE);
        set(open.contains(O::EXCLUSIVE), OFlags::EXCL);
        set(open.contains(O::TRUNCATE), OFlags::TRUNC);
        set(flags.contains(D::FILE_INTEGRITY_SYNC), OFlags::SYNC);
        set(flags.contains(D::REQUESTED_WRITE_SYNC), OFlags::SYNC);
        set(flags.contains(D::DATA_INTEGRITY_SYNC), OFlags::DSYNC);
    }
    Ok(wanted)
}

/// What the guest is told of an open file.
pub(super) fn of_handle(file: &FileHandle) -> DescriptorFlags {
    use DescriptorFlags as D;
    let mut flags = D::empty();
    let mut set = |on: bool, flag: D| {
        if on {
            flags |= flag;
        }
    };
    set(file.is_readable(), D::READ);
    set(file.is_writable(), D::WRITE);
    set(file.mutates(), D::MUTATE_DIRECTORY);
    // Linux's O_SYNC has the bits of O_DSYNC, and one more.
    let syncs = file.flags().contains(OFlags::SYNC);
    set(syncs, D::FILE_INTEGRITY_SYNC);
    set(
        !syncs && file.flags().contains(OFlags::DSYNC),
        D::DATA_INTEGRITY_SYNC,
    );
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::p2::failure::FileFailure;

    #[test]
    fn flags_are_those_of_open() {
        use DescriptorFlags as D;
        use OpenFlags as O;
        for (open, flags, expected) in [
            (O::empty(), D::READ, OFlags::RDONLY),
            (O::empty(), D::empty(), OFlags::PATH),
            (O::CREATE, D::empty(), OFlags::RDONLY | OFlags::CREATE),
            (
                O::CREATE | O::EXCLUSIVE,
                D::WRITE,
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL,
            ),
            (
                O::TRUNCATE,
                D::READ | D::WRITE,
                OFlags::RDWR | OFlags::TRUNC,
            ),
            (
                O::DIRECTORY,
                D::READ | D::MUTATE_DIRECTORY,
                OFlags::RDONLY | OFlags::DIRECTORY,
            ),
            (
                O::empty(),
                D::WRITE | D::FILE_INTEGRITY_SYNC,
                OFlags::WRONLY | OFlags::SYNC,
            ),
        ] {
            let wanted = of_kernel(Follow::Yes, open, flags);
            assert_eq!(wanted.expect("flags"), expected, "{open:?} {flags:?}");
        }
        let link = of_kernel(Follow::No, O::empty(), D::READ).expect("flags");
        assert!(link.contains(OFlags::NOFOLLOW));
        assert!(matches!(
            of_kernel(Follow::Yes, O::CREATE | O::DIRECTORY, D::READ),
            Err(FileFailure::Failed(Kernel::INVAL))
        ));
    }
}
