//! The functions of a descriptor.
#![forbid(unsafe_code)]

use std::{num::NonZero, os::fd::AsFd as _};

use rustix::{
    buffer::spare_capacity,
    event::PollFlags,
    fs::{Advice, AtFlags, FileType, fadvise, fdatasync, fstat, fsync, ftruncate, futimens},
    io::{Errno as Kernel, pread, read, write},
};
use wasmtime::component::Resource;

use super::{
    open::of_handle,
    values::{kind, metadata_hash, stat, times},
};
use crate::{
    limits,
    p2::{
        bindings::wasi::filesystem::types::{
            self, DescriptorFlags, DescriptorStat, DescriptorType, HostDescriptor,
            MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
        },
        failure::FileResult,
        guest::ComponentGuest,
        handles::{
            DirectoryEntries, FileHandle, InputStream, OutputHandle, OutputStream, ReadAt, WriteAt,
            opened,
        },
    },
    sys,
    wait::{Meanwhile, interruptible, uninterrupted},
};

impl ComponentGuest {
    fn descriptor(&self, handle: &Resource<FileHandle>) -> FileResult<&FileHandle> {
        Ok(self.table.get(handle)?)
    }

    fn output(
        &mut self,
        handle: &Resource<FileHandle>,
        at: WriteAt,
    ) -> FileResult<Resource<OutputHandle>> {
        let file = self.descriptor(handle)?.writable()?;
        let at = if file.has_places() { at } else { WriteAt::Next };
        let stream = OutputStream::new(file.source(), at);
        Ok(self.push(stream)?)
    }
}

/// Writes to a file, at `offset` if it has places: how much, which is all unless the kernel says otherwise. `others` get on while
/// it has no room.
pub(in crate::p2) fn write_file(
    file: &FileHandle,
    bytes: &[u8],
    offset: u64,
    others: &dyn Meanwhile,
) -> FileResult<u64> {
    let file = file.writable()?;
    let count = if file.has_places() {
        interruptible(|| sys::write_at(file.as_fd(), bytes, offset))?
    } else {
        write_next(file, bytes, others)?
    };
    Ok(count as u64)
}

/// Waits for a file without places, of which a device may let a call wait. Others get on meanwhile.
fn wait_for_next(file: &FileHandle, events: PollFlags, others: &dyn Meanwhile) -> FileResult<()> {
    if file.kind() != FileType::Fifo && !others.is_idle() {
        others.wait_for(file.as_fd(), events, None)?;
    }
    Ok(())
}

/// Reads what comes next, of a file without places.
fn read_next(file: &FileHandle, bytes: &mut Vec<u8>, others: &dyn Meanwhile) -> FileResult<usize> {
    wait_for_next(file, PollFlags::IN, others)?;
    loop {
        match interruptible(|| read(file, spare_capacity(bytes))) {
            Err(Kernel::AGAIN) => {
                others.wait_for(file.as_fd(), PollFlags::IN, None)?;
            }
            read => return Ok(read?),
        }
    }
}

/// Writes all to a file without places, as a call that waits does.
fn write_next(file: &FileHandle, bytes: &[u8], others: &dyn Meanwhile) -> FileResult<usize> {
    wait_for_next(file, PollFlags::OUT, others)?;
    let mut written = 0;
    loop {
        match interruptible(|| write(file, &bytes[written..])) {
            Err(Kernel::AGAIN) => {
                others.wait_for(file.as_fd(), PollFlags::OUT, None)?;
            }
            // The next call says it.
            Err(error) if written == 0 => return Err(error.into()),
            Err(_) | Ok(0) => return Ok(written),
            Ok(count) => written += count,
        }
        if written == bytes.len() {
            return Ok(written);
        }
    }
}

impl HostDescriptor for ComponentGuest {
    fn read_via_stream(
        &mut self,
        file: Resource<FileHandle>,
        offset: u64,
    ) -> FileResult<Resource<InputStream>> {
        let file = self.descriptor(&file)?.readable()?;
        let at = if file.has_places() {
            ReadAt::Offset(offset)
        } else {
            ReadAt::Next
        };
        let stream = InputStream::new(file.source(), at);
        Ok(self.push(stream)?)
    }

