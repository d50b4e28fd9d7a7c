//! The confined compiler's system calls: what it takes to read, compute on some threads and write.
//! Everything else answers EPERM, so that an innocent probe of a library stays innocent, while no
//! file, socket, process or namespace can be had.
#![allow(unsafe_code)]

use std::io;

/// Read the module, write the code, allocate, run threads, end.
const ALLOWED: &[libc::c_long] = &[
    // The three descriptors.
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_dup3,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    // Threads: their start is filtered below.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_membarrier,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_set_tid_address,
    libc::SYS_prctl,
    // Signals: stack overflow handlers, abort.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    // Time and chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    // glibc asks for the stack's limit when it makes a thread.
    libc::SYS_prlimit64,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7; // AUDIT_ARCH_AARCH64
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the compiler's system call filter needs this architecture's AUDIT_ARCH number");

// Offsets in `struct seccomp_data`; the low half of an argument comes first on both architectures.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const BITS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
/// glibc then falls back from clone3, whose flags a filter cannot see, to clone.
const ABSENT: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// x86-64 has a second numbering of the same calls (x32) from here on.
const X32: u32 = 0x4000_0000;

const fn step(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn program() -> Vec<libc::sock_filter> {
    let mut program = vec![
        step(LOAD, ARCH, 0, 0),
        step(EQUAL, ARCHITECTURE, 1, 0),
        step(RETURN, KILL, 0, 0),
        step(LOAD, NUMBER, 0, 0),
        step(AT_LEAST, X32, 0, 1),
        step(RETURN, KILL, 0, 0),
        step(EQUAL, libc::SYS_clone3 as u32, 0, 1),
        step(RETURN, ABSENT, 0, 0),
        // A thread of this process, not a process.
        step(EQUAL, libc::SYS_clone as u32, 0, 4),
        step(LOAD, FIRST_ARGUMENT, 0, 0),
        step(BITS, libc::CLONE_THREAD as u32, 0, 1),
        step(RETURN, ALLOW, 0, 0),
        step(RETURN, DENY, 0, 0),
    ];
    for number in ALLOWED {
        program.push(step(EQUAL, *number as u32, 0, 1));
        program.push(step(RETURN, ALLOW, 0, 0));
    }
    program.push(step(RETURN, DENY, 0, 0));
    program
}

/// Puts the filter on this process and all that it starts; there is no way back. On a kernel built
/// without seccomp the other fences stand alone.
pub(super) fn install() -> io::Result<()> {
    // SAFETY: prctl with integer arguments; it answers a mode or an error.
    if unsafe { libc::prctl(libc::PR_GET_SECCOMP) } < 0 {
        return Ok(());
    }
    let mut program = program();
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `filter` points to `program`, which lives until the call returns; the kernel copies
    // it. No other thread exists yet that would be left out.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER as libc::c_ulong,
            &raw const filter,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
