//! What preview 1 says of a file: type, identity, size and times.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use rustix::{
    fs::{FileType, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, fstat},
    net::{SocketType, sockopt::socket_type},
};

use crate::{
    abi::types,
    errno::{Errno, Result},
};

/// A FIFO is a stream socket: preview 1 has no other word, and the C library knows it by that.
#[must_use]
pub fn filetype(mode: u32) -> types::Filetype {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => types::Filetype::RegularFile,
        FileType::Directory => types::Filetype::Directory,
        FileType::Symlink => types::Filetype::SymbolicLink,
        FileType::CharacterDevice => types::Filetype::CharacterDevice,
        FileType::BlockDevice => types::Filetype::BlockDevice,
        FileType::Fifo | FileType::Socket => types::Filetype::SocketStream,
        FileType::Unknown => types::Filetype::Unknown,
    }
}

/// As [`filetype`], of what is open: a socket can be asked for more.
pub(crate) fn filetype_of(file: impl AsFd, mode: u32) -> types::Filetype {
    let socket = FileType::from_raw_mode(mode) == FileType::Socket;
    if socket && socket_type(file) == Ok(SocketType::DGRAM) {
        types::Filetype::SocketDgram
    } else {
        filetype(mode)
    }
}

/// Nanoseconds since 1970. Preview 1 has no sign, so what is before is 0; what is beyond 2554 is the
/// last time that it has.
fn timestamp(seconds: i64, nanoseconds: u64) -> u64 {
    u64::try_from(seconds).map_or(0, |seconds| {
        seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(nanoseconds)
    })
}

/// The kernel's answer in preview 1's words.
#[must_use]
#[allow(clippy::unnecessary_cast)] // The number of links has 32 bits on arm64.
pub fn filestat(stat: &Stat) -> types::Filestat {
    types::Filestat {
        dev: stat.st_dev,
        ino: stat.st_ino,
        filetype: filetype(stat.st_mode),
        nlink: stat.st_nlink as u64,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        atim: timestamp(stat.st_atime, stat.st_atime_nsec),
        mtim: timestamp(stat.st_mtime, stat.st_mtime_nsec),
        ctim: timestamp(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// [`filestat`] of an open file.
pub(crate) fn of_open(file: impl AsFd) -> Result<types::Filestat> {
    let stat = fstat(&file)?;
    Ok(types::Filestat {
        filetype: filetype_of(file, stat.st_mode),
        ..filestat(&stat)
    })
}

/// The times to set, as utimensat(2) has them.
pub(crate) fn times(
    atim: types::Timestamp,
    mtim: types::Timestamp,
    flags: types::Fstflags,
) -> Result<Timestamps> {
    use types::Fstflags as F;
    let time = |value: u64, set: F, now: F| {
        let special = |nanoseconds| Timespec {
            tv_sec: 0,
            tv_nsec: nanoseconds,
        };
        match (flags.contains(set), flags.contains(now)) {
            (true, true) => Err(Errno::Inval),
            (false, true) => Ok(special(UTIME_NOW)),
            (false, false) => Ok(special(UTIME_OMIT)),
            (true, false) => Ok(timespec(value)),
        }
    };
    Ok(Timestamps {
        last_access: time(atim, F::ATIM, F::ATIM_NOW)?,
        last_modification: time(mtim, F::MTIM, F::MTIM_NOW)?,
    })
}

/// Whether both times stay as they are.
pub(crate) fn sets_nothing(times: &Timestamps) -> bool {
    let both = [&times.last_access, &times.last_modification];
    both.iter().all(|time| time.tv_nsec == UTIME_OMIT)
}

/// A duration or time in the kernel's words.
pub(crate) fn timespec(nanoseconds: u64) -> Timespec {
    Timespec {
        // At most 2^64 / 10^9.
        tv_sec: (nanoseconds / 1_000_000_000).cast_signed(),
        tv_nsec: (nanoseconds % 1_000_000_000).cast_signed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_are_zero_and_late_ones_do_not_wrap() {
        assert_eq!(timestamp(-1, 999_999_999), 0);
        assert_eq!(timestamp(i64::MIN, 0), 0);
        assert_eq!(timestamp(1, 5), 1_000_000_005);
        assert_eq!(timestamp(i64::MAX, 0), u64::MAX);
    }

    #[test]
    fn a_time_is_given_or_now_but_not_both() {
        use types::Fstflags as F;
        assert!(matches!(
            times(0, 0, F::ATIM | F::ATIM_NOW),
            Err(Errno::Inval)
        ));
        let set = times(1_500_000_000, 0, F::ATIM | F::MTIM_NOW).expect("times");
        assert_eq!(set.last_access.tv_sec, 1);
        assert_eq!(set.last_access.tv_nsec, 500_000_000);
        assert_eq!(set.last_modification.tv_nsec, UTIME_NOW);
    }
}
