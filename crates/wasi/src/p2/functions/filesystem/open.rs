//! Opening files.
#![forbid(unsafe_code)]

use std::{os::fd::AsFd as _, sync::Arc};

use rustix::{
    fs::{FileType, Mode, OFlags, fstat},
    io::Errno as Kernel,
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
};

/// The mode of a new file, less the container's umask: the interface has none of its own.
const NEW_FILE: Mode = Mode::from_raw_mode(0o666);

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
        let file = self
            .paths
            .open(directory.as_fd(), &name, wanted, NEW_FILE)?;
        let kind = FileType::from_raw_mode(fstat(&file)?.st_mode);
        let mutates = flags.contains(DescriptorFlags::MUTATE_DIRECTORY);
        Ok(FileHandle::new(Arc::new(file), kind, wanted, mutates))
    }
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
