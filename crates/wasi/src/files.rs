//! Opening files, and everything that preview 1 does with an open one.
#![forbid(unsafe_code)]

use std::{os::fd::AsFd as _, sync::Arc};

use rustix::{
    fs::{
        Advice, FallocateFlags, Mode, OFlags, SeekFrom, fadvise, fallocate, fcntl_getfl,
        fcntl_setfl, fdatasync, fsync, ftruncate, futimens, seek, utimensat,
    },
    io::{read, write},
};
use wiggle::{GuestMemory, GuestPtr};

use crate::{
    abi::types,
    descriptors::Description,
    errno::{Errno, Result},
    guest::Guest,
    memory::{self, Vectors},
    paths::{self, Follow, LateMounts},
    stat,
    sys::{self, At},
    transfer::{Direction, PIPE_BUF, transfer, write_whole},
    wait::{interruptible, uninterrupted},
};

/// The mode of a new file, less the container's umask: preview 1 has none of its own.
const NEW_FILE: Mode = Mode::from_raw_mode(0o666);

/// Whether the last link of a path is followed.
pub(crate) fn follow(flags: types::Lookupflags) -> Follow {
    if flags.contains(types::Lookupflags::SYMLINK_FOLLOW) {
        Follow::Yes
    } else {
        Follow::No
    }
}

/// What to open, and how.
pub(crate) struct Open {
    pub(crate) lookup: types::Lookupflags,
    pub(crate) oflags: types::Oflags,
    pub(crate) rights: types::Rights,
    pub(crate) fdflags: types::Fdflags,
}

impl Open {
    /// The flags of open(2). Rights are how preview 1 says for what a file is opened.
    fn flags(&self) -> Result<OFlags> {
        use types::{Oflags as O, Rights as R};
        let reads = self.rights.intersects(R::FD_READ | R::FD_READDIR);
        let makes = self.oflags.intersects(O::CREAT | O::TRUNC);
        let mut flags = match (reads, self.rights.contains(R::FD_WRITE)) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            (true, false) => OFlags::RDONLY,
            // Neither is asked of what is only a name, unless the file is made by it.
            (false, false) if makes => OFlags::RDONLY,
            (false, false) => OFlags::PATH,
        };
        let set = |on: bool, flag: OFlags| if on { flag } else { OFlags::empty() };
        if self.oflags.contains(O::CREAT | O::DIRECTORY) {
            // Linux has said so since 6.4, and made a file before.
            return Err(Errno::Inval);
        }
        flags |= set(self.oflags.contains(O::DIRECTORY), OFlags::DIRECTORY);
        flags |= set(follow(self.lookup) == Follow::No, OFlags::NOFOLLOW);
        if !flags.contains(OFlags::PATH) {
            flags |= set(self.oflags.contains(O::CREAT), OFlags::CREATE);
            flags |= set(self.oflags.contains(O::EXCL), OFlags::EXCL);
            flags |= set(self.oflags.contains(O::TRUNC), OFlags::TRUNC);
            flags |= status(self.fdflags);
        }
        Ok(flags)
    }
}

/// The flags that a description keeps.
fn status(flags: types::Fdflags) -> OFlags {
    use types::Fdflags as F;
    let mut status = OFlags::empty();
    for (flag, kernel) in [
        (F::APPEND, OFlags::APPEND),
        (F::NONBLOCK, OFlags::NONBLOCK),
        (F::DSYNC, OFlags::DSYNC),
        (F::SYNC, OFlags::SYNC),
        (F::RSYNC, OFlags::SYNC),
    ] {
        if flags.contains(flag) {
            status |= kernel;
        }
    }
    status
}

impl Guest {
    pub(crate) fn open_file(
        &mut self,
        memory: &GuestMemory<'_>,
        directory: types::Fd,
        path: GuestPtr<str>,
        open: &Open,
    ) -> Result<types::Fd> {
        self.open_with_mode(memory, directory, path, open, Ok(NEW_FILE))
    }

