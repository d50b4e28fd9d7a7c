//! `wasm_interp_posix_v1`: what POSIX has and preview 1 cannot say. Each function, and where it is done.
//!
//! The interface is `witx/posix.witx`. The C library of the SDK (`sdk/src`) calls it.
#![forbid(unsafe_code)]

mod attributes;
mod locks;
mod new_files;
mod pipes;
mod poll;
mod process;
mod signals;
mod sockets;

use wiggle::{GuestMemory, GuestPtr};

use crate::{
    abi::{types, wasm_interp_posix_v1::WasmInterpPosixV1},
    errno::Result,
    guest::Guest,
};

use self::attributes::{Change, Owner};

impl WasmInterpPosixV1 for Guest {
    fn openat(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
        access: types::Accessmode,
        oflags: types::Oflags,
        fdflags: types::Fdflags,
        mode: types::Mode,
    ) -> Result<types::Fd> {
        self.open_new(memory, (fd, lookup, path), access, oflags, fdflags, mode)
    }

    fn mkdirat(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        path: GuestPtr<str>,
        mode: types::Mode,
    ) -> Result<()> {
        self.make_directory_with_mode(memory, fd, path, mode)
    }

    fn mkfifoat(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        path: GuestPtr<str>,
        mode: types::Mode,
    ) -> Result<()> {
        self.make_fifo(memory, fd, path, mode)
    }

    fn fstat(&mut self, _: &mut GuestMemory<'_>, fd: types::Fd) -> Result<types::Stat> {
        self.whole_stat(fd)
    }

    fn fstatat(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
    ) -> Result<types::Stat> {
        self.whole_stat_of_path(memory, fd, lookup, path)
    }

    fn fchmod(&mut self, _: &mut GuestMemory<'_>, fd: types::Fd, mode: types::Mode) -> Result<()> {
        self.change_mode(fd, mode)
    }

    fn fchmodat(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
        mode: types::Mode,
    ) -> Result<()> {
        self.change_mode_of_path(memory, fd, lookup, path, mode)
    }

    fn fchown(
        &mut self,
        _: &mut GuestMemory<'_>,
        fd: types::Fd,
        uid: types::Uid,
        gid: types::Gid,
    ) -> Result<()> {
        self.change_owner(fd, Owner { uid, gid })
    }

    fn fchownat(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
        uid: types::Uid,
        gid: types::Gid,
    ) -> Result<()> {
        self.change_owner_of_path(memory, fd, lookup, path, Owner { uid, gid })
    }

    fn futimens(
        &mut self,
        _: &mut GuestMemory<'_>,
        fd: types::Fd,
        atim_sec: i64,
        atim_nsec: u32,
        mtim_sec: i64,
        mtim_nsec: u32,
        flags: types::Fstflags,
    ) -> Result<()> {
        let change = Change::new((atim_sec, atim_nsec), (mtim_sec, mtim_nsec), flags)?;
        self.change_times(fd, &change)
    }

    fn utimensat(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
        atim_sec: i64,
        atim_nsec: u32,
        mtim_sec: i64,
        mtim_nsec: u32,
        flags: types::Fstflags,
    ) -> Result<()> {
        let change = Change::new((atim_sec, atim_nsec), (mtim_sec, mtim_nsec), flags)?;
        self.set_times_of_path(memory, fd, lookup, path, change.times())
    }

    fn faccessat(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
        access: types::Access,
        flags: types::Accessflags,
    ) -> Result<()> {
        self.may_access(memory, fd, lookup, path, access, flags)
    }

    fn fstatvfs(&mut self, _: &mut GuestMemory<'_>, fd: types::Fd) -> Result<types::Statvfs> {
        self.file_system(fd)
    }

