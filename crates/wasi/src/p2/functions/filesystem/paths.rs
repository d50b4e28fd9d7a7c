//! What is done by a path: names are made, moved and removed, and looked at.
#![forbid(unsafe_code)]

use std::os::fd::AsFd as _;

use rustix::{
    fs::{
        AtFlags, Mode, Stat, Timestamps, linkat, mkdirat, readlinkat, renameat, symlinkat,
        unlinkat, utimensat,
    },
    io::Errno as Kernel,
};

use super::values::{follow, path, text};
use crate::{
    p2::{
        bindings::wasi::filesystem::types::PathFlags, failure::FileResult, guest::ComponentGuest,
        handles::FileHandle,
    },
    paths::{self, LateMounts, ParentAndName},
    stat::sets_nothing,
};

/// The mode of a new directory, less the container's umask: the interface has none of its own.
const NEW_DIRECTORY: Mode = Mode::from_raw_mode(0o777);

impl ComponentGuest {
    /// Where a call acts that makes, moves or removes a name, or reads a link.
    fn place<'a>(&self, directory: &'a FileHandle, name: &str) -> FileResult<ParentAndName<'a>> {
        let name = path(name)?;
        let directory = directory.directory()?;
        Ok(self.paths.place(directory.as_fd(), &name)?)
    }

    pub(super) fn make_directory(&self, directory: &FileHandle, name: &str) -> FileResult<()> {
        let place = self.place(directory, name)?;
        Ok(mkdirat(&place, place.name(), NEW_DIRECTORY)?)
    }

    pub(super) fn remove(
        &self,
        directory: &FileHandle,
        name: &str,
        what: AtFlags,
    ) -> FileResult<()> {
        let place = self.place(directory, name)?;
        Ok(unlinkat(&place, place.name(), what)?)
    }

    pub(super) fn rename(
        &self,
        (old_directory, old): (&FileHandle, &str),
        (new_directory, new): (&FileHandle, &str),
    ) -> FileResult<()> {
        let old = self.place(old_directory, old)?;
        let new = self.place(new_directory, new)?;
        Ok(renameat(&old, old.name(), &new, new.name())?)
    }

    pub(super) fn hard_link(
        &self,
        (old_directory, flags, old): (&FileHandle, PathFlags, &str),
        (new_directory, new): (&FileHandle, &str),
    ) -> FileResult<()> {
        let old = path(old)?;
        let old_directory = old_directory.directory()?;
        let (old, flags) = self
            .paths
            .place_to_link(old_directory.as_fd(), &old, follow(flags))?;
        let new = self.place(new_directory, new)?;
        Ok(linkat(&old, old.name(), &new, new.name(), flags)?)
    }

    pub(super) fn symbolic_link(
        &self,
        directory: &FileHandle,
        target: &str,
        name: &str,
    ) -> FileResult<()> {
        // What it holds is not resolved now, and may be absolute.
        let target = text(target)?;
        let place = self.place(directory, name)?;
        Ok(symlinkat(&target, &place, place.name())?)
    }

    pub(super) fn read_link(&self, directory: &FileHandle, name: &str) -> FileResult<String> {
        let place = self.place(directory, name)?;
        let target = readlinkat(&place, place.name(), Vec::new())?;
        let target = target.into_string();
        target.map_err(|_| Kernel::ILSEQ.into())
    }

    pub(super) fn stat_of_path(
        &self,
        directory: &FileHandle,
        flags: PathFlags,
        name: &str,
    ) -> FileResult<Stat> {
        let name = path(name)?;
        let directory = directory.directory()?;
        Ok(self
            .paths
            .metadata(directory.as_fd(), &name, follow(flags))?)
    }

    pub(super) fn set_times_of_path(
        &self,
        directory: &FileHandle,
        flags: PathFlags,
        name: &str,
        times: &Timestamps,
    ) -> FileResult<()> {
        let name = path(name)?;
        let directory = directory.directory()?;
        let follow = follow(flags);
        Ok(match self.paths.late_mounts() {
            LateMounts::Impossible => utimensat(directory, &name, times, paths::flags(follow)),
            // The kernel does not look for a file that it has nothing to set of.
            LateMounts::Checked(_) if sets_nothing(times) => Ok(()),
            LateMounts::Checked(_) => {
                let found = self.paths.name(directory.as_fd(), &name, follow)?;
                utimensat(found, c"", times, AtFlags::EMPTY_PATH)
            }
        }?)
    }
}
