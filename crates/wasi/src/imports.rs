//! What a guest may import, as data: the one list that the compiler's check and the runner use.
//! The macro `preview1!` is also what the host functions are linked from, so a function cannot be
//! in one place and not in the other.
//!
//! To add a namespace of our own: a macro like `preview1!`, a `Namespace` in [`NAMESPACES`], and a
//! `link!` in `link.rs`. Needs neither Wasmtime nor an operating system.
#![forbid(unsafe_code)]

/// Calls the macro `$then` with `$argument`s and every function of preview 1, sorted by name, with
/// the core types of `witx/wasi_snapshot_preview1.witx`.
macro_rules! preview1 {
    ($then:ident $($argument:tt)*) => {
        $then! { [$($argument)*]
            args_get(argv: i32, buffer: i32) -> i32,
            args_sizes_get(count: i32, size: i32) -> i32,
            clock_res_get(id: i32, resolution: i32) -> i32,
            clock_time_get(id: i32, precision: i64, time: i32) -> i32,
            environ_get(environ: i32, buffer: i32) -> i32,
            environ_sizes_get(count: i32, size: i32) -> i32,
            fd_advise(fd: i32, offset: i64, length: i64, advice: i32) -> i32,
            fd_allocate(fd: i32, offset: i64, length: i64) -> i32,
            fd_close(fd: i32) -> i32,
            fd_datasync(fd: i32) -> i32,
            fd_fdstat_get(fd: i32, fdstat: i32) -> i32,
            fd_fdstat_set_flags(fd: i32, flags: i32) -> i32,
            fd_fdstat_set_rights(fd: i32, base: i64, inheriting: i64) -> i32,
            fd_filestat_get(fd: i32, filestat: i32) -> i32,
            fd_filestat_set_size(fd: i32, size: i64) -> i32,
            fd_filestat_set_times(fd: i32, atim: i64, mtim: i64, flags: i32) -> i32,
            fd_pread(fd: i32, iovs: i32, count: i32, offset: i64, read: i32) -> i32,
            fd_prestat_dir_name(fd: i32, path: i32, length: i32) -> i32,
            fd_prestat_get(fd: i32, prestat: i32) -> i32,
            fd_pwrite(fd: i32, iovs: i32, count: i32, offset: i64, written: i32) -> i32,
            fd_read(fd: i32, iovs: i32, count: i32, read: i32) -> i32,
            fd_readdir(fd: i32, buffer: i32, length: i32, cookie: i64, used: i32) -> i32,
            fd_renumber(fd: i32, to: i32) -> i32,
            fd_seek(fd: i32, offset: i64, whence: i32, position: i32) -> i32,
            fd_sync(fd: i32) -> i32,
            fd_tell(fd: i32, position: i32) -> i32,
            fd_write(fd: i32, iovs: i32, count: i32, written: i32) -> i32,
            path_create_directory(fd: i32, path: i32, length: i32) -> i32,
            path_filestat_get(fd: i32, flags: i32, path: i32, length: i32, filestat: i32) -> i32,
            path_filestat_set_times(
                fd: i32, lookup: i32, path: i32, length: i32, atim: i64, mtim: i64, flags: i32
            ) -> i32,
            path_link(
                old_fd: i32, flags: i32, old: i32, old_length: i32, fd: i32, new: i32, length: i32
            ) -> i32,
            path_open(
                fd: i32, lookup: i32, path: i32, length: i32, oflags: i32, base: i64,
                inheriting: i64, fdflags: i32, opened: i32
            ) -> i32,
            path_readlink(
                fd: i32, path: i32, length: i32, buffer: i32, size: i32, used: i32
            ) -> i32,
            path_remove_directory(fd: i32, path: i32, length: i32) -> i32,
            path_rename(
                old_fd: i32, old: i32, old_length: i32, fd: i32, new: i32, length: i32
            ) -> i32,
            path_symlink(target: i32, target_length: i32, fd: i32, path: i32, length: i32) -> i32,
            path_unlink_file(fd: i32, path: i32, length: i32) -> i32,
            poll_oneoff(subscriptions: i32, events: i32, count: i32, stored: i32) -> i32,
            proc_exit(code: i32),
            proc_raise(signal: i32) -> i32,
            random_get(buffer: i32, length: i32) -> i32,
            sched_yield() -> i32,
            sock_accept(fd: i32, flags: i32, accepted: i32) -> i32,
            sock_recv(
                fd: i32, iovs: i32, count: i32, flags: i32, received: i32, out_flags: i32
            ) -> i32,
            sock_send(fd: i32, iovs: i32, count: i32, flags: i32, sent: i32) -> i32,
            sock_shutdown(fd: i32, how: i32) -> i32,
        }
    };
}
#[cfg_attr(not(feature = "host"), allow(unused_imports))]
pub(crate) use preview1;

