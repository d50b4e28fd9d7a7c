//! The side under test: carries operations out as a guest does, through a module that imports
//! preview 1 and exports it again beside its memory.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use wasm_interp_wasi::LateMounts;

use super::kernel::{position, remember};
use super::operation::{Access, Cookie, Lock, Name, Operation, Owner, Posix, Range, pattern};
use super::outcome::{Clock, Entry, FileId, Outcome, Stat, Status, Whole, entries};
use super::trampoline::{Instance, Value};

/// Where a call's arguments lie in the guest's memory.
const PATH: u32 = 0x1000;
const OTHER_PATH: u32 = 0x5000;
const VECTORS: u32 = 0x9000;
const RESULT: u32 = 0xa000;
const DATA: u32 = 0x1_0000;

/// A lock is not waited for.
const NONBLOCK: u32 = 1;

/// Rights of preview 1, as C's libraries ask for them.
mod rights {
    pub(super) const READ: u64 = 1 << 1 | 1 << 14;
    pub(super) const WRITE: u64 = 1 | 1 << 6 | 1 << 8 | 1 << 22;
    pub(super) const ALL: u64 = (1 << 30) - 1;
    pub(super) const FD_READ: u64 = 1 << 1;
    pub(super) const FD_WRITE: u64 = 1 << 6;
}

/// A wrong answer of the guest's side, to check that the test finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Opens what a symlink leads to where the link itself was asked for.
    FollowsSymlinks,
    /// Opens a file without emptying it.
    KeepsContent,
    /// Writes a byte further on.
    WritesElsewhere,
    /// Leaves an entry of a directory out.
    SkipsAnEntry,
    /// Says that times were set and sets none.
    SetsNoTimes,
}

impl Fault {
    pub(crate) const ALL: [Self; 5] = [
        Self::FollowsSymlinks,
        Self::KeepsContent,
        Self::WritesElsewhere,
        Self::SkipsAnEntry,
        Self::SetsNoTimes,
    ];
}

/// A guest in the calling thread's root directory.
pub(crate) struct GuestSide {
    instance: Instance,
    cookies: HashMap<u32, Vec<u64>>,
    clock: Clock,
    fault: Option<Fault>,
}

/// A call's errno, if it is not success.
type Answer = Result<Outcome, u16>;

impl GuestSide {
    pub(crate) fn new(late_mounts: LateMounts, clock: Clock, fault: Option<Fault>) -> Self {
        Self {
            instance: Instance::new(late_mounts),
            cookies: HashMap::new(),
            clock,
            fault,
        }
    }

    pub(crate) fn run(&mut self, operation: &Operation) -> Outcome {
        self.answer(operation).unwrap_or_else(Outcome::Failed)
    }

    /// A call that is no operation; returns its errno.
    pub(crate) fn call_raw(&mut self, function: &str, arguments: &[Value]) -> u16 {
        self.instance.call(function, arguments)
    }

    pub(crate) fn memory(&mut self, from: u32, length: u32) -> Vec<u8> {
        self.instance.read(from, length)
    }

    pub(crate) fn memory_u64(&mut self, from: u32) -> u64 {
        let bytes = self.instance.read(from, 8);
        u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    }

    pub(crate) fn fill(&mut self, to: u32, bytes: &[u8]) {
        self.instance.write(to, bytes);
    }

    fn call(&mut self, function: &str, arguments: &[Value]) -> Result<(), u16> {
        match self.instance.call(function, arguments) {
            0 => Ok(()),
            errno => Err(errno),
        }
    }

    fn done(&mut self, function: &str, arguments: &[Value]) -> Answer {
        self.call(function, arguments).map(|()| Outcome::Done)
    }

    /// A call on a directory and a path; `rest` follows them.
    fn at(&mut self, function: &str, at: u32, path: &Name, rest: &[Value]) -> Answer {
        let path = self.path(PATH, path);
        self.done(function, &[&[at.into()], &path[..], rest].concat())
    }

    fn path(&mut self, to: u32, path: &Name) -> [Value; 2] {
        self.instance.write(to, &path.0);
        [to.into(), length(&path.0).into()]
    }

    fn number32(&mut self) -> u64 {
        let bytes = self.instance.read(RESULT, 4);
        u32::from_le_bytes(bytes.try_into().expect("four bytes")).into()
    }

    fn number64(&mut self, offset: u32) -> u64 {
        self.memory_u64(RESULT + offset)
    }

