//! Paths: what a guest may pass, and how they are resolved.
//!
//! The kernel resolves them, from the guest's directory and with the container's root as the root, so
//! `..`, links and mounts mean what they mean to any program. The root file system has no `/proc`, no
//! other file system of the kernel's own and no magic links, so a path cannot leave it, and nothing
//! of the runner is in it.
//!
//! What could change that is a mount that the host propagates into the container while the guest runs
//! (a volume with `HostToContainer`). Where that can happen, [`LateMounts::Checked`], each operation first
//! opens what it acts on, looks at the type of its file system, and acts by that descriptor.
//!
//! A host function takes its path by [`argument`], and then uses [`Paths::open`],
//! [`Paths::metadata`] or [`Paths::place`] and nothing else.
#![forbid(unsafe_code)]

use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    fs::{
        AtFlags, CWD, Mode, OFlags, ResolveFlags, Stat, fstat, fstatfs, openat, openat2,
        readlinkat, statat,
    },
    io::{Errno as Kernel, Result as Answer},
};
use wiggle::{GuestMemory, GuestPtr};

use crate::{
    errno::{Errno, Result},
    limits, memory,
    wait::interruptible,
};

/// Whether file systems can be mounted where the guest can open them, after it was made.
#[derive(Clone, Copy, Debug)]
pub enum LateMounts {
    /// No mount of the container receives mounts from elsewhere.
    Impossible,
    /// Some do. The function says of a file system's type (`f_type` of statfs(2)) whether the guest
    /// must not have it.
    Checked(fn(u32) -> bool),
}

/// Whether the last link of a path is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// As stat(2).
    Yes,
    /// As lstat(2).
    No,
}

/// The call that opens files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpenBy {
    Openat2,
    /// The container's seccomp profile is older than openat2(2). There are no magic links to be
    /// refused where nothing is mounted, and elsewhere the directory of each is checked.
    Openat,
}

impl OpenBy {
    /// Looks whether openat2(2) can be used. A profile may refuse it with any error.
    fn probe(root: &OwnedFd) -> Self {
        if openat2(root, c".", NAME, Mode::empty(), RESOLVE).is_err()
            && openat(root, c".", NAME, Mode::empty()).is_ok()
        {
            return Self::Openat;
        }
        Self::Openat2
    }
}

const RESOLVE: ResolveFlags = ResolveFlags::NO_MAGICLINKS;

/// Where an operation on a name acts: the name, and the directory that it is resolved from.
#[derive(Debug)]
pub struct ParentAndName<'a> {
    directory: Start<'a>,
    name: CString,
}

#[derive(Debug)]
enum Start<'a> {
    Guest(BorrowedFd<'a>),
    Opened(OwnedFd),
}

impl ParentAndName<'_> {
    /// For `*at` calls; a symbolic link of this name must not be followed.
    #[must_use]
    pub fn name(&self) -> &CStr {
        &self.name
    }
}

impl AsFd for ParentAndName<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.directory {
            Start::Guest(fd) => *fd,
            Start::Opened(fd) => fd.as_fd(),
        }
    }
}

/// A path that the guest passes: relative to a descriptor, of any bytes but zero.
pub fn argument(memory: &GuestMemory<'_>, path: GuestPtr<str>) -> Result<CString> {
    let path = text(memory, path)?;
    // Preview 1 has only descriptors to start from; its C library cuts the slash off.
    if path.as_bytes().first() == Some(&b'/') {
        return Err(Errno::Perm);
    }
    Ok(path)
}

/// A text for the kernel: a path, or what a new symbolic link holds.
pub fn text(memory: &GuestMemory<'_>, text: GuestPtr<str>) -> Result<CString> {
    if text.len() > limits::PATH {
        return Err(Errno::Nametoolong);
    }
    CString::new(memory::slice(memory, text.as_bytes())?).map_err(|_| Errno::Inval)
}

/// What paths of a guest are resolved by.
#[derive(Clone, Debug)]
pub struct Paths {
    root: Arc<OwnedFd>,
    late_mounts: LateMounts,
    open_by: OpenBy,
}

impl Paths {
    /// `root` is the root directory of this process, opened with `O_PATH`.
    pub(crate) fn new(root: Arc<OwnedFd>, late_mounts: LateMounts) -> Self {
        let open_by = OpenBy::probe(&root);
        Self {
            root,
            late_mounts,
            open_by,
        }
    }

