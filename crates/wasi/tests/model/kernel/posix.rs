//! What preview 1 cannot say: modes, owners, locks, ids, in the kernel's calls.

use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, fcntl};
use rustix::{
    fs::{self, AtFlags, FileType, FlockOperation, Mode, OFlags, StatVfsMountFlags},
    io::Errno,
    process::{getegid, geteuid, getgid, getgroups, getuid},
};
use wasm_interp_wasi::ModesBy;

use super::{
    Answer, KernelSide, done, file_system,
    waits::opening_waits,
    words::{
        creates_a_directory, kernels, nofollow, open_flags, owner, record, signed_stamps,
        without_set_id,
    },
};
use crate::{
    operation::{Lock, Owner, Posix},
    outcome::{FileId, Outcome, Whole},
};

/// The error that fchmodat2(2) has for a link that is not followed, or the C library without it.
fn of_no_link(directory: impl AsFd, path: &[u8]) -> Result<(), Errno> {
    let name = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = fs::openat(directory, path, name, Mode::empty())?;
    if FileType::from_raw_mode(fs::fstat(&found)?.st_mode) != FileType::Symlink {
        return Ok(());
    }
    let read_only = fs::fstatvfs(&found)?
        .f_flag
        .contains(StatVfsMountFlags::RDONLY);
    match ModesBy::of_kernel() {
        ModesBy::Fchmodat2 if read_only => Err(Errno::ROFS),
        ModesBy::Fchmodat2 | ModesBy::Fchmodat => Err(Errno::OPNOTSUPP),
    }
}