    /// Lays `parts` out and the vectors that describe them: pointer and number of vectors.
    fn vectors(&mut self, parts: &[Vec<u8>]) -> [Value; 2] {
        let mut data = DATA;
        let mut vectors = Vec::new();
        for part in parts {
            self.instance.write(data, part);
            vectors.extend(data.to_le_bytes());
            vectors.extend(length(part).to_le_bytes());
            data += length(part);
        }
        self.instance.write(VECTORS, &vectors);
        let count = u32::try_from(parts.len()).expect("few parts");
        [VECTORS.into(), count.into()]
    }

    fn read(&mut self, function: &str, fd: u32, sizes: &[u32], offset: Option<u64>) -> Answer {
        let empty: Vec<_> = sizes.iter().map(|&size| vec![0; size as usize]).collect();
        let [vectors, count] = self.vectors(&empty);
        let mut arguments = vec![fd.into(), vectors, count];
        arguments.extend(offset.map(Value::from));
        arguments.push(RESULT.into());
        self.call(function, &arguments)?;
        let count = u32::try_from(self.number32()).expect("32 bits");
        Ok(Outcome::Data(Name(self.instance.read(DATA, count))))
    }

    fn write(&mut self, function: &str, fd: u32, parts: &[Vec<u8>], offset: Option<u64>) -> Answer {
        let [vectors, count] = self.vectors(parts);
        let mut arguments = vec![fd.into(), vectors, count];
        arguments.extend(offset.map(Value::from));
        arguments.push(RESULT.into());
        self.call(function, &arguments)?;
        Ok(Outcome::Number(self.number32()))
    }

