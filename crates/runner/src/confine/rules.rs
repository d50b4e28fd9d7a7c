//! The system calls of a running guest: everything that its process may still ask of the kernel.
//!
//! Data. One line per call, with its reason; at most 50 are allowed, each of them made by a test
//! (`tests/confinement`). Guests that need more have a list of their own besides. A call is allowed
//! where all of its checks hold. Every call that is not here ends the process. A check sees numbers
//! alone: what lies in memory, as the flags of openat2(2) do, a filter cannot read.
#![forbid(unsafe_code)]

use libc::{
    ENOMEM, ENOTSOCK, F_DUPFD_CLOEXEC, F_GETFD, F_GETFL, F_GETLK, F_OFD_GETLK, F_OFD_SETLK,
    F_OFD_SETLKW, F_SETFL, F_SETLK, F_SETLKW, FIONREAD, PROT_READ, PROT_WRITE, S_IFIFO, TCGETS,
    TCSETS, TCSETSF, TCSETSW, TIOCGWINSZ, c_int, c_long,
};

/// The numbers, by the names that the C library has for them.
mod numbers {
    pub(super) use libc::*;
    // `libc` lacks it on some architectures.
    pub(super) use wasm_interp_wasi::SYS_FCHMODAT2 as SYS_fchmodat2;
}

/// How many calls may be allowed.
#[cfg(test)]
pub(super) const MOST: usize = 50;

/// One call.
#[derive(Debug)]
pub(super) struct Rule {
    /// As the C library names the number: `SYS_read`.
    #[cfg_attr(not(test), expect(dead_code, reason = "for people and tests"))]
    pub(super) name: &'static str,
    pub(super) number: c_long,
    pub(super) answer: Answer,
}

/// What happens at a call.
#[derive(Debug)]
pub(super) enum Answer {
    /// The kernel gets to see it if all of these hold.
    Allow(&'static [Check]),
    /// It fails with this error: our code asks it on behalf of a guest, and may go on.
    Fail(c_int),
}

/// What has to hold of an argument, counted from 0. Of numbers the upper half is not looked at: the kernel
/// does not either, since each of these is an `int` or has meaning in its lower bits alone.
#[derive(Debug)]
pub(super) enum Check {
    /// It has no other bits; or else the process ends.
    Only { argument: u8, bits: u32 },
    /// It is a mode without set-id bits; or else the call fails with EPERM, as a guest may ask for one.
    Mode { argument: u8 },
    /// It is one of these; or else the process ends.
    OneOf {
        argument: u8,
        values: &'static [u32],
    },
    /// It is one of those that go with what another argument is; or else the process ends.
    OneOfGroup {
        group: u8,
        argument: u8,
        groups: &'static [(u32, &'static [u32])],
    },
    /// It is a null pointer, in both halves; or else the process ends.
    Null { argument: u8 },
}

const fn only(argument: u8, bits: u32) -> Check {
    Check::Only { argument, bits }
}

const fn mode(argument: u8) -> Check {
    Check::Mode { argument }
}

const fn one_of(argument: u8, values: &'static [u32]) -> Check {
    Check::OneOf { argument, values }
}

const fn grouped(group: u8, argument: u8, groups: &'static [(u32, &'static [u32])]) -> Check {
    Check::OneOfGroup {
        group,
        argument,
        groups,
    }
}

const fn null(argument: u8) -> Check {
    Check::Null { argument }
}

/// Memory that is never executable.
const DATA: u32 = (PROT_READ | PROT_WRITE) as u32;
/// A FIFO, not a device.
const FIFO: u32 = S_IFIFO | 0o7777;
const PIPE: u32 = (libc::O_CLOEXEC | libc::O_NONBLOCK) as u32;
const OF_NAME: u32 = (libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) as u32;
const FCNTL: &[u32] = &[
    F_DUPFD_CLOEXEC as u32,
    F_GETFD as u32,
    F_GETFL as u32,
    F_SETFL as u32,
    F_GETLK as u32,
    F_SETLK as u32,
    F_SETLKW as u32,
    F_OFD_GETLK as u32,
    F_OFD_SETLK as u32,
    F_OFD_SETLKW as u32,
];
const IOCTL: &[u32] = &[
    TIOCGWINSZ as u32,
    FIONREAD as u32,
    TCGETS as u32,
    TCSETS as u32,
    TCSETSW as u32,
    TCSETSF as u32,
];