impl KernelSide {
    pub(super) fn posix(&mut self, operation: &Posix) -> Answer {
        match operation {
            Posix::Open {
                at,
                follow,
                path,
                flags,
                access,
                status,
                mode,
            } => {
                if creates_a_directory(*flags) && self.fd(*at).is_err() {
                    return Ok(Outcome::Fails);
                }
                let (directory, path) = self.place(*at, path)?;
                if creates_a_directory(*flags) {
                    return Err(Errno::INVAL);
                }
                let flags = open_flags(*follow, *flags, *access, *status);
                let mode = if flags.contains(OFlags::CREATE) {
                    without_set_id(*mode)?
                } else {
                    Mode::empty()
                };
                if opening_waits(directory, path, flags) {
                    return Ok(Outcome::WouldWait);
                }
                let fd = fs::openat(directory, path, flags, mode)?;
                Ok(Outcome::Number(self.insert(fd).into()))
            }
            Posix::MakeDirectory { at, path, mode } => {
                let (directory, path) = self.place(*at, path)?;
                done(fs::mkdirat(directory, path, Mode::from_raw_mode(*mode)))
            }
            Posix::MakeFifo { at, path, mode } => {
                let (directory, path) = self.place(*at, path)?;
                let mode = without_set_id(*mode)?;
                done(fs::mknodat(directory, path, FileType::Fifo, mode, 0))
            }
            Posix::Stat { fd } => Ok(self.whole(&fs::fstat(self.fd(*fd)?)?)),
            Posix::StatAt { at, follow, path } => {
                let (directory, path) = self.place(*at, path)?;
                Ok(self.whole(&fs::statat(directory, path, nofollow(*follow))?))
            }
            Posix::ChangeMode { fd, mode } => {
                done(fs::fchmod(self.fd(*fd)?, without_set_id(*mode)?))
            }
            Posix::ChangeModeAt {
                at,
                follow,
                path,
                mode,
            } => {
                let (directory, path) = self.place(*at, path)?;
                let mode = without_set_id(*mode)?;
                if !follow {
                    of_no_link(directory, path)?;
                }
                done(fs::chmodat(directory, path, mode, AtFlags::empty()))
            }
            Posix::ChangeOwner { fd, user, group } => {
                let (user, group) = owner(*user, *group);
                done(fs::fchown(self.fd(*fd)?, user, group))
            }
            Posix::ChangeOwnerAt {
                at,
                follow,
                path,
                user,
                group,
            } => {
                let (directory, path) = self.place(*at, path)?;
                let (user, group) = owner(*user, *group);
                done(fs::chownat(directory, path, user, group, nofollow(*follow)))
            }
            Posix::SetTimes {
                fd,
                access,
                modification,
                flags,
            } => {
                let stamps = signed_stamps(*access, *modification, *flags)?;
                done(fs::futimens(self.fd(*fd)?, &stamps))
            }
            Posix::SetTimesAt {
                at,
                follow,
                path,
                access,
                modification,
                flags,
            } => {
                let stamps = signed_stamps(*access, *modification, *flags)?;
                let (directory, path) = self.place(*at, path)?;
                done(fs::utimensat(directory, path, &stamps, nofollow(*follow)))
            }
            Posix::Access {
                at,
                follow,
                path,
                access,
                effective,
            } => {
                let (directory, path) = self.place(*at, path)?;
                let access = fs::Access::from_bits_retain((*access).into());
                let mut flags = nofollow(*follow);
                if *effective {
                    flags |= AtFlags::EACCESS;
                }
                done(fs::accessat(directory, path, access, flags))
            }
            Posix::FileSystem { fd } => Ok(file_system(&fs::fstatvfs(self.fd(*fd)?)?)),
            Posix::FileSystemAt { at, path } => {
                let (directory, path) = self.place(*at, path)?;
                let fd = fs::openat(directory, path, OFlags::PATH, Mode::empty())?;
                Ok(file_system(&fs::fstatvfs(fd)?))
            }
            Posix::Umask { mask } => {
                let before = rustix::process::umask(Mode::from_raw_mode(*mask));
                Ok(Outcome::Number(before.as_raw_mode().into()))
            }
            Posix::Lock { fd, operation } => {
                let operation = match operation {
                    Lock::Read => FlockOperation::NonBlockingLockShared,
                    Lock::Write => FlockOperation::NonBlockingLockExclusive,
                    Lock::Unlock => FlockOperation::NonBlockingUnlock,
                };
                done(fs::flock(self.fd(*fd)?, operation))
            }
            Posix::SetLock { fd, owner, range } => {
                let lock = record(range);
                let call = match owner {
                    Owner::Process => FcntlArg::F_SETLK(&lock),
                    Owner::Description => FcntlArg::F_OFD_SETLK(&lock),
                };
                fcntl(self.fd(*fd)?, call).map_err(kernels)?;
                Ok(Outcome::Done)
            }
            Posix::AskLock { fd, owner, range } => {
                let mut lock = record(range);
                let call = match owner {
                    Owner::Process => FcntlArg::F_GETLK(&mut lock),
                    Owner::Description => FcntlArg::F_OFD_GETLK(&mut lock),
                };
                fcntl(self.fd(*fd)?, call).map_err(kernels)?;
                let numbers = match i32::from(lock.l_type) {
                    nix::libc::F_UNLCK => vec![2],
                    kind => vec![
                        u64::from(kind == nix::libc::F_WRLCK),
                        lock.l_start.cast_unsigned(),
                        lock.l_len.cast_unsigned(),
                    ],
                };
                Ok(Outcome::Numbers(numbers))
            }
            Posix::Ids => {
                let ids = [
                    getuid().as_raw(),
                    geteuid().as_raw(),
                    getgid().as_raw(),
                    getegid().as_raw(),
                ];
                let groups = getgroups()?;
                let groups = groups.iter().map(|group| group.as_raw());
                let all = ids.into_iter().chain(groups);
                Ok(Outcome::Numbers(all.map(u64::from).collect()))
            }
        }
    }

    pub(super) fn whole(&self, stat: &fs::Stat) -> Outcome {
        let time = |seconds, nanoseconds: u64| self.clock.signed(seconds, nanoseconds.into());
        Outcome::Whole(Whole {
            id: FileId {
                device: stat.st_dev,
                inode: stat.st_ino,
            },
            links: stat.st_nlink,
            mode: stat.st_mode,
            owner: (stat.st_uid, stat.st_gid),
            size: stat.st_size.cast_unsigned(),
            numbers: [
                stat.st_blksize.cast_unsigned(),
                stat.st_blocks.cast_unsigned(),
                stat.st_rdev,
            ],
            times: [
                time(stat.st_atime, stat.st_atime_nsec),
                time(stat.st_mtime, stat.st_mtime_nsec),
                time(stat.st_ctime, stat.st_ctime_nsec),
            ],
        })
    }
}
