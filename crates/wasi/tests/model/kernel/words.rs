//! Preview 1's flags, times, kinds and errors in the kernel's words, and back.

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT},
    io::Errno,
    process::{Gid, Uid},
};

use super::super::{
    exemptions::Exemption,
    operation::{Access, Lock, Range, open, status, times},
};

pub(super) fn nofollow(follow: bool) -> AtFlags {
    if follow {
        AtFlags::empty()
    } else {
        AtFlags::SYMLINK_NOFOLLOW
    }
}

pub(super) fn status_bits(status: u16) -> OFlags {
    [
        (status::APPEND, OFlags::APPEND),
        (status::DSYNC, OFlags::DSYNC),
        (status::NONBLOCK, OFlags::NONBLOCK),
        (status::RSYNC, OFlags::RSYNC),
        (status::SYNC, OFlags::SYNC),
    ]
    .into_iter()
    .filter(|(bit, _)| status & bit != 0)
    .map(|(_, flag)| flag)
    .collect()
}

pub(super) fn status_flags(flags: OFlags) -> u16 {
    if flags.contains(OFlags::SYNC) {
        Exemption::SyncFlags.met();
    }
    [
        (status::APPEND, OFlags::APPEND),
        (status::DSYNC, OFlags::DSYNC),
        (status::NONBLOCK, OFlags::NONBLOCK),
        (status::RSYNC, OFlags::RSYNC),
        (status::SYNC, OFlags::SYNC),
    ]
    .into_iter()
    .filter(|&(_, flag)| flags.contains(flag))
    .map(|(bit, _)| bit)
    .sum()
}

/// Refused since Linux 6.4, which made a file before.
pub(super) fn creates_a_directory(flags: u16) -> bool {
    let both = open::CREATE | open::DIRECTORY;
    flags & both == both
}

pub(super) fn open_flags(follow: bool, flags: u16, access: Access, status: u16) -> OFlags {
    let mut all = status_bits(status) | OFlags::CLOEXEC | OFlags::NOCTTY;
    all |= match access {
        Access::Read => OFlags::RDONLY,
        Access::Write => OFlags::WRONLY,
        Access::ReadWrite => OFlags::RDWR,
        Access::Name if flags & (open::CREATE | open::TRUNCATE) != 0 => OFlags::RDONLY,
        Access::Name => {
            Exemption::NameOnly.met();
            OFlags::PATH
        }
    };
    for (bit, flag) in [
        (open::CREATE, OFlags::CREATE),
        (open::DIRECTORY, OFlags::DIRECTORY),
        (open::EXCLUSIVE, OFlags::EXCL),
        (open::TRUNCATE, OFlags::TRUNC),
    ] {
        if flags & bit != 0 {
            all |= flag;
        }
    }
    if !follow {
        all |= OFlags::NOFOLLOW;
    }
    all
}

pub(super) fn stamps(access: u64, modification: u64, flags: u16) -> Result<Timestamps, Errno> {
    let stamp = |set: bool, now: bool, time: u64| {
        let nanoseconds = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
        match (set, now) {
            (true, true) => Err(Errno::INVAL),
            (false, true) => Ok(nanoseconds(UTIME_NOW)),
            (false, false) => Ok(nanoseconds(UTIME_OMIT)),
            (true, false) => Ok(Timespec {
                tv_sec: i64::try_from(time / 1_000_000_000).expect("it fits"),
                tv_nsec: i64::try_from(time % 1_000_000_000).expect("it fits"),
            }),
        }
    };
    let has = |bit| flags & bit != 0;
    Ok(Timestamps {
        last_access: stamp(has(times::ACCESS), has(times::ACCESS_NOW), access)?,
        last_modification: stamp(
            has(times::MODIFICATION),
            has(times::MODIFICATION_NOW),
            modification,
        )?,
    })
}