    fn write_via_stream(
        &mut self,
        file: Resource<FileHandle>,
        offset: u64,
    ) -> FileResult<Resource<OutputHandle>> {
        self.output(&file, WriteAt::Offset(offset))
    }

    fn append_via_stream(
        &mut self,
        file: Resource<FileHandle>,
    ) -> FileResult<Resource<OutputHandle>> {
        self.output(&file, WriteAt::End)
    }

    fn advise(
        &mut self,
        file: Resource<FileHandle>,
        offset: u64,
        length: u64,
        advice: types::Advice,
    ) -> FileResult<()> {
        let advice = match advice {
            types::Advice::Normal => Advice::Normal,
            types::Advice::Sequential => Advice::Sequential,
            types::Advice::Random => Advice::Random,
            types::Advice::WillNeed => Advice::WillNeed,
            types::Advice::DontNeed => Advice::DontNeed,
            types::Advice::NoReuse => Advice::NoReuse,
        };
        let file = self.descriptor(&file)?;
        if file.is_directory() {
            return Err(Kernel::BADF.into());
        }
        Ok(fadvise(file, offset, NonZero::new(length), advice)?)
    }

    fn sync_data(&mut self, file: Resource<FileHandle>) -> FileResult<()> {
        let file = self.descriptor(&file)?;
        if file.is_directory() {
            let directory = opened(&self.paths, file)?;
            return Ok(uninterrupted(|| fdatasync(&directory))?);
        }
        Ok(uninterrupted(|| fdatasync(file))?)
    }

    fn get_flags(&mut self, file: Resource<FileHandle>) -> FileResult<DescriptorFlags> {
        Ok(of_handle(self.descriptor(&file)?))
    }

    fn get_type(&mut self, file: Resource<FileHandle>) -> FileResult<DescriptorType> {
        Ok(kind(self.descriptor(&file)?.kind()))
    }

    fn set_size(&mut self, file: Resource<FileHandle>, size: u64) -> FileResult<()> {
        let file = self.descriptor(&file)?;
        Ok(uninterrupted(|| ftruncate(file, size))?)
    }

    fn set_times(
        &mut self,
        file: Resource<FileHandle>,
        access: NewTimestamp,
        modification: NewTimestamp,
    ) -> FileResult<()> {
        let times = times(access, modification)?;
        let file = self.descriptor(&file)?;
        if file.is_directory() {
            return Ok(futimens(opened(&self.paths, file)?, &times)?);
        }
        Ok(futimens(file, &times)?)
    }

    fn read(
        &mut self,
        file: Resource<FileHandle>,
        length: u64,
        offset: u64,
    ) -> FileResult<(Vec<u8>, bool)> {
        let file = self.descriptor(&file)?.readable()?;
        let length =
            usize::try_from(length).map_or(limits::TRANSFER, |length| length.min(limits::TRANSFER));
        if length == 0 {
            return Ok((Vec::new(), false));
        }
        let mut bytes = Vec::with_capacity(length);
        let count = if file.has_places() {
            interruptible(|| pread(file, spare_capacity(&mut bytes), offset))?
        } else {
            read_next(file, &mut bytes, &*self.unsent)?
        };
        Ok((bytes, count == 0))
    }

    fn write(
        &mut self,
        file: Resource<FileHandle>,
        bytes: Vec<u8>,
        offset: u64,
    ) -> FileResult<u64> {
        write_file(self.descriptor(&file)?, &bytes, offset, &*self.unsent)
    }

    fn read_directory(
        &mut self,
        directory: Resource<FileHandle>,
    ) -> FileResult<Resource<DirectoryEntries>> {
        let directory = self.descriptor(&directory)?.directory()?;
        let slot = self.listing_slots.take().ok_or(Kernel::MFILE)?;
        let entries = DirectoryEntries::new(opened(&self.paths, directory)?, slot);
        Ok(self.push(entries)?)
    }

    fn sync(&mut self, file: Resource<FileHandle>) -> FileResult<()> {
        let file = self.descriptor(&file)?;
        if file.is_directory() {
            let directory = opened(&self.paths, file)?;
            return Ok(uninterrupted(|| fsync(&directory))?);
        }
        Ok(uninterrupted(|| fsync(file))?)
    }