macro_rules! rules {
    (@answer) => { Answer::Allow(&[]) };
    (@answer [$($check:expr),*]) => { Answer::Allow(&[$($check),*]) };
    (@answer $errno:ident) => { Answer::Fail($errno) };
    ($($(#[$condition:meta])* $name:ident $([$($check:expr),*])? $(fails $errno:ident)?;)*) => {
        &[$($(#[$condition])* Rule {
            name: stringify!($name),
            number: numbers::$name,
            answer: rules!(@answer $([$($check),*])? $($errno)?),
        }),*]
    };
}

/// The list.
pub(super) const RULES: &[Rule] = rules! {
    // What a guest reads and writes.
    SYS_read;                                 // streams, FIFOs, devices, files
    SYS_write;                                // the same; the reason of a trap
    SYS_readv;                                // the same into several buffers
    SYS_writev;                               // the same from several buffers
    SYS_pread64;                              // files
    SYS_pwrite64;                             // files
    SYS_preadv;                               // files, into several buffers
    SYS_pwritev;                              // files, from several buffers
    SYS_lseek;                                // the position in a file
    SYS_close;                                // what it has opened

    // What it finds by a path. The mounts say where it may write.
    SYS_openat2;                              // opens files; its structure cannot be checked
    SYS_openat[mode(3)];                      // the same behind a profile without openat2
    SYS_fstat;                                // what is known of an open file
    SYS_newfstatat;                           // the same by a path
    SYS_fstatfs;                              // the type of its file system, and its free space
    SYS_getdents64;                           // the entries of a directory
    SYS_readlinkat;                           // where a symlink leads
    SYS_faccessat2;                           // whether it may read, write or enter it

    // What it changes.
    SYS_mkdirat[mode(2)];                     // makes a directory
    SYS_mknodat[only(2, FIFO), mode(2)];      // makes a FIFO, and no device
    SYS_unlinkat;                             // removes a file or directory
    SYS_renameat;                             // gives another name
    SYS_linkat;                               // gives a second name
    SYS_symlinkat;                            // makes a symlink
    SYS_utimensat;                            // times
    SYS_fchmod[mode(1)];                      // rights
    SYS_fchownat;                             // owners, as far as its capabilities go
    SYS_ftruncate;                            // the length of a file
    SYS_fallocate;                            // its space on the disk
    SYS_fadvise64;                            // how it will be read
    SYS_umask;                                // the rights that new files do not get
    SYS_fsync;                                // has it written to the disk
    SYS_fdatasync;                            // the same without its times
    SYS_fcntl[one_of(1, FCNTL)];              // the flags of an open file, its locks
    SYS_flock;                                // a lock of the whole file
    SYS_pipe2[only(1, PIPE)];                 // a pipe to itself
    SYS_ioctl[one_of(1, IOCTL)];              // a terminal's size and settings, what a stream holds

    // Memory: of the guest, and of what serves it.
    SYS_mmap[only(2, DATA)];                  // the guest's memory, large allocations
    SYS_munmap;                               // gives it back
    SYS_mprotect[only(2, DATA)];              // lets the guest's memory grow
    SYS_brk;                                  // small allocations

    // Time, chance, signals, the end.
    SYS_clock_gettime;                        // clocks that the kernel alone can read
    SYS_getrusage;                            // what it has used
    SYS_ppoll;                                // waits for streams, and for time to pass
    SYS_sched_yield;                          // lets other processes run
    SYS_getrandom;                            // random numbers
    SYS_sigaltstack;                          // where a trap is handled
    SYS_rt_sigreturn;                         // the end of a signal's handler
    SYS_exit_group;                           // the end

    // The C library then allocates and copies, and the kernel has one way less to move memory.
    SYS_mremap fails ENOMEM;

    // What preview 1 has for sockets that are open. None is, without one of the lists below.
    SYS_getsockopt fails ENOTSOCK;
    SYS_accept4 fails ENOTSOCK;
    SYS_recvmsg fails ENOTSOCK;
    SYS_sendmsg fails ENOTSOCK;
    SYS_shutdown fails ENOTSOCK;
};

/// Rights by a path. A guest has one of these two lists, and its 50 calls with it.
pub(super) const MODES_BY_FCHMODAT2: &[Rule] = rules! {
    SYS_fchmodat2[mode(2), only(3, OF_NAME)]; // of a link too, which has none to change
};

/// Where the kernel or the pod's profile is older than fchmodat2(2).
pub(super) const MODES_BY_FCHMODAT: &[Rule] = rules! {
    SYS_fchmodat[mode(2)];                    // it has no flags, and follows links
};

/// What a guest needs besides that handles signals. Handlers and timers are made before.
pub(super) const SIGNALS: &[Rule] = rules! {
    SYS_timer_settime;                        // alarms, and a second interruption of a call
};

const INTERNET: &[u32] = &[libc::AF_INET as u32, libc::AF_INET6 as u32];
const UNIX: &[u32] = &[libc::AF_UNIX as u32];
const ALL: &[u32] = &[
    libc::AF_INET as u32,
    libc::AF_INET6 as u32,
    libc::AF_UNIX as u32,
];
/// Streams and datagrams, no raw sockets; each is closed by an exec.
const TYPES: &[u32] = &[
    (libc::SOCK_STREAM | libc::SOCK_CLOEXEC) as u32,
    (libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u32,
    (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as u32,
    (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u32,
];
/// The protocol of a type.
const OWN: &[u32] = &[0];
const ACCEPT: u32 = (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u32;
const SEND: u32 = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32;
const RECEIVE: u32 = (libc::MSG_PEEK
    | libc::MSG_TRUNC
    | libc::MSG_DONTWAIT
    | libc::MSG_WAITALL
    | libc::MSG_NOSIGNAL) as u32;
const HOW: &[u32] = &[
    libc::SHUT_RD as u32,
    libc::SHUT_WR as u32,
    libc::SHUT_RDWR as u32,
];
const TCP_OPTIONS: (u32, &[u32]) = (
    libc::IPPROTO_TCP as u32,
    &[
        libc::TCP_NODELAY as u32,
        libc::TCP_KEEPIDLE as u32,
        libc::TCP_KEEPINTVL as u32,
        libc::TCP_KEEPCNT as u32,
        libc::TCP_USER_TIMEOUT as u32,
    ],
);
const IPV6_OPTIONS: (u32, &[u32]) = (libc::IPPROTO_IPV6 as u32, &[libc::IPV6_V6ONLY as u32]);
const GET: &[(u32, &[u32])] = &[
    (
        libc::SOL_SOCKET as u32,
        &[
            libc::SO_REUSEADDR as u32,
            libc::SO_REUSEPORT as u32,
            libc::SO_KEEPALIVE as u32,
            libc::SO_SNDBUF as u32,
            libc::SO_RCVBUF as u32,
            libc::SO_LINGER as u32,
            libc::SO_RCVTIMEO as u32,
            libc::SO_SNDTIMEO as u32,
            libc::SO_TYPE as u32,
            libc::SO_ERROR as u32,
            libc::SO_ACCEPTCONN as u32,
            libc::SO_PROTOCOL as u32,
            libc::SO_DOMAIN as u32,
        ],
    ),
    TCP_OPTIONS,
    IPV6_OPTIONS,
];
const SET: &[(u32, &[u32])] = &[
    (
        libc::SOL_SOCKET as u32,
        &[
            libc::SO_REUSEADDR as u32,
            libc::SO_REUSEPORT as u32,
            libc::SO_KEEPALIVE as u32,
            libc::SO_SNDBUF as u32,
            libc::SO_RCVBUF as u32,
            libc::SO_LINGER as u32,
            libc::SO_RCVTIMEO as u32,
            libc::SO_SNDTIMEO as u32,
        ],
    ),
    TCP_OPTIONS,
    IPV6_OPTIONS,
];

/// What a guest needs besides that makes pairs of sockets, without any grant. They take the place of the
/// failures above. No call here has an address: of all sockets, a pair of datagrams could otherwise send to
/// any path.
pub(super) const PAIRS: &[Rule] = rules! {
    SYS_socketpair[one_of(0, UNIX), one_of(1, TYPES), one_of(2, OWN)]; // two that are connected
    SYS_sendto[only(3, SEND), null(4)];       // sends to the other end
    SYS_recvmsg[only(2, RECEIVE)];            // receives from it
    SYS_shutdown[one_of(1, HOW)];             // half close
    SYS_getsockopt[grouped(1, 2, GET)];       // options of the list
    SYS_setsockopt[grouped(1, 2, SET)];       // the same
    SYS_getsockname;                          // that it has no name
    SYS_getpeername;                          // nor the other end
};

/// How many more may be allowed to a guest that is granted sockets, besides pairs.
#[cfg(test)]
pub(super) const MOST_OF_SOCKETS: usize = 15;

/// What a guest may do with any socket that it was granted. They take the place of the failures above.
/// Addresses lie in memory, so no filter sees them: the host functions check them.
pub(super) const SOCKETS: &[Rule] = rules! {
    SYS_bind;                                 // an address of its own
    SYS_listen;                               // takes connections
    SYS_accept4[only(3, ACCEPT)];             // the next connection
    SYS_connect;                              // makes a connection
    SYS_getsockname;                          // its own address
    SYS_getpeername;                          // that of the other side
    SYS_getsockopt[grouped(1, 2, GET)];       // options of the list
    SYS_setsockopt[grouped(1, 2, SET)];       // the same
    SYS_sendto[only(3, SEND), null(4)];       // sends to where it is connected
    SYS_sendmsg[only(2, SEND)];               // sends, also to an address
    SYS_recvmsg[only(2, RECEIVE)];            // receives, with the sender's address
    SYS_shutdown[one_of(1, HOW)];             // half close
};

/// The same options as of any socket, and how many hops a packet may take: WASI 0.2 has it.
const IP_HOPS: (u32, &[u32]) = (libc::IPPROTO_IP as u32, &[libc::IP_TTL as u32]);
const IPV6_HOPS: (u32, &[u32]) = (
    libc::IPPROTO_IPV6 as u32,
    &[libc::IPV6_V6ONLY as u32, libc::IPV6_UNICAST_HOPS as u32],
);
const GET_HOPS: &[(u32, &[u32])] = &[GET[0], TCP_OPTIONS, IPV6_HOPS, IP_HOPS];
const SET_HOPS: &[(u32, &[u32])] = &[SET[0], TCP_OPTIONS, IPV6_HOPS, IP_HOPS];

/// What a component may do besides with a socket of the Internet families. They take the place of the rules above,
/// and allow no further call.
pub(super) const HOPS: &[Rule] = rules! {
    SYS_getsockopt[grouped(1, 2, GET_HOPS)];  // options of the list, and hops
    SYS_setsockopt[grouped(1, 2, SET_HOPS)];  // the same
};

/// Addresses of the Internet families: for a rule of ports, for names, for the mode `pod`.
pub(super) const INTERNET_SOCKETS: &[Rule] = rules! {
    SYS_socket[one_of(0, INTERNET), one_of(1, TYPES), one_of(2, OWN)]; // a socket
};

/// Paths alone.
pub(super) const UNIX_SOCKETS: &[Rule] = rules! {
    SYS_socket[one_of(0, UNIX), one_of(1, TYPES), one_of(2, OWN)]; // a socket
    SYS_fchdir;                               // binds and connects from within a directory
};

/// Both.
pub(super) const ALL_SOCKETS: &[Rule] = rules! {
    SYS_socket[one_of(0, ALL), one_of(1, TYPES), one_of(2, OWN)]; // a socket
    SYS_fchdir;                               // binds and connects from within a directory
};
