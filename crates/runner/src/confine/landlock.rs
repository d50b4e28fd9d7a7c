//! Landlock: a domain of the guest's own, from which nothing outside can be traced or signalled, no
//! abstract socket outside be reached, and only granted TCP ports be bound and connected to.
//!
//! It has no rules of paths: the container's mounts say what can be reached, and Landlock would walk
//! every path once more to say the same. See decision 0028. A leaf: landlock(7) is in neither rustix
//! nor nix.
#![allow(unsafe_code)]

use std::{
    io::{Error, Result},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use super::ports::{AllowedPorts, TcpPorts};
use crate::seccomp::Question;

/// How much of it the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LandlockLevel {
    /// Nothing that is used here: an older kernel, one without Landlock, or a profile refuses it.
    Absent,
    /// Which TCP ports are bound and connected to (ABI 4, Linux 6.7).
    Network,
    /// Nor is a signal sent or an abstract socket reached outside (ABI 6, Linux 6.12).
    Scope,
}

/// `struct landlock_ruleset_attr` up to ABI 6.
#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// `LANDLOCK_CREATE_RULESET_VERSION`.
const VERSION: u32 = 1;
/// `struct landlock_net_port_attr`.
#[repr(C)]
struct NetPort {
    allowed_access: u64,
    port: u64,
}

/// `LANDLOCK_RULE_NET_PORT`.
const NET_PORT: u32 = 2;
/// `LANDLOCK_ACCESS_NET_BIND_TCP`.
const BIND: u64 = 1;
/// `LANDLOCK_ACCESS_NET_CONNECT_TCP`.
const CONNECT: u64 = 2;
/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET` and `LANDLOCK_SCOPE_SIGNAL`.
const OUTSIDE: u64 = 1 | 2;

impl LandlockLevel {
    /// Asks the kernel.
    pub(super) fn of_kernel() -> Self {
        // SAFETY: with this flag the call takes no structure and returns a number.
        let abi = unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                std::ptr::null::<Ruleset>(),
                0usize,
                VERSION,
            )
        };
        match abi {
            6.. => Self::Scope,
            4..6 => Self::Network,
            _ => Self::Absent,
        }
    }
}

/// The calls that [`restrict`] makes.
pub(super) fn questions() -> [Question; 3] {
    [
        Question::of(
            "landlock_create_ruleset",
            libc::SYS_landlock_create_ruleset,
            [0; 6],
        ),
        Question::of("landlock_add_rule", libc::SYS_landlock_add_rule, [0; 6]),
        Question::of(
            "landlock_restrict_self",
            libc::SYS_landlock_restrict_self,
            [0; 6],
        ),
    ]
}

/// Enters a domain that forbids all of `level` but `ports`. The process must have given up new privileges.
pub(super) fn restrict(level: LandlockLevel, ports: &TcpPorts) -> Result<()> {
    if level == LandlockLevel::Absent {
        return Ok(());
    }
    let directions = [(BIND, &ports.bind), (CONNECT, &ports.connect)];
    let handled_access_net = directions.iter().map(|(access, ports)| match ports {
        AllowedPorts::Only(_) => *access,
        AllowedPorts::Any => 0,
    });
    let handled_access_net = handled_access_net.sum();
    if level < LandlockLevel::Scope && handled_access_net == 0 {
        // Such a kernel takes no ruleset that handles nothing, and traces are forbidden by the filter.
        return Ok(());
    }
    let ruleset = Ruleset {
        handled_access_fs: 0,
        handled_access_net,
        scoped: if level == LandlockLevel::Scope {
            OUTSIDE
        } else {
            0
        },
    };
    // An older kernel refuses no structure whose end is zero.
    // SAFETY: `ruleset` is valid for reads of its size, and the kernel keeps no pointer to it.
    let made = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const ruleset,
            size_of::<Ruleset>(),
            0u32,
        )
    };
    if made < 0 {
        return Err(Error::last_os_error());
    }
    let fd = RawFd::try_from(made).map_err(Error::other)?;
    // SAFETY: the result is a new descriptor, which nothing else owns.
    let ruleset = unsafe { OwnedFd::from_raw_fd(fd) };
    for (access, ports) in directions {
        if let AllowedPorts::Only(ports) = ports {
            for port in ports {
                allow(&ruleset, access, *port)?;
            }
        }
    }
    // SAFETY: takes numbers alone and touches no memory.
    let entered =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0u32) };
    if entered == 0 {
        Ok(())
    } else {
        Err(Error::last_os_error())
    }
}

fn allow(ruleset: &OwnedFd, access: u64, port: u16) -> Result<()> {
    let rule = NetPort {
        allowed_access: access,
        port: port.into(),
    };
    // SAFETY: `rule` is valid for reads for this type of rule, and the kernel keeps no pointer to it.
    let added = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            NET_PORT,
            &raw const rule,
            0u32,
        )
    };
    if added == 0 {
        Ok(())
    } else {
        Err(Error::last_os_error())
    }
}