    /// As `path_open`, with the mode of a file that is made by it. Its error is one of the last.
    pub(crate) fn open_with_mode(
        &mut self,
        memory: &GuestMemory<'_>,
        directory: types::Fd,
        path: GuestPtr<str>,
        open: &Open,
        mode: Result<Mode>,
    ) -> Result<types::Fd> {
        let path = paths::argument(memory, path)?;
        let flags = open.flags()?;
        let directory = Arc::clone(self.descriptors.directory(directory)?);
        let directory = directory.as_ref().as_fd();
        match self.paths.open(directory, &path, flags, mode?) {
            Ok(fd) => self.descriptors.insert(Description::new(fd)),
            Err(error) => {
                let follow = if flags.contains(OFlags::NOFOLLOW) {
                    Follow::No
                } else {
                    Follow::Yes
                };
                match self.stream_behind(error, directory, &path, follow) {
                    Some(fd) => self.open_again(fd, flags),
                    None => Err(error.into()),
                }
            }
        }
    }

    /// A second number for an open file of the guest's, for what `flags` ask for.
    fn open_again(&mut self, fd: types::Fd, flags: OFlags) -> Result<types::Fd> {
        let Ok(file) = self.descriptors.get(fd) else {
            return Err(Errno::Noent);
        };
        if flags.contains(OFlags::DIRECTORY) {
            return Err(Errno::Notdir);
        }
        let open = fcntl_getfl(file)? & OFlags::ACCMODE;
        let wanted = flags & OFlags::ACCMODE;
        if open != OFlags::RDWR && open != wanted && !flags.contains(OFlags::PATH) {
            return Err(Errno::Acces);
        }
        let file = Arc::clone(file);
        self.descriptors.share(file, 0)
    }

    pub(crate) fn read(
        &self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        list: types::IovecArray,
        at: At,
    ) -> Result<types::Size> {
        let file = self.descriptors.get(fd)?;
        let vectors = Vectors::read(memory, list)?;
        let bytes = memory::bytes(memory)?;
        size(transfer(file, Direction::Read, || match (&vectors, at) {
            (Vectors::One(range), At::Cursor) => read(file, &mut bytes[range.clone()]),
            (Vectors::One(range), At::Offset(offset)) => {
                sys::read_at(file.as_ref().as_fd(), &mut bytes[range.clone()], offset)
            }
            (Vectors::Many(ranges), at) => {
                sys::read_vectors(file.as_ref().as_fd(), bytes, ranges, at)
            }
        })?)
    }

    pub(crate) fn write(
        &self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        list: types::CiovecArray,
        at: At,
    ) -> Result<types::Size> {
        let file = self.descriptors.get(fd)?;
        let mut vectors = Vectors::read(memory, list)?;
        let bytes = memory::bytes(memory)?;
        if file.stream_is_nonblocking() == Some(true) {
            // Its description may block, so no more than surely fits.
            vectors = Vectors::One(vectors.first(PIPE_BUF));
        }
        let write_to = |vectors: &Vectors| {
            transfer(file, Direction::Write, || match (vectors, at) {
                (Vectors::One(range), At::Cursor) => write(file, &bytes[range.clone()]),
                (Vectors::One(range), At::Offset(offset)) => {
                    sys::write_at(file.as_ref().as_fd(), &bytes[range.clone()], offset)
                }
                (Vectors::Many(ranges), at) => {
                    sys::write_vectors(file.as_ref().as_fd(), bytes, ranges, at)
                }
            })
        };
        size(match at {
            At::Cursor => write_whole(vectors, write_to)?,
            // What has a position does not wait for another.
            At::Offset(_) => write_to(&vectors)?,
        })
    }

    pub(crate) fn seek(
        &self,
        fd: types::Fd,
        offset: types::Filedelta,
        whence: types::Whence,
    ) -> Result<types::Filesize> {
        let file = self.descriptors.get(fd)?;
        // A listing goes on where the directory's position is.
        file.put_listing(None);
        let to = match whence {
            // A negative start is beyond what any file has, which the kernel refuses.
            types::Whence::Set => SeekFrom::Start(offset.cast_unsigned()),
            types::Whence::Cur => SeekFrom::Current(offset),
            types::Whence::End => SeekFrom::End(offset),
        };
        Ok(seek(file, to)?)
    }

    pub(crate) fn sync(&self, fd: types::Fd) -> Result<()> {
        let file = self.descriptors.get(fd)?;
        Ok(uninterrupted(|| fsync(file))?)
    }

