//! What a file is, whole, and changing its mode, owner and times; whether it may be accessed; its file
//! system.
#![forbid(unsafe_code)]

use std::os::fd::AsFd as _;

use rustix::{
    fs::{
        AtFlags, Gid, OFlags, Stat, StatVfs, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid,
        chownat, fchmod, fcntl_getfl, fstat, fstatvfs, futimens,
    },
    io::Errno as Kernel,
};
use wiggle::{GuestMemory, GuestPtr};

use crate::modes::without_set_id;
use crate::{
    abi::types,
    errno::{Errno, Result},
    files::follow,
    guest::Guest,
    paths::{self, Follow, LateMounts},
    sys,
};

/// Nanoseconds that are a second, and no part of one.
const SECOND: u32 = 1_000_000_000;

/// The owner to set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) uid: types::Uid,
    pub(super) gid: types::Gid,
}

impl Owner {
    /// In the kernel's words, where -1 leaves it as it is.
    fn ids(self) -> (Option<Uid>, Option<Gid>) {
        let uid = (self.uid != u32::MAX).then(|| Uid::from_raw(self.uid));
        let gid = (self.gid != u32::MAX).then(|| Gid::from_raw(self.gid));
        (uid, gid)
    }
}

/// The times to set.
#[derive(Debug)]
pub(super) struct Change(Timestamps);

impl Change {
    /// EINVAL for a time that is given and the present too.
    pub(super) fn new(atim: (i64, u32), mtim: (i64, u32), flags: types::Fstflags) -> Result<Self> {
        use types::Fstflags as F;
        let time = |(seconds, nanoseconds): (i64, u32), set: F, now: F| {
            let special = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
            match (flags.contains(set), flags.contains(now)) {
                (true, true) => Err(Errno::Inval),
                (false, true) => Ok(special(UTIME_NOW)),
                (false, false) => Ok(special(UTIME_OMIT)),
                (true, false) => Ok(Timespec {
                    tv_sec: seconds,
                    // A second is refused by the kernel, which has found the file before. Of greater
                    // numbers two mean something else to it.
                    tv_nsec: i64::from(nanoseconds.min(SECOND)),
                }),
            }
        };
        Ok(Self(Timestamps {
            last_access: time(atim, F::ATIM, F::ATIM_NOW)?,
            last_modification: time(mtim, F::MTIM, F::MTIM_NOW)?,
        }))
    }

    pub(super) fn times(&self) -> &Timestamps {
        &self.0
    }
}

fn timespec(seconds: i64, nanoseconds: u64) -> types::Timespec {
    types::Timespec {
        sec: seconds,
        // Less than a second.
        nsec: nanoseconds as u32,
    }
}

#[allow(clippy::unnecessary_cast)] // The number of links has 32 bits on arm64.
fn whole(stat: &Stat) -> types::Stat {
    types::Stat {
        dev: stat.st_dev,
        ino: stat.st_ino,
        nlink: stat.st_nlink as u64,
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        blksize: u32::try_from(stat.st_blksize).unwrap_or(u32::MAX),
        rdev: stat.st_rdev,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        blocks: u64::try_from(stat.st_blocks).unwrap_or_default(),
        atim: timespec(stat.st_atime, stat.st_atime_nsec),
        mtim: timespec(stat.st_mtime, stat.st_mtime_nsec),
        ctim: timespec(stat.st_ctime, stat.st_ctime_nsec),
    }
}

fn file_system(system: &StatVfs) -> types::Statvfs {
    types::Statvfs {
        bsize: system.f_bsize,
        frsize: system.f_frsize,
        blocks: system.f_blocks,
        bfree: system.f_bfree,
        bavail: system.f_bavail,
        files: system.f_files,
        ffree: system.f_ffree,
        favail: system.f_favail,
        fsid: system.f_fsid,
        flag: system.f_flag.bits(),
        namemax: system.f_namemax,
    }
}

impl Guest {
    pub(super) fn whole_stat(&self, fd: types::Fd) -> Result<types::Stat> {
        Ok(whole(&fstat(self.descriptors.get(fd)?)?))
    }

    pub(super) fn whole_stat_of_path(
        &self,
        memory: &GuestMemory<'_>,
        directory: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
    ) -> Result<types::Stat> {
        let path = paths::argument(memory, path)?;
        let directory = self.descriptors.directory(directory)?.as_ref().as_fd();
        let follow = follow(lookup);
        let error = match self.paths.metadata(directory, &path, follow) {
            Ok(stat) => return Ok(whole(&stat)),
            Err(error) => error,
        };
        match self.stream_behind(error, directory, &path, follow) {
            Some(fd) => self.whole_stat(fd).map_err(|_| Errno::Noent),
            None => Err(error.into()),
        }
    }

    pub(super) fn change_mode(&self, fd: types::Fd, mode: types::Mode) -> Result<()> {
        let file = self.descriptors.get(fd)?.own()?;
        Ok(fchmod(file, without_set_id(mode)?)?)
    }

    pub(super) fn change_mode_of_path(
        &self,
        memory: &GuestMemory<'_>,
        directory: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
        mode: types::Mode,
    ) -> Result<()> {
        let path = paths::argument(memory, path)?;
        let directory = self.descriptors.directory(directory)?.as_ref().as_fd();
        let mode = without_set_id(mode)?;
        Ok(self
            .modes_by
            .change(&self.paths, directory, &path, follow(lookup), mode)?)
    }

