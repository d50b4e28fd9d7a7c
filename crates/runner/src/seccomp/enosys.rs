//! The beginning of a filter that answers ENOSYS to system calls newer than its profile.
//!
//! A profile lists what its authors knew. C libraries try new system calls first and fall back to old
//! ones on ENOSYS, but not on the EPERM that a profile answers by default: without this a program that
//! is newer than the profile breaks. runc does the same.
#![forbid(unsafe_code)]

use libc::sock_filter;
use oci_spec::runtime::Arch;

use super::steps::{ABOVE, ARCHITECTURE, BITS, EQUAL, LOAD, NUMBER, RETURN, X32, step};

#[cfg(target_arch = "x86_64")]
pub(super) const NATIVE: Arch = Arch::ScmpArchX86_64;
#[cfg(target_arch = "aarch64")]
pub(super) const NATIVE: Arch = Arch::ScmpArchAarch64;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!(
    "name this architecture, and see whether it numbers system calls in a way of its own"
);

const ABSENT: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// The newest system call of an architecture that a profile names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Newest {
    pub(super) architecture: Arch,
    pub(super) newest: u32,
}

/// Answers ENOSYS to what is newer; any other call goes on to what follows.
pub(super) fn program(newest: &[Newest]) -> Vec<sock_filter> {
    newest.iter().flat_map(section).collect()
}

fn section(newest: &Newest) -> Vec<sock_filter> {
    // Calls of the other numbering go on behind this section.
    let number = match newest.architecture {
        Arch::ScmpArchX32 => vec![step(BITS, X32, 0, 2)],
        Arch::ScmpArchX86_64 => vec![step(BITS, X32, 2, 0)],
        _ => Vec::new(),
    };
    let rest = u8::try_from(number.len()).unwrap_or(0) + 3;
    let mut section = vec![
        step(LOAD, ARCHITECTURE, 0, 0),
        step(EQUAL, token(newest.architecture), 0, rest),
        step(LOAD, NUMBER, 0, 0),
    ];
    section.extend(number);
    section.extend([step(ABOVE, newest.newest, 0, 1), step(RETURN, ABSENT, 0, 0)]);
    section
}

/// The kernel's number of an architecture. The parser's are the library's, which differ for x32.
fn token(architecture: Arch) -> u32 {
    match architecture {
        Arch::ScmpArchX32 => Arch::ScmpArchX86_64 as u32,
        other => other as u32,
    }
}
