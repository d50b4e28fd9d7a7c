//! WASI preview 1: each function, and where it is done.
#![forbid(unsafe_code)]

use rustix::fs::AtFlags;
use wiggle::{GuestMemory, GuestPtr};

use crate::{
    abi::{types, wasi_snapshot_preview1::WasiSnapshotPreview1},
    clocks,
    errno::{Errno, Result},
    fdstat::fdstat,
    files::Open,
    guest::Guest,
    memory, process, stat,
    sys::At,
};

/// Name of the one preopen.
const ROOT: &[u8] = b"/";

type Memory<'a> = GuestMemory<'a>;

impl WasiSnapshotPreview1 for Guest {
    fn args_get(
        &mut self,
        memory: &mut Memory<'_>,
        argv: GuestPtr<GuestPtr<u8>>,
        buffer: GuestPtr<u8>,
    ) -> Result<()> {
        process::write_strings(memory, &self.arguments, argv, buffer)
    }

    fn args_sizes_get(&mut self, _: &mut Memory<'_>) -> Result<(types::Size, types::Size)> {
        Self::sizes(&self.arguments)
    }

    fn environ_get(
        &mut self,
        memory: &mut Memory<'_>,
        environ: GuestPtr<GuestPtr<u8>>,
        buffer: GuestPtr<u8>,
    ) -> Result<()> {
        process::write_strings(memory, &self.environment, environ, buffer)
    }

    fn environ_sizes_get(&mut self, _: &mut Memory<'_>) -> Result<(types::Size, types::Size)> {
        Self::sizes(&self.environment)
    }

    fn clock_res_get(
        &mut self,
        _: &mut Memory<'_>,
        id: types::Clockid,
    ) -> Result<types::Timestamp> {
        self.resolutions.get(id)
    }

    fn clock_time_get(
        &mut self,
        _: &mut Memory<'_>,
        id: types::Clockid,
        _precision: types::Timestamp,
    ) -> Result<types::Timestamp> {
        clocks::now(id)
    }

    fn fd_advise(
        &mut self,
        _: &mut Memory<'_>,
        fd: types::Fd,
        offset: types::Filesize,
        length: types::Filesize,
        advice: types::Advice,
    ) -> Result<()> {
        self.advise(fd, offset, length, advice)
    }

    fn fd_allocate(
        &mut self,
        _: &mut Memory<'_>,
        fd: types::Fd,
        offset: types::Filesize,
        length: types::Filesize,
    ) -> Result<()> {
        self.allocate(fd, offset, length)
    }

    fn fd_close(&mut self, _: &mut Memory<'_>, fd: types::Fd) -> Result<()> {
        self.descriptors.close(fd)
    }

    fn fd_datasync(&mut self, _: &mut Memory<'_>, fd: types::Fd) -> Result<()> {
        self.datasync(fd)
    }

    fn fd_fdstat_get(&mut self, _: &mut Memory<'_>, fd: types::Fd) -> Result<types::Fdstat> {
        fdstat(self.descriptors.get(fd)?)
    }

    fn fd_fdstat_set_flags(
        &mut self,
        _: &mut Memory<'_>,
        fd: types::Fd,
        flags: types::Fdflags,
    ) -> Result<()> {
        self.set_flags(fd, flags)
    }

    /// Rights are no fence here: what may be done is what the mounts allow.
    fn fd_fdstat_set_rights(
        &mut self,
        _: &mut Memory<'_>,
        fd: types::Fd,
        _base: types::Rights,
        _inheriting: types::Rights,
    ) -> Result<()> {
        self.descriptors.get(fd)?;
        Err(Errno::Notsup)
    }

    fn fd_filestat_get(&mut self, _: &mut Memory<'_>, fd: types::Fd) -> Result<types::Filestat> {
        stat::of_open(self.descriptors.get(fd)?)
    }

    fn fd_filestat_set_size(
        &mut self,
        _: &mut Memory<'_>,
        fd: types::Fd,
        size: types::Filesize,
    ) -> Result<()> {
        self.resize(fd, size)
    }

    fn fd_filestat_set_times(
        &mut self,
        _: &mut Memory<'_>,
        fd: types::Fd,
        atim: types::Timestamp,
        mtim: types::Timestamp,
        flags: types::Fstflags,
    ) -> Result<()> {
        self.set_times(fd, atim, mtim, flags)
    }

    fn fd_pread(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        iovs: types::IovecArray,
        offset: types::Filesize,
    ) -> Result<types::Size> {
        self.read(memory, fd, iovs, At::Offset(offset))
    }

    fn fd_prestat_get(&mut self, _: &mut Memory<'_>, fd: types::Fd) -> Result<types::Prestat> {
        if !self.descriptors.get(fd)?.is_preopen() {
            return Err(Errno::Badf);
        }
        let pr_name_len = u32::try_from(ROOT.len()).map_err(|_| Errno::Overflow)?;
        Ok(types::Prestat::Dir(types::PrestatDir { pr_name_len }))
    }

    fn fd_prestat_dir_name(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        path: GuestPtr<u8>,
        length: types::Size,
    ) -> Result<()> {
        if !self.descriptors.get(fd)?.is_preopen() {
            return Err(Errno::Badf);
        }
        let name = memory::slice_mut(memory, path.as_array(length))?;
        name.get_mut(..ROOT.len())
            .ok_or(Errno::Nametoolong)?
            .copy_from_slice(ROOT);
        Ok(())
    }

