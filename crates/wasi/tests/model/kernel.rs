//! The oracle: carries operations out by the system calls that a native program would make.
//!
//! Written from preview 1's meaning of each call and Linux's manual pages, and shares no code with
//! the host functions under test.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, fcntl};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{
    self, Advice, AtFlags, FallocateFlags, FileType, FlockOperation, Mode, OFlags, RawDir,
    SeekFrom, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
};
use rustix::io::{self, Errno, pread, preadv, pwrite, pwritev, readv, writev};
use rustix::process::{Gid, Uid, getegid, geteuid, getgid, getgroups, getuid};

use super::exemptions::Exemption;
use super::operation::{
    Access, Cookie, Lock, Name, Operation, Owner, Posix, Range, open, pattern, status, times,
};
use super::outcome::{Clock, DIRENT, FileId, Outcome, Stat, Status, Whole, entries};

/// The number of the first descriptor that is no standard stream: the root directory.
pub(crate) const ROOT: u32 = 3;

/// What a write to a FIFO takes at once, or not at all.
const PIPE_BUF: u64 = 4096;

/// The longest path of Linux, with its final zero.
const PATH_MAX: usize = 4096;

/// The last second of preview 1's times, in the year 2554.
const LAST_SECOND: i64 = (u64::MAX / 1_000_000_000).cast_signed();

/// How much of a directory is read at once, as C's libraries do.
const LISTING: usize = 16 * 1024;

struct Descriptor {
    fd: OwnedFd,
    /// The root directory, which preview 1 lists although its descriptor is only a name.
    is_preopen: bool,
    /// Where listings may go on.
    cookies: Vec<u64>,
    listing: Option<Listing>,
}

impl Descriptor {
    fn new(fd: OwnedFd, is_preopen: bool) -> Self {
        Self {
            fd,
            is_preopen,
            cookies: Vec::new(),
            listing: None,
        }
    }
}

/// The part of a directory that was read last. What is removed or made meanwhile shows from the
/// next part on, or from the start.
struct Listing {
    /// The directory, if the descriptor is only its name.
    opened: Option<OwnedFd>,
    /// The cookie of the first entry.
    start: u64,
    /// The cookie after each entry, and what preview 1 writes of it.
    entries: Vec<(u64, Vec<u8>)>,
}

impl Listing {
    /// The number of entries up to a cookie, if it is one of this part.
    fn find(&self, cookie: u64) -> Option<usize> {
        if cookie == self.start {
            return Some(0);
        }
        let at = self.entries.iter().position(|(next, _)| *next == cookie)?;
        Some(at + 1)
    }

    /// Reads the part at the kernel's position.
    fn fill(&mut self, fd: &OwnedFd, start: u64) -> Result<(), Errno> {
        self.start = start;
        self.entries.clear();
        let mut buffer = vec![MaybeUninit::uninit(); LISTING];
        let mut directory = RawDir::new(self.opened.as_ref().unwrap_or(fd), &mut buffer);
        while let Some(entry) = directory.next() {
            let entry = match entry {
                // As in C's readdir, a directory that was removed has no entries.
                Err(Errno::NOENT) => break,
                entry => entry?,
            };
            let name = entry.file_name().to_bytes();
            let length = u32::try_from(name.len()).expect("a name is short");
            let mut bytes = Vec::new();
            bytes.extend(entry.next_entry_cookie().to_le_bytes());
            bytes.extend(entry.ino().to_le_bytes());
            bytes.extend(length.to_le_bytes());
            bytes.extend([kind(entry.file_type()), 0, 0, 0]);
            bytes.extend(name);
            let next = entry.next_entry_cookie();
            self.entries.push((next, bytes));
            if directory.is_buffer_empty() {
                break;
            }
        }
        Ok(())
    }
}

/// One process's view of its tree, with the descriptors that it has opened.
pub(crate) struct KernelSide {
    table: BTreeMap<u32, Descriptor>,
    clock: Clock,
}

type Answer = Result<Outcome, Errno>;

