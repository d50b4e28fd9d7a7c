//! What is done to a tree: one call of preview 1, as data. The interpreters in `kernel` and `guest`
//! carry it out; `generate` makes it up.
#![forbid(unsafe_code)]

use std::fmt;

/// A path or the target of a symlink: any bytes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) Vec<u8>);

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 60;
        if self.0.len() <= SHOWN {
            return write!(f, "\"{}\"", self.0.escape_ascii());
        }
        let start = self.0[..SHOWN].escape_ascii();
        write!(f, "\"{start}\"… ({} bytes)", self.0.len())
    }
}

/// Preview 1's `oflags`.
pub(crate) mod open {
    pub(crate) const CREATE: u16 = 1;
    pub(crate) const DIRECTORY: u16 = 2;
    pub(crate) const EXCLUSIVE: u16 = 4;
    pub(crate) const TRUNCATE: u16 = 8;
}

/// Preview 1's `fdflags`.
pub(crate) mod status {
    pub(crate) const APPEND: u16 = 1;
    pub(crate) const DSYNC: u16 = 2;
    pub(crate) const NONBLOCK: u16 = 4;
    pub(crate) const RSYNC: u16 = 8;
    pub(crate) const SYNC: u16 = 16;
}

/// Preview 1's `fstflags`.
pub(crate) mod times {
    pub(crate) const ACCESS: u16 = 1;
    pub(crate) const ACCESS_NOW: u16 = 2;
    pub(crate) const MODIFICATION: u16 = 4;
    pub(crate) const MODIFICATION_NOW: u16 = 8;
}

/// What a file is opened for. C's libraries express it by preview 1's rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    ReadWrite,
    /// Neither: a directory to start paths from, a file to look at.
    Name,
}

/// Where a listing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cookie {
    Start,
    /// After the last entry that this descriptor's listings have returned whole.
    Next,
    /// After one of the entries that they have returned.
    Earlier(u8),
}

/// One call. `at`, `fd`, `from_at` … are descriptors of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Open {
        at: u32,
        follow: bool,
        path: Name,
        flags: u16,
        access: Access,
        status: u16,
    },
    Close {
        fd: u32,
    },
    Renumber {
        fd: u32,
        to: u32,
    },
    Read {
        fd: u32,
        sizes: Vec<u32>,
    },
    ReadAt {
        fd: u32,
        sizes: Vec<u32>,
        offset: u64,
    },
    Write {
        fd: u32,
        sizes: Vec<u32>,
        fill: u8,
    },
    WriteAt {
        fd: u32,
        sizes: Vec<u32>,
        fill: u8,
        offset: u64,
    },
    Seek {
        fd: u32,
        offset: i64,
        whence: u8,
    },
    Tell {
        fd: u32,
    },
    Truncate {
        fd: u32,
        size: u64,
    },
    Allocate {
        fd: u32,
        offset: u64,
        length: u64,
    },
    Advise {
        fd: u32,
        offset: u64,
        length: u64,
        advice: u8,
    },
    Sync {
        fd: u32,
    },
    SyncData {
        fd: u32,
    },
    Stat {
        fd: u32,
    },
    StatAt {
        at: u32,
        follow: bool,
        path: Name,
    },
    SetTimes {
        fd: u32,
        access: u64,
        modification: u64,
        flags: u16,
    },
    SetTimesAt {
        at: u32,
        follow: bool,
        path: Name,
        access: u64,
        modification: u64,
        flags: u16,
    },
    Status {
        fd: u32,
    },
    SetStatus {
        fd: u32,
        status: u16,
    },
    MakeDirectory {
        at: u32,
        path: Name,
    },
    RemoveDirectory {
        at: u32,
        path: Name,
    },
    Unlink {
        at: u32,
        path: Name,
    },
    Rename {
        from_at: u32,
        from: Name,
        to_at: u32,
        to: Name,
    },
    Link {
        from_at: u32,
        follow: bool,
        from: Name,
        to_at: u32,
        to: Name,
    },
    Symlink {
        target: Name,
        at: u32,
        path: Name,
    },
    ReadLink {
        at: u32,
        path: Name,
        size: u32,
    },
    List {
        fd: u32,
        size: u32,
        cookie: Cookie,
    },
    Posix(Posix),
}

/// One call of the namespace `wasm_interp_posix_v1`. None of them waits for a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Posix {
    Open {
        at: u32,
        follow: bool,
        path: Name,
        flags: u16,
        access: Access,
        status: u16,
        mode: u32,
    },
    MakeDirectory {
        at: u32,
        path: Name,
        mode: u32,
    },
    MakeFifo {
        at: u32,
        path: Name,
        mode: u32,
    },
    Stat {
        fd: u32,
    },
    StatAt {
        at: u32,
        follow: bool,
        path: Name,
    },
    ChangeMode {
        fd: u32,
        mode: u32,
    },
    ChangeModeAt {
        at: u32,
        follow: bool,
        path: Name,
        mode: u32,
    },
    ChangeOwner {
        fd: u32,
        user: u32,
        group: u32,
    },
    ChangeOwnerAt {
        at: u32,
        follow: bool,
        path: Name,
        user: u32,
        group: u32,
    },
    SetTimes {
        fd: u32,
        access: (i64, u32),
        modification: (i64, u32),
        flags: u16,
    },
    SetTimesAt {
        at: u32,
        follow: bool,
        path: Name,
        access: (i64, u32),
        modification: (i64, u32),
        flags: u16,
    },
    Access {
        at: u32,
        follow: bool,
        path: Name,
        /// 1 to execute, 2 to write, 4 to read.
        access: u8,
        effective: bool,
    },
    FileSystem {
        fd: u32,
    },
    FileSystemAt {
        at: u32,
        path: Name,
    },
    Umask {
        mask: u32,
    },
    Lock {
        fd: u32,
        operation: Lock,
    },
    AskLock {
        fd: u32,
        owner: Owner,
        range: Range,
    },
    SetLock {
        fd: u32,
        owner: Owner,
        range: Range,
    },
    Ids,
}

/// What a lock is to be. `flock` says shared and exclusive of what `fcntl` says read and write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Read,
    Write,
    Unlock,
}

/// Whose a record lock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Process,
    Description,
}

/// A record lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) lock: Lock,
    pub(crate) start: i64,
    pub(crate) length: i64,
    pub(crate) whence: u8,
}

/// What `Write` and `WriteAt` write: bytes that differ from place to place, so that a mix-up shows.
pub(crate) fn pattern(fill: u8, sizes: &[u32]) -> Vec<Vec<u8>> {
    let mut byte = fill;
    sizes
        .iter()
        .map(|&size| {
            (0..size)
                .map(|_| {
                    byte = byte.wrapping_mul(31).wrapping_add(7);
                    byte
                })
                .collect()
        })
        .collect()
}
