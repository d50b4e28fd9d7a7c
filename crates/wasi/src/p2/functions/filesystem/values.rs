//! What the interface says of files, and what the kernel says: paths, types, times, flags.
#![forbid(unsafe_code)]

use std::{
    ffi::CString,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use rustix::{
    fs::{FileType, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT},
    io::Errno as Kernel,
};

use crate::{
    limits,
    p2::{
        bindings::wasi::{
            clocks::wall_clock::Datetime,
            filesystem::types::{
                DescriptorStat, DescriptorType, MetadataHashValue, NewTimestamp, PathFlags,
            },
        },
        failure::FileResult,
    },
    paths::Follow,
};

/// A path that the guest passes: relative to a directory, without a zero byte.
pub(super) fn path(path: &str) -> FileResult<CString> {
    if path.len() > limits::PATH as usize {
        return Err(Kernel::NAMETOOLONG.into());
    }
    if path.starts_with('/') {
        return Err(Kernel::PERM.into());
    }
    text(path)
}

pub(super) fn text(text: &str) -> FileResult<CString> {
    CString::new(text).map_err(|_| Kernel::INVAL.into())
}

pub(super) fn follow(flags: PathFlags) -> Follow {
    if flags.contains(PathFlags::SYMLINK_FOLLOW) {
        Follow::Yes
    } else {
        Follow::No
    }
}

pub(super) fn kind(kind: FileType) -> DescriptorType {
    match kind {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::Fifo => DescriptorType::Fifo,
        FileType::Socket => DescriptorType::Socket,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::Unknown => DescriptorType::Unknown,
    }
}

/// The interface has no time before 1970.
pub(super) fn datetime(seconds: i64, nanoseconds: u64) -> Option<Datetime> {
    Some(Datetime {
        seconds: u64::try_from(seconds).ok()?,
        nanoseconds: u32::try_from(nanoseconds).ok()?,
    })
}

#[allow(clippy::unnecessary_cast)] // The number of links has 32 bits on arm64.
pub(super) fn stat(stat: &Stat) -> DescriptorStat {
    DescriptorStat {
        type_: kind(FileType::from_raw_mode(stat.st_mode)),
        link_count: stat.st_nlink as u64,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        data_access_timestamp: datetime(stat.st_atime, stat.st_atime_nsec),
        data_modification_timestamp: datetime(stat.st_mtime, stat.st_mtime_nsec),
        status_change_timestamp: datetime(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// The same for the same file. It tells the guest neither the device nor the inode.
pub(super) fn metadata_hash(stat: &Stat) -> MetadataHashValue {
    let mut hasher = DefaultHasher::new();
    (stat.st_dev, stat.st_ino).hash(&mut hasher);
    let lower = hasher.finish();
    hasher.write_u8(1);
    MetadataHashValue {
        lower,
        upper: hasher.finish(),
    }
}

/// The times to set, as utimensat(2) has them.
pub(super) fn times(access: NewTimestamp, modification: NewTimestamp) -> FileResult<Timestamps> {
    let time = |new: NewTimestamp| {
        let special = |nanoseconds| Timespec {
            tv_sec: 0,
            tv_nsec: nanoseconds,
        };
        Ok(match new {
            NewTimestamp::NoChange => special(UTIME_OMIT),
            NewTimestamp::Now => special(UTIME_NOW),
            NewTimestamp::Timestamp(time) if time.nanoseconds >= 1_000_000_000 => {
                return Err(Kernel::INVAL);
            }
            NewTimestamp::Timestamp(time) => Timespec {
                tv_sec: i64::try_from(time.seconds).map_err(|_| Kernel::OVERFLOW)?,
                tv_nsec: time.nanoseconds.into(),
            },
        })
    };
    Ok(Timestamps {
        last_access: time(access)?,
        last_modification: time(modification)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::p2::failure::FileFailure;

    fn error<T: std::fmt::Debug>(result: FileResult<T>) -> Kernel {
        match result {
            Err(FileFailure::Failed(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_relative_paths_without_zeros_pass() {
        assert_eq!(path("a/../b").expect("a path").as_c_str(), c"a/../b");
        assert_eq!(error(path("/etc/passwd")), Kernel::PERM);
        assert_eq!(error(path("a\0b")), Kernel::INVAL);
        assert_eq!(error(path(&"a".repeat(4096))), Kernel::NAMETOOLONG);
    }

    #[test]
    fn times_that_are_none_are_refused() {
        let at = |seconds, nanoseconds| {
            NewTimestamp::Timestamp(Datetime {
                seconds,
                nanoseconds,
            })
        };
        let late = times(at(u64::MAX, 0), NewTimestamp::Now);
        assert_eq!(error(late), Kernel::OVERFLOW);
        let long = times(NewTimestamp::NoChange, at(1, 1_000_000_000));
        assert_eq!(error(long), Kernel::INVAL);
        let set = times(at(5, 7), NewTimestamp::NoChange).expect("times");
        assert_eq!((set.last_access.tv_sec, set.last_access.tv_nsec), (5, 7));
        assert_eq!(set.last_modification.tv_nsec, UTIME_OMIT);
    }
}