impl KernelSide {
    /// Of the calling thread's root directory.
    pub(crate) fn new(clock: Clock) -> Self {
        let root = fs::open("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        let root = Descriptor::new(root.expect("the root directory opens"), true);
        Self {
            table: BTreeMap::from([(ROOT, root)]),
            clock,
        }
    }

    /// The open descriptors, and whether each is a directory.
    pub(crate) fn descriptors(&self) -> Vec<(u32, bool)> {
        let is_directory = |fd: &OwnedFd| {
            fs::fstat(fd)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
        };
        let all = self.table.iter();
        all.map(|(&number, open)| (number, is_directory(&open.fd)))
            .collect()
    }

    pub(crate) fn run(&mut self, operation: &Operation) -> Outcome {
        self.answer(operation)
            .unwrap_or_else(|errno| Outcome::Failed(code(errno)))
    }

    fn fd(&self, number: u32) -> Result<&OwnedFd, Errno> {
        let open = self.table.get(&number).ok_or(Errno::BADF)?;
        Ok(&open.fd)
    }

    /// A directory's descriptor and a path, as preview 1 allows them: it has no absolute paths.
    fn place<'a>(&'a self, at: u32, path: &'a Name) -> Result<(&'a OwnedFd, &'a [u8]), Errno> {
        if path.0.len() >= PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        if path.0.first() == Some(&b'/') {
            Exemption::AbsolutePath.met();
            return Err(Errno::PERM);
        }
        Ok((self.fd(at)?, &path.0))
    }

