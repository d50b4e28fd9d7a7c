//! Names: making, moving and removing them, and listing directories.
#![forbid(unsafe_code)]

use std::{ffi::CStr, os::fd::AsFd as _};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, fstat, linkat, mkdirat, readlinkat_raw, renameat, symlinkat,
    unlinkat,
};
use wiggle::{GuestMemory, GuestPtr};

use crate::{
    abi::types,
    descriptors::Description,
    errno::{Errno, Result},
    files::follow,
    guest::Guest,
    listing::Listing,
    memory,
    paths::{self, ParentAndName},
};

/// The mode of a new directory, less the container's umask: preview 1 has none of its own.
const NEW_DIRECTORY: Mode = Mode::from_raw_mode(0o777);

impl Guest {
    /// Where a call acts that makes, moves or removes a name.
    pub(crate) fn place(&self, fd: types::Fd, path: &CStr) -> Result<ParentAndName<'_>> {
        let directory = self.descriptors.directory(fd)?.as_ref().as_fd();
        Ok(self.paths.place(directory, path)?)
    }

    pub(crate) fn list(
        &self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        buffer: GuestPtr<[u8]>,
        cookie: types::Dircookie,
    ) -> Result<types::Size> {
        let file = self.descriptors.get(fd)?;
        let target = memory::slice_mut(memory, buffer)?;
        let mut listing = match file.take_listing() {
            Some(listing) => listing,
            None => self.listing(file)?,
        };
        let listed = listing.list(file.as_fd(), target, cookie);
        // A guest that has come to the end rarely goes on, and the buffer is large.
        let keep = listed.as_ref().is_ok_and(|&used| used == target.len());
        file.put_listing((keep && !target.is_empty()).then_some(listing));
        let used = listed?;
        types::Size::try_from(used).map_err(|_| Errno::Overflow)
    }

    fn listing(&self, file: &Description) -> Result<Listing> {
        if FileType::from_raw_mode(fstat(file)?.st_mode) != FileType::Directory {
            return Err(Errno::Notdir);
        }
        if !file.is_preopen() {
            return Ok(Listing::new(None));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = self.paths.open(file.as_fd(), c".", flags, Mode::empty())?;
        Ok(Listing::new(Some(opened)))
    }

    pub(crate) fn make_directory(
        &self,
        memory: &GuestMemory<'_>,
        fd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        let path = paths::argument(memory, path)?;
        let place = self.place(fd, &path)?;
        Ok(mkdirat(&place, place.name(), NEW_DIRECTORY)?)
    }

    pub(crate) fn remove(
        &self,
        memory: &GuestMemory<'_>,
        fd: types::Fd,
        path: GuestPtr<str>,
        what: AtFlags,
    ) -> Result<()> {
        let path = paths::argument(memory, path)?;
        let place = self.place(fd, &path)?;
        Ok(unlinkat(&place, place.name(), what)?)
    }

    pub(crate) fn rename(
        &self,
        memory: &GuestMemory<'_>,
        (old_fd, old): (types::Fd, GuestPtr<str>),
        (new_fd, new): (types::Fd, GuestPtr<str>),
    ) -> Result<()> {
        let (old, new) = (paths::argument(memory, old)?, paths::argument(memory, new)?);
        let old = self.place(old_fd, &old)?;
        let new = self.place(new_fd, &new)?;
        Ok(renameat(&old, old.name(), &new, new.name())?)
    }

    pub(crate) fn hard_link(
        &self,
        memory: &GuestMemory<'_>,
        (old_fd, lookup, old): (types::Fd, types::Lookupflags, GuestPtr<str>),
        (new_fd, new): (types::Fd, GuestPtr<str>),
    ) -> Result<()> {
        let (old, new) = (paths::argument(memory, old)?, paths::argument(memory, new)?);
        let old_fd = self.descriptors.directory(old_fd)?;
        let (old, flags) = self
            .paths
            .place_to_link(old_fd.as_fd(), &old, follow(lookup))?;
        let new = self.place(new_fd, &new)?;
        Ok(linkat(&old, old.name(), &new, new.name(), flags)?)
    }

    pub(crate) fn symbolic_link(
        &self,
        memory: &GuestMemory<'_>,
        target: GuestPtr<str>,
        fd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        // What it holds is not resolved now, and may be absolute.
        let target = paths::text(memory, target)?;
        if target.is_empty() {
            // Before the path, as the kernel says it.
            return Err(Errno::Noent);
        }
        let path = paths::argument(memory, path)?;
        let place = self.place(fd, &path)?;
        Ok(symlinkat(&target, &place, place.name())?)
    }

    pub(crate) fn read_link(
        &self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        path: GuestPtr<str>,
        buffer: GuestPtr<[u8]>,
    ) -> Result<types::Size> {
        let path = paths::argument(memory, path)?;
        let file = self.descriptors.directory(fd)?;
        if buffer.len() == 0 {
            // Before the path, as the kernel says it.
            return Err(Errno::Inval);
        }
        let place = self.paths.place(file.as_ref().as_fd(), &path)?;
        let target = memory::slice_mut(memory, buffer)?;
        let used = readlinkat_raw(&place, place.name(), target)?;
        types::Size::try_from(used).map_err(|_| Errno::Overflow)
    }
}