    fn create_directory_at(
        &mut self,
        directory: Resource<FileHandle>,
        path: String,
    ) -> FileResult<()> {
        self.make_directory(self.descriptor(&directory)?, &path)
    }

    fn stat(&mut self, file: Resource<FileHandle>) -> FileResult<DescriptorStat> {
        Ok(stat(&fstat(self.descriptor(&file)?)?))
    }

    fn stat_at(
        &mut self,
        directory: Resource<FileHandle>,
        flags: PathFlags,
        path: String,
    ) -> FileResult<DescriptorStat> {
        let found = self.stat_of_path(self.descriptor(&directory)?, flags, &path)?;
        Ok(stat(&found))
    }

    fn set_times_at(
        &mut self,
        directory: Resource<FileHandle>,
        flags: PathFlags,
        path: String,
        access: NewTimestamp,
        modification: NewTimestamp,
    ) -> FileResult<()> {
        let times = times(access, modification)?;
        self.set_times_of_path(self.descriptor(&directory)?, flags, &path, &times)
    }

    fn link_at(
        &mut self,
        old: Resource<FileHandle>,
        flags: PathFlags,
        old_path: String,
        new: Resource<FileHandle>,
        new_path: String,
    ) -> FileResult<()> {
        let (old, new) = (self.descriptor(&old)?, self.descriptor(&new)?);
        self.hard_link((old, flags, &old_path), (new, &new_path))
    }

    fn open_at(
        &mut self,
        directory: Resource<FileHandle>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FileResult<Resource<FileHandle>> {
        let directory = self.descriptor(&directory)?;
        let opened = self.open(directory, path_flags, &path, open_flags, flags)?;
        Ok(self.push(opened)?)
    }

    fn readlink_at(&mut self, directory: Resource<FileHandle>, path: String) -> FileResult<String> {
        self.read_link(self.descriptor(&directory)?, &path)
    }

    fn remove_directory_at(
        &mut self,
        directory: Resource<FileHandle>,
        path: String,
    ) -> FileResult<()> {
        self.remove(self.descriptor(&directory)?, &path, AtFlags::REMOVEDIR)
    }

    fn rename_at(
        &mut self,
        old: Resource<FileHandle>,
        old_path: String,
        new: Resource<FileHandle>,
        new_path: String,
    ) -> FileResult<()> {
        let (old, new) = (self.descriptor(&old)?, self.descriptor(&new)?);
        self.rename((old, &old_path), (new, &new_path))
    }

    fn symlink_at(
        &mut self,
        directory: Resource<FileHandle>,
        target: String,
        path: String,
    ) -> FileResult<()> {
        self.symbolic_link(self.descriptor(&directory)?, &target, &path)
    }

    fn unlink_file_at(&mut self, directory: Resource<FileHandle>, path: String) -> FileResult<()> {
        self.remove(self.descriptor(&directory)?, &path, AtFlags::empty())
    }

    fn is_same_object(
        &mut self,
        one: Resource<FileHandle>,
        other: Resource<FileHandle>,
    ) -> wasmtime::Result<bool> {
        let identity = |file: &FileHandle| {
            let stat = fstat(file)?;
            Ok::<_, Kernel>((stat.st_dev, stat.st_ino))
        };
        let (one, other) = (self.table.get(&one)?, self.table.get(&other)?);
        Ok(identity(one)? == identity(other)?)
    }

    fn metadata_hash(&mut self, file: Resource<FileHandle>) -> FileResult<MetadataHashValue> {
        Ok(metadata_hash(&fstat(self.descriptor(&file)?)?))
    }

    fn metadata_hash_at(
        &mut self,
        directory: Resource<FileHandle>,
        flags: PathFlags,
        path: String,
    ) -> FileResult<MetadataHashValue> {
        let found = self.stat_of_path(self.descriptor(&directory)?, flags, &path)?;
        Ok(metadata_hash(&found))
    }

    fn drop(&mut self, file: Resource<FileHandle>) -> wasmtime::Result<()> {
        self.table.delete(file)?;
        Ok(())
    }
}