    pub(crate) fn datasync(&self, fd: types::Fd) -> Result<()> {
        let file = self.descriptors.get(fd)?;
        Ok(uninterrupted(|| fdatasync(file))?)
    }

    pub(crate) fn advise(
        &self,
        fd: types::Fd,
        offset: types::Filesize,
        length: types::Filesize,
        advice: types::Advice,
    ) -> Result<()> {
        let file = self.descriptors.get(fd)?;
        let advice = match advice {
            types::Advice::Normal => Advice::Normal,
            types::Advice::Sequential => Advice::Sequential,
            types::Advice::Random => Advice::Random,
            types::Advice::Willneed => Advice::WillNeed,
            types::Advice::Dontneed => Advice::DontNeed,
            types::Advice::Noreuse => Advice::NoReuse,
        };
        Ok(fadvise(
            file,
            offset,
            std::num::NonZero::new(length),
            advice,
        )?)
    }

    pub(crate) fn allocate(
        &self,
        fd: types::Fd,
        offset: types::Filesize,
        length: types::Filesize,
    ) -> Result<()> {
        let file = self.descriptors.get(fd)?;
        let all = FallocateFlags::empty();
        // On some file systems it starts over when it is called again: a timer could keep it from ever ending.
        Ok(interruptible(|| fallocate(file, all, offset, length))?)
    }

    pub(crate) fn resize(&self, fd: types::Fd, size: types::Filesize) -> Result<()> {
        let file = self.descriptors.get(fd)?;
        Ok(uninterrupted(|| ftruncate(file, size))?)
    }

    pub(crate) fn set_flags(&self, fd: types::Fd, flags: types::Fdflags) -> Result<()> {
        let file = self.descriptors.get(fd)?;
        // Its other flags are shared by every process that has the stream.
        if file.set_stream_nonblocking(flags.contains(types::Fdflags::NONBLOCK)) {
            return Ok(());
        }
        Ok(fcntl_setfl(file, status(flags))?)
    }

    pub(crate) fn set_times(
        &self,
        fd: types::Fd,
        atim: types::Timestamp,
        mtim: types::Timestamp,
        flags: types::Fstflags,
    ) -> Result<()> {
        let file = self.descriptors.get(fd)?.own()?;
        Ok(futimens(file, &stat::times(atim, mtim, flags)?)?)
    }

    pub(crate) fn set_times_of_path(
        &self,
        memory: &GuestMemory<'_>,
        directory: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
        times: &rustix::fs::Timestamps,
    ) -> Result<()> {
        let path = paths::argument(memory, path)?;
        let directory = self.descriptors.directory(directory)?;
        let follow = follow(lookup);
        Ok(match self.paths.late_mounts() {
            LateMounts::Impossible => utimensat(directory, &path, times, paths::flags(follow)),
            // The kernel does not look for a file that it has nothing to set of.
            LateMounts::Checked(_) if stat::sets_nothing(times) => Ok(()),
            LateMounts::Checked(_) => {
                let found = self.paths.name(directory.as_ref().as_fd(), &path, follow)?;
                utimensat(found, c"", times, rustix::fs::AtFlags::EMPTY_PATH)
            }
        }?)
    }

    pub(crate) fn stat_of_path(
        &self,
        memory: &GuestMemory<'_>,
        directory: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
    ) -> Result<types::Filestat> {
        let path = paths::argument(memory, path)?;
        let directory = self.descriptors.directory(directory)?.as_ref().as_fd();
        let follow = follow(lookup);
        match self.paths.metadata(directory, &path, follow) {
            Ok(stat) => Ok(stat::filestat(&stat)),
            Err(error) => {
                let stream = self.stream_behind(error, directory, &path, follow);
                match stream.map(|fd| self.descriptors.get(fd)) {
                    Some(Ok(file)) => stat::of_open(file),
                    Some(Err(_)) | None => Err(error.into()),
                }
            }
        }
    }
}

/// What was read or written, which Linux bounds by less than 2 GiB a call.
fn size(bytes: usize) -> Result<types::Size> {
    types::Size::try_from(bytes).map_err(|_| Errno::Overflow)
}
