//! The oracle: carries operations out by the system calls that a native program would make.
//!
//! Written from preview 1's meaning of each call and Linux's manual pages, and shares no code with
//! the host functions under test.
#![forbid(unsafe_code)]

mod posix;
mod waits;
mod words;

use std::{
    collections::BTreeMap,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    num::NonZeroU64,
    os::fd::OwnedFd,
};

use rustix::{
    fs::{self, Advice, AtFlags, FallocateFlags, FileType, Mode, OFlags, RawDir, SeekFrom},
    io::{self, Errno, pread, preadv, pwrite, pwritev, readv, writev},
};

use super::{
    exemptions::Exemption,
    operation::{Cookie, Name, Operation, pattern},
    outcome::{Clock, DIRENT, FileId, Outcome, Stat, Status, entries},
};
use waits::{opening_waits, reading_waits, writing_waits};
use words::{
    code, creates_a_directory, kind, nofollow, open_flags, stamps, status_bits, status_flags,
};

/// The number of the first descriptor that is no standard stream: the root directory.
pub(crate) const ROOT: u32 = 3;

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