    fn fd_pwrite(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        iovs: types::CiovecArray,
        offset: types::Filesize,
    ) -> Result<types::Size> {
        self.write(memory, fd, iovs, At::Offset(offset))
    }

    fn fd_read(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        iovs: types::IovecArray,
    ) -> Result<types::Size> {
        self.read(memory, fd, iovs, At::Cursor)
    }

    fn fd_readdir(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        buffer: GuestPtr<u8>,
        length: types::Size,
        cookie: types::Dircookie,
    ) -> Result<types::Size> {
        self.list(memory, fd, buffer.as_array(length), cookie)
    }

    fn fd_renumber(&mut self, _: &mut Memory<'_>, fd: types::Fd, to: types::Fd) -> Result<()> {
        self.descriptors.renumber(fd, to)
    }

    fn fd_seek(
        &mut self,
        _: &mut Memory<'_>,
        fd: types::Fd,
        offset: types::Filedelta,
        whence: types::Whence,
    ) -> Result<types::Filesize> {
        self.seek(fd, offset, whence)
    }

    fn fd_sync(&mut self, _: &mut Memory<'_>, fd: types::Fd) -> Result<()> {
        self.sync(fd)
    }

    fn fd_tell(&mut self, _: &mut Memory<'_>, fd: types::Fd) -> Result<types::Filesize> {
        Ok(rustix::fs::tell(self.descriptors.get(fd)?)?)
    }

    fn fd_write(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        iovs: types::CiovecArray,
    ) -> Result<types::Size> {
        self.write(memory, fd, iovs, At::Cursor)
    }

    fn path_create_directory(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        self.make_directory(memory, fd, path)
    }

    fn path_filestat_get(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
    ) -> Result<types::Filestat> {
        self.stat_of_path(memory, fd, lookup, path)
    }

    fn path_filestat_set_times(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
        atim: types::Timestamp,
        mtim: types::Timestamp,
        flags: types::Fstflags,
    ) -> Result<()> {
        let times = stat::times(atim, mtim, flags)?;
        self.set_times_of_path(memory, fd, lookup, path, &times)
    }

    fn path_link(
        &mut self,
        memory: &mut Memory<'_>,
        old_fd: types::Fd,
        lookup: types::Lookupflags,
        old_path: GuestPtr<str>,
        new_fd: types::Fd,
        new_path: GuestPtr<str>,
    ) -> Result<()> {
        self.hard_link(memory, (old_fd, lookup, old_path), (new_fd, new_path))
    }

    fn path_open(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
        oflags: types::Oflags,
        rights: types::Rights,
        _inheriting: types::Rights,
        fdflags: types::Fdflags,
    ) -> Result<types::Fd> {
        let open = Open {
            lookup,
            oflags,
            rights,
            fdflags,
        };
        self.open_file(memory, fd, path, &open)
    }

    fn path_readlink(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        path: GuestPtr<str>,
        buffer: GuestPtr<u8>,
        length: types::Size,
    ) -> Result<types::Size> {
        self.read_link(memory, fd, path, buffer.as_array(length))
    }

    fn path_remove_directory(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        self.remove(memory, fd, path, AtFlags::REMOVEDIR)
    }

    fn path_rename(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        old_path: GuestPtr<str>,
        new_fd: types::Fd,
        new_path: GuestPtr<str>,
    ) -> Result<()> {
        self.rename(memory, (fd, old_path), (new_fd, new_path))
    }

    fn path_symlink(
        &mut self,
        memory: &mut Memory<'_>,
        target: GuestPtr<str>,
        fd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        self.symbolic_link(memory, target, fd, path)
    }

    fn path_unlink_file(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        self.remove(memory, fd, path, AtFlags::empty())
    }

    fn poll_oneoff(
        &mut self,
        memory: &mut Memory<'_>,
        subscriptions: GuestPtr<types::Subscription>,
        events: GuestPtr<types::Event>,
        count: types::Size,
    ) -> Result<types::Size> {
        self.poll(memory, subscriptions, events, count)
    }

    fn proc_exit(&mut self, _: &mut Memory<'_>, code: types::Exitcode) -> wasmtime::Error {
        process::exit(code)
    }

    fn proc_raise(&mut self, _: &mut Memory<'_>, signal: types::Signal) -> Result<()> {
        process::raise(signal)
    }

    fn random_get(
        &mut self,
        memory: &mut Memory<'_>,
        buffer: GuestPtr<u8>,
        length: types::Size,
    ) -> Result<()> {
        process::random(memory, buffer.as_array(length))
    }

    fn sched_yield(&mut self, _: &mut Memory<'_>) -> Result<()> {
        std::thread::yield_now();
        Ok(())
    }

    fn sock_accept(
        &mut self,
        _: &mut Memory<'_>,
        fd: types::Fd,
        flags: types::Fdflags,
    ) -> Result<types::Fd> {
        self.accept(fd, flags)
    }

    fn sock_recv(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        iovs: types::IovecArray,
        flags: types::Riflags,
    ) -> Result<(types::Size, types::Roflags)> {
        self.receive(memory, fd, iovs, flags)
    }

    fn sock_send(
        &mut self,
        memory: &mut Memory<'_>,
        fd: types::Fd,
        iovs: types::CiovecArray,
        flags: types::Siflags,
    ) -> Result<types::Size> {
        self.send(memory, fd, iovs, flags)
    }

    fn sock_shutdown(
        &mut self,
        _: &mut Memory<'_>,
        fd: types::Fd,
        how: types::Sdflags,
    ) -> Result<()> {
        self.shut_down(fd, how)
    }
}