    /// Where absolute symbolic links lead.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The root directory, to be kept.
    #[cfg(feature = "components")]
    pub(crate) fn shared_root(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.root)
    }

    pub(crate) fn late_mounts(&self) -> LateMounts {
        self.late_mounts
    }

    /// Opens a file for the guest. `flags` are open(2)'s; the mode of a new file is `mode` without
    /// the process's umask.
    pub fn open(
        &self,
        directory: BorrowedFd<'_>,
        path: &CStr,
        flags: OFlags,
        mode: Mode,
    ) -> Answer<OwnedFd> {
        let mut flags = flags | OFlags::CLOEXEC;
        // openat2(2) takes it for a mistake where only a name is opened.
        if !flags.contains(OFlags::PATH) {
            flags |= OFlags::NOCTTY;
        }
        let LateMounts::Checked(refused) = self.late_mounts else {
            return self.open_at(directory, path, flags, mode);
        };
        // Nor is a link followed that a new file would be made through.
        let exclusive = flags.contains(OFlags::CREATE | OFlags::EXCL);
        let follow = if exclusive || flags.contains(OFlags::NOFOLLOW) {
            Follow::No
        } else {
            Follow::Yes
        };
        let place = self.resolved(directory, path, follow, refused)?;
        // What is opened must not notice it before it is known: a FIFO or a file of the kernel's may
        // act on that, and a file is emptied by O_TRUNC. A mount point cannot be moved or replaced
        // between both calls by the guest, and the directory is held.
        let found = self.open_at(place.as_fd(), place.name(), NAME | OFlags::NOFOLLOW, mode);
        match found {
            Ok(found) => allowed(&found, refused)?,
            Err(Kernel::NOENT) if flags.contains(OFlags::CREATE) => {}
            // No file is made by a name that only a directory can have: for the kernel to say.
            Err(_) if flags.contains(OFlags::CREATE) && place.name().to_bytes().ends_with(b"/") => {
            }
            Err(error) => return Err(error),
        }
        let opened = self.open_at(place.as_fd(), place.name(), flags | OFlags::NOFOLLOW, mode)?;
        allowed(&opened, refused)?;
        Ok(opened)
    }

    /// stat(2) or lstat(2).
    pub fn metadata(&self, directory: BorrowedFd<'_>, path: &CStr, follow: Follow) -> Answer<Stat> {
        match self.late_mounts {
            LateMounts::Impossible => statat(directory, path, flags(follow)),
            LateMounts::Checked(_) => fstat(self.name(directory, path, follow)?),
        }
    }

    /// Opens what `path` names with `O_PATH`: a descriptor for calls that take `AT_EMPTY_PATH`.
    pub fn name(&self, directory: BorrowedFd<'_>, path: &CStr, follow: Follow) -> Answer<OwnedFd> {
        let nofollow = match follow {
            Follow::Yes => OFlags::empty(),
            Follow::No => OFlags::NOFOLLOW,
        };
        let found = self.open_at(directory, path, NAME | nofollow, Mode::empty())?;
        if let LateMounts::Checked(refused) = self.late_mounts {
            allowed(&found, refused)?;
        }
        Ok(found)
    }

    /// Where a call acts that makes, moves or removes a name, or reads a link.
    pub fn place<'a>(&self, directory: BorrowedFd<'a>, path: &CStr) -> Answer<ParentAndName<'a>> {
        match self.late_mounts {
            LateMounts::Impossible => Ok(ParentAndName {
                directory: Start::Guest(directory),
                name: path.to_owned(),
            }),
            LateMounts::Checked(refused) => self.resolved(directory, path, Follow::No, refused),
        }
    }

    /// As [`Paths::place`], for a call that follows the last link of a name and takes no descriptor in its
    /// stead.
    pub fn place_of_target<'a>(
        &self,
        directory: BorrowedFd<'a>,
        path: &CStr,
    ) -> Answer<ParentAndName<'a>> {
        match self.late_mounts {
            LateMounts::Impossible => self.place(directory, path),
            LateMounts::Checked(refused) => self.checked(directory, path, Follow::Yes, refused),
        }
    }

    /// Where the file is that a call gives a further name to, and the flags of that call.
    pub(crate) fn place_to_link<'a>(
        &self,
        directory: BorrowedFd<'a>,
        path: &CStr,
        follow: Follow,
    ) -> Answer<(ParentAndName<'a>, AtFlags)> {
        let LateMounts::Checked(refused) = self.late_mounts else {
            let flags = match follow {
                Follow::Yes => AtFlags::SYMLINK_FOLLOW,
                Follow::No => AtFlags::empty(),
            };
            return Ok((self.place(directory, path)?, flags));
        };
        let place = self.checked(directory, path, follow, refused)?;
        // Its links have been followed.
        Ok((place, AtFlags::empty()))
    }

    /// As `resolved`, where what has the name is checked too: something may be mounted on the name itself.
    fn checked<'a>(
        &self,
        directory: BorrowedFd<'a>,
        path: &CStr,
        follow: Follow,
        refused: fn(u32) -> bool,
    ) -> Answer<ParentAndName<'a>> {
        let place = self.resolved(directory, path, follow, refused)?;
        let found = self.name(place.as_fd(), place.name(), Follow::No)?;
        allowed(&found, refused)?;
        Ok(place)
    }

    /// The directory of what `path` names, held open and checked, and the name in it.
    fn resolved<'a>(
        &self,
        directory: BorrowedFd<'a>,
        path: &CStr,
        follow: Follow,
        refused: fn(u32) -> bool,
    ) -> Answer<ParentAndName<'a>> {
        let mut directory = Start::Guest(directory);
        let mut path = path.to_owned();
        for _ in 0..=limits::LINKS {
            let (parent, name) = split(&path);
            if let Some(parent) = parent {
                let from = match &directory {
                    Start::Guest(fd) => *fd,
                    Start::Opened(fd) => fd.as_fd(),
                };
                let opened =
                    self.open_at(from, &parent, NAME | OFlags::DIRECTORY, Mode::empty())?;
                allowed(&opened, refused)?;
                directory = Start::Opened(opened);
            }
            let place = ParentAndName { directory, name };
            if follow == Follow::No {
                return Ok(place);
            }
            match readlinkat(&place, place.name(), Vec::new()) {
                Ok(target) => path = target,
                // No link, or nothing at all: for the call itself to say.
                Err(_) => return Ok(place),
            }
            directory = place.directory;
        }
        Err(Kernel::LOOP)
    }

    fn open_at(
        &self,
        directory: BorrowedFd<'_>,
        path: &CStr,
        flags: OFlags,
        mode: Mode,
    ) -> Answer<OwnedFd> {
        // openat2(2) wants no mode where nothing can be made.
        let mode = if flags.contains(OFlags::CREATE) {
            mode
        } else {
            Mode::empty()
        };
        interruptible(|| match self.open_by {
            OpenBy::Openat2 => openat2(directory, path, flags, mode, RESOLVE),
            OpenBy::Openat => openat(directory, path, flags, mode),
        })
    }
}

