//! Bounds on what a guest's numbers make the host do. Each is Linux's own where Linux has one.
#![forbid(unsafe_code)]

use std::time::Duration;

/// The most descriptors of a guest, if the container's `RLIMIT_NOFILE` allows more.
pub const DESCRIPTORS: usize = 1 << 16;

/// The most buffers of a vectored read or write: Linux's `IOV_MAX`.
pub const VECTORS: u32 = 1024;

/// The longest path in bytes, without its final zero: Linux's `PATH_MAX` less one.
pub const PATH: u32 = 4095;

/// The most subscriptions of one `poll_oneoff`.
pub const SUBSCRIPTIONS: u32 = 1 << 16;

/// The most bytes of one `getdents64`, per directory that is being listed.
pub const LISTING: usize = 16 * 1024;

/// The most random bytes of one `getrandom`.
pub const RANDOM: usize = 1 << 20;

/// The symbolic links that a path may lead through: Linux's `MAXSYMLINKS`.
pub const LINKS: usize = 40;

/// The most bytes of several buffers that are sent between the ends of a pair as one: more than the kernel keeps for
/// one. Of a stream, the caller sends the rest.
pub const GATHERED: usize = 1 << 20;

/// The senders that a UDP listener remembers, to answer them.
pub const HEARD: usize = 1024;

/// The most bytes of /etc/resolv.conf and of /etc/hosts that are read.
pub const RESOLVER_FILE: u64 = 1 << 20;

/// The addresses that a look-up gives at most.
pub const ADDRESSES: usize = 64;

/// The names of rules that are asked for in vain before one connection is given up, if no nameserver replies.
pub const UNANSWERED: usize = 3;

/// How long nameservers may still reply, once the guest has a signal to handle.
pub const AFTER_SIGNAL: Duration = Duration::from_secs(1);

/// The names whose addresses are kept, for as long as they are valid.
pub const NAMES: usize = 256;

/// The refused addresses that are remembered, to name each of them once.
pub const REFUSALS: usize = 256;

/// The handles of a component.
pub const HANDLES: usize = 1 << 16;

/// The most bytes that a stream of a component gives or takes at once, of a file.
pub const TRANSFER: usize = 1 << 20;

/// The same, of anything else.
pub const STREAM: usize = 64 * 1024;

/// The most bytes that a component writes at once, of anything but a socket: Linux's `MAX_RW_COUNT`.
pub const WRITE: usize = 0x7fff_f000;

/// The most bytes of a list that a component asks for as a whole.
pub const LIST: usize = 4 << 20;

/// The most bytes of all lists and strings that a component passes to one call: the process holds a copy beside the
/// guest's memory, within the headroom of the node's policy.
pub const CALL: usize = 4 << 20;

/// The datagrams that a component receives or sends at once.
pub const DATAGRAMS: usize = 16;

/// The sockets of a component.
pub const SOCKETS: usize = HANDLES / 8;

/// The results of look-ups that a component has at a time, each with [`ADDRESSES`] at most: that is no part of the
/// memory that its ceiling counts.
pub const LOOK_UPS: usize = 1024;

/// The directories that a component reads at a time: the same.
pub const COMPONENT_LISTINGS: usize = 512;

/// The bytes of what a component has read last of a directory.
pub const COMPONENT_LISTING: usize = 4096;

/// The most bytes that all streams of a component keep together for others that do not take them: within the headroom of
/// the node's policy, as the copy of a call.
pub const KEPT: usize = 4 << 20;

/// The streams without a handle whose data is still kept for the other side.
pub const LINGERING: usize = 256;