    fn answer(&mut self, operation: &Operation) -> Answer {
        match operation {
            Operation::Open {
                at,
                follow,
                path,
                flags,
                access,
                status,
            } => {
                if creates_a_directory(*flags) && self.fd(*at).is_err() {
                    return Ok(Outcome::Fails);
                }
                let (directory, path) = self.place(*at, path)?;
                if creates_a_directory(*flags) {
                    return Err(Errno::INVAL);
                }
                let flags = open_flags(*follow, *flags, *access, *status);
                if opening_waits(directory, path, flags) {
                    return Ok(Outcome::WouldWait);
                }
                let mode = if flags.contains(OFlags::CREATE) {
                    Exemption::NoMode.met();
                    Mode::from_raw_mode(0o666)
                } else {
                    Mode::empty()
                };
                let fd = fs::openat(directory, path, flags, mode)?;
                Ok(Outcome::Number(self.insert(fd).into()))
            }
            Operation::Close { fd } => {
                self.table.remove(fd).ok_or(Errno::BADF)?;
                Ok(Outcome::Done)
            }
            Operation::Renumber { fd, to } => {
                self.fd(*fd)?;
                if self.fd(*to).is_err() {
                    Exemption::RenumberToClosed.met();
                    return Err(Errno::BADF);
                }
                let moved = self.table.remove(fd).ok_or(Errno::BADF)?;
                self.table.insert(*to, moved);
                Ok(Outcome::Done)
            }
            Operation::Read { fd, sizes } => {
                let fd = self.fd(*fd)?;
                if reading_waits(fd) {
                    return Ok(Outcome::WouldWait);
                }
                read(
                    sizes,
                    |buffer| io::read(fd, buffer),
                    |slices| readv(fd, slices),
                )
            }
            Operation::ReadAt { fd, sizes, offset } => {
                let fd = self.fd(*fd)?;
                read(
                    sizes,
                    |buffer| pread(fd, buffer, *offset),
                    |slices| preadv(fd, slices, *offset),
                )
            }
            Operation::Write { fd, sizes, fill } => {
                let fd = self.fd(*fd)?;
                if writing_waits(fd, sizes) {
                    return Ok(Outcome::WouldWait);
                }
                write(
                    sizes,
                    *fill,
                    |buffer| io::write(fd, buffer),
                    |slices| writev(fd, slices),
                )
            }
            Operation::WriteAt {
                fd,
                sizes,
                fill,
                offset,
            } => {
                let fd = self.fd(*fd)?;
                write(
                    sizes,
                    *fill,
                    |buffer| pwrite(fd, buffer, *offset),
                    |slices| pwritev(fd, slices, *offset),
                )
            }
            Operation::Seek { fd, offset, whence } => {
                if let Some(open) = self.table.get_mut(fd) {
                    open.listing = None;
                }
                let from = match whence {
                    0 => SeekFrom::Start(offset.cast_unsigned()),
                    1 => SeekFrom::Current(*offset),
                    _ => SeekFrom::End(*offset),
                };
                Ok(Outcome::Number(fs::seek(self.fd(*fd)?, from)?))
            }
            Operation::Tell { fd } => Ok(Outcome::Number(fs::tell(self.fd(*fd)?)?)),
            Operation::Truncate { fd, size } => done(fs::ftruncate(self.fd(*fd)?, *size)),
            Operation::Allocate { fd, offset, length } => {
                let flags = FallocateFlags::empty();
                done(fs::fallocate(self.fd(*fd)?, flags, *offset, *length))
            }
            Operation::Advise {
                fd,
                offset,
                length,
                advice,
            } => {
                let advice = match advice {
                    0 => Advice::Normal,
                    1 => Advice::Sequential,
                    2 => Advice::Random,
                    3 => Advice::WillNeed,
                    4 => Advice::DontNeed,
                    _ => Advice::NoReuse,
                };
                let length = NonZeroU64::new(*length);
                done(fs::fadvise(self.fd(*fd)?, *offset, length, advice))
            }
            Operation::Sync { fd } => done(fs::fsync(self.fd(*fd)?)),
            Operation::SyncData { fd } => done(fs::fdatasync(self.fd(*fd)?)),
            Operation::Stat { fd } => self.stat(fs::fstat(self.fd(*fd)?)?),
            Operation::StatAt { at, follow, path } => {
                let (directory, path) = self.place(*at, path)?;
                self.stat(fs::statat(directory, path, nofollow(*follow))?)
            }
            Operation::SetTimes {
                fd,
                access,
                modification,
                flags,
            } => {
                let fd = self.fd(*fd)?;
                done(fs::futimens(fd, &stamps(*access, *modification, *flags)?))
            }
            Operation::SetTimesAt {
                at,
                follow,
                path,
                access,
                modification,
                flags,
            } => {
                let stamps = stamps(*access, *modification, *flags)?;
                let (directory, path) = self.place(*at, path)?;
                done(fs::utimensat(directory, path, &stamps, nofollow(*follow)))
            }
            Operation::Status { fd } => {
                let fd = self.fd(*fd)?;
                let flags = fs::fcntl_getfl(fd)?;
                let kind = kind(FileType::from_raw_mode(fs::fstat(fd)?.st_mode));
                let access = flags & OFlags::ACCMODE;
                let named = !flags.contains(OFlags::PATH);
                Ok(Outcome::Status(Status {
                    kind,
                    flags: status_flags(flags),
                    readable: named && access != OFlags::WRONLY,
                    writable: named && access != OFlags::RDONLY,
                }))
            }
            Operation::SetStatus { fd, status } => {
                let flags = status_bits(*status);
                done(fs::fcntl_setfl(self.fd(*fd)?, flags))
            }
            Operation::MakeDirectory { at, path } => {
                let (directory, path) = self.place(*at, path)?;
                done(fs::mkdirat(directory, path, Mode::from_raw_mode(0o777)))
            }
            Operation::RemoveDirectory { at, path } => {
                let (directory, path) = self.place(*at, path)?;
                done(fs::unlinkat(directory, path, AtFlags::REMOVEDIR))
            }
            Operation::Unlink { at, path } => {
                let (directory, path) = self.place(*at, path)?;
                done(fs::unlinkat(directory, path, AtFlags::empty()))
            }
            Operation::Rename {
                from_at,
                from,
                to_at,
                to,
            } => {
                let places = (self.place(*from_at, from), self.place(*to_at, to));
                let (Ok((from_at, from)), Ok((to_at, to))) = places else {
                    return Ok(Outcome::Fails);
                };
                done(fs::renameat(from_at, from, to_at, to))
            }
            Operation::Link {
                from_at,
                follow,
                from,
                to_at,
                to,
            } => {
                let places = (self.place(*from_at, from), self.place(*to_at, to));
                let (Ok((from_at, from)), Ok((to_at, to))) = places else {
                    return Ok(Outcome::Fails);
                };
                let flags = if *follow {
                    AtFlags::SYMLINK_FOLLOW
                } else {
                    AtFlags::empty()
                };
                done(fs::linkat(from_at, from, to_at, to, flags))
            }
            Operation::Symlink { target, at, path } => {
                // The target is the first that the kernel looks at.
                if target.0.is_empty() {
                    return Err(Errno::NOENT);
                }
                if target.0.len() >= PATH_MAX {
                    return Err(Errno::NAMETOOLONG);
                }
                let (directory, path) = self.place(*at, path)?;
                done(fs::symlinkat(target.0.as_slice(), directory, path))
            }
            Operation::ReadLink { at, path, size } => {
                let (directory, path) = self.place(*at, path)?;
                let mut buffer = vec![0; *size as usize];
                let length = fs::readlinkat_raw(directory, path, buffer.as_mut_slice())?;
                buffer.truncate(length);
                Ok(Outcome::Data(Name(buffer)))
            }
            Operation::List { fd, size, cookie } => self.list(*fd, *size as usize, *cookie),
            Operation::Posix(operation) => self.posix(operation),
        }
    }

    fn posix(&mut self, operation: &Posix) -> Answer {
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
                let fd = self.fd(*fd)?;
                done(fs::fchmod(fd, new_mode(&fs::fstat(fd)?, *mode)?))
            }
            Posix::ChangeModeAt {
                at,
                follow,
                path,
                mode,
            } => {
                let (directory, path) = self.place(*at, path)?;
                let stat = fs::statat(directory, path, nofollow(*follow))?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                    return Err(Errno::OPNOTSUPP);
                }
                let mode = new_mode(&stat, *mode)?;
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

