//! Makes operations up. Names come from a small pool, so that operations meet each other's files;
//! descriptors are mostly those that are open.
#![forbid(unsafe_code)]

use wasm_interp_test_support::random::Random;

use super::operation::{Access, Cookie, Lock, Name, Operation, Owner, Posix, Range, open};

/// Names of the fixture (`tree`) and new ones.
const NAMES: &[&[u8]] = &[
    b"a",
    b"b",
    b"c",
    b"d",
    b"file",
    b"private",
    b"mine",
    b"sticky",
    b"setid",
    b"group",
    b"locked",
    b"store",
    b"bind",
    b"ro",
    b"mem",
    b"link",
    b"dirlink",
    b"abs",
    b"up",
    b"root",
    b"loop1",
    b"self",
    b"dangling",
    b"chain0",
    b"chain41",
    b"slash",
    b"fileslash",
    b"fifo",
    b"socket",
    b"null",
    b"zero",
    b"full",
    b"new1",
    b"new2",
    b"new3",
    b"old",
    b"late",
    b"\xff\xfe bytes",
    "ünïcode".as_bytes(),
    b"two words\n",
];

/// Times that an operation sets: the beginning, far from the present, and what does not fit into
/// 32 bits.
const TIMES: &[u64] = &[
    0,
    1,
    999_999_999,
    1_000_000_000_123_456_789,
    4_294_967_296_000_000_001,
    7_000_000_000_000_000_000,
];

const OFFSETS: &[u64] = &[
    0,
    1,
    4095,
    4096,
    5000,
    65_536,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX,
];