const NAME: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// For calls on a name that may follow its last link.
#[must_use]
pub fn flags(follow: Follow) -> AtFlags {
    match follow {
        Follow::Yes => AtFlags::empty(),
        Follow::No => AtFlags::SYMLINK_NOFOLLOW,
    }
}

/// EACCES for what lies on a file system that the guest must not have.
fn allowed(file: &OwnedFd, refused: fn(u32) -> bool) -> Answer<()> {
    // The numbers have 32 bits, in a field that is signed.
    if refused(fstatfs(file)?.f_type as u32) {
        return Err(Kernel::ACCESS);
    }
    Ok(())
}

/// The directory part of a path, if it has one, and its last name with the slashes that follow.
fn split(path: &CStr) -> (Option<CString>, CString) {
    let bytes = path.to_bytes();
    let end = bytes
        .iter()
        .rposition(|&byte| byte != b'/')
        .map_or(0, |last| last + 1);
    match bytes[..end].iter().rposition(|&byte| byte == b'/') {
        // A part of a C string has no zero byte either.
        Some(slash) => (
            CString::new(&bytes[..=slash]).ok(),
            CString::new(&bytes[slash + 1..]).unwrap_or_default(),
        ),
        None => (None, path.to_owned()),
    }
}

/// Opens the root directory of this process, for [`crate::GuestSettings`].
///
/// # Errors
/// The kernel's.
pub fn root() -> std::io::Result<OwnedFd> {
    Ok(openat(CWD, c"/", NAME | OFlags::DIRECTORY, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_at_its_last_name() {
        for (path, parent, name) in [
            (c"a", None, c"a"),
            (c"a/", None, c"a/"),
            (c"a/b", Some(c"a/"), c"b"),
            (c"a//b//", Some(c"a//"), c"b//"),
            (c"/a", Some(c"/"), c"a"),
            (c"/", None, c"/"),
            (c"//", None, c"//"),
            (c"../..", Some(c"../"), c".."),
            (c"", None, c""),
        ] {
            let expected = (parent.map(CStr::to_owned), name.to_owned());
            assert_eq!(split(path), expected, "{path:?}");
        }
    }
}
