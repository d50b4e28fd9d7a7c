//! The host functions of a guest, called as a module's imports are, without a module.

use std::sync::Arc;

use wasm_interp_network::Network;
use wasm_interp_wasi::abi::{wasi_snapshot_preview1 as preview1, wasm_interp_posix_v1 as posix};
use wasm_interp_wasi::{Guest, GuestSettings, LateMounts, ModesBy, paths};
use wiggle::{GuestError, GuestMemory};

/// The largest errno of preview 1, ENOTCAPABLE.
const LAST_ERRNO: i32 = 76;

/// The list of a namespace's functions, and the call of one by its name, with as many of the arguments as it
/// has.
macro_rules! functions {
    ($list:ident $call:ident $module:ident
     $($name:ident $shape:literal ($($argument:literal $type:ty),*))*) => {
        /// Functions that return, each with the kinds of its arguments. f is a descriptor, p a path and its
        /// length, v vectors and their number, d data and its length, r a place for a result, s a small
        /// number, o an offset, R rights, S subscriptions. Of sockets: a is an address and its length, A the
        /// room for one, F a family, K a type, P a protocol, N flags of a descriptor, M flags of a message,
        /// O a level and an option, V an option's value and its length, n a name and its length, W a list
        /// to poll and its length, T a time to wait.
        pub const $list: &[(&str, &str)] = &[$((stringify!($name), $shape)),*];

        /// `None` if the namespace has no such function.
        fn $call(
            guest: &mut Guest,
            memory: &mut GuestMemory<'_>,
            name: &str,
            arguments: &[u64],
        ) -> Option<wiggle::error::Result<i32>> {
            Some(match name {
                $(stringify!($name) => {
                    $module::$name(guest, memory $(, arguments[$argument] as $type)*)
                })*
                _ => return None,
            })
        }
    };
}

functions! {
    FUNCTIONS of_preview1 preview1
    args_get "rr" (0 i32, 1 i32)
    args_sizes_get "rr" (0 i32, 1 i32)
    clock_res_get "sr" (0 i32, 1 i32)
    clock_time_get "sor" (0 i32, 1 i64, 2 i32)
    environ_get "rr" (0 i32, 1 i32)
    environ_sizes_get "rr" (0 i32, 1 i32)
    fd_advise "foos" (0 i32, 1 i64, 2 i64, 3 i32)
    fd_allocate "foo" (0 i32, 1 i64, 2 i64)
    fd_close "f" (0 i32)
    fd_datasync "f" (0 i32)
    fd_fdstat_get "fr" (0 i32, 1 i32)
    fd_fdstat_set_flags "fs" (0 i32, 1 i32)
    fd_fdstat_set_rights "fRR" (0 i32, 1 i64, 2 i64)
    fd_filestat_get "fr" (0 i32, 1 i32)
    fd_filestat_set_size "fo" (0 i32, 1 i64)
    fd_filestat_set_times "foos" (0 i32, 1 i64, 2 i64, 3 i32)
    fd_pread "fvor" (0 i32, 1 i32, 2 i32, 3 i64, 4 i32)
    fd_prestat_dir_name "fd" (0 i32, 1 i32, 2 i32)
    fd_prestat_get "fr" (0 i32, 1 i32)
    fd_pwrite "fvor" (0 i32, 1 i32, 2 i32, 3 i64, 4 i32)
    fd_read "fvr" (0 i32, 1 i32, 2 i32, 3 i32)
    fd_readdir "fdor" (0 i32, 1 i32, 2 i32, 3 i64, 4 i32)
    fd_renumber "ff" (0 i32, 1 i32)
    fd_seek "fosr" (0 i32, 1 i64, 2 i32, 3 i32)
    fd_sync "f" (0 i32)
    fd_tell "fr" (0 i32, 1 i32)
    fd_write "fvr" (0 i32, 1 i32, 2 i32, 3 i32)
    path_create_directory "fp" (0 i32, 1 i32, 2 i32)
    path_filestat_get "fspr" (0 i32, 1 i32, 2 i32, 3 i32, 4 i32)
    path_filestat_set_times "fspoos" (0 i32, 1 i32, 2 i32, 3 i32, 4 i64, 5 i64, 6 i32)
    path_link "fspfp" (0 i32, 1 i32, 2 i32, 3 i32, 4 i32, 5 i32, 6 i32)
    path_open "fspsRRsr" (0 i32, 1 i32, 2 i32, 3 i32, 4 i32, 5 i64, 6 i64, 7 i32, 8 i32)
    path_readlink "fpdr" (0 i32, 1 i32, 2 i32, 3 i32, 4 i32, 5 i32)
    path_remove_directory "fp" (0 i32, 1 i32, 2 i32)
    path_rename "fpfp" (0 i32, 1 i32, 2 i32, 3 i32, 4 i32, 5 i32)
    path_symlink "pfp" (0 i32, 1 i32, 2 i32, 3 i32, 4 i32)
    path_unlink_file "fp" (0 i32, 1 i32, 2 i32)
    poll_oneoff "Srsr" (0 i32, 1 i32, 2 i32, 3 i32)
    random_get "d" (0 i32, 1 i32)
    sched_yield "" ()
    sock_accept "fsr" (0 i32, 1 i32, 2 i32)
    sock_recv "fvsrr" (0 i32, 1 i32, 2 i32, 3 i32, 4 i32, 5 i32)
    sock_send "fvsr" (0 i32, 1 i32, 2 i32, 3 i32, 4 i32)
    sock_shutdown "fs" (0 i32, 1 i32)
}