    fn stat(&mut self) -> Stat {
        let kind = self.instance.read(RESULT + 16, 1)[0];
        let time = |time| self.clock.time(time);
        let numbers: Vec<u64> = {
            let bytes = self.instance.read(RESULT, 64);
            let words = bytes.chunks(8);
            words
                .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
                .collect()
        };
        Stat {
            id: FileId {
                device: numbers[0],
                inode: numbers[1],
            },
            kind,
            links: numbers[3],
            size: numbers[4],
            access: time(numbers[5]),
            modification: time(numbers[6]),
            change: time(numbers[7]),
        }
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
                let mut flags = *flags;
                if self.fault == Some(Fault::KeepsContent) {
                    flags &= !super::operation::open::TRUNCATE;
                }
                let rights = match access {
                    Access::Read => rights::ALL & !rights::WRITE,
                    Access::Write => rights::ALL & !rights::READ,
                    Access::ReadWrite => rights::ALL,
                    Access::Name => rights::ALL & !rights::READ & !rights::WRITE,
                };
                let follow = *follow || self.fault == Some(Fault::FollowsSymlinks);
                let [path, size] = self.path(PATH, path);
                let arguments = [
                    (*at).into(),
                    u32::from(follow).into(),
                    path,
                    size,
                    u32::from(flags).into(),
                    rights.into(),
                    rights::ALL.into(),
                    u32::from(*status).into(),
                    RESULT.into(),
                ];
                self.call("path_open", &arguments)?;
                let fd = self.number32();
                self.cookies.remove(&u32::try_from(fd).expect("32 bits"));
                Ok(Outcome::Number(fd))
            }
            Operation::Close { fd } => self.done("fd_close", &[(*fd).into()]),
            Operation::Renumber { fd, to } => {
                let done = self.done("fd_renumber", &[(*fd).into(), (*to).into()])?;
                if fd != to {
                    let moved = self.cookies.remove(fd).unwrap_or_default();
                    self.cookies.insert(*to, moved);
                }
                Ok(done)
            }
            Operation::Read { fd, sizes } => self.read("fd_read", *fd, sizes, None),
            Operation::ReadAt { fd, sizes, offset } => {
                self.read("fd_pread", *fd, sizes, Some(*offset))
            }
            Operation::Write { fd, sizes, fill } => {
                self.write("fd_write", *fd, &pattern(*fill, sizes), None)
            }
            Operation::WriteAt {
                fd,
                sizes,
                fill,
                offset,
            } => {
                let wrong = self.fault == Some(Fault::WritesElsewhere) && *offset == 4096;
                let offset = offset + u64::from(wrong);
                self.write("fd_pwrite", *fd, &pattern(*fill, sizes), Some(offset))
            }
            Operation::Seek { fd, offset, whence } => {
                let arguments = [
                    (*fd).into(),
                    offset.cast_unsigned().into(),
                    u32::from(*whence).into(),
                    RESULT.into(),
                ];
                self.call("fd_seek", &arguments)?;
                Ok(Outcome::Number(self.number64(0)))
            }
            Operation::Tell { fd } => {
                self.call("fd_tell", &[(*fd).into(), RESULT.into()])?;
                Ok(Outcome::Number(self.number64(0)))
            }
            Operation::Truncate { fd, size } => {
                self.done("fd_filestat_set_size", &[(*fd).into(), (*size).into()])
            }
            Operation::Allocate { fd, offset, length } => {
                let arguments = [(*fd).into(), (*offset).into(), (*length).into()];
                self.done("fd_allocate", &arguments)
            }
            Operation::Advise {
                fd,
                offset,
                length,
                advice,
            } => {
                let advice = u32::from(*advice).into();
                let arguments = [(*fd).into(), (*offset).into(), (*length).into(), advice];
                self.done("fd_advise", &arguments)
            }
            Operation::Sync { fd } => self.done("fd_sync", &[(*fd).into()]),
            Operation::SyncData { fd } => self.done("fd_datasync", &[(*fd).into()]),
            Operation::Stat { fd } => {
                self.call("fd_filestat_get", &[(*fd).into(), RESULT.into()])?;
                Ok(Outcome::Stat(self.stat()))
            }
            Operation::StatAt { at, follow, path } => {
                let [path, size] = self.path(PATH, path);
                let follow = u32::from(*follow).into();
                let arguments = [(*at).into(), follow, path, size, RESULT.into()];
                self.call("path_filestat_get", &arguments)?;
                Ok(Outcome::Stat(self.stat()))
            }
            Operation::SetTimes {
                fd,
                access,
                modification,
                flags,
            } => {
                let flags = u32::from(*flags).into();
                let arguments = [
                    (*fd).into(),
                    (*access).into(),
                    (*modification).into(),
                    flags,
                ];
                self.done("fd_filestat_set_times", &arguments)
            }
            Operation::SetTimesAt {
                at,
                follow,
                path,
                access,
                modification,
                flags,
            } => {
                let mut flags = *flags;
                if self.fault == Some(Fault::SetsNoTimes) {
                    flags = 0;
                }
                let [path, size] = self.path(PATH, path);
                let arguments = [
                    (*at).into(),
                    u32::from(*follow).into(),
                    path,
                    size,
                    (*access).into(),
                    (*modification).into(),
                    u32::from(flags).into(),
                ];
                self.done("path_filestat_set_times", &arguments)
            }
            Operation::Status { fd } => {
                self.call("fd_fdstat_get", &[(*fd).into(), RESULT.into()])?;
                let bytes = self.instance.read(RESULT, 4);
                let rights = self.number64(8);
                Ok(Outcome::Status(Status {
                    kind: bytes[0],
                    flags: u16::from_le_bytes([bytes[2], bytes[3]]),
                    readable: rights & rights::FD_READ != 0,
                    writable: rights & rights::FD_WRITE != 0,
                }))
            }
            Operation::SetStatus { fd, status } => {
                let status = u32::from(*status).into();
                self.done("fd_fdstat_set_flags", &[(*fd).into(), status])
            }
            Operation::MakeDirectory { at, path } => {
                self.at("path_create_directory", *at, path, &[])
            }
            Operation::RemoveDirectory { at, path } => {
                self.at("path_remove_directory", *at, path, &[])
            }
            Operation::Unlink { at, path } => self.at("path_unlink_file", *at, path, &[]),
            Operation::Rename {
                from_at,
                from,
                to_at,
                to,
            } => {
                let [to, size] = self.path(OTHER_PATH, to);
                self.at("path_rename", *from_at, from, &[(*to_at).into(), to, size])
            }
            Operation::Link {
                from_at,
                follow,
                from,
                to_at,
                to,
            } => {
                let [from, from_size] = self.path(PATH, from);
                let [to, to_size] = self.path(OTHER_PATH, to);
                let arguments = [
                    (*from_at).into(),
                    u32::from(*follow).into(),
                    from,
                    from_size,
                    (*to_at).into(),
                    to,
                    to_size,
                ];
                self.done("path_link", &arguments)
            }
            Operation::Symlink { target, at, path } => {
                let [target, target_size] = self.path(OTHER_PATH, target);
                let [path, size] = self.path(PATH, path);
                let arguments = [target, target_size, (*at).into(), path, size];
                self.done("path_symlink", &arguments)
            }
            Operation::ReadLink { at, path, size } => {
                let [path, path_size] = self.path(PATH, path);
                let arguments = [
                    (*at).into(),
                    path,
                    path_size,
                    DATA.into(),
                    (*size).into(),
                    RESULT.into(),
                ];
                self.call("path_readlink", &arguments)?;
                let length = u32::try_from(self.number32()).expect("32 bits");
                Ok(Outcome::Data(Name(self.instance.read(DATA, length))))
            }
            Operation::List { fd, size, cookie } => self.list(*fd, *size, *cookie),
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
                let access = match access {
                    Access::Read => 0,
                    Access::Write => 1,
                    Access::ReadWrite => 2,
                    Access::Name => 3_u32,
                };
                let [path, size] = self.path(PATH, path);
                let arguments = [
                    (*at).into(),
                    u32::from(*follow).into(),
                    path,
                    size,
                    access.into(),
                    u32::from(*flags).into(),
                    u32::from(*status).into(),
                    (*mode).into(),
                    RESULT.into(),
                ];
                self.call("openat", &arguments)?;
                let fd = self.number32();
                self.cookies.remove(&u32::try_from(fd).expect("32 bits"));
                Ok(Outcome::Number(fd))
            }
            Posix::MakeDirectory { at, path, mode } => {
                self.at("mkdirat", *at, path, &[(*mode).into()])
            }
            Posix::MakeFifo { at, path, mode } => self.at("mkfifoat", *at, path, &[(*mode).into()]),
            Posix::Stat { fd } => {
                self.call("fstat", &[(*fd).into(), RESULT.into()])?;
                Ok(self.whole())
            }
            Posix::StatAt { at, follow, path } => {
                let [path, size] = self.path(PATH, path);
                let follow = u32::from(*follow).into();
                self.call(
                    "fstatat",
                    &[(*at).into(), follow, path, size, RESULT.into()],
                )?;
                Ok(self.whole())
            }
            Posix::ChangeMode { fd, mode } => self.done("fchmod", &[(*fd).into(), (*mode).into()]),
            Posix::ChangeModeAt {
                at,
                follow,
                path,
                mode,
            } => self.following("fchmodat", *at, *follow, path, &[(*mode).into()]),
            Posix::ChangeOwner { fd, user, group } => {
                let arguments = [(*fd).into(), (*user).into(), (*group).into()];
                self.done("fchown", &arguments)
            }
            Posix::ChangeOwnerAt {
                at,
                follow,
                path,
                user,
                group,
            } => {
                let rest = [(*user).into(), (*group).into()];
                self.following("fchownat", *at, *follow, path, &rest)
            }
            Posix::SetTimes {
                fd,
                access,
                modification,
                flags,
            } => {
                let rest = signed_times(*access, *modification, *flags);
                self.done("futimens", &[&[(*fd).into()], &rest[..]].concat())
            }
            Posix::SetTimesAt {
                at,
                follow,
                path,
                access,
                modification,
                flags,
            } => {
                let rest = signed_times(*access, *modification, *flags);
                self.following("utimensat", *at, *follow, path, &rest)
            }
            Posix::Access {
                at,
                follow,
                path,
                access,
                effective,
            } => {
                let rest = [u32::from(*access).into(), u32::from(*effective).into()];
                self.following("faccessat", *at, *follow, path, &rest)
            }
            Posix::FileSystem { fd } => {
                self.call("fstatvfs", &[(*fd).into(), RESULT.into()])?;
                Ok(self.file_system())
            }
            Posix::FileSystemAt { at, path } => {
                let [path, size] = self.path(PATH, path);
                self.call("statvfsat", &[(*at).into(), path, size, RESULT.into()])?;
                Ok(self.file_system())
            }
            Posix::Umask { mask } => {
                self.call("umask", &[(*mask).into(), RESULT.into()])?;
                Ok(Outcome::Number(self.number32()))
            }
            Posix::Lock { fd, operation } => {
                let arguments = [(*fd).into(), number_of(*operation).into(), NONBLOCK.into()];
                self.done("flock", &arguments)
            }
            Posix::SetLock { fd, owner, range } => {
                let [owner, lock] = self.lock(*owner, range);
                self.done("fcntl_setlk", &[(*fd).into(), owner, lock, NONBLOCK.into()])
            }
            Posix::AskLock { fd, owner, range } => {
                let [owner, lock] = self.lock(*owner, range);
                let arguments = [(*fd).into(), owner, lock, RESULT.into()];
                self.call("fcntl_getlk", &arguments)?;
                let kind = self.instance.read(RESULT + 20, 1)[0].into();
                Ok(Outcome::Numbers(if kind == 2 {
                    vec![kind]
                } else {
                    vec![kind, self.number64(0), self.number64(8)]
                }))
            }
            Posix::Ids => {
                let mut all = Vec::new();
                for function in ["getuid", "geteuid", "getgid", "getegid"] {
                    self.call(function, &[RESULT.into()])?;
                    all.push(self.number32());
                }
                let arguments = [DATA.into(), 64_u32.into(), RESULT.into()];
                self.call("getgroups", &arguments)?;
                let count = u32::try_from(self.number32()).expect("32 bits");
                let groups = self.instance.read(DATA, 4 * count);
                let words = groups.chunks(4);
                all.extend(words.map(|word| {
                    u64::from(u32::from_le_bytes(word.try_into().expect("four bytes")))
                }));
                Ok(Outcome::Numbers(all))
            }
        }
    }

    /// A call on a directory, a flag of links, and a path; `rest` follows them.
    fn following(
        &mut self,
        function: &str,
        at: u32,
        follow: bool,
        path: &Name,
        rest: &[Value],
    ) -> Answer {
        let [path, size] = self.path(PATH, path);
        let first = [at.into(), u32::from(follow).into(), path, size];
        self.done(function, &[&first, rest].concat())
    }

    fn lock(&mut self, owner: Owner, range: &Range) -> [Value; 2] {
        let lock = [
            &range.start.to_le_bytes()[..],
            &range.length.to_le_bytes(),
            &0_u32.to_le_bytes(),
            &[
                u8::try_from(number_of(range.lock)).expect("small"),
                range.whence,
                0,
                0,
            ],
        ];
        self.instance.write(DATA, &lock.concat());
        let owner = match owner {
            Owner::Process => 0,
            Owner::Description => 1_u32,
        };
        [owner.into(), DATA.into()]
    }

    fn whole(&mut self) -> Outcome {
        let bytes = self.instance.read(RESULT, 112);
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
        let time = |at| {
            self.clock
                .signed(long(at).cast_signed(), word(at + 8).into())
        };
        Outcome::Whole(Whole {
            id: FileId {
                device: long(0),
                inode: long(8),
            },
            links: long(16),
            mode: word(24),
            owner: (word(28), word(32)),
            size: long(48),
            numbers: [word(36).into(), long(56), long(40)],
            times: [time(64), time(80), time(96)],
        })
    }

    fn file_system(&mut self) -> Outcome {
        // All but the number of the file system, which differs.
        let places = [0, 8, 16, 24, 32, 40, 48, 56, 72, 80];
        Outcome::Numbers(places.map(|place| self.number64(place)).to_vec())
    }

    fn list(&mut self, fd: u32, size: u32, cookie: Cookie) -> Answer {
        let cookies = self.cookies.entry(fd).or_default();
        let cookie = position(cookie, cookies);
        let arguments = [
            fd.into(),
            DATA.into(),
            size.into(),
            cookie.into(),
            RESULT.into(),
        ];
        self.call("fd_readdir", &arguments)?;
        let used = u32::try_from(self.number32()).expect("32 bits");
        let bytes = self.instance.read(DATA, used);
        self.call("fd_filestat_get", &[fd.into(), RESULT.into()])?;
        let mut entries: Vec<Entry> = entries(&bytes, self.number64(0));
        if self.fault == Some(Fault::SkipsAnEntry) {
            entries.retain(|entry| entry.name.0 != b"file");
        }
        remember(self.cookies.entry(fd).or_default(), &entries);
        Ok(Outcome::Entries(entries, used == size))
    }
}

fn number_of(lock: Lock) -> u32 {
    match lock {
        Lock::Read => 0,
        Lock::Write => 1,
        Lock::Unlock => 2,
    }
}

fn signed_times(access: (i64, u32), modification: (i64, u32), flags: u16) -> [Value; 5] {
    [
        access.0.cast_unsigned().into(),
        access.1.into(),
        modification.0.cast_unsigned().into(),
        modification.1.into(),
        u32::from(flags).into(),
    ]
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("it fits into the guest's memory")
}