    fn whole(&self, stat: &fs::Stat) -> Outcome {
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

    /// The lowest free number, as for every open of POSIX.
    fn insert(&mut self, fd: OwnedFd) -> u32 {
        let number = (ROOT..)
            .find(|number| !self.table.contains_key(number))
            .expect("a table has free numbers");
        self.table.insert(number, Descriptor::new(fd, false));
        number
    }

    fn stat(&self, stat: fs::Stat) -> Answer {
        let time = |seconds: i64, nanoseconds: u64| {
            // Preview 1's times begin in 1970.
            if !(0..=LAST_SECOND).contains(&seconds) {
                Exemption::Times.met();
            }
            if seconds < 0 {
                return self.clock.time(0);
            }
            // Nor go on after what 64 bits hold.
            let time = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
            self.clock.time(time.min(u64::MAX.into()))
        };
        Ok(Outcome::Stat(Stat {
            id: FileId {
                device: stat.st_dev,
                inode: stat.st_ino,
            },
            kind: kind(FileType::from_raw_mode(stat.st_mode)),
            links: stat.st_nlink,
            size: stat.st_size.cast_unsigned(),
            access: time(stat.st_atime, stat.st_atime_nsec),
            modification: time(stat.st_mtime, stat.st_mtime_nsec),
            change: time(stat.st_ctime, stat.st_ctime_nsec),
        }))
    }

    fn list(&mut self, number: u32, size: usize, cookie: Cookie) -> Answer {
        let open = self.table.get_mut(&number).ok_or(Errno::BADF)?;
        let stat = fs::fstat(&open.fd)?;
        let mut listing = match open.listing.take() {
            Some(listing) => listing,
            None => begin(open, &stat)?,
        };
        let cookie = position(cookie, &open.cookies);
        let mut at = match listing.find(cookie) {
            Some(at) if cookie != 0 => at,
            _ => {
                let directory = listing.opened.as_ref().unwrap_or(&open.fd);
                fs::seek(directory, SeekFrom::Start(cookie))?;
                listing.fill(&open.fd, cookie)?;
                0
            }
        };
        let mut bytes = Vec::new();
        while bytes.len() < size {
            if at == listing.entries.len() {
                let last = listing.entries.last();
                let end = last.map_or(listing.start, |(next, _)| *next);
                listing.fill(&open.fd, end)?;
                at = 0;
                if listing.entries.is_empty() {
                    break;
                }
            }
            bytes.extend(&listing.entries[at].1);
            at += 1;
        }
        bytes.truncate(size);
        let full = bytes.len() == size;
        // After the end a listing begins again.
        open.listing = full.then_some(listing);
        let entries = entries(&bytes, stat.st_dev);
        remember(&mut open.cookies, &entries);
        Ok(Outcome::Entries(entries, full))
    }
}

fn begin(open: &Descriptor, stat: &fs::Stat) -> Result<Listing, Errno> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(Errno::NOTDIR);
    }
    let opened = if open.is_preopen {
        Exemption::RootIsListed.met();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Some(fs::openat(&open.fd, ".", flags, Mode::empty())?)
    } else {
        None
    };
    Ok(Listing {
        opened,
        start: u64::MAX,
        entries: Vec::new(),
    })
}

/// Where a listing begins whose descriptor has returned `cookies`.
pub(crate) fn position(cookie: Cookie, cookies: &[u64]) -> u64 {
    match cookie {
        Cookie::Start => 0,
        Cookie::Next => cookies.last().copied().unwrap_or(0),
        Cookie::Earlier(n) => {
            let at = usize::from(n) % cookies.len().max(1);
            cookies.get(at).copied().unwrap_or(0)
        }
    }
}

/// Keeps the cookies of whole entries.
pub(crate) fn remember(cookies: &mut Vec<u64>, entries: &[super::outcome::Entry]) {
    let whole = entries
        .iter()
        .filter(|e| e.name.0.len() == e.length as usize);
    cookies.extend(whole.map(|entry| entry.next));
    const { assert!(DIRENT == 24) };
}

fn done(result: Result<(), Errno>) -> Answer {
    result.map(|()| Outcome::Done)
}