/// As [`preview1!`], with the functions of `witx/posix.witx`.
macro_rules! posix {
    ($then:ident $($argument:tt)*) => {
        $then! { [$($argument)*]
            accept4(
                fd: i32, flags: i32, address: i32, room: i32, accepted: i32, length: i32
            ) -> i32,
            bind(fd: i32, address: i32, length: i32) -> i32,
            close_range(first: i32, last: i32) -> i32,
            connect(fd: i32, address: i32, length: i32) -> i32,
            dup(fd: i32, from: i32, number: i32) -> i32,
            dup2(fd: i32, to: i32) -> i32,
            faccessat(
                fd: i32, lookup: i32, path: i32, length: i32, access: i32, flags: i32
            ) -> i32,
            fchmod(fd: i32, mode: i32) -> i32,
            fchmodat(fd: i32, lookup: i32, path: i32, length: i32, mode: i32) -> i32,
            fchown(fd: i32, uid: i32, gid: i32) -> i32,
            fchownat(fd: i32, lookup: i32, path: i32, length: i32, uid: i32, gid: i32) -> i32,
            fcntl_getlk(fd: i32, owner: i32, lock: i32, found: i32) -> i32,
            fcntl_setlk(fd: i32, owner: i32, lock: i32, flags: i32) -> i32,
            flock(fd: i32, operation: i32, flags: i32) -> i32,
            fstat(fd: i32, stat: i32) -> i32,
            fstatat(fd: i32, lookup: i32, path: i32, length: i32, stat: i32) -> i32,
            fstatvfs(fd: i32, statvfs: i32) -> i32,
            futimens(
                fd: i32, atim: i64, atim_nsec: i32, mtim: i64, mtim_nsec: i32, flags: i32
            ) -> i32,
            getaddrinfo(
                name: i32, length: i32, family: i32, flags: i32, addresses: i32, room: i32,
                canonical: i32, canonical_room: i32, count: i32, canonical_length: i32
            ) -> i32,
            getegid(gid: i32) -> i32,
            geteuid(uid: i32) -> i32,
            getgid(gid: i32) -> i32,
            getgroups(groups: i32, length: i32, count: i32) -> i32,
            gethostname(name: i32, room: i32, length: i32) -> i32,
            getitimer(timer: i32) -> i32,
            getnameinfo(address: i32, size: i32, name: i32, room: i32, length: i32) -> i32,
            getpeername(fd: i32, address: i32, room: i32, length: i32) -> i32,
            getpid(pid: i32) -> i32,
            getppid(pid: i32) -> i32,
            getrlimit(resource: i32, rlimit: i32) -> i32,
            getrusage(who: i32, rusage: i32) -> i32,
            getsockname(fd: i32, address: i32, room: i32, length: i32) -> i32,
            getsockopt(fd: i32, level: i32, option: i32, value: i32, room: i32, length: i32) -> i32,
            getuid(uid: i32) -> i32,
            listen(fd: i32, backlog: i32) -> i32,
            mkdirat(fd: i32, path: i32, length: i32, mode: i32) -> i32,
            mkfifoat(fd: i32, path: i32, length: i32, mode: i32) -> i32,
            openat(
                fd: i32, lookup: i32, path: i32, length: i32, access: i32, oflags: i32,
                fdflags: i32, mode: i32, opened: i32
            ) -> i32,
            pipe(flags: i32, read: i32, write: i32) -> i32,
            poll(list: i32, count: i32, timeout: i64, ready: i32) -> i32,
            raise(signal: i32) -> i32,
            recvmsg(
                fd: i32, iovs: i32, count: i32, flags: i32, address: i32, room: i32, received: i32,
                out_flags: i32, length: i32
            ) -> i32,
            release_preopen() -> i32,
            sendmsg(
                fd: i32, iovs: i32, count: i32, flags: i32, address: i32, length: i32, sent: i32
            ) -> i32,
            setitimer(interval: i64, value: i64, before: i32) -> i32,
            setsockopt(fd: i32, level: i32, option: i32, value: i32, length: i32) -> i32,
            signal_action(signal: i32, disposition: i32) -> i32,
            signal_register(pending: i32, mask: i32) -> i32,
            signal_take(set: i32, taken: i32) -> i32,
            sigsuspend() -> i32,
            sigtimedwait(set: i32, timeout: i64, signal: i32) -> i32,
            socket(family: i32, kind: i32, protocol: i32, flags: i32, made: i32) -> i32,
            socketpair(
                family: i32, kind: i32, protocol: i32, flags: i32, one: i32, other: i32
            ) -> i32,
            statvfsat(fd: i32, path: i32, length: i32, statvfs: i32) -> i32,
            tcgetattr(fd: i32, termios: i32) -> i32,
            tcgetwinsize(fd: i32, winsize: i32) -> i32,
            tcsetattr(fd: i32, action: i32, termios: i32) -> i32,
            umask(mask: i32, before: i32) -> i32,
            utimensat(
                fd: i32, lookup: i32, path: i32, length: i32, atim: i64, atim_nsec: i32, mtim: i64,
                mtim_nsec: i32, flags: i32
            ) -> i32,
        }
    };
}
#[cfg_attr(not(feature = "host"), allow(unused_imports))]
pub(crate) use posix;

