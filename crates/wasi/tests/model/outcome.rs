//! What a call returned, in one form for both sides, and their comparison. Numbers that the kernel
//! gives out (devices, inodes) and the present time differ between two trees: they are compared
//! by what they stand for.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::operation::Name;

/// Preview 1's errno.
pub(crate) type Errno = u16;

/// A file's identity on its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// A time that an operation has set, or the time of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    Set(i128),
    Now,
}

/// Preview 1's `filestat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) id: FileId,
    pub(crate) kind: u8,
    pub(crate) links: u64,
    pub(crate) size: u64,
    pub(crate) access: Time,
    pub(crate) modification: Time,
    pub(crate) change: Time,
}

/// `stat` of our own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) id: FileId,
    pub(crate) links: u64,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) size: u64,
    /// Block size, blocks, and what a special file stands for.
    pub(crate) numbers: [u64; 3],
    pub(crate) times: [Time; 3],
}

/// Preview 1's `dirent`. A name that did not fit into the buffer is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) next: u64,
    pub(crate) id: FileId,
    pub(crate) kind: u8,
    pub(crate) length: u32,
    pub(crate) name: Name,
}

/// Preview 1's `fdstat`, as far as C reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) kind: u8,
    pub(crate) flags: u16,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It would have to wait for another process, so neither side carried it out.
    WouldWait,
    Failed(Errno),
    /// It fails, with one of several errors that apply: POSIX does not say which comes first.
    Fails,
    Done,
    /// A descriptor, a position, a count of bytes written.
    Number(u64),
    Data(Name),
    Stat(Stat),
    Status(Status),
    Whole(Whole),
    /// Several numbers: of a file system, a user, a lock.
    Numbers(Vec<u64>),
    /// The entries, and whether the buffer was filled to its end.
    Entries(Vec<Entry>, bool),
}

/// Tells set times from the present.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Duration,
}

impl Clock {
    /// `generate` sets no time of the days around this.
    pub(crate) fn start() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            start: now.expect("it is after 1970"),
        }
    }

    /// Of a time in nanoseconds.
    pub(crate) fn time(&self, nanoseconds: impl Into<i128>) -> Time {
        const DAY: i128 = 24 * 3600 * 1_000_000_000;
        let time = nanoseconds.into();
        let start = i128::try_from(self.start.as_nanos()).expect("it fits");
        if (time - start).abs() > DAY {
            Time::Set(time)
        } else {
            Time::Now
        }
    }

    /// Of a time in seconds and nanoseconds.
    pub(crate) fn signed(&self, seconds: i64, nanoseconds: i128) -> Time {
        self.time(i128::from(seconds) * 1_000_000_000 + nanoseconds)
    }
}

/// Which file of one tree is which of the other.
#[derive(Default)]
pub(crate) struct Comparer {
    guests: HashMap<FileId, FileId>,
    kernels: HashMap<FileId, FileId>,
}

impl Comparer {
    /// Whether both sides say the same.
    pub(crate) fn equal(&mut self, kernel: &Outcome, guest: &Outcome) -> bool {
        match (kernel, guest) {
            (Outcome::Stat(kernel), Outcome::Stat(guest)) => {
                let ours = Stat {
                    id: kernel.id,
                    ..guest.clone()
                };
                *kernel == ours && self.same_file(kernel.id, guest.id)
            }
            (Outcome::Whole(kernel), Outcome::Whole(guest)) => {
                let ours = Whole {
                    id: kernel.id,
                    ..guest.clone()
                };
                *kernel == ours && self.same_file(kernel.id, guest.id)
            }
            (Outcome::Entries(kernels, full), Outcome::Entries(guests, guest_full)) => {
                full == guest_full
                    && kernels.len() == guests.len()
                    && kernels.iter().zip(guests).all(|(kernel, guest)| {
                        let ours = Entry {
                            id: kernel.id,
                            ..guest.clone()
                        };
                        *kernel == ours && self.same_file(kernel.id, guest.id)
                    })
            }
            (Outcome::Fails, guest) => matches!(guest, Outcome::Failed(_)),
            (kernel, guest) => kernel == guest,
        }
    }

    fn same_file(&mut self, kernel: FileId, guest: FileId) -> bool {
        *self.guests.entry(kernel).or_insert(guest) == guest
            && *self.kernels.entry(guest).or_insert(kernel) == kernel
    }
}

/// The length of a `dirent` without its name.
pub(crate) const DIRENT: usize = 24;

/// Reads what `fd_readdir` wrote: whole entries, then perhaps a part of one. A head that is cut
/// says nothing and is left out.
pub(crate) fn entries(mut bytes: &[u8], device: u64) -> Vec<Entry> {
    let mut entries = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(DIRENT) {
        let number =
            |from: usize| u64::from_le_bytes(head[from..from + 8].try_into().expect("eight bytes"));
        let length = u32::from_le_bytes(head[16..20].try_into().expect("four bytes"));
        let name = &rest[..rest.len().min(length as usize)];
        entries.push(Entry {
            next: number(0),
            id: FileId {
                device,
                inode: number(8),
            },
            kind: head[20],
            length,
            name: Name(name.to_vec()),
        });
        bytes = &rest[name.len()..];
    }
    entries
}