pub(super) fn signed_stamps(
    access: (i64, u32),
    modification: (i64, u32),
    flags: u16,
) -> Result<Timestamps, Errno> {
    // Which of them are set, and which to the present, is said as in preview 1.
    let mut stamps = stamps(0, 0, flags)?;
    for (bit, stamp, (seconds, nanoseconds)) in [
        (times::ACCESS, &mut stamps.last_access, access),
        (
            times::MODIFICATION,
            &mut stamps.last_modification,
            modification,
        ),
    ] {
        if flags & bit != 0 {
            *stamp = Timespec {
                tv_sec: seconds,
                tv_nsec: nanoseconds.into(),
            };
        }
    }
    Ok(stamps)
}

/// No file of a guest's has a set-id bit.
pub(super) fn without_set_id(mode: u32) -> Result<Mode, Errno> {
    if mode & 0o6000 != 0 {
        return Err(Errno::PERM);
    }
    Ok(Mode::from_raw_mode(mode))
}

pub(super) fn owner(user: u32, group: u32) -> (Option<Uid>, Option<Gid>) {
    let user = (user != u32::MAX).then(|| Uid::from_raw(user));
    (user, (group != u32::MAX).then(|| Gid::from_raw(group)))
}

pub(super) fn record(range: &Range) -> nix::libc::flock {
    let kind = match range.lock {
        Lock::Read => nix::libc::F_RDLCK,
        Lock::Write => nix::libc::F_WRLCK,
        Lock::Unlock => nix::libc::F_UNLCK,
    };
    nix::libc::flock {
        l_type: i16::try_from(kind).expect("it is small"),
        l_whence: range.whence.into(),
        l_start: range.start,
        l_len: range.length,
        l_pid: 0,
    }
}

pub(super) fn kernels(error: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(error as i32)
}

/// Preview 1's `filetype`. It has no FIFO, and C's library takes a stream socket for one.
pub(super) fn kind(kind: FileType) -> u8 {
    match kind {
        FileType::BlockDevice => 1,
        FileType::CharacterDevice => 2,
        FileType::Directory => 3,
        FileType::RegularFile => 4,
        FileType::Socket | FileType::Fifo => {
            Exemption::FifoAndSocket.met();
            6
        }
        FileType::Symlink => 7,
        FileType::Unknown => 0,
    }
}

/// Preview 1's number of an error of Linux.
pub(super) fn code(errno: Errno) -> u16 {
    const CODES: &[(Errno, u16)] = &[
        (Errno::TOOBIG, 1),
        (Errno::ACCESS, 2),
        (Errno::AGAIN, 6),
        (Errno::BADF, 8),
        (Errno::BUSY, 10),
        (Errno::DQUOT, 19),
        (Errno::EXIST, 20),
        (Errno::FAULT, 21),
        (Errno::FBIG, 22),
        (Errno::ILSEQ, 25),
        (Errno::INTR, 27),
        (Errno::INVAL, 28),
        (Errno::IO, 29),
        (Errno::ISDIR, 31),
        (Errno::LOOP, 32),
        (Errno::MFILE, 33),
        (Errno::MLINK, 34),
        (Errno::NAMETOOLONG, 37),
        (Errno::NFILE, 41),
        (Errno::NODEV, 43),
        (Errno::NOENT, 44),
        (Errno::NOMEM, 48),
        (Errno::NOSPC, 51),
        (Errno::NOSYS, 52),
        (Errno::NOTDIR, 54),
        (Errno::NOTEMPTY, 55),
        (Errno::NOTSUP, 58),
        (Errno::NOTTY, 59),
        (Errno::NXIO, 60),
        (Errno::OVERFLOW, 61),
        (Errno::PERM, 63),
        (Errno::PIPE, 64),
        (Errno::ROFS, 69),
        (Errno::SPIPE, 70),
        (Errno::STALE, 72),
        (Errno::TXTBSY, 74),
        (Errno::XDEV, 75),
    ];
    let code = CODES.iter().find(|(known, _)| *known == errno);
    code.unwrap_or_else(|| panic!("no code for {errno:?}")).1
}
