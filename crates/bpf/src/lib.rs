//! The steps of a system call filter's program, as seccomp(2) and `linux/bpf_common.h` number them.
//!
//! Used by everything that makes or reads such a program: the runner and the compiler, which share no
//! other code. Pure: the callers decide what a program allows, and load it.
#![forbid(unsafe_code)]

use libc::sock_filter;

/// Offset of the call's number in `struct seccomp_data`.
pub const NUMBER: u32 = 0;
/// Offset of the numbering that it belongs to.
pub const ARCHITECTURE: u32 = 4;
/// Offset of the first argument.
const ARGUMENTS: u32 = 16;

/// x86-64 numbers its system calls in a second way, called x32, with this bit.
pub const X32: u32 = 0x4000_0000;

/// `AUDIT_ARCH_X86_64`.
#[cfg(target_arch = "x86_64")]
pub const THIS_ARCHITECTURE: u32 = 0xC000_003E;
/// `AUDIT_ARCH_AARCH64`.
#[cfg(target_arch = "aarch64")]
pub const THIS_ARCHITECTURE: u32 = 0xC000_00B7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("a system call filter needs this architecture's AUDIT_ARCH number");

/// Loads the word at an offset.
pub const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
/// Keeps these bits of the loaded word.
pub const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
/// Leaves out so many steps.
pub const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
/// Jumps by whether the word is this one.
pub const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
/// Jumps by whether it is larger.
pub const ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
/// Jumps by whether it is this one or larger.
pub const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
/// Jumps by whether it has any of these bits.
pub const BITS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
/// Ends the program with this answer.
pub const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// The answer that lets the kernel see the call.
pub const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

/// A step. `jt` and `jf` are how many steps a jump leaves out, if it is taken and if it is not.
#[must_use]
pub const fn step(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Where the lower 32 bits of an argument are. The kernel looks at no more of an `int`.
#[must_use]
pub fn low_half(argument: u8) -> u32 {
    // The low half comes first on either architecture.
    ARGUMENTS + 8 * u32::from(argument)
}

/// Where the upper 32 bits of an argument are: those of a pointer count.
#[must_use]
pub fn high_half(argument: u8) -> u32 {
    low_half(argument) + 4
}
