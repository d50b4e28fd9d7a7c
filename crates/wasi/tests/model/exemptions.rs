//! Where a guest's answer is not Linux's, because preview 1's types do not allow it: the closed list.
//!
//! `kernel` applies each where it carries an operation out. What is not listed here has to be as Linux
//! has it, and what is listed has to be needed: `main` fails for one that no operation met. Users read
//! the list in `docs/reference/files.md`.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};

use libtest_mimic::Failed;

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exemption {
    AbsolutePath,
    RenumberToClosed,
    Times,
    FifoAndSocket,
    NoMode,
    SyncFlags,
    RootIsListed,
    Vectors,
    NameOnly,
}

static MET: AtomicU32 = AtomicU32::new(0);

impl Exemption {
    pub(crate) const ALL: [Self; 9] = [
        Self::AbsolutePath,
        Self::RenumberToClosed,
        Self::Times,
        Self::FifoAndSocket,
        Self::NoMode,
        Self::SyncFlags,
        Self::RootIsListed,
        Self::Vectors,
        Self::NameOnly,
    ];

    /// What a guest gets instead, and the type or function of preview 1 that forces it.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::AbsolutePath => {
                "a path that begins with a slash is EPERM: every path_ function starts at a \
                 descriptor, and the C library cuts the slash off"
            }
            Self::RenumberToClosed => {
                "fd_renumber to a number that is not open is EBADF, where dup2(2) opens it: \
                 preview 1 replaces a descriptor only"
            }
            Self::Times => {
                "times before 1970 are 0, and those after 2554 are the last that there is: \
                 timestamp has nanoseconds since 1970 in 64 bits without a sign"
            }
            Self::FifoAndSocket => {
                "a FIFO and a socket are of the type socket_stream: filetype has no FIFO, and the \
                 C library takes socket_stream for one"
            }
            Self::NoMode => {
                "new files have the mode 0666 and new directories 0777, less the umask: path_open \
                 and path_create_directory have no mode"
            }
            Self::SyncFlags => {
                "O_SYNC is reported as sync, rsync and dsync: fdflags tells them apart, and Linux \
                 does not"
            }
            Self::RootIsListed => {
                "the root directory is listed although it is opened as a name: a preopened \
                 descriptor is what paths start from and what the root is listed by"
            }
            Self::Vectors => {
                "a read or write of one buffer, or of none, is read(2) or write(2) and not \
                 readv(2) or writev(2): fd_read and fd_write have vectors only"
            }
            Self::NameOnly => {
                "opened for neither reading nor writing, a file is opened by O_PATH: rights are \
                 asked for or not, and C has no other word for O_SEARCH"
            }
        }
    }

    /// The row that the documentation has for it.
    fn row(self) -> String {
        let (instead, forced_by) = self.reason().split_once(": ").expect("two parts");
        format!("| {instead} | {forced_by} |")
    }

    /// An operation met it.
    pub(crate) fn met(self) {
        MET.fetch_or(1 << self as u32, Ordering::Relaxed);
    }

    /// Those that no operation has met.
    pub(crate) fn unneeded() -> Vec<Self> {
        let met = MET.load(Ordering::Relaxed);
        let all = Self::ALL.into_iter();
        all.filter(|one| met & (1 << *one as u32) == 0).collect()
    }
}

/// Fails if the documentation lists other differences.
pub(crate) fn are_those_of_the_documentation() -> Result<(), Failed> {
    const PAGE: &str = include_str!("../../../../docs/reference/files.md");
    let (_, section) = PAGE
        .split_once("\n## What preview 1 has no words for\n")
        .ok_or("docs/reference/files.md has no such section")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows: Vec<_> = section
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1)
        .collect();
    let listed: Vec<_> = Exemption::ALL.iter().map(|one| one.row()).collect();
    if rows == listed {
        return Ok(());
    }
    Err(format!("docs/reference/files.md has the rows {rows:#?}, the list is {listed:#?}").into())
}