    pub(super) fn change_owner(&self, fd: types::Fd, owner: Owner) -> Result<()> {
        let file = self.descriptors.get(fd)?.own()?;
        // As fchown(2) says; with an empty path, the call would do it.
        if fcntl_getfl(file)?.contains(OFlags::PATH) {
            return Err(Errno::Badf);
        }
        let (uid, gid) = owner.ids();
        Ok(chownat(file, c"", uid, gid, AtFlags::EMPTY_PATH)?)
    }

    pub(super) fn change_owner_of_path(
        &self,
        memory: &GuestMemory<'_>,
        directory: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
        owner: Owner,
    ) -> Result<()> {
        let path = paths::argument(memory, path)?;
        let directory = self.descriptors.directory(directory)?.as_ref().as_fd();
        let follow = follow(lookup);
        let (uid, gid) = owner.ids();
        Ok(match self.paths.late_mounts() {
            LateMounts::Impossible => chownat(directory, &path, uid, gid, paths::flags(follow)),
            LateMounts::Checked(_) => {
                let found = self.paths.name(directory, &path, follow)?;
                chownat(found, c"", uid, gid, AtFlags::EMPTY_PATH)
            }
        }?)
    }

    pub(super) fn change_times(&self, fd: types::Fd, change: &Change) -> Result<()> {
        let file = self.descriptors.get(fd)?.own()?;
        Ok(futimens(file, change.times())?)
    }

    pub(super) fn may_access(
        &self,
        memory: &GuestMemory<'_>,
        directory: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
        access: types::Access,
        flags: types::Accessflags,
    ) -> Result<()> {
        let path = paths::argument(memory, path)?;
        let directory = self.descriptors.directory(directory)?.as_ref().as_fd();
        let follow = follow(lookup);
        let mut wanted = rustix::fs::Access::empty();
        for (flag, kernel) in [
            (types::Access::READ, rustix::fs::Access::READ_OK),
            (types::Access::WRITE, rustix::fs::Access::WRITE_OK),
            (types::Access::EXECUTE, rustix::fs::Access::EXEC_OK),
        ] {
            wanted.set(kernel, access.contains(flag));
        }
        let mut kernel = AtFlags::empty();
        kernel.set(
            AtFlags::EACCESS,
            flags.contains(types::Accessflags::EFFECTIVE),
        );
        let answer = match self.paths.late_mounts() {
            LateMounts::Impossible => {
                sys::access(directory, &path, wanted, kernel | paths::flags(follow))
            }
            LateMounts::Checked(_) => self.paths.name(directory, &path, follow).and_then(|found| {
                sys::access(found.as_fd(), c"", wanted, kernel | AtFlags::EMPTY_PATH)
            }),
        };
        let Err(error) = answer else {
            return Ok(());
        };
        match self.stream_behind(error, directory, &path, follow) {
            Some(fd) => self.may_access_stream(fd, wanted),
            None => Err(error.into()),
        }
    }

    /// Whether `/dev/stdout` and the like may be opened for what is wanted: as the descriptor is.
    fn may_access_stream(&self, fd: types::Fd, wanted: rustix::fs::Access) -> Result<()> {
        let file = self.descriptors.get(fd).map_err(|_| Errno::Noent)?;
        let mode = fcntl_getfl(file)? & OFlags::ACCMODE;
        let reads = mode == OFlags::RDONLY || mode == OFlags::RDWR;
        let writes = mode == OFlags::WRONLY || mode == OFlags::RDWR;
        let refused = wanted.contains(rustix::fs::Access::EXEC_OK)
            || wanted.contains(rustix::fs::Access::READ_OK) && !reads
            || wanted.contains(rustix::fs::Access::WRITE_OK) && !writes;
        if refused {
            return Err(Kernel::ACCESS.into());
        }
        Ok(())
    }

    pub(super) fn file_system(&self, fd: types::Fd) -> Result<types::Statvfs> {
        Ok(file_system(&fstatvfs(self.descriptors.get(fd)?)?))
    }

    pub(super) fn file_system_of_path(
        &self,
        memory: &GuestMemory<'_>,
        directory: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<types::Statvfs> {
        let path = paths::argument(memory, path)?;
        let directory = self.descriptors.directory(directory)?.as_ref().as_fd();
        let found = self.paths.name(directory, &path, Follow::Yes)?;
        Ok(file_system(&fstatvfs(found)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Fstflags as F;

    #[test]
    fn times_keep_their_sign_and_nanoseconds() {
        let change =
            Change::new((-1, 999_999_999), (i64::MIN, 0), F::ATIM | F::MTIM).expect("times");
        let times = change.times();
        assert_eq!(times.last_access.tv_sec, -1);
        assert_eq!(times.last_access.tv_nsec, 999_999_999);
        assert_eq!(times.last_modification.tv_sec, i64::MIN);
    }

    #[test]
    fn nanoseconds_that_stand_for_the_present_are_no_nanoseconds() {
        for nanoseconds in [SECOND, UTIME_NOW as u32, UTIME_OMIT as u32, u32::MAX] {
            let change = Change::new((0, nanoseconds), (0, 0), F::ATIM).expect("for the kernel");
            assert_eq!(change.times().last_access.tv_nsec, SECOND.into());
        }
        // Not looked at where no time is set.
        let change = Change::new((0, u32::MAX), (0, 0), F::MTIM).expect("times");
        assert_eq!(change.times().last_access.tv_nsec, UTIME_OMIT);
        assert!(Change::new((0, 0), (0, 0), F::ATIM | F::ATIM_NOW).is_err());
    }

    #[test]
    fn an_id_of_all_ones_is_left_as_it_is() {
        let owner = Owner {
            uid: u32::MAX,
            gid: 5,
        };
        assert_eq!(owner.ids(), (None, Some(Gid::from_raw(5))));
    }
}