/// Preview 1 has vectors only, so a C program's read of one buffer is one of them.
fn read(
    sizes: &[u32],
    one: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    many: impl FnOnce(&mut [IoSliceMut<'_>]) -> Result<usize, Errno>,
) -> Answer {
    let mut buffers: Vec<Vec<u8>> = sizes.iter().map(|&size| vec![0; size as usize]).collect();
    buffers.retain(|buffer| !buffer.is_empty());
    let count = match &mut buffers[..] {
        [] => {
            Exemption::Vectors.met();
            one(&mut [])?
        }
        [buffer] => one(buffer)?,
        several => {
            let mut slices: Vec<_> = several.iter_mut().map(|b| IoSliceMut::new(b)).collect();
            many(&mut slices)?
        }
    };
    let mut bytes = buffers.concat();
    bytes.truncate(count);
    Ok(Outcome::Data(Name(bytes)))
}

fn write(
    sizes: &[u32],
    fill: u8,
    one: impl FnOnce(&[u8]) -> Result<usize, Errno>,
    many: impl FnOnce(&[IoSlice<'_>]) -> Result<usize, Errno>,
) -> Answer {
    let mut buffers = pattern(fill, sizes);
    buffers.retain(|buffer| !buffer.is_empty());
    let count = match &buffers[..] {
        [] => one(&[])?,
        [buffer] => one(buffer)?,
        several => {
            let slices: Vec<_> = several.iter().map(|b| IoSlice::new(b)).collect();
            many(&slices)?
        }
    };
    Ok(Outcome::Number(count as u64))
}

fn nofollow(follow: bool) -> AtFlags {
    if follow {
        AtFlags::empty()
    } else {
        AtFlags::SYMLINK_NOFOLLOW
    }
}

fn status_bits(status: u16) -> OFlags {
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

fn status_flags(flags: OFlags) -> u16 {
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
fn creates_a_directory(flags: u16) -> bool {
    let both = open::CREATE | open::DIRECTORY;
    flags & both == both
}

fn open_flags(follow: bool, flags: u16, access: Access, status: u16) -> OFlags {
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

fn stamps(access: u64, modification: u64, flags: u16) -> Result<Timestamps, Errno> {
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

fn signed_stamps(
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
fn without_set_id(mode: u32) -> Result<Mode, Errno> {
    if mode & 0o6000 != 0 {
        return Err(Errno::PERM);
    }
    Ok(Mode::from_raw_mode(mode))
}

/// On a directory such a bit says who owns what is made in it.
fn new_mode(stat: &fs::Stat, mode: u32) -> Result<Mode, Errno> {
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Ok(Mode::from_raw_mode(mode));
    }
    without_set_id(mode)
}

fn owner(user: u32, group: u32) -> (Option<Uid>, Option<Gid>) {
    let user = (user != u32::MAX).then(|| Uid::from_raw(user));
    (user, (group != u32::MAX).then(|| Gid::from_raw(group)))
}

fn file_system(of: &fs::StatVfs) -> Outcome {
    Outcome::Numbers(vec![
        of.f_bsize,
        of.f_frsize,
        of.f_blocks,
        of.f_bfree,
        of.f_bavail,
        of.f_files,
        of.f_ffree,
        of.f_favail,
        of.f_flag.bits(),
        of.f_namemax,
    ])
}

fn record(range: &Range) -> nix::libc::flock {
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

fn kernels(error: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(error as i32)
}

/// A FIFO that is opened for one direction waits for the other.
fn opening_waits(directory: &OwnedFd, path: &[u8], flags: OFlags) -> bool {
    if flags.contains(OFlags::NONBLOCK) || flags & OFlags::ACCMODE == OFlags::RDWR {
        return false;
    }
    fs::statat(directory, path, AtFlags::empty())
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

fn is_waiting_fifo(fd: &OwnedFd) -> bool {
    let is_fifo =
        fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    is_fifo && fs::fcntl_getfl(fd).is_ok_and(|flags| !flags.contains(OFlags::NONBLOCK))
}

fn is_ready(fd: &OwnedFd, events: PollFlags) -> bool {
    let now = rustix::time::Timespec::default();
    let mut fds = [PollFd::new(fd, events)];
    poll(&mut fds, Some(&now)).expect("poll of an open descriptor") > 0
}

fn reading_waits(fd: &OwnedFd) -> bool {
    is_waiting_fifo(fd) && !is_ready(fd, PollFlags::IN)
}

fn writing_waits(fd: &OwnedFd, sizes: &[u32]) -> bool {
    let bytes: u64 = sizes.iter().map(|&size| u64::from(size)).sum();
    is_waiting_fifo(fd) && (bytes > PIPE_BUF || !is_ready(fd, PollFlags::OUT))
}

/// Preview 1's `filetype`. It has no FIFO, and C's library takes a stream socket for one.
fn kind(kind: FileType) -> u8 {
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
fn code(errno: Errno) -> u16 {
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