/// The functions of a namespace as a slice of [`HostFunction`].
macro_rules! list {
    ([] $($name:ident($($parameter:ident: $type:ident),*) $(-> $result:ident)?,)*) => {
        &[$(HostFunction {
            name: stringify!($name),
            parameters: &[$(core_type!($type)),*],
            results: &[$(core_type!($result))?],
        }),*]
    };
}

macro_rules! core_type {
    (i32) => {
        CoreType::I32
    };
    (i64) => {
        CoreType::I64
    };
}

/// A type of core WebAssembly that functions of a guest's interface use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreType {
    /// Numbers up to 32 bits, flags and addresses.
    I32,
    /// Sizes and positions of files, times, rights.
    I64,
}

/// A host function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostFunction {
    /// Its name in its namespace.
    pub name: &'static str,
    /// Types of its parameters.
    pub parameters: &'static [CoreType],
    /// Types of its results: none or one.
    pub results: &'static [CoreType],
}

/// The functions that are imported from a module of one name.
#[derive(Clone, Copy, Debug)]
pub struct Namespace {
    /// The module that an import names.
    pub module: &'static str,
    /// Its functions, sorted by name.
    pub functions: &'static [HostFunction],
}

/// All that a guest may import.
pub const NAMESPACES: &[Namespace] = &[PREVIEW1, POSIX];

/// WASI preview 1.
pub const PREVIEW1: Namespace = Namespace {
    module: "wasi_snapshot_preview1",
    functions: preview1!(list),
};

/// What POSIX has and preview 1 cannot say.
pub const POSIX: Namespace = Namespace {
    module: "wasm_interp_posix_v1",
    functions: posix!(list),
};

/// The host function that an import names.
#[must_use]
pub fn find(module: &str, name: &str) -> Option<&'static HostFunction> {
    let namespace = NAMESPACES.iter().find(|one| one.module == module)?;
    let index = namespace
        .functions
        .binary_search_by_key(&name, |function| function.name)
        .ok()?;
    namespace.functions.get(index)
}

/// Whether a module that imports this function handles signals: nothing else of them has an effect
/// before it.
#[must_use]
pub fn handles_signals(module: &str, name: &str) -> bool {
    module == POSIX.module && name == "signal_register"
}

/// Whether a module that imports this function makes pairs of sockets, which need no grant.
#[must_use]
pub fn makes_pairs(module: &str, name: &str) -> bool {
    module == POSIX.module && name == "socketpair"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_sorted_for_the_search() {
        for namespace in NAMESPACES {
            assert!(namespace.functions.is_sorted_by_key(|one| one.name));
        }
    }

    #[test]
    fn an_import_is_found_by_both_of_its_names() {
        let found = find("wasi_snapshot_preview1", "fd_seek").expect("fd_seek");
        let seek = [CoreType::I32, CoreType::I64, CoreType::I32, CoreType::I32];
        assert_eq!(found.parameters, seek);
        assert_eq!(find("wasi_snapshot_preview1", "sock_open"), None);
        assert_eq!(find("env", "fd_seek"), None);
        assert!(find("wasm_interp_posix_v1", "openat").is_some());
        assert!(handles_signals("wasm_interp_posix_v1", "signal_register"));
        assert!(find("wasm_interp_posix_v1", "signal_register").is_some());
        assert!(!handles_signals("wasi_snapshot_preview1", "proc_raise"));
        assert!(makes_pairs("wasm_interp_posix_v1", "socketpair"));
        assert!(find("wasm_interp_posix_v1", "socketpair").is_some());
        assert!(!makes_pairs("wasm_interp_posix_v1", "socket"));
        // A later one that this host does not know.
        assert_eq!(find("wasm_interp_posix_v1", "fork"), None);
        assert_eq!(find("wasm_interp_posix_v2", "openat"), None);
    }
}