    fn statvfsat(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<types::Statvfs> {
        self.file_system_of_path(memory, fd, path)
    }

    fn umask(&mut self, _: &mut GuestMemory<'_>, mask: types::Mode) -> Result<types::Mode> {
        Ok(process::umask(mask))
    }

    fn flock(
        &mut self,
        _: &mut GuestMemory<'_>,
        fd: types::Fd,
        operation: types::FlockOperation,
        flags: types::Lockflags,
    ) -> Result<()> {
        self.lock_file(fd, operation, flags)
    }

    fn fcntl_getlk(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        owner: types::LockOwner,
        lock: GuestPtr<types::Lock>,
    ) -> Result<types::Lock> {
        let lock = memory.read(lock)?;
        self.find_record_lock(fd, owner, &lock)
    }

    fn fcntl_setlk(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        owner: types::LockOwner,
        lock: GuestPtr<types::Lock>,
        flags: types::Lockflags,
    ) -> Result<()> {
        let lock = memory.read(lock)?;
        self.set_record_lock(fd, owner, &lock, flags)
    }

    fn getuid(&mut self, _: &mut GuestMemory<'_>) -> Result<types::Uid> {
        Ok(self.ids.uid)
    }

    fn geteuid(&mut self, _: &mut GuestMemory<'_>) -> Result<types::Uid> {
        Ok(self.ids.effective_uid)
    }

    fn getgid(&mut self, _: &mut GuestMemory<'_>) -> Result<types::Gid> {
        Ok(self.ids.gid)
    }

    fn getegid(&mut self, _: &mut GuestMemory<'_>) -> Result<types::Gid> {
        Ok(self.ids.effective_gid)
    }

    fn getgroups(
        &mut self,
        memory: &mut GuestMemory<'_>,
        groups: GuestPtr<types::Gid>,
        length: types::Size,
    ) -> Result<types::Size> {
        self.ids.write_groups(memory, groups, length)
    }

    fn getpid(&mut self, _: &mut GuestMemory<'_>) -> Result<types::Pid> {
        Ok(self.ids.pid)
    }

    fn getppid(&mut self, _: &mut GuestMemory<'_>) -> Result<types::Pid> {
        Ok(self.ids.parent)
    }

    fn gethostname(
        &mut self,
        memory: &mut GuestMemory<'_>,
        name: GuestPtr<u8>,
        length: types::Size,
    ) -> Result<types::Size> {
        self.write_host_name(memory, name.as_array(length))
    }

    fn getrlimit(&mut self, _: &mut GuestMemory<'_>, resource: u32) -> Result<types::Rlimit> {
        self.ids.limit(resource)
    }

    fn getrusage(
        &mut self,
        _: &mut GuestMemory<'_>,
        who: types::RusageWho,
    ) -> Result<types::Rusage> {
        process::resources(who)
    }

    fn socket(
        &mut self,
        _: &mut GuestMemory<'_>,
        family: types::AddressFamily,
        kind: types::SocketType,
        protocol: u32,
        flags: types::Fdflags,
    ) -> Result<types::Fd> {
        self.make_socket(family, kind, protocol, flags)
    }

    fn socketpair(
        &mut self,
        _: &mut GuestMemory<'_>,
        family: types::AddressFamily,
        kind: types::SocketType,
        protocol: u32,
        flags: types::Fdflags,
    ) -> Result<(types::Fd, types::Fd)> {
        self.make_socket_pair(family, kind, protocol, flags)
    }

    fn pipe(
        &mut self,
        _: &mut GuestMemory<'_>,
        flags: types::Fdflags,
    ) -> Result<(types::Fd, types::Fd)> {
        self.make_pipe(flags)
    }

    fn dup(
        &mut self,
        _: &mut GuestMemory<'_>,
        fd: types::Fd,
        from: types::Fd,
    ) -> Result<types::Fd> {
        self.duplicate(fd, from)
    }

    fn dup2(&mut self, _: &mut GuestMemory<'_>, fd: types::Fd, to: types::Fd) -> Result<()> {
        self.duplicate_to(fd, to)
    }

    fn close_range(
        &mut self,
        _: &mut GuestMemory<'_>,
        first: types::Fd,
        last: types::Fd,
    ) -> Result<()> {
        self.descriptors.close_range(first, last)
    }

    fn release_preopen(&mut self, _: &mut GuestMemory<'_>) -> Result<()> {
        self.descriptors.release_preopen();
        Ok(())
    }

    fn bind(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        address: GuestPtr<[u8]>,
    ) -> Result<()> {
        self.bind_socket(memory, fd, address)
    }

    fn listen(&mut self, _: &mut GuestMemory<'_>, fd: types::Fd, backlog: u32) -> Result<()> {
        self.listen_on(fd, backlog)
    }

    fn accept4(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        flags: types::Fdflags,
        address: GuestPtr<u8>,
        length: types::Size,
    ) -> Result<(types::Fd, types::Size)> {
        self.accept_from(memory, fd, flags, address.as_array(length))
    }

    fn connect(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        address: GuestPtr<[u8]>,
    ) -> Result<()> {
        self.connect_to(memory, fd, address)
    }

    fn getsockname(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        address: GuestPtr<u8>,
        length: types::Size,
    ) -> Result<types::Size> {
        self.local_name(memory, fd, address.as_array(length))
    }

    fn getpeername(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        address: GuestPtr<u8>,
        length: types::Size,
    ) -> Result<types::Size> {
        self.peer_name(memory, fd, address.as_array(length))
    }

    fn getsockopt(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        level: u32,
        option: u32,
        value: GuestPtr<u8>,
        length: types::Size,
    ) -> Result<types::Size> {
        self.option(memory, fd, (level, option), value.as_array(length))
    }

    fn setsockopt(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        level: u32,
        option: u32,
        value: GuestPtr<[u8]>,
    ) -> Result<()> {
        self.set_option(memory, fd, (level, option), value)
    }

    fn sendmsg(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        data: types::CiovecArray,
        flags: types::MessageFlags,
        address: GuestPtr<[u8]>,
    ) -> Result<types::Size> {
        self.send_message(memory, fd, data, flags, address)
    }

    fn recvmsg(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        data: types::IovecArray,
        flags: types::MessageFlags,
        address: GuestPtr<u8>,
        length: types::Size,
    ) -> Result<(types::Size, types::MessageFlags, types::Size)> {
        self.receive_message(memory, fd, data, flags, address.as_array(length))
    }

    fn poll(
        &mut self,
        memory: &mut GuestMemory<'_>,
        list: GuestPtr<types::Pollfd>,
        count: types::Size,
        timeout: i64,
    ) -> Result<types::Size> {
        self.poll_descriptors(memory, list, count, timeout)
    }

    fn getaddrinfo(
        &mut self,
        memory: &mut GuestMemory<'_>,
        name: GuestPtr<str>,
        family: types::AddressFamily,
        flags: types::LookupFlags,
        addresses: GuestPtr<u8>,
        addresses_length: types::Size,
        canonical: GuestPtr<u8>,
        canonical_length: types::Size,
    ) -> Result<(types::Size, types::Size)> {
        let rooms = (
            addresses.as_array(addresses_length),
            canonical.as_array(canonical_length),
        );
        self.addresses_of_name(memory, name, family, flags, rooms)
    }

    fn getnameinfo(
        &mut self,
        memory: &mut GuestMemory<'_>,
        address: GuestPtr<[u8]>,
        name: GuestPtr<u8>,
        length: types::Size,
    ) -> Result<types::Size> {
        self.name_of_address(memory, address, name.as_array(length))
    }

    fn signal_register(
        &mut self,
        memory: &mut GuestMemory<'_>,
        pending: GuestPtr<types::Signalset>,
        mask: GuestPtr<types::Signalset>,
    ) -> Result<()> {
        self.register_signals(memory, pending, mask)
    }

    fn signal_action(
        &mut self,
        _: &mut GuestMemory<'_>,
        signal: types::SignalNumber,
        disposition: types::SignalDisposition,
    ) -> Result<()> {
        self.set_signal_action(signal, disposition)
    }

    fn signal_take(
        &mut self,
        _: &mut GuestMemory<'_>,
        set: types::Signalset,
    ) -> Result<types::Signalset> {
        Ok(self.take_signals(set))
    }

    fn raise(&mut self, _: &mut GuestMemory<'_>, signal: types::SignalNumber) -> Result<()> {
        self.raise_signal(signal)
    }

    fn sigsuspend(&mut self, _: &mut GuestMemory<'_>) -> Result<()> {
        match self.suspend()? {}
    }

    fn sigtimedwait(
        &mut self,
        _: &mut GuestMemory<'_>,
        set: types::Signalset,
        timeout: i64,
    ) -> Result<types::SignalNumber> {
        self.await_signal(set, timeout)
    }

    fn setitimer(
        &mut self,
        _: &mut GuestMemory<'_>,
        interval: types::Timestamp,
        value: types::Timestamp,
    ) -> Result<types::Itimer> {
        self.set_timer(interval, value)
    }

    fn getitimer(&mut self, _: &mut GuestMemory<'_>) -> Result<types::Itimer> {
        self.timer()
    }

    fn tcgetwinsize(&mut self, _: &mut GuestMemory<'_>, fd: types::Fd) -> Result<types::Winsize> {
        self.window_size(fd)
    }

    fn tcgetattr(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        termios: GuestPtr<u8>,
    ) -> Result<()> {
        self.terminal_settings(memory, fd, termios)
    }

    fn tcsetattr(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        action: types::TermiosAction,
        termios: GuestPtr<u8>,
    ) -> Result<()> {
        self.set_terminal(memory, fd, action, termios)
    }
}