functions! {
    SOCKET_FUNCTIONS of_posix posix
    accept4 "fNAr" (0 i32, 1 i32, 2 i32, 3 i32, 4 i32, 5 i32)
    bind "fa" (0 i32, 1 i32, 2 i32)
    close_range "ff" (0 i32, 1 i32)
    connect "fa" (0 i32, 1 i32, 2 i32)
    dup "fsr" (0 i32, 1 i32, 2 i32)
    dup2 "ff" (0 i32, 1 i32)
    getaddrinfo "nFsAdrr" (
        0 i32, 1 i32, 2 i32, 3 i32, 4 i32, 5 i32, 6 i32, 7 i32, 8 i32, 9 i32
    )
    getnameinfo "adr" (0 i32, 1 i32, 2 i32, 3 i32, 4 i32)
    getpeername "fAr" (0 i32, 1 i32, 2 i32, 3 i32)
    getsockname "fAr" (0 i32, 1 i32, 2 i32, 3 i32)
    getsockopt "fOVr" (0 i32, 1 i32, 2 i32, 3 i32, 4 i32, 5 i32)
    listen "fs" (0 i32, 1 i32)
    pipe "Nrr" (0 i32, 1 i32, 2 i32)
    poll "WTr" (0 i32, 1 i32, 2 i64, 3 i32)
    recvmsg "fvMArrr" (0 i32, 1 i32, 2 i32, 3 i32, 4 i32, 5 i32, 6 i32, 7 i32, 8 i32)
    release_preopen "" ()
    sendmsg "fvMar" (0 i32, 1 i32, 2 i32, 3 i32, 4 i32, 5 i32, 6 i32)
    setsockopt "fOV" (0 i32, 1 i32, 2 i32, 3 i32, 4 i32)
    socket "FKPNr" (0 i32, 1 i32, 2 i32, 3 i32, 4 i32)
    socketpair "FKPNrr" (0 i32, 1 i32, 2 i32, 3 i32, 4 i32, 5 i32)
}

/// A guest in the calling thread's root directory, without a network.
pub fn guest(late_mounts: LateMounts) -> Guest {
    guest_with(late_mounts, Network::none())
}

/// The same with these grants.
pub fn guest_with(late_mounts: LateMounts, network: Network) -> Guest {
    Guest::new(settings(late_mounts, network)).expect("a guest")
}

/// What a guest of either kind is made of.
pub(crate) fn settings(late_mounts: LateMounts, network: Network) -> GuestSettings {
    GuestSettings {
        arguments: vec![b"guest".to_vec(), b"argument".to_vec()],
        environment: vec![(b"NAME".to_vec(), b"value".to_vec())],
        root: paths::root().expect("the root directory opens"),
        late_mounts,
        modes_by: ModesBy::of_kernel(),
        network,
        refusals: None,
    }
}

/// Has the numbers of a guest's streams, which are the fuzzer's own, stand for the root directory.
pub fn root_as_streams(guest: &mut Guest) {
    let root = guest.descriptors.get(3u32.into());
    let root = Arc::clone(root.expect("the root directory"));
    for stream in 0..3u32 {
        let replaced = guest.descriptors.replace(stream.into(), Arc::clone(&root));
        replaced.expect("a stream");
    }
}

/// Bytes of a guest's memory.
pub const MEMORY: usize = 1 << 16;
const CANARY: u8 = 0xa5;
const GUARD: usize = 4096;

/// Runs `act` with a guest's memory, which is all zeros. Nothing before or behind it may be written.
pub fn in_guarded_memory<T>(act: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut guarded = vec![CANARY; GUARD + MEMORY + GUARD];
    let memory = &mut guarded[GUARD..GUARD + MEMORY];
    memory.fill(0);
    let result = act(memory);
    let guards = guarded[..GUARD].iter().chain(&guarded[GUARD + MEMORY..]);
    assert!(
        guards.into_iter().all(|&byte| byte == CANARY),
        "written outside of the memory"
    );
    result
}

/// Writes these bytes at a place in the memory, as far as it goes.
pub fn put(memory: &mut [u8], at: usize, bytes: &[u8]) {
    let end = memory.len().min(at + bytes.len());
    memory[at..end].copy_from_slice(&bytes[..end - at]);
}

/// Calls a host function; returns its errno. No function may trap.
pub fn call(guest: &mut Guest, memory: &mut [u8], name: &str, arguments: &[u64]) -> u16 {
    let mut memory = GuestMemory::Unshared(memory);
    let result = of_preview1(guest, &mut memory, name, arguments)
        .or_else(|| of_posix(guest, &mut memory, name, arguments));
    match result.unwrap_or_else(|| panic!("{name} is no function")) {
        Ok(errno) => {
            assert!((0..=LAST_ERRNO).contains(&errno), "{name} returns {errno}");
            u16::try_from(errno).expect("it is small")
        }
        // What is linked turns it into an errno.
        Err(error) => match error.downcast::<GuestError>() {
            Ok(invalid) => wasm_interp_wasi::errno::Errno::from(invalid) as u16,
            Err(error) => panic!("{name}{arguments:?} traps: {error:#}"),
        },
    }
}