/// Makes up operations for a process that has certain descriptors open.
pub(crate) struct Generator {
    random: Random,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
        }
    }

    /// `open`: the open descriptors, and whether each is a directory.
    pub(crate) fn operation(&mut self, open: &[(u32, bool)]) -> Operation {
        // With many descriptors open, most steps would meet different files.
        if open.len() > 24 || (open.len() > 8 && self.random.one_in(8)) {
            let fd = self.fd(open, |_| true);
            return Operation::Close { fd };
        }
        if self.random.one_in(4) {
            return Operation::Posix(self.posix(open));
        }
        match self.random.below(100) {
            0..=19 => self.open(open),
            20..=24 => {
                let fd = self.file(open);
                Operation::Read {
                    fd,
                    sizes: self.sizes(),
                }
            }
            25..=28 => {
                let fd = self.file(open);
                Operation::ReadAt {
                    fd,
                    sizes: self.sizes(),
                    offset: self.offset(),
                }
            }
            29..=33 => {
                let fd = self.file(open);
                Operation::Write {
                    fd,
                    sizes: self.sizes(),
                    fill: self.byte(),
                }
            }
            34..=37 => {
                let fd = self.file(open);
                Operation::WriteAt {
                    fd,
                    sizes: self.sizes(),
                    fill: self.byte(),
                    offset: self.offset(),
                }
            }
            38..=40 => Operation::Seek {
                fd: self.file(open),
                offset: if self.random.one_in(4) {
                    -self.offset().cast_signed().saturating_abs()
                } else {
                    self.offset().cast_signed()
                },
                whence: u8::try_from(self.random.below(3)).expect("it is small"),
            },
            41 => Operation::Tell {
                fd: self.file(open),
            },
            42..=43 => Operation::Truncate {
                fd: self.file(open),
                size: self.offset(),
            },
            44..=45 => Operation::Allocate {
                fd: self.file(open),
                offset: self.offset(),
                length: self.offset(),
            },
            46 => Operation::Advise {
                fd: self.file(open),
                offset: self.offset(),
                length: self.offset(),
                advice: u8::try_from(self.random.below(6)).expect("it is small"),
            },
            47 => Operation::Sync { fd: self.any(open) },
            48 => Operation::SyncData { fd: self.any(open) },
            49..=52 => Operation::Stat { fd: self.any(open) },
            53..=59 => {
                let (at, path) = self.place(open);
                Operation::StatAt {
                    at,
                    follow: self.coin(),
                    path,
                }
            }
            60..=61 => Operation::SetTimes {
                fd: self.any(open),
                access: *self.random.choose(TIMES),
                modification: *self.random.choose(TIMES),
                flags: self.time_flags(),
            },
            62..=63 => {
                let (at, path) = self.place(open);
                Operation::SetTimesAt {
                    at,
                    follow: self.coin(),
                    path,
                    access: *self.random.choose(TIMES),
                    modification: *self.random.choose(TIMES),
                    flags: self.time_flags(),
                }
            }
            64..=65 => Operation::Status { fd: self.any(open) },
            66 => Operation::SetStatus {
                fd: self.any(open),
                status: self.status() & 0x1f,
            },
            67..=71 => {
                let (at, path) = self.place(open);
                Operation::MakeDirectory { at, path }
            }
            72..=74 => {
                let (at, path) = self.place(open);
                Operation::RemoveDirectory { at, path }
            }
            75..=78 => {
                let (at, path) = self.place(open);
                Operation::Unlink { at, path }
            }
            79..=83 => {
                let (from_at, from) = self.place(open);
                let (to_at, to) = self.place(open);
                Operation::Rename {
                    from_at,
                    from,
                    to_at,
                    to,
                }
            }
            84..=86 => {
                let (from_at, from) = self.place(open);
                let (to_at, to) = self.place(open);
                Operation::Link {
                    from_at,
                    follow: self.coin(),
                    from,
                    to_at,
                    to,
                }
            }
            87..=89 => {
                let target = self.target();
                let (at, path) = self.place(open);
                Operation::Symlink { target, at, path }
            }
            90..=91 => {
                let (at, path) = self.place(open);
                Operation::ReadLink {
                    at,
                    path,
                    size: *self.random.choose(&[0, 1, 3, 64, 4096]),
                }
            }
            92..=96 => Operation::List {
                fd: if self.random.one_in(12) {
                    self.any(open)
                } else {
                    self.fd(open, |is_directory| is_directory)
                },
                size: *self.random.choose(&[24, 25, 60, 128, 300, 4096, 65_536]),
                cookie: match self.random.below(4) {
                    0 => Cookie::Start,
                    1 => Cookie::Earlier(self.byte()),
                    _ => Cookie::Next,
                },
            },
            97 => Operation::Renumber {
                fd: self.any(open),
                to: self.any(open),
            },
            _ => Operation::Close { fd: self.any(open) },
        }
    }

    fn posix(&mut self, open: &[(u32, bool)]) -> Posix {
        let (at, path) = self.place(open);
        let (fd, follow) = (self.any(open), self.coin());
        let mode = self.mode();
        let owner = *self.random.choose(&[Owner::Process, Owner::Description]);
        let (user, group) = (self.owner(), self.owner());
        let (access, modification) = (self.signed_time(), self.signed_time());
        let flags = self.time_flags();
        match self.random.below(20) {
            0..=1 => {
                let Operation::Open {
                    at,
                    follow,
                    path,
                    flags,
                    access,
                    status,
                } = self.open(open)
                else {
                    unreachable!("it makes an open up");
                };
                Posix::Open {
                    at,
                    follow,
                    path,
                    flags,
                    access,
                    status,
                    mode,
                }
            }
            2 => Posix::MakeDirectory { at, path, mode },
            3 => Posix::MakeFifo { at, path, mode },
            4 => Posix::Stat { fd },
            5..=6 => Posix::StatAt { at, follow, path },
            7 => Posix::ChangeMode { fd, mode },
            8 => Posix::ChangeModeAt {
                at,
                follow,
                path,
                mode,
            },
            9 => Posix::ChangeOwner { fd, user, group },
            10 => Posix::ChangeOwnerAt {
                at,
                follow,
                path,
                user,
                group,
            },
            11 => Posix::SetTimes {
                fd,
                access,
                modification,
                flags,
            },
            12 => Posix::SetTimesAt {
                at,
                follow,
                path,
                access,
                modification,
                flags,
            },
            13 => Posix::Access {
                at,
                follow,
                path,
                access: self.byte() & 7,
                effective: self.coin(),
            },
            14 if follow => Posix::FileSystem { fd },
            14 => Posix::FileSystemAt { at, path },
            15 if follow => Posix::Umask {
                mask: *self.random.choose(&[0, 0o022, 0o077, 0o777]),
            },
            15 => Posix::Ids,
            16 => Posix::Lock {
                fd,
                operation: self.lock(),
            },
            17 => Posix::AskLock {
                fd: self.file(open),
                owner,
                range: self.range(),
            },
            _ => Posix::SetLock {
                fd: self.file(open),
                owner,
                range: self.range(),
            },
        }
    }

    fn mode(&mut self) -> u32 {
        *self.random.choose(&[
            0o644, 0o600, 0o666, 0o755, 0o777, 0, 0o444, 0o222, 0o1777, 0o2755, 0o4755, 0o6644,
        ])
    }

    fn owner(&mut self) -> u32 {
        use super::tree::{GROUP, USER};
        *self.random.choose(&[0, USER, GROUP, 4242, u32::MAX])
    }

    fn signed_time(&mut self) -> (i64, u32) {
        let seconds = *self
            .random
            .choose(&[i64::MIN, -1, 0, 1, 1 << 33, -(1 << 40)]);
        (
            seconds,
            *self
                .random
                .choose(&[0, 1, 999_999_999, 1_000_000_000, u32::MAX]),
        )
    }

    fn lock(&mut self) -> Lock {
        *self
            .random
            .choose(&[Lock::Read, Lock::Write, Lock::Write, Lock::Unlock])
    }

    fn range(&mut self) -> Range {
        Range {
            lock: self.lock(),
            start: *self.random.choose(&[0, 0, 5, 100, -1, i64::MAX]),
            length: *self.random.choose(&[0, 1, 10, 100, -5, i64::MAX, i64::MIN]),
            whence: u8::try_from(self.random.below(3)).expect("it is small"),
        }
    }

    fn coin(&mut self) -> bool {
        self.random.one_in(2)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.random.below(256)).expect("it is below 256")
    }

    /// One of the open descriptors that are wanted, rarely another number.
    fn fd(&mut self, open: &[(u32, bool)], wanted: impl Fn(bool) -> bool) -> u32 {
        if self.random.one_in(60) {
            return *self.random.choose(&[4, 7, 12, 40, 1 << 20, u32::MAX]);
        }
        let fitting: Vec<u32> = open
            .iter()
            .filter(|(_, is_directory)| wanted(*is_directory))
            .map(|&(number, _)| number)
            .collect();
        if fitting.is_empty() {
            return super::kernel::ROOT;
        }
        *self.random.choose(&fitting)
    }

    fn any(&mut self, open: &[(u32, bool)]) -> u32 {
        self.fd(open, |_| true)
    }

    fn file(&mut self, open: &[(u32, bool)]) -> u32 {
        let wrong = self.random.one_in(20);
        self.fd(open, |is_directory| is_directory == wrong)
    }

    /// A directory and a path from there.
    fn place(&mut self, open: &[(u32, bool)]) -> (u32, Name) {
        let at = if self.random.one_in(30) {
            self.any(open)
        } else {
            self.fd(open, |is_directory| is_directory)
        };
        let path = if self.random.one_in(40) {
            self.odd_path()
        } else {
            self.path(false)
        };
        (at, path)
    }

    fn path(&mut self, absolute: bool) -> Name {
        let mut path = Vec::new();
        if absolute {
            path.push(b'/');
        }
        let steps = 1 + self.random.below(2) + self.random.below(2);
        for step in 0..steps {
            if step > 0 {
                path.push(b'/');
            }
            let name: &[u8] = match self.random.below(12) {
                0 => b"..",
                1 if self.coin() => b".",
                1 => b"",
                _ => self.random.choose::<&[u8]>(NAMES),
            };
            // A path of preview 1 does not begin with a slash.
            if path.is_empty() && name.is_empty() {
                path.push(b'.');
            }
            path.extend(name);
        }
        let end: &[u8] = match self.random.below(16) {
            0 => b"/",
            1 => b"/.",
            2 if self.coin() => b"//",
            _ => b"",
        };
        path.extend(end);
        Name(path)
    }

    fn odd_path(&mut self) -> Name {
        Name(match self.random.below(8) {
            0 => Vec::new(),
            1 => b"/".to_vec(),
            2 => b"/a/b".to_vec(),
            3 => vec![b'n'; 255],
            4 => vec![b'n'; 256],
            5 => b"./".repeat(2047),
            6 => b"a/../".repeat(900),
            _ => b"../".repeat(40),
        })
    }

    fn target(&mut self) -> Name {
        match self.random.below(12) {
            0 => self.odd_path(),
            1..=4 => self.path(true),
            _ => self.path(false),
        }
    }

    fn open(&mut self, open: &[(u32, bool)]) -> Operation {
        let (at, path) = self.place(open);
        let mut flags = 0;
        for (flag, one_in) in [
            (open::CREATE, 3),
            (open::DIRECTORY, 5),
            (open::EXCLUSIVE, 8),
            (open::TRUNCATE, 6),
        ] {
            if self.random.one_in(one_in) {
                flags |= flag;
            }
        }
        Operation::Open {
            at,
            follow: !self.random.one_in(4),
            path,
            flags,
            access: *self.random.choose(&[
                Access::Read,
                Access::Read,
                Access::Read,
                Access::Write,
                Access::ReadWrite,
                Access::ReadWrite,
                Access::Name,
            ]),
            status: if self.random.one_in(2) {
                0
            } else {
                self.status()
            },
        }
    }

    fn status(&mut self) -> u16 {
        u16::try_from(self.random.next() & self.random.next() & 0x1f).expect("five bits")
    }

    fn time_flags(&mut self) -> u16 {
        if self.random.one_in(5) {
            return u16::try_from(self.random.below(16)).expect("four bits");
        }
        *self.random.choose(&[
            0b0101, 0b0001, 0b0100, 0b1010, 0b0110, 0b1001, 0b0010, 0b1000,
        ])
    }

    fn sizes(&mut self) -> Vec<u32> {
        let parts = match self.random.below(6) {
            0 => 0,
            1 => 2,
            2 => 1 + self.random.below(5),
            _ => 1,
        };
        (0..parts)
            .map(|_| *self.random.choose(&[0, 1, 3, 100, 1000, 4096, 9000]))
            .collect()
    }

    fn offset(&mut self) -> u64 {
        if self.random.one_in(3) {
            *self.random.choose(OFFSETS)
        } else {
            self.random.below(20_000)
        }
    }
}
